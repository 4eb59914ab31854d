"""Who sits for the benchmark of photos, and how they are photographed."""

import math
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
import trimesh
from naked import naked, rendered_view

from lvdreg.base.errors import RegistrationError
from lvdreg.body.model import BodyModel, BodyParams
from lvdreg.evaluate import subjects as photo_subjects
from lvdreg.evaluate.subjects import BROAD, GOWNED, STANDING, facing, photograph, read_photo_subject
from lvdreg.geometry.frames import rotmat_to_rotvec, rotvec_to_rotmat
from lvdreg.synth.clothes.layers import HANGING

pytestmark = pytest.mark.usefixtures("small_photos")


@pytest.mark.parametrize("yaw", [0.0, 1.2, -2.5])
def test_people_are_seen_from_the_way_they_face(yaw: float, toy_body: BodyModel) -> None:
    one = naked(yaw=yaw, model=toy_body)
    assert float(facing(one.params)) == pytest.approx(yaw, abs=1e-5)
    front, turned = (photograph(who, (0,), toy_body)[0] for who in (naked(model=toy_body), one))
    np.testing.assert_allclose(turned.vertices, front.vertices, atol=1e-5)
    # Boxes along the world's axes have other middles: the camera stands a little elsewhere.
    np.testing.assert_allclose(turned.camera.scale, front.camera.scale, rtol=0.03)


def test_who_lies_is_seen_as_one_who_bends() -> None:
    params = naked().params
    on_the_back = rotvec_to_rotmat(torch.tensor([-math.pi / 2, 0.0, 0.0]))  # the hips face up, the head is at -z
    for turn in (0.0, 1.0):
        root = rotvec_to_rotmat(torch.tensor([0.0, turn, 0.0])) @ on_the_back
        pose = params.pose.clone()
        pose[0, 0] = rotmat_to_rotvec(root)
        assert float(facing(BodyParams(params.betas, pose, params.transl))) == pytest.approx(turn, abs=1e-5)


def test_views_go_around_by_the_left(body: BodyModel) -> None:
    head, left, right = (body.joint_names.index(name) for name in ("head", "left_wrist", "right_wrist"))
    mine = body.data.weights.argmax(1)
    front, side, back = (rendered_view(view).vertices for view in (0, 90, 180))
    assert front[mine == left].mean(0)[0] > 0.1 > front[mine == right].mean(0)[0], "the left hand is on the right"
    assert side[mine == left].mean(0)[2] > side[mine == right].mean(0)[2] + 0.2, "the left hand is nearer"
    assert back[mine == left].mean(0)[0] < -0.1
    assert all(v[mine == head].mean(0)[1] > 0.3 for v in (front, side, back))
    np.testing.assert_allclose(
        np.linalg.norm(side[::50, None] - side[None, ::50], axis=-1),
        np.linalg.norm(front[::50, None] - front[None, ::50], axis=-1),
        atol=1e-5,
    )


def test_a_photo_shows_its_truth(body: BodyModel) -> None:
    shot = rendered_view(90)
    pixels = np.floor(shot.camera.project(shot.vertices)).astype(int).clip(0, 63)
    # The camera of the truth is weak and that of the picture is not: rims may differ by a pixel.
    assert (shot.mask[pixels[:, 1], pixels[:, 0]] > 0).mean() > 0.9
    rows = np.flatnonzero((shot.mask > 0.5).any(1))
    assert 50 <= rows[-1] - rows[0] + 1 <= 56, "the person fills 85 % of 64 pixels"
    assert shot.rgb[0, 0].tolist() == [140, 140, 140] and shot.mask[0, 0] == 0
    assert shot.photo.alpha is not None and shot.photo.size == (64, 64)
    pelvis = naked().subjects.joints[0, 0].double().numpy()
    assert np.abs(shot.vertices).max() < 1.5 and np.abs(pelvis).max() > 0.5, "the origin is the pelvis"
    assert shot.height == pytest.approx(float(np.ptp(body.rest(naked().params.betas)[0][0, :, 1].numpy())), abs=1e-3)
    assert shot.digest() == photograph(naked(), (90,), body)[0].digest() != rendered_view(0).digest()


def test_mean_bodies_stand_where_the_true_one_does(body: BodyModel) -> None:
    shot = rendered_view(180)
    rest, posed = shot.mean_bodies["mean body at rest"], shot.mean_bodies["mean body in the true pose"]
    assert np.linalg.norm(rest.mean(0) - shot.vertices.mean(0)) < 0.2
    errors = [np.linalg.norm(v - shot.vertices, axis=1).mean() for v in (rest, posed)]
    assert errors[1] < 0.6 * errors[0]


def test_standing_people_stand(body: BodyModel, monkeypatch: pytest.MonkeyPatch) -> None:
    rest = BodyParams.zeros(body, (1,))
    assert photo_subjects.stands(body, rest)
    bent, raised, lying = (rest.pose.clone() for _ in range(3))
    bent[0, body.joint_names.index("left_hip")] = torch.tensor([-1.2, 0.0, 0.0])
    raised[0, body.joint_names.index("right_shoulder")] = torch.tensor([0.0, 0.0, -2.2])
    lying[0, 0] = torch.tensor([-math.pi / 2, 0.0, 0.0])
    for pose in (bent, raised, lying):
        assert not photo_subjects.stands(body, BodyParams(rest.betas, pose, rest.transl))
    draws = iter([bent, lying, rest.pose, raised, rest.pose])
    one, garments = naked(), list[str]()
    fake = SimpleNamespace(
        params=lambda _count, _generator: BodyParams(rest.betas, next(draws), rest.transl),
        people=SimpleNamespace(
            dress=lambda params, _generator: one.subjects,
            wearing=lambda garment: garments.append(garment) or fake.people,
            stream=SimpleNamespace(params=lambda _count, _generator: BodyParams(rest.betas, lying, rest.transl)),
        ),
    )
    monkeypatch.setattr(photo_subjects, "_stream", lambda model: fake)
    standing, broad = (
        photo_subjects.draw_character("anny", 3, 5, STANDING),
        photo_subjects.draw_character("anny", 3, 5, BROAD),
    )
    assert torch.equal(standing.params.pose, rest.pose) and torch.equal(broad.params.pose, lying)
    assert (standing.name, broad.name) == ("standing_3_0005", "broad_3_0005") and not garments
    gowned = photo_subjects.draw_character("anny", 3, 2, GOWNED)
    assert torch.equal(gowned.params.pose, rest.pose) and garments == [HANGING[2]] and gowned.groups == (GOWNED,)


def test_scans_sit_in_the_frame_of_their_registration(
    body: BodyModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    one = naked(yaw=0.5)
    T_scan_model = np.eye(4)
    T_scan_model[:3, 3] = [5.0, 2.0, 1.0]
    mesh = trimesh.Trimesh(one.surface.points + T_scan_model[:3, 3], one.surface.faces, process=False)
    mesh.export(tmp_path / "007.ply")
    params = {
        "betas": one.params.betas[0].numpy(),
        "global_orient": one.params.pose[0, 0].numpy(),
        "transl": one.params.transl[0].numpy(),
        "body_pose": np.zeros(63, np.float32),
        "left_hand_pose": np.zeros(45, np.float32),
        "right_hand_pose": np.zeros(45, np.float32),
    }
    calls: list[Path] = []

    def fake(path: Path, **asked: Any) -> Any:
        calls.append(path)
        assert asked == {"model": "anny", "unit": "m", "up": "+y"}
        return SimpleNamespace(params=params, T_scan_model=T_scan_model, verdict="good", reason="well")

    monkeypatch.setattr(photo_subjects, "register", fake)
    for _ in range(2):
        found = read_photo_subject(tmp_path / "007.ply", "anny", tmp_path / "kept", "key")
    assert len(calls) == 1, "what was registered once is kept"
    np.testing.assert_allclose(found.surface.points, one.surface.points, atol=1e-5)
    assert not found.is_exact and float(facing(found.params)) == pytest.approx(0.5, abs=1e-5)
    shots = photograph(found, (0, 90), body)
    assert all((shot.mask > 0.5).mean() > 0.05 and not shot.is_exact for shot in shots)

    def failing(path: Path, **asked: Any) -> Any:
        raise RegistrationError("too odd")

    monkeypatch.setattr(photo_subjects, "register", failing)
    with pytest.raises(RegistrationError, match="too odd"):
        read_photo_subject(tmp_path / "007.ply", "anny", tmp_path / "other", "key")
