"""How the descent on photos converges: error by iteration and part of the body, and how little the start matters.

That descents from many bodies end in one place says that the method is robust. It does not say that the place is right:
that is what sigma is for.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int
from numpy.typing import NDArray
from torch import Tensor

from lvdreg.base.disk import refuse_others
from lvdreg.base.errors import UsageError
from lvdreg.base.shapes import FloatArray
from lvdreg.body.catalogue import load_body
from lvdreg.body.landmarks import parts_of as landmark_parts
from lvdreg.body.model import BodyModel, BodyParams
from lvdreg.descent.descend import PHOTO_DESCENT, walk
from lvdreg.descent.photo import descend_crop
from lvdreg.descent.weights import image_weights
from lvdreg.evaluate.methods import Progress
from lvdreg.evaluate.plot import draw_panels, is_plot
from lvdreg.evaluate.subjects import STANDING, RenderedView, draw_character, photograph, seed_of
from lvdreg.evaluate.table import Row, Table
from lvdreg.field import Features, VertexField
from lvdreg.geometry.frames import rotvec_to_rotmat
from lvdreg.geometry.mesh import vertex_areas
from lvdreg.geometry.metrics import MM, summarise
from lvdreg.image.crop import Crop, CutConfig, crop_around
from lvdreg.image.inputs import CROP_FILL
from lvdreg.image.network import ImageNet
from lvdreg.photo.shown import people_shown
from lvdreg.synth.scans import SynthStream

ITERATIONS = 10
EVERY = 4
"""Of the body's vertices every so manieth descends."""
POINT, TPOSE, RANDOM = "a point", "a T-pose", "random bodies"
SPREAD_LIMIT_MM = 3.0
FAILURE_MM = 100.0
PARTS: dict[str, tuple[str, ...]] = {
    "head": ("head", "neck"),
    "upper arms": ("upper arm",),
    "forearms and hands": ("forearm", "hand"),
    "thighs": ("thigh",),
    "shins and feet": ("shin", "foot"),
}
"""Parts of ``landmarks.parts_of``, without their side; all else is the torso."""
TORSO, ALL = "torso", "whole body"
COLOURS: dict[str, tuple[int, int, int]] = {  # the first is drawn thickest, on top
    ALL: (20, 20, 20),
    TORSO: (60, 120, 180),
    "head": (46, 145, 90),
    "upper arms": (240, 160, 70),
    "forearms and hands": (200, 60, 60),
    "thighs": (140, 100, 180),
    "shins and feet": (130, 130, 130),
}
FILE = "convergence.png"


@dataclass(frozen=True)
class Descents:
    """Descents on one photo.

    Attributes:
        errors_mm: By start, error (iterations + 1, N) of each vertex, depth aligned; of random bodies the mean.
        spread_mm: Standard deviation (N,) of where vertices end, over random bodies.
        steps_mm: Mean length (iterations,) of the steps from a point.
    """

    errors_mm: dict[str, FloatArray]
    spread_mm: FloatArray
    steps_mm: FloatArray


def evaluate_convergence(
    num: int = 5,
    starts: int = 16,
    seed: int = 0,
    views: Sequence[int] = (0, 90, 180, 270),
    model: str = "anny",
    out: str | Path = "out/images",
    device: str = "cpu",
    progress: Progress | None = None,
) -> Table:
    """Let vertices descend on photos of standing characters from a point, a T-pose and random bodies.

    Args:
        num: How many characters.
        starts: How many random bodies.
        seed: Which set of characters.
        views: Degrees from the way a person faces.
        model: Name of the body.
        out: ``convergence.png`` is drawn there, if matplotlib is installed.
        device: Where the network runs.
        progress: Called after each photo.

    Raises:
        UsageError: fewer than one character or two random bodies.
        CheckpointError: weights are missing or damaged.
        OutputError: the picture's name is taken by a file of others.
    """
    if num < 1 or starts < 2:
        raise UsageError(f"expected a character and two starts or more, got {num} and {starts}")
    path = Path(out) / FILE
    refuse_others(path, is_plot)
    body, net = load_body(model), image_weights(model, device).net
    descents: list[Descents] = []
    for i in range(num):
        for rendered_view in photograph(draw_character(model, seed, i, STANDING), views, body):
            descents.append(
                descents_on(net, rendered_view, body, starts, seed_of(f"starts {seed} {i} {rendered_view.view}"))
            )
            if progress is not None:
                progress(
                    len(descents),
                    num * len(views),
                    f"convergence, {rendered_view.name} at {rendered_view.view} degrees",
                )
    parts, shares = parts_of(body)[::EVERY], shares_of(body)[::EVERY]
    curves = {
        start: curves_of([d.errors_mm[start] for d in descents], parts, shares) for start in (POINT, TPOSE, RANDOM)
    }
    panels = {f"from {start}": lines for start, lines in curves.items()}
    missing = draw_panels(path, panels, COLOURS, "iteration", "error, mm")
    table = _table(descents, curves, shares, starts, seed, model)
    return table if missing is None else replace(table, notes=(*table.notes, f"{FILE} is not drawn: {missing}"))


@torch.no_grad()
def descents_on(net: ImageNet, rendered_view: RenderedView, body: BodyModel, starts: int, seed: int) -> Descents:
    """Descend on one photo from everywhere."""
    person = people_shown(rendered_view.photo, "auto")[0]
    crop = crop_around(rendered_view.rgb, person.mask, CutConfig(), net.config.image.size)
    features = descend_crop(net, crop, person.keypoints, replace(PHOTO_DESCENT, max_steps=1)).features
    device = net.field.codes.device
    chosen = torch.arange(body.num_vertices, device=device)[::EVERY]
    true, metres = true_in_crop(rendered_view, crop)
    goal = torch.from_numpy(true).float().to(device)[None, ::EVERY]
    bodies = {
        POINT: torch.zeros_like(goal),
        TPOSE: tpose(body).to(device)[None, ::EVERY],
        RANDOM: random_bodies(body, starts, seed).to(device)[:, ::EVERY],
    }
    ways = {name: [way(net.field, features, chosen, x[None]) for x in start] for name, start in bodies.items()}
    mm = MM * metres
    errors = {name: np.mean([mm * errors_along(w, goal) for w in each], 0) for name, each in ways.items()}
    ends = torch.cat([along[-1] for along in ways[RANDOM]])
    spread = ends.var(0, correction=0).sum(-1).sqrt()
    path = torch.cat(ways[POINT][0])
    steps = (path[1:] - path[:-1]).norm(dim=-1).mean(1)
    return Descents(errors, mm * spread.double().cpu().numpy(), mm * steps.double().cpu().numpy())


def true_in_crop(rendered_view: RenderedView, crop: Crop) -> tuple[FloatArray, float]:
    """Return the true vertices (V, 3) in the unit frame of a crop, and the metres of its unit."""
    metres = crop.side / 2 / rendered_view.camera.scale
    flat = crop.to_unit(rendered_view.camera.project(rendered_view.vertices))
    return np.concatenate([flat, rendered_view.vertices[:, 2:] / metres], 1), metres


def way(
    field: VertexField, features: Features, vertices: Int[Tensor, " N"], start: Float[Tensor, "1 N 3"]
) -> list[Float[Tensor, "1 N 3"]]:
    """Return where vertices are at the start and after each iteration."""
    steps = walk(field, features, start, vertices, PHOTO_DESCENT.reversal_damping)
    return [start, *(x for x, _ in islice(steps, ITERATIONS))]


def errors_along(along: list[Float[Tensor, "1 N 3"]], true: Float[Tensor, "1 N 3"]) -> FloatArray:
    """Return the errors (iterations + 1, N), unit frame; the mean depth is aligned, which no photo tells."""
    error = torch.cat(along) - true
    error[..., 2] -= error[..., 2].mean(1, keepdim=True)
    return np.asarray(error.norm(dim=-1).double().cpu().numpy())


def tpose(body: BodyModel) -> Float[Tensor, "V 3"]:
    """Return the mean person in a T-pose, seen from the front, as large as people are in crops.

    Raises:
        UsageError: nobody knows the body's T-pose.
    """
    if body.data.tpose is None:
        raise UsageError(f"expected a body with a T-pose, got {body.data.name}; take another")
    zero = BodyParams.zeros(body)
    pose = torch.from_numpy(np.asarray(body.data.tpose)).to(zero.pose)
    return in_crop(body(BodyParams(zero.betas, pose, zero.transl)).vertices[None])[0]


@torch.no_grad()
def random_bodies(body: BodyModel, count: int, seed: int) -> Float[Tensor, "M V 3"]:
    """Return bodies of all shapes in all poses, turned anyhow about the vertical, as large as people are in crops."""
    generator = torch.Generator().manual_seed(seed)
    vertices = body(_people(body).params(count, generator)).vertices
    yaw = 2 * math.pi * torch.rand(count, 1, generator=generator)
    turn = rotvec_to_rotmat(yaw * torch.tensor([0.0, 1.0, 0.0]))
    return in_crop(vertices @ turn.mT)


@lru_cache(maxsize=2)
def _people(body: BodyModel) -> SynthStream:
    return SynthStream(body)


def in_crop(vertices: Float[Tensor, "B V 3"]) -> Float[Tensor, "B V 3"]:
    """Shift and scale people as crops show them: the middle at the centre, the longer side filling its share."""
    low, high = vertices.amin(1, keepdim=True), vertices.amax(1, keepdim=True)
    extent = (high - low)[..., :2].amax(-1, keepdim=True)
    return (vertices - (low + high) / 2) * (2 * CROP_FILL / extent)


def parts_of(body: BodyModel) -> NDArray[np.character]:
    """Return the part (V,) that each vertex belongs to."""
    named = {name: part for part, names in PARTS.items() for name in names}
    names, number = landmark_parts(body.data)
    plain = [name.removeprefix("left_").removeprefix("right_") for name in names]
    return np.array([named.get(name, TORSO) for name in plain])[number]


def shares_of(body: BodyModel) -> FloatArray:
    """Return what each vertex (V,) counts in a mean: the area around it at rest, for most vertices are hands'."""
    return vertex_areas(np.asarray(body.data.v_template, np.float64), body.data.faces)


def curves_of(errors: list[FloatArray], parts: NDArray[np.character], shares: FloatArray) -> dict[str, FloatArray]:
    """Return the mean error (iterations + 1,) by part and of all vertices, over photos."""
    mean, everywhere = np.mean(errors, 0), np.ones(len(parts), bool)
    inside = {part: everywhere if part == ALL else parts == part for part in COLOURS}
    return {part: np.average(mean[:, own], axis=1, weights=shares[own]) for part, own in inside.items() if own.any()}


def _table(
    descents: list[Descents],
    curves: dict[str, dict[str, FloatArray]],
    shares: FloatArray,
    starts: int,
    seed: int,
    model: str,
) -> Table:
    ends = {start: [_mean(d.errors_mm[start][-1], shares) for d in descents] for start in curves}
    rows = [
        Row("network alone", f"error from {start}", summarise(values, FAILURE_MM)) for start, values in ends.items()
    ]
    spreads = [_mean(d.spread_mm, shares) for d in descents]
    rows.append(
        Row("network alone", f"spread of the ends, {starts} random bodies", summarise(spreads, SPREAD_LIMIT_MM))
    )
    by_part = {start: {part: y[-1] for part, y in parts.items()} for start, parts in curves.items()}
    notes = [
        "error: corresponding vertices weighed by area, mean depth aligned, after "
        f"{ITERATIONS} iterations; by iteration and part in {FILE} and in the details",
        *(f"from {start}: {_words({part: y[0] for part, y in parts.items()})} at the start, "
          f"{_words(by_part[start])} at the end, mm" for start, parts in curves.items()),
        "error of the whole body by iteration, mm: "
        + "; ".join(f"from {start} {', '.join(f'{y:.0f}' for y in parts[ALL])}" for start, parts in curves.items()),
        f"spread: standard deviation of where a vertex ends, mean over the body, {np.mean(spreads):.2f} mm (limit "
        f"{SPREAD_LIMIT_MM:g}; the paper reports 1.2): this is robustness, not uncertainty",
        "mean step by iteration from a point, mm: "
        + ", ".join(f"{x:.1f}" for x in np.mean([d.steps_mm for d in descents], 0)),
    ]  # fmt: skip
    details: dict[str, Any] = {"curves_mm": curves, "spread_mm": spreads, "ends_mm": ends}
    title = f"Convergence on {len(descents)} photos of standing characters, seed {seed}, {model}"
    return Table(title, tuple(rows), tuple(notes), details)


def _mean(values: FloatArray, shares: FloatArray) -> float:
    return float(np.average(values, weights=shares))


def _words(values: dict[str, float]) -> str:
    return ", ".join(f"{name} {value:.0f}" for name, value in values.items())
