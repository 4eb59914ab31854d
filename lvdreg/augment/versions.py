"""One version of a person: drawn until it has no faults, then photographed and scanned."""

from collections import Counter
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from lvdreg.augment.people import Drawn, Person
from lvdreg.augment.photograph import Renderer, photograph, scan, to_numpy
from lvdreg.augment.plan import Asked, Version
from lvdreg.augment.seeds import Seeds
from lvdreg.dataset import Arrays

TRIES = 8
"""So many draws, after which a version is given up."""


@dataclass
class Tally:
    """What became of draws.

    Attributes:
        rejected: Draws by what was wrong with them; one draw may have several faults.
        given_up: Versions that never worked, by what was wrong with the last draw.
    """

    rejected: Counter[str] = field(default_factory=Counter)
    given_up: Counter[str] = field(default_factory=Counter)


@dataclass(frozen=True)
class Made:
    """A version's arrays: one row without leading axis of ``person``, N rows of ``pictures``."""

    person: Arrays
    pictures: Arrays


def find(person: Person, version: Version, asked: Asked, tally: Tally) -> tuple[Drawn, int] | None:
    """Draw a version until it has no faults; return it with the number of draws, or None if it is given up."""
    seeds = Seeds(asked.seed, version.source.name, asked.device)
    # Own pose in own shape is what it is: drawn again it would be the same.
    tries = TRIES if version.pose or version.shape else 1
    for attempt in range(tries):
        drawn = person.draw(version.pose, version.shape, seeds, attempt)
        if not drawn.faults:
            return drawn, attempt + 1
        tally.rejected.update(drawn.faults)
    tally.given_up.update([", ".join(drawn.faults)])
    return None


def keep(drawn: Drawn, tries: int, version: Version, asked: Asked, box: NDArray[np.float64], take: Renderer) -> Made:
    """Photograph and scan a person, and note where it comes from.

    Args:
        drawn: The person in a pose and shape.
        tries: So many draws it took.
        version: Which pose and shape.
        asked: How it is photographed.
        box: See ``photograph.rest_box``.
        take: Renders.
    """
    seeds = Seeds(asked.seed, version.source.name, asked.device)
    own = Seeds(seeds.number("version", version.pose, version.shape), version.source.name, asked.device)
    person = _about(drawn, version, own.seed, tries)
    if "scan" in asked.channels:
        person |= scan(drawn.subjects, asked, own)
    return Made(person, photograph(drawn.subjects, asked, own, box, take))


def _about(drawn: Drawn, version: Version, seed: int, tries: int) -> Arrays:
    """Return the body and where it comes from."""
    subjects = drawn.subjects
    tensors = {
        "vertices": subjects.vertices[0],
        "joints": subjects.joints[0],
        "betas": subjects.params.betas[0],
        "pose": subjects.params.pose[0],
        "transl": subjects.params.transl[0],
        "shape_change": drawn.shape_change,
    }
    out: Arrays = {name: to_numpy(values).astype(np.float32) for name, values in tensors.items()}
    return out | {
        "source": np.array(version.source.name),
        "pose_kind": np.array(drawn.pose_kind),
        "pose_number": np.array(version.pose, np.int32),
        "shape_number": np.array(version.shape, np.int32),
        "seed": np.array(seed, np.int64),
        "tries": np.array(tries, np.int32),
    }
