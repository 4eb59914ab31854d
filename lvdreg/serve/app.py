"""What the server answers, and what it refuses: other hosts, other origins, whoever has not got the token, too much."""

import asyncio
import contextlib
import hmac
import shutil
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from starlette.applications import Starlette
from starlette.datastructures import Headers
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import FileResponse, JSONResponse, PlainTextResponse, RedirectResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp, Receive, Scope, Send

from lvdreg.base.errors import UsageError
from lvdreg.base.names import folder_name
from lvdreg.serve.front import front_page
from lvdreg.serve.jobs import ID, UNFINISHED, Job, Kind, Store, checked_name, checked_options, new_job
from lvdreg.serve.turn import Turn

COOKIE, TOKEN_HEADER = "lvdreg", "x-lvdreg-token"
MAX_PATH, MAX_QUERY, MAX_HEAD = 200, 2000, 16 << 10
MAX_UPLOADS = 4
"""At the same time."""
PAUSE_S = 60.0
"""An upload that sends nothing for so long is cut off."""
SPARE = 1 << 30
"""Bytes of the disk that uploads leave free."""
KINDS = {"page": "text/html", "thumbnail": "image/webp", "zip": "application/zip", "glb": "model/gltf-binary"}
HEADERS = {
    "content-security-policy": "frame-ancestors 'self'",
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
    "cross-origin-resource-policy": "same-origin",
    "cross-origin-opener-policy": "same-origin",
    "cache-control": "no-store",
}


@dataclass(frozen=True)
class Limits:
    """How much the server takes.

    Attributes:
        max_bytes: Of a file.
        max_waiting: Jobs that wait.
        max_kept: Jobs that are kept, finished ones too.
    """

    max_bytes: int = 500 << 20
    max_waiting: int = 50
    max_kept: int = 500


@dataclass
class Server:
    """What requests are answered from.

    Attributes:
        store: All jobs.
        turn: Who does them.
        models: That may be registered, by kind.
        suffixes: Endings of files, in lower case, that a kind is read from.
        limits: How much is taken.
        uploads: Files that are being sent.
    """

    store: Store
    turn: Turn
    models: dict[Kind, list[str]]
    suffixes: dict[Kind, frozenset[str]]
    limits: Limits
    uploads: int = 0

    async def front(self, request: Request) -> Response:
        """The page; to whoever brings the token in the address, a cookie first."""
        if request.query_params.get("token"):
            answer = RedirectResponse("/", 303)
            answer.set_cookie(COOKIE, self.store.token, httponly=True, samesite="strict", max_age=30 * 86400)
            return answer
        about = {"token": self.store.token, "models": self.models, "limit": self.limits.max_bytes}
        endings = {kind: sorted(found) for kind, found in self.suffixes.items()}
        return Response(front_page(about | {"suffixes": endings}), media_type="text/html")

    async def jobs(self, _: Request) -> Response:
        """How all jobs stand, the latest first."""
        return JSONResponse([self._told(job) for job in reversed(self.store.jobs.values())])

    async def create(self, request: Request) -> Response:
        """Take a file, and let it wait for its turn."""
        given = _query(request)
        kind, options = checked_options(given.pop("kind", ""), _without(given, "name"), self.models)
        name = given.get("name", "")
        kept = checked_name(name, self.suffixes, kind)
        size = _length(request, self.limits.max_bytes)
        self._check_room(size)
        job = new_job(name, kind, options)
        self.uploads += 1
        try:
            await self._receive(request, job.id, kept, size)
            self.store.add(job)
        except BaseException:
            self.store.remove(job.id)
            raise
        finally:
            self.uploads -= 1
        self.turn.news.set()
        return JSONResponse(self._told(job), 201)

    def _check_room(self, size: int) -> None:
        if self.uploads >= MAX_UPLOADS:
            raise HTTPException(429, "too many files at the same time: wait for the others")
        self._check_count()
        if shutil.disk_usage(self.store.root).free < 4 * size + SPARE:
            raise HTTPException(507, "the disk is full: remove some results first")

    def _check_count(self) -> None:
        if sum(1 for _ in self.store.waiting()) >= self.limits.max_waiting:
            raise HTTPException(429, f"{self.limits.max_waiting} files wait already: try again later")
        if len(self.store.jobs) + self.uploads >= self.limits.max_kept:
            raise HTTPException(429, f"{self.limits.max_kept} results are kept already: remove some first")

    async def _receive(self, request: Request, job_id: str, name: str, size: int) -> None:
        """Write what is sent into the folder of a job.

        Raises:
            HTTPException: it is not as long as it was said to be, or nothing comes any more.
        """
        got = 0
        chunks = request.stream().__aiter__()
        with self.store.upload(job_id, name).open("xb") as file:
            while True:
                try:
                    chunk = await asyncio.wait_for(anext(chunks), PAUSE_S)
                except (StopAsyncIteration, ClientDisconnect):
                    break
                except TimeoutError:
                    raise HTTPException(408, "the file stopped coming: send it again") from None
                got += len(chunk)
                if got > size:
                    raise HTTPException(413, "the file is longer than it was said to be")
                await asyncio.to_thread(file.write, chunk)
        if got != size or not size:
            raise HTTPException(400, "the file is empty, or was cut off")

    async def again(self, request: Request) -> Response:
        """Register a file once more, with other options."""
        _length(request, 0)
        job = self._job(request)
        _, options = checked_options(job.kind, {**job.options, **_query(request)}, self.models)
        self._check_count()
        new = new_job(job.name, job.kind, options)
        await asyncio.to_thread(self.store.copy_input, job, new)
        self.store.add(new)
        self.turn.news.set()
        return JSONResponse(self._told(new), 201)

    async def remove(self, request: Request) -> Response:
        """Forget a job and its files."""
        _length(request, 0)
        await self.turn.cancel(self._job(request).id)
        return Response(status_code=204)

    async def fetch(self, request: Request) -> Response:
        """Give the page, the thumbnail, the archive or the model of a result."""
        job, what = self._job(request), request.path_params["what"]
        path = self.store.file(job, what) if what in KINDS else None
        if path is None:
            raise HTTPException(404, "there is nothing of that name")
        name = f"{folder_name(Path(job.name).stem)}.{what}" if what in ("zip", "glb") else None
        # What stands in a page came from a file: it gets an origin of its own, wherever it is opened.
        alone = {"content-security-policy": "sandbox allow-scripts"} if what == "page" else None
        return FileResponse(path, media_type=KINDS[what], filename=name, headers=alone)

    def _job(self, request: Request) -> Job:
        found = request.path_params["id"]
        job = self.store.jobs.get(found) if ID.fullmatch(found) else None
        if job is None:
            raise HTTPException(404, "there is nothing of that name")
        return job

    def _told(self, job: Job) -> dict[str, Any]:
        ready = job.state not in UNFINISHED
        return asdict(job) | {"files": [what for what in KINDS if ready and self.store.file(job, what)]}


def _query(request: Request) -> dict[str, str]:
    items = request.query_params.multi_items()
    if len({name for name, _ in items}) != len(items):
        raise UsageError("each option once")
    return dict(items)


def _without(given: Mapping[str, str], name: str) -> dict[str, str]:
    return {key: value for key, value in given.items() if key != name}


def _length(request: Request, most: int) -> int:
    """Return how many bytes are sent.

    Raises:
        HTTPException: it is not said, or they are too many.
    """
    said = request.headers.get("content-length", "0" if "transfer-encoding" not in request.headers else "")
    if not said.isdecimal():
        raise HTTPException(411, "expected a request that says how long it is")
    if int(said) > most:
        raise HTTPException(413, f"too large: expected at most {most >> 20} MB")
    if most and request.headers.get("content-type") != "application/octet-stream":
        raise HTTPException(415, "expected application/octet-stream")
    return int(said)


class Guard:
    """Stands before everything: who asks, from where, for what."""

    def __init__(self, app: ASGIApp, hosts: frozenset[str], token: str) -> None:
        """Guard an application whose own names are ``hosts``."""
        self.app, self.hosts, self.token = app, hosts, token

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Let a request pass, or say why not."""
        if scope["type"] == "lifespan":
            await self.app(scope, receive, send)
            return

        async def guarded(message: Any) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = [*message["headers"], *((k.encode(), v.encode()) for k, v in HEADERS.items())]
            await send(message)

        refusal = (403, "no websockets") if scope["type"] != "http" else self.refusal(scope)
        answer = self.app if refusal is None else PlainTextResponse(f"{refusal[1]}\n", refusal[0])
        await answer(scope, receive, guarded)

    def refusal(self, scope: Scope) -> tuple[int, str] | None:
        """Return status and reason where a request is refused."""
        headers = Headers(scope=scope)
        hosts, origins = headers.getlist("host"), headers.getlist("origin")
        if len(hosts) != 1 or hosts[0].lower() not in self.hosts:
            # A name that leads here but is not ours: somebody else's page, by DNS rebinding.
            return 421, "this is no name of this server"
        if sum(len(name) + len(value) for name, value in scope["headers"]) > MAX_HEAD:
            return 431, "the headers are too long"
        if len(scope["raw_path"]) > MAX_PATH or len(scope["query_string"]) > MAX_QUERY:
            return 414, "the address is too long"
        if origins and origins != [f"http://{hosts[0]}"]:
            return 403, "from another page"
        if headers.get("sec-fetch-site", "none") not in ("none", "same-origin") and not self._is_opened(scope, headers):
            return 403, "from another page"
        request = Request(scope)
        told = request.query_params.get("token", "") if scope["path"] == "/" else ""
        if not self._knows(told) and not self._knows(request.cookies.get(COOKIE, "")):
            return 401, "open the address that lvdreg serve has printed, with its token"
        if scope["method"] not in ("GET", "HEAD"):
            if not origins:
                return 403, "expected an origin"
            if not self._knows(headers.get(TOKEN_HEADER, "")):
                return 403, "expected the token"
        return None

    def _is_opened(self, scope: Scope, headers: Headers) -> bool:
        """Whether somebody has followed a link to the front page, which changes nothing."""
        return scope["path"] == "/" and scope["method"] == "GET" and headers.get("sec-fetch-mode") == "navigate"

    def _knows(self, token: str) -> bool:
        return hmac.compare_digest(token.encode("utf-8", "replace"), self.token.encode())


def application(server: Server, hosts: frozenset[str]) -> ASGIApp:
    """Return what uvicorn runs."""

    @contextlib.asynccontextmanager
    async def at_work(_: Starlette) -> AsyncIterator[None]:
        working = asyncio.create_task(server.turn.run())
        try:
            yield
        finally:
            working.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await working

    def said(status: Callable[[Any], int]) -> Callable[[Request, Exception], Awaitable[Response]]:
        async def say(_: Request, error: Exception) -> Response:
            words = error.detail if isinstance(error, HTTPException) else str(error)
            return PlainTextResponse(f"{words}\n", status(error))

        return say

    routes = [
        Route("/", server.front, methods=["GET"]),
        Route("/jobs", server.jobs, methods=["GET"]),
        Route("/jobs", server.create, methods=["POST"]),
        Route("/jobs/{id}/again", server.again, methods=["POST"]),
        Route("/jobs/{id}", server.remove, methods=["DELETE"]),
        Route("/jobs/{id}/{what}", server.fetch, methods=["GET"]),
    ]
    handlers: dict[Any, Any] = {HTTPException: said(lambda e: e.status_code), UsageError: said(lambda _: 400)}
    app = Starlette(routes=routes, exception_handlers=handlers, lifespan=at_work)
    return Guard(app, hosts, server.store.token)
