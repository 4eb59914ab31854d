"""``lvdreg serve``."""

from pathlib import Path
from typing import Annotated

import typer

from lvdreg.base.errors import UsageError
from lvdreg.cli.batch import check_out
from lvdreg.cli.status import plain_errors


def serve(
    out: Annotated[Path, typer.Option(help="Folder for uploads and results.")] = Path("served"),
    port: Annotated[int, typer.Option(min=1024, max=65535, help="Where the page is on this computer.")] = 8765,
    max_mb: Annotated[int, typer.Option(min=1, max=8192, help="Largest file that is taken, megabytes.")] = 500,
    no_browser: Annotated[bool, typer.Option("--no-browser", help="Only print the address.")] = False,
) -> None:
    """Open a page on this computer: drop scans, hands or photos, see the results in 3D, correct, download.

    Nobody but this computer is served, and only who has the address with its token. Ctrl-C ends it; nothing that is
    finished is lost, and what waits goes on the next time.
    """
    with plain_errors("what was finished is kept, the rest goes on the next time"):
        check_out(out)
        try:
            from lvdreg.serve.app import Limits
            from lvdreg.serve.run import run_server
        except ImportError as error:
            raise UsageError(f"serve: needs {error.name}: pip install 'lvdreg[serve]'") from None
        from lvdreg.cli.doctor import is_hand, model_names

        # What follows the surface comes first: that is what is mostly wanted of scans.
        names = sorted(model_names(), key=lambda name: not name.endswith("+d"))
        bodies, hands = ([name for name in names if is_hand(name) is wanted] for wanted in (False, True))
        photos = [name for name in bodies if not name.endswith("+d")]
        run_server(
            out,
            port,
            Limits(max_bytes=max_mb << 20),
            {"scan": bodies, "hand": hands, "photo": photos},
            opened=not no_browser,
            say=typer.echo,
        )
