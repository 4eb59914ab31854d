"""Training samples: clothed, scanned synthetic people and the bodies beneath."""

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from lvdreg.body.model import BodyModel, BodyParams, Posed
from lvdreg.descent.boxes import unit_box
from lvdreg.synth.clothes.layers import Wardrobe
from lvdreg.synth.people.poses import PoseSampler
from lvdreg.synth.scanner import scan_points


@dataclass(frozen=True)
class Samples:
    """A batch of synthetic scans, world frame, metres.

    Attributes:
        points: Scanned points.
        normals: Their outward unit normals; zeros where unknown.
        valid: Which points exist.
        vertices: The naked body's vertices.
        joints: Its joints.
    """

    points: Float[Tensor, "B P 3"]
    normals: Float[Tensor, "B P 3"]
    valid: Bool[Tensor, "B P"]
    vertices: Float[Tensor, "B V 3"]
    joints: Float[Tensor, "B J 3"]


class SynthStream:
    """Draws bodies and scans of them; the same generator state gives the same samples."""

    def __init__(self, body: BodyModel) -> None:
        """Prepare poses and clothes for a body."""
        self.body = body
        self.poses = PoseSampler(body)
        self.wardrobe = Wardrobe(body)
        people = body.data.people
        self.people = None if people is None else torch.as_tensor(people, device=body.faces.device)

    @torch.no_grad()
    def params(self, batch: int, generator: torch.Generator) -> BodyParams:
        """Draw shapes over the whole population and poses to go with them."""
        device = generator.device
        betas = self._betas(batch, generator)
        pose = self.poses.sample(betas, generator)
        return BodyParams(betas, pose, torch.zeros(batch, 3, device=device))

    def _betas(self, batch: int, generator: torch.Generator) -> Float[Tensor, "B K"]:
        """Draw shapes over the whole population."""
        return draw_betas(self.body, self.people, batch, generator)

    @torch.no_grad()
    def bodies(self, batch: int, generator: torch.Generator) -> Posed:
        """Draw posed naked bodies."""
        return self.body(self.params(batch, generator))

    @staticmethod
    def box(samples: Samples) -> tuple[Float[Tensor, " B"], Float[Tensor, "B 3"]]:
        """Return scale and centre of the box in which the network sees each sample: the scan's own bounding box."""
        return unit_box(samples.points, samples.valid)

    @torch.no_grad()
    def scans(self, batch: int, num_points: int, generator: torch.Generator) -> Samples:
        """Draw bodies, dress them and scan them."""
        posed = self.bodies(batch, generator)
        outer = self.wardrobe.dress(posed.vertices, generator)
        points, normals, valid = scan_points(outer, num_points, generator)
        return Samples(points, normals, valid, posed.vertices, posed.joints)


def draw_betas(
    body: BodyModel, people: Float[Tensor, "S K"] | None, batch: int, generator: torch.Generator
) -> Float[Tensor, "B K"]:
    """Draw shapes: half from the standard normal, half near sampled people (where there are any), children included."""
    device = generator.device
    betas = torch.randn(batch, body.num_betas, generator=generator, device=device).clamp(-3, 3)
    if people is None:
        return betas
    rows = torch.randint(len(people), (batch,), generator=generator, device=device)
    near_people = torch.rand(batch, 1, generator=generator, device=device) < 0.5
    return torch.where(near_people, people[rows] + 0.3 * betas, betas)
