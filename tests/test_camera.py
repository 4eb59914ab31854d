"""Cameras: handedness, projection against plain trigonometry, framing, sweeps, the unit frame."""

import math

import pytest
import torch
from torch import Tensor

from lvdreg.synth.camera.view import Cameras, framing, look_at, yaw_sweep

SIZE = 200
PERSPECTIVES = (0.0, 0.25, 0.8)


def numbers(*values: float) -> Tensor:
    return torch.tensor(values, dtype=torch.float64)


def looking(yaw: float = 0.0, pitch: float = 0.0, roll: float = 0.0, perspective: float = 0.3) -> Cameras:
    anchor = numbers(0.1, 1.0, -0.2)[None]
    return look_at(anchor, *(numbers(x) for x in (yaw, pitch, roll, 80.0, perspective)), SIZE)


def at(cameras: Cameras, x: float, y: float, z: float) -> list[float]:
    """Return column, row and depth of a point that lies so far from the anchor."""
    return cameras.project(numbers(x + 0.1, y + 1.0, z - 0.2)[None, None])[0, 0].tolist()


def test_the_left_hand_is_at_the_right_and_the_head_on_top() -> None:
    column, row, depth = at(looking(), 0.5, 0.4, 0.0)
    assert column == pytest.approx(SIZE / 2 + 40)
    assert row == pytest.approx(SIZE / 2 - 32)
    assert depth == pytest.approx(0)


def test_cameras_turn_and_never_mirror() -> None:
    assert torch.linalg.det(looking(0.7, -0.4, 0.3).rotation).item() == pytest.approx(1)


def test_what_faces_the_camera_is_nearer_and_larger() -> None:
    column, _, depth = at(looking(perspective=0.5), 0.5, 0.0, 0.4)
    assert depth == pytest.approx(-0.4)
    assert column == pytest.approx(SIZE / 2 + 40 / 0.8)


def test_a_quarter_turn_sees_the_left_side() -> None:
    column, _, depth = at(looking(yaw=math.pi / 2), 0.5, 0.0, 0.2)
    assert depth == pytest.approx(-0.5)
    assert column < SIZE / 2, "what is in front of the person lies at the left of the picture"


def test_positive_pitch_looks_down_and_positive_roll_turns_clockwise() -> None:
    assert at(looking(pitch=0.3), 0.0, 0.0, 0.5)[1] > SIZE / 2, "what is nearer lies lower in the picture"
    assert at(looking(roll=0.3), 0.0, 0.5, 0.0)[0] > SIZE / 2, "the head leans to the right"


@pytest.mark.parametrize("perspective", PERSPECTIVES)
def test_the_anchor_is_in_the_middle(perspective: float) -> None:
    assert at(looking(0.5, 0.2, 0.1, perspective), 0, 0, 0) == pytest.approx([SIZE / 2, SIZE / 2, 0])


@pytest.mark.parametrize("perspective", PERSPECTIVES)
def test_framing_fills_the_picture_and_turns_nothing(perspective: float) -> None:
    generator = torch.Generator().manual_seed(3)
    points = torch.randn(3, 40, 3, generator=generator, dtype=torch.float64) * 0.3
    turns = torch.rand(3, 3, generator=generator, dtype=torch.float64).unbind(1)
    scale = torch.ones(3, dtype=torch.float64)
    cameras = look_at(points.mean(1), *turns, scale, perspective * scale, SIZE)
    fill = numbers(0.85, 0.5, 1.2)
    framed = framing(points, cameras, SIZE, fill)
    pixels = framed.project(points)[..., :2]
    low, high = pixels.amin(1), pixels.amax(1)
    torch.testing.assert_close((high - low).amax(-1), fill * SIZE)
    torch.testing.assert_close((low + high) / 2, torch.full((3, 2), SIZE / 2, dtype=torch.float64))
    assert torch.equal(framed.rotation, cameras.rotation)


def test_a_sweep_has_the_views_of_a_person_in_a_row() -> None:
    anchor = torch.randn(2, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    first, pitch, scale, perspective = numbers(0.0, 1.0), numbers(0.1, -0.1), numbers(80, 90), numbers(0, 0.3)
    sweep = yaw_sweep(anchor, 4, first, pitch, scale, perspective, SIZE)
    third = look_at(anchor, first + math.pi, pitch, torch.zeros_like(pitch), scale, perspective, SIZE)
    for name in ("rotation", "translation", "scale", "perspective"):
        torch.testing.assert_close(getattr(sweep, name)[2::4], getattr(third, name))


def test_the_unit_frame_is_the_picture_with_y_up_and_z_to_the_viewer() -> None:
    cameras = looking(perspective=0.0)
    points = numbers(0.1, 1.0, -0.2) + torch.tensor([[0.5, 0, 0], [0, 0.5, 0], [0, 0, 0.5]], dtype=torch.float64)
    unit = cameras.to_unit(points[None], SIZE, numbers(0.0))[0]
    torch.testing.assert_close(unit, 0.4 * torch.eye(3, dtype=torch.float64))


def test_the_unit_frame_holds_what_the_picture_shows() -> None:
    cameras = looking(0.5, 0.2, 0.1, 0.4)
    points = torch.randn(1, 9, 3, generator=torch.Generator().manual_seed(1), dtype=torch.float64) * 0.2
    pixels, unit = cameras.project(points), cameras.to_unit(points, SIZE, numbers(0.1))
    torch.testing.assert_close((unit[..., 0] + 1) * SIZE / 2, pixels[..., 0])
    torch.testing.assert_close((1 - unit[..., 1]) * SIZE / 2, pixels[..., 1])
    torch.testing.assert_close(0.1 - unit[..., 2] * (SIZE / 2) / 80, pixels[..., 2])


def test_a_batch_is_projected_as_its_samples_are() -> None:
    generator = torch.Generator().manual_seed(5)
    points, yaw = torch.randn(4, 50, 3, generator=generator), torch.randn(4, generator=generator)
    cameras = look_at(points[:, 0], yaw, yaw / 3, yaw / 5, 50 + yaw, torch.full((4,), 0.2), SIZE)
    for i in range(4):
        parts = (getattr(cameras, name)[i : i + 1] for name in cameras.__dataclass_fields__)
        assert torch.equal(Cameras(*parts).project(points[i : i + 1])[0], cameras.project(points)[i])
