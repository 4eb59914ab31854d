"""Clothes are no flesh: what edges say where cloth is loose, volumes, and refinements that are not believed."""

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from fake_photo import Scene, scene, standing

from lvdreg.base.shapes import FloatArray, IntArray
from lvdreg.body.model import BodyModel
from lvdreg.descent.uncertainty import sigma_factor
from lvdreg.fit import photo_guard
from lvdreg.fit.cloth import rest_log_volume, tightness
from lvdreg.fit.evidence import Evidence2D
from lvdreg.fit.kinematics import Kinematics
from lvdreg.fit.photo import PhotoStart, SilhouetteConfig, evidence_of
from lvdreg.fit.photo_guard import Leaving, PhotoGuardConfig, knee_bends, leaving, refine_guarded
from lvdreg.fit.scan import RefineConfig
from lvdreg.fit.vertices import Fit
from lvdreg.geometry.mesh import enclosed_volume, volume_slopes
from lvdreg.geometry.outline import BodyOutline, MaskOutline
from lvdreg.image.crop import CutConfig, crop_around

CONFIG, HELD, GUARD = SilhouetteConfig(), RefineConfig(), PhotoGuardConfig()


def box(size: tuple[float, float, float], shift: float = 0.0) -> tuple[FloatArray, IntArray]:
    """A box of twelve faces, wound outwards."""
    corners = np.array([[x, y, z] for x in (0, 1) for y in (0, 1) for z in (0, 1)]) * size + shift
    quads = [(0, 1, 3, 2), (4, 6, 7, 5), (0, 4, 5, 1), (2, 3, 7, 6), (0, 2, 6, 4), (1, 5, 7, 3)]
    faces = [face for a, b, c, d in quads for face in ((a, b, c), (a, c, d))]
    return corners, np.array(faces, np.int64)


def test_volumes_of_boxes_wherever_they_stand() -> None:
    for shift in (0.0, -3.0):
        points, faces = box((0.5, 2.0, 0.3), shift)
        assert enclosed_volume(points, faces) == pytest.approx(0.3)


def test_volumes_change_with_vertices_as_differences_say(body: BodyModel) -> None:
    points, faces = np.asarray(body.data.v_template, np.float64), np.asarray(body.data.faces, np.int64)
    away = np.random.default_rng(0).normal(size=points.shape)
    step = 1e-5
    slow = (enclosed_volume(points + step * away, faces) - enclosed_volume(points - step * away, faces)) / (2 * step)
    assert float((volume_slopes(points, faces) * away).sum()) == pytest.approx(slow, rel=1e-6)


def test_log_volumes_change_with_the_shape_as_differences_say(body: BodyModel) -> None:
    kernel, faces = Kinematics(body.data), np.asarray(body.data.faces, np.int64)
    betas = np.random.default_rng(1).normal(size=body.num_betas)
    value, slope = rest_log_volume(kernel, faces, betas)
    assert 0.02 < np.exp(value) < 0.2, "cubic metres of a person"
    for k in (0, 3):
        step = np.zeros(len(betas))
        step[k] = 1e-5
        up, down = (rest_log_volume(kernel, faces, betas + sign * step)[0] for sign in (1, -1))
        assert slope[k] == pytest.approx((up - down) / 2e-5, rel=1e-5, abs=1e-8)


def ring(radius: float, count: int = 60) -> tuple[FloatArray, FloatArray]:
    angle = np.linspace(0, 2 * np.pi, count, endpoint=False)
    normals = np.stack([np.cos(angle), np.sin(angle)], 1)
    return radius * normals, normals


@pytest.mark.parametrize(("radius", "expected"), [(0.2, 1.0), (0.16, 1.0), (0.135, 0.5), (0.1, 0.0), (0.3, 1.0)])
def test_edges_say_the_less_the_deeper_a_part_lies(radius: float, expected: float) -> None:
    """A round part in a round mask of 20 cm: nothing speaks against edges that jut out of it."""
    points, normals = ring(radius)
    vertices = np.stack([np.arange(60), np.arange(1, 61) % 60], 1)
    body = BodyOutline(points, normals, vertices, np.full(60, 0.01))
    parts = np.r_[np.zeros(60, np.int64), 1]
    found = tightness(body, parts, MaskOutline(*ring(0.2, 2000)), (0.05, 0.08))
    assert found[0] == pytest.approx(expected, abs=0.02) and found[1] == 1.0, "what has no edges is not hidden"


@pytest.fixture(scope="module")
def one(body: BodyModel) -> tuple[Fit, Evidence2D]:
    """A photo, and the true body in the frame of its crop."""
    shot: Scene = scene(body, standing(body))
    crop = crop_around(shot.rgb, shot.shown.mask, CutConfig(), 256)
    size = crop.side / 2 / shot.camera.scale
    shift = np.append(crop.to_unit(shot.camera.centre) * size, -shot.joints[0, 2])
    params = replace(shot.params, transl=shot.params.transl + torch.from_numpy(shift).float())
    return Fit(params, 1.0, 0.0, True), evidence_of(crop, size, shot.shown.keypoints, CONFIG)


def changed(fit: Fit, body: BodyModel, joint: str = "", angle: float = 0.0, **others: Any) -> Fit:
    """Return a fit with one joint bent further, or other parameters."""
    pose = fit.params.pose.clone()
    if joint:
        pose[body.joint_names.index(joint), 0] += angle
    return replace(fit, params=replace(fit.params, pose=pose, **others))


def test_what_leads_away_is_measured(body: BodyModel, one: tuple[Fit, Evidence2D]) -> None:
    start, shown = one

    def held(fit: Fit, after: Evidence2D = shown) -> Leaving:
        return leaving(body, start, shown, fit, after, CONFIG.min_visibility)

    assert held(start) == Leaving(0.0, 0.0, 0.0)
    bent = held(changed(start, body, "left_knee", 0.6))
    assert bent.bent == pytest.approx(0.6, abs=0.15) and bent.is_too_far(GUARD) and bent.grown == 0
    aside = held(changed(start, body, transl=start.params.transl + torch.tensor([0.05, 0.0, 0.0])))
    assert 0.03 < aside.missed < 0.05 and aside.is_too_far(GUARD)
    deeper = held(changed(start, body, transl=start.params.transl + torch.tensor([0.0, 0.0, 0.5])))
    assert not deeper.is_too_far(GUARD), "depth is not seen"
    # The same body in a picture whose unit is 2 % longer fills less of it.
    assert held(start, shown.resized(1.02)).grown == pytest.approx(-3 * np.log(1.02))


def test_knees_bend_by_the_angle_between_thigh_and_shin(body: BodyModel) -> None:
    joints = np.asarray(body.data.J_template, np.float64).copy()
    hip, knee, ankle = (body.joint_names.index(f"right_{name}") for name in ("hip", "knee", "ankle"))
    joints[[hip, knee, ankle]] = [[0, 1, 0], [0, 0.5, 0], [0, 0.5, -0.4]]
    assert knee_bends(body, joints)[1] == pytest.approx(np.pi / 2)


@pytest.fixture
def answers(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[Fit]]:
    """What refinements are told to find, one after the other; whether they saw an outline stands in ``seen``."""
    queue: list[Fit] = []

    def fake(_body: BodyModel, starts: list[PhotoStart], *_: Any) -> list[tuple[Fit, Evidence2D]]:
        return [
            (replace(queue.pop(0), residual_mm=float(start.shown.outline is not None)), start.shown) for start in starts
        ]

    monkeypatch.setattr(photo_guard, "refine_together", fake)
    yield queue


def test_what_leads_away_is_done_again_without_the_outline_then_undone(
    body: BodyModel, one: tuple[Fit, Evidence2D], answers: list[Fit]
) -> None:
    start, shown = one
    bent = changed(start, body, "left_knee", 0.8)

    def refined(*found: Fit, evidence: Evidence2D = shown) -> Fit:
        answers[:] = found
        ((fit, after),) = refine_guarded(body, [PhotoStart(start, evidence, None)], CONFIG, HELD, GUARD)
        assert not answers
        if evidence.outline is not None and after.outline is not None:
            np.testing.assert_allclose(after.outline.points, evidence.outline.points)
        return fit

    kept = refined(start)
    assert kept.residual_mm == 1 and kept.was_refined and not kept.warnings
    astray = refined(bent, start)
    assert astray.residual_mm == 0 and astray.was_refined and "astray" in astray.warnings[0]
    undone = refined(bent, bent)
    assert undone.params is start.params and not undone.was_refined and "undone" in undone.warnings[0]
    assert not refined(bent, evidence=replace(shown, keypoints=None)).was_refined


def test_a_photo_that_does_not_go_with_the_others_is_refined_by_itself(
    body: BodyModel, one: tuple[Fit, Evidence2D], answers: list[Fit]
) -> None:
    start, shown = one
    aside = changed(start, body, transl=start.params.transl + torch.tensor([0.05, 0.0, 0.0]))
    photos = [PhotoStart(start, shown, None)] * 3
    # All three, again with the keypoints alone of the second, that one by itself, then the other two.
    answers[:] = [start, aside, start, start, aside, start, start, start, start]
    found = [fit for fit, _ in refine_guarded(body, photos, CONFIG, HELD, GUARD)]
    assert not answers and ["by itself" in " ".join(fit.warnings) for fit in found] == [False, True, False]
    # Bent knees are what another photo of the same pose may show, but not another pose of the same person.
    bent, knees = changed(start, body, "left_knee", 0.8), replace(GUARD, most_missed=np.inf)
    answers[:] = [bent, bent]
    assert not any(fit.warnings for fit, _ in refine_guarded(body, photos[:2], CONFIG, HELD, knees, "pose"))
    answers[:] = [start, bent, start, start]
    assert "astray" in refine_guarded(body, photos[:2], CONFIG, HELD, knees)[1][0].warnings[0] and not answers


def test_sigma_grows_with_what_no_body_explains() -> None:
    usual = sigma_factor(85.0, 17.5)
    assert 0.5 < usual < 1.2
    doubled = sigma_factor(85.0, 35.0) * 85 / (usual * 85), sigma_factor(170.0, 17.5) * 170 / (usual * 85)
    assert doubled[0] == pytest.approx(doubled[1]) and 1.4 < doubled[0] < 2
    assert sigma_factor(85.0, 0.0) == 0.5 and sigma_factor(85.0, 900.0) == 2.0
