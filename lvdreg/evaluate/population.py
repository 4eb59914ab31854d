"""Whom benchmarks scan: clothed people, and hands; each scan comes with the truth that it was made from.

Training counts its seeds up from zero: the seeds here are hashes, nowhere near. One thread draws, for their number
decides on last digits, and these on which points are seen: equal seeds give equal scans.
"""

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache, partial
from typing import Any

import numpy as np
import torch

from lvdreg.base.errors import UsageError
from lvdreg.base.shapes import FloatArray
from lvdreg.base.threads import one_torch_thread
from lvdreg.body.catalogue import load_body
from lvdreg.body.model import BodyModel
from lvdreg.descent.boxes import METRES_PER_UNIT, UPS
from lvdreg.evaluate.baseline import chamfer_from_rest
from lvdreg.evaluate.cache import Arrays
from lvdreg.geometry.frames import similarity, transform_directions, transform_points
from lvdreg.pipeline.config import HAND
from lvdreg.pipeline.scan import register, register_hand
from lvdreg.result.scan import Registration
from lvdreg.scan.model import Scan, scan_from_arrays
from lvdreg.synth.draw import Draw
from lvdreg.synth.hand_scans import COMPLETE, ONE_SIDED, HandStream
from lvdreg.synth.hands.props import draw_rotations
from lvdreg.synth.scans import Samples, SynthStream
from lvdreg.synth.streams import stream_of

SYNTHETIC_POINTS = 30_000
HAND_LENGTH = 0.190
"""Errors of hands are those of a hand of this length, metres, from the wrist's rim to the tip of the middle finger."""
HAND_UNITS = ("m", "cm", "mm")
HAND_PLACE = 0.5
"""Standard deviation of where hands lie, metres along each axis."""
CLOSED_REACH = 0.75
"""A hand is closed when nothing of it is further from its wrist than this share of what it is stretched out."""
VIEWS = {"complete": COMPLETE, "one-sided": ONE_SIDED, "mixed": None}
PEOPLE_METRICS = {
    "descent": "corresponding_vertex after descent",
    "fit": "corresponding_vertex after fit",
    "refined": "corresponding_vertex after refinement",
    "fit_joint": "joint after fit, all",
    "joint": "joint after refinement, all",
    "body_joint": "joint after refinement, without fingers",
    "body_to_body": "body_to_body after refinement",
}
HAND_METRICS = {
    "descent": "corresponding_vertex after descent",
    "fit": "corresponding_vertex after fit",
    "refined": "corresponding_vertex after refinement",
    "registered": "corresponding_vertex of the registered surface",
    "fit_joint": "joint after fit",
    "joint": "joint after refinement",
    "body_to_body": "body_to_body after refinement",
    "surface": "point_to_surface scan to registered, the hand's part",
}


@dataclass(frozen=True)
class Subject:
    """One scan and its truth.

    Attributes:
        scan: As a scanner would have written it.
        vertices: (V, 3) true body under the scan, scan frame and unit.
        joints: (J, 3) its joints.
        frame: (3, 3) from the scan's axes to the world's; a reflection is in it for a left hand.
        unit: Unit of the scan.
        size: What true lengths are multiplied by before they are reported.
        side: Which hand; None of a person.
        groups: What else can be said of it: figures are reported for each group apart.
    """

    scan: Scan
    vertices: FloatArray
    joints: FloatArray
    frame: FloatArray
    unit: str = "m"
    size: float = 1.0
    side: str | None = None
    groups: tuple[str, ...] = ()

    @property
    def metres(self) -> float:
        """What lengths of the scan are multiplied by to be reported in metres."""
        return self.size * METRES_PER_UNIT[self.unit]


@dataclass(frozen=True)
class Population:
    """Subjects without end, and how they are registered.

    Attributes:
        title: What a table of its figures is called.
        model: The model that is registered.
        draw: Gives the subject of a seed and a number.
        register: What registers a scan.
        baseline: Fits a subject without a network, told all that it could need.
        metrics: What is measured, by the names in synthetic.py, and in words.
        grouped: Which of these are also reported for each group.
        failure_mm: Above this a scan is lost.
        right_mm: Up to this mean error a result should be called good.
        wrong_mm: Above this it should not.
        notes: What a reader of the figures must know.
    """

    title: str
    model: str
    draw: Callable[[int, int], Subject]
    register: Callable[..., Registration]
    baseline: Callable[[Subject], Arrays]
    metrics: dict[str, str]
    failure_mm: float
    right_mm: float
    wrong_mm: float
    grouped: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()


def people(model: str) -> Population:
    """Return clothed and noisy scans of people, metres, Y up."""

    def baseline(subject: Subject) -> Arrays:
        return chamfer_from_rest(subject.scan, model)

    return Population(
        title="Synthetic scans",
        model=model,
        draw=partial(draw_person, model),
        register=register,
        baseline=baseline,
        metrics=PEOPLE_METRICS,
        failure_mm=100.0,
        right_mm=15.0,
        wrong_mm=30.0,
    )


def hands(model: str, views: str) -> Population:
    """Return scans of hands, half of them left, half with an object, in any orientation, place and unit.

    Args:
        model: Name of a hand, with ``+d`` or without.
        views: "complete" surfaces, "one-sided" depth views, or "mixed" as in training.

    Raises:
        UsageError: no such views.
    """
    if views not in VIEWS:
        raise UsageError(f"--views: expected one of {', '.join(VIEWS)}, got {views!r}")

    def baseline(subject: Subject) -> Arrays:
        told: dict[str, Any] = {"unit": subject.unit, "frame": subject.frame, "num_yaws": 1, "heights": (1.0,)}
        return chamfer_from_rest(subject.scan, model, config=HAND, **told)

    metrics = {k: v for k, v in HAND_METRICS.items() if k != "registered" or model.endswith("+d")}
    return Population(
        title=f"Synthetic hands, {views}",
        model=model,
        draw=partial(draw_hand, model, views),
        register=register_hand,
        baseline=baseline,
        metrics=metrics,
        failure_mm=30.0,
        right_mm=2.0,
        wrong_mm=4.0,
        grouped=("refined", "joint"),
        notes=(
            f"all lengths are those of a hand {1000 * HAND_LENGTH:.0f} mm long; half are left hands; unit and side are "
            "found, not given",
            "for orientation only: LVD's paper reports 9.6 mm a vertex and 7.6 mm a joint for MANO, on real scans of "
            "its own test set: other data and another model of the hand, not comparable one to one",
        ),
    )


@one_torch_thread()
def draw_person(model: str, seed: int, index: int) -> Subject:
    """Draw one synthetic scan of a person, with the naked body beneath."""
    sample = stream(model).scans(1, SYNTHETIC_POINTS, _generator(f"evaluate synthetic {seed} {index}"))
    return _subject(sample, f"synthetic_{seed}_{index:04d}", np.eye(4), frame=UPS["+y"])


@one_torch_thread()
def draw_hand(model: str, views: str, seed: int, index: int) -> Subject:
    """Draw one synthetic scan of a hand; every other one is a left hand."""
    hands, words = stream(model), f"evaluate hands {views} {seed} {index}"
    if not isinstance(hands, HandStream):
        raise UsageError(f"--model: expected a hand, got {model!r}")
    generator = _generator(words)
    sample = hands.scans(1, SYNTHETIC_POINTS, generator, VIEWS[views])
    turn = draw_rotations(Draw(1, generator))[0].double().numpy()
    place = HAND_PLACE * torch.randn(3, generator=generator).double().numpy()
    unit = HAND_UNITS[int(torch.randint(len(HAND_UNITS), (), generator=generator))]
    side = ("right", "left")[index % 2]
    linear = turn @ np.diag([-1.0 if side == "left" else 1.0, 1.0, 1.0])
    T_scan_palm = similarity(1 / METRES_PER_UNIT[unit], linear, place / METRES_PER_UNIT[unit])
    # The same state of the generator draws the same scene: what is held is not told by the points.
    scene = hands.scenes(1, _generator(words))
    rest, joints = (x[0].double().numpy() for x in hands.body.rest(scene.params.betas))
    groups = ["with object" if bool(scene.prop.present[0]) else "without object"]
    if _reach(sample.vertices[0].double().numpy(), sample.joints[0, 0].double().numpy()) < CLOSED_REACH * _reach(
        rest, joints[0]
    ):
        groups.append("closed hands")
    return _subject(
        sample,
        f"hand_{views}_{seed}_{index:04d}",
        T_scan_palm,
        frame=linear.T,
        unit=unit,
        size=HAND_LENGTH / float(np.ptp(rest[:, 1])),
        side=side,
        groups=tuple(groups),
    )


@lru_cache(maxsize=2)
def stream(model: str) -> SynthStream | HandStream:
    """Return the stream of a model's body, with displacements or without."""
    body: BodyModel = load_body(model.removesuffix("+d"))
    return stream_of(body)


def _generator(words: str) -> torch.Generator:
    digest = hashlib.sha256(words.encode()).digest()
    return torch.Generator().manual_seed(int.from_bytes(digest[:7], "big"))


def _reach(vertices: FloatArray, wrist: FloatArray) -> float:
    return float(np.linalg.norm(vertices - wrist, axis=1).max())


def _subject(sample: Samples, name: str, T_scan_world: FloatArray, **about: Any) -> Subject:
    """Bring a sample of one, which is in metres, to the frame and unit of its scan."""
    valid = sample.valid[0]
    points, normals = (x[0][valid].double().numpy() for x in (sample.points, sample.normals))
    vertices, joints = (transform_points(T_scan_world, x[0].double().numpy()) for x in (sample.vertices, sample.joints))
    known = transform_directions(T_scan_world, normals) if normals.any() else None
    scan = scan_from_arrays(transform_points(T_scan_world, points), normals=known, name=name)
    return Subject(scan, vertices, joints, **about)
