"""Formats as libraries of others read them: LAS and LAZ, E57, FBX, 3DS, COLLADA, USD, EXR, and packed glTF.

Called in a process of its own (``isolated``); whatever the libraries raise is dealt with there.
"""

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lvdreg.base.errors import ScanError
from lvdreg.scan.readers.raw import RawScan, check_rows, checked_faces, fan, to_colors

_AT_ONCE = 2_000_000


def read(kind: str, path: Path) -> RawScan:
    """Read a file of a kind of ``isolated.LIBRARIES``; of an EXR image the depths (H, W) as points.

    Raises:
        ScanError: it holds nothing that can be used. Libraries raise others.
    """
    if kind in ("las", "laz"):
        return _las(path)
    if kind == "e57":
        return _e57(path)
    if kind in ("fbx", "3ds", "dae"):
        return _assimp(path)
    if kind == "usd":
        return _usd(path)
    if kind == "exr":
        return RawScan(_exr(path))
    from lvdreg.scan.readers.gltf import read_gltf

    return read_gltf(path.read_bytes(), path.parent, unpack=True)


def _las(path: Path) -> RawScan:
    """Read points and colours, in double precision: coordinates are whole numbers, a scale and an offset."""
    import laspy

    with laspy.open(path) as file:
        count = file.header.point_count
        check_rows("points", count, 0, 0)
        names = set(file.header.point_format.dimension_names)
        points, found = np.empty((count, 3)), 0
        colours = np.empty((count, 3), np.uint16) if {"red", "green", "blue"} <= names else None
        for part in file.chunk_iterator(_AT_ONCE):
            here = slice(found, found + len(part))
            for axis, name in enumerate("xyz"):
                points[here, axis] = part[name]
            if colours is not None:
                for axis, name in enumerate(("red", "green", "blue")):
                    colours[here, axis] = part[name]
            found += len(part)
    if found != count:
        raise ScanError(f"its header promises {count} points, but {found} follow; the file is truncated")
    if colours is not None and colours.max(initial=0) < 256:  # many writers put bytes where the standard has 16 bits
        colours = colours.astype(np.uint8)
    is_black = colours is None or not colours.any()
    return RawScan(points, colors=None if is_black or colours is None else to_colors(colours))


def _e57(path: Path) -> RawScan:
    """Read all scans of the file in its world frame, which is in metres; normals and colours where all have them."""
    import pye57

    file = pye57.E57(str(path))
    parts: list[dict[str, NDArray[Any]]] = []
    places, count = list[NDArray[np.float64]](), 0
    for number in range(file.scan_count):
        header = file.get_header(number)
        count += header.point_count
        check_rows("points", count, 0, 0)
        names = set(header.point_fields)
        wanted = {"colors": {"colorRed", "colorGreen", "colorBlue"} <= names, "intensity": False}
        parts.append(file.read_scan(number, ignore_missing_fields=True, transform=True, **wanted))
        places.append(np.asarray(header.translation, float) if header.has_pose() else np.zeros(3))
    if not parts:
        raise ScanError("expected scans in the E57 file, got none; it holds no points")
    points = np.concatenate([np.stack([part[f"cartesian{a}"] for a in "XYZ"], axis=1) for part in parts])
    colours = None
    if all("colorRed" in part for part in parts):
        rows = [np.stack([part[f"color{name}"] for name in ("Red", "Green", "Blue")], axis=1) for part in parts]
        colours = to_colors(np.concatenate(rows))
    viewpoint = places[0] if len(parts) == 1 and np.isfinite(places[0]).all() else None
    return RawScan(points.astype(np.float64), colors=colours, viewpoint=viewpoint, unit="m")


def _assimp(path: Path) -> RawScan:
    """Read all meshes of the scene where their nodes put them; skeletons do not move them."""
    import assimp_py as assimp

    flags = assimp.Process_Triangulate | assimp.Process_PreTransformVertices | assimp.Process_JoinIdenticalVertices
    scene = assimp.import_file(str(path), flags)
    points, faces, count = list[NDArray[np.float64]](), list[NDArray[np.int64]](), 0
    for mesh in scene.meshes:
        vertices = np.asarray(mesh.vertices, np.float64).reshape(-1, 3)
        indices = np.asarray(mesh.indices, np.int64).reshape(-1)
        if len(indices) == 3 * mesh.num_faces:  # what is no triangle, lines and points, has other numbers of corners
            faces.append(indices.reshape(-1, 3) + count)
        points.append(vertices)
        count += len(vertices)
        check_rows("points", count, 0, 0)
    if not count:
        raise ScanError("expected meshes in the scene, got none; the file holds no geometry")
    every = np.concatenate(points)
    return RawScan(every, checked_faces(np.concatenate(faces), count) if faces else None)


def _usd(path: Path) -> RawScan:
    """Read all meshes and clouds of the scene at its first time, in its world; skeletons do not move them."""
    from pxr import Usd, UsdGeom

    stage = Usd.Stage.Open(str(path))
    cache = UsdGeom.XformCache(Usd.TimeCode.EarliestTime())
    points, faces, count = list[NDArray[np.float64]](), list[NDArray[np.int64]](), 0
    for prim in stage.Traverse():
        if not prim.IsA(UsdGeom.PointBased):
            continue
        given = UsdGeom.PointBased(prim).GetPointsAttr().Get(Usd.TimeCode.EarliestTime())
        if given is None or not len(given):
            continue
        T_world_prim = np.array(cache.GetLocalToWorldTransform(prim), np.float64).T
        local = np.array(given, np.float64).reshape(-1, 3)
        points.append(local @ T_world_prim[:3, :3].T + T_world_prim[:3, 3])
        if prim.IsA(UsdGeom.Mesh):
            mesh = UsdGeom.Mesh(prim)
            corners = np.array(mesh.GetFaceVertexIndicesAttr().Get(Usd.TimeCode.EarliestTime()) or [], np.int64)
            counts = np.array(mesh.GetFaceVertexCountsAttr().Get(Usd.TimeCode.EarliestTime()) or [], np.int64)
            if len(counts) and (counts.min() < 0 or counts.sum() != len(corners)):
                raise ScanError("its faces do not have the corners that they count; the file is damaged")
            own = checked_faces(fan(corners, counts), len(local))
            faces += [] if own is None else [own + count]
        count += len(local)
        check_rows("points", count, 0, 0)
    if not count:
        raise ScanError("expected meshes or points in the scene, got none; the file holds no geometry")
    return RawScan(np.concatenate(points), np.concatenate(faces) if faces else None)


def _exr(path: Path) -> NDArray[Any]:
    """Return the channel of an image that holds depths: Z, or the only one, or the first of equal ones."""
    import OpenEXR

    with OpenEXR.File(str(path), separate_channels=True) as file:
        parts = file.parts
        window = parts[0].header["dataWindow"]
        width, height = (int(window[1][i]) - int(window[0][i]) + 1 for i in (0, 1))
        check_rows("pixels", max(width, 0) * max(height, 0), 0, 0)
        channels = {name: np.asarray(channel.pixels) for name, channel in parts[0].channels.items()}
    by_name = {name.rsplit(".", 1)[-1].lower(): pixels for name, pixels in channels.items()}
    found = next((by_name[name] for name in ("z", "depth", "y", "r", "v") if name in by_name), None)
    if found is None and len(channels) == 1:
        found = next(iter(channels.values()))
    if found is None:
        raise ScanError(f"expected a channel Z of depths, got {', '.join(channels)[:60]}; save one channel")
    return found.astype(np.float32) if found.dtype == np.float16 else found
