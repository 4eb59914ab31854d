"""The image network: encoder and vertex field of one body, and what it was made for."""

from dataclasses import asdict, dataclass, field
from typing import Any

from jaxtyping import Float
from torch import Tensor, nn

from lvdreg.field import FieldConfig, VertexField
from lvdreg.image.encoder import ImageConfig, ImageEncoder, ImageFeatures
from lvdreg.image.inputs import assemble, num_inputs


@dataclass(frozen=True)
class ImageNetConfig:
    """Sizes of the network and the body whose vertices it predicts; stored in every checkpoint."""

    body: str = "anny"
    image: ImageConfig = field(default_factory=ImageConfig)
    field: FieldConfig = field(default_factory=lambda: FieldConfig(rank=96, num_log_sigmas=2))

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON values."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> "ImageNetConfig":
        """Rebuild from ``to_dict``; unknown keys raise TypeError."""
        image: dict[str, Any] = {k: tuple(v) if isinstance(v, list) else v for k, v in values["image"].items()}
        return cls(values["body"], ImageConfig(**image), FieldConfig.from_dict(values["field"]))


class ImageNet(nn.Module):
    """A cropped photo with its mask in, features to descend on out."""

    def __init__(self, config: ImageNetConfig, codes: Float[Tensor, "V R"]) -> None:
        """Build the network; ``codes`` are the initial vertex codes (``train.codes.pose_codes``)."""
        super().__init__()
        self.config = config
        self.encoder = ImageEncoder(config.image, num_inputs(config.image))
        of_field = config.field
        self.field = VertexField(
            self.encoder.num_features, codes, of_field.hidden, of_field.layers, of_field.num_log_sigmas
        )

    def features(
        self,
        image: Float[Tensor, "B 3 S S"],
        mask: Float[Tensor, "B 1 S S"],
        keypoints: Float[Tensor, "B K 3"] | None = None,
    ) -> ImageFeatures:
        """Encode crops.

        Args:
            image: sRGB, 0 to 1, surroundings included or not: the mask removes them.
            mask: How much each pixel is the person, 0 to 1.
            keypoints: x, y of the unit frame and confidence of ``config.image.keypoints``; none are seen when None.

        Returns:
            Features to be read at points of the unit frame: x right, y up, z towards the viewer.
        """
        return self.encoder(assemble(image, mask, keypoints, self.config.image))
