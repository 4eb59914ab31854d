"""One job after the other, each in the process that registers; the process is started again when it dies."""

import asyncio
import contextlib
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from lvdreg.base.names import folder_name
from lvdreg.serve.jobs import ARCHIVE, RESULTS, Job, Store

MAX_SECONDS = 1800.0
"""A job that takes longer is given up."""
COMMAND = (sys.executable, "-m", "lvdreg.serve.work")
DIED = "its process was ended, perhaps for want of memory: try a smaller file"
MAX_LINE = 1 << 20


class Turn:
    """Does the jobs of a store in turn."""

    def __init__(self, store: Store, command: Sequence[str] = COMMAND, max_seconds: float = MAX_SECONDS) -> None:
        """Prepare; ``command`` starts the process that works."""
        self.store, self.command, self.max_seconds = store, command, max_seconds
        self.news = asyncio.Event()
        self.current: str | None = None
        self._process: asyncio.subprocess.Process | None = None

    async def run(self) -> None:
        """Work until cancelled."""
        try:
            while True:
                job = next(self.store.waiting(), None)
                if job is None:
                    self.news.clear()
                    await self.news.wait()
                else:
                    await self._do(job)
        finally:
            await self._end()

    async def cancel(self, job_id: str) -> None:
        """Forget a job, also one that is being done."""
        self.store.remove(job_id)
        if self.current == job_id and self._process is not None:
            with contextlib.suppress(ProcessLookupError):
                self._process.kill()

    async def _do(self, job: Job) -> None:
        self.current = job.id
        self.store.change(job.id, state="running", stage="start")
        try:
            found = await asyncio.wait_for(self._answer(job), self.max_seconds)
        except TimeoutError:
            await self._end()
            found = {"reason": f"given up after {self.max_seconds / 60:.0f} minutes: try a smaller file"}
        except (OSError, ValueError):
            await self._end()
            found = {"reason": DIED}
        finally:
            self.current = None
        about = {key: found[key] for key in ("verdict", "reason", "seconds") if key in found}
        self.store.change(job.id, state="done" if "verdict" in found else "failed", stage="", **about)

    async def _answer(self, job: Job) -> dict[str, Any]:
        """Hand a job to the process, listen to its stages, and return what became of it.

        Raises:
            OSError: the process has died.
        """
        folder = self.store.folder(job.id)
        task = {
            "kind": job.kind,
            "file": str(self.store.input(job)),
            "result": str(folder / RESULTS / folder_name(Path(job.name).stem)),
            "archive": str(folder / ARCHIVE),
            "options": job.options,
        }
        process = await self._started()
        assert process.stdin is not None and process.stdout is not None
        process.stdin.write(json.dumps(task).encode() + b"\n")
        await process.stdin.drain()
        while line := await process.stdout.readline():
            said = json.loads(line)
            if "done" in said:
                return dict(said["done"])
            self.store.change(job.id, stage=str(said.get("stage", "")))
        raise OSError(DIED)

    async def _started(self) -> asyncio.subprocess.Process:
        if self._process is None or self._process.returncode is not None:
            pipe = asyncio.subprocess.PIPE
            # A session of its own: Ctrl-C is for the server, which ends it.
            self._process = await asyncio.create_subprocess_exec(
                *self.command, stdin=pipe, stdout=pipe, limit=MAX_LINE, start_new_session=True
            )
        return self._process

    async def _end(self) -> None:
        if self._process is not None:
            with contextlib.suppress(ProcessLookupError):
                self._process.kill()
            await self._process.wait()
            self._process = None
