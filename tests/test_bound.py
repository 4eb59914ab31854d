"""Binding a scan to a body: it comes back as it was, moves as the body does, and never tears or webs."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from scipy.sparse.csgraph import connected_components

from lvdreg.augment.repose.bound import Bound, bind, face_pieces, islands, nearest_rotations
from lvdreg.augment.repose.carry import JUMP, Carrier, Matches, WeldedMesh, match, weld
from lvdreg.augment.repose.filler import extended_colours, touched_vertices
from lvdreg.augment.repose.sources import VertexColours
from lvdreg.base.shapes import FloatArray, IntArray
from lvdreg.body import BodyModel, BodyParams
from lvdreg.geometry.frames import rotvec_to_rotmat
from lvdreg.geometry.mesh import closest_point_on_mesh, mesh_normals
from lvdreg.synth.subjects import Pixels
from tests.scans import dressed, standing, vertices_of


@pytest.fixture(scope="module")
def params(body: BodyModel) -> BodyParams:
    return standing(body, 3)


def grey(count: int) -> VertexColours:
    return VertexColours(torch.full((count, 3), 0.5))


def batch_of(params: BodyParams, count: int = 1) -> BodyParams:
    return BodyParams(*(x.expand(count, *x.shape).clone() for x in (params.betas, params.pose, params.transl)))


def part(body: BodyModel, *words: str) -> NDArray[np.bool_]:
    """Vertices that mostly follow joints whose names contain one of the words."""
    joints = [any(word in name for word in words) for name in body.joint_names]
    return np.isin(body.data.weights.argmax(1), np.flatnonzero(joints))


@pytest.fixture(scope="module")
def clothes(body: BodyModel, params: BodyParams) -> Bound:
    """A dressed scan, registered exactly."""
    surface = dressed(body, vertices_of(body, params))
    return bind(surface, body.data.faces, grey(len(surface)), body, params, surface)


def raised(body: BodyModel, params: BodyParams, angle: float = 1.2) -> BodyParams:
    """The same person with the left arm up and the right knee bent."""
    pose = batch_of(params)
    pose.pose[:, body.joint_names.index("left_shoulder")] += torch.tensor([0.0, 0.0, angle])
    pose.pose[:, body.joint_names.index("right_knee")] += torch.tensor([0.9, 0.0, 0.0])
    return pose


def test_the_same_parameters_give_the_same_scan(body: BodyModel, params: BodyParams, clothes: Bound) -> None:
    surface = dressed(body, vertices_of(body, params))
    subjects = clothes.pose(batch_of(params))
    count = len(surface)
    assert np.abs(subjects.outer.vertices[0, :count].numpy() - surface).max() < 1e-4
    assert subjects.outer.face_keep[0, : len(body.data.faces)].all()


def test_a_scan_of_the_naked_body_moves_and_grows_like_it(body: BodyModel, params: BodyParams) -> None:
    naked = vertices_of(body, params)
    order = np.random.default_rng(0).permutation(len(naked))
    back = np.argsort(order)
    bound = bind(naked[order], back[body.data.faces], grey(len(naked)), body, params, naked)
    other = raised(body, params)
    other.betas[:, :3] += 1.0
    error = (bound.pose(other).outer.vertices[0, : len(naked)] - body(other).vertices[0, order]).norm(dim=-1)
    # Weights are smoothed over a centimetre: fingers, which are no thicker, take a little of their neighbours.
    assert error.median() < 0.0005
    assert error.quantile(0.99) < 0.006


def test_clothes_keep_their_height_above_the_body(body: BodyModel, params: BodyParams, clothes: Bound) -> None:
    other = raised(body, params)
    count = body.num_vertices
    before = clothes.pose(batch_of(params)).outer.vertices[0, :count] - body(params).vertices
    after = clothes.pose(other).outer.vertices[0, :count] - body(other).vertices[0]
    change = (after.norm(dim=-1) - before.norm(dim=-1)).abs()
    assert change.quantile(0.95) < 0.006


def test_weights_are_shares(clothes: Bound) -> None:
    assert clothes.scan.weights.min() >= 0
    assert torch.allclose(clothes.scan.weights.sum(-1), torch.ones(len(clothes.scan.weights)), atol=1e-5)


def test_seams_stay_closed(body: BodyModel, params: BodyParams, clothes: Bound) -> None:
    """Every face with corners of its own, as pictures ask for: equal places stay equal in all poses."""
    surface = dressed(body, vertices_of(body, params))
    corners = body.data.faces.ravel()
    loose = np.arange(len(corners)).reshape(-1, 3)
    bound = bind(surface[corners], loose, grey(len(corners)), body, params, surface)
    other = raised(body, params)
    torn = bound.pose(other).outer
    whole = clothes.pose(other).outer
    assert (torn.vertices[0, : len(corners)] - whole.vertices[0, corners]).abs().max() < 1e-5
    faces = len(body.data.faces)
    # A face that is stretched to the very limit may fall to either side of it.
    assert (torn.face_keep[:, :faces] != whole.face_keep[:, :faces]).float().mean() < 1e-3


def test_batches_do_not_mix(body: BodyModel, params: BodyParams, clothes: Bound) -> None:
    one, other = batch_of(params), raised(body, params)
    both = BodyParams(*(torch.cat([getattr(p, n) for p in (one, other)]) for n in ("betas", "pose", "transl")))
    together = clothes.pose(both)
    for row, alone in enumerate((one, other)):
        subjects = clothes.pose(alone)
        assert torch.allclose(together.outer.vertices[row], subjects.outer.vertices[0], atol=1e-6)
        # Products of other batches round differently: a face at the very limit may fall to either side of it.
        assert (together.outer.face_keep[row] != subjects.outer.face_keep[0]).float().mean() < 1e-3


def test_equal_input_binds_equally(body: BodyModel, params: BodyParams, clothes: Bound) -> None:
    surface = dressed(body, vertices_of(body, params))
    again = bind(surface, body.data.faces, grey(len(surface)), body, params, surface)
    other = raised(body, params)
    assert torch.equal(again.pose(other).outer.vertices, clothes.pose(other).outer.vertices)


def webbed(body: BodyModel, params: BodyParams) -> tuple[BodyParams, FloatArray, IntArray, IntArray]:
    """Legs side by side, sewn together at the shins: parameters, vertices, faces, and the numbers of the sewn faces."""
    pose = params.pose.clone()
    for side, sign in (("left", -1.0), ("right", 1.0)):
        pose[body.joint_names.index(f"{side}_hip")] = torch.tensor([0.0, 0.0, sign * 0.185])
    together = replace(params, pose=pose)
    vertices = vertices_of(body, together)
    left, right = (np.flatnonzero(part(body, f"{side}_knee")) for side in ("left", "right"))
    apart = np.linalg.norm(vertices[left][:, None] - vertices[right], axis=2)
    sewn = left[apart.min(1) < 0.03]
    inner = body.data.faces[np.isin(body.data.faces, sewn).any(1)]
    inner = inner[np.isin(inner, left).all(1)]
    across = right[np.linalg.norm(vertices[inner].mean(1)[:, None] - vertices[right], axis=2).argmin(1)]
    web = np.stack([inner[:, 0], inner[:, 1], across], 1)
    count = len(body.data.faces)
    return together, vertices, np.concatenate([body.data.faces, web]), np.arange(count, count + len(web))


def test_webs_are_cut_when_the_legs_part(body: BodyModel, params: BodyParams) -> None:
    together, vertices, faces, web = webbed(body, params)
    assert len(web) > 20
    bound = bind(vertices, faces, grey(len(vertices)), body, together, vertices)
    assert bound.pose(batch_of(together)).outer.face_keep[0, : len(faces)].all()
    apart = batch_of(together)
    apart.pose[:, body.joint_names.index("left_hip")] += torch.tensor([-0.5, 0.0, 0.3])
    outer = bound.pose(apart).outer
    kept = outer.face_keep[0, : len(faces)]
    assert not kept[web].any()
    assert kept[: web[0]].float().mean() > 0.97
    legs = (
        (bound.scan.weights[:, [body.joint_names.index(f"{side}_knee") for side in ("left", "right")]]).min(-1).values
    )
    assert legs.max() < 0.1


def test_a_hole_shows_filler_and_an_intact_scan_none(body: BodyModel, params: BodyParams, clothes: Bound) -> None:
    subjects = clothes.pose(batch_of(params))
    assert subjects.outer.face_keep[0, len(body.data.faces) :].float().mean() < 0.005
    surface = vertices_of(body, params)
    hand = part(body, "left_wrist", "left_index", "left_middle", "left_ring", "left_pinky", "left_thumb")
    faces = body.data.faces[~hand[body.data.faces].any(1)]
    bound = bind(surface, faces, grey(len(surface)), body, params, surface)
    filler = bound.pose(batch_of(params)).outer.face_keep[0, len(faces) :]
    inside = torch.from_numpy(hand[body.data.faces].all(1))
    assert filler[inside].float().mean() > 0.97
    assert filler[~inside].float().mean() < 0.06


def test_filler_lies_below_the_scan(body: BodyModel, params: BodyParams, clothes: Bound) -> None:
    """All of it, shown or not, in other poses too: nothing pokes through."""
    for pose in (batch_of(params), raised(body, params, 0.6)):
        outer = clothes.pose(pose).outer
        count = body.num_vertices
        scan, inner = outer.vertices[0, :count].double().numpy(), outer.vertices[0, count:].double().numpy()
        near = closest_point_on_mesh(inner, scan, body.data.faces)
        normals = mesh_normals(scan, body.data.faces)[body.data.faces[near.face]]
        height = np.einsum("vi,vi->v", inner - near.points, np.einsum("vi,vij->vj", near.bary, normals))
        assert np.mean(height > 0.0005) < 0.01


def test_a_missing_hand_takes_the_colour_of_the_other(body: BodyModel, params: BodyParams) -> None:
    surface = vertices_of(body, params)
    left = part(body, "left_wrist", "left_index", "left_middle", "left_ring", "left_pinky", "left_thumb")
    right = left[body.data.mirror_vertices]
    colours = torch.full((len(surface), 3), 0.1)
    colours[torch.from_numpy(right)] = torch.tensor([0.8, 0.4, 0.3])
    faces = body.data.faces[~left[body.data.faces].any(1)]
    bound = bind(surface, faces, VertexColours(colours), body, params, surface)
    tips = np.flatnonzero(left & (body.data.v_template[:, 1] < np.median(body.data.v_template[left, 1])))
    corners = torch.from_numpy(np.stack([tips] * 3, 1)) + len(surface)
    seen = bound.texture(
        Pixels(torch.zeros(len(tips), dtype=torch.int64), corners, torch.eye(3)[:1].expand(len(tips), 3))
    )
    assert (seen.albedo - torch.tensor([0.8, 0.4, 0.3])).abs().max() < 0.1


def test_colours_extend_from_where_they_were_seen(body: BodyModel) -> None:
    seen = np.random.default_rng(0).random((body.num_vertices, 3))
    is_seen = np.random.default_rng(1).random(body.num_vertices) < 0.3
    out = extended_colours(seen, is_seen, body.data).numpy()
    assert out.min() >= 0 and out.max() <= 1
    assert extended_colours(np.full_like(seen, 0.25), is_seen, body.data).sub(0.25).abs().max() < 1e-5
    nobody = extended_colours(seen, np.zeros(len(seen), bool), body.data).numpy()
    assert np.ptp(nobody, axis=0).max() < 1e-3


def strip(rows: int, columns: int) -> WeldedMesh:
    """A flat sheet of triangles in the plane z = 0, a centimetre a step."""
    x, y = np.meshgrid(np.arange(columns), np.arange(rows))
    vertices = 0.01 * np.stack([x.ravel(), y.ravel(), np.zeros(rows * columns)], 1)
    a = (y[:-1, :-1] * columns + x[:-1, :-1]).ravel()
    faces = np.concatenate([np.stack([a, a + 1, a + columns], 1), np.stack([a + 1, a + columns + 1, a + columns], 1)])
    return WeldedMesh.of(vertices, faces)


def test_what_is_carried_solves_the_equation() -> None:
    sheet = strip(6, 9)
    rng = np.random.default_rng(0)
    count = len(sheet.vertices)
    corners = np.stack([np.arange(count)] * 3, 1)
    matches = Matches(corners, np.tile([1.0, 0, 0], (count, 1)), np.zeros(count), rng.random(count).clip(1e-6))
    carrier = Carrier(sheet, matches, sheet.vertices)
    values = rng.random((count, 4))
    dense = np.linalg.solve(carrier.laplacian.toarray() + np.diag(carrier.pull), carrier.pull[:, None] * values)
    assert np.allclose(carrier.carry(values), dense, atol=1e-10)
    assert np.allclose(carrier.carry(np.ones((count, 1))), 1)
    assert (carrier.carry(values).min(0) >= values.min(0) - 1e-9).all()


def test_what_matches_nothing_takes_what_is_around_it() -> None:
    sheet = strip(3, 30)
    count = len(sheet.vertices)
    matches = Matches(
        np.stack([np.arange(count)] * 3, 1), np.tile([1.0, 0, 0], (count, 1)), np.zeros(count), np.ones(count)
    )
    x = sheet.vertices[:, 0]
    unsure = replace(matches, confidence=np.where((x > 0.1) & (x < 0.19), 1e-6, 1.0))
    carried = Carrier(sheet, unsure, sheet.vertices).carry((x > 0.145).astype(float)[:, None])[:, 0]
    middle = carried[np.isclose(x, 0.15)]
    assert ((middle > 0.3) & (middle < 0.7)).all()
    assert carried[x < 0.08].max() < 0.1 and carried[x > 0.21].min() > 0.9


def test_edges_between_far_parts_do_not_mix_them() -> None:
    sheet = strip(4, 60)
    count = len(sheet.vertices)
    far = sheet.vertices.copy()
    far[sheet.vertices[:, 0] > 0.295, 2] = JUMP[1] + 5 * JUMP[0] * 0.01
    matches = Matches(
        np.stack([np.arange(count)] * 3, 1), np.tile([1.0, 0, 0], (count, 1)), np.zeros(count), np.ones(count)
    )
    side = (far[:, 2] > 0).astype(float)[:, None]
    assert np.abs(Carrier(sheet, matches, far).carry(side) - side).max() < 1e-6
    assert np.abs(Carrier(sheet, matches, sheet.vertices).carry(side) - side).max() > 0.2


def test_matches_face_the_same_way(body: BodyModel, params: BodyParams) -> None:
    """A sheet beside the palm, facing outwards like the back of the hand, does not match the palm."""
    surface = WeldedMesh.of(vertices_of(body, params), body.data.faces)
    inside_out = WeldedMesh(surface.vertices, surface.faces, -surface.normals, surface.areas)
    usable = np.ones(len(body.data.faces), bool)
    assert match(surface, surface, usable).confidence.mean() > 0.95
    assert match(inside_out, surface, usable).confidence.mean() < 0.3


def test_welding_finds_equal_places() -> None:
    points = np.array([[0, 0, 0], [1, 0, 0], [0, 0, 0], [0, 1, 0], [1, 0, 0.0]])
    first, inverse = weld(points)
    assert np.array_equal(points[first][inverse], points)
    assert len(first) == 3


def test_nearest_rotations_are_those_of_the_svd() -> None:
    generator = torch.Generator().manual_seed(0)
    turns = rotvec_to_rotmat(0.6 * torch.randn(200, 3, 3, generator=generator, dtype=torch.float64))
    shares = torch.rand(200, 3, 1, 1, generator=generator, dtype=torch.float64)
    mixed = (shares / shares.sum(1, keepdim=True) * turns).sum(1)
    u, _, vh = torch.linalg.svd(mixed)
    assert torch.allclose(nearest_rotations(mixed), u @ vh, atol=1e-6)
    assert torch.isfinite(nearest_rotations(torch.zeros(1, 3, 3))).all()


def test_pieces_are_those_of_a_slow_search() -> None:
    rng = np.random.default_rng(0)
    faces, kept = torch.from_numpy(rng.integers(0, 60, (40, 3))), torch.from_numpy(rng.random(40) < 0.6)
    label = face_pieces(faces, kept, 60)
    joined = np.array([[bool(set(a) & set(b)) for b in faces.tolist()] for a in faces.tolist()])
    slow = connected_components(joined[np.ix_(kept, kept)], directed=False)[1]
    mine = label[kept].numpy()
    assert np.array_equal(mine[:, None] == mine, slow[:, None] == slow)


def test_islands_are_small_pieces_of_what_was_large() -> None:
    sheet = strip(3, 40)
    faces = torch.from_numpy(sheet.faces)
    middle = torch.from_numpy(sheet.vertices[sheet.faces].mean(1)[:, 0])
    keep = ((middle < 0.30) | (middle > 0.32))[None]
    areas = torch.full((len(faces),), 0.0001)
    gone = islands(faces, keep, areas, len(sheet.vertices))[0]
    assert torch.equal(gone, keep[0] & (middle > 0.31))
    assert not islands(faces, torch.ones_like(keep), areas, len(sheet.vertices)).any()


def test_touched_vertices_are_those_of_chosen_faces() -> None:
    rng = np.random.default_rng(0)
    faces = torch.from_numpy(rng.integers(0, 50, (30, 3)))
    chosen = torch.from_numpy(rng.random((4, 30)) < 0.3)
    hits = touched_vertices(chosen, faces, 50)
    for row in range(4):
        assert set(torch.where(hits[row])[0].tolist()) == set(faces[chosen[row]].flatten().tolist())


def test_all_of_it_moves_to_a_device(clothes: Bound) -> None:
    """The meta device keeps no numbers: whatever stayed behind would be missed when computing."""
    away = clothes.to("meta")
    assert away.scan.weights.device.type == away.cover.depth.device.type == away.params.betas.device.type == "meta"
    assert away.texture.scan.colours.device.type == away.body.weights.device.type == "meta"  # type: ignore[attr-defined]
    assert clothes.body.weights.device.type == "cpu"


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_a_gpu_poses_alike(body: BodyModel, params: BodyParams) -> None:
    surface = dressed(body, vertices_of(body, params))
    bound = bind(surface, body.data.faces, grey(len(surface)), body, params, surface)
    other = raised(body, params)
    here = bound.pose(other)
    there = bound.to("cuda").pose(BodyParams(other.betas.cuda(), other.pose.cuda(), other.transl.cuda()))
    assert (there.outer.vertices.cpu() - here.outer.vertices).abs().max() < 1e-4
    assert (there.outer.face_keep.cpu() == here.outer.face_keep).float().mean() > 0.999
