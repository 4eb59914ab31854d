"""Faults of posed scans are found, named, and not seen where there are none."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from lvdreg.augment.repose.bound import Bound, bind
from lvdreg.augment.repose.faults import DEEP, LIMITS, Fault, Watch, inspect, measure, strangers
from lvdreg.augment.repose.sources import VertexColours
from lvdreg.body import BodyModel, BodyParams
from lvdreg.geometry.frames import rotvec_to_rotmat
from lvdreg.synth.people.collisions import CollisionProxies
from lvdreg.synth.people.gaits import draw_pose
from lvdreg.synth.subjects import Subjects
from tests.scans import dressed, standing, vertices_of


@pytest.fixture(scope="module")
def bound(body: BodyModel) -> Bound:
    params = standing(body, 3)
    surface = dressed(body, vertices_of(body, params))
    grey = VertexColours(torch.full((len(surface), 3), 0.5))
    return bind(surface, body.data.faces, grey, body, params, surface)


def posed(bound: Bound, **turns: tuple[float, float, float]) -> Subjects:
    """The scan with some joints turned, by name."""
    pose = bound.params.pose.clone()
    for name, turn in turns.items():
        pose[:, bound.body.joint_names.index(name)] += torch.tensor(turn)
    return bound.pose(BodyParams(bound.params.betas, pose, bound.params.transl))


def kinds(bound: Bound, subjects: Subjects) -> set[str]:
    return {fault.kind for fault in inspect(bound, subjects)}


def test_the_scan_itself_has_no_faults(bound: Bound) -> None:
    assert measure(bound, bound.pose(bound.params)) == dict.fromkeys(LIMITS, 0.0)


def test_walkers_have_none(bound: Bound) -> None:
    betas = bound.params.betas.expand(8, -1)
    pose = draw_pose("walking", bound.body, betas, torch.Generator().manual_seed(0))
    subjects = bound.pose(BodyParams(betas, pose, torch.zeros(8, 3)))
    assert sum(bool(inspect(bound, subjects, k)) for k in range(8)) <= 1


def test_an_arm_through_the_trunk_is_found(bound: Bound) -> None:
    assert kinds(bound, posed(bound, left_shoulder=(0.0, 0.0, -1.2))) == {"passes through itself"}
    assert not kinds(bound, posed(bound, left_shoulder=(0.0, 0.0, 0.5)))


def test_what_was_so_in_the_scan_is_no_fault(body: BodyModel) -> None:
    """A hand on the hip, say: as deep as it was it may stay."""
    params = standing(body, 3)
    params.pose[body.joint_names.index("left_shoulder")] += torch.tensor([0.0, 0.0, -1.2])
    surface = vertices_of(body, params)
    grey = VertexColours(torch.full((len(surface), 3), 0.5))
    pressed = bind(surface, body.data.faces, grey, body, params, surface)
    assert not kinds(pressed, pressed.pose(pressed.params))


def test_numbers_that_are_none_are_found(bound: Bound) -> None:
    subjects = posed(bound)
    vertices = subjects.outer.vertices.clone()
    vertices[0, 5, 1] = torch.nan
    broken = replace(subjects, outer=replace(subjects.outer, vertices=vertices))
    assert kinds(bound, broken) == {"not finite"}


def test_too_much_cut_is_found(bound: Bound) -> None:
    subjects = posed(bound)
    keep = subjects.outer.face_keep.clone()
    keep[0, : len(bound.faces) // 3] = False
    torn = replace(subjects, outer=replace(subjects.outer, face_keep=keep))
    cut = float(bound.areas[: len(bound.faces) // 3].sum() / bound.areas.sum())
    (fault,) = inspect(bound, torn)
    assert fault == Fault("torn", fault.amount, LIMITS["torn"]) and fault.amount == pytest.approx(cut)


def test_stretched_triangles_that_remain_are_found(bound: Bound) -> None:
    subjects = posed(bound)
    vertices, count = subjects.outer.vertices.clone(), len(bound.scan.base)
    chosen = vertices[0, :count, 1] > vertices[0, :count, 1].median() + 0.3
    vertices[0, :count][chosen] *= 4
    assert "stretched" in kinds(bound, replace(subjects, outer=replace(subjects.outer, vertices=vertices)))


def test_samples_of_a_batch_are_judged_alone(bound: Bound) -> None:
    pose = bound.params.pose.repeat(2, 1, 1)
    pose[1, bound.body.joint_names.index("left_shoulder")] += torch.tensor([0.0, 0.0, -1.2])
    subjects = bound.pose(BodyParams(bound.params.betas.expand(2, -1), pose, torch.zeros(2, 3)))
    assert not inspect(bound, subjects, 0)
    assert inspect(bound, subjects, 1)


def test_depth_is_that_of_a_slow_search(bound: Bound) -> None:
    """Every vertex against every sphere, one by one, with the pelvis wherever it is."""
    pose = bound.params.pose.clone()
    pose[:, bound.body.joint_names.index("left_shoulder")] += torch.tensor([0.0, 0.0, -1.2])
    params = BodyParams(bound.params.betas, pose, torch.tensor([[3.0, -1.0, 2.0]]))
    subjects, watch, proxies = bound.pose(params), Watch(bound), CollisionProxies(bound.body)
    joints = bound.body.rest(params.betas)[1]
    centres, radii = proxies.spheres(joints, rotvec_to_rotmat(params.pose))
    strange = strangers(proxies)
    vertices = (subjects.outer.vertices[0, : len(watch.labels)] - params.transl).double().numpy()
    share = 0.0
    for vertex, label, area in zip(vertices, watch.labels.tolist(), watch.share.tolist(), strict=True):
        depth = radii[0].double().numpy() - np.linalg.norm(centres[0].double().numpy() - vertex, axis=1)
        share += area * bool((depth[strange[label].numpy()] > DEEP).any())
    fast = watch.share_inside(subjects.outer.vertices[0, : len(watch.labels)], params, subjects.joints[0, 0])
    assert fast == pytest.approx(share, abs=2e-4)
    assert fast > LIMITS["passes through itself"]


def test_neighbours_are_no_strangers(body: BodyModel) -> None:
    proxies = CollisionProxies(body)
    strange = strangers(proxies)
    names = body.joint_names
    for j, sphere in ((names.index("left_elbow"), "left_shoulder"), (names.index("head"), "neck")):
        assert not strange[j, proxies.bones == names.index(sphere)].any()
    assert strange[names.index("left_wrist"), proxies.bones == names.index("right_knee")].all()


def test_faults_say_what_they_are() -> None:
    assert str(Fault("torn", 0.253, 0.2)) == "torn: 25.3 % of the surface, over 20 %"
