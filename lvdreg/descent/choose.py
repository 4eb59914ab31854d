"""In which box: where a few vertices that descend in each explain the scan best.

A box is one hypothesis of where and how the body lies: an axis that points up, or the side and the place of a hand. The
network is asked about the scan turned in several ways in each plausible box; a few hundred vertices are enough to see
how well it explains each: how close the vertices it carries to rest lie to the points in the box, and the points to
them, and how well the views agree. A scan that is explained badly may show a part of somebody: then larger boxes are
tried, of which it is the top.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from jaxtyping import Bool, Float, Float64, Int
from numpy.typing import NDArray
from scipy.spatial import cKDTree
from torch import Tensor

from lvdreg.base.errors import RegistrationError
from lvdreg.base.shapes import FloatArray
from lvdreg.base.threads import side_by_side
from lvdreg.descent.boxes import Box, around, evenly, of_part, to_unit
from lvdreg.descent.descend import DescentConfig, descend
from lvdreg.geometry.frames import scale_of, transform_points
from lvdreg.voxel.encoder import VoxelFeatures
from lvdreg.voxel.network import VoxelNet


@dataclass(frozen=True)
class ViewConfig:
    """From how many sides the network looks at a scan.

    Numbers of views, coarse vertices and steps are what descents cost and still decided as all vertices did (LOG.md,
    "Views"); exponents, tilt and the number of coarse views of hands were chosen on 80 synthetic hands and checked on
    100 others (LOG.md, "Which hand it is"). The rest was chosen by hand, not tuned.
    """

    num_views: int = 4
    tilt: float | None = None
    """Views turn by so many degrees about different axes, the first not at all; None: all around Y by equal steps."""
    coarse_vertices: int = 350
    coarse_steps: int = 6
    coarse_points: int = 1500
    rare_ups: tuple[str, ...] = ("-y", "-z", "+x", "-x")
    rare_up_penalty: float = 1.1
    """Boxes of these names must explain the scan clearly better."""
    min_probability: float = 0.05
    """Boxes less likely than this are not tried by a coarse descent."""
    score_exponent: float = 8.0
    """How much a coarse descent decides: the likelihood is the probability times the score to the minus this."""
    consensus_exponent: float = 4.0
    """How much it decides that views agree: times their spread to the minus this. In a wide skirt the body upside down
    explains the cone as well as the right one does, but views only agree on the right one."""
    extent_exponent: float = 4.0
    """Times how far the vertices reach to this: views that know nothing agree on a clump in the middle. Both were
    chosen on 20 people in gowns and coats (scripts/bench_gowns.py, seed 0), and 3 of seed 1: all 23 are right, 6 are
    not by the scores alone."""
    coarse_views: int = 2
    """Views of a coarse descent, where there is more than one box to choose from."""
    rival_ratio: float = 1.6
    """Where the first view explains a scan well in some box, others look only in boxes that it explains at most so many
    times worse. Chosen by hand (LOG.md, "Seconds of a registration")."""
    second_hand_ratio: float = 0.0
    second_hand_spread: float = 0.028
    """Another hand lies beside the best if its score times its spread is less than so many times the best one's (0: it
    is not looked for), and its spread less than this: second hands had 0.011 to 0.026, and one 0.034, things 0.031 and
    more. Both were chosen on the very scans whose figures LOG.md gives ("A hand among pieces"): on others they will do
    worse."""
    consensus_cutoff: float = 0.08
    doubtful_score: float = 0.11
    """A body explained worse than this may be only a part of one, or no body at all."""
    part_zooms: tuple[float, ...] = (1.4, 2.0)
    """How many times as large as the scan a whole body may be, of which the scan shows the upper part. These settings
    of parts were chosen on crops of three synthetic people, and checked on three others (LOG.md, "Parts of people")."""
    part_penalty: float = 1.1
    """The part must explain the scan better than the whole by this factor. Where parts are weighed, exponents of
    consensus and score count as above, and how likely bodies of a length are as probabilities do."""
    part_rounds: int = 2
    parts_again: int = 3
    """How often the network looks again at so many of the best, in boxes around what it found there."""
    detector_rounds: int = 2
    """How often the hand detector looks again where its last answer was."""
    detector_hypotheses: int = 2
    """At how many frames of each side."""

    def __post_init__(self) -> None:
        if self.num_views < 1:
            raise ValueError(f"num_views: expected at least 1, got {self.num_views}")


MIN_SPREAD = 1e-4
"""Views that agree better than this, in box units, agree."""
SHOWN_MARGIN = 0.03
"""Vertices no farther than this outside of the scan's bounding box, in box units, should be seen in it."""
LARGEST_OVERLAP = 0.2
"""Boxes apart share less than this of the points of the one that holds fewer; hands side by side, of vertices."""
LEAST_INSIDE = 0.98
"""A box around what was found holds at least this share of the scan: hair and clothes may reach a little beyond."""
SAME_PLACE = 0.15
"""Vertices closer than this, in box units, are in the same place: a finger is as thick."""


@dataclass(frozen=True)
class CoarseView:
    """What a few vertices say in one view of a box: where they rest (N, 3), and the scores of ``CoarseDescent``."""

    features: VoxelFeatures
    vertices: Float[Tensor, "N 3"]
    score: float
    shown_score: float


@dataclass(frozen=True)
class CoarseDescent:
    """What a few vertices, ``subset``, say in one box; each view's are in its own frame.

    ``score`` is their mean distance to the scan, both ways, ``shown_score`` the same without vertices beyond what was
    scanned, and ``spread`` how far views disagree; smaller is better. ``extent`` is the standard deviation
    of the vertices along the axis where it is largest, ``top`` the scan's highest point.
    """

    views: tuple[CoarseView, ...]
    subset: Int[Tensor, " N"]
    vertices: Float[Tensor, "W N 3"]
    score: float
    shown_score: float
    spread: float
    extent: float
    top: float

    @classmethod
    def of(
        cls, views: Sequence[CoarseView], subset: Int[Tensor, " N"], turns: Float[Tensor, "W 3 3"], top: float
    ) -> "CoarseDescent":
        """Put views together; the scores are those of the median view."""
        vertices = torch.stack([view.vertices for view in views])
        return cls(
            views=tuple(views),
            subset=subset,
            vertices=vertices,
            score=float(np.median([view.score for view in views])),
            shown_score=float(np.median([view.shown_score for view in views])),
            spread=float((vertices @ turns).std(0, correction=0).norm(dim=-1).median()),
            extent=max(float(vertices.std(1, correction=0).amax(-1).median()), MIN_SPREAD),
            top=top,
        )

    @property
    def features(self) -> VoxelFeatures:
        """Features of all views."""
        return self.views[0].features.joined([view.features for view in self.views])

    def middle(self, turns: Float[Tensor, "W 3 3"]) -> Float64[np.ndarray, "N 3"]:
        """Return where the vertices lie in the middle of all views, unit frame."""
        middle: FloatArray = (self.vertices @ turns).median(0).values.double().cpu().numpy()
        return middle


@dataclass(frozen=True)
class Explained:
    """How well a few vertices explain a scan; smaller is better.

    Attributes:
        score: Mean distance between them and the scan, both ways, unit frame.
        distance: The same in the scan's own unit, without vertices beyond what was scanned.
        spread: How far views disagree, unit frame.
        as_whole: Whether a whole body explains it so well that parts of one were not tried.
    """

    score: float
    distance: float
    spread: float
    as_whole: bool = True

    @classmethod
    def of(cls, coarse: CoarseDescent, box: Box) -> "Explained":
        """Return it of what was found in a box."""
        return cls(coarse.score, coarse.shown_score / scale_of(box.T_unit_scan), coarse.spread)


def any_length(length: float) -> float:
    """Return one: bodies of all lengths are as likely."""
    return 1.0


@dataclass(frozen=True)
class Look:
    """What the network says about the points of a scan in a box, from several sides."""

    net: VoxelNet
    points_scan: NDArray[np.float64]
    config: ViewConfig
    descent: DescentConfig
    lengths: Callable[[float], float] = any_length
    """How likely a body of a length is, in the scan's numbers."""

    def inside(self, box: Box) -> Float[Tensor, "P 3"]:
        """Return the points in a box, unit frame."""
        return _inside(self.points_scan, box, self.net.config.voxel.num_points)

    def share_inside(self, box: Box) -> float:
        """Return how much of the scan is in a box."""
        points = self.points_scan if box.keep is None else self.points_scan[box.keep]
        return float(_in_box(to_unit(points, box.T_unit_scan)).float().mean())

    def __call__(
        self,
        boxes: Sequence[Box],
        turns: Float[Tensor, "W 3 3"],
        zooms: Sequence[float] = (),
        known: Sequence[CoarseDescent] = (),
    ) -> list[CoarseDescent]:
        """Let a few vertices descend in every view of every box, views side by side.

        Args:
            boxes: Where to look.
            turns: Rotations of the views.
            zooms: By how much larger each box is than the scan, where that is known: more vertices descend where the
                scan is a small part of the body, for fewer would lie in it.
            known: What was found in each box in the first of these views, where that is known.
        """
        points = [self.inside(box).to(turns.device) for box in boxes]
        subsets = [self._subset(zoom) for zoom in zooms or [1.0] * len(boxes)]
        before = [coarse.views for coarse in known] or [()] * len(boxes)
        missing = [(i, turn) for i in range(len(boxes)) for turn in turns[len(before[i]) :]]
        found = side_by_side(lambda at: self._view(points[at[0]], at[1], subsets[at[0]]), missing)
        views = [list(some) for some in before]
        for (i, _), view in zip(missing, found, strict=True):
            views[i].append(view)
        tops = [float(some[:, 1].max()) for some in points]
        return [CoarseDescent.of(views[i], subsets[i], turns, tops[i]) for i in range(len(boxes))]

    def _subset(self, zoom: float) -> Int[Tensor, " N"]:
        count = self.net.field.num_vertices
        stride = max(count // round(self.config.coarse_vertices * zoom), 1)
        return torch.arange(0, count, stride, device=self.net.field.codes.device)

    def _view(self, points: Float[Tensor, "P 3"], turn: Float[Tensor, "3 3"], subset: Int[Tensor, " N"]) -> CoarseView:
        """Let a few vertices descend in one view; the scores are distances, both ways."""
        turned = (points @ turn.T)[None]
        features = self.net.features(turned, torch.ones(turned.shape[:2], dtype=torch.bool, device=turned.device))
        short = replace(self.descent, max_steps=min(self.descent.max_steps, self.config.coarse_steps))
        vertices = descend(self.net.field, features, 1, short, subset).vertices[0]
        found = (vertices @ turn).cpu().numpy()
        some = points[:: max(len(points) // self.config.coarse_points, 1)].cpu().numpy()
        to_scan, back = cKDTree(some).query(found)[0], cKDTree(found).query(some)[0].mean()
        shown = ((found > some.min(0) - SHOWN_MARGIN) & (found < some.max(0) + SHOWN_MARGIN)).all(1)
        of_shown = to_scan[shown].mean() if shown.any() else np.inf
        return CoarseView(features, vertices, float(to_scan.mean() + back), float(of_shown + back))


@dataclass(frozen=True)
class Choice:
    """The best box with what a few vertices say in it (None: not kept), how well it explains the scan, how sure
    its name is, the scores of ``Views``, and the name of another box in which a hand lies beside this one."""

    box: Box
    coarse: CoarseDescent | None
    explained: Explained
    confidence: float
    scores: dict[str, float]
    second: str | None


def choose(look: Look, boxes: Sequence[Box], turns: Float[Tensor, "W 3 3"]) -> Choice:
    """Let a few vertices descend in each plausible box."""
    config, filled = look.config, [bool(len(look.inside(box))) for box in boxes]
    plausible = [i for i, box in enumerate(boxes) if filled[i] and box.probability >= config.min_probability]
    plausible = plausible or [i for i in range(len(boxes)) if filled[i]][:1]
    if not plausible:
        raise RegistrationError("expected a body in the scan, found no points where it should be; check the scan")
    few = turns[: config.coarse_views] if len(plausible) > 1 else turns
    tried = [boxes[i] for i in plausible]
    glance = few[:1] if len(plausible) > 1 and np.isfinite(config.rival_ratio) else few
    coarse_descents = dict(zip(plausible, look(tried, glance), strict=True))
    rivals = _rivals(coarse_descents, boxes, config)
    seen = look([boxes[i] for i in rivals], few, known=[coarse_descents[i] for i in rivals])
    coarse_descents |= zip(rivals, seen, strict=True)
    likely = {i: _likelihood(coarse_descents[i], boxes[i], config) for i in rivals}
    best = max(likely, key=lambda i: likely[i])
    box, coarse = boxes[best], coarse_descents[best]
    # Of boxes that only one view has looked in views may agree as well.
    others = {i: replace(coarse_descents[i], spread=coarse.spread) for i in plausible if i not in likely}
    likely |= {i: _likelihood(other, boxes[i], config) for i, other in others.items()}
    confidence = _confidence(box.name, likely, boxes)
    scores = {i: coarse.score for i, coarse in coarse_descents.items()} if len(plausible) > 1 else {}
    hands = [i for i in rivals if _is_second_hand(coarse_descents[i], coarse, config)]
    apart = _apart(look.points_scan, boxes, best) if hands else []
    second = [i for i in hands if i in apart or _is_elsewhere(coarse_descents[i], boxes[i], coarse, box, few)]
    kept: CoarseDescent | None = coarse
    explained = Explained.of(coarse, box)
    if config.part_zooms and coarse.score > config.doubtful_score:
        alike = [i for i in plausible if boxes[i].keep is box.keep]
        whole_boxes = [boxes[i] for i in alike]
        seen = look(whole_boxes, few, known=[coarse_descents[i] for i in alike])
        whole = list(zip(whole_boxes, seen, strict=True))
        kept, (box, explained, confidence) = None, _of_part(look, whole, few)
        explained = replace(explained, as_whole=False)
    return Choice(
        box,
        kept,
        explained,
        confidence,
        {boxes[i].name: scores[i] for i in sorted(scores, key=lambda i: -scores[i]) if boxes[i].keep is box.keep},
        boxes[second[0]].name if second else None,
    )


def _rivals(first: dict[int, CoarseDescent], boxes: Sequence[Box], config: ViewConfig) -> list[int]:
    """Return in which boxes more views are worth their time, by what the first one found."""
    alone = {i: _likelihood(replace(coarse, spread=1.0), boxes[i], config) for i, coarse in first.items()}
    best = max(alone, key=lambda i: alone[i])
    if first[best].score > config.doubtful_score:
        return list(first)
    return [i for i in first if alone[i] * config.rival_ratio**config.score_exponent >= alone[best]]


def _inside(points_scan: NDArray[np.float64], box: Box, count: int) -> Float[Tensor, "P 3"]:
    """Return points in a box, unit frame, at most ``count``: how many cells of the grid are filled should look as it
    did in training."""
    points = to_unit(points_scan if box.keep is None else points_scan[box.keep], box.T_unit_scan)
    points = points[_in_box(points)]
    return points[torch.from_numpy(evenly(len(points), count))]


def _in_box(points_unit: Float[Tensor, "P 3"]) -> Bool[Tensor, " P"]:
    return (points_unit.abs() <= 1).all(-1)


def _apart(points_scan: NDArray[np.float64], boxes: Sequence[Box], best: int) -> list[int]:
    """Return which boxes of other groups share hardly a point with the best one."""
    others = [i for i, box in enumerate(boxes) if box.group != boxes[best].group]
    if not others:
        return []
    held = {i: _in_box(to_unit(points_scan, boxes[i].T_unit_scan)) for i in (best, *others)}
    shared = {i: int((held[i] & held[best]).sum()) / max(int(min(held[i].sum(), held[best].sum())), 1) for i in others}
    return [i for i in others if shared[i] < LARGEST_OVERLAP]


def _is_elsewhere(
    other: CoarseDescent, other_box: Box, best: CoarseDescent, box: Box, turns: Float[Tensor, "W 3 3"]
) -> bool:
    """Tell whether what was found in another box lies beside what was found in the best one."""
    T_unit_other = box.T_unit_scan @ np.linalg.inv(other_box.T_unit_scan)
    points, found = transform_points(T_unit_other, other.middle(turns)), best.middle(turns)
    return bool((cKDTree(found).query(points)[0] < SAME_PLACE).mean() < LARGEST_OVERLAP)


def _of_part(
    look: Look, whole: Sequence[tuple[Box, CoarseDescent]], turns: Float[Tensor, "W 3 3"]
) -> tuple[Box, Explained, float]:
    """Choose the box where the scan may show no more than the upper part of somebody.

    The network knows bodies that fill their box. So it looks at the scan as a smaller part of larger boxes, and once
    more in boxes around the likeliest bodies that it finds there. Vertices beyond what was scanned do not count.

    Args:
        look: What the network says.
        whole: Boxes that the scan fills, and what was found in them.
        turns: Rotations of the views.

    Returns:
        The best box, how well it explains the scan, and how sure its name is, 0 to 1.
    """
    config = look.config
    found = [_Part.of(box, coarse, turns, look, is_whole=True) for box, coarse in whole]

    def try_also(boxes: list[Box]) -> None:
        scale = scale_of(whole[0][0].T_unit_scan)
        for box in boxes:  # one after the other: features of all of them would take too much memory
            coarse = look([box], turns, [scale / scale_of(box.T_unit_scan)])[0]
            found.append(_Part.of(box, coarse, turns, look))

    try_also([of_part(box, coarse.top, zoom) for box, coarse in whole for zoom in config.part_zooms])
    for _ in range(config.part_rounds):
        best = sorted(found, key=lambda part: part.cost)[: config.parts_again]
        again = [around(part.box, part.body) for part in best]
        # What a box cuts off would not be missed in it.
        try_also([box for box in again if look.share_inside(box) > LEAST_INSIDE])
    best_part = min(found, key=lambda part: part.cost)
    weights = np.array([part.cost for part in found]) ** -config.score_exponent
    own = weights[[part.box.name == best_part.box.name for part in found]].sum()
    return best_part.box, best_part.explained, float(own / weights.sum())


@dataclass(frozen=True)
class _Part:
    """What is kept of a box tried for a part of somebody: not the features of so many."""

    box: Box
    explained: Explained
    body: Float64[np.ndarray, "N 3"]
    cost: float

    @classmethod
    def of(
        cls,
        box: Box,
        coarse: CoarseDescent,
        turns: Float[Tensor, "W 3 3"],
        look: Look,
        is_whole: bool = False,
    ) -> "_Part":
        """Return it: a part must explain the scan clearly better, and of a whole body all vertices count.

        Under a gown no body explains the cone, and legs beyond its hem at least do not count. But views agree on the
        body that is there, and the other one would be a giant.
        """
        config, explained, body = look.config, Explained.of(coarse, box), coarse.middle(turns)
        rare = config.rare_up_penalty if box.name in config.rare_ups else 1.0
        scale = scale_of(box.T_unit_scan)
        distance = coarse.score / scale if is_whole else config.part_penalty * explained.distance
        consensus = max(coarse.spread, MIN_SPREAD) ** config.consensus_exponent
        unlikely = consensus / look.lengths(float(np.ptp(body, axis=0).max()) / scale)
        return cls(box, explained, body, rare * distance * unlikely ** (1 / config.score_exponent))


def _is_second_hand(other: CoarseDescent, best: CoarseDescent, config: ViewConfig) -> bool:
    """Tell whether another box holds a hand as well: it explains its points and its views agree about as well."""
    ratio = max(other.spread, MIN_SPREAD) / max(best.spread, MIN_SPREAD)
    return other.spread < config.second_hand_spread and other.score * ratio < config.second_hand_ratio * best.score


def _likelihood(coarse: CoarseDescent, box: Box, config: ViewConfig) -> float:
    """Weigh how likely a box was with how well the network explains the scan in it, and how surely.

    Scanners write Y or Z up; another axis must explain the scan clearly better.
    """
    score = coarse.score * (config.rare_up_penalty if box.name in config.rare_ups else 1.0)
    consensus = max(coarse.spread, MIN_SPREAD) ** -config.consensus_exponent * coarse.extent**config.extent_exponent
    return float(box.probability * score**-config.score_exponent * consensus)


def _confidence(name: str, likely: dict[int, float], boxes: Sequence[Box]) -> float:
    """Return the share of the boxes of one name; what was not tried counts as it was thought before."""
    before = np.array([box.probability for box in boxes]) / max(sum(box.probability for box in boxes), 1.0)
    tried = list(likely)
    own = sum(value for i, value in likely.items() if boxes[i].name == name) / sum(likely.values())
    rest = sum(float(before[i]) for i, box in enumerate(boxes) if i not in likely and box.name == name)
    return float(own * before[tried].sum() + rest)
