"""The preview: scan, result and uncertainty from four sides of the person or the hand, in one picture."""

from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from scipy.spatial import cKDTree

from lvdreg.base.shapes import FloatArray, IntArray
from lvdreg.base.text import side_words
from lvdreg.base.threads import one_torch_thread, side_by_side
from lvdreg.geometry.frames import rotvec_to_rotmat, transform_directions, transform_points
from lvdreg.geometry.mesh import mesh_normals, unit_rows
from lvdreg.geometry.raster import Raster, rasterise, seen_values, splat
from lvdreg.result.data_scan import RegistrationData
from lvdreg.result.shade import depth_normals, halve, shade
from lvdreg.result.sheet import (
    BODY_COLOUR,
    CAPTION,
    FAINT,
    HEADER,
    MARGIN,
    Window,
    flat_image,
    font,
    footer,
    key_numbers,
    new_sheet,
    sigma_colours,
    sigma_top_mm,
)
from lvdreg.scan.clean import keep_points, thin_mesh
from lvdreg.scan.model import Scan

SCAN_COLOUR = np.array([0.80, 0.78, 0.75])
PANEL_PIXELS = 260 * 400
MAX_DRAWN_VERTICES, MAX_DRAWN_POINTS = 60_000, 60_000
# MANO's order, which every hand has: the wrist and the first joints of three fingers.
WRIST, INDEX, MIDDLE, PINKY = 0, 1, 4, 7
# Of a hand's scan so much is drawn around the hand, as a share of the hand's extent: an arm or a person behind it would
# shrink it to a speck.
HAND_SURROUNDINGS = 0.25
KEY_NUMBERS = {
    "point_to_surface_scan_to_registered_mm": "scan to surface {:.1f} mm",
    "point_to_surface_registered_to_scan_mm": "surface to scan {:.1f} mm",
    "seen_share": "{:.0%} of the {what} seen",
    "height_m": "{:.2f} m tall",
    "length_m": "{:.3f} m long",
}


@one_torch_thread()
def preview(registration: RegistrationData) -> Image.Image:
    """Draw scan, registered surface and uncertainty from four sides: front, left, back and right of a person who stands
    upright whatever the axes of the file; palm, thumb, back and finger tips of a hand whose fingers point up.
    """
    is_hand = registration.side is not None
    T_model_scan = np.linalg.inv(registration.T_scan_model).astype(np.float64)
    result = _result_shape(registration, T_model_scan)
    points = transform_points(T_model_scan, registration.scan.points)
    shown = _around(points, result.points) if is_hand else np.ones(len(points), bool)
    scan = _scan_shape(registration, points, shown)
    top_mm = sigma_top_mm(registration.sigma_mm)
    skins = [np.broadcast_to(BODY_COLOUR, result.points.shape), sigma_colours(registration.sigma_mm, top_mm) / 255]
    cameras = cameras_of(stance_of(registration))
    frame = frame_of([scan, result], cameras)
    todo = [
        (shape, colours, camera) for shape, colours in ((scan, [scan.colours]), (result, skins)) for camera in cameras
    ]
    drawn = side_by_side(lambda about: pictures(*about, frame), todo)
    of_scan, of_result = drawn[: len(cameras)], drawn[len(cameras) :]
    panels = [[picture for drawn_once in of_scan for picture in drawn_once], *map(list, zip(*of_result, strict=True))]
    rows = ("scan" if shown.all() else "scan, cut around the hand", registration.model, "uncertainty")
    return _compose(registration, dict(zip(rows, panels, strict=True)), [camera.name for camera in cameras], top_mm)


@dataclass(frozen=True)
class Shape:
    """What is drawn, model frame (metres): a mesh, or points where ``faces`` is None."""

    points: FloatArray
    faces: IntArray | None
    normals: FloatArray | None
    colours: FloatArray
    spacing: float = 0.0


@dataclass(frozen=True)
class Frame:
    """What all panels share: the window, and its centre (4, 2) by column."""

    centres: FloatArray
    window: Window


@dataclass(frozen=True)
class Camera:
    """An orthographic view; the rows of ``rotation`` are right, up and towards the viewer, in the model frame."""

    name: str
    column: int
    rotation: FloatArray


def _scan_shape(registration: RegistrationData, points: FloatArray, shown: NDArray[np.bool_]) -> Shape:
    """Take what is ``shown`` (P,) of the scan, whose points (P, 3) are in the model frame."""
    scan = keep_points(replace(registration.scan, points=points), shown)
    if scan.faces is not None:
        # Finer than pixels it would look no better, and take several times as long.
        scan = thin_mesh(scan, MAX_DRAWN_VERTICES)
        assert scan.faces is not None
        return Shape(scan.points, scan.faces, mesh_normals(scan.points, scan.faces), _colours(scan))
    keep = np.random.default_rng(0).permutation(len(scan.points))[:MAX_DRAWN_POINTS]
    normals = None
    if scan.normals is not None:
        normals = transform_directions(np.linalg.inv(registration.T_scan_model).astype(np.float64), scan.normals[keep])
    some = scan.points[keep]
    return Shape(some, None, normals, _colours(scan)[keep], point_spacing(some))


def point_spacing(points: FloatArray) -> float:
    """Return how far points (P, 3) lie apart: the median distance to the sixth neighbour."""
    nearest = cKDTree(points).query(points[:2000], k=min(7, len(points)))[0]
    return float(np.median(np.atleast_2d(nearest)[:, -1]))


def _colours(scan: Scan) -> FloatArray:
    return np.broadcast_to(SCAN_COLOUR, scan.points.shape) if scan.colors is None else scan.colors / 255


def _around(points: FloatArray, hand: FloatArray) -> NDArray[np.bool_]:
    """Say which points (P, 3) lie around a hand (V, 3); all of them if none does."""
    hand = hand[np.isfinite(hand).all(1)]
    if not len(hand):
        return np.ones(len(points), bool)
    low, high = hand.min(0), hand.max(0)
    reach = HAND_SURROUNDINGS * (high - low).max()
    near = ((points > low - reach) & (points < high + reach)).all(1)
    return near if near.any() else ~near


def _result_shape(registration: RegistrationData, T_model_scan: FloatArray) -> Shape:
    points = transform_points(T_model_scan, registration.vertices)
    return Shape(points, registration.faces, mesh_normals(points, registration.faces), np.empty((0, 3)))


@dataclass(frozen=True)
class Stance:
    """How a person or a hand stands in the model's frame.

    Attributes:
        rotation: (3, 3) of the whole.
        joints: (J, 3) metres.
        side: Of a hand; None of a person.
    """

    rotation: FloatArray
    joints: FloatArray
    side: str | None


def stance_of(registration: RegistrationData) -> Stance:
    """Return how the one who was registered stands."""
    rotvec = np.asarray(registration.params.get("global_orient", np.zeros(3)), np.float64).reshape(3)
    rotation = np.nan_to_num(rotvec_to_rotmat(torch.from_numpy(rotvec)).numpy())
    T_model_scan = np.linalg.inv(registration.T_scan_model).astype(np.float64)
    return Stance(rotation, transform_points(T_model_scan, registration.joints), registration.side)


def facing(stance: Stance) -> FloatArray:
    """Return the horizontal unit direction (3,) in which the person's hips face, model frame.

    Of someone lying, the hips face up or down: then the top of the body points away from the first view.
    """
    for direction in (stance.rotation[:, 2], stance.rotation[:, 1], np.array([0.0, 0.0, 1.0])):
        level = direction * [1, 0, 1]
        if np.linalg.norm(level) > 0.35:
            break
    return unit_rows(level)


def cameras_of(stance: Stance) -> list[Camera]:
    """Look from four sides, the front or the palm first.

    At a person from the front, the person's left, the back and the right; at a hand, fingers up, at its palm, its
    thumb's side and its back, then down onto the finger tips.
    """
    if stance.side is None:
        front, up = facing(stance), np.array([0.0, 1.0, 0.0])
        left = np.cross(up, front)
        return _cameras({"front": (front, up), "left": (left, up), "back": (-front, up), "right": (-left, up)})
    thumb, fingers, palm = palm_axes(stance)
    return _cameras(
        {
            "palm": (palm, fingers),
            "thumb side": (thumb, fingers),
            "back of the hand": (-palm, fingers),
            "finger tips": (fingers, -palm),
        }
    )


def _cameras(views: dict[str, tuple[FloatArray, FloatArray]]) -> list[Camera]:
    """Look from named sides, each given by the unit direction towards the viewer and the one that is up (3,)."""
    return [
        Camera(name, column, np.stack([np.cross(up, towards), up, towards]))
        for column, (name, (towards, up)) in enumerate(views.items())
    ]


def palm_axes(stance: Stance) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Return unit directions in the model's frame: to the thumb's side, along the fingers, and where the palm faces.

    From the joints, since models of hands rest in frames of their own.
    """
    mirror, joints = 1.0 if stance.side == "right" else -1.0, stance.joints
    if len(joints) <= PINKY:
        x, fingers, palm = stance.rotation.T
        return mirror * x, fingers, palm
    fingers = unit_rows(joints[MIDDLE] - joints[WRIST])
    palm = mirror * unit_rows(np.cross(joints[INDEX] - joints[PINKY], fingers))
    return mirror * np.cross(fingers, palm), fingers, palm


def frame_of(shapes: list[Shape], cameras: list[Camera]) -> Frame:
    """Fit a window around the shapes; all but one in a thousand points decide, so strays do not shrink the person."""
    bounds = []
    for camera in cameras:
        views = [shape.points @ camera.rotation[:2].T for shape in shapes]
        views = [view[np.isfinite(view).all(1)] for view in views]
        ends = np.array([np.quantile(view, [0.0005, 0.9995], axis=0) for view in views if len(view)])
        bounds.append((ends[:, 0].min(0), ends[:, 1].max(0)) if len(ends) else (-np.ones(2), np.ones(2)))
    low, high = (np.array([bound[i] for bound in bounds]) for i in range(2))
    return Frame((low + high) / 2, Window.around((high - low).max(0), 0.45, PANEL_PIXELS))


def pictures(shape: Shape, skins: list[FloatArray], camera: Camera, frame: Frame) -> list[Image.Image]:
    """Draw one view of a shape, once for each colouring; twice as large, then halved."""
    window = frame.window
    scale, width, height = 2 * window.pixels_per_metre, 2 * window.width, 2 * window.height
    view = shape.points @ camera.rotation.T
    centre = frame.centres[camera.column]
    column, row = (view[:, 0] - centre[0]) * scale + width / 2, height / 2 - (view[:, 1] - centre[1]) * scale
    points_px = np.stack([column, row, -view[:, 2] * scale], -1)
    reach_px = max(8, height // 40)
    if shape.faces is not None and shape.normals is not None:
        raster = rasterise(points_px, shape.faces, height, width)
        normals = unit_rows(seen_values(raster, shape.faces, shape.normals)) @ camera.rotation.T
        tints = [seen_values(raster, shape.faces, skin) for skin in skins]
    else:
        raster = splat(points_px, float(np.clip(0.9 * shape.spacing * scale, 2, 12)), height, width)
        normals = _splat_normals(shape, raster, camera)
        tints = [skin[raster.index[raster.mask]] for skin in skins]
    return [flat_image(halve(shade(raster, normals, tint, reach_px))) for tint in tints]


def _splat_normals(shape: Shape, raster: Raster, camera: Camera) -> FloatArray:
    guessed = depth_normals(raster, 5)
    if shape.normals is None:
        return guessed
    normals = shape.normals[raster.index[raster.mask]] @ camera.rotation.T
    return np.where(np.abs(normals).sum(-1, keepdims=True) > 0, normals, guessed)


def _compose(
    registration: RegistrationData, rows: dict[str, list[Image.Image]], columns: list[str], top_mm: float
) -> Image.Image:
    """Lay out header, captions, panels and colour scale."""
    width, height = next(iter(rows.values()))[0].size
    sheet_width = max(2 * MARGIN + 4 * width, 760)
    left = (sheet_width - 4 * width) // 2
    body_height = CAPTION + len(rows) * (height + CAPTION)
    lines = (registration.reason, _size_line(registration))
    sheet, draw = new_sheet(sheet_width, body_height, registration.verdict, registration.name, lines)
    for column, name in enumerate(columns):
        draw.text((left + column * width + width // 2, HEADER + 4), name, FAINT, font(15), anchor="ma")
    for row, (caption, panels) in enumerate(rows.items()):
        top = HEADER + CAPTION + row * (height + CAPTION)
        draw.line((MARGIN, top, sheet_width - MARGIN, top), (228, 228, 226))
        draw.text((MARGIN, top + 4), caption, FAINT, font(15))
        for column, panel in enumerate(panels):
            sheet.paste(panel, (left + column * width, top + CAPTION))
    what = "body" if registration.side is None else "hand"
    footer(sheet, draw, top_mm, key_numbers(registration.metrics, KEY_NUMBERS, what=what))
    return sheet


def _size_line(registration: RegistrationData) -> str:
    unit = f"unit {registration.unit}" + (" (a guess)" if registration.unit_is_guess else "")
    if registration.side is None:
        return f"{unit}, up {registration.up}"
    return f"{side_words(f'{registration.side} hand', registration.side_confidence)}, {unit}"
