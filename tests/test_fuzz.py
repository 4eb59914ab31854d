"""Truncated and corrupted copies of every format: a Scan or a ScanError of one line, and never much memory."""

import io
import struct
import tracemalloc
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import trimesh

from lvdreg.base.errors import ScanError
from lvdreg.scan.clean import clean_scan
from lvdreg.scan.model import Scan, read_scan

NUM_COPIES = 15
MAX_MEMORY = 32 << 20
NUMBERS = [b"0", b"-1", b"nan", b"1e308", b"99999999999", b"2147483648", b"\xff\xff\xff\xff", b"\x00\x00\x00\x80", b""]


def body() -> trimesh.Trimesh:
    mesh = trimesh.creation.icosphere(subdivisions=3)
    mesh.apply_scale([0.3, 1.7, 0.2])
    mesh.visual.vertex_colors = np.arange(len(mesh.vertices) * 4).reshape(-1, 4) % 256
    return mesh


def pcd(encoding: str) -> bytes:
    points = np.c_[body().vertices, np.zeros(642)].astype("<f4")
    head = f"VERSION .7\nFIELDS x y z w\nSIZE 4 4 4 4\nTYPE F F F F\nCOUNT 1 1 1 1\nWIDTH {len(points)}\nHEIGHT 1\n"
    head += f"VIEWPOINT 0 0 0 1 0 0 0\nPOINTS {len(points)}\nDATA {encoding}\n"
    if encoding == "ascii":
        return head.encode() + "\n".join(" ".join(map(str, p)) for p in points.tolist()).encode()
    if encoding == "binary":
        return head.encode() + points.tobytes()
    # Coordinates as literal runs; of the zeros the first 8, then copies of 16 bytes from 1 back.
    raw = points[:, :3].T.tobytes()
    runs = [bytes([len(raw[i : i + 32]) - 1]) + raw[i : i + 32] for i in range(0, len(raw), 32)]
    stream = b"".join(runs) + bytes([7, *bytes(8)]) + bytes([7 << 5, 7, 0]) * ((4 * 642 - 8) // 16)
    return head.encode() + struct.pack("<II", len(stream), points.nbytes) + stream


def text_table() -> bytes:
    mesh = body()
    rows = np.c_[mesh.vertices, mesh.vertex_normals]
    return f"{len(rows)}\n".encode() + "\n".join(" ".join(f"{v:.6f}" for v in row) for row in rows).encode()


def numpy_file(save: Callable[[io.BytesIO], None]) -> bytes:
    stream = io.BytesIO()
    save(stream)
    return stream.getvalue()


FILES: dict[str, Callable[[], bytes]] = {
    "binary.ply": lambda: body().export(file_type="ply"),
    "ascii.ply": lambda: body().export(file_type="ply", encoding="ascii"),
    "mesh.obj": lambda: body().export(file_type="obj").encode(),
    "binary.stl": lambda: body().export(file_type="stl"),
    "ascii.stl": lambda: body().export(file_type="stl_ascii").encode(),
    "mesh.off": lambda: body().export(file_type="off").encode(),
    "mesh.glb": lambda: body().export(file_type="glb"),
    "mesh.gltf": lambda: body().export(file_type="gltf", embed_buffers=True)["model.gltf"],
    "ascii.pcd": lambda: pcd("ascii"),
    "binary.pcd": lambda: pcd("binary"),
    "packed.pcd": lambda: pcd("binary_compressed"),
    "table.xyz": text_table,
    "array.npy": lambda: numpy_file(lambda s: np.save(s, body().vertices)),
    "arrays.npz": lambda: numpy_file(lambda s: np.savez_compressed(s, points=body().vertices, faces=body().faces)),
}


def damaged(data: bytes, rng: np.random.Generator) -> bytes:
    """Cut the end off, turn bytes, put extreme numbers in, or remove, repeat or exchange stretches."""
    kind = rng.integers(6)
    # Headers are where it hurts.
    place = int(rng.integers(len(data) if rng.random() < 0.5 else min(len(data), 600)))
    stretch = int(rng.integers(1, 40))
    if kind == 0:
        return data[:place]
    if kind == 1:
        return data[:place] + rng.bytes(stretch) + data[place + stretch :]
    if kind == 2:
        return data[:place] + data[place + stretch :]
    if kind == 3:
        return data[:place] + data[place : place + stretch] * 3 + data[place + stretch :]
    if kind == 4:
        number = NUMBERS[rng.integers(len(NUMBERS))]
        return data[:place] + number + data[place + len(number) :]
    flipped = bytearray(data)
    for at in rng.integers(len(data), size=stretch):
        flipped[at] ^= 1 << int(rng.integers(8))
    return bytes(flipped)


@pytest.mark.parametrize("name", FILES)
def test_the_whole_file_is_read(name: str, tmp_path: Path) -> None:
    (tmp_path / name).write_bytes(FILES[name]())
    assert len(clean_scan(read_scan(tmp_path / name)).points) > 200


@pytest.mark.parametrize("name", FILES)
def test_damaged_copies_end_in_a_scan_or_one_line(name: str, tmp_path: Path) -> None:
    rng = np.random.default_rng(list(name.encode()))
    whole, path = FILES[name](), tmp_path / name
    num_refused = 0
    for copy in range(NUM_COPIES):
        path.write_bytes(damaged(whole, rng))
        try:
            check(clean_scan(read_in_little_memory(path)))
        except ScanError as error:
            num_refused += 1
            assert "\n" not in str(error) and len(str(error)) < 400, copy
    assert num_refused > 0


def read_in_little_memory(path: Path) -> Scan:
    tracemalloc.start()
    try:
        return read_scan(path)
    finally:
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert peak < MAX_MEMORY


def check(scan: Scan) -> None:
    assert np.isfinite(scan.points).all() and scan.normals is not None and np.isfinite(scan.normals).all()
    assert scan.faces is None or (scan.faces.min() >= 0 and scan.faces.max() < len(scan.points))


@pytest.mark.parametrize("suffix", ["ply", "obj", "stl", "off", "glb", "gltf", "pcd", "xyz", "npy", "npz", "bin"])
def test_noise_under_every_suffix_is_refused_in_one_line(suffix: str, tmp_path: Path) -> None:
    rng, path = np.random.default_rng(7), tmp_path / f"noise.{suffix}"
    for size in (1, 10, 84, 134, 5000):
        path.write_bytes(rng.bytes(size))
        with pytest.raises(ScanError) as caught:
            clean_scan(read_in_little_memory(path))
        assert "\n" not in str(caught.value) and f"noise.{suffix}" in str(caught.value), size
