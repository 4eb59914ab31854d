"""What was uploaded and what became of it: a folder of its own for each, with a random name, that outlives the server.

::

    FOLDER/token                 who holds it may use the page
    FOLDER/jobs/ID/job.json      what was asked for, and how it stands
    FOLDER/jobs/ID/input/NAME    the file
    FOLDER/jobs/ID/result/NAME/  the result, its page and export.glb
    FOLDER/jobs/ID/result.zip    the same to take home
"""

import contextlib
import os
import re
import secrets
import shutil
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field, fields, replace
from pathlib import Path
from typing import Any, Literal

from lvdreg.base.disk import recover, write_file
from lvdreg.base.errors import UsageError
from lvdreg.base.files import leads_outside, read_json
from lvdreg.base.names import folder_name
from lvdreg.base.text import one_line
from lvdreg.result.files import PAGE, REPORT, RESULT, THUMB, write_json

Kind = Literal["scan", "hand", "photo"]
State = Literal["waiting", "running", "done", "failed"]
UNFINISHED = ("waiting", "running")
JOB, INPUT, RESULTS, ARCHIVE, MODEL_FILE = "job.json", "input", "result", "result.zip", "export.glb"
ID = re.compile("[0-9a-f]{32}")
CHOICES: dict[str, tuple[str, ...]] = {
    "unit": ("auto", "mm", "cm", "dm", "m", "inch", "none"),
    "up": ("auto", "+x", "-x", "+y", "-y", "+z", "-z"),
    "side": ("auto", "left", "right"),
}
"""What may be corrected, and to what; the first is what is asked for at first."""
OPTIONS: dict[Kind, tuple[str, ...]] = {"scan": ("unit", "up"), "hand": ("unit", "side"), "photo": ()}


@dataclass(frozen=True)
class Job:
    """An uploaded file and what became of it.

    Attributes:
        id: Random; also the name of its folder.
        name: Of the file, as it was called.
        kind: What it shows.
        options: For registering: the model, and what was corrected.
        created: Seconds since 1970.
        state: How it stands.
        stage: What is being done.
        verdict: Of the result.
        reason: Why; of a failure also what to do.
        seconds: It took.
    """

    id: str
    name: str
    kind: Kind
    options: dict[str, str]
    created: float
    state: State = "waiting"
    stage: str = ""
    verdict: str = ""
    reason: str = ""
    seconds: float = 0.0


def checked_options(kind: str, given: dict[str, str], models: dict[Kind, list[str]]) -> tuple[Kind, dict[str, str]]:
    """Return the kind of a job and its options as they are meant.

    Args:
        kind: That was asked for.
        given: Options by name; others than those of the kind are refused.
        models: Of every kind; the first is taken where none is named.

    Raises:
        UsageError: there is no such kind, option or value.
    """
    known = next((each for each in OPTIONS if each == kind), None)
    if known is None:
        raise UsageError(f"kind: expected {', '.join(OPTIONS)}")
    for name, value in given.items():
        if name not in ("model", *OPTIONS[known]) or (name in CHOICES and value not in CHOICES[name]):
            raise UsageError(f"{name[:20]}: there is no such option of a {known}, or it has no such value")
    own = models[known]
    model = given.get("model") or own[0]
    if model not in own:
        raise UsageError(f"model: expected one of {', '.join(own)}")
    return known, {"model": model} | {name: given.get(name, CHOICES[name][0]) for name in OPTIONS[known]}


def checked_name(name: str, suffixes: dict[Kind, frozenset[str]], kind: Kind) -> str:
    """Return the name under which an uploaded file is kept.

    Raises:
        UsageError: it is no plain name, or none of a file that the kind is read from.
    """
    if not name or len(name) > 300 or leads_outside(name) or Path(name.replace("\\", "/")).name != name:
        raise UsageError("name: expected the plain name of a file, without folders")
    suffix = Path(name).suffix.lower()
    if suffix not in suffixes[kind]:
        raise UsageError(f"name: expected a {kind} ({', '.join(sorted(suffixes[kind]))}), got {suffix or 'no ending'}")
    return folder_name(Path(name).stem) + suffix


@dataclass
class Store:
    """All jobs of a folder; what is in memory is on the disk, too.

    Attributes:
        root: The folder.
        jobs: By their names, the oldest first.
    """

    root: Path
    jobs: dict[str, Job] = field(default_factory=dict)

    @classmethod
    def opened(cls, root: Path) -> "Store":
        """Open a folder, made if it is missing: what was finished is there, what was not waits again."""
        (root / "jobs").mkdir(parents=True, exist_ok=True)
        root.chmod(0o700)
        store = cls(root)
        found = [job for path in (root / "jobs").iterdir() if (job := _read(path)) is not None]
        for job in sorted(found, key=lambda job: job.created):
            store.jobs[job.id] = job
            if job.state in UNFINISHED:
                recover(store.folder(job.id) / RESULTS, RESULT, alone=True)
                store.change(job.id, state="waiting", stage="")
        return store

    @property
    def token(self) -> str:
        """What whoever may use the page knows; the same until the folder goes."""
        path = self.root / "token"
        if not path.exists():
            descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
            with open(descriptor, "w", encoding="ascii") as file:
                file.write(secrets.token_urlsafe(32))
        return path.read_text(encoding="ascii")

    def folder(self, job_id: str) -> Path:
        """Return the folder of a job."""
        assert ID.fullmatch(job_id)
        return self.root / "jobs" / job_id

    def input(self, job: Job) -> Path:
        """Return the file of a job.

        Raises:
            OSError: somebody has taken it away.
        """
        found = next((self.folder(job.id) / INPUT).iterdir(), None)
        if found is None:
            raise FileNotFoundError(f"{job.name}: its file is gone")
        return found

    def result(self, job: Job) -> Path | None:
        """Return the result folder of a job that has one."""
        folder = self.folder(job.id) / RESULTS / folder_name(Path(job.name).stem)
        return folder if (folder / REPORT).is_file() else None

    def file(self, job: Job, what: str) -> Path | None:
        """Return one of the files that may be fetched: page, thumbnail, zip or glb; None: it is not there."""
        result = self.result(job)
        places = {"page": PAGE, "thumbnail": THUMB, "glb": MODEL_FILE}
        path = self.folder(job.id) / ARCHIVE if what == "zip" else result and result / places[what]
        return path if path and path.is_file() and not path.is_symlink() else None

    def upload(self, job_id: str, name: str) -> Path:
        """Return where a new job's file is to be written; the job is none yet, and goes if it never becomes one."""
        place = self.folder(job_id) / INPUT
        place.mkdir(parents=True)
        return place / name

    def add(self, job: Job) -> Job:
        """Take a job whose file is there."""
        self.jobs[job.id] = job
        self._write(job)
        return job

    def copy_input(self, job: Job, new: Job) -> None:
        """Give a new job the file of another one."""
        source = self.input(job)
        target = self.upload(new.id, source.name)
        try:
            os.link(source, target)
        except OSError:
            shutil.copyfile(source, target)

    def change(self, job_id: str, **changes: Any) -> None:
        """Change how a job stands; on the disk, too, but for the stage, or where that is full: then the job is done
        again when the server is started again."""
        if job_id not in self.jobs:
            return
        self.jobs[job_id] = replace(self.jobs[job_id], **changes)
        if set(changes) != {"stage"}:
            with contextlib.suppress(OSError):
                self._write(self.jobs[job_id])

    def remove(self, job_id: str) -> None:
        """Forget a job and all its files."""
        self.jobs.pop(job_id, None)
        shutil.rmtree(self.folder(job_id), ignore_errors=True)

    def waiting(self) -> Iterator[Job]:
        """Yield jobs that wait, the oldest first."""
        yield from (job for job in self.jobs.values() if job.state == "waiting")

    def _write(self, job: Job) -> None:
        write_file(self.folder(job.id) / JOB, lambda path: write_json(path, asdict(job)))


def new_job(name: str, kind: Kind, options: dict[str, str]) -> Job:
    """Return a job under a random name that nobody can guess."""
    return Job(secrets.token_hex(16), one_line(name), kind, options, time.time())


def _read(folder: Path) -> Job | None:
    """Read a job; what is none, as an upload that was cut off, goes."""
    try:
        found = read_json(folder / JOB)
        job = Job(**{each.name: found[each.name] for each in fields(Job)})
        is_whole = job.id == folder.name and ID.fullmatch(job.id) and job.kind in OPTIONS and isinstance(job.name, str)
    except (OSError, ValueError, KeyError, TypeError):
        is_whole = False
    if is_whole:
        return job
    if ID.fullmatch(folder.name) and not folder.is_symlink():
        shutil.rmtree(folder, ignore_errors=True)
    return None
