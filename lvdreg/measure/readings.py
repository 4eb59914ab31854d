"""Reads measures off a standing body: the value, how it changes with every vertex, and where the tape lies."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import numpy as np
from jaxtyping import Float64

from lvdreg.base.shapes import FloatArray, Points, Vertices
from lvdreg.geometry.mesh import unit_rows
from lvdreg.geometry.tape import Tape, joined, plane_section, surface_path, taut, without
from lvdreg.measure.definitions import Across, Extent, Girth, Height, How, Path, Plane, Straight, Vector
from lvdreg.measure.model import StandingModel

LEVELS = 13
"""So many levels are tried where a measure is the largest or the smallest of several."""


@dataclass(frozen=True)
class Reading:
    """One measure of one body.

    Attributes:
        value: Metres.
        slopes: (V, 3) how it changes with each vertex, those that it runs through staying the same.
        line: (Q, 3) where the tape lies, metres, the frame of the standing body.
    """

    value: float
    slopes: Float64[np.ndarray, "V 3"]
    line: Float64[np.ndarray, "Q 3"]


@dataclass(frozen=True)
class StandingBody:
    """A body that stands to be measured.

    Attributes:
        model: Its model.
        vertices: (V, 3) metres.
        joints: (J, 3).
    """

    model: StandingModel
    vertices: Vertices
    joints: Float64[np.ndarray, "J 3"]

    @classmethod
    def of(cls, model: StandingModel, betas: FloatArray, displacements: FloatArray | None = None) -> "StandingBody":
        """Let a person stand; see ``StandingModel.standing``."""
        return cls(model, model.standing(betas, displacements), model.joints + model.joint_shapes @ betas)

    def read(self, how: How) -> Reading:
        """Take a measure.

        Raises:
            ValueError: it cannot be taken of this body.
        """
        match how:
            case Girth():
                return self._at_level(how.plane, self._around)
            case Across():
                return self._at_level(how.plane, partial(self._across, axis=self._direction(how.axis)))
            case Height():
                return self._height(how)
            case Straight():
                return self._straight(self._tape(how.start), self._tape(how.end))
            case Extent():
                return self._extent(how)
            case Path():
                return self._path(how)

    def _tape(self, names: tuple[str, ...]) -> Tape:
        """Return landmarks as the places of a tape."""
        return joined([self.model.place(name) for name in names])

    def point(self, name: str) -> FloatArray:
        """Return where a landmark or a joint is (3,)."""
        if name in self.model.joint_names:
            return self.joints[self.model.joint_names.index(name)]
        return self.model.place(name).points(self.vertices)[0]

    def _mean(self, names: tuple[str, ...]) -> FloatArray:
        return np.mean([self.point(name) for name in names], axis=0)

    def _direction(self, axis: Vector | tuple[str, str]) -> FloatArray:
        """Return a unit direction (3,)."""
        if isinstance(axis[0], str):
            start, end = (self.point(str(name)) for name in axis)
            return unit_rows(end - start)
        return np.asarray(axis, np.float64)

    def _at_level(self, plane: Plane, read: Callable[[list[Tape], FloatArray], Reading]) -> Reading:
        """Read sections, at one level or at the one of several that is asked for."""
        start = self._mean(plane.at)
        shares: FloatArray = np.zeros(1)
        way = np.zeros(3)
        if plane.to:
            way = self._mean(plane.to) - start
            shares = np.linspace(0, 1, LEVELS) if plane.shift is None else np.array([plane.shift])
        readings = [read(*self._section(plane, start + share * way)) for share in shares]
        pick = max if plane.pick == "max" else min
        return pick(readings, key=lambda reading: reading.value)

    def _section(self, plane: Plane, origin: FloatArray) -> tuple[list[Tape], FloatArray]:
        """Return the lines in which a plane meets the parts that it cuts, and the direction across it."""
        if plane.holds is None:
            normal = self._direction(plane.normal)
        else:
            first, second, third = plane.holds
            normal = unit_rows(np.cross(self.point(second) - self.point(first), np.asarray(third)))
        shown = np.any([self.model.parts[name] for name in plane.only], axis=0)
        lines = plane_section(self.vertices, without(self.model.faces, ~shown), origin, normal)
        if not lines:
            raise ValueError("nothing to measure at that level")
        if plane.one:
            lines = [min(lines, key=lambda line: _distance(line.points(self.vertices), origin))]
        return lines, normal

    def _around(self, lines: list[Tape], normal: FloatArray) -> Reading:
        return self._along(taut(lines, self.vertices, normal))

    def _across(self, lines: list[Tape], normal: FloatArray, axis: FloatArray) -> Reading:
        """Return the extent of lines along an axis, as far as it lies in their plane."""
        return self._spanned(joined(lines), unit_rows(axis - (axis @ normal) * normal))

    def _spanned(self, places: Tape, axis: FloatArray) -> Reading:
        """Return the extent of places along a unit direction."""
        points = places.points(self.vertices)
        along = points @ axis
        ends = [int(along.argmin()), int(along.argmax())]
        slopes = places.chosen(ends).spread(np.stack([-axis, axis]), len(self.vertices))
        middle = points[ends].mean(0)
        line = middle + (along[ends] - middle @ axis)[:, None] * axis
        return Reading(float(np.ptp(along)), slopes, line)

    def _along(self, tape: Tape) -> Reading:
        line = tape.points(self.vertices)
        line = np.concatenate([line, line[:1]]) if tape.closed else line
        return Reading(tape.length(self.vertices), tape.slopes(self.vertices), line)

    def _height(self, how: Height) -> Reading:
        up = np.array([0.0, 1.0, 0.0])
        top = self._tape(how.top) if how.top else _vertex(int(self.vertices[:, 1].argmax()))
        bottom = self._tape(how.bottom) if how.bottom else _vertex(int(self.vertices[:, 1].argmin()))
        high, low = (places.points(self.vertices).mean(0) for places in (top, bottom))
        value = float((high - low) @ up)
        slopes = self._pulled(bottom, -up) + self._pulled(top, up)
        return Reading(value, slopes, np.stack([high, high - value * up]))

    def _straight(self, start: Tape, end: Tape) -> Reading:
        line = np.stack([places.points(self.vertices).mean(0) for places in (start, end)])
        ahead = unit_rows(line[1] - line[0])
        slopes = self._pulled(start, -ahead) + self._pulled(end, ahead)
        return Reading(float(np.linalg.norm(line[1] - line[0])), slopes, line)

    def _pulled(self, places: Tape, direction: FloatArray) -> Vertices:
        """Return how the mean of places moves along a direction (3,) with each vertex (V, 3)."""
        count = len(places.corners)
        return places.spread(np.tile(direction / count, (count, 1)), len(self.vertices))

    def _extent(self, how: Extent) -> Reading:
        rows = np.flatnonzero(self.model.parts[how.part])
        return self._spanned(joined([_vertex(int(row)) for row in rows]), self._direction(how.axis))

    def _path(self, how: Path) -> Reading:
        legs = [
            surface_path(self.vertices, self.model.faces, self._tape((start, end)), np.asarray(outward), how.taut)
            for start, end, outward in zip(how.places[:-1], how.places[1:], how.outward, strict=True)
        ]
        found = self._along(joined([legs[0], *(leg.chosen(range(1, len(leg.corners))) for leg in legs[1:])]))
        if not how.down:
            return found
        below = self._height(Height(how.places[-1:]))
        line = np.concatenate([found.line, below.line])
        return Reading(found.value + below.value, found.slopes + below.slopes, line)


def _vertex(row: int) -> Tape:
    return Tape(np.full((1, 3), row, np.int64), np.array([[1.0, 0.0, 0.0]]))


def _distance(points: Points, origin: FloatArray) -> float:
    return float(np.linalg.norm(points - origin, axis=1).min())
