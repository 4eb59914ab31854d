"""The subjects of the benchmark of photos: characters that nobody trains on, and real scans in plain grey skin.

Each is photographed from several sides, counted from the way the person faces: 0 shows the front, 90 the left side,
180 the back, 270 the right side. The camera is level and mostly four metres away; what it shows of the person fills the
picture as crops do in training. Masks are the renderer's.
"""

import hashlib
import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float
from numpy.typing import NDArray
from torch import Tensor

from lvdreg.augment.repose.sources import GREY, VertexColours
from lvdreg.base.errors import RegistrationError
from lvdreg.base.provenance import sha256_of
from lvdreg.base.shapes import FloatArray
from lvdreg.body.catalogue import load_body
from lvdreg.body.model import BodyModel, BodyParams
from lvdreg.body.smplx_names import params_from_named
from lvdreg.evaluate.cache import Arrays, kept
from lvdreg.evaluate.faust import read_mesh
from lvdreg.fit.kinematics import Kinematics, upright_height
from lvdreg.geometry.frames import rotvec_to_rotmat, transform_points
from lvdreg.geometry.mesh import vertex_areas
from lvdreg.geometry.metrics import Surface
from lvdreg.image.camera import Camera, Lens
from lvdreg.image.inputs import CROP_FILL
from lvdreg.photo.model import Photo
from lvdreg.pipeline.scan import register
from lvdreg.synth.camera.light import draw_lights
from lvdreg.synth.camera.render import render
from lvdreg.synth.camera.view import Cameras, framing, look_at
from lvdreg.synth.clothes.layers import HANGING
from lvdreg.synth.draw import Draw
from lvdreg.synth.photos import PhotoStream
from lvdreg.synth.subjects import Subjects
from lvdreg.synth.surface import Outer

SIZE = 256
"""Side of the photos that are taken, pixels; each network cuts crops of its own size out of them."""
DISTANCE = 4.0
"""Metres from the camera to the middle of the person."""
BACKGROUND = 0.55
"""Grey of the surroundings, sRGB."""
STANDING, BROAD, GOWNED = "standing", "broad", "gowned"
UPRIGHT, STRAIGHT_LEG = 25.0, 30.0
"""Who stands: the trunk is within so many degrees of vertical, thighs and shins within so many."""
MOST_DRAWS = 400
_ENDS = {"trunk": ("pelvis", "neck")} | {
    f"{side}_{part}": (f"{side}_{low}", f"{side}_{high}")
    for side in ("left", "right")
    for part, low, high in (("thigh", "knee", "hip"), ("shin", "ankle", "knee"), ("arm", "elbow", "shoulder"))
}
"""Parts of who stands, from their lower joint to the upper one; upper arms may be raised to the horizontal."""


@dataclass(frozen=True)
class PhotoSubject:
    """One person, world frame: metres, Y up.

    Attributes:
        name: For files and tables.
        subjects: The person, ready for the renderer; a batch of one.
        surface: The truth that predictions are held against: the naked body, or the scan.
        params: Pose and shape of the body, a batch of one: the truth, or what registering the scan in space found.
        is_exact: Whether ``params`` and the body's vertices are the truth.
        groups: What figures are told apart by.
    """

    name: str
    subjects: Subjects
    surface: Surface
    params: BodyParams
    is_exact: bool
    groups: tuple[str, ...] = ()


@dataclass(frozen=True)
class RenderedView:
    """One photo of a subject. The world: metres, x right, y up, z towards the viewer, the pelvis at the origin.

    Attributes:
        name: Of the subject.
        view: Side from which it was taken, degrees.
        rgb: (S, S, 3) sRGB.
        mask: (S, S) the share of each pixel that is the person.
        camera: That took it: a real one, to which what is nearer is larger.
        surface: The truth.
        vertices: (V, 3) of the true body, for scans of the one found in space.
        is_exact: Whether ``vertices`` and ``betas`` are the truth.
        betas: (K,) its shape.
        height: Of the person standing upright, metres.
        mean_bodies: By name, bodies of mean shape (V, 3) where the true one is.
        groups: What figures are told apart by.
    """

    name: str
    view: int
    rgb: NDArray[np.uint8]
    mask: NDArray[np.float32]
    camera: Camera
    surface: Surface
    vertices: FloatArray
    is_exact: bool
    betas: FloatArray
    height: float
    mean_bodies: dict[str, FloatArray]
    groups: tuple[str, ...]

    @property
    def photo(self) -> Photo:
        """The picture with its mask, as a file with an alpha channel holds them."""
        return Photo(self.rgb, self.mask, f"{self.name}_{self.view:03d}")

    @property
    def focal_mm35(self) -> float:
        """The focal length as cameras write it into their files, millimetres on 35 mm film."""
        return self.camera.lens.mm35(self.photo.size)

    def areas(self, faces: NDArray[np.int64]) -> FloatArray:
        """Return the area (V,) around each vertex of the body, m2."""
        return vertex_areas(self.vertices, faces)

    def digest(self) -> str:
        """Return what results depend on besides the code."""
        return hashlib.sha256(self.rgb.tobytes() + self.mask.tobytes() + self.surface.points.tobytes()).hexdigest()


def draw_character(model: str, seed: int, index: int, pose: str) -> PhotoSubject:
    """Draw one character, dressed and coloured.

    Training counts its seeds up from zero; this one's is a hash, nowhere near.

    Args:
        model: Name of the body.
        seed: Which set of characters.
        index: Which of the set.
        pose: ``STANDING``: whoever stands or walks of those that photos are trained on; ``BROAD``: all poses that scans
            are trained on, sitting and lying people among them; ``GOWNED``: who stands in a skirt, gown, coat or robe
            that falls around the legs, by turns.
    """
    body = load_body(model)
    generator = torch.Generator().manual_seed(seed_of(f"evaluate images {pose} {seed} {index}"))
    stream = _stream(model)
    draw = stream.people.stream.params if pose == BROAD else stream.params
    params = draw(1, generator)
    draws = 1
    while pose != BROAD and not stands(body, params) and draws < MOST_DRAWS:
        params, draws = draw(1, generator), draws + 1
    people = stream.people.wearing(HANGING[index % len(HANGING)]) if pose == GOWNED else stream.people
    subjects = people.dress(params, generator)
    surface = Surface(subjects.vertices[0].double().numpy(), body.data.faces)
    return PhotoSubject(f"{pose}_{seed}_{index:04d}", subjects, surface, params, True, (pose,))


@lru_cache(maxsize=2)
def _stream(model: str) -> PhotoStream:
    return PhotoStream(load_body(model), SIZE)


def stands(body: BodyModel, params: BodyParams) -> bool:
    """Say whether somebody (a batch of one) stands upright on straight legs, arms not above the shoulders."""
    joints = body(params).joints[0].double().numpy()
    ups = {
        part: joints[body.joint_names.index(high)] - joints[body.joint_names.index(low)]
        for part, (low, high) in _ENDS.items()
    }
    tilts = {part: math.degrees(math.acos(up[1] / max(float(np.linalg.norm(up)), 1e-9))) for part, up in ups.items()}
    limits = {"trunk": UPRIGHT, "thigh": STRAIGHT_LEG, "shin": STRAIGHT_LEG, "arm": 90.0}
    return all(tilt <= limits[part.split("_")[-1]] for part, tilt in tilts.items())


def read_photo_subject(path: Path, model: str, out: Path, key: str) -> PhotoSubject:
    """Read a scan in metres with Y up, and register it in space to know where the person faces.

    Args:
        path: The scan, a mesh.
        model: The body that it is registered to.
        out: Where the registration is kept.
        key: What it depends on besides the file.

    Raises:
        RegistrationError: it cannot be registered.
        ScanError: it cannot be read.
    """
    body, (points, faces) = load_body(model), read_mesh(path)
    found = kept(out / f"{path.stem}.npz", f"{key} {sha256_of(path)}", lambda: _in_space(path, model))
    if not found.arrays:
        raise RegistrationError(f"{path.name}: expected a scan that can be registered: {found.reason}")
    vertices = transform_points(np.linalg.inv(found.arrays["T_scan_model"].astype(np.float64)), points)
    params = _batched(params_from_named(body, found.arrays))
    posed = body(params)
    outer = Outer(
        torch.from_numpy(vertices)[None].float(), torch.from_numpy(faces), torch.ones(1, len(faces), dtype=torch.bool)
    )
    subjects = Subjects(
        outer,
        VertexColours(torch.full((len(points), 3), GREY)),
        torch.zeros(1, len(points), dtype=torch.long),
        torch.zeros(1, len(points), 3),
        params,
        posed.vertices,
        posed.joints,
    )
    return PhotoSubject(f"scan_{path.stem}", subjects, Surface(vertices, faces), params, False)


def _in_space(path: Path, model: str) -> Arrays:
    result = register(path, model=model, unit="m", up="+y")
    words = {"verdict": np.array(result.verdict), "reason": np.array(result.reason)}
    return {**result.params, "T_scan_model": result.T_scan_model, **words}


def _batched(params: BodyParams) -> BodyParams:
    return BodyParams(params.betas[None], params.pose[None], params.transl[None])


@torch.no_grad()
def photograph(
    photo_subject: PhotoSubject, views: Sequence[int], body: BodyModel, distance: float = DISTANCE
) -> list[RenderedView]:
    """Take photos of a subject from several sides, degrees; the light is drawn from the subject's name."""
    count = len(views)
    subjects = photo_subject.subjects.repeated(count)
    yaw = facing(photo_subject.params) + torch.deg2rad(torch.tensor([float(view) for view in views]))
    cameras = aimed(subjects.outer.vertices, yaw, distance)
    generator = torch.Generator().manual_seed(seed_of(f"light of {photo_subject.name}"))
    rendered = render(subjects, cameras, draw_lights(Draw(count, generator), yaw), SIZE)
    shown = rendered.image + (1 - rendered.alpha[..., None]) * BACKGROUND
    rgb = (255 * shown.clamp(0, 1)).round().to(torch.uint8).numpy()
    return [
        _rendered_view(photo_subject, body, cameras, i, view, rgb[i], rendered.alpha[i].numpy())
        for i, view in enumerate(views)
    ]


def aimed(points: Float[Tensor, "B N 3"], yaw: Float[Tensor, " B"], distance: float = DISTANCE) -> Cameras:
    """Return level cameras that see all points (world) from a yaw each, radians, so many metres away."""
    middle, one = (points.amin(1) + points.amax(1)) / 2, torch.ones_like(yaw)
    cameras = look_at(middle, yaw, 0 * one, 0 * one, one, one / distance, SIZE)
    return framing(points, cameras, SIZE, CROP_FILL * one)


def facing(params: BodyParams) -> Float[Tensor, ""]:
    """Return the yaw, radians, from which the hips of somebody (a batch of one) are seen from the front.

    Of somebody who lies, whose hips face up or down, the top of the trunk decides: it is seen as that of one who stands
    and bends forwards or backwards.
    """
    root = rotvec_to_rotmat(params.pose[0, 0])
    ahead, up = root[:, 2], root[:, 1]
    if float(ahead[[0, 2]].norm()) < 0.35:
        ahead = -up if float(ahead[1]) > 0 else up
    return torch.atan2(ahead[0], ahead[2])


def _rendered_view(
    photo_subject: PhotoSubject,
    body: BodyModel,
    cameras: Cameras,
    index: int,
    view: int,
    rgb: NDArray[np.uint8],
    mask: NDArray[np.float32],
) -> RenderedView:
    """Bring the truth of one photo to its world."""
    one = Cameras(*(value[index : index + 1] for value in vars(cameras).values())).double()
    pelvis = photo_subject.subjects.joints[:, :1].double()
    column, row, depth = one.project(pelvis)[0, 0].tolist()

    def seen(points: FloatArray | Tensor) -> FloatArray:
        there = one.view(torch.as_tensor(points).double()[None]) - one.view(pelvis)
        return np.asarray(there[0].numpy() * [1.0, -1.0, -1.0])

    scale = float(one.scale[0] / (1 + one.perspective[0] * depth))
    lens = Lens(float(one.scale[0] / one.perspective[0]), one.centre[0].numpy(), "given")
    betas = photo_subject.params.betas[0].double().numpy()
    return RenderedView(
        photo_subject.name,
        view,
        rgb,
        mask,
        Camera(scale, np.array([column, row]), lens),
        Surface(seen(photo_subject.surface.points), photo_subject.surface.faces),
        seen(photo_subject.subjects.vertices[0]),
        photo_subject.is_exact,
        betas,
        upright_height(Kinematics(body.data), betas)[0],
        {name: seen(points) for name, points in mean_bodies(body, photo_subject.params).items()},
        photo_subject.groups,
    )


def mean_bodies(body: BodyModel, params: BodyParams) -> dict[str, Float[Tensor, "V 3"]]:
    """Return the mean person at rest who faces as somebody (a batch of one) does, and in the very same pose; world."""
    rest = torch.zeros_like(params.pose)
    rest[:, 0] = params.pose[:, 0]
    nobody = torch.zeros_like(params.betas)
    return {
        "mean body at rest": body(BodyParams(nobody, rest, params.transl)).vertices[0],
        "mean body in the true pose": body(BodyParams(nobody, params.pose, params.transl)).vertices[0],
    }


def seed_of(words: str) -> int:
    """Return a seed from words."""
    return int.from_bytes(hashlib.sha256(words.encode()).digest()[:7], "big")
