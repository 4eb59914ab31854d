"""Formats that libraries of others read: what these write is read back; what is damaged or missing costs one line."""

import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import trimesh
from numpy.typing import NDArray

from lvdreg import read_scan
from lvdreg.base.errors import ScanError
from lvdreg.scan.readers import isolated
from lvdreg.scan.readers.isolated import LIBRARIES, Library, read_isolated
from scripts import fuzz_formats as formats

FAR = np.array([500_000.123, 5_400_000.456, 200.0])
"""Metres: a place in a grid of a country."""
BALL = trimesh.creation.icosphere(subdivisions=1)
POINTS, FACES = np.asarray(BALL.vertices), np.asarray(BALL.faces)


def same_triangles(found: NDArray[np.int64] | None, points: NDArray[np.float64], tolerance: float) -> None:
    """Those of the ball, in whatever order."""
    assert found is not None
    rows = points[found].mean(1), POINTS[FACES].mean(1)
    ordered = [row[np.lexsort(row.round(3).T)] for row in rows]
    np.testing.assert_allclose(*ordered, atol=tolerance)


def three_ds_lying(points: NDArray[np.float64], faces: NDArray[np.int64]) -> bytes:
    """What assimp turns from Z up to Y up."""
    return formats.three_ds(points @ np.array([[1.0, 0, 0], [0, 0, 1], [0, -1, 0]]), faces)


@pytest.mark.parametrize("suffix", ["las", "laz"])
def test_las_keeps_tenths_of_millimetres_far_away(suffix: str, tmp_path: Path) -> None:
    pytest.importorskip("laspy")
    pytest.importorskip("lazrs")
    content = formats.las(POINTS + FAR, packed=suffix == "laz")
    (tmp_path / f"far.{suffix}").write_bytes(content)
    scan = read_scan(tmp_path / f"far.{suffix}")
    np.testing.assert_allclose(scan.points, POINTS + FAR, atol=6e-5, rtol=0)
    assert scan.colors is not None and (scan.colors == 60_000 >> 8).all() and scan.notes == ()
    (tmp_path / f"cut.{suffix}").write_bytes(content[:-300])
    with pytest.raises(ScanError, match=r"truncated|damaged"):
        read_scan(tmp_path / f"cut.{suffix}")


def test_e57_puts_all_scans_where_they_were_taken(tmp_path: Path) -> None:
    pytest.importorskip("pye57")
    local = POINTS.astype(np.float32).astype(np.float64)  # pye57 writes single precision
    quarter = np.array([np.sqrt(0.5), 0, 0, np.sqrt(0.5)])  # around z
    (tmp_path / "two.e57").write_bytes(formats.e57(local, quarter, FAR))
    scan = read_scan(tmp_path / "two.e57")
    turned = local @ np.array([[0, 1, 0], [-1, 0, 0], [0, 0, 1]]) + FAR
    np.testing.assert_allclose(scan.points, np.concatenate([local, turned]), atol=1e-8, rtol=0)
    assert scan.unit == "m" and scan.colors is not None and (scan.colors == 7).all()


@pytest.mark.parametrize(
    ("name", "library", "make", "moved", "tolerance"),
    [
        ("ball.dae", "assimp_py", formats.collada, [1, 2, 3], 1e-5),
        ("ball.fbx", "assimp_py", formats.fbx, [1, 2, 3], 1e-5),
        ("ball.3ds", "assimp_py", three_ds_lying, [0, 0, 0], 1e-5),
        ("ball.usda", "pxr", partial(formats.usd, suffix="usda"), [1, 2, 3], 1e-6),
        ("ball.usdz", "pxr", partial(formats.usd, suffix="usdz"), [1, 2, 3], 1e-6),
        ("draco.glb", "DracoPy", formats.draco_glb, [0, 0, 0], 1e-4),
        ("meshopt.glb", "meshopt", formats.meshopt_glb, [0, 0, 0], 1e-6),
        ("short.glb", "meshopt", partial(formats.meshopt_glb, index_bytes=2), [0, 0, 0], 1e-6),
    ],
)
def test_meshes(
    name: str, library: str, make: Callable[..., bytes], moved: list[int], tolerance: float, tmp_path: Path
) -> None:
    pytest.importorskip(library)
    (tmp_path / name).write_bytes(make(POINTS, FACES))
    scan = read_scan(tmp_path / name)
    same_triangles(scan.faces, scan.points - moved, tolerance)


def test_exr(tmp_path: Path) -> None:
    pytest.importorskip("OpenEXR")
    depth = np.random.default_rng(0).uniform(1, 2, (424, 512)).astype(np.float32)
    (tmp_path / "depth.exr").write_bytes(formats.exr(depth))
    scan = read_scan(tmp_path / "depth.exr", "kinect-v2")
    np.testing.assert_array_equal(scan.points[:, 2], depth.ravel().astype(float))


@pytest.mark.parametrize("kind", list(LIBRARIES))
def test_a_missing_library_is_named_with_its_extra(kind: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    found = LIBRARIES[kind]
    monkeypatch.setitem(LIBRARIES, kind, Library(found.what, ("no_such_module",), found.extra))
    with pytest.raises(ScanError, match=r"needs no_such_module, which is not installed: pip install 'lvdreg\["):
        read_isolated(kind, tmp_path / "any")


@pytest.mark.parametrize(
    ("does", "words"),
    [
        ("import os; os.kill(os.getpid(), 9)", "it ended with status -9"),
        ("while True: pass", "takes over 1 s"),
        ("bytearray(1 << 40)", "needs over 4 GiB|not enough memory"),
        ("raise BaseException('a panic')", "got a damaged one .a panic."),
    ],
)
def test_what_a_library_does_costs_one_line(
    does: str, words: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """A library that dies, hangs, or takes all memory while it reads."""
    (tmp_path / "laspy.py").write_text(f"def open(path):\n    {does}\n")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    monkeypatch.setattr(isolated, "_SECONDS", 1.0 if does.startswith("while") else 100.0)
    monkeypatch.setitem(LIBRARIES, "las", Library("a LAS file", ("sys",), "las"))
    (tmp_path / "a.las").write_bytes(b"LASF" + bytes(300))
    with pytest.raises(ScanError, match=words) as caught:
        read_scan(tmp_path / "a.las")
    assert "\n" not in str(caught.value) and sys.executable not in str(caught.value)
