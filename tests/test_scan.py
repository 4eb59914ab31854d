"""Cleaning and sampling, on a figure of capsules with everything around it that scanners see too."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import trimesh
from figure import Points, figure_cloud, figure_distance, figure_mesh, plane_cloud
from numpy.typing import NDArray
from real_data import real_scans

import lvdreg.scan.normals as orientation
import lvdreg.scan.segment as clutter
from lvdreg.base.errors import ScanError
from lvdreg.geometry.mesh import unit_rows
from lvdreg.scan.clean import clean_scan
from lvdreg.scan.model import Scan, oriented_points, read_scan, scan_from_arrays


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(5)


@pytest.fixture(scope="module")
def capsules() -> tuple[Points, NDArray[np.int64]]:
    return figure_mesh()


def any_frame(points: Points, rng: np.random.Generator) -> Points:
    """Turn and move points anyhow, in some unit: cleaning knows neither the up axis nor metres."""
    turn = np.linalg.qr(rng.normal(size=(3, 3)))[0]
    return points @ turn.T * rng.uniform(0.5, 2000) + rng.normal(size=3) * 100


def kept_shares(parts: list[Points], rng: np.random.Generator) -> tuple[float, float, Scan]:
    """Clean the parts together; return how much is left of the first and of the others."""
    points = any_frame(np.concatenate(parts), rng)
    cleaned = clean_scan(scan_from_arrays(points))
    kept = {tuple(p) for p in cleaned.points.tolist()}
    is_kept = np.array([tuple(p) in kept for p in points.tolist()])
    count = len(parts[0])
    return float(is_kept[:count].mean()), float(is_kept[count:].mean()) if len(parts) > 1 else 0.0, cleaned


Builder = Callable[[np.random.Generator], list[Points]]
SCENES: dict[str, Builder] = {
    "floor": lambda r: [plane_cloud(4000, [-1.5, 0, -1.5], [1.5, 0, 1.5], r, 0.001)],
    "small floor": lambda r: [plane_cloud(1200, [-0.5, 0, -0.5], [0.5, 0, 0.5], r, 0.001)],
    "near wall": lambda r: [plane_cloud(8000, [-1.5, 0, -0.3], [1.5, 2.5, -0.3], r, 0.003)],
    "room": lambda r: [
        plane_cloud(8000, [-1.5, 0, -1.5], [1.5, 0, 1.5], r, 0.001),
        plane_cloud(8000, [-1.5, 0, -1.5], [1.5, 2.5, -1.5], r, 0.002),
        plane_cloud(8000, [-1.5, 0, -1.5], [-1.5, 2.5, 1.5], r, 0.002),
        plane_cloud(400, [1.0, 0.5, 0.2], [1.3, 0.9, 0.5], r, 0.001),
    ],
    "stray ball": lambda r: [0.15 * trimesh.unitize(r.normal(size=(600, 3))) + [0.9, 1.0, 0.8]],
    "floor and far points": lambda r: [
        plane_cloud(4000, [-1.5, 0, -1.5], [1.5, 0, 1.5], r, 0.001),
        r.normal(size=(900, 3)) * 1e6,
    ],
}


@pytest.mark.parametrize("scene", SCENES)
def test_surroundings_of_a_cloud_are_removed(scene: str, rng: np.random.Generator) -> None:
    figure = figure_cloud(8000, rng, noise=0.001)
    of_figure, of_rest, cleaned = kept_shares([figure, *SCENES[scene](rng)], rng)
    assert of_figure > 0.98
    assert of_rest < 0.002
    assert cleaned.notes


@pytest.mark.parametrize("part", ["all", "front", "left", "upper", "sparse"])
def test_a_figure_alone_keeps_its_points(part: str, rng: np.random.Generator) -> None:
    figure = figure_cloud(400 if part == "sparse" else 8000, rng, noise=0.002)
    halves = {"front": figure[:, 2] > 0, "left": figure[:, 0] > 0, "upper": figure[:, 1] > 0.9}
    share, _, cleaned = kept_shares([figure[halves.get(part, slice(None))]], rng)
    assert share > 0.99
    assert not [note for note in cleaned.notes if "floor" in note or "stray" in note]


def test_a_flat_back_is_no_wall(rng: np.random.Generator) -> None:
    """The figure cut by a plane, the cut closed: a flat side that holds a third of the points."""
    figure = figure_cloud(8000, rng)
    flat = figure[figure[:, 2] < -0.01] * [1, 1, 0]
    flat[:, 2] = -0.01
    share, _, cleaned = kept_shares([np.unique(np.concatenate([figure[figure[:, 2] > -0.01], flat]), axis=0)], rng)
    assert share > 0.99
    assert not [note for note in cleaned.notes if "floor" in note]


def test_pieces_of_a_person_stay_and_a_second_person_goes(rng: np.random.Generator) -> None:
    figure = figure_cloud(8000, rng)
    in_pieces = figure[(np.abs(figure[:, 1] - 1.2) > 0.05) & (np.abs(figure[:, 1] - 0.5) > 0.04)]
    share, _, _ = kept_shares([in_pieces], rng)
    assert share > 0.99
    share, of_second, cleaned = kept_shares([figure, figure[::2] + [1.8, 0, 0.3]], rng)
    assert share > 0.99 and of_second == 0
    assert any("a large piece was left out (33.3 % of the scan)" in n for n in cleaned.notes)
    assert cleaned.left_out_share == pytest.approx(1 / 3, abs=0.001)


def test_surroundings_of_a_mesh_are_removed(
    capsules: tuple[Points, NDArray[np.int64]], rng: np.random.Generator
) -> None:
    points, faces = capsules
    square = np.array([[-2, 0, -2], [2, 0, -2], [2, 0, 2], [-2, 0, 2]], float)
    ball = trimesh.creation.icosphere(radius=0.1)
    quad = np.array([[0, 2, 1], [0, 3, 2]])
    all_points = np.concatenate([points, square, square[:, [0, 2, 1]] + [0, 2, -1.2], ball.vertices + [0.8, 1, 1]])
    count = len(points)
    all_faces = np.concatenate([faces, quad + count, quad + count + 4, ball.faces + count + 8])
    cleaned = clean_scan(scan_from_arrays(any_frame(all_points, rng), all_faces))
    alone = clean_scan(scan_from_arrays(points, faces))
    assert cleaned.faces is not None and alone.faces is not None
    assert len(cleaned.faces) == pytest.approx(len(alone.faces), rel=0.01)  # rays look for what overlaps: less exact
    assert len([n for n in cleaned.notes if "floor, wall" in n]) == 2 and any("stray" in n for n in cleaned.notes)


def test_broken_data_are_survived(capsules: tuple[Points, NDArray[np.int64]]) -> None:
    points, faces = capsules
    soup = points[faces].reshape(-1, 3)
    broken = np.concatenate([soup, [[np.nan, 0, 0], [0, np.inf, 0], [1e30, 0, 0]]])
    triangles = np.arange(len(soup)).reshape(-1, 3)
    count = len(soup)
    extra = [[0, 0, 1], [5, 4, 3], [0, 1, count], [0, count + 1, count + 2]]
    cleaned = clean_scan(scan_from_arrays(broken, np.concatenate([triangles, extra])))
    assert cleaned.faces is not None and cleaned.normals is not None
    whole = clean_scan(scan_from_arrays(points, faces))
    assert whole.faces is not None and len(cleaned.faces) == len(whole.faces)
    assert len(cleaned.points) == len(np.unique(whole.points, axis=0))
    assert np.isfinite(cleaned.normals).all()
    assert cleaned.notes[0] == "removed 3 points whose coordinates are not numbers"
    assert any("that the file holds more than once" in n for n in cleaned.notes)
    assert "removed 2 faces that were repeated or without area" in cleaned.notes


def gradient(points: Points) -> Points:
    """The figure's true normals."""
    steps = [figure_distance(points + e) - figure_distance(points - e) for e in 1e-4 * np.eye(3)]
    return unit_rows(np.stack(steps, axis=1))


def outward_share(cleaned: Scan, rng: np.random.Generator) -> float:
    """Share of the normals that lead out of the figure (the frame must be the figure's own)."""
    assert cleaned.normals is not None
    step = 0.01 * cleaned.normals
    return float((figure_distance(cleaned.points + step) > figure_distance(cleaned.points - step)).mean())


@pytest.mark.parametrize("inverted", ["none", "all", "some pieces", "every third face"])
def test_inverted_faces_are_repaired(
    inverted: str, capsules: tuple[Points, NDArray[np.int64]], rng: np.random.Generator
) -> None:
    points, faces = capsules
    flip = {
        "none": np.zeros(len(faces), bool),
        "all": np.ones(len(faces), bool),
        "some pieces": (faces[:, 0] * 8 // len(points)) % 2 == 1,
        "every third face": np.arange(len(faces)) % 3 == 0,
    }[inverted]
    mixed = np.where(flip[:, None], faces[:, ::-1], faces)
    cleaned = clean_scan(scan_from_arrays(points, mixed))
    mesh = trimesh.Trimesh(cleaned.points, cleaned.faces, process=False)
    step = 0.01 * mesh.face_normals
    outward = figure_distance(mesh.triangles_center + step) > figure_distance(mesh.triangles_center - step)
    # Within another capsule the nearest surface is that one's.
    assert outward[figure_distance(mesh.triangles_center) > -0.004].mean() > 0.99
    assert bool([n for n in cleaned.notes if "turned" in n]) == (inverted != "none")


def test_open_meshes_are_oriented(capsules: tuple[Points, NDArray[np.int64]]) -> None:
    points, faces = capsules
    front = faces[points[faces][:, :, 2].mean(axis=1) > 0.01]
    right, wrong = (clean_scan(scan_from_arrays(points, f)) for f in (front, front[:, ::-1]))
    np.testing.assert_array_equal(right.normals, wrong.normals)
    assert right.normals is not None and right.normals[:, 2].mean() > 0.3


def test_winding_agrees_with_flooding(rng: np.random.Generator) -> None:
    """The slow way: walk from face to face and turn each like the one before."""
    ball = trimesh.creation.icosphere(subdivisions=2)
    flip = rng.random(len(ball.faces)) < 0.4
    faces = np.where(flip[:, None], ball.faces[:, ::-1], ball.faces)
    undo = orientation.consistent_winding(faces, ball.area_faces)
    repaired = np.where(undo[:, None], faces[:, ::-1], faces)
    edges = {tuple(e) for face in repaired for e in (face[[0, 1]], face[[1, 2]], face[[2, 0]])}
    assert len(edges) == 3 * len(faces)  # no edge is walked twice in one direction
    assert undo.sum() == min(flip.sum(), (~flip).sum())


@pytest.mark.parametrize("view", ["round", "one side", "camera"])
def test_normals_of_clouds(view: str, rng: np.random.Generator) -> None:
    figure = figure_cloud(12_000, rng, noise=0.001)
    if view != "round":
        figure = figure[gradient(figure)[:, 2] > 0.1]
    shift = np.array([0, 0, 3.0]) if view == "camera" else np.array([7.0, 8, 0.0])
    cleaned = clean_scan(scan_from_arrays(figure - shift))
    cleaned = replace(cleaned, points=cleaned.points + shift)
    assert outward_share(cleaned, rng) > 0.97
    assert ("towards the camera" in cleaned.notes[-1]) == (view == "camera")


def test_normals_that_came_with_a_cloud(rng: np.random.Generator) -> None:
    figure = figure_cloud(5000, rng)
    outward = gradient(figure)
    for sign in (3, -3):
        cleaned = clean_scan(scan_from_arrays(figure, normals=sign * outward))
        np.testing.assert_allclose(cleaned.normals, outward, atol=1e-12)
        assert ("normals pointed inward: turned" in cleaned.notes) == (sign < 0)


def test_veils_behind_a_silhouette_are_removed(rng: np.random.Generator) -> None:
    figure = figure_cloud(12_000, rng)
    camera = np.array([0, 0.9, 3.0])
    cosines = np.einsum("ij,ij->i", gradient(figure), unit_rows(camera - figure))
    front = figure[cosines > 0.05]
    edge = figure[(cosines > 0.05) & (cosines < 0.3) & (figure[:, 0] > 0.25)]
    depth = rng.uniform(1.05, 1.3, (10, len(edge), 1))
    bleeding = (camera + depth * (edge - camera)).reshape(-1, 3)
    cleaned = clean_scan(scan_from_arrays(np.concatenate([front, bleeding]) - camera))
    kept = {tuple(p) for p in cleaned.points.tolist()}
    is_kept = np.array([tuple(p) in kept for p in (np.concatenate([front, bleeding]) - camera).tolist()])
    assert is_kept[: len(front)].mean() > 0.98
    assert is_kept[len(front) :].mean() < 0.3
    assert any("edge bleeding" in n for n in cleaned.notes)


def test_links_agree_with_single_linkage(rng: np.random.Generator) -> None:
    from scipy.cluster.hierarchy import fclusterdata

    centres = rng.uniform(-1, 1, (12, 3))
    points = (centres[:, None] + rng.normal(size=(12, 40, 3)) * 0.01).reshape(-1, 3)
    slow = fclusterdata(points, 0.3, criterion="distance", method="single")
    fast = clutter.link(points, 0.3)
    # The voxels blur the limit by half a gap; a gap between clusters of that size does not occur here.
    for labels in (slow, fast):
        assert len(np.unique(labels)) > 1
    assert len(np.unique(np.stack([slow, fast]), axis=1).T) == len(np.unique(slow)) == len(np.unique(fast))


def test_samples_of_a_mesh_are_even_and_on_it(capsules: tuple[Points, NDArray[np.int64]]) -> None:
    scan = clean_scan(scan_from_arrays(*capsules))
    points, normals = oriented_points(scan, 5000, seed=3)
    assert points.shape == normals.shape == (5000, 3)
    np.testing.assert_allclose(np.linalg.norm(normals, axis=1), 1)
    mesh = trimesh.Trimesh(*capsules, process=False)
    areas = [piece.area for piece in mesh.split()]
    trunk = np.abs(np.linalg.norm(points[:, [0, 2]], axis=1) - 0.15) < 0.01
    in_height = (points[:, 1] > 0.96) & (points[:, 1] < 1.34)
    expected = 2 * np.pi * 0.15 * 0.38 / sum(areas)
    assert abs((trunk & in_height).mean() - expected) < 0.1 * expected + 0.01
    again, _ = oriented_points(scan, 5000, seed=3)
    other, _ = oriented_points(scan, 5000, seed=4)
    np.testing.assert_array_equal(points, again)
    assert (points != other).any()


def test_samples_of_a_cloud_are_evened(rng: np.random.Generator) -> None:
    left = rng.uniform([0, 0, 0], [1, 1, 0], (20_000, 3))
    right = rng.uniform([1, 0, 0], [2, 1, 0.001], (2000, 3))
    points, normals = oriented_points(scan_from_arrays(np.concatenate([left, right])), 1000)
    assert points.shape == normals.shape == (1000, 3) and not normals.any()
    assert 0.4 < (points[:, 0] > 1).mean() < 0.6
    few = scan_from_arrays(left[:300])
    points, _ = oriented_points(few, 1000)
    assert len(points) == 1000 and len(np.unique(points, axis=0)) == 300


def test_large_clouds_are_thinned(monkeypatch: pytest.MonkeyPatch, rng: np.random.Generator) -> None:
    monkeypatch.setattr("lvdreg.scan.clean.MAX_CLOUD", 4000)
    cleaned = clean_scan(scan_from_arrays(figure_cloud(8000, rng)))
    assert 2000 <= len(cleaned.points) <= 4000
    assert cleaned.notes[0].startswith("thinned 8000 points to ")


TOO_LITTLE = {
    "one point": ([[1, 2, 3]], "array: expected at least 200 different points, got 1; is this the right file?"),
    "one point often": ([[1, 2, 3]] * 999,
                        "array: expected at least 200 different points, got 1; is this the right file?"),
    "all NaN": ([[np.nan] * 3] * 999,
                "array: expected at least 200 points with finite coordinates, got 0; is this the right file?"),
    "a line": (np.linspace(0, 1, 999)[:, None] * [[1, 2, 3]],
               "array: expected a body or hand, got points that all lie in a line; is this the right file?"),
    "a plane": (np.random.default_rng(0).random((999, 2)) @ [[1, 2, 3], [0, 1, 1]],
                "array: expected a body or hand, got points that all lie in a plane; is this the right file?"),
}  # fmt: skip


@pytest.mark.parametrize("case", TOO_LITTLE)
def test_what_is_no_body_is_refused(case: str) -> None:
    points, message = TOO_LITTLE[case]
    with pytest.raises(ScanError) as caught:
        clean_scan(scan_from_arrays(points))
    assert str(caught.value) == message


def test_arrays_are_checked_and_copied() -> None:
    points = np.random.default_rng(0).random((300, 3)).astype(np.float32)
    scan = scan_from_arrays(points, [[0, 1, 2]], points, points, name="x")
    points[:] = 0
    assert scan.points.dtype == np.float64 and scan.points.all()
    assert scan.faces is not None and scan.faces.dtype == np.int64
    assert scan.colors is not None and scan.colors.dtype == np.uint8 and scan.colors.max() > 100
    assert scan.name == "x" and scan.normals is not None
    np.testing.assert_allclose(np.linalg.norm(scan.normals, axis=1), 1)


ARRAY_ERRORS = [
    ({"points": [1, 2, 3]}, "expected points of shape (N, 3), got (3,); pass one row per item"),
    ({"points": [["a", "b", "c"]]}, "expected numbers in points, got <U1; pass floats or integers"),
    ({"points": []}, "expected points of shape (N, 3), got (0,); pass one row per item"),
    ({"points": np.zeros((0, 3))}, "expected points of shape (P, 3), got none; pass at least a few hundred points"),
    ({"faces": [[0, 1, 5]]},
     "a face refers to vertex 5 (counted from 0) of 4; the file is damaged, export it again"),
    ({"faces": [[0, 1, 2.5]]},
     "expected whole numbers in faces, got fractions; pass vertex indices of shape (F, 3)"),
    ({"normals": np.zeros((3, 3))}, "expected normals of shape (4, 3), got (3, 3); pass one row per item"),
    ({"colors": np.zeros((4, 2))}, "expected colors of shape (4, 3), got (4, 2); pass one row per item"),
]  # fmt: skip


@pytest.mark.parametrize(("arrays", "message"), ARRAY_ERRORS, ids=range(len(ARRAY_ERRORS)))
def test_wrong_arrays_are_refused(arrays: dict[str, object], message: str) -> None:
    with pytest.raises(ScanError) as caught:
        scan_from_arrays(**({"points": np.ones((4, 3))} | arrays))  # type: ignore[arg-type]
    assert str(caught.value) == message


def test_name_and_notes_come_from_the_file(tmp_path: Path) -> None:
    trimesh.creation.icosphere(subdivisions=3).export(tmp_path / "a ball.off", file_type="obj")
    scan = read_scan(str(tmp_path / "a ball.off"))
    assert scan.name == "a ball"
    assert clean_scan(scan).notes[0] == "named .off but holds obj data: read as obj"


@pytest.mark.real
@pytest.mark.parametrize("folder", ["bodies", "hands", "junk"])
def test_real_files(folder: str) -> None:
    for path in real_scans(folder):
        try:
            scan = clean_scan(read_scan(path))
        except ScanError as error:
            assert folder == "junk" and path.name.startswith("empty"), f"{path.name}: {error}"
            continue
        assert scan.normals is not None and len(scan.points) >= 200
        if path.suffix == ".ply" and path.parent.name == "scan":
            assert len(scan.points) == len(read_scan(path).points)
