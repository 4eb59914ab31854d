"""The focal length that a photo's EXIF data give: untrusted, often missing, and wrong once a photo was cropped."""

import math
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from PIL.Image import Image

FULL_FRAME_MM = math.hypot(36, 24)
"""Diagonal of 35 mm film, to which equivalent focal lengths refer (CIPA DCG-001)."""
MM35 = 8.0, 2000.0
"""Focal lengths that there are, millimetres on 35 mm film."""
EXIF_IFD, FOCAL, FOCAL_35MM, WIDTH, HEIGHT = 0x8769, 0x920A, 0xA405, 0xA002, 0xA003
PLANE_RESOLUTION, PLANE_UNIT = 0xA20E, 0xA210
"""EXIF tags."""
PLANE_UNITS_MM = {2: 25.4, 3: 10.0, 4: 1.0, 5: 0.001}
"""Millimetres by number of the unit of sensors' resolutions."""
SAME_SHAPE = 1.02
"""Photos whose sides have another ratio than those in the EXIF data, by more than this factor, were cropped."""


def focal_mm35(image: "Image", notes: list[str]) -> float | None:
    """Return the focal length that EXIF data give, as millimetres on 35 mm film, by the diagonal.

    The equivalent focal length counts first (FocalLengthIn35mmFilm), else the true one with the sensor's resolution
    (FocalLength, FocalPlaneXResolution). Both are of the whole picture, so turning and reducing changes neither.

    Args:
        image: As opened.
        notes: Takes a line where what the data say is not used.

    Returns:
        The focal length; None where there is none, where it makes no sense, or where the photo was cropped.
    """
    tags = image.getexif().get_ifd(EXIF_IFD)
    if not {FOCAL, FOCAL_35MM} & set(tags):
        return None
    own = [_positive(tags.get(tag)) for tag in (WIDTH, HEIGHT)]
    sides = own if min(own) > 0 else [float(side) for side in image.size]
    ratios = [max(x) / min(x) for x in (image.size, sides)]
    if max(ratios) > SAME_SHAPE * min(ratios):
        notes.append("the focal length in its EXIF data was not used: they are of a photo of another shape")
        return None
    found = _positive(tags.get(FOCAL_35MM))
    focal, resolution, unit = (_positive(tags.get(tag, 0)) for tag in (FOCAL, PLANE_RESOLUTION, PLANE_UNIT))
    if not found and focal and resolution:
        found = focal * resolution / PLANE_UNITS_MM.get(int(unit or 2), math.inf) / math.hypot(*sides) * FULL_FRAME_MM
    if MM35[0] <= found <= MM35[1]:
        return found
    # Zero means unknown, and a focal length alone tells nothing without the sensor's size.
    if found or tags.get(FOCAL_35MM) or (focal and PLANE_RESOLUTION in tags):
        notes.append("the focal length in its EXIF data was not used: it makes no sense")
    return None


def _positive(value: Any) -> float:
    """Return a number of EXIF data; 0 for what is none, or not above zero and finite."""
    try:
        number = float(value)
    except (TypeError, ValueError, ArithmeticError):
        return 0.0
    return number if 0 < number < math.inf else 0.0
