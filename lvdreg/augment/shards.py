"""One shard: the versions of a plan that belong into it, made and written. The unit of work."""

import hashlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from lvdreg.augment.people import Opener, Person, open_person
from lvdreg.augment.photograph import Renderer, render, rest_box
from lvdreg.augment.plan import Asked, Pinned, Plan, Source
from lvdreg.augment.versions import Made, Tally, find, keep
from lvdreg.base.errors import DatasetError, LvdregError
from lvdreg.body.catalogue import load_body
from lvdreg.body.model import BodyModel
from lvdreg.dataset import (
    ABOUT,
    VERSION_ARRAYS,
    Arrays,
    about_of,
    json_text,
    layout,
    shard_name,
    write_shard,
)


@dataclass(frozen=True)
class Makers:
    """Who makes people and pictures; tests put others in their place. Travels to other processes.

    Attributes:
        open_person: Gives the person that a source stands for.
        render: Takes pictures.
        load_body: Loads a body by its name.
    """

    open_person: Opener = open_person
    render: Renderer = render
    load_body: Callable[[str], BodyModel] = load_body


MAKERS = Makers()


def body_hash(body: BodyModel) -> str:
    """Return the SHA-256 of what of a body decides where its vertices are."""
    data, digest = body.data, hashlib.sha256()
    for array in (data.v_template, data.shapedirs, data.posedirs, data.weights, data.faces, data.people):
        digest.update(b"none" if array is None else np.ascontiguousarray(array).tobytes())
    return digest.hexdigest()


class OpenSource:
    """Lets people in: a source is opened once for all its versions in a row, since binding a scan takes seconds."""

    def __init__(self, plan: Plan, makers: Makers) -> None:
        """Prepare for the sources of a plan."""
        self.plan, self.makers = plan, makers
        self.name: str | None = None
        self.person: Person | LvdregError | None = None

    def open(self, source: Source) -> Person:
        """Return the person that a source stands for.

        Raises:
            LvdregError: it cannot be used; the same for all its versions.
        """
        if self.name != source.name or self.person is None:
            self.name, self.person = source.name, None
            try:
                self.person = self.makers.open_person(source, self.plan)
            except LvdregError as error:
                self.person = error
        if isinstance(self.person, LvdregError):
            raise self.person
        return self.person


def make_shard(plan: Plan, number: int, folder: Path, opened: OpenSource) -> None:
    """Make one shard of a dataset and write it into its folder.

    Args:
        plan: The dataset.
        number: Which shard.
        folder: The dataset's folder.
        opened: Through which its people come.
    """
    body, tally = opened.makers.load_body(plan.body), Tally()
    versions = list(_made(plan, number, opened, tally, rest_box(body)))
    arrays = assemble(plan.asked, body, versions)
    about = {
        "plan": plan.digest,
        "shard": number,
        "images": len(arrays["version"]),
        "versions": len(versions),
        "rejected": dict(tally.rejected),
        "given_up": dict(tally.given_up),
    }
    write_shard(folder / shard_name(number), {**arrays, ABOUT: np.array(json_text(about))})


def _made(plan: Plan, number: int, opened: OpenSource, tally: Tally, box: NDArray[np.float64]) -> Iterator[Made]:
    """Yield the versions of a shard that can be made."""
    for version in plan.versions(number):
        try:
            person = opened.open(version.source)
        except LvdregError as error:
            # Without its words: they may name paths of this machine.
            tally.given_up.update([f"the scan cannot be bound ({type(error).__name__})"])
            continue
        found = find(person, version, plan.asked, tally)
        if found is not None:
            yield keep(*found, version, plan.asked, box, opened.makers.render)


def assemble(asked: Asked, body: BodyModel, versions: list[Made]) -> Arrays:
    """Put versions together; none of them make arrays without rows.

    Raises:
        DatasetError: an array is not what the format says: a fault of whoever made it.
    """
    expected = layout(
        asked.size, body.num_vertices, body.num_joints, body.num_betas, asked.channels, asked.points
    )  # fmt: skip
    out: Arrays = {}
    for name, (shape, kind) in expected.items():
        if name == "version":
            counts = [len(made.pictures["view"]) for made in versions]
            rows = [np.full(count, i, np.int32) for i, count in enumerate(counts)]
        elif name in VERSION_ARRAYS:
            rows = [made.person[name][None] for made in versions]
        else:
            rows = [made.pictures[name] for made in versions]
        array = np.concatenate(rows) if rows else np.zeros((0, *shape), kind)
        if array.shape[1:] != shape or not np.issubdtype(array.dtype, kind):
            raise DatasetError(f"{name}: expected {kind.__name__} {shape}, got {array.dtype} {array.shape[1:]}")
        out[name] = array
    return out


def is_made(plan: Pinned, number: int, folder: Path) -> bool:
    """Say whether a shard is there, readable and of this plan; nothing of its pictures is read."""
    try:
        about = about_of(folder / shard_name(number))
    except DatasetError:
        return False
    return about.get("plan") == plan.digest and about.get("shard") == number
