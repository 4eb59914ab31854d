"""People of a batch: what pixels read of them, and some of them taken out."""

from dataclasses import fields, replace

import torch

from lvdreg.body import load_body
from lvdreg.synth.characters import Characters
from lvdreg.synth.subjects import Pixels


def pixels(samples: int, count: int, corners: int) -> Pixels:
    generator = torch.Generator().manual_seed(0)
    bary = torch.rand(count, 3, generator=generator)
    return Pixels(
        torch.randint(samples, (count,), generator=generator),
        torch.randint(corners, (count, 3), generator=generator),
        bary / bary.sum(1, keepdim=True),
    )


def test_pixels_read_mixtures_of_their_own_corners() -> None:
    seen = pixels(3, 40, 11)
    values = torch.randn(3, 11, 4, generator=torch.Generator().manual_seed(1))
    own = torch.stack(
        [
            sum((w * values[s, c] for w, c in zip(weights, corners, strict=True)), torch.zeros(4))
            for s, corners, weights in zip(seen.sample, seen.corners, seen.bary, strict=True)
        ]
    )
    torch.testing.assert_close(seen.read(values), own)
    torch.testing.assert_close(seen.read_shared(values[1]), replace(seen, sample=torch.ones(40).long()).read(values))


def test_people_are_chosen_with_their_looks() -> None:
    people = Characters(load_body("anny")).draw(3, torch.Generator().manual_seed(2))
    chosen = people.chosen(torch.tensor([2, 0, 2]))
    for name in ("labels", "rest", "vertices", "joints"):
        assert torch.equal(getattr(chosen, name), getattr(people, name)[[2, 0, 2]]), name
    assert torch.equal(chosen.params.pose, people.params.pose[[2, 0, 2]])
    assert torch.equal(chosen.outer.face_keep[1], people.outer.face_keep[0])
    seen = pixels(3, 200, people.outer.vertices.shape[1])
    there = replace(seen, sample=torch.tensor([2, 0, 2])[seen.sample])
    for field in fields(people.texture(there)):
        ours, theirs = (getattr(x, field.name) for x in (chosen.texture(seen), people.texture(there)))
        torch.testing.assert_close(ours, theirs)
    again = people.repeated(2)
    assert torch.equal(again.vertices[2:4], people.vertices[[1, 1]])
