"""The story for scans of one person who moves: a few frames are registered alone, which gives the shape; from them the
body is followed from frame to frame, forwards and, where it is lost, backwards; then all poses are smoothed.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import Float64
from scipy.spatial.transform import Rotation

from lvdreg.base.errors import LvdregError, RegistrationError, UsageError
from lvdreg.base.shapes import FloatArray, Transform
from lvdreg.base.text import one_line
from lvdreg.base.threads import one_torch_thread
from lvdreg.base.timing import Clock, Progress, one_blas_thread
from lvdreg.body.model import BodyModel
from lvdreg.fit.correspond import Target, target_of
from lvdreg.fit.smooth import smooth_places, smooth_rotations
from lvdreg.fit.solver import Kinematics, State, left_jacobian
from lvdreg.fit.track import track_body, tracking, turn_covariances
from lvdreg.geometry.frames import scale_of
from lvdreg.pipeline.scan import Call, FittedScan, fit_scan, person_call
from lvdreg.pipeline.scans import of_one_person, with_one_shape
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
"""A frame is lost whose scan lies further from the body than so many times what it does in frames alone, and so many
millimetres."""
MOST_FRAMES = 10_000
SIGMA_VERTICES = 7
"""Sigma is told of every so-manieth hundred of the vertices."""


def register_sequence(
    sources: "Sequence[str | Path | Scan | ArrayLike]",
    *,
    fps: float = 30.0,
    model: str = "anny",
    unit: str = "auto",
    up: str = "auto",
    device: str = "cpu",
    seed: int = 0,
    height: float | None = None,
    sex: str | None = None,
    age: float | None = None,
    settings: "Settings | Mapping[str, Any] | None" = None,
    progress: Progress | None = None,
) -> Motion:
    """Register a body model to scans of one person who moves: one shape, and poses that are smooth in time.

    Other arguments are those of ``register``.

    Args:
        sources: 2 to 10,000 scans in the order of time, all in one frame and unit. One that cannot be read, or in which
            nobody is found, is filled in from its neighbours.
        fps: Frames a second.

    Raises:
        UsageError: an option has no such value, or there are too few or too many scans.
        RegistrationError: no frame could be registered.
    """
    if not 2 <= len(sources) <= MOST_FRAMES:
        raise UsageError(f"expected 2 to {MOST_FRAMES} frames of a sequence, got {len(sources)}")
    if not 0 < fps <= 10_000:
        raise UsageError(f"--fps: expected frames a second, above 0 and up to 10000, got {fps:g}")
    given = {"model": model, "unit": unit, "up": up, "device": device, "seed": seed, "camera": None}
    told = {"height": height, "sex": sex, "age": age, "pose": None, "keypoints": None, "floor": False}
    call = person_call(given, told, settings, progress)
    clock = Clock(progress)
    keys = key_frames(sources, call, clock)
    tracker = _Tracker.of(sources, keys, call, clock)
    frames = tracker.frames()
    with clock.stage("smooth"):
        return _motion(tracker, frames, fps, clock)


def key_frames(sources: "Sequence[Any]", call: Call, clock: Clock) -> dict[int, FittedScan]:
    """Register some frames by themselves, and again with the shape that they show together.

    Raises:
        RegistrationError: none could be registered.
    """
    fitted, reasons = dict[int, FittedScan](), list[str]()
    for i in np.unique(np.linspace(0, len(sources) - 1, KEYS).round().astype(int)).tolist():
        try:
            fitted[i] = fit_scan(
                sources[i], call.asked, call.told, call.finder, call.config, Clock(clock.listener, clock.seconds)
            )
        except UsageError:
            raise
        except LvdregError as error:
            reasons.append(f"frame {i + 1}: {one_line(str(error))}")
    fitted = {i: fitted[i] for i in of_one_person(fitted)}
    if not fitted:
        raise RegistrationError(f"no frame could be registered: {reasons[0] if reasons else 'all differ in size'}")
    clocks = dict.fromkeys(fitted, Clock(clock.listener, clock.seconds))
    return with_one_shape(fitted, call.config, clocks) or fitted


@dataclass(frozen=True)
class Frame:
    """What is known of a frame by itself.

    Attributes:
        state: The body, in the world of the sequence.
        turns: (J, 3, 3) covariance of small turns after each joint's rotation.
        place: (3, 3) covariance of the place, square metres.
        residual_mm: Mean distance from the scan to the body.
        how: "alone" of a key frame, "forwards", "backwards", or "found again" by the network.
    """

    state: State
    turns: Float64[np.ndarray, "J 3 3"]
    place: Float64[np.ndarray, "3 3"]
    residual_mm: float
    how: str


@dataclass(frozen=True)
class _Tracker:
    """What stays the same while a body is followed.

    Attributes:
        sources: The frames.
        keys: Those registered by themselves, with one shape.
        call: What was asked for.
        clock: Of the stages.
        body: The model.
        T_world_scan: Of all frames, that of the first key frame.
        last: The frame that was read last, if it could be: all of them would take too much memory.
    """

    sources: "Sequence[Any]"
    keys: dict[int, FittedScan]
    call: Call
    clock: Clock
    body: BodyModel
    T_world_scan: Transform
    betas: FloatArray
    last: dict[int, Target | None] = field(default_factory=dict)

    @classmethod
    def of(cls, sources: "Sequence[Any]", keys: dict[int, FittedScan], call: Call, clock: Clock) -> "_Tracker":
        """Begin with the key frames."""
        first = keys[min(keys)]
        betas = first.refined.params.betas.double().numpy()
        return cls(sources, keys, call, clock, first.body, first.T_world_scan, betas)

    def frames(self) -> list[Frame | None]:
        """Return what is known of each frame by itself; None where nobody was found."""
        found = dict[int, Frame]()
        for i, fitted in self.keys.items():
            if (frame := self._tracked(i, self._in_world(fitted), "alone")) is not None:
                found[i] = frame
        self.follow(found)
        return [found.get(i) for i in range(len(self.sources))]

    def follow(self, found: dict[int, Frame]) -> None:
        """Follow the body from the frames that are found to all others."""
        num = len(self.sources)
        for i in range(num):
            if i not in found and i - 1 in found:
                self._step(found, i, -1, "forwards")
        for i in range(num - 1, -1, -1):
            if i not in found and i + 1 in found:
                self._step(found, i, 1, "backwards")
        for i in range(num):
            if i in found or self._target(i) is None:
                continue
            if i - 1 in found and self._step(found, i, -1, "forwards"):
                continue
            self._find_again(found, i)

    def _step(self, found: dict[int, Frame], i: int, side: int, how: str) -> bool:
        """Take the body on from the frame beside (-1: before, 1: after), as it moved there."""
        near, far = found[i + side].state, found.get(i + 2 * side)
        start = near if far is None else gone_on(far.state, near)
        frame = self._tracked(i, start, how)
        if frame is not None:
            found[i] = frame
        return frame is not None

    def _find_again(self, found: dict[int, Frame], i: int) -> None:
        """Ask the network where the body is."""
        try:
            told = self.call.asked, self.call.told, self.call.finder, self.call.config
            fitted = fit_scan(self.sources[i], *told, Clock(self.clock.listener, self.clock.seconds))
        except LvdregError:
            return
        if (frame := self._tracked(i, self._in_world(fitted), "found again")) is not None:
            found[i] = frame

    def _tracked(self, i: int, start: State, how: str) -> Frame | None:
        """Refine the body of a frame; None where it does not fit."""
        target = self._target(i)
        if target is None:
            return None
        key = next(iter(self.keys.values()))
        known = replace(key.known, betas=self.betas)
        config = tracking(self.call.config.refine)
        with self.clock.stage("track"):
            try:
                fit, covariance = track_body(self.body, replace(start, betas=self.betas), target, config, known)
            except LvdregError:
                return None
        usual = float(np.median([each.refined.residual_mm for each in self.keys.values()]))
        if how not in ("alone", "found again") and fit.residual_mm > LOST[0] * usual + LOST[1]:
            return None
        state = State.from_params(fit.params)
        return Frame(state, *turn_covariances(state, covariance), fit.residual_mm, how)

    def _target(self, i: int) -> Target | None:
        """Read and clean a frame; None where it cannot be."""
        if i not in self.last:
            self.last.clear()
            with self.clock.stage("read"):
                try:
                    scan = clean_scan(scan_of(self.sources[i]), self.call.config.clean)
                    points, normals = oriented_points(scan, self.call.config.clean.num_points, self.call.asked["seed"])
                    self.last[i] = target_of(scan, points, normals, self.T_world_scan)
                except LvdregError:
                    self.last[i] = None
        return self.last[i]

    def _in_world(self, fitted: FittedScan) -> State:
        """Return the body of a frame that was registered by itself, in the world of the sequence."""
        T = self.T_world_scan @ np.linalg.inv(fitted.T_world_scan)
        state, scale = State.from_params(fitted.refined.params), scale_of(T)
        kernel = Kinematics(self.body.data, np.zeros(1, np.int64))
        return kernel.moved(state, T[:3, :3] / scale, T[:3, 3])


def gone_on(before: State, now: State) -> State:
    """Return the state that comes after two if every joint turns on and the body moves on as it did."""
    a, b = Rotation.from_rotvec(before.pose), Rotation.from_rotvec(now.pose)
    return State((b * (a.inv() * b)).as_rotvec(), now.betas, 2 * now.transl - before.transl)


@one_blas_thread()
@one_torch_thread()
def _motion(tracker: _Tracker, frames: Sequence[Frame | None], fps: float, clock: Clock) -> Motion:
    """Smooth all poses, and say how sure they are."""
    seen = np.array([frame is not None for frame in frames])
    some = next(frame for frame in frames if frame is not None)
    filled = [frame or some for frame in frames]
    turns = smooth_rotations(
        np.stack([frame.state.pose for frame in filled]), np.stack([frame.turns for frame in filled]), seen
    )
    kernel = Kinematics(tracker.body.data, np.arange(0, tracker.body.num_vertices, SIGMA_VERTICES * 10))
    places = smooth_places(
        np.stack([frame.state.transl for frame in filled])[:, None],
        np.stack([frame.place for frame in filled])[:, None],
        seen,
    )
    states = [State(pose, tracker.betas, place[0]) for pose, place in zip(turns.means, places.means, strict=True)]
    sigma = [
        _sigma_mm(kernel, state, spread, place[0])
        for state, spread, place in zip(states, turns.covariances, places.covariances, strict=True)
    ]
    joints = np.stack([kernel.pose(state).joints for state in states])
    key = tracker.keys[min(tracker.keys)]
    return Motion(
        name=key.scan.name,
        model=str(tracker.call.asked["model"]).removesuffix("+d"),
        fps=fps,
        frames=tuple(_name(source, i) for i, source in enumerate(tracker.sources)),
        pose=turns.means,
        transl=places.means[:, 0],
        betas=tracker.betas,
        joints=joints,
        sigma_mm=np.array(sigma) * key.size.body_scale,
        residual_mm=np.array([np.nan if frame is None else frame.residual_mm for frame in frames]),
        how=tuple("filled" if frame is None else frame.how for frame in frames),
        alone_pose=np.stack([frame.state.pose for frame in filled]),
        T_scan_model=np.linalg.inv(tracker.T_world_scan).astype(np.float64),
        unit=key.size.unit,
        body_scale=key.size.body_scale,
        timings=dict(clock.seconds),
        settings=tracker.call.asked,
        assets=key.files,
    )


def _sigma_mm(kernel: Kinematics, state: State, turns: FloatArray, place: FloatArray) -> float:
    """Return the median sigma of vertices whose joints are turned and moved by so much, millimetres."""
    num = len(state.pose)
    rows = kernel.jacobian(kernel.pose(state))[..., : 3 * num].reshape(-1, 3, num, 3)
    by_turn = np.einsum("sxja,jab->sxjb", rows, np.linalg.inv(left_jacobian(-state.pose)))
    variance = np.einsum("sxja,jab,sxjb->s", by_turn, turns, by_turn, optimize=True) + np.trace(place)
    return float(1000 * np.median(np.sqrt(variance)))


def _name(source: Any, number: int) -> str:
    if isinstance(source, str | Path):
        return Path(source).name
    return getattr(source, "name", f"frame {number + 1}")
