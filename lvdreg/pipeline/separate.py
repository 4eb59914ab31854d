"""Tell the people in a scan apart before they are registered: clean it, leave things out, cut it, ask the network."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from jaxtyping import Bool, Int64
from scipy.spatial import cKDTree

from lvdreg.base.errors import RegistrationError
from lvdreg.base.shapes import IntArray, Points
from lvdreg.base.threads import one_torch_thread
from lvdreg.base.timing import one_blas_thread
from lvdreg.body.chosen import source_of
from lvdreg.descent.boxes import body_boxes, up_candidates
from lvdreg.descent.choose import Explained
from lvdreg.descent.people import Part, PeopleConfig, Seen, find_people, is_person
from lvdreg.descent.scan import explain, view_rotations
from lvdreg.descent.weights import voxel_weights
from lvdreg.geometry.frames import scale_of, transform_points
from lvdreg.pipeline.config import RegisterConfig
from lvdreg.scan.clean import clean_scan, keep_points
from lvdreg.scan.cuts import LOOSE, SurfaceGraph
from lvdreg.scan.model import Scan, oriented_points
from lvdreg.scan.normals import face_pieces
from lvdreg.scan.things import find_things

LEAST_SHARE = 0.08
"""Pieces apart with more than this share of the largest may be people."""
LEAST_LEFT_OUT = 0.05
"""Of a scan of which cleaning left out a piece with more than this share of it somebody may be missing."""
NUM_POINTS, NUM_SAMPLES = 40_000, 6000
"""What the network is shown, and the samples of the graph."""


@dataclass(frozen=True)
class SeparatedScan:
    """A scan whose surface was told apart.

    Attributes:
        scan: Cleaned, with everybody in it.
        graph: Of samples of it, things left out.
        is_own: (P,) which points of the scan are nobody's thing.
        owner: (S,) whose each sample is, from 0; -1: nobody's.
        touching: Whether some surface leads from one person to another.
    """

    scan: Scan
    graph: SurfaceGraph
    is_own: Bool[np.ndarray, " P"]
    owner: Int64[np.ndarray, " S"]
    touching: bool

    @property
    def num_people(self) -> int:
        """How many there are."""
        return int(self.owner.max()) + 1

    def person(self, number: int) -> Scan:
        """Return the part of the scan that is a person's."""
        reach = 3 * float(np.median(cKDTree(self.graph.points).query(self.graph.points, k=2)[0][:, 1]))
        # Where two touch, what faces the same way is of the same.
        tree = cKDTree(np.hstack([self.graph.points, reach * self.graph.normals]))
        normals = np.zeros_like(self.scan.points) if self.scan.normals is None else self.scan.normals
        nearest = tree.query(np.hstack([self.scan.points, reach * normals]))[1]
        own = (self.owner[nearest] == number) & self.is_own
        part = keep_points(self.scan, own)
        return replace(part, name=f"{self.scan.name}-{number + 1}", notes=(), left_out_share=0.0)


@one_blas_thread()
@one_torch_thread()
def separate(raw: Scan, asked: dict[str, Any], config: RegisterConfig, wanted: int | None) -> SeparatedScan:
    """Find the people in a scan.

    Args:
        raw: As read.
        asked: What was asked for: model, up, device, seed.
        config: Settings of all stages.
        wanted: How many there should be; None: as many as are seen.

    Raises:
        ScanError: too little is left of the scan.
        RegistrationError: nobody was seen, or others than so many.
    """
    scene = _Scene.of(raw, asked, config)
    found = scene.people(wanted, PeopleConfig())
    if not found:
        raise RegistrationError("expected several people in the scan, saw nobody: look at the scan, or try --people 1")
    if wanted is not None and len(found) != wanted:
        seen = "1 is" if len(found) == 1 else f"{len(found)} are"
        raise RegistrationError(f"--people: expected {wanted} in the scan, {seen} seen: look at the scan, try all or 1")
    owner = np.full(len(scene.graph.points), -1)
    for number, part in enumerate(_in_order(found, scene.graph.points)):
        owner[part.which] = number
    return SeparatedScan(scene.scan, scene.graph, scene.is_own, owner, _touch(scene.graph, owner))


def may_be_several(scan: Scan, explained: Explained | None) -> bool:
    """Say whether it is worth counting the people in a cleaned scan: one does not explain it, or some was left out."""
    is_one = explained is not None and explained.as_whole and is_person(explained, PeopleConfig())
    return not is_one or scan.left_out_share > LEAST_LEFT_OUT


@one_blas_thread()
@one_torch_thread()
def count_people(raw: Scan, asked: dict[str, Any], config: RegisterConfig) -> int:
    """Return how many people a scan shows that is not explained by one: 0 or 1 where it is not by several either.

    Arguments are those of ``separate``.
    """
    quick = PeopleConfig(surely=PeopleConfig.person, max_cuts=2, shared_cuts=0)
    return len(_Scene.of(raw, asked, config).people(None, quick))


@dataclass(frozen=True)
class _Scene:
    """A scan made ready: cleaned with everybody in it, points of it (P, 3) and a graph of some of them, things left
    out, and which points of the scan are nobody's thing (N,)."""

    scan: Scan
    points: Points
    graph: SurfaceGraph
    is_own: Bool[np.ndarray, " N"]
    look: "_Look"

    @classmethod
    def of(cls, raw: Scan, asked: dict[str, Any], config: RegisterConfig) -> "_Scene":
        """Clean a scan and sample it; arguments are those of ``separate``."""
        scan = clean_scan(raw, replace(config.clean, piece_share=LEAST_SHARE))
        points, normals = oriented_points(scan, NUM_POINTS, asked["seed"])
        things = find_things(scan, config.things)
        rest = things.at(points) < 0
        points, normals = points[rest], normals[rest]
        step = max(1, len(points) // NUM_SAMPLES)
        graph = SurfaceGraph(points[::step], normals[::step], _pieces(scan, points[::step]))
        return cls(scan, points, graph, things.at(scan.points) < 0, _Look(asked, config))

    def people(self, wanted: int | None, config: PeopleConfig) -> list[Part]:
        """Find people."""
        return find_people(self.graph, self.points, self.look, wanted, config)


def _pieces(scan: Scan, points: Points) -> Int64[np.ndarray, " S"] | None:
    """Return on which connected piece of a scan's mesh samples lie (S,); None of a cloud."""
    if scan.faces is None:
        return None
    piece = np.full(len(scan.points), -1)
    piece[scan.faces] = face_pieces(scan.faces, len(scan.points))[:, None]
    return np.asarray(piece[cKDTree(scan.points).query(points)[1]], np.int64)


class _Look:
    """Asks the network about points of a scan; all people of a scan have one up, likely."""

    def __init__(self, asked: dict[str, Any], config: RegisterConfig) -> None:
        self.ups = up_candidates(asked["up"])
        self.net = voxel_weights(source_of(asked["model"]), asked["device"]).net
        self.views, self.descent = replace(config.views, part_zooms=(), num_views=2), config.descent
        self.likely: str | None = None

    def __call__(self, points: Points) -> Seen:
        if self.likely is not None:
            one = self._ask(points, [self.likely])
            if one.explained.score < self.views.doubtful_score:
                return one
        seen = self._ask(points, list(self.ups))
        if seen.explained.score < self.views.doubtful_score:
            self.likely = seen.up
        return seen

    def _ask(self, points: Points, ups: list[str]) -> Seen:
        boxes = body_boxes(points, {up: self.ups[up] for up in ups}, self.net.config.voxel.num_points)
        turns = view_rotations(self.views)
        explained, box, body = explain(self.net, points, boxes, turns, self.views, self.descent)
        assert body is not None  # No parts were tried.
        T_scan_unit = np.linalg.inv(box.T_unit_scan).astype(np.float64)
        return Seen(explained, transform_points(T_scan_unit, body), box.name, 2 * scale_of(T_scan_unit))


def _in_order(found: Sequence[Part], points: Points) -> list[Part]:
    """Return people along the axis on which their middles are spread most: stable, whoever is the larger."""
    middles = np.array([points[part.which].mean(0) for part in found])
    axis = int(np.ptp(middles, axis=0).argmax())
    return [found[i] for i in np.argsort(middles[:, axis], kind="stable")]


def _touch(graph: SurfaceGraph, owner: IntArray) -> bool:
    """Whether surface leads from one person to another."""
    entries = graph.weights.tocoo()
    a, b = owner[entries.row], owner[entries.col]
    return bool(((a != b) & (a >= 0) & (b >= 0) & (entries.data > 2 * LOOSE)).any())
