"""Make a model of any mesh of a person or a hand: what ``lvdreg models add template.ply`` does."""

from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from lvdreg.base.errors import BodyError, RegistrationError, ScanError
from lvdreg.body.catalogue import load_body
from lvdreg.body.licensed import LicensedModel
from lvdreg.body.model import mirror_image
from lvdreg.body.rigless import MeshTemplate, rigged_like
from lvdreg.body.smplx_names import params_from_named
from lvdreg.body.transfer import Correspondence
from lvdreg.geometry.frames import transform_points
from lvdreg.geometry.mesh import flipped
from lvdreg.pipeline.scan import register, register_hand
from lvdreg.scan.model import Scan, read_scan
from lvdreg.scan.textured import read_pictured


def rig_mesh(path: Path, name: str, *, is_hand: bool = False) -> tuple[LicensedModel, Correspondence]:
    """Register the free model to a mesh and give it that one's rig; its vertices keep their order.

    Args:
        path: A mesh of a whole person, or of a hand up to the wrist, in any pose and unit.
        name: What the model will be called.
        is_hand: Whether it is a hand.

    Raises:
        BodyError: it is no mesh, or shows nobody.
    """
    source = load_body("anny-hand" if is_hand else "anny")
    try:
        mesh = read_scan(path)
    except ScanError as error:
        raise BodyError(str(error)) from error
    try:
        if mesh.faces is None or not np.isfinite(mesh.points).all():
            raise BodyError(f"{path.name}: expected a mesh of a person or a hand, got points without faces")
        result = register_hand(mesh, model="anny-hand+d") if is_hand else register(mesh, model="anny+d")
        is_left = result.side == "left"
        if is_left:
            mesh = _mirrored(mesh)
            result = register_hand(mesh, model="anny-hand+d", side="right")
    except (RegistrationError, ScanError) as error:
        raise BodyError(f"{path.name}: the free model could not be registered to it: {error}") from error
    if result.verdict == "failed" or mesh.faces is None:
        raise BodyError(f"{path.name}: the free model could not be registered to it: {result.reason}")
    points = transform_points(np.linalg.inv(result.T_scan_model).astype(np.float64), mesh.points)
    vt, ft = _layout(path, mesh) if not is_left else (None, None)
    template = MeshTemplate(name, points, mesh.faces, vt, ft)
    data, found = rigged_like(template, source, params_from_named(source, result.params))
    side = ("left" if is_left else "right") if is_hand else None
    return LicensedModel("hand-mesh" if is_hand else "mesh", side, mirror_image(data) if is_left else data), found


def _mirrored(mesh: Scan) -> Scan:
    faces = None if mesh.faces is None else np.ascontiguousarray(flipped(mesh.faces))
    return replace(mesh, points=mesh.points * [-1.0, 1.0, 1.0], faces=faces, normals=None)


def _layout(path: Path, mesh: Scan) -> tuple[NDArray[np.float64] | None, NDArray[np.int64] | None]:
    """Return the UV layout of a mesh that has a picture, if two readers agree on its faces."""
    pictured = read_pictured(path)
    if pictured is None or mesh.faces is None or pictured.faces.shape != mesh.faces.shape:
        return None, None
    same = np.allclose(pictured.points[pictured.faces], mesh.points[mesh.faces], rtol=1e-5, atol=1e-6)
    return (pictured.uv, pictured.faces) if same else (None, None)
