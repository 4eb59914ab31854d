"""glTF 2.0, as one file (glb) or as JSON with buffers: the scene's triangles and points in world coordinates."""

import base64
import binascii
import hashlib
import itertools
import os
import re
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import numpy as np
from numpy.typing import NDArray

from lvdreg.base.errors import ScanError
from lvdreg.base.files import leads_outside, parse_json, read_bytes
from lvdreg.base.provenance import FileHashes
from lvdreg.scan.readers import packed
from lvdreg.scan.readers.raw import MAX_ROWS, RawScan, check_rows, checked_faces, strip, to_colors

_COMPONENTS = {5120: "i1", 5121: "u1", 5122: "<i2", 5123: "<u2", 5125: "<u4", 5126: "<f4"}
_WIDTHS = {"SCALAR": 1, "VEC2": 2, "VEC3": 3, "VEC4": 4, "MAT4": 16}
_POINTS, _TRIANGLES, _STRIP, _FAN = 0, 4, 5, 6
_DRACO = "KHR_draco_mesh_compression"
_MESHOPT = ("EXT_meshopt_compression", "KHR_meshopt_compression")
_JSON_CHUNK = 0x4E4F534A
_MAX_NODES = 100_000
_MAX_BUFFER_BYTES = 2 << 30
"""Of all buffers together."""
_SMALL_NUMBERS, _NUMBERS_PER_BYTE = 8_000_000, 4
"""So many numbers are read from a file at most: more than it holds only of small ones, which may show a mesh often."""
_NUMBERS_PER_READING = 256
"""What reading even an empty accessor counts for: scenes may show thousands of meshes, not millions."""
_MALFORMED = (KeyError, IndexError, TypeError, AttributeError, ValueError, OverflowError, RecursionError)


@dataclass(frozen=True)
class _Part:
    points: NDArray[np.float64]
    faces: NDArray[np.int64]
    normals: NDArray[np.float64] | None
    colors: NDArray[np.uint8] | None


def read_gltf(data: bytes, folder: Path | None = None, unpack: bool = False) -> RawScan:
    """Read the default scene, with the transforms of its nodes and the skeleton's pose applied.

    Args:
        data: The file's content.
        folder: Where buffers named in the file are looked for; none are read without it, or from outside it.
        unpack: Whether geometry packed by Draco and meshopt is unpacked, in this process.

    Raises:
        ScanError: a malformed or truncated file, packed geometry that is not to be unpacked, or no geometry.
    """
    try:
        document, binary = _split(data)
        scene = _Scene(document, binary, folder, len(data), unpack)
        return replace(_merge(scene.parts()), files=scene.files)
    except _MALFORMED as error:
        raise _malformed(error) from None


def packed_by(data: bytes) -> str | None:
    """Return what the geometry is packed by, ``draco`` or ``meshopt``, where it is not there unpacked, too."""
    try:
        required = _split(data)[0].get("extensionsRequired", [])
        return "draco" if _DRACO in required else "meshopt" if any(name in required for name in _MESHOPT) else None
    except (ScanError, *_MALFORMED):
        return None


def node_positions(data: bytes) -> dict[str, NDArray[np.float64]]:
    """Read where the named nodes of the default scene are: the joints of a rigged model, in the pose it is read in.

    Args:
        data: The file's content.

    Returns:
        World position (3,) by node name.

    Raises:
        ScanError: a malformed or truncated file.
    """
    try:
        document, binary = _split(data)
        Ts_world_node = _Scene(document, binary, None, len(data)).world_transforms()
        names = {index: document["nodes"][index].get("name") for index in Ts_world_node}
        return {name: Ts_world_node[index][:3, 3] for index, name in names.items() if isinstance(name, str)}
    except _MALFORMED as error:
        raise _malformed(error) from None


def _malformed(error: Exception) -> ScanError:
    reason = f"{type(error).__name__}: {error}".splitlines()[0][:80]
    return ScanError(f"the glTF structure is malformed ({reason}); export it again")


def _split(data: bytes) -> tuple[dict[str, Any], bytes]:
    """Return the JSON document, and the binary part of a glb."""
    if not data.startswith(b"glTF"):
        return parse_json(data), b""
    if len(data) < 20 or int.from_bytes(data[4:8], "little") != 2:
        raise ScanError("expected a glTF 2 header, got another version or a truncated file; export it again as glTF 2")
    length, kind = int.from_bytes(data[12:16], "little"), int.from_bytes(data[16:20], "little")
    if kind != _JSON_CHUNK or 20 + length > len(data):
        raise ScanError("its JSON part ends early; the file is truncated, copy or export it again")
    start = 20 + length + 8
    size = int.from_bytes(data[start - 8 : start - 4], "little")
    if start + size > len(data) and size:
        raise ScanError("its binary part ends early; the file is truncated, copy or export it again")
    return parse_json(data[20 : 20 + length]), data[start : start + size]


class _Scene:
    """One document with its buffers.

    Nodes may show one mesh, and meshes one accessor, as often as they like: all that is read is counted, each time.
    """

    def __init__(
        self, document: dict[str, Any], binary: bytes, folder: Path | None, num_bytes: int, unpack: bool = False
    ) -> None:
        self._document = document
        self._binary = binary
        self._folder = folder
        self.files: FileHashes = {}
        self._buffers: dict[str, bytes] = {}
        self._skins: dict[int, NDArray[np.float64]] = {}
        self._num_bytes = num_bytes
        self._unpack = unpack
        self._unpacked: dict[int, bytes] = {}
        self._num_numbers = self._num_points = self._num_faces = 0

    def parts(self) -> list[_Part]:
        """Return every primitive of every node of the default scene."""
        Ts_world_node = self.world_transforms()
        parts: list[_Part] = []
        for index, T_world_node in Ts_world_node.items():
            node = self._document["nodes"][index]
            if "mesh" not in node:
                continue
            for primitive in self._document["meshes"][node["mesh"]]["primitives"]:
                part = self._part(primitive, self._skin_transforms(node, Ts_world_node), T_world_node)
                parts += [part] if part else []
        return parts

    def world_transforms(self) -> dict[int, NDArray[np.float64]]:
        """Return the transform to the world (4, 4) of every node of the default scene, by the node's number."""
        nodes = self._document.get("nodes", [])
        check_rows("nodes", len(nodes), 0, 0, _MAX_NODES)
        scenes = self._document.get("scenes", [])
        children = {child for node in nodes for child in node.get("children", [])}
        roots = [i for i in range(len(nodes)) if i not in children]
        if scenes:
            roots = scenes[self._document.get("scene", 0)].get("nodes", [])
        out: dict[int, NDArray[np.float64]] = {}
        stack = [(root, np.eye(4)) for root in roots]
        while stack:
            index, T_world_parent = stack.pop()
            if index in out or not 0 <= index < len(nodes):
                raise ValueError(f"node {index} is met twice or missing")
            out[index] = T_world_parent @ _local_transform(nodes[index])
            stack += [(child, out[index]) for child in nodes[index].get("children", [])]
        return out

    def _skin_transforms(
        self, node: dict[str, Any], Ts_world_node: dict[int, NDArray[np.float64]]
    ) -> NDArray[np.float64] | None:
        """Return one transform per joint from the bind pose to the world, (J, 4, 4)."""
        if "skin" not in node:
            return None
        if node["skin"] not in self._skins:
            self._skins[node["skin"]] = self._load_skin(self._document["skins"][node["skin"]], Ts_world_node)
        return self._skins[node["skin"]]

    def _load_skin(self, skin: dict[str, Any], Ts_world_node: dict[int, NDArray[np.float64]]) -> NDArray[np.float64]:
        Ts_world_joint = np.stack([Ts_world_node.get(j, np.eye(4)) for j in skin["joints"]])
        if "inverseBindMatrices" not in skin:
            return Ts_world_joint
        # Matrices are stored column by column.
        inverse_bind = self._accessor(skin["inverseBindMatrices"]).reshape(-1, 4, 4).transpose(0, 2, 1)
        return Ts_world_joint @ inverse_bind[: len(Ts_world_joint)]

    def _part(
        self, primitive: dict[str, Any], Ts_world_bind: NDArray[np.float64] | None, T_world_node: NDArray[np.float64]
    ) -> _Part | None:
        attributes = primitive["attributes"]
        mode = primitive.get("mode", _TRIANGLES)
        if "POSITION" not in attributes or mode not in (_POINTS, _TRIANGLES, _STRIP, _FAN):
            return None
        draco = self._unpack and primitive.get("extensions", {}).get(_DRACO)
        if draco:
            primitive = self._without_draco(primitive, draco)
            attributes = primitive["attributes"]
        positions = self._accessor(attributes["POSITION"], 3)
        faces = self._faces(primitive, mode, len(positions))
        self._num_points, self._num_faces = self._num_points + len(positions), self._num_faces + len(faces)
        check_rows("points", self._num_points, 0, 0)
        check_rows("faces", self._num_faces, 0, 0)
        transforms = T_world_node[None]
        if Ts_world_bind is not None and "JOINTS_0" in attributes:
            transforms = self._blend(attributes, Ts_world_bind, len(positions))
        normals = self._accessor(attributes["NORMAL"], 3) if "NORMAL" in attributes else None
        colors = self._accessor(attributes["COLOR_0"]) if "COLOR_0" in attributes else None
        return _Part(
            np.einsum("pij,pj->pi", transforms[:, :3, :3], positions, optimize=True) + transforms[:, :3, 3],
            faces,
            None if normals is None else _turn_normals(transforms, normals),
            None if colors is None else to_colors(colors),
        )

    def _without_draco(self, primitive: dict[str, Any], draco: dict[str, Any]) -> dict[str, Any]:
        """Return a primitive whose accessors are of unpacked values."""
        view = self._document["bufferViews"][draco["bufferView"]]
        start = int(view.get("byteOffset", 0))
        data = self._buffer(view["buffer"])[start : start + int(view["byteLength"])]
        values, faces = packed.draco(data, {str(name): int(number) for name, number in draco["attributes"].items()})
        found = dict(primitive["attributes"])
        for name, table in values.items():
            accessor = self._document["accessors"][found[name]]
            dtype = np.dtype(_COMPONENTS[accessor["componentType"]])
            found[name] = self._add(table.astype(dtype).tobytes(), accessor | {"count": len(table)})
        count = {"count": faces.size, "type": "SCALAR", "componentType": 5125}
        return {**primitive, "attributes": found, "indices": self._add(faces.astype("<u4").tobytes(), count)}

    def _add(self, data: bytes, accessor: dict[str, Any]) -> int:
        """Return the number of a new accessor of unpacked data."""
        views, accessors = self._document["bufferViews"], self._document["accessors"]
        self._unpacked[len(views)] = data
        self._num_bytes += len(data)
        check_rows("bytes", self._num_bytes, 0, 0, _MAX_BUFFER_BYTES)
        accessors.append(accessor | {"bufferView": len(views), "byteOffset": 0})
        views.append({"byteLength": len(data)})
        return len(accessors) - 1

    def _view_bytes(self, index: int, view: dict[str, Any]) -> bytes:
        """Return the buffer of a view, or what it is unpacked."""
        if index in self._unpacked:
            return self._unpacked[index]
        extensions = view.get("extensions", {})
        about = next((extensions[name] for name in _MESHOPT if name in extensions), None) if self._unpack else None
        if about is None:
            return self._buffer(view["buffer"])
        start, count, stride = int(about.get("byteOffset", 0)), int(about["count"]), int(about["byteStride"])
        check_rows("bytes", count * stride, 0, 0, _MAX_BUFFER_BYTES)
        data = self._buffer(about["buffer"])[start : start + int(about["byteLength"])]
        # Where it begins in the buffer that would have been there unpacked no longer counts.
        view["byteOffset"] = 0
        if about["mode"] == "ATTRIBUTES":
            view.setdefault("byteStride", stride)
        self._unpacked[index] = packed.meshopt(data, count, stride, about["mode"], about.get("filter", "NONE"))
        self._num_bytes += len(self._unpacked[index])
        return self._unpacked[index]

    def _blend(self, attributes: dict[str, Any], Ts_world_bind: NDArray[np.float64], count: int) -> NDArray[np.float64]:
        """Blend the joints' transforms by the weights of each point, (P, 4, 4); sets of four, numbered."""
        out, total = np.zeros((count, 4, 4)), np.zeros((count, 1, 1))
        for number in itertools.takewhile(lambda k: f"JOINTS_{k}" in attributes, itertools.count()):
            joints = self._accessor(attributes[f"JOINTS_{number}"], 4).astype(np.int64)[:count]
            weights = self._accessor(attributes[f"WEIGHTS_{number}"], 4)[:count]
            for k in range(4):
                out += weights[:, k, None, None] * Ts_world_bind[joints[:, k]]
            total += weights.sum(1)[:, None, None]
        blended: NDArray[np.float64] = out / np.where(total > 0, total, 1)
        return blended

    def _faces(self, primitive: dict[str, Any], mode: int, count: int) -> NDArray[np.int64]:
        indices = np.arange(count)
        if "indices" in primitive:
            indices = self._accessor(primitive["indices"], 1).astype(np.int64).ravel()
        if mode == _POINTS:
            indices = indices[:0]
        if mode == _STRIP:
            return strip(indices)
        if mode == _FAN and len(indices) >= 3:
            return np.stack([np.full(len(indices) - 2, indices[0]), indices[1:-1], indices[2:]], axis=1)
        return indices[: len(indices) // 3 * 3].reshape(-1, 3)

    def _accessor(self, index: int, width: int | None = None) -> NDArray[np.float64]:
        """Return an accessor's values as floats, (count, width); normalised integers become fractions."""
        accessor = self._document["accessors"][index]
        dtype = np.dtype(_COMPONENTS[accessor["componentType"]])
        columns = _WIDTHS[accessor["type"]]
        if width not in (None, columns):
            raise ValueError(f"accessor {index} is {accessor['type']}")
        count = int(accessor["count"])
        self._count_numbers(_NUMBERS_PER_READING)
        values = np.zeros((0, columns), dtype)
        if "bufferView" in accessor:
            values = self._view(accessor["bufferView"], int(accessor.get("byteOffset", 0)), dtype, columns, count)
        if "sparse" in accessor:
            values = self._apply_sparse(accessor["sparse"], values, dtype, columns, count)
        if len(values) != count:
            raise ValueError(f"accessor {index} has no data")
        if accessor.get("normalized") and dtype.kind != "f":
            return np.maximum(values / float(np.iinfo(dtype).max), -1.0)
        return values.astype(np.float64)

    def _apply_sparse(
        self, sparse: dict[str, Any], values: NDArray[Any], dtype: np.dtype[Any], columns: int, count: int
    ) -> NDArray[Any]:
        changed, where, what = int(sparse["count"]), sparse["indices"], sparse["values"]
        index_dtype = np.dtype(_COMPONENTS[where["componentType"]])
        rows = self._view(where["bufferView"], int(where.get("byteOffset", 0)), index_dtype, 1, changed)[:, 0]
        if not len(values):
            self._count_numbers(count * columns)
            values = np.zeros((count, columns), dtype)
        values = values.copy()
        values[rows] = self._view(what["bufferView"], int(what.get("byteOffset", 0)), dtype, columns, changed)
        return values

    def _view(self, index: int, offset: int, dtype: np.dtype[Any], columns: int, count: int) -> NDArray[Any]:
        view = self._document["bufferViews"][index]
        buffer = self._view_bytes(index, view)
        start = int(view.get("byteOffset", 0)) + offset
        row_bytes = dtype.itemsize * columns
        stride = int(view.get("byteStride", row_bytes))
        if min(start, count, offset) < 0 or stride < row_bytes:
            raise ValueError("negative offset or count")
        check_rows("values", count, stride, len(buffer) - start + stride - row_bytes, 4 * MAX_ROWS)
        self._count_numbers(count * columns)
        if not count:
            return np.zeros((0, columns), dtype)
        strides = (stride, dtype.itemsize)
        return np.ndarray((count, columns), dtype, buffer, start, strides).copy()

    def _count_numbers(self, count: int) -> None:
        """Count what is read before it is."""
        self._num_numbers += count
        if self._num_numbers > max(_SMALL_NUMBERS, _NUMBERS_PER_BYTE * self._num_bytes):
            raise ScanError(
                f"its scene asks for {self._num_numbers} numbers or more, from {self._num_bytes} bytes: it shows its "
                "meshes too often, or is damaged; export what is to be registered once"
            )

    def _buffer(self, index: int) -> bytes:
        uri = self._document["buffers"][index].get("uri")
        if uri is None:
            return self._binary
        if uri not in self._buffers:
            self._buffers[uri] = self._load_buffer(uri)
            self._num_bytes += len(self._buffers[uri])
            check_rows("bytes", self._num_bytes, 0, 0, _MAX_BUFFER_BYTES)
        return self._buffers[uri]

    def _load_buffer(self, uri: str) -> bytes:
        if uri.startswith("data:"):
            try:
                return base64.b64decode(uri.partition(",")[2], validate=True)
            except binascii.Error:
                raise ScanError("its embedded data are damaged; export it again") from None
        # Percent-encoded, but some exporters write names plainly: then "?" and "#", too, are part of them.
        names = list(dict.fromkeys((unquote(uri), uri)))
        if self._folder is None or _SCHEME.match(uri) or any(leads_outside(name) for name in names):
            raise ScanError(f"its data are in {uri[:60]!r}, outside its own folder; export it as a single .glb file")
        path = next((self._folder / name for name in names if os.path.exists(self._folder / name)), None)
        if path is None:
            raise ScanError(f"its data file {uri[:60]!r} is missing; copy it along, or export a single .glb file")
        try:
            content = read_bytes(path, _MAX_BUFFER_BYTES)
        except OSError as error:
            raise ScanError(f"its data file {uri[:60]!r} cannot be read ({error}); export a single .glb file") from None
        self.files[path.relative_to(self._folder).as_posix()] = hashlib.sha256(content).hexdigest()
        return content


_SCHEME = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*:")


def _local_transform(node: dict[str, Any]) -> NDArray[np.float64]:
    """Return the node's matrix, or translation @ rotation (quaternion x y z w) @ scale."""
    if "matrix" in node:
        return np.array(node["matrix"], np.float64).reshape(4, 4).T
    out = np.eye(4)
    x, y, z, w = np.array(node.get("rotation", [0, 0, 0, 1]), np.float64)
    rotation = np.array([
        [1 - 2 * (y * y + z * z), 2 * (x * y - z * w), 2 * (x * z + y * w)],
        [2 * (x * y + z * w), 1 - 2 * (x * x + z * z), 2 * (y * z - x * w)],
        [2 * (x * z - y * w), 2 * (y * z + x * w), 1 - 2 * (x * x + y * y)],
    ])  # fmt: skip
    out[:3, :3] = rotation * np.array(node.get("scale", [1, 1, 1]), np.float64)
    out[:3, 3] = node.get("translation", [0, 0, 0])
    return out


def _turn_normals(transforms: NDArray[np.float64], normals: NDArray[np.float64]) -> NDArray[np.float64]:
    """Turn normals by the cofactor matrix: right for uneven scales, and needs no inverse."""
    m = transforms[:, :3, :3]
    cofactor = np.cross(m[:, [1, 2, 0]], m[:, [2, 0, 1]])
    turned: NDArray[np.float64] = np.einsum("pij,pj->pi", cofactor, normals, optimize=True)
    return turned


def _merge(parts: list[_Part]) -> RawScan:
    if not parts:
        raise ScanError("expected meshes in the scene, got none; the file holds no geometry")
    offsets = np.cumsum([0] + [len(part.points) for part in parts])
    points = np.concatenate([part.points for part in parts])
    faces = np.concatenate([part.faces + offset for part, offset in zip(parts, offsets, strict=False)])
    for part in parts:
        checked_faces(part.faces, len(part.points))
    normals = [part.normals for part in parts if part.normals is not None]
    colors = [part.colors for part in parts if part.colors is not None]
    return RawScan(
        points,
        checked_faces(faces, len(points)),
        np.concatenate(normals) if len(normals) == len(parts) and sum(map(len, normals)) == len(points) else None,
        np.concatenate(colors) if len(colors) == len(parts) and sum(map(len, colors)) == len(points) else None,
    )
