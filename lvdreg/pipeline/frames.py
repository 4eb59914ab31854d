"""What is known of the frames of a sequence before they are smoothed, and where it is kept: a run that was stopped goes
on, and one may follow parts of a long sequence one after the other."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float64

from lvdreg.base.arrays import expect, read_npz, write_npz
from lvdreg.base.disk import recover, write_file
from lvdreg.base.provenance import FileHashes, sha256_of
from lvdreg.base.shapes import Transform
from lvdreg.base.version import __version__
from lvdreg.fit.kinematics import State
from lvdreg.fit.track import Tracked
from lvdreg.result.files import plain

PERSON = "person.npz"
HOW = ("alone", "forwards", "backwards", "found again")


@dataclass(frozen=True)
class Subject:
    """What all frames have in common.

    Attributes:
        name: Of the first key frame.
        betas: (K,) the shape.
        starts: Key frames by number, and where the body was found in each, world frame of the sequence.
        T_world_scan: Of all frames.
        unit: Of the scans.
        body_scale: What lengths of the model are multiplied by to be true ones.
        files: SHA-256 of all files that had a part.
        sigma: Error to be expected of a key frame by itself, metres of the model: median over the body.
    """

    name: str
    betas: Float64[np.ndarray, " K"]
    starts: Mapping[int, State]
    T_world_scan: Transform
    unit: str
    body_scale: float
    files: FileHashes
    sigma: float


@dataclass(frozen=True)
class Frame:
    """A frame by itself.

    Attributes:
        tracked: The body, in the world of the sequence, and how well it is known.
        how: One of ``HOW``: registered alone, followed forwards or backwards, or found again by the network.
    """

    tracked: Tracked
    how: str


@dataclass(frozen=True)
class Kept:
    """A folder in which shape and frames are kept as they are found; frames that are no files are not.

    Attributes:
        folder: None: nothing is kept.
        sources: The frames.
        asked: What was asked for: what was kept for something else is found anew.
    """

    folder: Path | None
    sources: Sequence[Any]
    asked: Mapping[str, Any]
    _hashes: dict[int, str | None] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Make the folder, and remove what a killed run has left half written."""
        if self.folder is not None:
            self.folder.mkdir(parents=True, exist_ok=True)
            recover(self.folder)

    def subject(self, keys: Sequence[int]) -> Subject | None:
        """Return the shape that was found from key frames; None where none is kept."""
        arrays = self._read(PERSON, self._key(keys))
        if arrays is None:
            return None
        try:
            betas, joints = expect(arrays, "betas", "f", (None,)), expect(arrays, "pose", "f", (None, None, 3))
            places, numbers = expect(arrays, "transl", "f", (None, 3)), expect(arrays, "keys", "i", (len(joints),))
            starts = {int(i): State(pose, betas, place) for i, pose, place in zip(numbers, joints, places, strict=True)}
            about = json.loads(str(arrays["about"]))
            T = expect(arrays, "T_world_scan", "f", (4, 4))
            return Subject(betas=betas, starts=starts, T_world_scan=T, **about)
        except (ValueError, TypeError, KeyError):
            return None

    def keep_subject(self, subject: Subject, keys: Sequence[int]) -> None:
        """Keep the shape and what goes with it."""
        about = {name: getattr(subject, name) for name in ("name", "unit", "body_scale", "files", "sigma")}
        states = subject.starts.values()
        arrays = {
            "betas": subject.betas,
            "keys": np.array(list(subject.starts), np.int64),
            "pose": np.stack([state.pose for state in states]),
            "transl": np.stack([state.transl for state in states]),
            "T_world_scan": subject.T_world_scan,
            "about": json.dumps(plain(about)),
        }
        self._write(PERSON, self._key(keys), arrays)

    def frame(self, number: int, subject: Subject) -> Frame | None:
        """Return a frame; None where it is not kept."""
        arrays = self._read(_name(number), self._key([*subject.starts, number], subject))
        if arrays is None:
            return None
        try:
            pose = expect(arrays, "pose", "f", (None, 3))
            size = pose.size + 3
            state = State(pose, subject.betas, expect(arrays, "transl", "f", (3,)))
            lower = expect(arrays, "information", "f", (size * (size + 1) // 2,))
            freedom, residual_mm = expect(arrays, "numbers", "f", (2,)).tolist()
        except ValueError:
            return None
        information = np.zeros((size, size), np.float32)
        information[np.tril_indices(size)] = lower
        whole = information + np.tril(information, -1).T
        how = str(arrays.get("how"))
        return Frame(Tracked(state, whole, freedom, residual_mm), how) if how in HOW else None

    def keep_frame(self, number: int, subject: Subject, frame: Frame) -> None:
        """Keep a frame."""
        tracked = frame.tracked
        arrays = {
            "pose": tracked.state.pose,
            "transl": tracked.state.transl,
            "information": tracked.information[np.tril_indices(len(tracked.information))],
            "numbers": np.array([tracked.freedom, tracked.residual_mm]),
            "how": frame.how,
        }
        self._write(_name(number), self._key([*subject.starts, number], subject), arrays)

    def _key(self, numbers: Sequence[int], subject: Subject | None = None) -> str | None:
        """Return what some frames are known by: version, settings, shape and content; None if one is no file."""
        hashes = [self._hash(number) for number in numbers]
        if self.folder is None or None in hashes:
            return None
        betas = [] if subject is None else subject.betas.tolist()
        words = json.dumps(plain([__version__, dict(self.asked), list(numbers), hashes, betas]), sort_keys=True)
        return hashlib.sha256(words.encode("utf-8", "surrogateescape")).hexdigest()

    def _hash(self, number: int) -> str | None:
        if number not in self._hashes:
            try:
                source = self.sources[number]
                self._hashes[number] = sha256_of(Path(source)) if isinstance(source, str | Path) else None
            except (OSError, ValueError):
                # A key frame that cannot be read has no part in the shape; that it cannot is what it is known by.
                self._hashes[number] = "unreadable"
        return self._hashes[number]

    def _read(self, name: str, key: str | None) -> dict[str, Any] | None:
        if self.folder is None or key is None:
            return None
        try:
            arrays = read_npz(self.folder / name)
        except (OSError, ValueError):
            return None
        return arrays if str(arrays.get("key")) == key else None

    def _write(self, name: str, key: str | None, arrays: Mapping[str, Any]) -> None:
        if self.folder is not None and key is not None:
            write_file(self.folder / name, lambda path: _save(path, {**arrays, "key": key}))


def _save(path: Path, arrays: Mapping[str, Any]) -> None:
    # By a file: numpy would add .npz to the name.
    with path.open("wb") as file:
        write_npz(file, arrays)


def _name(number: int) -> str:
    return f"{number + 1:05d}.npz"
