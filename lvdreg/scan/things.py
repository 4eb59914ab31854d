"""Find what people stand, lie and sit on, and lean against: flat pieces and poles, which people do not have.

The cleaning before (segment.py) removes floors, walls and tables, planes at the border of a scene. Things that touch a
person have thickness, sides and legs: their flat faces are found one by one, then long cylinders, then what is left
between them and apart from the person. Everything here is a guess from the shape alone, which flat clothes can wrong:
whether the guess helps is for the descent to say (descent/scan.py), and what of it lies on the body is the person's
after all (fit/correspond.py).

Local RANSAC (Fischler and Bolles 1981) on points with normals, as Schnabel and others do (2007), largest first.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Int64
from numpy.typing import NDArray
from scipy.spatial import cKDTree

from lvdreg.base.shapes import BoolArray, FloatArray, Points
from lvdreg.geometry.mesh import unit_rows
from lvdreg.scan.model import Scan, sample_oriented
from lvdreg.scan.normals import thinned
from lvdreg.scan.segment import CleanConfig, link, main_cluster, robust_extent


@dataclass(frozen=True)
class ThingConfig:
    """Finding things; lengths are shares of the scan's extent, areas of its square: its unit is not known yet.

    Chosen by hand on the scenes of seed 1 (lvdreg/synth/scenes.py), checked on those of seed 2 (LOG.md, "Scenes").
    """

    num_samples: int = 12_000
    tolerance: tuple[float, float] = (0.0018, 0.004)
    """Flat is what keeps this close to a plane, 3 mm of a person; up to 7 where the scan is noisy."""
    min_flat: float = 0.04
    """The least area of the first flat face of a thing, 0.12 square metres: backs are bent."""
    min_side: float = 0.008
    """And of those that touch it, along it or at right angles to it: 0.025 square metres."""
    min_length: float = 0.25
    slenderness: float = 12.0
    """Poles are at least so long, and so many times as long as their radius."""
    max_radius: float = 0.035
    roundness: float = 0.87
    """So much of a pole's surface is seen: a back or a hand hides some."""
    piece_flatness: float = 0.7
    """A piece apart from the person is a thing if so much of it is flat or round."""
    crumb: float = 0.004
    """Pieces of less than this share of the area go with what is around them."""


MAX_PRIMITIVES = 20
RIGHT_ANGLE = 0.12
"""Cosine below which faces are at right angles, within 7 degrees."""
_NUM_HYPOTHESES, _NUM_SCORED = 250, 3000
_COSINE, _LOOSE_COSINE = 0.96, 0.5


@dataclass(frozen=True)
class Things:
    """What may be things.

    Attributes:
        samples: (S, 3) even samples of the scan.
        label: (S,) which thing each belongs to, from 0; -1: the person's.
        reach: A point further than this from all samples of its thing is not of it.
    """

    samples: Points
    label: Int64[np.ndarray, " S"]
    reach: float

    @property
    def is_empty(self) -> bool:
        """Nothing was found."""
        return not (self.label >= 0).any()

    def at(self, points: Points) -> Int64[np.ndarray, " P"]:
        """Return the thing (P,) that points of the scan belong to, that of the nearest sample; -1: the person's."""
        if self.is_empty:
            return np.full(len(points), -1)
        return self.label[cKDTree(self.samples).query(points)[1]]


def find_things(scan: Scan, config: ThingConfig | None) -> Things:
    """Find things in a cleaned scan.

    Args:
        scan: With normals.
        config: Settings; None: nothing is looked for.

    Returns:
        The things; there are none where hardly anything else would be left.
    """
    if config is None:
        return Things(np.zeros((0, 3)), np.zeros(0, np.int64), 0.0)
    rng = np.random.default_rng(0)
    finder = _Finder(*_even_samples(scan, config.num_samples, rng), config, rng)
    finder.take_flats()
    finder.take_poles()
    if scan.faces is None:
        finder.take_sticks()
    if (finder.label >= 0).any():
        finder.take_pieces()
    label = finder.label
    if (label < 0).mean() < 0.05:
        label = np.full(len(label), -1)
    return Things(finder.points, label, 3 * finder.spacing)


def _even_samples(scan: Scan, count: int, rng: np.random.Generator) -> tuple[FloatArray, FloatArray]:
    """Return points (S, 3) and unit normals (S, 3): of a mesh those of its faces, since edges of boxes are sharp."""
    if scan.faces is not None:
        return sample_oriented(scan.points, scan.faces, None, count, rng)
    # In random order: the first of them would be those on one side.
    chosen = rng.permutation(thinned(scan.points, count, rng))[:count]
    return scan.points[chosen], np.zeros((len(chosen), 3)) if scan.normals is None else scan.normals[chosen]


@dataclass(frozen=True)
class _Kind:
    """A kind of primitive: hypotheses from samples, the best one through many, and which points lie on one."""

    propose: "Callable[[_Finder, NDArray[np.int64]], FloatArray]"
    fit: Callable[[FloatArray, FloatArray], FloatArray]
    near: Callable[[FloatArray, FloatArray, FloatArray, float, float], BoolArray]


class _Finder:
    """Samples, and which of them belong to what was found so far."""

    def __init__(self, points: FloatArray, normals: FloatArray, config: ThingConfig, rng: np.random.Generator) -> None:
        self.points, self.config, self.rng = points, config, rng
        self.extent = robust_extent(points)
        distance, self.neighbours = cKDTree(points).query(points, k=min(13, len(points)))
        sixth = float(np.median(distance[:, min(6, distance.shape[1] - 1)]))
        self.spacing, self.area = sixth / 6**0.5 * np.pi**0.5, np.pi * sixth**2 / 6
        self.normals = self._smoothed(normals)
        self.tolerance = self.extent * float(np.clip(2.5 * self._noise() / self.extent, *config.tolerance))
        self.max_radius, self.is_near = config.max_radius * self.extent, True
        self.label = np.full(len(points), -1)

    def _smoothed(self, normals: FloatArray) -> FloatArray:
        """Return means of the neighbours' normals that agree with the own: noise goes, edges stay."""
        around = normals[self.neighbours]
        agree = np.einsum("skc,sc->sk", around, normals) > 0.5
        return unit_rows((around * agree[..., None]).sum(1))

    def _noise(self) -> float:
        """Return a robust standard deviation of the samples along their normals."""
        near = self.neighbours[:, 1:7]
        # A chord of a bent surface lies across the mean of its end normals, so curvature does not count as noise.
        middle = unit_rows(self.normals[near] + self.normals[:, None])
        heights = np.einsum("ski,ski->sk", self.points[near] - self.points[:, None], middle)
        return float(1.48 * np.median(np.abs(heights)) / np.sqrt(2))

    @property
    def next_label(self) -> int:
        return int(self.label.max()) + 1

    def take_flats(self) -> None:
        """Label flat faces, the largest first, and the smaller ones beside them."""
        config, usable = self.config, np.ones(len(self.points), bool)
        first, least = (share * self.extent**2 / self.area for share in (config.min_flat, config.min_side))
        smaller = []
        for _ in range(MAX_PRIMITIVES):
            found = self._best(usable, least if (self.label >= 0).any() else first, PLANE)
            if found is None:
                break
            core, members = found
            usable &= ~core
            if core.sum() >= first:
                self._take(members)
            elif core.sum() >= least:
                smaller.append((core, members))
        for core, members in smaller:
            if self._is_side(core):
                self._take(members)

    def _take(self, members: BoolArray) -> None:
        self.label[members & (self.label < 0)] = self.next_label

    def _is_side(self, core: BoolArray) -> bool:
        """Tell whether a flat face touches one that was taken, and lies along it or at right angles to it."""
        taken = np.flatnonzero(self.label >= 0)
        distance, nearest = cKDTree(self.points[taken]).query(self.points[core])
        if distance.min() > 3 * self.spacing:
            return False
        other = self.label == self.label[taken[nearest[distance.argmin()]]]
        own, others = (np.linalg.svd(self.normals[which], full_matrices=False)[2][0] for which in (core, other))
        cosine = abs(float(own @ others))
        return cosine < RIGHT_ANGLE or cosine > 1 - RIGHT_ANGLE / 4

    def take_poles(self) -> None:
        """Label long thin cylinders."""
        config = self.config
        least = 2 * np.pi * config.min_length**2 / config.slenderness * self.extent**2 / self.area / 8
        usable = self.label < 0
        for _ in range(6):
            found = self._best(usable, least, CYLINDER)
            if found is None:
                return
            core, members = found
            usable &= ~core
            if self._is_pole(self.points[core]):
                self.label[members & (self.label < 0)] = self.next_label
                usable &= self.label < 0

    def take_sticks(self) -> None:
        """Label long straight lines: poles so thin that a cloud has no normals there."""
        config, window = self.config, 0.04 * self.extent
        free = np.flatnonzero(self.label < 0)
        some = free[::3]
        around = cKDTree(self.points[free]).query_ball_point(self.points[some], window, return_sorted=False)
        is_line = np.array([_is_line(self.points[free[near]]) for near in around], bool)
        lines = free[is_line[cKDTree(self.points[some]).query(self.points[free])[1]]]
        if len(lines) < 20:
            return
        part = link(self.points[lines], window)
        for number in np.unique(part):
            members = lines[part == number]
            centred = self.points[members] - self.points[members].mean(0)
            spread = np.linalg.svd(centred, full_matrices=False)[1] / len(members) ** 0.5
            # An evenly filled line is as long as its standard deviation times the root of twelve.
            if spread[0] * 12**0.5 > config.min_length * self.extent and spread[1] < config.max_radius * self.extent:
                self.label[members] = self.next_label

    def partners(self, seeds: NDArray[np.int64]) -> NDArray[np.int64]:
        """Return a sample beside each: near ones for thin poles, any for wide rounds."""
        if self.is_near:
            return self.neighbours[seeds, self.rng.integers(1, self.neighbours.shape[1], len(seeds))]
        return self.rng.permutation(seeds)

    def _length(self, points: FloatArray, axis: FloatArray) -> int:
        """Return how many slices across an axis hold points; each is a fiftieth of the extent thick."""
        return len(np.unique(np.floor(points @ axis / (0.02 * self.extent))))

    def _is_pole(self, points: FloatArray) -> bool:
        """Tell whether points on a cylinder are a long part of it without gaps."""
        if len(points) < 10:
            return False
        centred = points - points.mean(0)
        axis = np.linalg.svd(centred, full_matrices=False)[2][0]
        along = centred @ axis
        low, high = np.quantile(along, [0.01, 0.99])
        across = centred - along[:, None] * axis
        radius, length = float(np.median(np.linalg.norm(across, axis=1))), float(high - low)
        if length < self.config.min_length * self.extent or length < self.config.slenderness * radius:
            return False
        # Strips along limbs are as long and as straight, but do not go around.
        u, v = np.linalg.svd(axis[None])[2][1:]
        cells = np.histogram2d(
            along, np.arctan2(across @ u, across @ v), bins=(12, 6), range=((low, high), (-np.pi, np.pi))
        )[0]
        return bool((cells > 0.2 * len(points) / cells.size).mean() > self.config.roundness)

    def take_pieces(self) -> None:
        """Label pieces that are flat or round themselves, and crumbs beside things."""
        free = np.flatnonzero(self.label < 0)
        if not len(free):
            return
        self.max_radius, self.is_near = self.extent, False
        piece = link(self.points[free], 2.5 * self.spacing)
        sizes = np.bincount(piece)
        tree, taken = cKDTree(self.points[self.label >= 0]), self.label[self.label >= 0]
        for number in np.argsort(-sizes):
            members = free[piece == number]
            if len(members) < self.config.crumb * len(self.points):
                distance, nearest = tree.query(self.points[members])
                if distance.min() < 3 * self.spacing:
                    self.label[members] = taken[nearest[distance.argmin()]]
            elif self._share_of_primitives(members) > self.config.piece_flatness:
                self.label[members] = self.next_label

    def _share_of_primitives(self, members: NDArray[np.int64]) -> float:
        """Return how much of a piece lies on a few planes and cylinders."""
        usable = np.zeros(len(self.points), bool)
        usable[members] = True
        least, explained = 0.08 * len(members), np.zeros(len(self.points), bool)
        for _ in range(8):
            found = [self._best(usable, least, kind) for kind in (PLANE, CYLINDER)]
            cores = [core for core, _ in (f for f in found if f is not None)]
            if not cores:
                break
            core = max(cores, key=lambda c: int(c.sum()))
            explained |= core
            usable &= ~core
        return float(explained[members].mean())

    def _best(self, usable: BoolArray, least: float, kind: _Kind) -> tuple[BoolArray, BoolArray] | None:
        """Return the largest connected part of the best primitive among samples, and what else lies on it around.

        Returns:
            Two masks (S,); None where nothing holds enough samples.
        """
        index = np.flatnonzero(usable & (self.normals != 0).any(1))
        if len(index) < max(least, 30):
            return None
        some = self.rng.choice(index, min(_NUM_SCORED, len(index)), replace=False)
        primitives = kind.propose(self, self.rng.choice(index, _NUM_HYPOTHESES))
        if not len(primitives):
            return None

        def on(primitive: FloatArray, which: NDArray[np.int64]) -> BoolArray:
            return kind.near(primitive, self.points[which], self.normals[which], self.tolerance, _COSINE)

        inside = [on(primitive, some) for primitive in primitives]
        scores = np.array([mask.sum() for mask in inside], float)
        scores[scores * len(index) / len(some) < 0.7 * least] = 0
        if not scores.any():
            return None
        if kind is CYLINDER:  # thighs are thick, poles are long
            scores *= [
                self._length(self.points[some[mask]], primitive[:3])
                for mask, primitive in zip(inside, primitives, strict=True)
            ]
        primitive = primitives[int(np.argmax(scores))]
        for _ in range(3):
            inliers = index[on(primitive, index)]
            if len(inliers) < 10:
                return None
            primitive = kind.fit(self.points[inliers], self.normals[inliers])
        inliers = index[on(primitive, index)]
        if len(inliers) < 10:
            return None
        part = link(self.points[inliers], 3 * self.spacing)
        core = np.zeros(len(self.points), bool)
        core[inliers[part == np.bincount(part).argmax()]] = True
        members = kind.near(primitive, self.points, self.normals, 1.5 * self.tolerance, _LOOSE_COSINE)
        members &= cKDTree(self.points[core]).query(self.points)[0] < 3 * self.spacing
        return core, core | members


def _is_line(points: FloatArray) -> bool:
    """Tell whether points (N, 3) spread along one direction far more than across."""
    if len(points) < 5:
        return False
    variances = np.linalg.eigvalsh(np.cov(points.T))
    return bool(variances[1] < 0.17 * variances[2])


def _planes_through(finder: _Finder, seeds: NDArray[np.int64]) -> FloatArray:
    """Return planes (N, 4) through samples: normal and offset."""
    normals = finder.normals[seeds]
    return np.c_[normals, np.einsum("ni,ni->n", finder.points[seeds], normals)]


def _plane_fit(points: FloatArray, normals: FloatArray) -> FloatArray:
    centre = points.mean(0)
    normal = np.linalg.svd((points - centre).T @ (points - centre))[0][:, 2]
    return np.r_[normal, normal @ centre]


def _near_plane(
    plane: FloatArray, points: FloatArray, normals: FloatArray, tolerance: float, cosine: float
) -> BoolArray:
    return (np.abs(points @ plane[:3] - plane[3]) < tolerance) & (np.abs(normals @ plane[:3]) > cosine)


def _cylinders_through(finder: _Finder, seeds: NDArray[np.int64]) -> FloatArray:
    """Return cylinders (N, 7) through samples and a neighbour of each: axis, a point on it, radius."""
    points, normals = finder.points, finder.normals
    other = finder.partners(seeds)
    # The normals of a cloud may face either way.
    ahead, beside = normals[seeds], normals[other] * finder.rng.choice([-1.0, 1.0], len(seeds))[:, None]
    axis = np.cross(ahead, beside)
    sine = np.linalg.norm(axis, axis=1)
    turn = ahead - beside
    radius = np.einsum("ni,ni->n", points[seeds] - points[other], turn) / np.maximum((turn**2).sum(1), 1e-12)
    good = (sine > 0.3) & (np.abs(radius) > 0.003 * finder.extent) & (np.abs(radius) < finder.max_radius)
    axis, radius, seeds = axis[good] / sine[good, None], radius[good], seeds[good]
    return np.c_[axis, points[seeds] - radius[:, None] * normals[seeds], np.abs(radius)]


def _cylinder_fit(points: FloatArray, normals: FloatArray) -> FloatArray:
    """Fit axis, centre and radius: no normal has a part along the axis, and the section is a circle."""
    axis = np.linalg.svd(normals.T @ normals)[0][:, 2]
    across = np.linalg.svd(axis[None])[2][1:]
    flat = points @ across.T
    rows = np.c_[2 * flat, np.ones(len(flat))]
    centre_and = np.linalg.lstsq(rows, (flat**2).sum(1), rcond=None)[0]
    radius = np.sqrt(max(float(centre_and[2] + centre_and[:2] @ centre_and[:2]), 0.0))
    return np.r_[axis, centre_and[:2] @ across, radius]


def _near_cylinder(
    cylinder: FloatArray, points: FloatArray, normals: FloatArray, tolerance: float, cosine: float
) -> BoolArray:
    offset = points - cylinder[3:6]
    offset = offset - (offset @ cylinder[:3])[:, None] * cylinder[:3]
    distance = np.linalg.norm(offset, axis=1)
    facing = np.abs(np.einsum("ni,ni->n", offset, normals)) > cosine * np.maximum(distance, 1e-300)
    return (np.abs(distance - cylinder[6]) < tolerance) & facing


PLANE = _Kind(_planes_through, _plane_fit, _near_plane)
CYLINDER = _Kind(_cylinders_through, _cylinder_fit, _near_cylinder)


def without_things(points: Points, things: Things, config: CleanConfig) -> Bool[np.ndarray, " P"]:
    """Return which points (P,) may be the person's: no things, and nothing far from the rest."""
    keep = things.at(points) < 0
    rest = np.flatnonzero(keep)
    main = main_cluster(points[rest], np.ones(len(rest)), config)[0]
    keep[rest[~main]] = False
    return keep
