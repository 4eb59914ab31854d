"""The process that registers: one job after the other, as the server names them; a crash of it costs one job.

It reads a line of JSON for each job from standard input, and writes lines of JSON to standard output: the stages, then
what became of it. It ends when the server does.
"""

import json
import os
import queue
import sys
import threading
import time
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from lvdreg.base.disk import write_file
from lvdreg.base.errors import LvdregError
from lvdreg.base.text import one_line

STAGES = ("start", "load", "read", "descend", "uncertainty", "fit", "refine", "displace", "assess", "write", "page")
"""In the order in which they come; photos have some others in their place."""


def work(task: dict[str, Any], say: Callable[[dict[str, Any]], None]) -> dict[str, Any]:
    """Register a file, write the result with its page, a rigged model and an archive of all.

    Args:
        task: ``kind``, ``file``, ``result`` (folder), ``archive`` (file) and ``options``, all text.
        say: Hears of the stages.

    Returns:
        ``verdict``, ``reason`` and ``seconds``; of a failure ``reason`` only.
    """
    begin = time.monotonic()
    try:
        result = _register(task["kind"])(task["file"], progress=lambda stage: say({"stage": stage}), **task["options"])
        folder = Path(task["result"])
        say({"stage": "write"})
        result.save(folder)
        say({"stage": "page"})
        _complete(folder, Path(task["archive"]))
        return {"verdict": result.verdict, "reason": result.reason, "seconds": time.monotonic() - begin}
    except LvdregError as error:
        return {"reason": one_line(str(error))}
    except MemoryError:
        return {"reason": "not enough memory: thin the scan, or close other programs"}
    except Exception as error:  # noqa: BLE001 - a fault of ours in one file must not end the others' turn
        return {"reason": one_line(f"unexpected {type(error).__name__} ({error}): a fault in lvdreg, please report it")}


def _register(kind: str) -> Callable[..., Any]:
    if kind == "photo":
        from lvdreg.pipeline.photo import register_image

        return register_image
    from lvdreg.pipeline.scan import register, register_hand

    return register_hand if kind == "hand" else register


def _complete(folder: Path, archive: Path) -> None:
    """Add what people take home; what cannot be made is left out."""
    from lvdreg.export.run import Wanted, export_result
    from lvdreg.report.run import build_report

    for make in (lambda: export_result(folder, Wanted(("glb",))), lambda: build_report(folder)):
        try:
            make()
        except (LvdregError, OSError) as error:
            sys.stderr.write(f"{folder.name}: {one_line(str(error))}\n")
    write_file(archive, lambda path: _pack(folder, path))


def _pack(folder: Path, path: Path) -> None:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for each in sorted(folder.iterdir()):
            if each.is_file() and not each.is_symlink():
                archive.write(each, f"{folder.name}/{each.name}")


def tasks() -> Iterator[dict[str, Any]]:
    """Yield what the server asks for; when the server is gone, this process is, whatever it is at."""
    asked: queue.Queue[str] = queue.Queue()

    def listen() -> None:
        for line in sys.stdin:
            asked.put(line)
        os._exit(0)

    threading.Thread(target=listen, daemon=True).start()
    while True:
        yield json.loads(asked.get())


def main() -> None:
    """Work until the server ends."""
    out = os.fdopen(os.dup(sys.stdout.fileno()), "w", encoding="utf-8")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())  # whatever a library prints is no answer

    def say(answer: dict[str, Any]) -> None:
        out.write(json.dumps(answer) + "\n")
        out.flush()

    for task in tasks():
        say({"done": work(task, say)})


if __name__ == "__main__":
    main()
