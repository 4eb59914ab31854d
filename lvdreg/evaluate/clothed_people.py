"""Clothed people whose naked bodies are known, in the layouts of data sets that users bring: CAPE and 4D-Dress."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch

from lvdreg.base.arrays import expect, read_npy
from lvdreg.base.errors import ScanError
from lvdreg.base.files import open_plain, plain_size
from lvdreg.base.shapes import Faces, FloatArray, Vertices
from lvdreg.body.catalogue import load_body
from lvdreg.body.model import BodyModel
from lvdreg.body.pickles import load_npz, load_pickle
from lvdreg.evaluate.faust import read_mesh
from lvdreg.geometry.frames import rotvec_to_rotmat

SMPL = "smpl"


class Mesh(NamedTuple):
    """Vertices (N, 3), metres, and faces (F, 3) of a scan or a body."""

    vertices: Vertices
    faces: Faces


@dataclass(frozen=True)
class ClothedPerson:
    """One scan of a data set.

    Attributes:
        name: Unlike those of all others.
        group: What is worn, by the data set's own words.
        path: The scan's file.
        load: Returns the scan and the naked body within it, in one frame, metres.
    """

    name: str
    group: str
    path: Path
    load: Callable[[], tuple[Mesh, Mesh]]


def clothed_people(folder: Path) -> list[ClothedPerson]:
    """Return the people in a folder of CAPE or of 4D-Dress, in order; nothing but names is read.

    4D-Dress: ``SUBJECT/OUTFIT/TAKE/Meshes_pkl/mesh-fNNNNN.pkl``, and beside ``Meshes_pkl`` the naked body as
    ``SMPLX/mesh-fNNNNN_smplx.ply`` or ``SMPL/mesh-fNNNNN_smpl.ply``. CAPE: ``sequences/SUBJECT/OUTFIT_MOTION/*.npz``
    and ``minimal_body_shape/SUBJECT/SUBJECT_minimal.npy``; there the model ``smpl`` must have been added.

    Raises:
        ScanError: there are none.
    """
    people = [_of_4d_dress(path) for path in sorted(folder.rglob("Meshes_pkl/mesh-f*.pkl"))]
    people += [_of_cape(path) for path in sorted(folder.rglob("sequences/*/*/*.npz"))]
    if not people:
        raise ScanError(
            f"expected SUBJECT/OUTFIT/TAKE/Meshes_pkl/mesh-f*.pkl (4D-Dress) or sequences/SUBJECT/OUTFIT_MOTION/*.npz "
            f"(CAPE) in {folder}, found none"
        )
    return people


def _of_4d_dress(path: Path) -> ClothedPerson:
    take = path.parent.parent
    name = "_".join((take.parent.parent.name, take.parent.name, take.name, path.stem))
    return ClothedPerson(name, take.parent.name, path, partial(read_4d_dress, path))


def _of_cape(path: Path) -> ClothedPerson:
    subject, sequence = path.parent.parent.name, path.parent.name
    return ClothedPerson(f"{subject}_{path.stem}", sequence.partition("_")[0], path, partial(read_cape, path))


def read_4d_dress(path: Path) -> tuple[Mesh, Mesh]:
    """Read a scan of 4D-Dress and its body; the pickle is not run.

    Raises:
        ScanError: the body is not there, or the scan holds something else.
        BodyError: the pickle is damaged.
    """
    take = path.parent.parent
    bodies = [take / kind.upper() / f"{path.stem}_{kind}.ply" for kind in ("smplx", "smpl")]
    there = [body for body in bodies if body.is_file()]
    if not there:
        raise ScanError(f"{path}: expected its naked body in {bodies[0]} or {bodies[1]}, found neither")
    content = load_pickle(path)
    try:
        points, faces = expect(content, "vertices", "f", (None, 3)), expect(content, "faces", "iu", (None, 3))
    except (ValueError, AttributeError) as error:
        raise ScanError(f"{path}: expected vertices and faces of a scan ({error})") from None
    return Mesh(points.astype(np.float64), faces.astype(np.int64)), Mesh(*read_mesh(there[0]))


def read_cape(path: Path) -> tuple[Mesh, Mesh]:
    """Read a frame of CAPE: the clothed surface, and the naked body in the same pose.

    CAPE gives the naked body in SMPL's rest pose. Skinning moves whatever hangs on a vertex alike, so the difference of
    the naked and the clothed vertex at rest is turned as the vertex's bones are, and added to the clothed one as posed.

    Raises:
        ScanError: a file is missing or holds something else.
        BodyError: the model ``smpl`` was not added.
    """
    body, subject = load_body(SMPL), path.parent.parent.name
    root = path.parent.parent.parent.parent
    num, joints = body.num_vertices, len(body.joint_names)
    try:
        frame = load_npz(path, ("v_cano", "v_posed", "pose"))
        cano, posed = (expect(frame, name, "f", (num, 3)).astype(np.float64) for name in ("v_cano", "v_posed"))
        pose = expect(frame, "pose", "f", (3 * joints,)).astype(np.float64)
        naked = _minimal(root / "minimal_body_shape" / subject / f"{subject}_minimal.npy", num)
    except (OSError, ValueError, AttributeError) as error:
        raise ScanError(f"{path}: cannot be read as a frame of CAPE ({error})") from None
    turned = np.einsum("vij,vj->vi", _turns(body, pose.reshape(joints, 3)), naked - cano)
    faces = np.asarray(body.data.faces, np.int64)
    return Mesh(posed, faces), Mesh(posed + turned, faces)


def _minimal(path: Path, num: int) -> FloatArray:
    with open_plain(path) as file:
        naked = read_npy(file, plain_size(path))
    return expect({path.name: naked}, path.name, "f", (num, 3)).astype(np.float64)


def _turns(body: BodyModel, pose: FloatArray) -> FloatArray:
    """Return what skinning multiplies each rest vertex by, (V, 3, 3), of a pose (J, 3)."""
    turns = rotvec_to_rotmat(torch.as_tensor(pose))
    nowhere = torch.zeros(len(pose), 3, dtype=turns.dtype)
    bones = body.bone_transforms(turns, nowhere, nowhere[0])[..., :3].numpy()
    return np.einsum("vj,jab->vab", body.data.weights, bones)
