"""What the user knows of a person: height, sex and age, how they stand, where joints are, that they stand on a floor.

All of it is held as priors are, beside what network and scan say, but for a shape that is known: it is no unknown.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Float64, Int64
from scipy.spatial.transform import Rotation

from lvdreg.base.shapes import FloatArray, IntArray, Transform
from lvdreg.body.landmarks import Landmarks, body_of
from lvdreg.body.model import BodyData, some_vertices
from lvdreg.fit.kinematics import Kinematics, State, upright_height
from lvdreg.fit.priors import PosePrior, PriorConfig, ShapePrior, Term, pose_prior
from lvdreg.fit.solver import Normal, gauss_newton, geman_mcclure
from lvdreg.geometry.frames import transform_points
from lvdreg.geometry.mesh import farthest_points

HEIGHT_SIGMA = 0.001
"""Metres, one-sigma: how exactly a height that was given is kept, as in photos."""
PLACE_SIGMA = 0.015
"""Metres, one-sigma of a joint's place: of markers and of clicks, and of what a joint is."""
PLACE_SAMPLES = 10.0
"""As so many vertices of a scan's a place counts."""
POSTURES = ("t", "a")
A_POSE = 45.0
"""Degrees by which arms hang in an A-pose below those of a T-pose; people take anything from 25 to 65."""
POSTURE_SPREAD = {
    "hip": (10.0, 10.0, 12.0), "knee": (8.0, 8.0, 8.0), "spine": (6.0, 6.0, 6.0), "collar": (8.0, 8.0, 8.0),
    "shoulder": (30.0, 12.0, 14.0), "elbow": (30.0, 14.0, 8.0), "wrist": (25.0, 20.0, 12.0),
}  # fmt: skip
"""Degrees (twist, flex, side) by which those spread who were told to stand so, by joint; chosen by hand."""
SEEN_SHARE = 0.05
"""As so many vertices of a scan each counts that was looked at closely: errors of a hand's are much alike."""
SEEN_VERTICES = 256
"""So many stand for all of them."""
SEEN_SIGMAS = 3.0
"""Scale of the robust kernel of their errors, in sigmas."""
SEEN_FLOOR = 0.003
"""Metres: none of them is believed to be surer."""
SUNK = 0.003
"""Metres, one-sigma of how far a sole lies under a floor."""
SHOE = 0.03
"""Metres: a foot may stand so much higher, on soles of shoes; the example of the package does, by 28 mm."""
STANDING = 0.02
"""Metres over that: what of a foot lies clearly higher does not stand on the floor; scale of the kernel."""
STANDING_SIGMA = 0.01
"""Metres, one-sigma over that: scans show feet, and people stand on heels and toes alone."""
FLOOR_SAMPLES = 5.0
"""As so many vertices a foot that stands counts."""
SOLE = 0.35
"""The lowest so much of a foot's height is its sole."""


@dataclass(frozen=True)
class Places:
    """Where points of the body are: ``points`` (K, 3) of ``landmarks``, in the frame of what is fitted to."""

    landmarks: Landmarks
    points: Float64[np.ndarray, "K 3"]

    def body(self, data: BodyData) -> BodyData:
        """Return a body whose vertices are the landmarks.

        A joint lies still on both of its bones; taken for a point of both, it tells how its parent is turned.
        """
        carried = body_of(data, self.landmarks)
        parents = np.maximum(np.asarray(data.parents), 0)[self.landmarks.joints]
        both = (np.eye(len(data.parents))[self.landmarks.joints] + np.eye(len(data.parents))[parents]) / 2
        is_joint = self.landmarks.share[:, None] == 0
        return replace(carried, weights=np.where(is_joint, both, carried.weights).astype(np.float32))


@dataclass(frozen=True)
class SeenVertices:
    """What a closer look says of some vertices: ``index`` (K,), ``points`` (K, 3) and one-sigma ``sigma`` (K,)."""

    index: Int64[np.ndarray, " K"]
    points: Float64[np.ndarray, "K 3"]
    sigma: Float64[np.ndarray, " K"]


@dataclass(frozen=True)
class Known:
    """What is known of a person; None: nothing.

    Attributes:
        height: Standing upright, metres of the body, and its one-sigma.
        shape: Which shapes are likely.
        betas: (K,) the shape itself.
        posture: One of ``POSTURES``.
        places: Where joints are.
        floor: Height of the floor, world frame, metres.
        seen: Vertices that were looked at closely, world frame, metres.
    """

    height: tuple[float, float] | None = None
    shape: ShapePrior | None = None
    betas: Float64[np.ndarray, " K"] | None = None
    posture: str | None = None
    places: Places | None = None
    floor: float | None = None
    seen: SeenVertices | None = None

    def at(self, T: Transform, body_scale: float = 1.0) -> "Known":
        """Return the same with places brought to another frame, for a body that is drawn so many times smaller."""
        places = self.places and replace(self.places, points=transform_points(T, self.places.points))
        height = self.height and (self.height[0] / body_scale, self.height[1] / body_scale)
        return replace(self, places=places, height=height)

    def prior(self, data: BodyData, config: PriorConfig, in_world: bool) -> PosePrior:
        """Return the prior of a body with what is known of shape, height and posture.

        Args:
            data: The body.
            config: How strongly people's usual shapes and poses are held.
            in_world: Whether the body lies in the world frame: then places and floor are held, too.
        """
        prior, terms = pose_prior(data, config), list[Term]()
        if self.posture is not None:
            prior = with_posture(prior, data, self.posture)
        if self.height is not None:
            terms.append(HeightTerm(Kinematics(data, _extremes(data)), *self.height))
        if in_world and self.places is not None:
            terms.append(PlacesTerm(Kinematics(self.places.body(data)), self.places.points))
        if in_world and self.seen is not None:
            terms.append(SeenTerm.of(data, self.seen))
        if in_world and self.floor is not None:
            terms.append(FloorTerm(*soles(data), self.floor))
        return replace(prior, shape=self.shape, betas=self.betas, terms=tuple(terms))


NOTHING = Known()


def _extremes(data: BodyData) -> Int64[np.ndarray, " S"]:
    """Return the vertices among which head and sole of whoever stands upright are: the outer tenths of the height."""
    y = np.asarray(data.v_template[:, 1], np.float64)
    low, high = y.min(), y.max()
    return np.flatnonzero((y < low + 0.1 * (high - low)) | (y > high - 0.1 * (high - low)))


@dataclass(frozen=True)
class HeightTerm:
    """Holds the height of a person standing upright."""

    kernel: Kinematics
    height: float
    sigma: float

    def equations(self, state: State) -> Normal:
        """Return the normal equations at a state."""
        found, slope = upright_height(self.kernel, state.betas)
        row = np.zeros((1, state.vector.size))
        row[0, state.pose.size : state.pose.size + len(slope)] = slope
        return gauss_newton(row, np.array([found - self.height]), np.array([self.sigma**-2.0]))


@dataclass(frozen=True)
class PlacesTerm:
    """Holds joints where they are known to be, world frame."""

    kernel: Kinematics
    points: Float64[np.ndarray, "K 3"]

    def equations(self, state: State) -> Normal:
        """Return the normal equations at a state."""
        posed = self.kernel.pose(state)
        residual = posed.vertices - self.points
        return self.kernel.vertex_equations(posed, residual, np.full(len(residual), PLACE_SAMPLES / PLACE_SIGMA**2))


@dataclass(frozen=True)
class SeenTerm:
    """Draws vertices to where a closer look has them; those that lie far off lose their say."""

    kernel: Kinematics
    seen: SeenVertices
    weight: float
    """As so many vertices of a scan each of them counts."""

    @classmethod
    def of(cls, data: BodyData, seen: SeenVertices) -> "SeenTerm":
        """Return the term of at most ``SEEN_VERTICES`` of them, spread evenly."""
        some = farthest_points(np.asarray(data.v_template, np.float64)[seen.index], SEEN_VERTICES)
        few = SeenVertices(seen.index[some], seen.points[some], seen.sigma[some])
        return cls(Kinematics(data, few.index), few, SEEN_SHARE * len(seen.index) / len(some))

    def equations(self, state: State) -> Normal:
        """Return the normal equations at a state."""
        posed = self.kernel.pose(state)
        errors = posed.vertices - self.seen.points
        sigma = np.maximum(self.seen.sigma, SEEN_FLOOR)
        cost, weight = geman_mcclure((errors**2).sum(1) / (SEEN_SIGMAS * sigma) ** 2)
        information = self.weight / sigma**2
        total = float((information * (SEEN_SIGMAS * sigma) ** 2 * cost).sum())
        return replace(self.kernel.vertex_equations(posed, errors, information * weight), cost=total)


@dataclass(frozen=True)
class FloorTerm:
    """Holds soles over the floor, and on it, as far as shoes may be thick, what lies near it; lifted feet stay up.

    Attributes:
        kernel: Poses the soles.
        parts: Which of the kernel's vertices are of each foot.
        floor: Its height, world frame, metres.
    """

    kernel: Kinematics
    parts: tuple[IntArray, ...]
    floor: float

    def equations(self, state: State) -> Normal:
        """Return the normal equations at a state: of the lowest vertex of each foot, and of all under the floor."""
        posed = self.kernel.pose(state)
        over = posed.vertices[:, 1] - self.floor
        lowest = np.array([part[over[part].argmin()] for part in self.parts], np.int64)
        rows = np.union1d(lowest, np.flatnonzero(over < 0))
        residual = np.minimum(over[rows], 0.0) + np.maximum(over[rows] - SHOE, 0.0)
        cost, weight = geman_mcclure((residual / STANDING) ** 2)
        is_sunk = residual < 0
        strength = FLOOR_SAMPLES / np.where(np.isin(rows, lowest), 1, len(over))
        strength = strength / np.where(is_sunk, SUNK, STANDING_SIGMA) ** 2
        weights = strength * np.where(is_sunk, 1.0, weight) * (residual != 0)
        total = strength * np.where(is_sunk, 0.5 * residual**2, STANDING**2 * cost)
        kinematics = self.kernel
        corners = np.repeat(rows[:, None], 3, axis=1)
        bary, up = np.tile([1.0, 0.0, 0.0], (len(rows), 1)), np.tile([0.0, 1.0, 0.0], (len(rows), 1))
        normal = kinematics.directional_equations(posed, corners, bary, up, residual, weights)
        return replace(normal, cost=float(total.sum()))


def soles(data: BodyData) -> tuple[Kinematics, tuple[IntArray, ...]]:
    """Return what poses the soles of a body, and which of its vertices are those of each foot."""
    points, owner = np.asarray(data.v_template, np.float64), data.weights.argmax(1)
    chosen, parts = list[int](), []
    for side in ("left", "right"):
        own = [j for j, name in enumerate(data.joint_names) if name in (f"{side}_ankle", f"{side}_foot")]
        foot = np.flatnonzero(np.isin(owner, own))
        if not len(foot):
            continue
        sole = foot[points[foot, 1] < points[foot, 1].min() + SOLE * np.ptp(points[foot, 1])]
        parts.append(np.arange(len(chosen), len(chosen) + len(sole)))
        chosen += sole.tolist()
    return Kinematics(some_vertices(data, chosen)), tuple(parts)


def with_posture(prior: PosePrior, data: BodyData, posture: str) -> PosePrior:
    """Return the prior of those who stand in a T-pose or an A-pose."""
    pose, middle, sigma = posture_of(data, posture), np.zeros_like(prior.sigma), prior.sigma.copy()
    for j, name in enumerate(data.joint_names):
        plain = name.removeprefix("left_").removeprefix("right_")
        spread = next((own for key, own in POSTURE_SPREAD.items() if plain.startswith(key)), None)
        if spread is not None:
            middle[j], sigma[j] = prior.axes[j] @ pose[j], np.minimum(sigma[j], np.radians(spread))
    return replace(prior, middle=middle, sigma=sigma)


def posture_of(data: BodyData, posture: str) -> Float64[np.ndarray, "J 3"]:
    """Return the pose (J, 3) of a body in a T-pose, palms down, or an A-pose: the same with the arms lowered."""
    pose = np.zeros((len(data.parents), 3)) if data.tpose is None else np.asarray(data.tpose, np.float64)
    if posture == "t":
        return pose
    above, lowered = _world(pose, data.parents.tolist()), pose.copy()
    for side, sign in (("left", -1.0), ("right", 1.0)):
        if f"{side}_shoulder" in data.joint_names:
            j = data.joint_names.index(f"{side}_shoulder")
            turned = Rotation.from_rotvec([0.0, 0.0, sign * np.radians(A_POSE)]) * above[j]
            lowered[j] = (above[int(data.parents[j])].inv() * turned).as_rotvec()
    return lowered


def _world(pose: FloatArray, parents: Sequence[int]) -> list[Rotation]:
    world: list[Rotation] = []
    for j, parent in enumerate(parents):
        own = Rotation.from_rotvec(pose[j])
        world.append(own if parent < 0 else world[parent] * own)
    return world


def missed(known: Known, data: BodyData, state: State) -> float:
    """Return how far the places that are known lie from those of a body, metres: the median, 0 where none are."""
    if known.places is None:
        return 0.0
    found = Kinematics(known.places.body(data)).pose(state).vertices
    return float(np.median(np.linalg.norm(found - known.places.points, axis=1)))
