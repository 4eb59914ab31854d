"""Start the server, on this computer alone."""

import socket
import webbrowser
from collections.abc import Callable
from pathlib import Path

import uvicorn

from lvdreg.base.errors import UsageError
from lvdreg.base.lock import locked
from lvdreg.photo.model import SUFFIXES as PHOTO_SUFFIXES
from lvdreg.scan.read import SUFFIXES as SCAN_SUFFIXES
from lvdreg.serve.app import MAX_HEAD, Limits, Server, application
from lvdreg.serve.jobs import Kind, Store
from lvdreg.serve.turn import Turn

HOST = "127.0.0.1"
MAX_CONNECTIONS = 64


def run_server(
    root: Path, port: int, limits: Limits, models: dict[Kind, list[str]], *, opened: bool, say: Callable[[str], object]
) -> None:
    """Serve until interrupted.

    Args:
        root: Folder for uploads and results.
        port: Of this computer.
        limits: How much is taken.
        models: That may be registered, by kind; the first of each is taken where none is chosen.
        opened: Whether the browser is to show the page.
        say: Hears of the address.

    Raises:
        UsageError: the port is taken.
        OutputError: another server is at work in the folder.
    """
    root.mkdir(parents=True, exist_ok=True)
    with locked(root), socket.socket() as listening:
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listening.bind((HOST, port))
        except OSError:
            raise UsageError(f"--port: {port} is taken by another program; choose another number") from None
        listening.listen()
        app, address = server_at(Store.opened(root), port, limits, models)
        say(f"Open {address}\nCtrl-C ends it.")
        if opened:
            webbrowser.open(address)
        app.run(sockets=[listening])


def server_at(
    store: Store, port: int, limits: Limits, models: dict[Kind, list[str]], turn: Turn | None = None
) -> tuple[uvicorn.Server, str]:
    """Return a server, and the address, with its token, at which its page is."""
    scans = frozenset(SCAN_SUFFIXES)
    suffixes: dict[Kind, frozenset[str]] = {"scan": scans, "hand": scans, "photo": frozenset(PHOTO_SUFFIXES)}
    hosts = frozenset((f"{HOST}:{port}", f"localhost:{port}"))
    app = application(Server(store, turn or Turn(store), models, suffixes, limits), hosts)
    config = uvicorn.Config(
        app,
        http="h11",
        ws="none",
        lifespan="on",
        log_level="warning",
        access_log=False,
        proxy_headers=False,
        server_header=False,
        limit_concurrency=MAX_CONNECTIONS,
        h11_max_incomplete_event_size=MAX_HEAD,
        timeout_graceful_shutdown=2,
    )
    return uvicorn.Server(config), f"http://{HOST}:{port}/?token={store.token}"
