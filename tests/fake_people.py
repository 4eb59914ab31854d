"""People and pictures that cost nothing, to test what happens around them; found by processes of their own, too."""

import time
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import torch
from conftest import make_toy_body
from torch import Tensor

from lvdreg.augment.people import Drawn
from lvdreg.augment.plan import Asked, Plan, Source
from lvdreg.augment.seeds import Seeds
from lvdreg.augment.shards import Makers, body_hash
from lvdreg.base.errors import ScanError
from lvdreg.body.model import BodyModel, BodyParams
from lvdreg.synth.camera.light import Lights
from lvdreg.synth.camera.render import Rendered
from lvdreg.synth.camera.view import Cameras
from lvdreg.synth.subjects import Material, Pixels, Subjects
from lvdreg.synth.surface import Outer


@lru_cache(maxsize=1)
def toy_body(name: str = "toy") -> BodyModel:
    return BodyModel(make_toy_body())


def grey(pixels: Pixels) -> Material:
    nothing = torch.zeros(len(pixels.bary))
    return Material(torch.full((len(nothing), 3), 0.5), nothing, nothing)


@dataclass(frozen=True)
class FakePerson:
    """Rejects a third of its draws; one called "torn" rejects all, "slow" takes its time."""

    name: str

    def draw(self, pose: int, shape: int, seeds: Seeds, attempt: int) -> Drawn:
        if self.name.startswith("slow"):
            time.sleep(0.02)
        generator = seeds.generator("person", pose, shape, attempt)
        body = toy_body()
        change = torch.randn(1, body.num_betas, generator=generator)
        turns = 0.3 * torch.randn(1, body.num_joints, 3, generator=generator)
        params = BodyParams(change, turns, torch.zeros(1, 3))
        posed = body(params)
        luck = float(torch.rand(1, generator=generator))
        faults = ("webbed",) if self.name == "torn" or (luck < 0.33 and (pose or shape)) else ()
        labels = body.weights.argmax(-1)[None]
        outer = Outer(posed.vertices, body.faces, torch.ones(1, len(body.faces), dtype=torch.bool))
        subjects = Subjects(outer, grey, labels, body.v_template[None], params, posed.vertices, posed.joints)
        return Drawn(subjects, "own" if pose == 0 else "walking", change[0], faults)


def fake_open(source: Source, plan: Plan) -> FakePerson:
    if source.name == "unbound":
        raise ScanError(f"{source.scan}: no such file")
    return FakePerson(source.name)


def fake_render(subjects: Subjects, cameras: Cameras, lights: Lights, size: int) -> Rendered:
    """Splat vertices; the last one on a pixel wins."""
    seen = cameras.project(subjects.outer.vertices)
    batch = len(seen)
    place = (seen[..., :2].floor().long().clamp(0, size - 1) * torch.tensor([1, size])).sum(-1)
    mask = torch.zeros(batch, size * size, dtype=torch.bool).scatter(1, place, True).view(batch, size, size)

    def spread(values: Tensor) -> Tensor:
        flat = torch.zeros(batch, size * size, *values.shape[2:], dtype=values.dtype)
        rows = torch.arange(batch)[:, None]
        for i in range(0, values.shape[1], 7):  # in order, so that the same vertex wins every time
            flat[rows[:, 0], place[:, i]] = values[:, i]
        return flat.view(batch, size, size, *values.shape[2:])

    depth = torch.where(mask, spread(seen[..., 2]), torch.inf)
    normals = spread(torch.nn.functional.normalize(subjects.outer.vertices, dim=-1))
    image = (spread(subjects.outer.vertices) * 0.3 + lights.colour[:, None, None] * 0.2).clamp(0, 1) * mask[..., None]
    labels = torch.where(mask, spread(subjects.labels), -1)
    return Rendered(
        image, mask.float(), mask, depth, normals, labels, spread(subjects.rest), cameras.project(subjects.joints)
    )


MAKERS = Makers(fake_open, fake_render, toy_body)


def toy_plan(scans: tuple[str, ...] = (), shard_bytes: int = 4_000, **asked: object) -> Plan:
    """A plan for tiny pictures of toy people."""
    wanted = {"size": 8, "views": 2, "lights": 2, "poses": 2, "shapes": 2, "points": 30, **asked}
    sources = tuple(Source(name, {"scan": name, "params": "0"}, Path(name), Path(name)) for name in scans)
    return Plan(Asked(**wanted), "toy", body_hash(toy_body()), sources, {}, shard_bytes)  # type: ignore[arg-type]
