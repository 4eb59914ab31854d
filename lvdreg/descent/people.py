"""How many people a scan shows, and which of its surface is whose: cut where it may be two, and ask the network.

A network that knows single people explains two of them badly, and each of them well. So a scan that is not explained is
cut in the ways that its surface suggests (scan/cuts.py); the cut whose sides are explained is taken, and sides that are
not are cut again. What is explained by nobody is no person.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Bool, Int64
from scipy.spatial import cKDTree

from lvdreg.base.shapes import BoolArray, Points
from lvdreg.descent.choose import Explained
from lvdreg.scan.cuts import LEAST, SurfaceGraph

BELIEF = 0.1
"""How strongly the body that was seen holds against a neighbour that faces the same way."""


@dataclass(frozen=True)
class PeopleConfig:
    """Telling people apart; distances and spreads in the unit box of whoever is looked at.

    Chosen on synthetic groups of seed 1 (lvdreg/synth/groups.py); pairs of FAUST's scans that touch were looked at
    (LOG.md, "Several people in a scan").
    """

    person: float = 0.11
    """What is explained worse is not one person. Single ones have 0.06 to 0.09, two 0.15 and more, one with a child on
    the arm 0.10 and more."""
    spread: float = 0.03
    """Nor is what views disagree on by more."""
    surely: float = 0.085
    """What is explained better is not cut unless more people are wanted."""
    better: float = 0.9
    """Both sides of a cut must be explained so much better than the whole."""
    nearly: float = 0.14
    """Cuts are mended of which one side is a person and the other explained better than this: so many of them."""
    shared_cuts: int = 2
    max_cuts: int = 4
    beside: float = 0.07
    """What lies further than this from the person who was seen, of the box's side, may be another's."""
    max_people: int = 12


def is_person(explained: Explained, config: PeopleConfig) -> bool:
    """Say whether what is explained so well may be one person."""
    return explained.score < config.person and explained.spread < config.spread


@dataclass(frozen=True)
class Seen:
    """What the network makes of points of a scan: how well one person explains them, where a few vertices of that one
    lie (N, 3), scan frame, and in a box of which name and side."""

    explained: Explained
    body: Points
    up: str
    side: float


@dataclass(frozen=True)
class Part:
    """Some of the samples (S,), and how well one person explains them."""

    which: Bool[np.ndarray, " S"]
    seen: Seen

    @property
    def explained(self) -> Explained:
        """How well one person explains them."""
        return self.seen.explained

    def is_person(self, config: PeopleConfig) -> bool:
        """Whether it may be one person."""
        return is_person(self.explained, config)


Look = Callable[[Points], Seen]
"""Asks the network about points (P, 3) of a scan."""


def find_people(
    graph: SurfaceGraph, points: Points, look: Look, wanted: int | None, config: PeopleConfig
) -> list[Part]:
    """Find the people among samples of a scan.

    Args:
        graph: Of the samples.
        points: (P, 3) more points of the same surface, for the network.
        look: Asks the network.
        wanted: How many there should be; None: as many as are seen.
        config: Settings.

    Returns:
        Who was found, the largest first; nobody where nothing looks like one person, and fewer or more than wanted
        where there are.
    """
    finder = _Finder(graph, look, config, points, cKDTree(graph.points).query(points)[1])
    whole = finder.part(np.ones(len(graph.points), bool))
    found = finder.people_in(whole)
    # Who knows how many there are need not be shown so clearly.
    finder = replace(finder, config=replace(config, person=config.nearly))
    while wanted is not None and len(found) < wanted:
        split = next((cut for part in found if (cut := finder.best_cut(part, is_wanted=True)) is not None), None)
        if split is None:
            break
        part, sides = split
        found = sorted([*(p for p in found if p is not part), *sides], key=lambda p: -int(p.which.sum()))
    return found


@dataclass(frozen=True)
class _Finder:
    """What stays the same while people are looked for."""

    graph: SurfaceGraph
    look: Look
    config: PeopleConfig
    points: Points
    nearest: Int64[np.ndarray, " P"]

    def part(self, which: BoolArray) -> Part:
        """Ask how well some samples are explained."""
        return Part(which, self.look(self.points[which[self.nearest]]))

    def people_in(self, part: Part, depth: int = 0) -> list[Part]:
        """Return the people in a part, the largest first."""
        config = self.config
        if part.is_person(config) and part.explained.score < config.surely:
            return [part]
        best = self.best_cut(part) if 2**depth < config.max_people else None
        if best is None:
            return [part] if part.is_person(config) else []
        found = [person for side in best[1] for person in self.people_in(side, depth + 1)]
        return sorted(found, key=lambda each: -int(each.which.sum()))

    def best_cut(self, part: Part, is_wanted: bool = False) -> tuple[Part, tuple[Part, Part]] | None:
        """Return a part and the sides of its best cut; None where none is better than no cut.

        A side that is a person is enough where the other is still more than one.
        """
        config = self.config
        limit = config.person if is_wanted else config.better * part.explained.score
        tried = list[tuple[bool, float, tuple[Part, Part]]]()

        def add(sides: tuple[Part, Part]) -> bool:
            """Keep a cut; say whether no better one need be looked for."""
            people = [side for side in sides if side.is_person(config) and side.explained.score < limit]
            cost = max((side.explained.score for side in people), default=np.inf)
            tried.append((len(people) < 2, cost, sides))
            if len(people) == 1 and sides[0] is not people[0]:
                sides = sides[::-1]
            # One, and more left than of that one: the rest is cut next.
            several = sides[1].explained.score > config.nearly and sides[1].which.sum() > sides[0].which.sum()
            return cost < config.surely and bool(len(people) == 2 or several)

        if not any(add(self._sides(part, cut)) for cut in self._cuts(part)):
            # What nearly is two people is shared out between the two that were seen.
            for is_half, cost, sides in sorted(tried, key=lambda each: each[:2])[: config.shared_cuts]:
                near = is_half and np.isfinite(cost) and max(s.explained.score for s in sides) < config.nearly
                if near and add(self._sides(part, self._shared(part, sides))):
                    break
        if not tried:
            return None
        is_half, cost, sides = min(tried, key=lambda each: each[:2])
        # One person, and something of him that is none, is no more than one person.
        if not np.isfinite(cost) or (is_half and (is_wanted or part.is_person(config))):
            return None
        return part, sides

    def _sides(self, part: Part, cut: BoolArray) -> tuple[Part, Part]:
        """Return what a cut through a part's samples leaves on either side."""
        index = np.flatnonzero(part.which)
        sides = np.zeros((2, len(part.which)), bool)
        sides[0, index[cut]] = sides[1, index[~cut]] = True
        return self.part(sides[0]), self.part(sides[1])

    def _shared(self, part: Part, sides: tuple[Part, Part]) -> BoolArray:
        """Return which samples of a part are nearer to the body that was seen on the first side."""
        graph = self.graph.part(part.which)
        apart = [cKDTree(side.seen.body).query(graph.points)[0] for side in sides]
        nearer = apart[0] < apart[1]
        sure = np.clip(np.abs(apart[0] - apart[1]) / (self.config.beside * part.seen.side), 0, 1)
        likely = np.stack([nearer, ~nearer], 1) * sure[:, None]
        return np.asarray(graph.shared_out(likely, BELIEF).argmax(1) == 0)

    def _cuts(self, part: Part) -> list[BoolArray]:
        """Return ways to cut a part in two: where its surface is narrow, and around the body that was seen in it."""
        graph = self.graph.part(part.which)
        apart = cKDTree(part.seen.body).query(graph.points)[0] / part.seen.side
        own = 1 / (1 + (apart / self.config.beside) ** 4)
        rest = graph.shared_out(np.stack([own, 1 - own], 1), BELIEF).argmax(1) == 1
        around = [rest] if LEAST < rest.mean() < 1 - LEAST else []
        return [*graph.cuts()[: self.config.max_cuts], *around]
