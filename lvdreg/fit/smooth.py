"""Poses over time: as smooth as the scans are noisy, and as sharp as people move.

One least squares over all frames. Each frame measures all joints at once, with the full information of its own fit:
where a hip was turned too far the knee makes up for it, and only both together may be moved. From frame to frame
rotations and place go on as they went, but for accelerations that are drawn from a Gaussian of each joint's own width;
where a joint is jerked it is wider (Student's t, by reweighting). These widths, and one factor on all information, for
errors of scans are not as independent as a fit takes them to be, are those that make the measurements most likely
(expectation maximisation: Dempster, Laird and Rubin 1977; of smoothers: Shumway and Stoffer 1982).

Unknowns are small turns after each joint's rotation as it is, radians, and the place, metres; each round begins anew
where the last one ended, so turns of any size are no trouble. The normal equations tie a frame to two before and two
after: they are solved block by block, and the blocks of their inverse on the band are found as Takahashi (1973) does.
Long sequences are solved window by window; windows overlap by more than what one frame knows of another.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Float64
from scipy.spatial.transform import Rotation

from lvdreg.base.shapes import BoolArray, FloatArray

SECOND = (1.0, -2.0, 1.0)
"""The second difference."""
REACH = len(SECOND) - 1
ROUNDS = 16
DEGREES = 4.0
"""Of freedom of Student's t."""
FIRST_WIDTH, LEAST_WIDTH = 0.02, 1e-4
"""One-sigma of accelerations, radians or metres by frame squared: what is begun with, and the least."""
WINDOW, MARGIN = 100, 40
"""Frames that are solved for at once, and those more on each side whose solution is another window's."""
UNKNOWN = 1e-9
"""As a share of the largest information: what holds that of which nothing is known."""


@dataclass(frozen=True)
class Measured:
    """What the frames tell, each by itself.

    Attributes:
        pose: (N, J, 3) rotation vectors; any where nothing was seen.
        place: (N, 3) metres.
        information: Of each frame (Q, Q), of small turns after the J rotations and of the place, Q = 3 J + 3; None
            where nothing was seen.
        freedom: (N,) of how many of the Q the scan tells.
    """

    pose: Float64[np.ndarray, "N J 3"]
    place: Float64[np.ndarray, "N 3"]
    information: Sequence[Float[np.ndarray, "Q Q"] | None]
    freedom: Float64[np.ndarray, " N"]


@dataclass(frozen=True)
class Smoothed:
    """What is known of each frame, all frames considered.

    Attributes:
        pose: (N, J, 3) rotation vectors.
        place: (N, 3) metres.
        spread: (N,) what was asked for of each covariance.
        widths: (J + 1,) one-sigma of accelerations, of the joints and of the place.
        scale: One-sigma of measurements, as a multiple of what their information says.
    """

    pose: Float64[np.ndarray, "N J 3"]
    place: Float64[np.ndarray, "N 3"]
    spread: Float64[np.ndarray, " N"]
    widths: Float64[np.ndarray, " G"]
    scale: float


Spread = Callable[[FloatArray, FloatArray, FloatArray], float]
"""From pose, place and covariance (Q, Q) of a frame to what is wanted of it."""


def smooth_poses(measured: Measured, spread: Spread, rounds: int = ROUNDS) -> Smoothed:
    """Smooth rotations and places over time.

    Args:
        measured: What the frames tell, at least one of them something.
        spread: Called once for each frame.
        rounds: Of solving and of finding widths and scale.
    """
    seen = np.array([information is not None for information in measured.information])
    where = _Path.of(measured, seen)
    now, num_bends = where, max(len(seen) - REACH, 0)
    process = _Process(np.full(now.num_groups, FIRST_WIDTH), np.ones((num_bends, now.num_groups)), 1.0)
    for i in range(rounds):
        found = _solved(measured.information, now, where, process, spread if i == rounds - 1 else None)
        now = now.moved(found.steps)
        if num_bends:
            process = process.likelier(found, float(measured.freedom[seen].sum()))
    return Smoothed(now.pose, now.place, found.spread, process.widths, process.scale)


@dataclass(frozen=True)
class _Path:
    """Rotations and places of all frames: ``rotations`` (N J) in a row, ``place`` (N, 3)."""

    rotations: Rotation
    place: FloatArray

    @classmethod
    def of(cls, measured: Measured, seen: BoolArray) -> "_Path":
        """Return what was measured; frames that were not seen lie between their neighbours."""
        pose, place, index = measured.pose.copy(), measured.place.copy(), np.flatnonzero(seen)
        for t in np.flatnonzero(~seen):
            later = int(np.searchsorted(index, t))
            a, b = index[max(later - 1, 0)], index[min(later, len(index) - 1)]
            share, start = (0.0 if a == b else (t - a) / (b - a)), Rotation.from_rotvec(pose[a])
            step = (start.inv() * Rotation.from_rotvec(pose[b])).as_rotvec()
            pose[t] = (start * Rotation.from_rotvec(share * step)).as_rotvec()
            place[t] = (1 - share) * place[a] + share * place[b]
        return cls(Rotation.from_rotvec(pose.reshape(-1, 3)), place)

    @property
    def num_groups(self) -> int:
        """Joints, and one more: the place."""
        return len(self.rotations) // len(self.place) + 1

    @property
    def pose(self) -> Float64[np.ndarray, "N J 3"]:
        """Rotation vectors."""
        return np.asarray(self.rotations.as_rotvec()).reshape(len(self.place), -1, 3)

    def moved(self, steps: Float64[np.ndarray, "N G 3"]) -> "_Path":
        """Return the path after small turns and moves."""
        turned = self.rotations * Rotation.from_rotvec(steps[:, :-1].reshape(-1, 3))
        return _Path(turned, self.place + steps[:, -1])

    def offsets_to(self, other: "_Path") -> Float64[np.ndarray, "N G 3"]:
        """Return the turns and moves that lead to another."""
        turns = (self.rotations.inv() * other.rotations).as_rotvec().reshape(len(self.place), -1, 3)
        return np.concatenate([turns, (other.place - self.place)[:, None]], 1)

    def bends(self) -> Float64[np.ndarray, "M G 3"]:
        """Return the accelerations (N - 2, J + 1, 3): how the step from one frame to the next changes."""
        matrices = self.rotations.as_matrix().reshape(len(self.place), -1, 3, 3)
        turned = Rotation.from_matrix((matrices[:-1].transpose(0, 1, 3, 2) @ matrices[1:]).reshape(-1, 3, 3))
        turns = turned.as_rotvec().reshape(len(matrices) - 1, self.num_groups - 1, 3)
        steps = np.concatenate([turns, np.diff(self.place, axis=0)[:, None]], 1)
        return np.diff(steps, axis=0)[: max(len(matrices) - REACH, 0)]


@dataclass(frozen=True)
class _Found:
    """What one round finds: ``steps`` (N, G, 3), the expected squared accelerations ``bent`` (N - 2, G), and the
    squares ``missed`` of what was measured, weighted by information; ``spread`` (N,)."""

    steps: FloatArray
    bent: FloatArray
    missed: float
    spread: FloatArray


@dataclass(frozen=True)
class _Process:
    """What accelerations are drawn from: ``widths`` (G,), how much narrower each Gaussian is by its ``weights``
    (N - 2, G), and the ``scale`` of measurements."""

    widths: FloatArray
    weights: FloatArray
    scale: float

    def likelier(self, found: _Found, freedom: float) -> "_Process":
        """Return the process under which what was found is most likely; ``freedom`` of all measurements together."""
        weights = (DEGREES + 3) / (DEGREES + found.bent / self.widths**2)
        widths = np.maximum(np.sqrt((weights * found.bent).mean(0) / 3), LEAST_WIDTH)
        return _Process(widths, weights, float(np.sqrt(max(found.missed, UNKNOWN) / max(freedom, 1.0))))


def _solved(
    information: Sequence[Float[np.ndarray, "Q Q"] | None],
    now: _Path,
    where: _Path,
    process: _Process,
    spread: Spread | None,
) -> _Found:
    """Solve window by window about the path as it is."""
    num, groups, pose = len(information), now.num_groups, now.pose
    offsets, bends, precision = now.offsets_to(where), now.bends(), process.weights / process.widths**2
    steps, bent = np.zeros((num, groups, 3)), np.zeros((max(num - REACH, 0), groups))
    missed, spreads = 0.0, np.zeros(num)
    for first in range(0, num, WINDOW):
        wide = slice(max(first - MARGIN, 0), min(first + WINDOW + MARGIN, num))
        inner = slice(wide.start, max(wide.stop - REACH, wide.start))
        held = [None if told is None else told / process.scale**2 for told in information[wide]]
        band = solve_band(held, offsets[wide], bends[inner], precision[inner])
        for t in range(first, min(first + WINDOW, num)):
            at, told = t - wide.start, information[t]
            steps[t] = band.steps[at]
            if t < len(bent):
                bent[t] = band.bent(bends[t], at)
            if told is not None:
                left = (offsets[t] - steps[t]).ravel()
                missed += float(left @ told @ left) + float(np.vdot(told, band.blocks[at][0]))
            if spread is not None:
                spreads[t] = spread(pose[t], now.place[t], band.blocks[at][0])
    return _Found(steps, bent, missed, spreads)


@dataclass(frozen=True)
class Band:
    """The solution of a window.

    Attributes:
        steps: (N, G, 3).
        blocks: Of each frame t the covariance of t + k and t, (Q, Q), for each k from 0 to ``REACH`` that there is.
    """

    steps: Float64[np.ndarray, "N G 3"]
    blocks: list[list[FloatArray]]

    def bent(self, bend: Float64[np.ndarray, "G 3"], t: int) -> Float64[np.ndarray, " G"]:
        """Return the expected squared accelerations (G,) of frames t to t + 2, which were ``bend`` before the steps."""
        mean = bend + sum(share * self.steps[t + k] for k, share in enumerate(SECOND))
        variance = sum(
            (1 if a == b else 2) * SECOND[a] * SECOND[b] * np.diagonal(self.blocks[t + a][b - a])
            for a in range(REACH + 1)
            for b in range(a, REACH + 1)
        )
        return np.asarray((mean**2 + np.reshape(variance, mean.shape)).sum(-1))


def solve_band(
    information: Sequence[Float[np.ndarray, "Q Q"] | None],
    offsets: Float64[np.ndarray, "N G 3"],
    bends: Float64[np.ndarray, "M G 3"],
    precision: Float64[np.ndarray, "M G"],
) -> Band:
    """Find the steps x of all frames that minimise the sum of (x - offset)' information (x - offset) over frames and
    precision |bend + x[t] - 2 x[t + 1] + x[t + 2]|^2 over accelerations, and their covariance on the band.

    Args:
        information: (Q, Q) of each frame, Q = 3 G; None of one that tells nothing.
        offsets: Where the frames by themselves would be.
        bends: Accelerations without a step, M = N - 2 if that is positive.
        precision: Of accelerations.
    """
    num, size = len(offsets), offsets[0].size
    ties = np.zeros((REACH + 1, num, size))
    each = np.repeat(precision, 3, axis=1)
    right, pulls = np.zeros((num, size)), each * bends.reshape(len(bends), size)
    for a, share in enumerate(SECOND[: REACH + 1]):
        ends = slice(a, a + len(bends))
        right[ends] -= share * pulls
        for k in range(REACH + 1 - a):
            ties[k, ends] += share * SECOND[a + k] * each
    floor = UNKNOWN * max((float(told.diagonal().max()) for told in information if told is not None), default=1.0)
    factors = list[list[FloatArray]]()
    for t, told in enumerate(information):
        own = np.diag(ties[0, t] + floor)
        if told is not None:
            own += told
            right[t] += told @ offsets[t].ravel()
        factors.append(_factor(factors, own, [np.diag(ties[k, t]) for k in range(1, min(REACH, num - 1 - t) + 1)]))
        for k in range(1, min(REACH, t) + 1):
            right[t] -= factors[t - k][k] @ right[t - k]
        right[t] = factors[t][0] @ right[t]
    blocks = list[list[FloatArray]]([] for _ in range(num))
    for t in range(num - 1, -1, -1):
        for k in range(1, len(factors[t])):
            right[t] -= factors[t][k].T @ right[t + k]
        right[t] = factors[t][0].T @ right[t]
        blocks[t] = _inverse(factors[t], blocks[t + 1 :])
    return Band(right.reshape(offsets.shape), blocks)


def _factor(before: list[list[FloatArray]], own: FloatArray, below: list[FloatArray]) -> list[FloatArray]:
    """Return the next column of the Cholesky factor's band: the inverse of the block on the diagonal, then those below.

    Args:
        before: The columns up to here.
        own: Block (Q, Q) on the matrix's diagonal.
        below: Blocks under it.
    """
    for k in range(1, min(REACH, len(before)) + 1):
        column = before[-k]
        own = own - column[k] @ column[k].T
        below = [
            block - column[k + i] @ column[k].T if k + i < len(column) else block for i, block in enumerate(below, 1)
        ]
    inverse = np.linalg.inv(np.linalg.cholesky(own))
    return [inverse, *(block @ inverse.T for block in below)]


def _inverse(column: list[FloatArray], after: list[list[FloatArray]]) -> list[FloatArray]:
    """Return the inverse's blocks in a column, from the diagonal down, given those ``after`` it (Takahashi 1973)."""
    inverse, *below = column
    shares = [block @ inverse for block in below]
    found = list[FloatArray]()
    for i in range(len(below)):
        block = np.zeros_like(inverse)
        for k, share in enumerate(shares):
            known = after[min(i, k)][abs(i - k)]
            block -= (known if i >= k else known.T) @ share
        found.append(block)
    own = inverse.T @ inverse
    for share, block in zip(shares, found, strict=True):
        own = own - share.T @ block
    return [(own + own.T) / 2, *found]
