"""Small valid files of formats that libraries of others read, and depth images, made in code: for fuzzer and tests."""

import io
import json
import struct
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

Points, Faces = NDArray[np.float64], NDArray[np.int64]
CAMERA = {"width": 64, "height": 96, "fx": 90.0, "fy": 90.0, "cx": 31.5, "cy": 47.5}


def written(write: Callable[[str], object], suffix: str) -> bytes:
    """Return what is written to a path in an empty folder."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, f"file.{suffix}")
        write(str(path))
        return path.read_bytes()


def las(points: Points, packed: bool = False) -> bytes:
    """Return a LAS or LAZ file with colours, in steps of a tenth of a millimetre, by laspy."""
    import laspy

    header = laspy.LasHeader(point_format=3, version="1.2")
    header.offsets, header.scales = points.mean(0).round(), [1e-4] * 3
    file = laspy.LasData(header)
    file.x, file.y, file.z = points.T
    file.red, file.green, file.blue = np.full((3, len(points)), 300 * 200)
    return written(file.write, "laz" if packed else "las")


def e57(points: Points, rotation: NDArray[np.float64], translation: NDArray[np.float64]) -> bytes:
    """Return an E57 file of two scans with colours, by pye57; the second stands elsewhere (w x y z, metres)."""
    import pye57

    columns = dict(zip(("cartesianX", "cartesianY", "cartesianZ"), points.T.copy(), strict=True))
    colours = {f"color{name}": np.full(len(points), 7, np.uint8) for name in ("Red", "Green", "Blue")}

    def write(path: str) -> None:
        file = pye57.E57(path, mode="w")
        file.write_scan_raw(columns | colours)
        file.write_scan_raw(columns | colours, rotation=rotation, translation=translation)
        file.close()

    return written(write, "e57")


def collada(points: Points, faces: Faces) -> bytes:
    """Return a COLLADA scene, moved by 1, 2, 3."""
    rows = " ".join(map(str, points.ravel())), " ".join(map(str, faces.ravel()))
    return _COLLADA.format(*rows, len(points), points.size, len(faces)).encode()


_COLLADA = """<?xml version="1.0"?><COLLADA xmlns="http://www.collada.org/2005/11/COLLADASchema" version="1.4.1"><asset>
<unit name="metre" meter="1"/><up_axis>Y_UP</up_axis></asset><library_geometries><geometry id="g"><mesh><source id="p">
<float_array id="a" count="{3}">{0}</float_array><technique_common><accessor source="#a" count="{2}" stride="3">
<param name="X" type="float"/><param name="Y" type="float"/><param name="Z" type="float"/></accessor></technique_common>
</source><vertices id="v"><input semantic="POSITION" source="#p"/></vertices><triangles count="{4}">
<input semantic="VERTEX" source="#v" offset="0"/><p>{1}</p></triangles></mesh></geometry></library_geometries>
<library_visual_scenes><visual_scene id="s"><node id="n"><translate>1 2 3</translate><instance_geometry url="#g"/>
</node></visual_scene></library_visual_scenes><scene><instance_visual_scene url="#s"/></scene></COLLADA>"""


def fbx(points: Points, faces: Faces) -> bytes:
    """Return an FBX scene in text, moved by 1, 2, 3."""
    corners = faces.copy()
    corners[:, 2] = -corners[:, 2] - 1  # which ends a polygon
    lists = ",".join(map(str, points.ravel())), ",".join(map(str, corners.ravel()))
    return _FBX.format(*lists, points.size, faces.size).encode()


_FBX = """; FBX 7.4.0 project file
FBXHeaderExtension:  {{
\tFBXHeaderVersion: 1003
\tFBXVersion: 7400
}}
Objects:  {{
\tGeometry: 1, "Geometry::g", "Mesh" {{
\t\tVertices: *{2} {{
\t\t\ta: {0}
\t\t}}
\t\tPolygonVertexIndex: *{3} {{
\t\t\ta: {1}
\t\t}}
\t\tGeometryVersion: 124
\t}}
\tModel: 2, "Model::m", "Mesh" {{
\t\tVersion: 232
\t\tProperties70:  {{
\t\t\tP: "Lcl Translation", "Lcl Translation", "", "A",1,2,3
\t\t}}
\t}}
}}
Connections:  {{
\tC: "OO",1,2
\tC: "OO",2,0
}}
"""


def three_ds(points: Points, faces: Faces) -> bytes:
    """Return a 3DS scene of one object."""

    def chunk(number: int, *parts: bytes) -> bytes:
        content = b"".join(parts)
        return struct.pack("<HI", number, 6 + len(content)) + content

    corners = np.c_[faces, np.full(len(faces), 7)].astype("<u2").tobytes()
    lists = struct.pack("<H", len(points)) + points.astype("<f4").tobytes(), struct.pack("<H", len(faces)) + corners
    mesh = chunk(0x4000, b"ball\0", chunk(0x4100, chunk(0x4110, lists[0]), chunk(0x4120, lists[1])))
    return chunk(0x4D4D, chunk(0x0002, struct.pack("<I", 3)), chunk(0x3D3D, chunk(0x3D3E, struct.pack("<I", 3)), mesh))


def usd(points: Points, faces: Faces, suffix: str) -> bytes:
    """Return a USD scene, moved by 1, 2, 3, as usda, usdc or usdz, by usd-core."""
    from pxr import Usd, UsdGeom, UsdUtils

    def write(path: str) -> None:
        text = str(Path(path).with_name("scene.usda"))
        stage = Usd.Stage.CreateNew(text)
        UsdGeom.Xform.Define(stage, "/at").AddTranslateOp().Set((1, 2, 3))
        mesh = UsdGeom.Mesh.Define(stage, "/at/ball")
        mesh.CreatePointsAttr(points.tolist())
        mesh.CreateFaceVertexIndicesAttr(faces.ravel().tolist())
        mesh.CreateFaceVertexCountsAttr([3] * len(faces))
        stage.Save()
        if suffix == "usdz":
            UsdUtils.CreateNewUsdzPackage(text, path)
        else:
            stage.Export(path)

    return written(write, suffix)


def glb(document: dict[str, Any], binary: bytes) -> bytes:
    """Return a glb of one node that shows one mesh."""
    text = json.dumps({"asset": {"version": "2.0"}, "scenes": [{"nodes": [0]}], "nodes": [{"mesh": 0}], **document})
    words, binary = text.encode() + b" " * (-len(text) % 4), binary + bytes(-len(binary) % 4)
    head = b"glTF" + struct.pack("<II", 2, 28 + len(words) + len(binary)) + struct.pack("<II", len(words), 0x4E4F534A)
    return head + words + struct.pack("<II", len(binary), 0x004E4942) + binary


def _packed(required: str, num_points: int, num_corners: int, primitive: dict[str, Any], **more: Any) -> dict[str, Any]:
    accessors: list[dict[str, Any]] = [
        {"componentType": 5126, "count": num_points, "type": "VEC3"},
        {"componentType": 5125, "count": num_corners, "type": "SCALAR"},
    ]
    mesh = {"primitives": [{"attributes": {"POSITION": 0}, "indices": 1, **primitive}]}
    return {"extensionsRequired": [required], "meshes": [mesh], "accessors": accessors, **more}


def draco_glb(points: Points, faces: Faces) -> bytes:
    """Return a glb packed by Draco, by DracoPy."""
    import DracoPy

    data = DracoPy.encode(points.astype(np.float32), faces.astype(np.uint32), quantization_bits=16)
    number = DracoPy.decode(data).attributes[0]["unique_id"]
    named = {"KHR_draco_mesh_compression": {"bufferView": 0, "attributes": {"POSITION": number}}}
    more = {"bufferViews": [{"buffer": 0, "byteLength": len(data)}], "buffers": [{"byteLength": len(data)}]}
    return glb(_packed("KHR_draco_mesh_compression", len(points), faces.size, {"extensions": named}, **more), data)


def meshopt_glb(points: Points, faces: Faces, index_bytes: int = 4) -> bytes:
    """Return a glb packed by meshopt, by the package of that name."""
    import meshopt

    single = points.astype(np.float32)
    parts = [meshopt.encode_gltf_buffer(single, "ATTRIBUTES")]
    parts += [meshopt.encode_gltf_buffer(faces.astype(np.uint32).ravel(), "TRIANGLES")]
    views, binary = list[dict[str, Any]](), b""
    kinds = (("ATTRIBUTES", len(single), 12), ("TRIANGLES", faces.size, index_bytes))
    for part, (mode, count, stride) in zip(parts, kinds, strict=True):
        about = {"buffer": 0, "byteOffset": len(binary), "byteLength": len(part), "count": count, "byteStride": stride}
        own = {"EXT_meshopt_compression": {**about, "mode": mode}}
        views.append({"buffer": 1, "byteOffset": 999, "byteLength": count * stride, "extensions": own})
        binary += part + bytes(-len(part) % 4)
    more = {"bufferViews": views, "buffers": [{"byteLength": len(binary)}, {"byteLength": 9999}]}
    document = _packed("EXT_meshopt_compression", len(points), faces.size, {}, **more)
    for number, accessor in enumerate(document["accessors"]):
        accessor["bufferView"] = number
    document["accessors"][1]["componentType"] = 5125 if index_bytes == 4 else 5123
    return glb(document, binary)


def exr(depth: NDArray[np.float32]) -> bytes:
    """Return an EXR image with depths and a channel of others, by OpenEXR."""
    import OpenEXR

    header = {"compression": OpenEXR.ZIP_COMPRESSION, "type": OpenEXR.scanlineimage}
    return written(lambda path: OpenEXR.File(header, {"Z": depth, "R": 0 * depth}).write(path), "exr")


def depth_of_ball() -> NDArray[np.uint16]:
    """Return what ``CAMERA`` sees of an ellipsoid 2 m away, millimetres; 0 beside it."""
    rows, columns = np.mgrid[: CAMERA["height"], : CAMERA["width"]]
    x, y = (columns - CAMERA["cx"]) / CAMERA["fx"] / 0.3, (rows - CAMERA["cy"]) / CAMERA["fy"] / 0.45
    bulge = np.clip(1 - x**2 - y**2, 0, None) ** 0.5
    return np.where(bulge > 0, 2000 - 200 * bulge, 0).astype(np.uint16)


def png(depth: NDArray[np.uint16]) -> bytes:
    """Return a PNG of 16 bits of grey."""
    stream = io.BytesIO()
    Image.fromarray(depth).save(stream, "PNG")
    return stream.getvalue()
