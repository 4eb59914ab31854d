"""Which side is left: looks in the mirror and from turned squares, and what is done where they disagree."""

import sys
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from drawn import man
from fake_network import Seen
from fake_photo import known_image_weights
from numpy.typing import NDArray

from lvdreg.base.shapes import FloatArray
from lvdreg.descent.boxes import Box
from lvdreg.descent.descend import DescentConfig
from lvdreg.descent.photo import Faced, _apart, descend_photo
from lvdreg.descent.scan import Views
from lvdreg.geometry.frames import rotvec_to_rotmat
from lvdreg.image.crop import CutConfig, crop_around
from lvdreg.photo.keypoints import KEYPOINTS, MIRRORED, DetectedLandmarks, find_landmarks
from lvdreg.photo.model import photo_from_array
from lvdreg.photo.people import find_people
from lvdreg.photo.shown import Shown
from lvdreg.photo.sides import LOOKS, alike, sides_agree
from lvdreg.photo.warp import Boxes, Pyramid
from lvdreg.pipeline.assess_photo import as_faced

NOBODY = known_image_weights(torch.zeros(40, 3)).net


def square(x: float, y: float, side: float, angle: float = 0.0) -> Boxes:
    return Boxes(torch.tensor([[float(x), float(y)]]), torch.full((1, 2), float(side)), torch.tensor([float(angle)]))


def test_the_mirror_shows_the_same_person() -> None:
    """A look in the mirror finds what a look at the mirrored photo does, brought back."""
    rgb = man()[0]
    width = rgb.shape[1]
    box, there = square(200, 220, 420, 0.1), square(width - 200, 220, 420, -0.1)
    found = find_landmarks(Pyramid(rgb), box, mirrored=True)
    other = find_landmarks(Pyramid(np.ascontiguousarray(rgb[:, ::-1])), there)
    flip = torch.tensor([-1.0, 1.0])
    torch.testing.assert_close(
        found.points, other.points[:, MIRRORED] * flip + torch.tensor([width, 0.0]), atol=0.1, rtol=0
    )
    torch.testing.assert_close(found.world[..., :2], other.world[:, MIRRORED, :2] * flip, atol=2e-3, rtol=0)
    torch.testing.assert_close(found.world[..., 2], other.world[:, MIRRORED, 2], atol=2e-3, rtol=0)
    torch.testing.assert_close(found.visibility, other.visibility[:, MIRRORED], atol=1e-2, rtol=0)


def test_metric_landmarks_have_the_axes_of_the_photo() -> None:
    """They turn with the photo: x right, y up; and heads lie above hips where they are shown so."""
    rgb = man()[0]
    height = rgb.shape[0]
    plain = find_landmarks(Pyramid(rgb), square(200, 220, 420))
    # Clockwise: what was at (x, y) lies at (height - y, x).
    turned = find_landmarks(Pyramid(np.ascontiguousarray(np.rot90(rgb, -1))), square(height - 220, 200, 420, np.pi / 2))
    x, y, z = plain.world.unbind(-1)
    torch.testing.assert_close(turned.world, torch.stack([y, -x, z], -1), atol=2e-3, rtol=0)
    nose, hip = (plain.world[0, KEYPOINTS.index(name)] for name in ("nose", "left_hip"))
    assert nose[1] - hip[1] > 0.4


def somebody(seed: int = 0) -> NDArray[np.float32]:
    return np.random.default_rng(seed).normal(size=(len(KEYPOINTS), 3)).astype(np.float32)


def test_alike_is_one_for_the_same_and_minus_one_the_other_way_round() -> None:
    world = somebody()
    assert alike(world, 2 * world + 1) == pytest.approx(1, abs=1e-6)
    assert alike(world, world[MIRRORED]) == pytest.approx(-1, abs=1e-6)
    assert abs(alike(world, world[:, [1, 2, 0]])) < 1


@pytest.mark.parametrize(
    ("swapped", "looks", "agreement"), [((), 4, 1.0), ((1, 6), 8, 5 / 9), ((0, 1, 2, 3, 4), 8, -1 / 9)]
)
def test_looks_are_asked_until_they_agree(
    monkeypatch: pytest.MonkeyPatch, swapped: tuple[int, ...], looks: int, agreement: float
) -> None:
    world, asked = somebody(), []

    def look(pyramid: Pyramid, boxes: Boxes, device: str, mirrored: bool) -> DetectedLandmarks:
        seen = world[MIRRORED] if len(asked) in swapped else world
        asked.append((boxes, mirrored))
        blank = torch.zeros(1, 33, 2)
        marks = DetectedLandmarks(
            blank, blank[..., 0], blank[0, :1, 0], boxes, torch.zeros(1, 1, 2, 2), boxes, torch.zeros(1, 33, 3)
        )
        return replace(marks, world=torch.from_numpy(seen)[None])

    monkeypatch.setattr(sys.modules["lvdreg.photo.sides"], "find_landmarks", look)
    assert sides_agree(Pyramid(np.zeros((9, 9, 3), np.uint8)), somebody(1), world) == pytest.approx(agreement, abs=1e-6)
    assert len(asked) == looks and [mirrored for _, mirrored in asked] == [look[2] for look in LOOKS[:looks]]


def test_a_drawn_man_who_faces_the_camera_is_sure_of_his_sides() -> None:
    rgb = man()[0]
    (person,) = find_people(photo_from_array(rgb)).people
    assert person.world is not None and sides_agree(Pyramid(rgb), person.keypoints, person.world) > 0.9


def turned(points: torch.Tensor, angle: float) -> torch.Tensor:
    return points @ rotvec_to_rotmat(torch.tensor([0.0, angle, 0.0])).T


def asked_both_ways(monkeypatch: pytest.MonkeyPatch, sides: float, bare: float) -> Faced:
    """A network that turns a body by keypoints, and without any by ``bare``, radians."""
    body = torch.randn(40, 3, generator=torch.Generator().manual_seed(0))
    named = np.concatenate([np.random.default_rng(0).uniform(20, 80, (33, 2)), np.full((33, 1), 0.3)], 1).astype(
        np.float32
    )

    def descend(net: Any, crop: Any, keypoints: FloatArray | None, config: DescentConfig) -> Views:
        angle = bare if keypoints is None else 0.0 if np.array_equal(keypoints, named) else 3.0
        features, still = Seen(torch.zeros(1)), torch.zeros(1)
        return Views(Box("photo", np.eye(4)), 1.0, torch.eye(3)[None], features, turned(body, angle), still, True, {})

    monkeypatch.setattr(sys.modules["lvdreg.descent.photo"], "descend_crop", descend)
    mask = np.ones((100, 100), np.float32)
    rgb = np.zeros((100, 100, 3), np.uint8)
    crop = crop_around(rgb, mask, CutConfig(), 32)
    faces = torch.zeros(1, 3, dtype=torch.long)
    return descend_photo(NOBODY, rgb, crop, named, faces, CutConfig(), DescentConfig(), sides)


@pytest.mark.parametrize(
    ("sides", "bare", "swapped", "score"),
    [
        (1.0, 3.0, False, 1.0),  # sure: nothing else is asked
        (0.5, 3.0, False, 0.2),  # looks count more than the network without keypoints,
        (0.1, 3.0, True, 0.2),  # where they hardly disagree less,
        (0.1, 0.0, False, 0.4),
        (-0.5, 0.0, True, 0.2),  # and both ways
        (0.1, 1.5, False, 0.1),  # which does not know
    ],
)
def test_sides_are_weighed(
    monkeypatch: pytest.MonkeyPatch, sides: float, bare: float, swapped: bool, score: float
) -> None:
    found = asked_both_ways(monkeypatch, sides, bare)
    assert found.swapped == swapped and found.sides == pytest.approx(score, abs=1e-5)


def test_the_angle_between_two_bodies_is_that_of_the_turn() -> None:
    body = torch.randn(20, 3, generator=torch.Generator().manual_seed(1))
    for angle in (0.0, 0.7, 2.9):
        assert _apart(body, turned(body, angle) + 1) == pytest.approx(angle, abs=1e-3)


def test_a_person_takes_the_sides_that_were_decided_on() -> None:
    named = np.random.default_rng(0).uniform(20, 80, (33, 3)).astype(np.float32)
    shown = Shown(np.ones((2, 2), np.float32), named, sides=0.1)
    other = as_faced(shown, True, 0.2)
    assert other.sides == 0.2 and other.keypoints is not None
    np.testing.assert_array_equal(other.keypoints, named[MIRRORED])
    assert "other way round" in other.notes[0] and as_faced(shown, False, 0.2).notes == ()
