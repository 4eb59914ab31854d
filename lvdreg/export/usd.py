"""A rigged model as USD (UsdSkel): skeleton, skin weights, blend shapes, and the pose as an animation of one frame."""

from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float
from PIL import Image
from scipy.spatial.transform import Rotation

from lvdreg.base.errors import UsageError
from lvdreg.export.figure import Figure
from lvdreg.export.rigged import weight_sets
from lvdreg.result.sheet import BODY_COLOUR

ROOT = "/Figure"


def check_usd() -> None:
    """Say what is missing where USD cannot be written.

    Raises:
        UsageError: the package is not installed.
    """
    try:
        import pxr  # noqa: F401
    except ImportError:
        raise UsageError("--to usd: needs the package usd-core, which is not installed; pip install usd-core") from None


def write_usd(path: Path, figure: Figure, about: str) -> list[Path]:
    """Write the figure as it is written as glTF; joints are named by their path, as UsdSkel wants.

    Returns:
        The files written: with a picture, that lies beside.
    """
    check_usd()
    from pxr import Gf, Usd, UsdGeom, UsdSkel, Vt

    stage = Usd.Stage.CreateInMemory()
    UsdGeom.SetStageUpAxis(stage, UsdGeom.Tokens.y)
    UsdGeom.SetStageMetersPerUnit(stage, 1.0)
    stage.GetRootLayer().comment = f"{about}: {figure.name}"
    stage.SetDefaultPrim(UsdSkel.Root.Define(stage, ROOT).GetPrim())
    skeleton = UsdSkel.Skeleton.Define(stage, f"{ROOT}/Skeleton")
    names = joint_paths(figure)
    bind, rest = (np.tile(np.eye(4), (len(names), 1, 1)) for _ in range(2))
    bind[:, 3, :3], rest[:, 3, :3] = figure.joints, figure.offsets  # USD's matrices act on rows
    skeleton.CreateJointsAttr(names)
    skeleton.CreateBindTransformsAttr(Vt.Matrix4dArray.FromNumpy(bind))
    skeleton.CreateRestTransformsAttr(Vt.Matrix4dArray.FromNumpy(rest))
    animation = UsdSkel.Animation.Define(stage, f"{ROOT}/Pose")
    animation.CreateJointsAttr(names)
    animation.CreateTranslationsAttr(_vectors(figure.offsets))
    turns = Rotation.from_matrix(figure.rotations).as_quat().tolist()
    animation.CreateRotationsAttr([Gf.Quatf(w, x, y, z) for x, y, z, w in turns])
    animation.CreateScalesAttr([Gf.Vec3h(1, 1, 1)] * len(names))
    UsdSkel.BindingAPI.Apply(skeleton.GetPrim()).CreateAnimationSourceRel().SetTargets([animation.GetPath()])
    mesh = UsdGeom.Mesh.Define(stage, f"{ROOT}/Mesh")
    _fill_mesh(mesh, figure)
    _bind(stage, mesh, skeleton, animation, figure)
    files = [path, *_paint(stage, mesh, figure, path)]
    stage.GetRootLayer().Export(str(path))
    return files


def joint_paths(figure: Figure) -> list[str]:
    """Return each joint's name behind those of the joints above it; what no name of a USD prim has becomes ``_``."""
    paths: list[str] = []
    for name, parent in zip(figure.bones, figure.parents.tolist(), strict=True):
        own = name.replace(":", "_")
        paths.append(own if parent < 0 else f"{paths[parent]}/{own}")
    return paths


def _vectors(rows: Float[np.ndarray, "N 3"]) -> Any:
    from pxr import Vt

    return Vt.Vec3fArray.FromNumpy(np.ascontiguousarray(rows, np.float32))


def _fill_mesh(mesh: Any, figure: Figure) -> None:
    from pxr import Sdf, UsdGeom, Vt

    mesh.CreatePointsAttr(_vectors(figure.rest))
    mesh.CreateFaceVertexCountsAttr([3] * len(figure.faces))
    mesh.CreateFaceVertexIndicesAttr(Vt.IntArray.FromNumpy(figure.faces.astype(np.int32).ravel()))
    mesh.CreateSubdivisionSchemeAttr(UsdGeom.Tokens.none)
    mesh.CreateExtentAttr(_vectors(np.stack([figure.rest.min(0), figure.rest.max(0)])))
    if figure.layout is not None:
        layout = UsdGeom.PrimvarsAPI(mesh).CreatePrimvar(
            "st", Sdf.ValueTypeNames.TexCoord2fArray, UsdGeom.Tokens.faceVarying
        )
        layout.Set(Vt.Vec2fArray.FromNumpy(figure.layout.uv.astype(np.float32)))
        layout.SetIndices(Vt.IntArray.FromNumpy(figure.layout.corners.astype(np.int32).ravel()))


def _bind(stage: Any, mesh: Any, skeleton: Any, animation: Any, figure: Figure) -> None:
    """Bind the mesh to the skeleton, with the shape parameters and what the pose adds as blend shapes."""
    from pxr import Gf, UsdSkel, Vt

    binding = UsdSkel.BindingAPI.Apply(mesh.GetPrim())
    binding.CreateSkeletonRel().SetTargets([skeleton.GetPath()])
    joints, weights = (np.concatenate(part, 1) for part in zip(*weight_sets(figure.weights), strict=True))
    indices, shares = joints.astype(np.int32).ravel(), weights.astype(np.float32).ravel()
    binding.CreateJointIndicesPrimvar(False, joints.shape[1]).Set(Vt.IntArray.FromNumpy(indices))
    binding.CreateJointWeightsPrimvar(False, joints.shape[1]).Set(Vt.FloatArray.FromNumpy(shares))
    binding.CreateGeomBindTransformAttr(Gf.Matrix4d(1))
    morphs = figure.named_morphs()
    if morphs:
        shapes = [UsdSkel.BlendShape.Define(stage, f"{ROOT}/Mesh/{name}") for name in morphs]
        for shape, (moves, _) in zip(shapes, morphs.values(), strict=True):
            shape.CreateOffsetsAttr(_vectors(moves))
        binding.CreateBlendShapesAttr([*morphs])
        binding.CreateBlendShapeTargetsRel().SetTargets([shape.GetPath() for shape in shapes])
        animation.CreateBlendShapesAttr([*morphs])
        animation.CreateBlendShapeWeightsAttr([weight for _, weight in morphs.values()])


def _paint(stage: Any, mesh: Any, figure: Figure, path: Path) -> list[Path]:
    """Give the mesh its colours; returns the picture that was written for it."""
    from pxr import Sdf, UsdGeom, UsdShade

    paint = figure.paint
    if paint is None or paint.image is None:
        colours = BODY_COLOUR[None] if paint is None else paint.colours / 255.0
        kind = UsdGeom.Tokens.constant if paint is None else UsdGeom.Tokens.vertex
        mesh.CreateDisplayColorPrimvar(kind).Set(_vectors(colours**2.2))
        return []
    picture = path.with_suffix(".png")
    Image.fromarray(paint.image).save(picture)
    material = UsdShade.Material.Define(stage, f"{ROOT}/Material")
    surface, reader, texture = (
        UsdShade.Shader.Define(stage, f"{ROOT}/Material/{name}") for name in ("Surface", "Reader", "Texture")
    )
    reader.CreateIdAttr("UsdPrimvarReader_float2")
    reader.CreateInput("varname", Sdf.ValueTypeNames.String).Set("st")
    texture.CreateIdAttr("UsdUVTexture")
    texture.CreateInput("file", Sdf.ValueTypeNames.Asset).Set(f"./{picture.name}")
    texture.CreateInput("st", Sdf.ValueTypeNames.Float2).ConnectToSource(
        reader.CreateOutput("result", Sdf.ValueTypeNames.Float2)
    )
    surface.CreateIdAttr("UsdPreviewSurface")
    surface.CreateInput("roughness", Sdf.ValueTypeNames.Float).Set(0.9)
    surface.CreateInput("diffuseColor", Sdf.ValueTypeNames.Color3f).ConnectToSource(
        texture.CreateOutput("rgb", Sdf.ValueTypeNames.Float3)
    )
    material.CreateSurfaceOutput().ConnectToSource(surface.CreateOutput("surface", Sdf.ValueTypeNames.Token))
    UsdShade.MaterialBindingAPI.Apply(mesh.GetPrim()).Bind(material)
    return [picture]
