"""Seeds of the fuzzer, and those that are scans: small valid files of every format, made in code."""

import importlib.util
import io
import json
import struct
import tempfile
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import fuzz_formats as formats
import numpy as np
import trimesh

from lvdreg.scan.clean import clean_scan
from lvdreg.scan.model import read_scan

Read = Callable[[Path], object]


@dataclass(frozen=True)
class Seed:
    """A valid input.

    Attributes:
        kind: What it is to lvdreg; one of those of ``fuzz.KINDS``.
        name: Of the file that is given; may lie in a folder.
        files: Content by name, of that file and of others that belong to it.
        read: Reads it.
        broken: Names of those that are broken; all when empty.
    """

    kind: str
    name: str
    files: dict[str, bytes]
    read: Read
    broken: tuple[str, ...] = field(default=())


def saved(write: Callable[[Path], object]) -> dict[str, bytes]:
    """Return what ``write`` writes to a path in an empty folder, by name."""
    with tempfile.TemporaryDirectory() as folder:
        write(Path(folder))
        return {
            p.relative_to(folder).as_posix(): p.read_bytes() for p in sorted(Path(folder).rglob("*")) if p.is_file()
        }


def in_memory(write: Callable[[io.BytesIO], object]) -> bytes:
    """Return what is written to a stream."""
    stream = io.BytesIO()
    write(stream)
    return stream.getvalue()


# --- Scans ------------------------------------------------------------------------------------------------------------


def scan_seeds() -> list[Seed]:
    """Return scans of every format and encoding."""
    ball = trimesh.creation.uv_sphere(count=[16, 16])
    ball.apply_scale([0.3, 0.9, 0.2])
    points, faces = np.asarray(ball.vertices), np.asarray(ball.faces)
    colours = (np.arange(points.size).reshape(-1, 3) % 256).astype(np.uint8)
    rows = [" ".join(f"{v:.5f}" for v in row) for row in np.c_[points, ball.vertex_normals]]
    ball.visual.vertex_colors = np.c_[colours, np.full(len(colours), 255)]
    contents: dict[str, bytes] = {
        "binary.ply": ball.export(file_type="ply"),
        "ascii.ply": ball.export(file_type="ply", encoding="ascii"),
        "big.ply": big_endian_ply(points, faces),
        "strips.ply": strips_ply(points, faces),
        "mesh.obj": ball.export(file_type="obj").encode(),
        "commas.obj": "\n".join(["v " + row[:24].replace(".", ",") for row in rows]).encode(),
        "binary.stl": ball.export(file_type="stl"),
        "solid.stl": b"solid".ljust(80) + ball.export(file_type="stl")[80:] + b"\0\0",
        "ascii.stl": ball.export(file_type="stl_ascii").encode(),
        "mesh.off": ball.export(file_type="off").encode(),
        "mesh.glb": ball.export(file_type="glb"),
        "mesh.gltf": ball.export(file_type="gltf", embed_buffers=True)["model.gltf"],
        "ascii.pcd": pcd(points, "ascii"),
        "binary.pcd": pcd(points, "binary"),
        "packed.pcd": pcd(points, "binary_compressed"),
        "table.xyz": "\n".join(rows).encode(),
        "counted.pts": f"{len(rows)}\n".encode() + "\n".join(f"{r[:23]} 7 1 2 3" for r in rows).encode(),
        "commas.csv": "\n".join(row.replace(".", ",").replace(" ", ";") for row in rows).encode(),
        "words.csv": b"x,y,z,nx,ny,nz\n" + "\n".join(row.replace(" ", ",") for row in rows).encode(),
        "utf16.xyz": "\n".join(rows).encode("utf-16"),
        "array.npy": in_memory(lambda s: np.save(s, points.astype(np.float32))),
        "arrays.npz": in_memory(lambda s: np.savez_compressed(s, points=points, faces=faces, colors=colours)),
        "plain.npz": in_memory(lambda s: np.savez(s, vertices=points, normals=ball.vertex_normals, faces=faces)),
    }
    seeds = [Seed("scan", name, {name: content}, read_cleaned) for name, content in contents.items()]
    seeds += depth_seeds()
    document, buffer = rigged_gltf(points, faces)
    return [*seeds, Seed("scan", "rigged.gltf", {"rigged.gltf": document, "in part.bin": buffer}, read_cleaned)]


def packaged_seeds() -> list[Seed]:
    """Return scans that libraries of others read, of those that are installed."""
    ball = trimesh.creation.uv_sphere(count=[16, 16])
    ball.apply_scale([0.3, 0.9, 0.2])
    points, faces = np.asarray(ball.vertices), np.asarray(ball.faces)
    turn, place = np.array([1.0, 0, 0, 0]), np.array([0.5, 0, 0])
    made: dict[str, tuple[str, Callable[[], bytes]]] = {
        "cloud.las": ("laspy", lambda: formats.las(points)),
        "cloud.laz": ("lazrs", lambda: formats.las(points, packed=True)),
        "cloud.e57": ("pye57", lambda: formats.e57(points, turn, place)),
        "mesh.dae": ("assimp_py", lambda: formats.collada(points, faces)),
        "mesh.fbx": ("assimp_py", lambda: formats.fbx(points, faces)),
        "mesh.3ds": ("assimp_py", lambda: formats.three_ds(points, faces)),
        "mesh.usda": ("pxr", lambda: formats.usd(points, faces, "usda")),
        "mesh.usdc": ("pxr", lambda: formats.usd(points, faces, "usdc")),
        "mesh.usdz": ("pxr", lambda: formats.usd(points, faces, "usdz")),
        "draco.glb": ("DracoPy", lambda: formats.draco_glb(points, faces)),
        "meshopt.glb": ("meshopt", lambda: formats.meshopt_glb(points, faces)),
    }
    there = {name: make() for name, (library, make) in made.items() if importlib.util.find_spec(library)}
    seeds = [Seed("packaged", name, {name: content}, read_cleaned) for name, content in there.items()]
    if importlib.util.find_spec("OpenEXR"):
        depth = formats.exr((formats.depth_of_ball() / 1000).astype(np.float32))
        seeds.append(Seed("packaged", "depth.exr", {"depth.exr": depth, "K.json": camera_json()}, read_depth))
    return seeds


def camera_json() -> bytes:
    """Return the camera of the depth images."""
    return json.dumps(formats.CAMERA).encode()


def depth_seeds() -> list[Seed]:
    """Return depth images."""
    depth = formats.depth_of_ball()
    images = {"depth.png": formats.png(depth), "depth.npy": in_memory(lambda s: np.save(s, depth / 1000))}
    seeds = [Seed("depth", name, {name: image, "K.json": camera_json()}, read_depth) for name, image in images.items()]
    views = [{"image": name, "T_world_camera": np.eye(4).tolist()} for name in images]
    rig = json.dumps({**formats.CAMERA, "distortion": [0.1, 0, 0, 0, 0], "views": views}).encode()
    return [*seeds, Seed("depth", "rig.json", {"rig.json": rig, **images}, read_cleaned)]


def read_depth(path: Path) -> None:
    """Read a depth image with the camera beside it, and clean what it shows."""
    read_cleaned(path, path.parent / "K.json")


def read_cleaned(path: Path, camera: Path | None = None) -> None:
    """Read a scan, clean it, and make sure that what comes out holds what it promises."""
    scan = clean_scan(read_scan(path, camera))
    assert np.isfinite(scan.points).all() and scan.normals is not None and np.isfinite(scan.normals).all()
    assert scan.faces is None or (scan.faces.min() >= 0 and scan.faces.max() < len(scan.points))


def big_endian_ply(points: np.ndarray, faces: np.ndarray) -> bytes:
    """Return a binary ply of many types, with lists of different lengths."""
    head = (
        f"ply\rformat binary_big_endian 1.0\rcomment made\relement camera 1\rproperty double f\relement vertex "
        f"{len(points)}\rproperty double x\rproperty float y\rproperty float z\rproperty uchar red\rproperty uchar "
        f"green\rproperty uchar blue\relement face {len(faces) + 1}\rproperty uchar flag\rproperty list uchar int "
        "vertex_indices\rend_header\r"
    )
    body = struct.pack(">d", 35) + b"".join(struct.pack(">dff3B", *point, 1, 2, 3) for point in points.tolist())
    body += b"".join(struct.pack(">BB3i", 0, 3, *face) for face in faces.tolist()) + struct.pack(
        ">BB4i", 0, 4, 0, 1, 2, 3
    )
    return head.encode() + body


def strips_ply(points: np.ndarray, faces: np.ndarray) -> bytes:
    """Return a ply in text with triangle strips."""
    strips = [i for face in faces.tolist() for i in (*face, -1)]
    head = (
        f"ply\nformat ascii 1.0\nelement vertex {len(points)}\nproperty float x\nproperty float y\nproperty float z\n"
    )
    head += "element tristrips 1\nproperty list int int vertex_indices\nend_header\n"
    rows = "\n".join(" ".join(map(str, row)) for row in points.round(5).tolist())
    return f"{head}{rows}\n{len(strips)} {' '.join(map(str, strips))}\n".encode()


def pcd(points: np.ndarray, encoding: str) -> bytes:
    """Return a point cloud of PCL with a field of three values."""
    table = np.c_[points, np.zeros((len(points), 4))].astype("<f4")
    head = (
        f"# .PCD\nVERSION .7\nFIELDS x y z rgb w\nSIZE 4 4 4 4 4\nTYPE F F F F F\nCOUNT 1 1 1 1 3\nWIDTH {len(table)}\n"
    )
    head += f"HEIGHT 1\nVIEWPOINT 0 0 2 1 0 0 0\nPOINTS {len(table)}\nDATA {encoding}\n"
    if encoding == "ascii":
        return head.encode() + "\n".join(" ".join(map(str, row)) for row in table.tolist()).encode()
    if encoding == "binary":
        return head.encode() + table.tobytes()
    # Coordinates as literal runs; of the zeros the first 8, then copies of 16 bytes from 1 back.
    raw, zeros = table[:, :3].T.tobytes(), 16 * len(table)
    runs = [bytes([len(raw[i : i + 32]) - 1]) + raw[i : i + 32] for i in range(0, len(raw), 32)]
    stream = b"".join(runs) + bytes([7, *bytes(8)]) + bytes([7 << 5, 7, 0]) * ((zeros - 8) // 16)
    stream += bytes([(zeros - 8) % 16 - 1, *bytes((zeros - 8) % 16)]) if (zeros - 8) % 16 else b""
    return head.encode() + struct.pack("<II", len(stream), table.nbytes) + stream


def rigged_gltf(points: np.ndarray, faces: np.ndarray) -> tuple[bytes, bytes]:
    """Return a gltf with a skin, sparse and interleaved accessors, and its buffer."""
    num = len(points)
    interleaved = np.c_[points, np.zeros((num, 3))].astype("<f4").tobytes()
    corners, joints = faces.astype("<u2").tobytes(), np.zeros((num, 4), "u1").tobytes()
    weights, bind = np.tile([1, 0, 0, 0], (num, 1)).astype("<f4").tobytes(), np.eye(4, dtype="<f4").tobytes()
    sparse = np.array([0, 1], "<u2").tobytes() + points[:2].astype("<f4").tobytes()
    views, buffer = [], b""
    for part in (interleaved, corners, joints, weights, bind, sparse):
        views.append({"buffer": 0, "byteOffset": len(buffer), "byteLength": len(part)})
        buffer += part + bytes(-len(part) % 4)
    views[0] |= {"byteStride": 24}

    def accessor(view: int, kind: int, count: int, form: str, **more: Any) -> dict[str, Any]:
        return {"bufferView": view, "componentType": kind, "count": count, "type": form, **more}

    shown = {
        "count": 2,
        "indices": {"bufferView": 5, "componentType": 5123},
        "values": {"bufferView": 5, "byteOffset": 4},
    }
    document = {
        "asset": {"version": "2.0"}, "scene": 0, "scenes": [{"nodes": [0, 1]}],
        "nodes": [
            {"mesh": 0, "skin": 0, "name": "body"},
            {"name": "wrist", "translation": [0, 0.1, 0], "rotation": [0, 0, 0, 1], "scale": [1, 1, 1],
             "children": [2]},
            {"name": "tip", "matrix": np.eye(4).ravel().tolist()},
        ],
        "skins": [{"joints": [1, 2], "inverseBindMatrices": 4}],
        "meshes": [
            {"primitives": [{"attributes": {"POSITION": 0, "JOINTS_0": 2, "WEIGHTS_0": 3}, "indices": 1, "mode": 4}]}
        ],
        "accessors": [
            accessor(0, 5126, num, "VEC3", sparse=shown), accessor(1, 5123, faces.size, "SCALAR"),
            accessor(2, 5121, num, "VEC4"), accessor(3, 5126, num, "VEC4"), accessor(4, 5126, 1, "MAT4"),
        ],
        "bufferViews": views, "buffers": [{"uri": "in%20part.bin", "byteLength": len(buffer)}],
    }  # fmt: skip
    return json.dumps(document).encode(), buffer
