"""Surfaces that cannot be seen from outside: second walls, cavities, insides of voxel meshes; and what must stay."""

import numpy as np
import pytest
import trimesh

from lvdreg.base.shapes import FloatArray, IntArray
from lvdreg.geometry.mesh import face_areas
from lvdreg.geometry.rays import RayCaster, sphere
from lvdreg.pipeline.config import HAND, RegisterConfig
from lvdreg.scan.clean import drop_hidden
from lvdreg.scan.hidden import hidden_faces, openness
from lvdreg.scan.model import scan_from_arrays


def ball(radius: float = 1.0, subdivisions: int = 4) -> tuple[FloatArray, IntArray]:
    mesh = trimesh.creation.icosphere(subdivisions=subdivisions, radius=radius)
    return np.asarray(mesh.vertices), np.asarray(mesh.faces, np.int64)


def cup(depth: float, flip: bool = False) -> tuple[FloatArray, IntArray]:
    """A ball of radius 1 with everything above a height cut off."""
    points, faces = ball()
    faces = faces[points[faces][:, :, 2].max(1) < depth]
    return points, faces[:, ::-1] if flip else faces


def together(*meshes: tuple[FloatArray, IntArray]) -> tuple[FloatArray, IntArray]:
    starts = np.cumsum([0, *(len(points) for points, _ in meshes[:-1])])
    return np.concatenate([m[0] for m in meshes]), np.concatenate(
        [m[1] + s for m, s in zip(meshes, starts, strict=True)]
    )


def test_the_first_face_that_a_ray_meets_is_what_trying_all_says() -> None:
    points, faces = ball(subdivisions=1)
    points = points * [1.0, 0.7, 0.4]
    rng = np.random.default_rng(0)
    starts, ways = 0.3 * rng.normal(size=(40, 3)), sphere(40)
    found, distance = RayCaster(points, faces).first_hits(starts, ways)
    for start, way, face, far in zip(starts, ways, found, distance, strict=True):
        a, b, c = np.moveaxis(points[faces], 1, 0)
        with np.errstate(all="ignore"):
            u, v, t = np.linalg.solve(np.stack([b - a, c - a, np.tile(-way, (len(a), 1))], -1), (start - a)[..., None])[
                ..., 0
            ].T
        hit = np.flatnonzero((u >= 0) & (v >= 0) & (u + v <= 1) & (t > 0))
        assert (len(hit) == 0) == (face < 0)
        if len(hit):
            assert face == hit[t[hit].argmin()]
            assert far == pytest.approx(t[hit].min(), abs=1e-5)


def test_openness_is_the_share_of_the_sky() -> None:
    points, faces = cup(0.0)
    caster = RayCaster(points, faces)
    deep = np.array([[0, 0, -0.02], [0, 0, -0.7], [0, 0, -0.95]])
    share = (1 - np.abs(deep[:, 2]) / np.hypot(1.0, deep[:, 2])) / 2
    # What is open is asked about eight directions, what is enclosed about 32.
    assert (np.abs(openness(caster, deep) - share) < [0.15, 0.04, 0.04]).all()
    assert openness(caster, np.array([[0, 0, 5.0]]))[0] > 0.95


@pytest.mark.parametrize("turned", [False, True])
@pytest.mark.parametrize("gap", [0.0006, 0.005, 0.012])
def test_a_second_wall_goes_and_the_first_stays(gap: float, turned: bool) -> None:
    points, faces = ball()
    inner = (points * (1 - 2 * gap), faces[:, ::-1] if turned else faces)
    hidden = hidden_faces(*together((points, faces), inner), wall=0.03)
    assert not hidden[: len(faces)].any()
    assert hidden[len(faces) :].all()


def test_walls_of_an_open_shell_go_but_for_its_rim_and_the_outer_one_stays() -> None:
    outer, inner = cup(0.6), cup(0.6, flip=True)
    inner = inner[0] * 0.99, inner[1]
    hidden = hidden_faces(*together(outer, inner), wall=0.03)
    assert not hidden[: len(outer[1])].any()
    assert hidden[len(outer[1]) :].mean() > 0.75


@pytest.mark.parametrize("depth", [-0.3, 0.4, 0.8])
def test_open_surfaces_stay_whole(depth: float) -> None:
    assert not hidden_faces(*cup(depth), wall=0.03).any()


def test_a_rough_surface_stays() -> None:
    points, faces = ball(subdivisions=5)
    rough = points + 0.02 * np.random.default_rng(0).normal(size=points.shape)  # two thirds of the edges' length
    assert hidden_faces(rough, faces, wall=0.03).mean() < 0.02


def test_the_inside_of_a_voxel_mesh_goes() -> None:
    cubes = [trimesh.creation.box(extents=[1, 1, 1]).apply_translation(c) for c in np.ndindex(4, 4, 4)]
    soup = together(*((np.asarray(cube.vertices), np.asarray(cube.faces, np.int64)) for cube in cubes))
    points, index = np.unique(soup[0], axis=0, return_inverse=True)
    faces = index[soup[1]]
    centres = points[faces].mean(1)
    is_outer = ((centres < -0.4) | (centres > 3.4)).any(1)
    hidden = hidden_faces(points, faces, wall=0.05)
    np.testing.assert_array_equal(hidden, ~is_outer)


def test_what_was_left_out_is_said_with_its_share() -> None:
    outer, inner = ball(), ball(0.9)
    scan = scan_from_arrays(*together(outer, inner), name="hollow")
    clean = drop_hidden(scan, RegisterConfig().clean)
    assert clean.faces is not None and len(clean.faces) == len(outer[1])
    share = face_areas(*inner).sum() / (face_areas(*inner).sum() + face_areas(*outer).sum())
    assert clean.notes == (
        f"left out surfaces inside the scan, not seen from outside ({100 * share:.1f} % of the area)",
    )
    whole = scan_from_arrays(*outer)
    assert drop_hidden(whole, HAND.clean) is whole
    cloud = scan_from_arrays(outer[0])
    assert drop_hidden(cloud, HAND.clean) is cloud
