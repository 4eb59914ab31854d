"""Do parts of a posed body pass through each other? Spheres along the bones tell, roughly and fast."""

import torch
from jaxtyping import Float
from torch import Tensor

from lvdreg.body.model import BodyModel

_FINGERS = ("index", "middle", "ring", "pinky", "thumb")
_SHORTEST_BONE = 0.03
_SKIN_OF_A_SPHERE = 12


class CollisionProxies:
    """Spheres along the bones, their radii taken from the skin; they follow each person's own joints."""

    tolerance = 0.035
    """Metres of overlap that soft flesh and clothes explain."""

    def __init__(self, body: BodyModel, spacing: float = 0.05) -> None:
        """Lay spheres along every bone longer than a finger's, and through the head and the toes."""
        self.body = body
        device = body.v_template.device
        owner = body.weights.argmax(-1)
        spheres: list[tuple[int, int, float]] = []
        beyond: list[Tensor] = []
        radii: list[Tensor] = []
        for bone, end, vector in self._bones(body):
            skin = body.v_template[owner == bone]
            count = max(int(vector.norm() / spacing), 1)
            if len(skin) < 4:
                continue
            for k in range(count):
                share = (k + 0.5) / count
                centre = body.J_template[bone] + share * vector
                near = (skin - centre).norm(dim=-1).topk(min(_SKIN_OF_A_SPHERE, len(skin)), largest=False).values
                spheres.append((bone, end, share))
                beyond.append(share * vector if end == bone else torch.zeros_like(vector))
                radii.append(near.mean() * 0.9)
        self.bones, self.ends = (torch.tensor([s[i] for s in spheres], device=device) for i in (0, 1))
        self.shares = torch.tensor([s[2] for s in spheres], device=device)
        self.beyond, self.radii = torch.stack(beyond), torch.stack(radii)
        hops = self._hops(body.parents).to(device)
        # Neighbours in the skeleton overlap by nature.
        self.pairs = torch.nonzero(torch.triu(hops[self.bones][:, self.bones] > 3, 1))
        self.length = self._length(body.J_template)

    @staticmethod
    def _bones(body: BodyModel) -> list[tuple[int, int, Tensor]]:
        """Return bone, the joint at its end and the vector between; a bone that ends in no joint is its own end."""
        joints, owner = body.J_template, body.weights.argmax(-1)
        bones = [(parent, child, joints[child] - joints[parent]) for child, parent in enumerate(body.parents)]
        for leaf in set(range(len(body.parents))) - set(body.parents):
            skin = body.v_template[owner == leaf]
            if len(skin):
                bones.append((leaf, leaf, 2 * (skin.mean(0) - joints[leaf])))
        return [
            (bone, end, vector)
            for bone, end, vector in bones
            if bone >= 0 and not any(f in body.joint_names[bone] for f in _FINGERS) and vector.norm() > _SHORTEST_BONE
        ]

    @staticmethod
    def _hops(parents: tuple[int, ...]) -> Tensor:
        """Return how many bones lie between any two joints."""
        count = len(parents)
        hops = torch.full((count, count), 10_000)
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
        """Return the deepest overlap of each posed body in metres; arguments as for ``spheres``."""
        centres, radii = self.spheres(joints, rotations)
        first, second = self.pairs.unbind(-1)
        gap = (centres[:, first] - centres[:, second]).norm(dim=-1)
        return (radii[:, first] + radii[:, second] - gap).amax(-1).clamp_min(0)
