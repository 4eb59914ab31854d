"""Exemplar fine-tuning (Joo et al., "Exemplar Fine-Tuning for 3D Human Model Fitting", 2020).

One photo trains a copy of a regressor's weights for a few steps, until what it says lies on the keypoints: the body
stays one that the network takes for likely in this very photo. Keypoints of hips and feet do not count, as they are
badly placed; instead the lower legs are to point where knees and ankles say.
"""

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, Float64
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.func import functional_call

from lvdreg.body.landmarks import body_of, landmarks_of
from lvdreg.body.model import BodyModel
from lvdreg.fit.landmarks import seen_landmarks
from lvdreg.image.crop import Crop
from lvdreg.image.regressor import Regressed, Regressor
from lvdreg.photo.keypoints import KEYPOINTS

IGNORED = ("hip", "ankle", "heel", "toe")
NORMS = (nn.GroupNorm, nn.LayerNorm)


@dataclass(frozen=True)
class EFTConfig:
    """Steps and weights: the paper's, but for the rate and ``is_whole``, chosen on drawn photos ("EFT" in LOG.md)."""

    steps: int = 20
    rate: float = 1e-4
    is_whole: bool = False
    """Whether all weights are tuned, as in the paper; else those that come after what the network makes of the photo,
    its maps: no worse, and ten times as fast."""
    enough: float = 2.0
    """Mean distance to the keypoints, pixels of the crop: nearer is near enough."""
    shape_weight: float = 1e-4
    """Of squared betas, where squared distances in the unit frame have 1."""
    min_visibility: float = 0.3
    min_keypoints: int = 4


@dataclass(frozen=True)
class Tuned:
    """What became of one photo.

    Attributes:
        said: What the regressor said as it was, and after every step.
        missed: Mean distance to the keypoints that count, pixels of the crop, of each.
        best: Which of them is nearest to what was asked for.
    """

    said: tuple[Regressed, ...]
    missed: tuple[float, ...]
    best: int


def copied_weights(net: nn.Module) -> dict[str, Tensor]:
    """Return a copy of a network's weights, by name, to be trained; without those of normalisation."""
    frozen = {name for name, part in net.named_modules() if isinstance(part, NORMS)}
    return {
        name: value.detach().clone().requires_grad_()
        for name, value in net.named_parameters()
        if name.rpartition(".")[0] not in frozen
    }


class _Teller(nn.Module):
    """Says of maps what a regressor says last."""

    def __init__(self, net: Regressor) -> None:
        super().__init__()
        self.net = net

    def forward(self, maps: list[Tensor]) -> Regressed:
        return self.net.told(maps)[-1]


class EFT:
    """Tunes regressors of one body to keypoints.

    Args:
        body: The body.
        config: Steps and weights.
        device: Of the regressors.
        at_joints: Whether keypoints mark the joints themselves, not what detectors and people see of them.
    """

    def __init__(
        self,
        body: BodyModel,
        config: EFTConfig | None = None,
        device: str | torch.device = "cpu",
        at_joints: bool = False,
    ) -> None:
        self.config = config or EFTConfig()
        landmarks, self.rows = landmarks_of(body.data, KEYPOINTS)
        landmarks = landmarks.at_joints() if at_joints else landmarks
        self.names = landmarks.names
        self.body = BodyModel(body_of(body.data, landmarks)).to(device)
        counts = [name.partition("_")[2] not in IGNORED for name in self.names]
        self.sure = torch.as_tensor(np.where(counts, landmarks.unsure**-2.0, 0.0)).to(self.body.v_template)
        sides = [[f"{side}_{name}" for name in ("knee", "ankle")] for side in ("left", "right")]
        self.legs = torch.tensor([[self.names.index(name) for name in leg] for leg in sides], device=device)

    def seen(self, crop: Crop, keypoints: NDArray[np.floating]) -> Float[Tensor, "L 3"]:
        """Return x, y of the unit frame and weight of the landmarks, of keypoints (33, 3) as ``photo.keypoints``."""
        found: Float64[np.ndarray, "L 3"] = seen_landmarks(crop, keypoints, self.rows, self.config.min_visibility)
        return torch.as_tensor(found).to(self.sure)

    def loss(self, said: Regressed, seen: Float[Tensor, "L 3"]) -> tuple[Float[Tensor, ""], Float[Tensor, ""]]:
        """Return what is minimised, and the mean distance to the keypoints that count, units of the crop.

        Args:
            said: Of one photo.
            seen: As of ``seen``.
        """
        places, weight = said.vertices(self.body)[0, :, :2], seen[:, 2] * self.sure
        apart = (places - seen[:, :2]).square().sum(-1)
        shins, seen_shins = (at[self.legs[:, 1]] - at[self.legs[:, 0]] for at in (places, seen[:, :2]))
        # As far as the ankle would be off if the leg had the length that is seen.
        length = seen_shins.norm(dim=-1, keepdim=True)
        turned = nn.functional.normalize(shins, dim=-1) * length - seen_shins
        leg_weight = seen[self.legs, 2].amin(1)
        total = (weight * apart).sum() + (leg_weight * turned.square().sum(-1)).sum()
        loss = total / (weight.sum() + leg_weight.sum()).clamp_min(1e-9)
        counted = (weight > 0).to(apart)
        missed = (counted * apart.detach().sqrt()).sum() / counted.sum().clamp_min(1)
        return loss + self.config.shape_weight * said.betas.square().mean(), missed

    def missed(self, said: Regressed, seen: Float[Tensor, "L 3"]) -> float | None:
        """Return the mean distance to the keypoints that count, units of the crop; None where there are none."""
        return float(self.loss(said, seen)[1]) if bool((seen[:, 2] * self.sure > 0).any()) else None

    def tune(
        self,
        net: Regressor,
        image: Float[Tensor, "1 3 S S"],
        mask: Float[Tensor, "1 1 S S"],
        keypoints: Float[Tensor, "1 K 3"],
        seen: Float[Tensor, "L 3"],
    ) -> Tuned:
        """Let one photo train a copy of a regressor's weights; the regressor stays what it is.

        Args:
            net: The regressor; its normalisation stays as it is.
            image: The crop; with ``mask`` and ``keypoints`` what the regressor sees.
            mask: How much each pixel is the person.
            keypoints: Those that the regressor sees.
            seen: Those that it is tuned to; see ``seen``.
        """
        pixels = self.config.enough / (image.shape[-1] / 2)
        with torch.no_grad():
            maps = net.looked(image, mask, keypoints)
        tuned: nn.Module = net if self.config.is_whole else _Teller(net)
        seen_by = (image, mask, keypoints) if self.config.is_whole else (maps,)
        weights = copied_weights(tuned)
        optimiser = torch.optim.Adam(weights.values(), lr=self.config.rate)
        said, losses, missed = list[Regressed](), list[float](), list[float]()
        for step in range(self.config.steps + 1):
            with torch.enable_grad():
                now: Regressed = functional_call(tuned, weights, seen_by)
                loss, apart = self.loss(now, seen)
            said.append(now.detached())
            losses.append(float(loss.detach()))
            missed.append(float(apart) * image.shape[-1] / 2)
            if not np.isfinite(losses[-1]) or float(apart) < pixels or step == self.config.steps:
                break
            optimiser.zero_grad(set_to_none=True)
            loss.backward()
            optimiser.step()
        return Tuned(tuple(said), tuple(missed), int(np.nanargmin(losses)) if np.isfinite(losses).any() else 0)
