"""A drawn man, seen from the front: simple, but the person networks know him."""

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFilter

SMOOTH = 4
Point = tuple[float, float]
JOINTS: dict[str, Point] = {
    "nose": (0, 32), "left_eye": (12, 24), "right_eye": (-12, 24), "left_shoulder": (48, 95),
    "right_shoulder": (-48, 95), "left_elbow": (82, 172), "right_elbow": (-82, 172), "left_wrist": (105, 250),
    "right_wrist": (-105, 250), "left_hip": (24, 240), "right_hip": (-24, 240), "left_knee": (28, 360),
    "right_knee": (-28, 360), "left_ankle": (32, 468), "right_ankle": (-32, 468),
}  # fmt: skip


class Canvas:
    """A picture and the mask of what was drawn on it."""

    def __init__(self, size: tuple[int, int], back: tuple[int, int, int] = (200, 205, 210)) -> None:
        self.size = size
        large = (size[0] * SMOOTH, size[1] * SMOOTH)
        self.image, self.mask = Image.new("RGB", large, back), Image.new("L", large)

    def limb(self, points: list[Point], width: float, colour: tuple[int, int, int]) -> None:
        places = [(x * SMOOTH, y * SMOOTH) for x, y in points]
        radius = width * SMOOTH / 2
        for picture, fill in ((self.image, colour), (self.mask, 255)):
            draw = ImageDraw.Draw(picture)
            draw.line(places, fill=fill, width=round(2 * radius))
            for x, y in places:
                draw.ellipse((x - radius, y - radius, x + radius, y + radius), fill=fill)

    def oval(self, centre: Point, half: Point, colour: tuple[int, int, int]) -> None:
        bounds = [(centre[i] + sign * half[i]) * SMOOTH for sign in (-1, 1) for i in (0, 1)]
        for picture, fill in ((self.image, colour), (self.mask, 255)):
            ImageDraw.Draw(picture).ellipse(bounds, fill=fill)

    def shape(self, points: list[Point], colour: tuple[int, int, int]) -> None:
        for picture, fill in ((self.image, colour), (self.mask, 255)):
            ImageDraw.Draw(picture).polygon([(x * SMOOTH, y * SMOOTH) for x, y in points], fill=fill)

    def arrays(self) -> tuple[NDArray[np.uint8], NDArray[np.bool_]]:
        """Colours (H, W, 3) and mask (H, W)."""
        image = self.image.resize(self.size, Image.Resampling.LANCZOS).filter(ImageFilter.GaussianBlur(0.7))
        mask = self.mask.resize(self.size, Image.Resampling.LANCZOS)
        return np.array(image), np.array(mask) > 127


def draw_man(
    canvas: Canvas, x: float, y: float, scale: float = 1.0, shirt: tuple[int, int, int] = (40, 80, 160)
) -> dict[str, Point]:
    """Draw him with the top of his head at (x, y - 24 scale); return his joints in pixels."""

    def at(*points: Point) -> list[Point]:
        return [(x + scale * a, y + scale * b) for a, b in points]

    skin, jeans, dark = (222, 180, 150), (40, 45, 60), (60, 40, 25)
    for side in (-1, 1):
        canvas.limb(at((22 * side, 240), (28 * side, 360), (30 * side, 470)), 34 * scale, jeans)
        canvas.limb(at((34 * side, 485), (46 * side, 490)), 18 * scale, (30, 20, 20))
        canvas.limb(at((52 * side, 100), (85 * side, 180), (105 * side, 250)), 20 * scale, skin)
        canvas.oval(at((110 * side, 268))[0], (10 * scale, 14 * scale), skin)
    canvas.shape(at((-55, 82), (55, 82), (42, 245), (-42, 245)), shirt)
    for side in (-1, 1):
        canvas.limb(at((48 * side, 92), (70 * side, 145)), 28 * scale, shirt)
    canvas.limb(at((0, 60), (0, 85)), 26 * scale, skin)
    canvas.oval(at((0, 20))[0], (36 * scale, 44 * scale), dark)
    canvas.oval(at((0, 30))[0], (31 * scale, 38 * scale), skin)
    for eye in (-12, 12):
        canvas.oval(at((eye, 24))[0], (6 * scale, 3.5 * scale), (250, 250, 250))
        canvas.oval(at((eye, 24))[0], (3 * scale, 3.2 * scale), dark)
        canvas.limb(at((eye - 7, 16), (eye + 7, 16)), 2.5 * scale, dark)
    canvas.limb(at((0, 26), (-3, 38), (3, 38)), 2 * scale, (190, 140, 115))
    canvas.limb(at((-9, 50), (0, 52), (9, 50)), 3.5 * scale, (170, 80, 80))
    return {name: at(point)[0] for name, point in JOINTS.items()}


def man(
    size: tuple[int, int] = (480, 640), x: float = 240, y: float = 60, scale: float = 1.0
) -> tuple[NDArray[np.uint8], NDArray[np.bool_], dict[str, Point]]:
    """One man: colours (H, W, 3), mask (H, W), joints in pixels."""
    canvas = Canvas(size)
    joints = draw_man(canvas, x, y, scale)
    return *canvas.arrays(), joints
