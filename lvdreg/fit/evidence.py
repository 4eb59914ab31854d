"""What a photo shows of a person, at the size of a body that is held against it."""

from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Bool, Float64

from lvdreg.base.shapes import Faces, Vertices
from lvdreg.geometry.outline import MaskOutline, covered_cells
from lvdreg.image.camera import Camera
from lvdreg.image.crop import Crop

WIDER = 1.5
"""The picture in which masks are compared is so many times as wide as the crop: a limb beyond it counts, too."""


@dataclass(frozen=True)
class Evidence2D:
    """What a photo shows of a person, in the plane of the world: metres, x right, y up.

    Attributes:
        crop: The crop around the person.
        metres_per_unit: World metres by unit of the crop.
        outline: Of the mask, where it is the person's and not the end of the photo; None without a mask.
        keypoints: (33, 3) x, y and visibility; None without a pose.
        height: Of the person standing upright, metres, where it is known.
        sure: Names of keypoints that a person put in their place: they count however far they are.
    """

    crop: Crop
    metres_per_unit: float
    outline: MaskOutline | None
    keypoints: Float64[np.ndarray, "K 3"] | None
    height: float | None = None
    sure: frozenset[str] = frozenset()

    def resized(self, factor: float) -> "Evidence2D":
        """Return the same for a unit of the crop that is ``factor`` times as long."""
        outline = self.outline and MaskOutline(self.outline.points * factor, self.outline.normals)
        keypoints = None if self.keypoints is None else self.keypoints * [factor, factor, 1.0]
        return replace(self, metres_per_unit=self.metres_per_unit * factor, outline=outline, keypoints=keypoints)

    @property
    def camera(self) -> Camera:
        """What sees a body in the frame of the fit as the photo shows it: ``seen`` is in the plane of outlines."""
        return self.crop.camera(self.metres_per_unit)

    def within(self, points: Float64[np.ndarray, "N D"], margin: float) -> Bool[np.ndarray, " N"]:
        """Say which points, where they are seen, lie in the photo, and so many units of the crop from where it ends."""
        left, right, bottom, top = (border * self.metres_per_unit for border in self.crop.borders)
        gap = margin * self.metres_per_unit
        x, y = points[:, 0], points[:, 1]
        return (x > left + gap) & (x < right - gap) & (y > bottom + gap) & (y < top - gap)


def silhouette_iou(vertices: Vertices, faces: Faces, shown: Evidence2D) -> float:
    """Return the intersection over the union of body and mask, of what lies in the photo.

    Args:
        vertices: (V, 3) in the frame of the fit, metres.
        faces: (F, 3).
        shown: What the photo shows; its mask is compared wherever it came from.
    """
    crop = shown.crop
    small = crop.mask.shape[-1]
    size = int(np.ceil(WIDER * small / 2)) * 2
    wider = size / small
    body = covered_cells(shown.camera.seen(vertices) / shown.metres_per_unit / wider, faces, size)
    rim = (size - small) // 2
    mask = np.pad(crop.mask[0].numpy() >= 0.5, ((rim, size - small - rim), (rim, size - small - rim)))
    at = ((np.arange(size) + 0.5) / size * 2 - 1) * wider
    left, right, bottom, top = crop.borders
    inside = ((-at > bottom) & (-at < top))[:, None] & ((at > left) & (at < right))
    union = (body | mask) & inside
    return float((body & mask & inside).sum() / max(union.sum(), 1))
