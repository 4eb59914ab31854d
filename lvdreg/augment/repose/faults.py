"""What can go wrong with a scan posed anew, measured: such samples are left out, and counted by kind of fault."""

from dataclasses import dataclass
from functools import lru_cache

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from lvdreg.augment.repose.bound import WEAK_STRETCH, Bound
from lvdreg.body.model import BodyParams
from lvdreg.geometry.frames import rotvec_to_rotmat
from lvdreg.synth.people.collisions import CollisionProxies
from lvdreg.synth.subjects import Subjects

LIMITS = {
    "not finite": 0.0,
    "stretched": 0.04,
    "torn": 0.15,
    "passes through itself": 0.008,
}
"""Most that is let pass, by kind. Shares of the scan's surface: with stretched triangles that remain; cut as webs; deep
in other parts of the body, more than it was in the scan; of vertices that are no numbers."""
DEEP = 0.03
"""So far within another part soft flesh and cloth give way, metres."""
APART_AT_REST = 0.02
"""Parts nearer than this to each other on the resting body may press into each other, metres."""


@dataclass(frozen=True)
class Fault:
    """Something wrong with a sample: ``amount`` is more than ``limit``.

    Attributes:
        kind: One of ``LIMITS``.
        amount: How much of the surface, 0 to 1.
        limit: How much would do.
    """

    kind: str
    amount: float
    limit: float

    def __str__(self) -> str:
        """Say it in a few words."""
        return f"{self.kind}: {100 * self.amount:.1f} % of the surface, over {100 * self.limit:g} %"


def inspect(bound: Bound, subjects: Subjects, sample: int = 0) -> list[Fault]:
    """Look for faults of one posed scan.

    Args:
        bound: The bound scan.
        subjects: What ``bound.pose`` returned.
        sample: Which of the batch.

    Returns:
        The faults, worst kinds first; empty where all is well.
    """
    amounts = measure(bound, subjects, sample)
    return [Fault(kind, amount, LIMITS[kind]) for kind, amount in amounts.items() if amount > LIMITS[kind]]


@torch.no_grad()
def measure(bound: Bound, subjects: Subjects, sample: int = 0) -> dict[str, float]:
    """Return how much of the surface of one posed scan shows each kind of fault, 0 to 1."""
    count, num_faces = len(bound.scan.base), len(bound.faces)
    vertices = subjects.outer.vertices[sample]
    bad = ~torch.isfinite(vertices).all(-1)
    if bad.any():
        return {"not finite": float(bad.float().mean())}
    keep = subjects.outer.face_keep[sample, :num_faces]
    share = bound.areas / bound.areas.sum()
    lengths, below = bound.stretches(vertices[None, :count], vertices[None, count:])
    limit = WEAK_STRETCH[0] * bound.lengths * below[0, :, None] + WEAK_STRETCH[1]
    stretched = (lengths[0] > limit).any(-1) & keep
    was, watch = _watch(bound)
    params = subjects.params
    one = BodyParams(params.betas[sample : sample + 1], params.pose[sample : sample + 1], params.transl[:1])
    inside = watch.share_inside(vertices[:count], one, subjects.joints[sample, 0])
    return {
        "not finite": 0.0,
        "stretched": float(share[stretched].sum()),
        "torn": float(share[~keep].sum()),
        "passes through itself": max(0.0, inside - was),
    }


class Watch:
    """Watches which vertices of a bound scan come to lie deep in parts of the body that are not theirs."""

    def __init__(self, bound: Bound) -> None:
        self.proxies = CollisionProxies(bound.body)
        self.strange = strangers(self.proxies)
        self.labels = bound.labels[: len(bound.scan.base)]
        spread = torch.zeros(len(self.labels), device=self.labels.device)
        for i in range(3):
            spread = spread.index_add(0, bound.faces[:, i], bound.areas / 3)
        self.share = spread / spread.sum()

    def share_inside(self, vertices: Float[Tensor, "N 3"], params: BodyParams, root: Float[Tensor, " 3"]) -> float:
        """Return the share of the scan's surface that is deep in strange parts.

        Args:
            vertices: The posed scan, world frame.
            params: A batch of one.
            root: Where joint 0 is in the world.
        """
        joints = self.proxies.body.rest(params.betas)[1]
        centres, radii = self.proxies.spheres(joints, rotvec_to_rotmat(params.pose))
        # Spheres stay where the root joint rests.
        depth = radii - torch.cdist(vertices - root + joints[0, 0], centres[0])
        deep = ((depth > DEEP) & self.strange[self.labels]).any(-1)
        return float(self.share[deep].sum())


def strangers(proxies: CollisionProxies) -> Bool[Tensor, "J S"]:
    """Say which spheres the skin of each joint should never be in: of no neighbour, and away from it at rest."""
    body = proxies.body
    eye = torch.eye(3, device=body.v_template.device).expand(1, body.num_joints, 3, 3)
    centres, radii = proxies.spheres(body.J_template[None], eye)
    gap = torch.cdist(body.v_template, centres[0]) - radii
    owner: Int[Tensor, " V"] = body.weights.argmax(-1)
    nearest = gap.new_full((body.num_joints, gap.shape[1]), torch.inf)
    nearest = nearest.scatter_reduce(0, owner[:, None].expand_as(gap), gap, "amin")
    hops = CollisionProxies.hops(body.parents, gap.device)[:, proxies.bones]
    return (hops > 1) & (nearest > APART_AT_REST) & torch.isfinite(nearest)


@lru_cache(maxsize=4)
def _watch(bound: Bound) -> tuple[float, Watch]:
    """Return what already lies in strange parts in the scan itself, and what watches over it."""
    watch = Watch(bound)
    posed = bound.body(bound.params)
    vertices = bound.scan.pose(bound.params, posed.Ts_world_rest)[0]
    return watch.share_inside(vertices, bound.params, posed.joints[0, 0]), watch
