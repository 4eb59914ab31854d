"""Cleaning scans of hands: what is of the hand stays, what is around it goes, pieces of similar size all stay."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import trimesh
from figure import plane_cloud
from hand_scans import Mesh, Points, depth_view, hand_mesh, surface, turned
from real_data import real_path, real_scans
from scipy.spatial import cKDTree
from test_scan import any_frame

from lvdreg.base.errors import ScanError
from lvdreg.pipeline.config import HAND
from lvdreg.scan import segment as clutter
from lvdreg.scan.clean import clean_scan
from lvdreg.scan.model import oriented_points, read_scan, scan_from_arrays
from lvdreg.scan.segment import CleanConfig

HANDS = HAND.clean


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(11)


def shares(parts: list[Points], rng: np.random.Generator | None, config: CleanConfig = HANDS) -> list[float]:
    """Clean the parts together, in any frame and unit unless ``rng`` is None; how much is left of each."""
    points = np.concatenate(parts)
    points = points if rng is None else any_frame(points, rng)
    cleaned = clean_scan(scan_from_arrays(points), config)
    kept = {tuple(p) for p in cleaned.points.tolist()}
    is_kept = np.array([tuple(p) in kept for p in points.tolist()])
    ends = np.cumsum([len(part) for part in parts])[:-1]
    return [float(part.mean()) for part in np.split(is_kept, ends)]


def on_table(mesh: Mesh, palm_down: bool = True) -> Mesh:
    """Turn a hand so that it lies on the plane z = 0."""
    points = mesh[0] * ([-1, 1, -1] if palm_down else [1, 1, 1])
    return points - [0, 0, points[:, 2].min()], mesh[1]


@pytest.mark.parametrize("half", [0.12, 0.5])
@pytest.mark.parametrize("lift", [0.0, 0.1])
@pytest.mark.parametrize("palm_down", [True, False])
def test_a_table_goes_and_the_hand_on_it_stays(
    half: float, lift: float, palm_down: bool, rng: np.random.Generator
) -> None:
    mesh = on_table(hand_mesh(rng, 0.1, forearm=0.1), palm_down)
    hand, normals = surface(mesh, 5000, rng, 0.0005)
    hand = hand[normals[:, 2] > -0.2] + [0, 0, lift]
    table = plane_cloud(int(80_000 * half**2) + 3000, [-half, -half, 0], [half, half, 0], rng, 0.0005)
    # Where it touches the table the hand is the table, within noise.
    of_hand, of_table = shares([hand[hand[:, 2] > 0.004], table], rng)
    assert of_hand > 0.98
    assert of_table < 0.005


def test_a_table_as_a_mesh_goes(rng: np.random.Generator) -> None:
    points, faces = on_table(hand_mesh(rng, 0.1))
    table = np.array([[-0.5, -0.4, -0.001], [0.5, -0.4, -0.001], [0.5, 0.4, -0.001], [-0.5, 0.4, -0.001]])
    table_faces = np.array([[0, 1, 2], [0, 2, 3]]) + len(points)
    both = any_frame(np.concatenate([points, table]), rng)
    cleaned = clean_scan(scan_from_arrays(both, np.concatenate([faces, table_faces])), HANDS)
    assert cleaned.faces is not None and len(cleaned.faces) == len(faces)


@pytest.mark.parametrize("curl", [0.05, 0.5, 1.5])
@pytest.mark.parametrize("count", [300, 3000])
@pytest.mark.parametrize("forearm", [0.0, 0.25])
def test_a_hand_alone_keeps_its_points(curl: float, count: int, forearm: float, rng: np.random.Generator) -> None:
    hand, _ = surface(hand_mesh(rng, curl, forearm), count, rng, 0.0005)
    assert shares([hand], rng) >= [0.995]


def test_a_hand_seen_from_one_side_keeps_its_points(rng: np.random.Generator) -> None:
    """From any side; a finger that another one cuts off from the rest may be left out, seldom."""
    kept = []
    for i in range(12):
        mesh = hand_mesh(rng, (0.05, 0.4, 0.9, 1.5)[i % 4], (0.0, 0.1, 0.25)[i % 3])
        points, _, _ = depth_view(mesh, turned(rng), 0.003, rng, (0.0003, 0.001, 0.002)[i % 3])
        kept += shares([points - (points.mean(axis=0) if i % 2 else 0)], None)
    assert np.mean(kept) > 0.985
    assert min(kept) > 0.85


def test_flat_fingers_before_a_camera_are_no_table() -> None:
    """An open hand with its arm, seen flat: its planes lie at the border, but nothing lies over them."""
    rng = np.random.default_rng(0)
    for i in range(5):
        lean = trimesh.transformations.rotation_matrix(0.4 * i - 0.8, [0.3, 1, 0])[:3, :3]
        points, _, _ = depth_view(hand_mesh(rng, 0.05, 0.25), lean, 0.003, rng, 0.001)
        planes = clutter.find_planes(points, np.random.default_rng(0), HANDS)
        assert not planes


def test_stray_clusters_go(rng: np.random.Generator) -> None:
    hand, _ = surface(hand_mesh(rng), 6000, rng)
    balls = [0.01 * trimesh.unitize(rng.normal(size=(150, 3))) + at for at in ([0.2, 0, 0.1], [-0.25, 0.1, 0])]
    of_hand, of_balls = shares([hand, np.concatenate(balls)], rng)
    assert of_hand == 1
    assert of_balls == 0


HELD = {
    "ball": lambda: trimesh.creation.icosphere(3, 0.035).apply_translation([0, 0.1, 0.055]),
    "stick": lambda: trimesh.creation.cylinder(0.008, 0.3, sections=24).subdivide().subdivide(),
    "box": lambda: trimesh.creation.box([0.07, 0.15, 0.01]).subdivide().subdivide().apply_translation([0, 0.1, 0.04]),
}


@pytest.mark.parametrize("held", HELD)
def test_a_hand_that_holds_something_is_one_piece(held: str, rng: np.random.Generator) -> None:
    hand, _ = surface(hand_mesh(rng, 0.5, 0.05), 6000, rng, 0.0005)
    thing = HELD[held]()
    if held == "stick":
        thing.apply_transform(trimesh.transformations.rotation_matrix(np.pi / 2, [0, 1, 0]))
        thing.apply_translation([0, 0.09, 0.03])
    points, _ = surface((np.asarray(thing.vertices), np.asarray(thing.faces)), 3000, rng)
    of_hand, _ = shares([hand, points], rng)
    assert of_hand > 0.99


def test_a_hand_in_pieces_stays(rng: np.random.Generator) -> None:
    """A ring, a watch and a bandage that the scanner did not see cut off fingertips, a finger and the forearm."""
    hand, _ = surface(hand_mesh(rng, 0.1, 0.2), 4000, rng)
    along, across = hand[:, 1], hand[:, 0]
    gaps = {
        "watch": (along > -0.045) & (along < -0.02),
        "knuckles": (along > 0.105) & (along < 0.12),
        "fingertips": (along > 0.13) & (along < 0.15) & (across > -0.02),
    }
    for name, gap in gaps.items():
        assert shares([hand[~gap]], rng) >= [0.99], name


def two_hands(rng: np.random.Generator, apart: float) -> list[Points]:
    hand = hand_mesh(rng, 0.3, 0.05)
    other = hand[0] * [-1, 1, 1]
    other += [hand[0][:, 0].max() - other[:, 0].min() + apart, 0, 0]
    return [surface(hand, 4000, rng)[0], surface((other, hand[1][:, ::-1]), 3500, rng)[0]]


def test_pieces_of_similar_size_all_stay(rng: np.random.Generator) -> None:
    """Which of them is the hand only the network can tell."""
    parts = two_hands(rng, 0.1)
    assert shares(parts, rng) == [1, 1]
    assert shares(parts, rng, replace(HANDS, piece_share=None)) == [1, 0]
    assert shares([*parts, parts[1] + [0, 0, 0.4]], rng) == [1, 1, 1]
    cleaned = clean_scan(scan_from_arrays(np.concatenate(parts)), HANDS)
    assert "found 2 pieces of similar size (53.3 % and 46.7 % of the scan): kept them all" in cleaned.notes
    mesh = hand_mesh(rng)
    faces = np.concatenate([mesh[1], mesh[1][:, ::-1] + len(mesh[0])])
    both = np.concatenate([mesh[0], mesh[0] * [-1, 1, 1] + [0.3, 0, 0]])
    cleaned = clean_scan(scan_from_arrays(both, faces), HANDS)
    assert cleaned.faces is not None and len(cleaned.faces) == len(faces)


def test_two_hands_that_touch_are_left_to_the_verdict(rng: np.random.Generator) -> None:
    assert shares(two_hands(rng, 0.002), rng) == [1, 1]


def test_something_much_smaller_apart_goes_and_something_larger_does_not_drive_the_hand_out(
    rng: np.random.Generator,
) -> None:
    hand, _ = surface(hand_mesh(rng), 6000, rng)
    for count, stay in ((1500, [1, 0]), (2500, [1, 1]), (12_000, [1, 1])):
        cup = 0.04 * trimesh.unitize(rng.normal(size=(count, 3))) + [0.3, 0, 0]
        assert shares([hand, cup], rng) == pytest.approx(stay, abs=0.001)


def test_mist_goes_and_thin_fingers_stay(rng: np.random.Generator) -> None:
    """A depth camera's flying pixels around and between spread fingers, in all depths."""
    hand, _, _ = depth_view(hand_mesh(rng, 0.05), np.diag([1.0, -1, -1]), 0.0015, rng, 0.0005)
    pictured = hand[:, :2] / hand[:, 2:] * 0.6
    axes = [np.arange(a, b, 0.0015) for a, b in zip(pictured.min(0) - 0.02, pictured.max(0) + 0.02, strict=True)]
    pixels = np.stack(np.meshgrid(*axes), -1).reshape(-1, 2)
    beside, nearest = cKDTree(pictured).query(pixels)
    depths = hand[nearest, 2] + rng.uniform(-0.005, 0.015, len(pixels))
    mixed = np.c_[pixels / 0.6, np.ones(len(pixels))] * depths[:, None]
    of_hand, of_mist = shares([hand, mixed[(beside > 0.0015) & (beside < 0.01) & (pixels[:, 1] < 0)]], None)
    assert of_hand > 0.98
    assert of_mist < 0.3


def test_mist_is_not_found_in_a_coarse_noisy_hand(rng: np.random.Generator) -> None:
    for noise, pixel in ((0.002, 0.005), (0.003, 0.002), (0.0, 0.004)):
        hand, _, _ = depth_view(hand_mesh(rng, 0.3), np.diag([1.0, -1, -1]), pixel, rng, noise)
        assert clutter.mixed_pixel_points(hand).mean() < 0.02


@pytest.mark.parametrize("inside_out", [False, True])
def test_an_open_hand_is_turned_outward(inside_out: bool, rng: np.random.Generator) -> None:
    points, faces = hand_mesh(rng, 1.2)
    cleaned = clean_scan(scan_from_arrays(points, faces[:, ::-1] if inside_out else faces), HANDS)
    expected = trimesh.Trimesh(points, faces, process=False).face_normals
    assert cleaned.faces is not None
    found = trimesh.Trimesh(cleaned.points, cleaned.faces, process=False).face_normals
    assert np.einsum("fi,fi->f", expected, found).min() > 0.999


@pytest.mark.parametrize("noise", [0.0003, 0.002])
def test_normals_of_a_cloud_face_outward(noise: float, rng: np.random.Generator) -> None:
    """Also where the noise is larger than the spacing of the points."""
    hand, normals = surface(hand_mesh(rng, 0.4), 12_000, rng, noise)
    cleaned = clean_scan(scan_from_arrays(hand), HANDS)
    _, order = cKDTree(hand).query(cleaned.points)
    cosines = np.einsum("pi,pi->p", normals[order], cleaned.normals)
    known = (cleaned.normals != 0).any(axis=1)
    assert known.mean() > 0.97
    assert (cosines[known] > 0).mean() > 0.97


@pytest.mark.real
def test_real_hands_keep_every_face_with_an_area() -> None:
    for path in (path for path in real_scans("hands") if path.suffix != ".ply"):
        scan = read_scan(path)
        cleaned = clean_scan(scan, HANDS)
        assert cleaned.faces is not None and scan.faces is not None
        assert len(cleaned.faces) >= 0.998 * len(scan.faces), path.name
        assert not any(word in note for note in cleaned.notes for word in ("stray", "table", "inside out")), path.name
        points, normals = oriented_points(cleaned, 3000)
        assert np.isfinite(points).all() and (normals != 0).any(axis=1).all()


@pytest.mark.real
def test_the_real_depth_cloud_loses_its_mist_only() -> None:
    scan = read_scan(real_path("hands/depth_points.ply"))
    cleaned = clean_scan(scan, HANDS)
    assert 0.75 < len(cleaned.points) / len(scan.points) < 0.9
    assert any("mixed pixels" in note for note in cleaned.notes)
    # The fingers reach where they did: the mist beyond the fingertips is not what spanned the scan.
    extents = [np.ptp(points, axis=0).max() for points in (cleaned.points, scan.points)]
    assert 0.93 < extents[0] / extents[1] < 1.0


@pytest.mark.real
@pytest.mark.parametrize("name", ["rigged_left.glb", "knit_mm.off", "forearm_metres.obj", "depth_points.ply"])
def test_truncated_hands_are_clear_errors_or_clean(name: str, tmp_path: Path) -> None:
    data = real_path(f"hands/{name}").read_bytes()
    path = tmp_path / name
    for share in (0.02, 0.4, 0.97):
        path.write_bytes(data[: int(share * len(data))])
        try:
            assert len(clean_scan(read_scan(path), HANDS).points) >= 200
        except ScanError as error:
            assert "\n" not in str(error) and len(str(error)) < 250
