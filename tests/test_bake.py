"""Build-time code of bodies: symmetric thinning, caps, and the learnt shape space on made-up people."""

import numpy as np
import pytest
from numpy.typing import NDArray

from lvdreg.body import simplify
from lvdreg.body.bake import BakedMesh, SampledPeople, area_shares, held_out, learn_shape, root_weights
from lvdreg.body.simplify import border_loops, cap_hole, mirror_faces, simplify_half


def sphere(rings: int = 12, segments: int = 24) -> tuple[NDArray[np.float64], NDArray[np.int64], NDArray[np.int64]]:
    """Return a unit sphere about the y axis with vertices on x = 0, its outward faces and its mirror permutation."""
    polar = np.pi * (np.arange(rings) + 1) / (rings + 1)
    around = 2 * np.pi * np.arange(segments) / segments
    ring = np.stack([np.sin(around), np.zeros(segments), np.cos(around)], 1)
    points = (np.sin(polar)[:, None, None] * ring + np.cos(polar)[:, None, None] * np.array([0, 1.0, 0])).reshape(-1, 3)
    vertices = np.concatenate([points, [[0, 1.0, 0], [0, -1.0, 0]]])
    top, bottom, faces = len(points), len(points) + 1, []
    for s in range(segments):
        t = (s + 1) % segments
        faces += [(top, s, t), (bottom, (rings - 1) * segments + t, (rings - 1) * segments + s)]
        for r in range(rings - 1):
            a, b, c, d = r * segments + s, r * segments + t, (r + 1) * segments + t, (r + 1) * segments + s
            faces += [(a, d, c), (a, c, b)]
    flipped = np.arange(len(points)).reshape(rings, segments)[:, -np.arange(segments) % segments].ravel()
    return vertices, np.array(faces), np.concatenate([flipped, [top, bottom]])


def assert_closed(faces: NDArray[np.int64]) -> None:
    directed = [(int(a), int(b)) for f in faces for a, b in zip(f, np.roll(f, -1), strict=True)]
    assert len(set(directed)) == len(directed)
    assert {(b, a) for a, b in directed} == set(directed)
    assert len(np.unique(faces)) - len(directed) // 2 + len(faces) == 2


@pytest.mark.parametrize("wanted", [200, 120, 60])
def test_thinned_sphere_stays_closed_symmetric_and_round(wanted: int) -> None:
    vertices, faces, mirror = sphere()
    np.testing.assert_allclose(vertices[mirror] * [-1, 1, 1], vertices, atol=1e-12)
    middle = mirror == np.arange(len(mirror))
    half = faces[vertices[faces][..., 0].mean(1) > 0]
    thinned = mirror_faces(simplify_half(vertices, half, middle, np.full(len(vertices), 0.3), wanted), mirror)
    kept = np.unique(thinned)
    assert wanted - 2 <= len(kept) <= wanted
    assert_closed(thinned)
    corners = vertices[thinned]
    outward = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    assert ((outward * corners.mean(1)).sum(1) > 0).all()
    volume = np.einsum("fc,fc->", corners[:, 0], np.cross(corners[:, 1], corners[:, 2])) / 6
    assert volume > 0.75 * 4 / 3 * np.pi


@pytest.mark.parametrize("rings,segments", [(12, 16), (20, 6), (8, 4), (5, 12)])
def test_thinning_never_tears_or_pinches_even_without_geometry(
    rings: int, segments: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With the rules on normals and shapes off, topology alone must keep both sides and the middle apart."""
    monkeypatch.setattr(simplify, "MIN_NORMAL_COSINE", -2.0)
    monkeypatch.setattr(simplify, "MIN_SHAPE", -1.0)
    vertices, faces, mirror = sphere(rings, segments)
    middle = mirror == np.arange(len(mirror))
    half = faces[vertices[faces][..., 0].mean(1) > 0]
    thinned = mirror_faces(simplify_half(vertices, half, middle, np.full(len(vertices), 0.3), 0), mirror)
    assert len(np.unique(thinned)) <= 8
    assert_closed(thinned)


@pytest.mark.parametrize("wanted", [90, 60, 30, 0])
def test_thinning_does_not_pinch_a_thin_tube(wanted: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Three vertices around a finger form a triangle that is no face: closing it would cut the finger off."""
    monkeypatch.setattr(simplify, "MIN_NORMAL_COSINE", -2.0)
    monkeypatch.setattr(simplify, "MIN_SHAPE", -1.0)
    vertices, faces, _ = sphere(20, 3)
    one_side = np.zeros(len(vertices), bool)  # no vertex in the middle: the whole tube lies on one side
    thinned = simplify_half(vertices * [0.2, 5, 0.2], faces, one_side, np.full(len(vertices), 0.3), wanted)
    assert len(np.unique(thinned)) < len(vertices)
    assert_closed(thinned)


def test_caps_close_what_was_cut() -> None:
    vertices, faces, _ = sphere()
    open_faces = faces[vertices[faces][..., 1].max(1) < 0.9]
    open_faces = open_faces[vertices[open_faces][..., 2].min(1) > -0.8]
    loops = border_loops(open_faces)
    assert len(loops) == 2
    assert_closed(np.concatenate([open_faces, *(cap_hole(vertices, loop) for loop in loops)]))


def linear_people(count: int, seed: int, skin: BakedMesh, vertices: NDArray[np.float64]) -> SampledPeople:
    """People who differ by three symmetric stretches, the third only where body parts are changed."""
    rng = np.random.default_rng(seed)
    size = rng.standard_normal((count, 3)) * [0.2, 0.1, 0.05]
    plain = np.arange(count) < count // 2
    size[plain, 2] = 0
    scale = np.stack([1 + size[:, 0], 1 + size[:, 0] + size[:, 1], 1 + size[:, 2]], 1)
    joints = np.array([[0, 0.0, 0], [0.3, 0.2, 0], [-0.3, 0.2, 0]])
    return SampledPeople(rng.uniform(5, 80, count), plain, vertices * scale[:, None], joints * scale[:, None])


def test_learnt_shape_spans_its_people_with_standard_betas() -> None:
    vertices, faces, mirror = sphere(6, 12)
    weights = np.random.default_rng(0).dirichlet(np.ones(3), len(vertices))
    skin = BakedMesh(np.arange(len(mirror)), faces, mirror, weights, np.array([-1, 0, 0]), np.array([0, 2, 1]))
    people = linear_people(400, 1, skin, vertices)
    area = area_shares(vertices, faces)
    root = root_weights(area, skin)
    shape = learn_shape(people, root, skin, (2, 1))
    assert held_out(shape, linear_people(50, 2, skin, vertices), area, root)["max_mm"] < 0.05
    adults = people.age >= 13
    betas = shape.fit(people.vertices[adults], people.joints[adults], root)
    np.testing.assert_allclose(betas.mean(0), 0, atol=0.15)
    np.testing.assert_allclose(betas.std(0), 1, atol=0.15)
    np.testing.assert_array_equal(shape.dirs_v[mirror] * np.array([-1.0, 1, 1])[:, None], shape.dirs_v)
