"""Do parts of a posed body pass through each other? Spheres within the body tell, roughly and fast."""

import math
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from lvdreg.body.model import BodyModel

_FINGERS = ("index", "middle", "ring", "pinky", "thumb")
_SHORTEST_BONE = 0.03
_SKIN_OF_A_SPHERE = 12
_APART_AT_REST = 0.02
_FOLD = 0.04
"""How far neighbouring parts may press into each other on top of the tolerance: a thigh into the belly."""


class _Sphere(NamedTuple):
    """A sphere of the mean person at rest: ``bone + share * (end - bone) + beyond`` moves with ``bone``."""

    bone: int
    end: int
    share: float
    beyond: Tensor
    radius: Tensor


class CollisionProxies:
    """Spheres along the limbs and across the trunk, sized by the skin; they follow each person's own joints."""

    tolerance = 0.035
    """Metres of overlap that soft flesh and clothes explain."""

    def __init__(self, body: BodyModel, spacing: float = 0.05) -> None:
        """Fill every part but the fingers with spheres about ``spacing`` apart."""
        self.body = body
        device = body.v_template.device
        spheres = self._limb_spheres(spacing) + self._trunk_spheres(spacing)
        self.bones, self.ends = (torch.tensor([s[i] for s in spheres], device=device) for i in (0, 1))
        self.shares = torch.tensor([s.share for s in spheres], device=device)
        self.beyond = torch.stack([s.beyond for s in spheres])
        self.radii = torch.stack([s.radius for s in spheres])
        self.length = self._length(body.J_template)
        self.pairs, self.slack = self._pairs()

    def _skin(self, bone: int) -> Float[Tensor, "N 3"]:
        """Return the vertices that follow this bone more than any other."""
        return self.body.v_template[self.body.weights.argmax(-1) == bone]

    def _in_the_middle(self, bone: int) -> bool:
        return abs(float(self.body.J_template[bone, 0])) < 1e-3

    def _limb_spheres(self, spacing: float) -> list[_Sphere]:
        """Lay spheres along bones away from the middle; their radius is how far the skin around them is."""
        joints, names = self.body.J_template, self.body.joint_names
        spheres: list[_Sphere] = []
        for end, bone in enumerate(self.body.parents):
            if bone < 0 or self._in_the_middle(bone) or any(finger in names[bone] for finger in _FINGERS):
                continue
            skin, length = self._skin(bone), float((joints[end] - joints[bone]).norm())
            count = max(int(length / spacing), 1)
            if length < _SHORTEST_BONE or len(skin) < 4:
                continue
            for share in ((k + 0.5) / count for k in range(count)):
                distance = (skin - joints[bone].lerp(joints[end], share)).norm(dim=-1)
                near = distance.topk(min(_SKIN_OF_A_SPHERE, len(skin)), largest=False).values
                spheres.append(_Sphere(bone, end, share, torch.zeros_like(joints[0]), 0.9 * near.mean()))
        return spheres

    def _trunk_spheres(self, spacing: float) -> list[_Sphere]:
        """Lay three spheres side by side in every slice of pelvis, spine, neck and head: bones run along the back."""
        joints = self.body.J_template
        ends = torch.tensor([0.05, 0.95], device=joints.device)
        spheres: list[_Sphere] = []
        for bone in filter(self._in_the_middle, range(len(self.body.parents))):
            skin = self._skin(bone)
            if len(skin) < 4:
                continue
            bottom, top = skin[:, 1].quantile(ends)
            for k in range(math.ceil(float(top - bottom) / spacing)):
                height = bottom + k * spacing
                near = skin[(skin[:, 1] - height).abs() < spacing]
                if len(near) < 4:
                    continue
                back, front = near[:, 2].quantile(ends)
                radius = 0.45 * (front - back)
                beside = (near[:, 0].abs().quantile(ends[1]) - radius).clamp_min(0)
                for side in (-1.0, 0.0, 1.0):
                    centre = torch.stack([side * beside, height, (back + front) / 2])
                    spheres.append(_Sphere(bone, bone, 0.0, centre - joints[bone], radius))
        return spheres

    def _pairs(self) -> tuple[Tensor, Tensor]:
        """Return the pairs of spheres (N, 2) that should stay apart, and how far each may overlap (N,).

        Neighbours that meet at rest may do as they like, and so may the parts of the trunk.
        """
        joints = self.body.J_template[None]
        rest = torch.eye(3, device=joints.device).expand(1, len(self.body.parents), 3, 3)
        centres, radii = self.spheres(joints, rest)
        gap = torch.cdist(centres, centres)[0] - radii[0] - radii[0, :, None]
        trunk = torch.tensor([self._in_the_middle(bone) for bone in self.bones.tolist()], device=joints.device)
        hops = self.hops(self.body.parents, joints.device)[self.bones][:, self.bones]
        watched = (hops > 3) | ((hops > 1) & (gap > _APART_AT_REST))
        pairs = torch.nonzero(torch.triu(watched & ~(trunk & trunk[:, None]), 1))
        first, second = pairs.unbind(-1)
        return pairs, _FOLD * (hops[first, second] <= 3)

    @staticmethod
    def hops(parents: tuple[int, ...], device: torch.device) -> Tensor:
        """Return how many bones lie between any two joints."""
        count = len(parents)
        hops = torch.full((count, count), 10_000, device=device)
        hops.fill_diagonal_(0)
        for child, parent in enumerate(parents):
            if parent >= 0:
                hops[child, parent] = hops[parent, child] = 1
        for k in range(count):
            hops = torch.minimum(hops, hops[:, k : k + 1] + hops[k])
        return hops

    @staticmethod
    def _length(joints: Float[Tensor, "*B J 3"]) -> Float[Tensor, "*B 1"]:
        """Return a length that grows with the person: how far the joints at rest are from their middle."""
        return (joints - joints.mean(-2, keepdim=True)).norm(dim=-1).mean(-1, keepdim=True)

    def spheres(
        self, joints: Float[Tensor, "B J 3"], rotations: Float[Tensor, "B J 3 3"]
    ) -> tuple[Float[Tensor, "B S 3"], Float[Tensor, "B S"]]:
        """Return the spheres of posed people: centres, pelvis at its rest place, and radii, metres.

        Args:
            joints: Rest joints.
            rotations: Of every joint relative to its parent.
        """
        size = self._length(joints) / self.length
        bones = joints[:, self.bones]
        rest = bones.lerp(joints[:, self.ends], self.shares[:, None]) + self.beyond * size[..., None]
        transforms = self.body.bone_transforms(rotations, joints, torch.zeros_like(joints[:, 0]))[:, self.bones]
        return (transforms[..., :3] @ rest[..., None]).squeeze(-1) + transforms[..., 3], self.radii * size

    def penetration(self, joints: Float[Tensor, "B J 3"], rotations: Float[Tensor, "B J 3 3"]) -> Float[Tensor, " B"]:
        """Return the deepest overlap of each posed body in metres, beyond what folds; arguments as for ``spheres``."""
        centres, radii = self.spheres(joints, rotations)
        first, second = self.pairs.unbind(-1)
        gap = (centres[:, first] - centres[:, second]).norm(dim=-1)
        return (radii[:, first] + radii[:, second] - gap - self.slack).amax(-1).clamp_min(0)
