"""What the image network sees: masked colours, the mask, and by configuration edges and keypoints."""

from typing import Protocol, runtime_checkable

import torch
from jaxtyping import Float
from torch import Tensor

CROP_FILL = 0.85
"""Share of a photo's crop that the longer side of the visible person takes, in training and in use."""

NUM_CHANNELS = {"rgb": 3, "mask": 1, "edges": 1}
HEAT_SIGMA = 0.03
"""Standard deviation of a keypoint's blob, unit frame: a hand's width on a person who fills the crop."""


@runtime_checkable
class InputSettings(Protocol):
    """Settings that say what a network sees; see ``ImageConfig``."""

    @property
    def inputs(self) -> tuple[str, ...]:
        """Names of the inputs, in order."""

    @property
    def keypoints(self) -> tuple[str, ...]:
        """Joints whose heat maps are seen."""


@runtime_checkable
class Sees(InputSettings, Protocol):
    """Settings of a network that sees photos."""

    @property
    def size(self) -> int:
        """Side of the photos, pixels."""


def num_inputs(config: InputSettings) -> int:
    """Return how many channels ``assemble`` makes.

    Raises:
        ValueError: an input has a name that nobody knows.
    """
    known = {**NUM_CHANNELS, "keypoints": len(config.keypoints)}
    unknown = sorted(set(config.inputs) - set(known))
    if unknown or not config.inputs:
        raise ValueError(f"inputs: expected some of {', '.join(known)}, got {', '.join(unknown) or 'none'}")
    return sum(known[name] for name in config.inputs)


def assemble(
    image: Float[Tensor, "B 3 S S"],
    mask: Float[Tensor, "B 1 S S"],
    keypoints: Float[Tensor, "B K 3"] | None,
    config: InputSettings,
) -> Float[Tensor, "B C S S"]:
    """Join the inputs; nothing of the surroundings is left in them.

    Args:
        image: sRGB, 0 to 1.
        mask: How much each pixel is the person, 0 to 1.
        keypoints: x, y of the unit frame and confidence 0 to 1 of ``config.keypoints``; needed only if seen.
        config: Which inputs, in which order.
    """
    centred = (2 * image - 1) * mask
    parts: list[Tensor] = []
    for name in config.inputs:
        if name == "keypoints":
            blank = image.new_zeros(len(image), len(config.keypoints), 3)
            parts.append(heat_maps(blank if keypoints is None else keypoints, image.shape[-1]))
        else:
            parts.append({"rgb": centred, "mask": mask, "edges": edges(centred)}[name])
    return torch.cat(parts, 1)


def edges(image: Float[Tensor, "B C H W"]) -> Float[Tensor, "B 1 H W"]:
    """Return the length of the brightness's gradient, per pixel; zero at the border."""
    grey = image.mean(1, keepdim=True)
    across = 0.5 * (grey[..., 1:-1, 2:] - grey[..., 1:-1, :-2])
    down = 0.5 * (grey[..., 2:, 1:-1] - grey[..., :-2, 1:-1])
    return torch.nn.functional.pad((across**2 + down**2).sqrt(), (1, 1, 1, 1))


def heat_maps(keypoints: Float[Tensor, "B K 3"], size: int) -> Float[Tensor, "B K S S"]:
    """Draw a blob for each keypoint, as high as its confidence.

    Args:
        keypoints: x, y of the unit frame (y up), confidence.
        size: Side of the maps, pixels.
    """
    centres = (torch.arange(size, device=keypoints.device) + 0.5) * (2 / size) - 1
    across = (-0.5 * ((centres - keypoints[..., :1]) / HEAT_SIGMA) ** 2).exp()
    down = (-0.5 * ((-centres - keypoints[..., 1:2]) / HEAT_SIGMA) ** 2).exp()
    return keypoints[..., 2, None, None] * down[..., :, None] * across[..., None, :]
