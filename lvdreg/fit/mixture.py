"""Which poses people take: a mixture of Gaussians over the angles of a body's joints, learnt once and shipped.

SMPLify's pose prior (Bogo et al., "Keep it SMPL", 2016, section 3.2) in the angles of fit/priors.py, along each bone
and across it and counted from straight limbs, so that one mixture serves bodies that rest in an A-pose or in a T-pose.
Learnt from poses that lvdreg draws, not from anybody's recordings: scripts/build_pose_prior.py.
"""

from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path

import numpy as np
from jaxtyping import Float64, Int64

from lvdreg.base.arrays import expect, read_npz, write_npz
from lvdreg.base.assets import assets_dir
from lvdreg.base.errors import BodyError
from lvdreg.base.provenance import FileHashes, sha256_of
from lvdreg.base.shapes import FloatArray
from lvdreg.base.text import one_line
from lvdreg.body.model import FINGERS, BodyData
from lvdreg.fit.priors import joint_axes, rest_angles

SHIPPED = Path("priors") / "photo-poses.npz"


@dataclass(frozen=True)
class PoseMixture:
    """A mixture of Gaussians over joint angles, radians.

    Attributes:
        joints: Names of the joints whose three angles (twist, flex, side) stand in a row, D = 3 len(joints).
        log_weights: (M,) logarithms of the shares.
        means: (M, D).
        whitening: (M, D, D) lower triangular; ``whitening @ (angles - mean)`` is standard normal.
    """

    joints: tuple[str, ...]
    log_weights: Float64[np.ndarray, " M"]
    means: Float64[np.ndarray, "M D"]
    whitening: Float64[np.ndarray, "M D D"]

    @property
    def constants(self) -> Float64[np.ndarray, " M"]:
        """What each component costs at its own mean, 0 for the cheapest: -log of weight over spread."""
        cost = -self.log_weights - np.log(np.diagonal(self.whitening, axis1=1, axis2=2)).sum(1)
        return np.asarray(cost - cost.min())

    def log_density(self, angles: Float64[np.ndarray, "B D"]) -> Float64[np.ndarray, " B"]:
        """Return the logarithm of the density of angles (B, D)."""
        each = self._log_joint(angles)
        most = each.max(1)
        return np.asarray(most + np.log(np.exp(each - most[:, None]).sum(1)))

    def _log_joint(self, angles: FloatArray) -> FloatArray:
        white = np.einsum("mij,bmj->bmi", self.whitening, angles[:, None] - self.means)
        spread = np.log(np.diagonal(self.whitening, axis1=1, axis2=2)).sum(1) - 0.5 * angles.shape[1] * np.log(
            2 * np.pi
        )
        return np.asarray(self.log_weights + spread - 0.5 * (white**2).sum(-1))

    def improved(self, angles: Float64[np.ndarray, "B D"], floor: float) -> "PoseMixture":
        """Take one step of expectation maximisation (Dempster et al. 1977).

        Args:
            angles: (B, D) samples.
            floor: Standard deviation, radians, that is added to every direction: none is known better.
        """
        joint = self._log_joint(angles)
        share = np.exp(joint - joint.max(1, keepdims=True))
        share /= share.sum(1, keepdims=True)
        total = share.sum(0) + 1e-9
        means = share.T @ angles / total[:, None]
        return replace(
            self,
            log_weights=np.log(total / total.sum()),
            means=means,
            whitening=np.stack(
                [_whitening(angles - mean, weight, floor) for mean, weight in zip(means, share.T, strict=True)]
            ),
        )

    @classmethod
    def single(cls, joints: tuple[str, ...], angles: Float64[np.ndarray, "B D"], floor: float) -> "PoseMixture":
        """Return the one Gaussian of samples."""
        mean = angles.mean(0)
        whitening = _whitening(angles - mean, np.ones(len(angles)), floor)
        return cls(joints, np.zeros(1), mean[None], whitening[None])

    def split(self, angles: Float64[np.ndarray, "B D"], chosen: Int64[np.ndarray, " M"]) -> "PoseMixture":
        """Return as many components as samples are chosen, around these, each as wide as this one Gaussian."""
        count = len(chosen)
        return replace(
            self,
            log_weights=np.full(count, -np.log(count)),
            means=angles[chosen],
            whitening=np.repeat(self.whitening[:1], count, 0),
        )

    def save(self, path: Path) -> None:
        """Write the mixture without pickles, in single precision."""
        arrays = {"log_weights": self.log_weights, "means": self.means, "whitening": self.whitening}
        write_npz(path, {"joints": np.array(self.joints), **{k: v.astype(np.float32) for k, v in arrays.items()}})

    @classmethod
    def load(cls, path: Path) -> "PoseMixture":
        """Read what ``save`` wrote.

        Raises:
            BodyError: the file is missing or holds something else.
        """
        try:
            stored = read_npz(path)
            joints = expect(stored, "joints", "U", (None,))
            count, size = len(expect(stored, "log_weights", "f", (None,))), 3 * len(joints)
            shapes = {"log_weights": (count,), "means": (count, size), "whitening": (count, size, size)}
            arrays = [expect(stored, name, "f", shape).astype(np.float64) for name, shape in shapes.items()]
        except (OSError, ValueError) as error:
            reason = one_line(str(error))[:200]
            raise BodyError(f"{path}: expected a pose prior of lvdreg ({reason}); install lvdreg anew") from error
        return cls(tuple(map(str, joints)), *arrays)


def _whitening(offsets: FloatArray, weights: FloatArray, floor: float) -> FloatArray:
    """Return lower triangular W with W offset standard normal, of samples (B, D) that count so much (B,)."""
    covariance = (offsets * (weights / weights.sum())[:, None]).T @ offsets + floor**2 * np.eye(offsets.shape[1])
    return np.asarray(np.linalg.inv(np.linalg.cholesky(covariance)))


@cache
def shipped_mixture() -> PoseMixture:
    """Return the shipped mixture.

    Raises:
        BodyError: its file is missing.
    """
    return PoseMixture.load(assets_dir() / SHIPPED)


def mixture_file() -> FileHashes:
    """Return the SHA-256 of the shipped mixture's file, by its name."""
    return {SHIPPED.as_posix(): sha256_of(assets_dir() / SHIPPED)}


@dataclass(frozen=True)
class JointAngles:
    """From rotation vectors of a body's joints to the angles of a mixture: ``axes @ pose + offset``.

    Attributes:
        rows: (Q,) joints of the body that the mixture knows.
        known: (Q,) which of the mixture's joints these are.
        axes: (Q, 3, 3) rows twist, flex and side.
        offset: (Q, 3) the angles of the rest pose.
    """

    rows: Int64[np.ndarray, " Q"]
    known: Int64[np.ndarray, " Q"]
    axes: Float64[np.ndarray, "Q 3 3"]
    offset: Float64[np.ndarray, "Q 3"]

    @classmethod
    def of(cls, data: BodyData, joints: tuple[str, ...]) -> "JointAngles":
        """Find the joints on a body by their names."""
        names = list(data.joint_names)
        pairs = [(names.index(name), i) for i, name in enumerate(joints) if name in names]
        rows, known = (np.array(column, np.int64) for column in zip(*pairs, strict=True))
        axes = np.stack([joint_axes(data, int(j)) for j in rows])
        return cls(rows, known, axes, np.stack([rest_angles(data, int(j)) for j in rows]))

    def __call__(self, pose: Float64[np.ndarray, "B J 3"]) -> Float64[np.ndarray, "B D"]:
        """Return the angles (B, 3 Q) of rotation vectors (B, J, 3)."""
        return np.asarray(np.einsum("qab,nqb->nqa", self.axes, pose[:, self.rows]) + self.offset).reshape(len(pose), -1)


def joints_of_pose(data: BodyData) -> tuple[str, ...]:
    """Return the joints that a pose prior is about: neither root nor fingers."""
    return tuple(
        name
        for name in data.joint_names[1:]
        if not name.removeprefix("left_").removeprefix("right_").startswith(FINGERS)
    )
