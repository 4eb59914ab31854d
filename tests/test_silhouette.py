"""Outlines, landmarks and the refinement against what a photo shows."""

from dataclasses import replace
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
import torch
from fake_photo import Scene, scene, standing

from lvdreg.base.shapes import FloatArray
from lvdreg.body.landmarks import landmarks_of, parts_of
from lvdreg.body.model import BodyModel
from lvdreg.fit.evidence import Evidence2D, silhouette_iou
from lvdreg.fit.kinematics import Kinematics, State, upright_height
from lvdreg.fit.landmarks import kinematics_of
from lvdreg.fit.photo import (
    PhotoRefiner,
    SilhouetteConfig,
    _Pairs,
    evidence_of,
    keypoint_distances,
)
from lvdreg.fit.scan import RefineConfig
from lvdreg.fit.together import refine_to_photo
from lvdreg.fit.vertices import Fit
from lvdreg.geometry.outline import body_outline, covered_cells, edges_with_faces, mask_outline
from lvdreg.image.camera import Lens
from lvdreg.image.crop import CutConfig, crop_around
from lvdreg.photo.keypoints import KEYPOINTS

CONFIG, HELD = SilhouetteConfig(), RefineConfig()


@pytest.fixture(scope="module")
def one(body: BodyModel) -> Scene:
    return scene(body, standing(body))


@pytest.fixture(scope="module")
def near(body: BodyModel) -> Scene:
    """Somebody 1.6 m from the camera, an arm towards it."""
    params = standing(body)
    pose = params.pose.clone()
    pose[body.joint_names.index("left_shoulder")] = torch.tensor([0.0, -1.2, 0.0])
    return scene(body, replace(params, pose=pose), distance=1.6)


def in_crop(one: Scene, body: BodyModel, **options: object) -> tuple[Scene, Evidence2D]:
    """Bring a scene into the frame of its crop, and say what the photo shows."""
    crop = replace(crop_around(one.rgb, one.shown.mask, CutConfig(), 256), lens=one.camera.lens)
    camera = one.camera.moved(one.joints[0])
    size = crop.side / 2 / camera.scale
    shift = np.append(crop.to_unit(camera.centre) * size, 0.0) - one.joints[0]
    params = replace(one.params, transl=one.params.transl + torch.from_numpy(shift).float())
    moved = replace(one, params=params, vertices=one.vertices + shift, joints=one.joints + shift)
    return moved, evidence_of(crop, size, one.shown.keypoints, CONFIG, **options)  # type: ignore[arg-type]


def disc(radius: float, size: int = 64, centre: tuple[float, float] = (30.3, 33.8)) -> FloatArray:
    """A disc's share of every pixel, by a fine grid."""
    fine = (np.arange(size * 8) + 0.5) / 8
    inside = (fine[None] - centre[0]) ** 2 + (fine[:, None] - centre[1]) ** 2 < radius**2
    return inside.reshape(size, 8, size, 8).mean((1, 3))


def test_the_outline_of_a_disc_is_a_circle() -> None:
    found = mask_outline(disc(20.0), blur=0.7)
    centre = np.array([30.3, 33.8]) * [2, -2] / 64 + [-1, 1]
    away = (found.points - centre) * 32
    radii = np.linalg.norm(away, axis=1)
    assert len(radii) > 100 and np.abs(radii - 20).max() < 0.15
    assert ((away / radii[:, None]) * found.normals).sum(1).min() > 0.99


def test_the_outline_of_a_mask_that_is_not_square() -> None:
    mask = np.zeros((40, 80))
    mask[10:20, 50:60] = 1
    points = mask_outline(mask, blur=0.3).points
    # The unit is half the width: columns 50 to 60 of 80, rows 10 to 20 of 40.
    assert np.allclose([points.min(0), points.max(0)], [[0.25, 0.0], [0.5, 0.25]], atol=0.01)


def test_edges_of_a_body_have_two_faces(body: BodyModel) -> None:
    faces = np.asarray(body.data.faces, np.int64)
    edges, sides = edges_with_faces(faces)
    for edge, (first, second) in list(zip(edges.tolist(), sides.tolist(), strict=True))[::701]:
        assert set(edge) <= set(faces[first]) and set(edge) <= set(faces[second]) and first != second
        assert (edge[0], edge[1]) in list(pairwise([*faces[first], faces[first][0]]))


def test_the_outline_of_a_body_is_where_its_picture_ends(body: BodyModel, one: Scene) -> None:
    moved, shown = in_crop(one, body)
    points = moved.vertices / shown.metres_per_unit
    faces = np.asarray(body.data.faces, np.int64)
    found, covered = body_outline(points, faces, *edges_with_faces(faces), 256)
    assert np.array_equal(covered, covered_cells(points, faces, 256))
    fine = mask_outline(covered_cells(points, faces, 1024).astype(float), blur=1.0)
    apart = np.linalg.norm(found.points[:, None] - fine.points[None], axis=-1)
    assert len(found.points) > 250
    # Both ways, in cells of the coarse picture: nothing inside is taken for outline, and nothing is left out.
    assert np.quantile(apart.min(1), 0.98) * 128 < 1.5 and np.quantile(apart.min(0), 0.95) * 128 < 3
    nearest = fine.normals[apart.argmin(1)]
    assert np.median((found.normals * nearest).sum(1)) > 0.97


def test_landmarks_lie_where_their_names_say(body: BodyModel) -> None:
    landmarks, rows = landmarks_of(body.data, KEYPOINTS)
    kernel = kinematics_of(body.data, landmarks)
    at = dict(zip(landmarks.names, kernel.pose(kernel.zero_state()).vertices, strict=True))
    assert [KEYPOINTS[row] for row in rows] == list(landmarks.names) and len(rows) >= 25
    for side, sign in (("left", 1), ("right", -1)):
        assert all(sign * at[f"{side}_{name}"][0] > 0 for name in ("ear", "shoulder", "wrist", "hip", "heel", "toe"))
        assert at[f"{side}_toe"][2] > at[f"{side}_ankle"][2] > at[f"{side}_heel"][2]
        assert at[f"{side}_heel"][1] < at[f"{side}_ankle"][1] < at[f"{side}_knee"][1] < at[f"{side}_hip"][1]
    assert at["nose"][2] > at["left_ear"][2] + 0.05 and abs(at["nose"][0]) < 0.01


def test_landmarks_ride_on_the_body(body: BodyModel) -> None:
    params = standing(body, 5, bend=0.4)
    landmarks, _ = landmarks_of(body.data, KEYPOINTS)
    found = kinematics_of(body.data, landmarks).pose(State.from_params(params)).vertices
    posed = body(params)
    vertices, joints = posed.vertices.double().numpy(), posed.joints.double().numpy()
    pure = (landmarks.share == 0) | (landmarks.share == 1)
    expected = np.where(landmarks.share[:, None] == 1, vertices[landmarks.vertices], joints[landmarks.joints])
    assert pure.sum() > 10 and np.abs(found - expected)[pure].max() < 1e-5
    # Between joint and skin landmarks are skinned themselves: what bends may part them by millimetres.
    between = landmarks.of(posed.vertices[None], posed.joints[None])[0].double().numpy()
    assert np.abs(found - between)[pure].max() < 1e-5 and np.abs(found - between).max() < 0.015


def test_every_vertex_has_a_part(body: BodyModel) -> None:
    names, part = parts_of(body.data)
    points = np.asarray(body.data.v_template)
    assert {"trunk", "head", "left_thigh", "right_foot", "left_hand"} <= set(names)
    assert all(points[part == names.index(f"left_{x}"), 0].mean() > 0.02 for x in ("hand", "shin", "foot"))
    assert points[part == names.index("head"), 1].min() > points[part == names.index("left_thigh"), 1].max()


def test_overlap_is_counted_as_the_slow_way(body: BodyModel, one: Scene) -> None:
    moved, shown = in_crop(one, body)
    faces = np.asarray(body.data.faces, np.int64)
    assert silhouette_iou(moved.vertices, faces, shown) > 0.98
    beside = moved.vertices + [0.1, 0, 0]
    mask = shown.crop.mask[0].numpy() >= 0.5
    other = covered_cells(beside / shown.metres_per_unit, faces, 256)
    slow = (mask & other).sum() / (mask | other).sum()
    assert silhouette_iou(beside, faces, shown) == pytest.approx(slow, abs=0.02)


def test_a_limb_beyond_the_crop_counts(body: BodyModel, one: Scene) -> None:
    moved, shown = in_crop(one, body)
    faces = np.asarray(body.data.faces, np.int64)
    assert silhouette_iou(moved.vertices * [2.2, 1, 1], faces, shown) < 0.6


def disturbed(body: BodyModel, one: Scene, seed: int = 1) -> Fit:
    generator = torch.Generator().manual_seed(seed)
    params = one.params
    pose = params.pose + 0.1 * torch.randn(params.pose.shape, generator=generator)
    betas = params.betas + 0.3 * torch.randn(params.betas.shape, generator=generator)
    return Fit(replace(params, pose=pose, betas=betas, transl=params.transl + 0.03), 1.0, 0.0, True)


def flat_error_mm(body: BodyModel, fit: Fit, shown: Evidence2D, true: Scene, size: float) -> float:
    """Mean error in the plane of the photo, millimetres at the true size."""
    found = body(fit.params).vertices.double().numpy()[:, :2] / shown.metres_per_unit * size
    return float(1000 * np.linalg.norm(found - true.vertices[:, :2], axis=1).mean())


@pytest.mark.slow
@pytest.mark.parametrize("with_keypoints", [True, False])
def test_refinement_finds_the_body_in_the_plane(body: BodyModel, one: Scene, with_keypoints: bool) -> None:
    moved, shown = in_crop(one, body)
    shown = shown if with_keypoints else replace(shown, keypoints=None)
    start = disturbed(body, moved)
    unsure = torch.full((body.num_vertices,), 0.12)
    refined, after = refine_to_photo(body, start, shown, unsure, CONFIG, HELD)
    faces = np.asarray(body.data.faces, np.int64)
    before_mm = flat_error_mm(body, start, shown, moved, shown.metres_per_unit)
    after_mm = flat_error_mm(body, refined, after, moved, shown.metres_per_unit)
    assert after_mm < (0.35 if with_keypoints else 0.6) * before_mm, (before_mm, after_mm)
    assert silhouette_iou(body(refined.params).vertices.double().numpy(), faces, after) > 0.9
    assert silhouette_iou(body(start.params).vertices.double().numpy(), faces, shown) < 0.75


@pytest.mark.slow
def test_what_a_person_put_in_its_place_counts_however_far_it_is(body: BodyModel, one: Scene) -> None:
    """A wrist is raised by a quarter turn about its shoulder: alone it is an outlier, unless the user says so."""
    moved, shown = in_crop(one, body)
    assert shown.keypoints is not None
    keypoints = shown.keypoints.copy()
    shoulder, elbow, wrist = (KEYPOINTS.index(f"left_{joint}") for joint in ("shoulder", "elbow", "wrist"))
    across = keypoints[wrist, :2] - keypoints[shoulder, :2]
    keypoints[wrist, :2] = keypoints[shoulder, :2] + [-across[1], across[0]]
    keypoints[elbow, 2] = 0
    bare = replace(shown, keypoints=keypoints, outline=None)
    apart = []
    for sure in (frozenset[str](), frozenset({"left_wrist"})):
        fit, after = refine_to_photo(
            body, Fit(moved.params, 1.0, 0.0, True), replace(bare, sure=sure), None, CONFIG, HELD
        )
        apart.append(keypoint_distances(body, fit, after, CONFIG.min_visibility)["left_wrist"])
    assert apart[1] < 0.15 < 0.3 < apart[0]


@pytest.mark.slow
def test_the_truth_stays_where_it_is(body: BodyModel, one: Scene) -> None:
    moved, shown = in_crop(one, body)
    fit = Fit(moved.params, 1.0, 0.0, True)
    refined, after = refine_to_photo(body, fit, shown, None, CONFIG, HELD)
    assert flat_error_mm(body, refined, after, moved, shown.metres_per_unit) < 12
    depth = body(refined.params).vertices[:, 2] - body(moved.params).vertices[:, 2]
    assert float(depth.abs().mean()) < 0.03


@pytest.mark.slow
def test_depth_is_held_by_the_start_alone(body: BodyModel, one: Scene) -> None:
    """The photo says nothing of the distance: a start further away comes out as much further away."""
    moved, shown = in_crop(one, body)
    away = replace(moved.params, transl=moved.params.transl + torch.tensor([0.0, 0.0, 0.4]))
    refined, _ = refine_to_photo(body, Fit(away, 1.0, 0.0, True), shown, None, CONFIG, HELD)
    posed = body(refined.params).joints[0, 2] - body(moved.params).joints[0, 2]
    assert float(posed) == pytest.approx(0.4, abs=0.02)


@pytest.mark.slow
def test_outlines_at_the_end_of_the_photo_pull_at_nothing(body: BodyModel) -> None:
    """The photo ends at the hips: legs stay as the start has them, and are not squeezed into it."""
    params = standing(body, 2)
    cut = scene(body, params, size=(480, 260), scale=230.0, drop=0.36)
    moved, shown = in_crop(cut, body)
    assert shown.outline is not None and shown.crop.borders[2] > -1
    border = shown.crop.borders[2] * shown.metres_per_unit
    assert shown.outline.points[:, 1].min() > border
    refined, _ = refine_to_photo(body, Fit(moved.params, 1.0, 0.0, True), shown, None, CONFIG, HELD)
    apart = body(refined.params).vertices - body(moved.params).vertices
    assert float(apart.norm(dim=-1).mean()) < 0.03


def fitted_to(
    mask: FloatArray, body: BodyModel, moved: Scene, shown: Evidence2D, config: SilhouetteConfig = CONFIG
) -> float:
    """Refine the true body to another mask; returns by how much its picture grows, as a share."""
    crop = replace(shown.crop, mask=torch.from_numpy(mask).float()[None])
    other = evidence_of(crop, shown.metres_per_unit, moved.shown.keypoints, config)
    unsure = torch.full((body.num_vertices,), 0.06)
    refined, after = refine_to_photo(body, Fit(moved.params, 1.0, 0.0, True), other, unsure, config, HELD)
    faces = np.asarray(body.data.faces, np.int64)
    areas = [
        covered_cells(vertices / unit, faces, 256).sum()
        for vertices, unit in (
            (body(refined.params).vertices.double().numpy(), after.metres_per_unit),
            (moved.vertices, shown.metres_per_unit),
        )
    ]
    return float(areas[0] / areas[1] - 1)


@pytest.mark.slow
def test_clothes_are_left_outside(body: BodyModel, one: Scene) -> None:
    """A mask 4 cm wider all around hardly fattens the body, for cloth does that; one as much narrower makes it thin.

    Were nothing known of volumes, and clothes tight, the wider one would fatten it by half of that; were clothes of any
    width likely, it would say much less of the body.
    """
    from scipy.ndimage import binary_dilation, binary_erosion

    moved, shown = in_crop(one, body)
    mask = shown.crop.mask[0].numpy() >= 0.5
    cells = round(0.04 / shown.metres_per_unit * 128)
    wider, narrower = (change(mask, iterations=cells) for change in (binary_dilation, binary_erosion))
    shares = [fitted_to(change, body, moved, shown) / (change.sum() / mask.sum() - 1) for change in (wider, narrower)]
    assert shares[0] < 0.25 and shares[1] > 0.6, shares
    fat = replace(CONFIG, volume_sigma=10.0, clothing_offset=0.006)
    loose = replace(fat, clothing_offset=0.3, clothing_offset_ends=0.3)
    grown, less = (fitted_to(wider, body, moved, shown, config) for config in (fat, loose))
    assert 0.4 < grown / (wider.sum() / mask.sum() - 1) < 0.57 and less < 0.7 * grown


def test_eases_are_found_by_part(body: BodyModel, one: Scene) -> None:
    """With a body that stays, a trouser leg that stands off by 3 cm is the ease of that leg, and of no other part."""
    moved, shown = in_crop(one, body)
    refiner = PhotoRefiner(body, State.from_params(moved.params), shown, None, CONFIG, HELD)
    posed = refiner.kernel.pose(refiner.start)
    outline = refiner._body_outline(posed)
    parts, leg = refiner.part[outline.edges[:, 0]], refiner.parts.index("left_shin")
    normals = outline.normals
    offsets = -normals * np.where(parts == leg, 0.03, 0.0)[:, None]
    pairs = _Pairs(outline.edges, parts, offsets, outline.points, normals, outline.lengths)
    refiner._with_clothing_offsets(pairs, np.full(len(parts), 1e4), 0.12)
    others = np.delete(refiner.clothing_offset, leg)
    assert 0.02 < refiner.clothing_offset[leg] < 0.03 and np.abs(others).max() < 1e-6


def test_without_evidence_the_fit_is_at_rest(body: BodyModel, one: Scene) -> None:
    """The fit has weighed the priors already: they must not pull a second time."""
    moved, shown = in_crop(one, body)
    start = disturbed(body, moved)
    nothing = replace(shown, outline=None, keypoints=None)
    refined, after = refine_to_photo(body, start, nothing, None, CONFIG, HELD)
    apart = (body(refined.params).vertices - body(start.params).vertices).norm(dim=-1)
    assert float(apart.max()) < 1e-4 and after.metres_per_unit == pytest.approx(shown.metres_per_unit)


def test_a_fit_that_misses_the_keypoints_is_held_less(body: BodyModel, one: Scene) -> None:
    moved, shown = in_crop(one, body)
    near, far = (
        PhotoRefiner(
            body, State.from_params(replace(moved.params, transl=moved.params.transl + off)), shown, None, CONFIG, HELD
        )
        for off in (0.0, torch.tensor([0.0, 2 * CONFIG.expected_miss, 0.0]))
    )
    assert near.base_weight == 1.0 and far.base_weight == pytest.approx(0.25, rel=0.05)
    assert np.trace(far.prior_matrix) < 0.3 * np.trace(near.prior_matrix)


def test_a_height_that_is_given_is_kept(body: BodyModel, one: Scene) -> None:
    own = upright_height(Kinematics(body.data), one.params.betas.double().numpy())[0]
    moved, shown = in_crop(one, body, height=1.02 * own)
    refined, after = refine_to_photo(body, Fit(moved.params, 1.0, 0.0, True), shown, None, CONFIG, HELD)
    betas = refined.params.betas.double().numpy()
    assert upright_height(Kinematics(body.data), betas)[0] == pytest.approx(1.02 * own, abs=0.003)
    # The body in the photo stays as large as it is there: its unit is what grows.
    faces = np.asarray(body.data.faces, np.int64)
    assert after.metres_per_unit > 1.005 * shown.metres_per_unit
    assert silhouette_iou(body(refined.params).vertices.double().numpy(), faces, after) > 0.9


@pytest.mark.parametrize("shot", ["one", "near"])
def test_normal_equations_are_those_of_small_steps(body: BodyModel, shot: str, request: pytest.FixtureRequest) -> None:
    """The gradient of the keypoints' term equals differences of its cost, the size and straight legs included."""
    moved, shown = in_crop(request.getfixturevalue(shot), body)
    config = replace(CONFIG, straight=replace(CONFIG.straight, reach=1e3))
    refiner = PhotoRefiner(body, State.from_params(disturbed(body, moved).params), shown, None, config, HELD)
    assert len(refiner.straight.rows) == 2
    targets = shown.keypoints
    assert targets is not None
    normal = refiner._keypoint_term(refiner.start, 1e6)
    assert normal is not None

    def cost(step: FloatArray) -> float:
        posed = refiner.landmarks.pose(refiner.start.moved(step[:-1])).vertices
        own = targets[refiner.rows]
        # A unit that is longer by a factor is a body that is as much smaller, about the middle of the picture.
        offsets = shown.camera.seen(posed * np.exp(-step[-1]))[:, :2] - own[:, :2]
        base_weight = np.where(own[:, 2] >= CONFIG.min_visibility, own[:, 2], 0)
        bent = refiner.straight.equations(posed, np.zeros((*posed.shape, 1)), config.straight).cost
        return bent + float(0.5 * (base_weight / (CONFIG.keypoint_sigma * refiner.unsure) ** 2 @ (offsets**2).sum(1)))

    for unknown in (0, 14, 56, refiner.start.pose.size + 1, -3, -1):
        step = np.zeros(len(normal.gradient))
        step[unknown] = 1e-5
        slope = (cost(step) - cost(-step)) / 2e-5
        assert normal.gradient[unknown] == pytest.approx(slope, rel=1e-3, abs=1e-3 * abs(normal.gradient).max())


@pytest.mark.parametrize("shot", ["one", "near"])
def test_outlines_pull_as_their_cost_changes(body: BodyModel, shot: str, request: pytest.FixtureRequest) -> None:
    """The gradient of fixed pairs equals differences of half their weighted squared heights, the size included."""
    moved, shown = in_crop(request.getfixturevalue(shot), body)
    refiner = PhotoRefiner(body, State.from_params(moved.params), shown, None, CONFIG, HELD)
    outline = refiner._body_outline(refiner.kernel.pose(refiner.start))
    offsets = np.random.default_rng(0).normal(scale=0.01, size=outline.points.shape)
    pairs = _Pairs(
        outline.edges, refiner.part[outline.edges[:, 0]], offsets, outline.points, outline.normals, outline.lengths
    )
    weights: list[FloatArray] = []
    robustly = refiner._with_clothing_offsets

    def remembered(*given: Any) -> tuple[FloatArray, FloatArray]:
        weight, known = robustly(*given)
        refiner.clothing_offset[:] = 0.0
        weights.append(weight)
        return weight, known

    refiner._with_clothing_offsets = remembered  # type: ignore[method-assign]
    normal = refiner._pull(refiner.start, pairs, np.ones(len(offsets)), 0.12)

    def cost(step: FloatArray) -> float:
        posed = refiner.kernel.pose(refiner.start.moved(step[:-1])).vertices * np.exp(-step[-1])
        now = shown.camera.seen(posed)[outline.edges, :2].mean(1)
        heights = ((now - outline.points + offsets) * outline.normals).sum(1)
        return float(0.5 * weights[0] @ heights**2)

    for unknown in (0, 1, 14, 56, -3, -1):
        step = np.zeros(len(normal.gradient))
        step[unknown] = 1e-5
        slope = (cost(step) - cost(-step)) / 2e-5
        assert normal.gradient[unknown] == pytest.approx(slope, rel=3e-3, abs=3e-3 * abs(normal.gradient).max())


@pytest.mark.slow
def test_perspective_is_no_part_of_the_body(body: BodyModel, near: Scene) -> None:
    """From near the truth fits what is seen, and stays; weak perspective makes another body of it."""
    moved, shown = in_crop(near, body)
    vertices, faces = moved.vertices, np.asarray(body.data.faces, np.int64)
    weak = replace(shown, crop=replace(shown.crop, lens=Lens()))
    assert silhouette_iou(vertices, faces, shown) > 0.97 > 0.9 > silhouette_iou(vertices, faces, weak)
    off = []
    for evidence in (shown, weak):
        few = replace(CONFIG, max_iterations=5)
        fit, after = refine_to_photo(body, Fit(moved.params, 1.0, 0.0, True), evidence, None, few, HELD)
        found = body(fit.params).vertices.double().numpy() * (shown.metres_per_unit / after.metres_per_unit)
        off.append(float(np.linalg.norm(found - vertices, axis=1).mean()))
    assert off[0] < 0.015 < off[1]


def test_keypoints_that_are_not_seen_have_no_say(body: BodyModel, one: Scene) -> None:
    moved, shown = in_crop(one, body)
    assert shown.keypoints is not None
    wrong = shown.keypoints.copy()
    wrong[KEYPOINTS.index("left_wrist")] = (5.0, 5.0, 0.1)
    fit = Fit(moved.params, 1.0, 0.0, True)
    same, _ = refine_to_photo(body, fit, replace(shown, keypoints=wrong), None, CONFIG, HELD)
    assert "left_wrist" not in keypoint_distances(body, same, replace(shown, keypoints=wrong), CONFIG.min_visibility)
    wrist = body.joint_names.index("left_wrist")
    assert float((body(same.params).joints[wrist] - body(moved.params).joints[wrist]).norm()) < 0.05


def test_equal_input_gives_equal_bytes(body: BodyModel, one: Scene) -> None:
    moved, shown = in_crop(one, body)
    config = replace(CONFIG, max_iterations=4)
    first, second = (refine_to_photo(body, disturbed(body, moved), shown, None, config, HELD)[0] for _ in range(2))
    assert torch.equal(first.params.pose, second.params.pose) and torch.equal(first.params.betas, second.params.betas)
