"""What a person can be: joint limits, likely poses, likely shapes. One place for fitting and refinement.

Each joint has its own axes, taken from the body's rest skeleton, so that the same table serves a body that rests in an
A-pose and one that rests in a T-pose: ``twist`` along the bone, ``flex`` (the way the joint mostly bends), and
``side``, normal to both. Angles are components of the rotation vector on these axes: exact for one-axis joints, and
close enough elsewhere for soft limits.
"""

from dataclasses import dataclass
from itertools import pairwise
from typing import Protocol, runtime_checkable

import numpy as np
from jaxtyping import Float, Float64
from torch import Tensor

from lvdreg.base.shapes import FloatArray
from lvdreg.body.model import FINGERS, BodyData
from lvdreg.fit.kinematics import State
from lvdreg.fit.solver import Normal, Room

LIMIT_SIGMA = 0.06
"""Softness of the joint limits, radians: a violation of 0.06 costs as much as one unit of a standard normal."""
HINGE_SEEN = np.radians(10)
BETA_CAPS = (3.0, 6.0)
"""Standard deviations within which each shape parameter is free: what sampled people reach, but between these two."""
BETA_CAP_SIGMA = 0.15
"""Softness of the caps: beyond them a shape is drawn back, and after three times this it goes no further."""


@dataclass(frozen=True)
class PriorConfig:
    """How strongly a body is held to be an ordinary one: factors on the priors, which were not chosen but measured on
    people (``RULES``, ``BETA_CAPS``)."""

    pose_weight: float = 1.0
    """On the pull to easy poses; limits of joints keep their weight."""
    shape_weight: float = 1.0
    """On the pull to the mean shape; what people do not reach keeps its weight."""


@dataclass(frozen=True)
class JointRule:
    """Range and spread in degrees along (twist, flex, side); the right side mirrors.

    Ranges of hinges (knee, elbow, outer joints of fingers) count from the straight limb, those of the shoulder from the
    arm held sideways, all others from the rest pose.
    """

    sigma: tuple[float, float, float]
    low: tuple[float, float, float]
    high: tuple[float, float, float]


FINGER = JointRule((8, 30, 10), (-15, -30, -20), (15, 100, 20))
# Sources of the ranges: American Academy of Orthopaedic Surgeons' normal ranges of motion, widened by 10 to 20 degrees
# because skeletons with few joints put the motion of neighbouring joints into one.
RULES: dict[str, JointRule] = {
    "hip": JointRule((30, 45, 30), (-60, -50, -70), (60, 140, 70)),
    "knee": JointRule((15, 45, 12), (-35, -8, -15), (35, 155, 15)),
    "ankle": JointRule((15, 20, 15), (-35, -50, -35), (35, 55, 35)),
    "foot": JointRule((5, 15, 5), (-10, -45, -10), (10, 45, 10)),
    "spine": JointRule((12, 15, 10), (-35, -35, -30), (35, 50, 30)),
    "neck": JointRule((20, 20, 15), (-60, -50, -40), (60, 50, 40)),
    "head": JointRule((20, 20, 15), (-60, -50, -40), (60, 50, 40)),
    "collar": JointRule((12, 12, 12), (-35, -40, -40), (35, 40, 55)),
    "shoulder": JointRule((45, 50, 60), (-110, -100, -125), (110, 150, 105)),
    "elbow": JointRule((45, 50, 12), (-110, -10, -18), (110, 160, 18)),
    "wrist": JointRule((25, 25, 18), (-80, -90, -45), (80, 90, 45)),
    "thumb1": JointRule((25, 25, 25), (-60, -60, -60), (60, 60, 60)),
    "thumb": JointRule((12, 25, 12), (-20, -45, -25), (20, 80, 25)),
    "index": FINGER,
    "middle": FINGER,
    "ring": FINGER,
    "pinky": FINGER,
    "hand": JointRule((15, 30, 15), (-40, -70, -40), (40, 90, 40)),
    "jaw": JointRule((3, 10, 3), (-5, -5, -5), (5, 40, 5)),
    "eye": JointRule((5, 10, 10), (-10, -40, -40), (10, 40, 40)),
}
UNKNOWN = JointRule((30, 30, 30), (-120, -120, -120), (120, 120, 120))
# A hand of its own makes fists, points and pinches, and its scan shows each finger: each joint its own range. Knuckles
# and outer joints count from the straight finger, the thumb's first joint and tip from rest. Source of the ranges: AAOS
# as above, hyperextension as loose hands have it.
HAND_RULES: dict[str, JointRule] = {
    "1": JointRule((6, 45, 12), (-12, -32, -26), (12, 100, 26)),
    "2": JointRule((5, 45, 5), (-10, -14, -10), (10, 115, 10)),
    "3": JointRule((5, 35, 5), (-10, -22, -10), (10, 88, 10)),
    "thumb1": JointRule((15, 25, 25), (-35, -45, -60), (45, 55, 35)),
    "thumb2": JointRule((6, 25, 8), (-14, -20, -16), (14, 75, 16)),
    "thumb3": JointRule((5, 35, 5), (-10, -36, -10), (10, 82, 10)),
}
CHAINS = (("spine1", "spine2", "spine3"), ("neck", "head"))
CHAIN_SIGMA = np.radians(10)
"""Joints of one chain bend alike: spread of the difference between neighbours."""


@runtime_checkable
class Term(Protocol):
    """Something else that is known of a person: a cost of the unknowns."""

    def equations(self, state: State) -> Normal:
        """Return the normal equations of the cost at a state."""
        ...


@dataclass(frozen=True)
class ShapePrior:
    """Which shapes are likely: a Gaussian over betas.

    Attributes:
        mean: (K,).
        information: (K, K) inverse of the covariance.
    """

    mean: Float64[np.ndarray, " K"]
    information: Float64[np.ndarray, "K K"]


@dataclass(frozen=True)
class PosePrior:
    """Joint axes (J, 3, 3; rows twist, flex, side), and spread and limits on them (J, 3), radians; the root is free."""

    axes: Float64[np.ndarray, "J 3 3"]
    sigma: Float64[np.ndarray, "J 3"]
    low: Float64[np.ndarray, "J 3"]
    high: Float64[np.ndarray, "J 3"]
    chains: tuple[tuple[int, int], ...]
    beta_caps: Float64[np.ndarray, " K"]
    """(K,) how far each shape parameter may go before it is held back."""
    beta_limits: Float64[np.ndarray, " K"]
    """(K,) how far it may go at all, whatever the evidence: no step of any fit leaves this range."""
    config: PriorConfig = PriorConfig()
    middle: Float64[np.ndarray, "J 3"] | None = None
    """(J, 3) angles about which poses spread; None: the rest pose."""
    shape: ShapePrior | None = None
    """None: the standard normal."""
    betas: Float64[np.ndarray, " K"] | None = None
    """(K,) the shape itself, where it is known: then it is no unknown."""
    terms: tuple[Term, ...] = ()
    """What else is known."""

    @property
    def beta_range(self) -> tuple[FloatArray, FloatArray]:
        """Return least and largest betas (K,)."""
        return (-self.beta_limits, self.beta_limits) if self.betas is None else (self.betas, self.betas)

    def inside(self, state: State) -> State:
        """Return the state with the shape within its limits."""
        return State(state.pose, np.clip(state.betas, *self.beta_range), state.transl)

    def room(self, state: State, extra: int = 0) -> Room:
        """Return how far a step from a state may go: only the shape is bounded.

        Args:
            state: Where the step begins.
            extra: Unknowns after those of the state, which nothing bounds.
        """
        low, high = np.full(state.vector.size + extra, -np.inf), np.full(state.vector.size + extra, np.inf)
        shape = slice(state.pose.size, state.pose.size + len(state.betas))
        low[shape], high[shape] = (end - state.betas for end in self.beta_range)
        return Room(low, high)

    def excess(self, pose: Float64[np.ndarray, "J 3"]) -> Float64[np.ndarray, "J 3"]:
        """Return how far each component lies outside its limits, signed, (J, 3) radians."""
        angles = np.einsum("jab,jb->ja", self.axes, pose)
        return np.maximum(angles - self.high, 0) + np.minimum(angles - self.low, 0)

    def equations(self, state: State) -> Normal:
        """Return the normal equations of the prior on pose and betas."""
        num_pose, num_betas = state.pose.size, len(state.betas)
        size = num_pose + num_betas + 3
        hessian, gradient = np.zeros((size, size)), np.zeros(size)
        cost = self._pose_terms(state.pose, hessian, gradient)
        cost += self._chain_terms(state.pose, hessian, gradient)
        over = np.sign(state.betas) * np.maximum(np.abs(state.betas) - self.beta_caps, 0)
        capped = (over != 0) / BETA_CAP_SIGMA**2
        shape = slice(num_pose, num_pose + num_betas)
        pull, slope, shape_cost = self.shape_terms(state.betas)
        hessian[shape, shape] += pull + np.diag(capped)
        gradient[shape] += slope + over * capped
        cost += shape_cost + 0.5 * float(capped @ over**2)
        return sum((term.equations(state) for term in self.terms), Normal(hessian, gradient, cost))

    def shape_terms(self, betas: FloatArray) -> tuple[FloatArray, FloatArray, float]:
        """Return Hessian (K, K), gradient (K,) and cost of the pull to likely shapes."""
        weight = self.config.shape_weight
        if self.shape is None:
            return weight * np.eye(len(betas)), weight * betas, 0.5 * float(weight * (betas @ betas))
        offset = betas - self.shape.mean
        slope = weight * self.shape.information @ offset
        return weight * self.shape.information, slope, 0.5 * float(offset @ slope)

    def _pose_terms(self, pose: FloatArray, hessian: FloatArray, gradient: FloatArray) -> float:
        angles = np.einsum("jab,jb->ja", self.axes, pose) - (0.0 if self.middle is None else self.middle)
        pull = np.where(np.isinf(self.sigma), 0, self.config.pose_weight / self.sigma**2)
        excess = self.excess(pose)
        limit = (excess != 0) / LIMIT_SIGMA**2
        blocks = np.einsum("ja,jab,jac->jbc", pull + limit, self.axes, self.axes)
        slopes = np.einsum("jab,ja->jb", self.axes, pull * angles + limit * excess)
        for j in range(len(pose)):
            part = slice(3 * j, 3 * j + 3)
            hessian[part, part] += blocks[j]
            gradient[part] += slopes[j]
        return 0.5 * float((pull * angles**2 + limit * excess**2).sum())

    def _chain_terms(self, pose: FloatArray, hessian: FloatArray, gradient: FloatArray) -> float:
        cost, weight = 0.0, self.config.pose_weight / CHAIN_SIGMA**2
        for i, j in self.chains:
            difference = pose[i] - pose[j]
            a, b = np.arange(3 * i, 3 * i + 3), np.arange(3 * j, 3 * j + 3)
            hessian[a, a] += weight
            hessian[b, b] += weight
            hessian[a, b] -= weight
            hessian[b, a] -= weight
            gradient[a] += weight * difference
            gradient[b] -= weight * difference
            cost += 0.5 * weight * float(difference @ difference)
        return cost


def pose_prior(data: BodyData, config: PriorConfig | None = None) -> PosePrior:
    """Build the prior of a body from its joint names and rest skeleton; unknown names get wide limits."""
    num = len(data.joint_names)
    axes, sigma = np.tile(np.eye(3), (num, 1, 1)), np.full((num, 3), np.inf)
    low, high = np.full((num, 3), -np.inf), np.full((num, 3), np.inf)
    for j in range(num):
        if data.parents[j] < 0:
            continue
        rule = rule_of(data.joint_names[j])
        axes[j] = joint_axes(data, j)
        sigma[j], low[j], high[j] = (np.radians(x) for x in (rule.sigma, rule.low, rule.high))
        offset = rest_angles(data, j)
        low[j], high[j] = low[j] - offset, high[j] - offset
    caps = beta_caps(data)
    return PosePrior(
        axes, sigma, low, high, _chain_pairs(data), caps, _beta_limits(data, caps), config or PriorConfig()
    )


def beta_caps(data: BodyData) -> FloatArray:
    """Return how far nearly all people reach along each shape direction (K,); children go beyond three deviations."""
    if data.people is None:
        return np.full(data.shapedirs.shape[-1], BETA_CAPS[0])
    return np.clip(np.quantile(np.abs(data.people), 0.998, axis=0), *BETA_CAPS).astype(np.float64)


def extreme_share(data: BodyData, betas: Float[Tensor, " K"]) -> float:
    """Return the share of shape parameters that lie beyond those of nearly all people."""
    return float(np.mean(np.abs(betas.double().numpy()) > beta_caps(data)))


def _beta_limits(data: BodyData, caps: FloatArray) -> FloatArray:
    """Return how far anybody reaches: no sampled person lies beyond."""
    furthest = 0.0 if data.people is None else np.abs(data.people).max(0)
    return np.maximum(caps + 3 * BETA_CAP_SIGMA, furthest).astype(np.float64)


def rule_of(name: str) -> JointRule:
    """Return the rule of a joint by its name without its side: the longest key that the name starts with.

    Fingers that have no side belong to a hand of its own.
    """
    if _is_of_hand(name):
        return HAND_RULES.get(name, HAND_RULES[name[-1]])
    plain = name.removeprefix("left_").removeprefix("right_")
    keys = [key for key in RULES if plain.startswith(key)]
    return RULES[max(keys, key=len)] if keys else UNKNOWN


def joint_axes(data: BodyData, joint: int) -> Float64[np.ndarray, "3 3"]:
    """Return unit (twist, flex, side) of a joint as rows; the right side's are the mirror image of the left's.

    Flexion is positive: forward for spine, neck, hip, collar and arm, backward for the knee, upward for the foot,
    towards the palm for fingers. ``side`` is positive away from the body's middle (left side: it raises arm and leg
    sideways). Fingers that have no side are a right hand's: there ``side`` turns to the thumb, and the thumb away from
    the fingers; ``flex`` takes the thumb across the palm, which is where its pad looks.
    """
    name, bone = data.joint_names[joint], _bone_direction(data, joint)
    flex = np.cross(bone, _flexes_towards(data, joint))
    # Fingers rest too nearly straight for it: three degrees aside would tilt their hinge by fifteen.
    if _is_hinge(name) and not _is_of_hand(name):
        bend = np.cross(_bone_direction(data, int(data.parents[joint])), bone)
        # A limb that rests bent shows its hinge's axis itself.
        flex = bend if bend @ flex > np.sin(HINGE_SEEN) * np.linalg.norm(flex) else flex
    if np.linalg.norm(flex) < 1e-3:
        return np.eye(3)
    flex = flex / np.linalg.norm(flex)
    # Rotation vectors are axial: under a mirror the components along polar axes (twist, side) change sign.
    sign = -1.0 if name.startswith("right_") or _is_of_hand(name) else 1.0
    return np.stack([sign * bone, flex, sign * np.cross(flex, bone)])


def rest_angles(data: BodyData, joint: int) -> Float64[np.ndarray, " 3"]:
    """Return the angles (twist, flex, side) in radians that a joint already has in the rest pose; see ``JointRule``."""
    bone, axes = _bone_direction(data, joint), joint_axes(data, joint)
    name = data.joint_names[joint]
    if _is_hinge(name) or (_is_of_hand(name) and name != "thumb1"):
        straight = _bone_direction(data, int(data.parents[joint]))
        return np.array([0.0, np.arctan2(np.cross(straight, bone) @ axes[1], straight @ bone), 0.0])
    if name.endswith("shoulder"):
        return np.array([0.0, 0.0, np.arctan2(bone[1], abs(bone[0]))])
    return np.zeros(3)


def _is_hinge(name: str) -> bool:
    return name.endswith(("knee", "elbow")) or (name.endswith(("2", "3")) and "spine" not in name)


def _is_of_hand(name: str) -> bool:
    """Say whether a joint is a finger's of a hand that comes without a body, which is a right hand."""
    return name.startswith(FINGERS)


def _flexes_towards(data: BodyData, joint: int) -> FloatArray:
    """Return the direction that a joint's bone moves to when it flexes."""
    name = data.joint_names[joint]
    if _is_of_hand(name) and name.startswith("thumb"):
        return _across_palm(data)
    plain = name.removeprefix("left_").removeprefix("right_")
    if plain.startswith("knee"):
        return np.array([0.0, 0.0, -1.0])
    if plain.startswith(("ankle", "foot")):
        return np.array([0.0, 1.0, 0.0])
    if plain.startswith(("wrist", "hand", "index", "middle", "ring", "pinky", "thumb")):
        return _palm_direction(data, joint)
    return np.array([0.0, 0.0, 1.0])


def _palm_direction(data: BodyData, joint: int) -> FloatArray:
    """Return where the palm of a joint's hand faces: across fingers and knuckles.

    A hand without fingers, as SMPL's, faces down where the arm is held sideways, else forward.
    """
    name = data.joint_names[joint]
    side = "" if _is_of_hand(name) else "right_" if name.startswith("right_") else "left_"
    names = list(data.joint_names)
    if f"{side}index1" not in names or f"{side}pinky1" not in names:
        is_sideways = abs(_bone_direction(data, joint)[0]) > np.cos(np.radians(30))
        return np.array([0.0, -1.0, 0.0]) if is_sideways else np.array([0.0, 0.0, 1.0])
    index, pinky = (np.asarray(data.J_template[names.index(f"{side}{f}1")], np.float64) for f in ("index", "pinky"))
    wrist = np.asarray(data.J_template[data.parents[names.index(f"{side}index1")]], np.float64)
    palm = np.cross((index + pinky) / 2 - wrist, index - pinky)
    return palm if side == "left_" else -palm


def _across_palm(data: BodyData) -> FloatArray:
    """Return the direction from the first knuckle to the last of a hand of its own."""
    first, last = (data.J_template[data.joint_names.index(name)] for name in ("index1", "pinky1"))
    return np.asarray(last - first, np.float64)


def _bone_direction(data: BodyData, joint: int) -> FloatArray:
    """Return the unit direction from a joint to its children, or from its parent to it at the end of a chain."""
    joints, parents = np.asarray(data.J_template, np.float64), np.asarray(data.parents)
    children = np.flatnonzero(parents == joint)
    bone = joints[children].mean(0) - joints[joint] if len(children) else joints[joint] - joints[parents[joint]]
    length = np.linalg.norm(bone)
    return bone / length if length > 1e-9 else np.array([0.0, 1.0, 0.0])


def _chain_pairs(data: BodyData) -> tuple[tuple[int, int], ...]:
    names = list(data.joint_names)
    pairs = [pair for chain in CHAINS for pair in pairwise(chain)]
    return tuple((names.index(a), names.index(b)) for a, b in pairs if a in names and b in names)
