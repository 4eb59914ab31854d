"""The story for scans of one person who moves: a few frames are registered alone, which gives the shape; from them the
body is followed from frame to frame, forwards and, where it is lost, backwards; then all poses are smoothed together.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from scipy.spatial.transform import Rotation

from lvdreg.base.errors import LvdregError, RegistrationError, UsageError
from lvdreg.base.shapes import FloatArray, Transform
from lvdreg.base.text import one_line
from lvdreg.base.threads import one_torch_thread
from lvdreg.base.timing import Clock, Progress, one_blas_thread
from lvdreg.body.chosen import choose
from lvdreg.body.model import BodyModel
from lvdreg.fit.correspond import Target, target_of
from lvdreg.fit.kinematics import Kinematics, State, left_jacobian
from lvdreg.fit.known import Known
from lvdreg.fit.smooth import Measured, smooth_poses
from lvdreg.fit.track import track_body, tracking
from lvdreg.geometry.frames import scale_of
from lvdreg.pipeline.frames import Frame, Kept, Subject
from lvdreg.pipeline.scan import Call, FittedScan, correspond, fit_scan, person_call, predicted_errors
from lvdreg.pipeline.scans import agreed_shape, known_shape, of_one_person
from lvdreg.result.motion import Motion
from lvdreg.scan.clean import clean_scan
from lvdreg.scan.model import oriented_points, scan_of
from lvdreg.settings import Settings

if TYPE_CHECKING:
    from numpy.typing import ArrayLike

    from lvdreg.scan.model import Scan

KEYS = 5
"""So many frames, spread evenly, are registered by themselves."""
LOST = (1.5, 5.0)
"""A frame is lost whose scan lies further from the body than so many times what it does in key frames, and so many
millimetres."""
MOST_FRAMES = 10_000
SIGMA_VERTICES = 100
"""Sigma is that of so many vertices."""


def register_sequence(
    sources: "Sequence[str | Path | Scan | ArrayLike]",
    *,
    fps: float = 30.0,
    frames: tuple[int, int] | None = None,
    keep: str | Path | None = None,
    model: str = "anny",
    unit: str = "auto",
    up: str = "auto",
    device: str = "cpu",
    seed: int = 0,
    height: float | None = None,
    sex: str | None = None,
    age: float | None = None,
    camera: "str | Path | None" = None,
    settings: "Settings | Mapping[str, Any] | None" = None,
    progress: Progress | None = None,
) -> Motion:
    """Register a body model to scans of one person who moves: one shape, and poses that are smooth in time.

    Other arguments are those of ``register``.

    Args:
        sources: 2 to 10,000 scans in the order of time, all in one frame and unit. One that cannot be read, or in which
            nobody is found, is filled in from its neighbours.
        fps: Frames a second.
        frames: The first and the last that are wanted, counted from 1; all when None. The shape is that of the whole
            sequence; parts that were followed one after the other are joined by following the whole, with one ``keep``.
        keep: A folder in which what is found of each frame that is a file is kept (some 50 kB): the same call goes on
            where it was stopped. Nothing is kept when None.
        progress: Also receives each frame that is followed.

    Raises:
        UsageError: an option has no such value, or there are too few or too many scans.
        RegistrationError: no frame could be registered.
        OSError: ``keep`` cannot be written.
    """
    if not 2 <= len(sources) <= MOST_FRAMES:
        raise UsageError(f"expected 2 to {MOST_FRAMES} frames of a sequence, got {len(sources)}")
    if not 0 < fps <= 10_000:
        raise UsageError(f"--fps: expected frames a second, above 0 and up to 10000, got {fps:g}")
    if model.endswith("+d"):
        raise UsageError(f"model {model}: sequences have no displacements; choose {model.removesuffix('+d')}")
    first, last = frames or (1, len(sources))
    if not 1 <= first <= last <= len(sources):
        raise UsageError(f"--frames: expected FIRST-LAST, from 1 to {len(sources)}, got {first}-{last}")
    given = {"model": model, "unit": unit, "up": up, "device": device, "seed": seed, "camera": camera}
    told = {"height": height, "sex": sex, "age": age, "pose": None, "keypoints": None, "floor": False}
    call, clock = person_call(given, told, settings, progress), Clock(progress)
    kept = Kept(None if keep is None else Path(keep), sources, call.asked)
    subject = _subject(kept, call, clock)
    body = choose(model, correspond).body
    tracker = _Tracker(kept, subject, call, clock, body)
    found = tracker.follow(first - 1, last - 1)
    with clock.stage("smooth"):
        motion = _motion(tracker, found, range(first - 1, last), fps)
    return replace(motion, timings=dict(clock.seconds))


def _subject(kept: Kept, call: Call, clock: Clock) -> Subject:
    """Return what all frames have in common: as it is kept, or from some frames that are registered by themselves.

    Raises:
        RegistrationError: none could be registered.
    """
    numbers = np.unique(np.linspace(0, len(kept.sources) - 1, KEYS).round().astype(int)).tolist()
    if (known := kept.subject(numbers)) is not None:
        return known
    fitted, reasons = dict[int, FittedScan](), list[str]()
    for i in numbers:
        _announce(clock, f"frame {i + 1} by itself")
        try:
            fitted[i] = fit_scan(kept.sources[i], call.asked, call.told, call.finder, call.config, clock)
        except UsageError:
            raise
        except LvdregError as error:
            reasons.append(f"frame {i + 1}: {one_line(str(error))}")
    fitted = {i: fitted[i] for i in of_one_person(fitted)}
    if not fitted:
        raise RegistrationError(f"no frame could be registered: {reasons[0] if reasons else 'all differ in size'}")
    with clock.stage("shape"):
        first = fitted[min(fitted)]
        betas = _shape(list(fitted.values()), call)
        starts = {i: replace(_moved(each, first.T_world_scan), betas=betas) for i, each in fitted.items()}
        about = first.T_world_scan, first.size.unit, first.size.body_scale, first.files
        sigma = float(np.median([predicted_errors(each)[0].whole for each in fitted.values()]))
        subject = Subject(first.scan.name, betas, starts, *about, sigma)
        kept.keep_subject(subject, numbers)
    return subject


@one_blas_thread()
@one_torch_thread()
def _shape(fitted: list[FittedScan], call: Call) -> FloatArray:
    """Return the shape that scans show together."""
    return agreed_shape([known_shape(each, call.config) for each in fitted])


def _moved(fitted: FittedScan, T_world_scan: Transform) -> State:
    """Return the body of a scan in the world of others that are in its frame."""
    T = T_world_scan @ np.linalg.inv(fitted.T_world_scan)
    kernel = Kinematics(fitted.body.data, np.zeros(1, np.int64))
    return kernel.moved(State.from_params(fitted.refined.params), T[:3, :3] / scale_of(T), T[:3, 3])


@dataclass(frozen=True)
class _Tracker:
    """What stays the same while a body is followed.

    Attributes:
        kept: The frames, and what is known of them already.
        subject: What they have in common.
        call: What was asked for.
        clock: Of the stages.
        body: The model.
        last: The frame that was read last, if it could be: all of them would take too much memory.
    """

    kept: Kept
    subject: Subject
    call: Call
    clock: Clock
    body: BodyModel
    last: dict[int, Target | None] = field(default_factory=dict)

    def follow(self, first: int, last: int) -> dict[int, Frame]:
        """Return what is known of each frame by itself, key frames before and after those from ``first`` to ``last``
        included; none of those in which nobody was found.

        From key frame to key frame nothing depends on what lies before or after.
        """
        keys, found = sorted(self.subject.starts), dict[int, Frame]()
        ends = [-1, *keys, len(self.kept.sources)]
        low, high = max(end for end in ends if end <= first), min(end for end in ends if end >= last)
        for i in keys:
            # All of them: how far the scan lies from the body there says where it is lost.
            frame = self._kept(i) or self._tracked(i, self.subject.starts[i], "alone")
            if frame is not None:
                found[i] = frame
        usual = float(np.median([frame.tracked.residual_mm for frame in found.values()] or [0.0]))
        most = LOST[0] * usual + LOST[1]
        for a, b in pairwise(end for end in ends if low <= end <= high):
            found |= self._between({i: found[i] for i in (a, b) if i in found}, a, b, most)
        wanted = {i: frame for i, frame in sorted(found.items()) if low <= i <= high}
        if not wanted:
            raise RegistrationError(f"frames {first + 1} to {last + 1}: nobody was found in any of them")
        return wanted

    def _between(self, found: dict[int, Frame], a: int, b: int, most: float) -> dict[int, Frame]:
        """Follow the body from two key frames, one of which may be none, to those between them."""
        inner = range(a + 1, b)
        found |= {i: frame for i in inner if (frame := self._kept(i)) is not None}
        for i in inner:
            if i not in found and i - 1 in found:
                self._step(found, i, -1, "forwards", most)
        for i in reversed(inner):
            if i not in found and i + 1 in found:
                self._step(found, i, 1, "backwards", most)
        for i in inner:
            if i in found or self._target(i) is None:
                continue
            if i - 1 not in found or not self._step(found, i, -1, "forwards", most):
                self._find_again(found, i, most)
        return found

    def _step(self, found: dict[int, Frame], i: int, side: int, how: str, most: float) -> bool:
        """Take the body on from the frame beside (-1: before, 1: after) as it moved, or else from where it was."""
        near, far = found[i + side].tracked.state, found.get(i + 2 * side)
        frame = None if far is None else self._tracked(i, gone_on(far.tracked.state, near), how, most)
        frame = frame or self._tracked(i, near, how, most, sweep=True)
        if frame is not None:
            found[i] = frame
        return frame is not None

    def _find_again(self, found: dict[int, Frame], i: int, most: float) -> None:
        """Ask the network where the body is."""
        try:
            told = self.call.asked, self.call.told, self.call.finder, self.call.config
            fitted = fit_scan(self.kept.sources[i], *told, self.clock)
        except LvdregError:
            return
        start = replace(_moved(fitted, self.subject.T_world_scan), betas=self.subject.betas)
        if (frame := self._tracked(i, start, "found again", most)) is not None:
            found[i] = frame

    def _kept(self, i: int) -> Frame | None:
        return self.kept.frame(i, self.subject)

    def _tracked(self, i: int, start: State, how: str, most: float = np.inf, sweep: bool = False) -> Frame | None:
        """Refine the body of a frame, and keep it; None where it lies further from the scan than ``most``, mm."""
        target = self._target(i)
        if target is None:
            return None
        known = Known(betas=self.subject.betas)
        with self.clock.stage("track"):
            try:
                found = track_body(self.body, start, target, tracking(self.call.config.refine), known, sweep)
            except LvdregError:
                return None
            if found.residual_mm > most:
                return None
            frame = Frame(found, how)
            self.kept.keep_frame(i, self.subject, frame)
        return frame

    def _target(self, i: int) -> Target | None:
        """Read and clean a frame; None where it cannot be."""
        if i not in self.last:
            self.last.clear()
            _announce(self.clock, f"frame {i + 1} of {len(self.kept.sources)}")
            config, asked = self.call.config.clean, self.call.asked
            with self.clock.stage("read"):
                try:
                    scan = clean_scan(scan_of(self.kept.sources[i], asked["camera"]), config)
                    oriented = oriented_points(scan, config.num_points, asked["seed"])
                    self.last[i] = target_of(scan, *oriented, self.subject.T_world_scan)
                except LvdregError:
                    self.last[i] = None
        return self.last[i]


def _announce(clock: Clock, words: str) -> None:
    if clock.listener is not None:
        clock.listener(words)


def gone_on(before: State, now: State) -> State:
    """Return the state that comes after two if every joint turns on and the body moves on as it did."""
    a, b = Rotation.from_rotvec(before.pose), Rotation.from_rotvec(now.pose)
    return State((b * (a.inv() * b)).as_rotvec(), now.betas, 2 * now.transl - before.transl)


@one_blas_thread()
def _motion(tracker: _Tracker, found: Mapping[int, Frame], wanted: range, fps: float) -> Motion:
    """Smooth all poses that are known, and return those that are wanted."""
    subject, some = tracker.subject, next(iter(found.values()))
    first, last = min(*found, wanted.start), max(*found, wanted.stop - 1)
    frames = [found.get(i) for i in range(first, last + 1)]
    known = [(frame or some).tracked for frame in frames]
    measured = Measured(
        np.stack([each.state.pose for each in known]),
        np.stack([each.state.transl for each in known]),
        [None if frame is None else frame.tracked.information for frame in frames],
        np.array([each.freedom for each in known]),
    )
    smoothed = smooth_poses(measured, _Sigma(tracker.body, subject).median_mm)
    own = slice(wanted.start - first, wanted.stop - first)
    kernel = Kinematics(tracker.body.data, np.zeros(1, np.int64))
    poses, places = smoothed.pose[own], smoothed.place[own]
    joints = [kernel.pose(State(pose, subject.betas, place)).joints for pose, place in zip(poses, places, strict=True)]
    residuals = [np.nan if frame is None else frame.tracked.residual_mm for frame in frames[own]]
    return Motion(
        name=subject.name,
        model=str(tracker.call.asked["model"]),
        fps=fps,
        frames=tuple(_name(tracker.kept.sources[i], i) for i in wanted),
        pose=poses,
        transl=places,
        betas=subject.betas,
        joints=np.stack(joints),
        # What all frames may be off by alike, shape above all, no smoothing tells of.
        sigma_mm=np.hypot(smoothed.spread[own], 1000 * subject.body_scale * subject.sigma),
        residual_mm=np.array(residuals),
        how=tuple("filled" if frame is None else frame.how for frame in frames[own]),
        raw_pose=measured.pose[own],
        raw_transl=measured.place[own],
        T_scan_model=np.linalg.inv(subject.T_world_scan).astype(np.float64),
        unit=subject.unit,
        body_scale=subject.body_scale,
        settings=tracker.call.asked,
        assets=subject.files,
    )


class _Sigma:
    """How uncertain the body of a frame is."""

    def __init__(self, body: BodyModel, subject: Subject) -> None:
        index = np.arange(0, body.num_vertices, max(body.num_vertices // SIGMA_VERTICES, 1))
        self.kernel, self.betas = Kinematics(body.data, index), subject.betas
        self.scale = subject.body_scale

    def median_mm(self, pose: FloatArray, place: FloatArray, covariance: FloatArray) -> float:
        """Return the median one-sigma of vertices whose joints are turned, and that are moved, with a covariance."""
        rows = self.kernel.jacobian(self.kernel.pose(State(pose, self.betas, place)))
        num = pose.size
        turned = np.einsum(
            "sxja,jab->sxjb", rows[..., :num].reshape(-1, 3, len(pose), 3), np.linalg.inv(left_jacobian(-pose))
        )
        whole = np.concatenate([turned.reshape(*rows.shape[:2], num), rows[..., -3:]], -1).reshape(-1, num + 3)
        variance = ((whole @ covariance) * whole).sum(1).reshape(-1, 3).sum(1)
        return 1000 * self.scale * float(np.median(np.sqrt(variance)))


def _name(source: Any, number: int) -> str:
    if isinstance(source, str | Path):
        return Path(source).name
    return getattr(source, "name", f"frame {number + 1}")
