"""Several people in one scan: apart, touching, in each other's arms, a child on an arm, around a table.

As a scene (scenes.py), a group comes as meshes that enter each other a little, as what a scanner sees, or as a cloud,
with each person alone as the truth.
"""

import math
from dataclasses import dataclass

import numpy as np
import torch
from scipy.spatial import cKDTree

from lvdreg.base.shapes import BoolArray, FloatArray
from lvdreg.body.model import BodyModel, BodyParams
from lvdreg.fit.kinematics import Kinematics, upright_height
from lvdreg.geometry.frames import rotvec_to_rotmat
from lvdreg.geometry.mesh import sample_surface
from lvdreg.scan.model import Scan
from lvdreg.synth.clothes.layers import Wardrobe
from lvdreg.synth.people.gaits import UprightSampler
from lvdreg.synth.scanner import SynthConfig
from lvdreg.synth.scans import draw_betas
from lvdreg.synth.scenes import FORMS, ChosenPose, Mesh, box, joined, outer_mesh, scan_of_parts

KINDS = ("apart", "touching", "hugging", "carried", "table")
"""0.2 m apart; touching; breast to breast, arms around; a child on the left arm; three around a table."""
APART, TOUCHING = 0.2, 0.01
"""Metres between the nearest samples of two people, apart and touching: samples lie as far from each other."""
NUM_SAMPLES = 20_000
CHILD = 1.15
"""Metres: who is shorter may be carried."""
_LEGS = (3.0, 5.0, 4.0)
_ARMS = ((16, 10, 15), (40, 10, 20), (70, 20, 25), (30, 60, 50))
_AROUND, _UNDER = (75, 65, 45), (30, 75, 85)


@dataclass(frozen=True)
class GroupScans:
    """One group.

    Attributes:
        kind: One of ``KINDS``.
        form: One of ``scenes.FORMS``.
        whole: Everybody, and a table where there is one.
        alone: Each person alone, in the same frame.
    """

    kind: str
    form: str
    whole: Scan
    alone: tuple[Scan, ...]


def beside(mesh: Mesh, moved: Mesh, direction: FloatArray, gap: float) -> FloatArray:
    """Return by how much to move a mesh along a direction so that it comes from far away to a gap from another.

    They go on by as much as is left of the gap, until nothing is (conservative advancement: Mirtich 1996).

    Args:
        mesh: What stays.
        moved: What comes.
        direction: (3,) where it comes from.
        gap: Of the nearest two samples, not below ``TOUCHING``.

    Returns:
        The translation (3,).
    """
    away = np.asarray(direction, float) / np.linalg.norm(direction)
    rng = np.random.default_rng(0)
    points, coming = (sample_surface(each.vertices, each.faces, NUM_SAMPLES, rng)[0] for each in (mesh, moved))
    tree = cKDTree(points)
    way = float((points @ away).max() - (coming @ away).min()) + gap
    for _ in range(60):
        left = float(tree.query(coming + way * away)[0].min()) - gap
        if left < 1e-3:
            break
        way -= left
    return np.asarray(way * away)


class GroupStream:
    """Draws groups; equal numbers give equal groups."""

    def __init__(self, body: BodyModel) -> None:
        """Prepare clothes for a body."""
        self.body = body
        config = SynthConfig(outfit_probabilities=(0.3, 0.3, 0.4, 0.0, 0.0), backpack_probability=0.0)
        self.wardrobe, self.kernel = Wardrobe(body, config), Kinematics(body.data)

    @torch.no_grad()
    def group(self, kind: str, number: int, seed: int = 0) -> GroupScans:
        """Draw one group.

        Args:
            kind: One of ``KINDS``.
            number: Which one.
            seed: Which set of groups.
        """
        rng = np.random.default_rng([seed, number, KINDS.index(kind), 18])
        generator = torch.Generator().manual_seed(1_000_003 * seed + 1013 * number + 7 * KINDS.index(kind) + 1)
        skins, things = getattr(self, f"_{kind}")(generator, rng)
        form = FORMS[(number + KINDS.index(kind)) % len(FORMS)]
        turn = rotvec_to_rotmat(torch.tensor([0.0, rng.uniform(-math.pi, math.pi), 0.0])).double().numpy()
        name = f"{kind}_{seed}_{number}"
        whole = scan_of_parts([*skins, *things], form, turn, name, rng)
        alone = tuple(scan_of_parts([skin], form, turn, f"{name}_{i}", rng) for i, skin in enumerate(skins))
        return GroupScans(kind, form, whole, alone)

    def _apart(self, generator: torch.Generator, rng: np.random.Generator) -> tuple[list[Mesh], list[Mesh]]:
        return self._pair(generator, rng, APART), []

    def _touching(self, generator: torch.Generator, rng: np.random.Generator) -> tuple[list[Mesh], list[Mesh]]:
        return self._pair(generator, rng, TOUCHING), []

    def _pair(self, generator: torch.Generator, rng: np.random.Generator, gap: float) -> list[Mesh]:
        """Return two people who stand any way, one to any side of the other."""
        first, second = (_turned(self._person(generator, rng), rng.uniform(-math.pi, math.pi)) for _ in range(2))
        return [first, _placed(second, first, _level(rng), gap)]

    def _hugging(self, generator: torch.Generator, rng: np.random.Generator) -> tuple[list[Mesh], list[Mesh]]:
        first, second = (self._person(generator, rng, (_AROUND, _AROUND)) for _ in range(2))
        second = _turned(second, math.pi)
        trunk, other = (_part(mesh, np.abs(mesh.vertices[:, 0]) < 0.12) for mesh in (first, second))
        way = beside(trunk, other, np.array([0.0, 0.0, 1.0]), TOUCHING) + [rng.uniform(-0.05, 0.05), 0, 0]
        return [first, Mesh(second.vertices + way, second.faces)], []

    def _carried(self, generator: torch.Generator, rng: np.random.Generator) -> tuple[list[Mesh], list[Mesh]]:
        grown = self._person(generator, rng, (_UNDER, (16, 10, 15)))
        child = _turned(self._person(generator, rng, legs=(60.0, 35.0, 50.0), is_child=True), -math.pi / 2)
        low, high = grown.vertices[:, 1].min(), grown.vertices[:, 1].max()
        seat = float(np.quantile(child.vertices[:, 1], 0.3))
        child = Mesh(child.vertices + [0, low + 0.6 * (high - low) - seat, 0], child.faces)
        x, z = grown.vertices[:, 0], grown.vertices[:, 2]
        trunk = _part(grown, (np.abs(z - np.median(z)) < 0.12) & (x < np.quantile(x, 0.8)))
        way = beside(trunk, child, np.array([1.0, 0.0, 0.2]), TOUCHING)
        return [grown, Mesh(child.vertices + way, child.faces)], []

    def _table(self, generator: torch.Generator, rng: np.random.Generator) -> tuple[list[Mesh], list[Mesh]]:
        """Return three people around a table that they touch."""
        people = [self._person(generator, rng) for _ in range(3)]
        floor = float(people[0].vertices[:, 1].min())
        half = np.array([rng.uniform(0.4, 0.7), 0, rng.uniform(0.3, 0.5)])
        height = rng.uniform(0.65, 0.8)
        top = box(np.array([0, floor + height - 0.04, 0]) - half, np.array([0, floor + height, 0]) + half)
        feet = [
            box(at - [0.03, 0, 0.03], at + [0.03, height - 0.03, 0.03])
            for s in (-1, 1) for t in (-1, 1)
            for at in [np.array([s * (half[0] - 0.05), floor, t * (half[2] - 0.05)])]
        ]  # fmt: skip
        table = joined(top, *feet)
        placed = list[Mesh]()
        for person, angle in zip(people, (0.0, 2.1, 4.2), strict=True):
            # Those who come from -Z look at the table.
            away = np.array([math.sin(angle), 0.0, -math.cos(angle)])
            turned = _turned(person, -angle)
            placed.append(_placed(turned, joined(table, *placed), away, TOUCHING))
        return placed, [table]

    def _person(
        self,
        generator: torch.Generator,
        rng: np.random.Generator,
        arms: tuple[tuple[float, ...], ...] | None = None,
        legs: tuple[float, ...] = _LEGS,
        is_child: bool = False,
    ) -> Mesh:
        """Draw a dressed person who stands on the level 0; arms of any pose unless they are given."""
        people = None if self.body.data.people is None else torch.as_tensor(self.body.data.people)
        betas = draw_betas(self.body, people, 40 if is_child else 1, generator)
        if is_child:
            heights = [upright_height(self.kernel, each)[0] for each in betas.double().numpy()]
            betas = betas[[int(np.argmin(np.abs(np.array(heights) - CHILD)))]]
        chosen = arms or [_ARMS[k] for k in rng.integers(len(_ARMS), size=2)]
        sampler: UprightSampler = ChosenPose(self.body, legs, {"left": chosen[0], "right": chosen[1]})
        posed = self.body(BodyParams(betas, sampler.sample(betas, generator), torch.zeros(1, 3)))
        skin = outer_mesh(self.wardrobe.dress(posed.vertices, generator))
        return Mesh(skin.vertices - [0, skin.vertices[:, 1].min(), 0], skin.faces)


def _level(rng: np.random.Generator) -> FloatArray:
    angle = rng.uniform(-math.pi, math.pi)
    return np.array([math.sin(angle), 0.0, math.cos(angle)])


def _turned(mesh: Mesh, angle: float) -> Mesh:
    R = rotvec_to_rotmat(torch.tensor([0.0, angle, 0.0])).double().numpy()
    return Mesh(mesh.vertices @ R.T, mesh.faces)


def _placed(mesh: Mesh, others: Mesh, direction: FloatArray, gap: float) -> Mesh:
    return Mesh(mesh.vertices + beside(others, mesh, direction, gap), mesh.faces)


def _part(mesh: Mesh, which: BoolArray) -> Mesh:
    return Mesh(mesh.vertices, mesh.faces[which[mesh.faces].all(1)])
