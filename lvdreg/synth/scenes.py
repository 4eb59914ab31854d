"""People on and beside things: platforms, boxes, beds, chairs, poles and stands, and hands on plates.

A scene is a dressed person in a pose that goes with the thing, and a closed mesh of the thing that touches it. It comes
as two meshes that enter each other a little, as what a scanner sees (skin and thing that touch have no surface there),
or as a noisy cloud. The same scene without its thing is the truth: what a registration should make of it.
"""

import math
from dataclasses import dataclass

import numpy as np
import torch
import trimesh
from jaxtyping import Float
from scipy.spatial import cKDTree
from torch import Tensor

from lvdreg.base.shapes import FloatArray, IntArray
from lvdreg.body.model import BodyModel, BodyParams
from lvdreg.geometry.frames import rotvec_to_rotmat
from lvdreg.geometry.mesh import sample_surface
from lvdreg.scan.model import Scan, scan_from_arrays
from lvdreg.synth.clothes.layers import Wardrobe
from lvdreg.synth.draw import Draw
from lvdreg.synth.hands.forearm import Forearm, draw_forearms
from lvdreg.synth.people.gaits import UprightSampler
from lvdreg.synth.people.poses import elbow_axis, rotation_about, turn_between
from lvdreg.synth.scanner import SynthConfig
from lvdreg.synth.scans import draw_betas
from lvdreg.synth.surface import Outer, join

KINDS = ("turntable", "box", "bed", "chair", "pole", "plate")
"""What a person stands on, lies on, sits on, leans on or holds; the last is what a hand lies on."""
FORMS = ("meshes", "scanned", "cloud")
CONTACT = 0.004
"""Surfaces that lie so close to each other are not seen by a scanner, metres."""
EDGE = 0.04
"""The longest edge of a thing's mesh, metres."""
NUM_POINTS = 40_000
_DEGREE = math.pi / 180


@dataclass(frozen=True)
class Mesh:
    """A mesh (V, 3), (F, 3), world frame, metres, Y up."""

    vertices: FloatArray
    faces: IntArray


@dataclass(frozen=True)
class SceneScans:
    """One scene.

    Attributes:
        kind: One of ``KINDS``.
        form: One of ``FORMS``.
        whole: The person or hand with the thing.
        alone: The same without the thing.
    """

    kind: str
    form: str
    whole: Scan
    alone: Scan


class ChosenPose(UprightSampler):
    """Poses people by hip flexion and abduction, knee flexion, and elevation, azimuth and elbow flexion of each arm.

    Degrees, as in ``PoseSampler``; each is drawn within 6 degrees.
    """

    def __init__(self, body: BodyModel, legs: tuple[float, ...], arms: dict[str, tuple[float, ...]]) -> None:
        super().__init__(body)
        self.legs, self.arms = legs, arms

    def _pose_trunk(self, rotations: Tensor, draw: Draw, style: Tensor | None = None) -> Tensor:
        for name in ("spine1", "spine2", "spine3", "neck", "head"):
            self._set(rotations, name, rotvec_to_rotmat(3 * _DEGREE * draw.normal((3,))))
        return torch.zeros(draw.batch, device=draw.device)

    def _pose_legs(
        self, rotations: Tensor, joints: Tensor, draw: Draw, bend: Tensor, style: Tensor | None = None
    ) -> None:
        sideways = torch.tensor([[1.0, 0.0, 0.0]], device=draw.device)
        for side, sign in (("left", 1.0), ("right", -1.0)):
            flexion, abduction, knee = (a + 6 * _DEGREE * draw.uniform(-1, 1, ()) for a in _radians(self.legs))
            hip = self._hip_rotation(flexion, abduction, torch.zeros_like(knee), sign)
            self._set(rotations, f"{side}_hip", hip)
            self._set(rotations, f"{side}_knee", rotation_about(sideways, knee - self._rest_knee(joints, side)))

    def _pose_arm(self, rotations: Tensor, joints: Tensor, draw: Draw, side: str, style: Tensor | None = None) -> None:
        sign = 1.0 if side == "left" else -1.0
        shoulder, elbow, wrist = (joints[:, self.index[f"{side}_{part}"]] for part in ("shoulder", "elbow", "wrist"))
        elevation, azimuth, flexion = (a + 6 * _DEGREE * draw.uniform(-1, 1, ()) for a in _radians(self.arms[side]))
        across = elevation.sin()
        first = torch.stack([sign * across * azimuth.cos(), -elevation.cos(), across * azimuth.sin()], -1)
        upper, lower = elbow - shoulder, wrist - elbow
        bent = torch.linalg.cross(upper, lower).norm(dim=-1)
        rest = torch.atan2(bent, (upper * lower).sum(-1))
        rest_first = upper / upper.norm(dim=-1, keepdim=True)
        hinge = elbow_axis(rest_first, lower / lower.norm(dim=-1, keepdim=True))
        self._set(rotations, f"{side}_shoulder", turn_between(rest_first, first))
        self._set(rotations, f"{side}_elbow", rotation_about(hinge, flexion - rest))

    def _mirror_arms(self, rotations: Tensor, draw: Draw, style: Tensor | None = None) -> None:
        """Leave both arms as they are."""


def _radians(degrees: tuple[float, ...]) -> tuple[float, ...]:
    return tuple(_DEGREE * value for value in degrees)


_STANDING = (2.0, 5.0, 3.0)
_HANGING, _SPREAD, _ON_HIPS, _ON_THIGHS = (14, 10, 15), (45, 5, 10), (40, -20, 80), (25, 70, 60)
_POSES: dict[str, tuple[tuple[tuple[float, ...], tuple[float, ...], tuple[float, ...]], ...]] = {
    # legs, left arm, right arm; two poses for each kind
    "turntable": ((_STANDING, _SPREAD, _SPREAD), (_STANDING, _HANGING, (150, 10, 20))),
    "box": ((_STANDING, _HANGING, _HANGING), ((10, 12, 15), _ON_HIPS, _SPREAD)),
    "bed": ((_STANDING, (20, 0, 10), (20, 0, 10)), ((6, 12, 10), (40, 0, 10), (150, 0, 15))),
    "chair": (((88, 8, 88), _ON_THIGHS, _ON_THIGHS), ((82, 14, 75), (16, 30, 30), (30, 80, 75))),
    "pole": ((_STANDING, _HANGING, _SPREAD), (_STANDING, (70, 20, 25), _HANGING)),
}


class SceneStream:
    """Draws scenes; equal numbers give equal scenes."""

    def __init__(self, body: BodyModel, hand: BodyModel) -> None:
        """Prepare clothes for a body, and forearms for a hand."""
        self.body, self.hand = body, hand
        config = SynthConfig(outfit_probabilities=(0.3, 0.3, 0.4, 0.0, 0.0), backpack_probability=0.0)
        self.wardrobe, self.forearm = Wardrobe(body, config), Forearm(hand)

    @torch.no_grad()
    def scene(self, kind: str, person: int, pose: int, seed: int = 0) -> SceneScans:
        """Draw one scene.

        Args:
            kind: One of ``KINDS``.
            person: Whose body and clothes; the same number is the same person in every kind.
            pose: 0 or 1.
            seed: Which set of people and things.
        """
        generator = torch.Generator().manual_seed(1_000_003 * seed + 1009 * person + 7)
        rng = np.random.default_rng([seed, person, pose, KINDS.index(kind)])
        skin = self._hand(pose, generator) if kind == "plate" else self._person(kind, pose, generator)
        thing = _THINGS[kind](skin.vertices, pose, rng)
        form = FORMS[(person + pose + KINDS.index(kind)) % len(FORMS)]
        turn = rotvec_to_rotmat(torch.tensor([0.0, rng.uniform(-math.pi, math.pi), 0.0])).double().numpy()
        name = f"{kind}_{seed}_{person}_{pose}"
        whole, alone = (scan_of_parts(parts, form, turn, name, rng) for parts in ([skin, thing], [skin]))
        return SceneScans(kind, form, whole, alone)

    def _person(self, kind: str, pose: int, generator: torch.Generator) -> Mesh:
        betas = draw_betas(self.body, _people(self.body), 1, generator)
        legs, left, right = _POSES[kind][pose]
        pose_vectors = ChosenPose(self.body, legs, {"left": left, "right": right}).sample(betas, generator)
        posed = self.body(BodyParams(betas, pose_vectors, torch.zeros(1, 3)))
        skin = outer_mesh(self.wardrobe.dress(posed.vertices, generator))
        if kind != "bed":
            return skin
        face_up = rotvec_to_rotmat(torch.tensor([-math.pi / 2, 0.0, 0.0])).double().numpy()
        return Mesh(skin.vertices @ face_up.T, skin.faces)

    def _hand(self, pose: int, generator: torch.Generator) -> Mesh:
        draw = Draw(1, generator)
        betas = draw_betas(self.hand, _people(self.hand), 1, generator)
        angles = (0.05 + 0.1 * pose) * draw.normal((self.hand.num_joints, 3))
        angles[:, 0] = 0
        posed = self.hand(BodyParams(betas, angles, torch.zeros(1, 3)))
        skin = Outer(posed.vertices, self.hand.faces, torch.ones(1, len(self.hand.faces), dtype=torch.bool))
        parts = [skin, self.forearm.build(posed.vertices, draw_forearms(draw))] if pose else [skin]
        mesh = outer_mesh(join(parts))
        # The palm faces +Z in the canonical frame: down is where it looks.
        palm_down = rotvec_to_rotmat(torch.tensor([math.pi / 2, 0.0, 0.0])).double().numpy()
        return Mesh(mesh.vertices @ palm_down.T, mesh.faces)


def _people(body: BodyModel) -> Float[Tensor, "S K"] | None:
    return None if body.data.people is None else torch.as_tensor(body.data.people)


def outer_mesh(outer: Outer) -> Mesh:
    """Return the kept surface of a batch of one."""
    used, faces = np.unique(outer.faces[outer.face_keep[0]].numpy(), return_inverse=True)
    return Mesh(outer.vertices[0].double().numpy()[used], faces.reshape(-1, 3).astype(np.int64))


def joined(*meshes: Mesh) -> Mesh:
    """Return several meshes as one."""
    starts = np.cumsum([0, *(len(mesh.vertices) for mesh in meshes[:-1])])
    faces = [mesh.faces + start for mesh, start in zip(meshes, starts, strict=True)]
    return Mesh(np.concatenate([mesh.vertices for mesh in meshes]), np.concatenate(faces))


def box(low: FloatArray, high: FloatArray, edge: float = EDGE) -> Mesh:
    """Return a closed box between two corners (3,)."""
    mesh = trimesh.creation.box(extents=np.asarray(high) - np.asarray(low))
    return _fine(mesh, (np.asarray(low) + np.asarray(high)) / 2, edge)


def upright_cylinder(centre: FloatArray, radius: float, height: float, edge: float = EDGE) -> Mesh:
    """Return a closed cylinder about a vertical axis, on the point (3,) in the middle of its foot."""
    mesh = trimesh.creation.cylinder(radius=radius, height=height, sections=24)
    mesh.apply_transform(trimesh.transformations.rotation_matrix(math.pi / 2, [1, 0, 0]))
    return _fine(mesh, np.asarray(centre) + [0, height / 2, 0], edge)


def _fine(mesh: trimesh.Trimesh, centre: FloatArray, edge: float) -> Mesh:
    vertices, faces = trimesh.remesh.subdivide_to_size(mesh.vertices, mesh.faces, edge)
    tidy = trimesh.Trimesh(vertices, faces, process=True)
    return Mesh(np.asarray(tidy.vertices) + centre, np.asarray(tidy.faces, np.int64))


def _soles(points: FloatArray) -> FloatArray:
    """Return the middle (3,) of what touches the ground."""
    level = float(points[:, 1].min())
    low = points[points[:, 1] < level + 0.03]
    return np.array([low[:, 0].mean(), level, low[:, 2].mean()])


def _turntable(points: FloatArray, pose: int, rng: np.random.Generator) -> Mesh:
    height, feet = rng.uniform(0.03, 0.2), _soles(points)
    reach = float(np.linalg.norm((points - feet)[points[:, 1] < feet[1] + 0.1][:, [0, 2]], axis=1).max())
    disc = upright_cylinder(feet + [0, 0.002 - height, 0], max(rng.uniform(0.3, 0.55), reach + 0.02), height)
    if not pose:
        return disc
    foot = upright_cylinder(feet - [0, height + 0.1, 0], 0.6 * reach, 0.11)
    return joined(disc, foot)


def _box(points: FloatArray, pose: int, rng: np.random.Generator) -> Mesh:
    feet, half = _soles(points), np.array([rng.uniform(0.25, 0.4), 0, rng.uniform(0.22, 0.35)])
    return box(feet - half + [0, -rng.uniform(0.12, 0.5), 0], feet + half + [0, 0.002, 0])


def _bed(points: FloatArray, pose: int, rng: np.random.Generator) -> Mesh:
    low, high = points.min(0), points.max(0)
    # Flesh and mattress give way: a hundredth of the vertices lie within it.
    top, middle = float(np.quantile(points[:, 1], 0.03)), (low + high) / 2
    half = np.array(
        [max(rng.uniform(0.4, 0.8), (high - low)[0] / 2 + 0.02), 0, (high - low)[2] / 2 + rng.uniform(0, 0.15)]
    )
    under = np.array([middle[0], top, middle[2]])
    mattress = box(under - half - [0, rng.uniform(0.08, 0.25), 0], under + half, 0.06)
    if not pose:
        return mattress
    floor = float(mattress.vertices[:, 1].min())
    corners = [[s * (half[0] - 0.04), 0, t * (half[2] - 0.04)] for s in (-1, 1) for t in (-1, 1)]
    at = np.array([middle[0], floor, middle[2]])
    legs = [box(at + c - [0.03, 0.3, 0.03], at + c + [0.03, 0.005, 0.03]) for c in np.array(corners)]
    return joined(mattress, *legs)


def _chair(points: FloatArray, pose: int, rng: np.random.Generator) -> Mesh:
    """Put a seat under the thighs, with four legs and a back, or a block to the floor."""
    floor, back = float(points[:, 1].min()), float(np.quantile(points[:, 2], 0.002))
    middle = float(np.median(points[:, 0]))
    trunk = points[(points[:, 2] < back + 0.3) & (np.abs(points[:, 0] - middle) < 0.2)]
    seat = float(np.quantile(trunk[:, 1], 0.004)) + 0.006
    half, depth = rng.uniform(0.2, 0.26), rng.uniform(0.36, 0.44)
    low, high = np.array([middle - half, seat - 0.04, back]), np.array([middle + half, seat, back + depth])
    if pose:
        return box(low * [1, 0, 1] + [0, floor, 0], high)
    parts = [box(low, high)]
    parts += [
        box(np.array([x - 0.018, floor, z - 0.018]), np.array([x + 0.018, seat - 0.035, z + 0.018]))
        for x in (middle - half + 0.02, middle + half - 0.02)
        for z in (back + 0.02, back + depth - 0.02)
    ]
    top = seat + rng.uniform(0.3, 0.5)
    parts.append(box(np.array([middle - half, seat - 0.04, back - 0.03]), np.array([middle + half, top, back + 0.004])))
    return joined(*parts)


def _pole(points: FloatArray, pose: int, rng: np.random.Generator) -> Mesh:
    """Put a pole behind the back, or a stand under the left hand; both on a foot."""
    floor = float(points[:, 1].min())
    if pose:
        hand = points[points[:, 0].argmax()]
        around = points[np.linalg.norm(points - hand, axis=1) < 0.12]
        x, z, top = float(np.median(around[:, 0])), float(np.median(around[:, 2])), float(around[:, 1].min()) + 0.004
        plate = upright_cylinder(np.array([x, top - 0.02, z]), rng.uniform(0.06, 0.12), 0.02)
        pole = upright_cylinder(np.array([x, floor, z]), rng.uniform(0.012, 0.03), top - 0.015 - floor)
        return joined(plate, pole, upright_cylinder(np.array([x, floor, z]), 0.16, 0.02))
    radius, height = rng.uniform(0.015, 0.04), rng.uniform(1.1, 2.1)
    middle = float(np.median(points[:, 0]))
    behind = points[(np.abs(points[:, 0] - middle) < radius) & (points[:, 1] < floor + height)]
    z = float(behind[:, 2].min()) - radius + 0.003
    pole = upright_cylinder(np.array([middle, floor, z]), radius, height)
    return joined(pole, upright_cylinder(np.array([middle, floor, z - 0.05]), 0.14, 0.03))


def _plate(points: FloatArray, pose: int, rng: np.random.Generator) -> Mesh:
    low, high = points.min(0), points.max(0)
    top, margin = float(np.quantile(points[:, 1], 0.01)), rng.uniform(0.02, 0.12, 2)
    under = np.array([low[0] - margin[0], top - rng.uniform(0.01, 0.04), low[2] - margin[1]])
    return box(under, np.array([high[0] + margin[0], top, high[2] + margin[1]]), 0.01)


_THINGS = {"turntable": _turntable, "box": _box, "bed": _bed, "chair": _chair, "pole": _pole, "plate": _plate}


def scan_of_parts(parts: list[Mesh], form: str, turn: FloatArray, name: str, rng: np.random.Generator) -> Scan:
    """Bring a scene into one of the forms."""
    if form != "meshes":
        parts = [_seen(part, [other for other in parts if other is not part]) for part in parts]
    mesh = joined(*parts)
    noise = 0.0 if form == "meshes" else 0.0004
    if form != "cloud":
        moved = mesh.vertices + noise * rng.normal(size=mesh.vertices.shape)
        return scan_from_arrays(moved @ turn.T, mesh.faces, name=name)
    points = sample_surface(mesh.vertices, mesh.faces, NUM_POINTS, rng)[0]
    return scan_from_arrays((points + noise * rng.normal(size=points.shape)) @ turn.T, name=name)


def _seen(mesh: Mesh, others: list[Mesh]) -> Mesh:
    """Return the mesh without faces that lie in, or against, others."""
    keep = np.ones(len(mesh.faces), bool)
    centres = mesh.vertices[mesh.faces].mean(1)
    for other in others:
        solid = trimesh.Trimesh(other.vertices, other.faces, process=False)
        samples, index = trimesh.sample.sample_surface_even(solid, 60_000, seed=0)
        distance, nearest = cKDTree(samples).query(centres)
        behind = np.einsum("ni,ni->n", centres - samples[nearest], solid.face_normals[index[nearest]]) < 0
        keep &= (distance > CONTACT) & ~(behind & (distance < 0.08))
    used, faces = np.unique(mesh.faces[keep], return_inverse=True)
    return Mesh(mesh.vertices[used], faces.reshape(-1, 3).astype(np.int64))
