"""The hands of a whole body: where each of their vertices lies on the free hand model, and how the palms lie."""

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from jaxtyping import Bool, Float64, Int64

from lvdreg.base.assets import assets_dir
from lvdreg.base.errors import BodyError
from lvdreg.base.provenance import FileHashes, sha256_of
from lvdreg.base.shapes import FloatArray, Transform
from lvdreg.body.files import read_arrays, shipped_data
from lvdreg.body.model import FINGERS, BodyData
from lvdreg.geometry.frames import similarity
from lvdreg.geometry.mesh import interpolate

BODY, HAND = "anny", "anny-hand"
SIDES = ("left", "right")
KNUCKLES = ("index1", "middle1", "pinky1")
FILE = "correspondences/anny-hand.npz"


@dataclass(frozen=True)
class HandPlaces:
    """Where the vertices of the free body's hands lie on the free hand model.

    Attributes:
        vertices: (N,) of the body, by side.
        faces_index: (N,) the hand's face that each lies on.
        bary: (N, 3) where on it.
    """

    vertices: dict[str, Int64[np.ndarray, " N"]]
    faces_index: Int64[np.ndarray, " N"]
    bary: Float64[np.ndarray, "N 3"]

    def at(self, values: Float64[np.ndarray, "H K"]) -> Float64[np.ndarray, "N K"]:
        """Return what the hand model has at its vertices (H, K) at the places of the body's (N, K)."""
        return np.asarray(interpolate(values, shipped_data(HAND).faces, self.faces_index, self.bary))


@lru_cache(maxsize=1)
def hand_places() -> HandPlaces:
    """Return the places that ship with lvdreg.

    Raises:
        BodyError: they are missing or damaged.
    """
    path, body = assets_dir() / FILE, shipped_data(BODY)
    try:
        arrays = read_arrays(path)
        right, faces = (arrays[name].astype(np.int64) for name in ("vertices", "faces_index"))
        bary = arrays["bary"].astype(np.float64)
        assert body.mirror_vertices is not None
        return HandPlaces({"right": right, "left": body.mirror_vertices[right]}, faces, bary)
    except (KeyError, ValueError, IndexError) as error:
        raise BodyError(f"{path}: expected places on {HAND}, got none; install lvdreg again") from error


def places_file() -> FileHashes:
    """Return the SHA-256 of the file of ``hand_places``, by its name."""
    return {FILE: sha256_of(assets_dir() / FILE)}


def has_fingers(data: BodyData, side: str) -> bool:
    """Say whether a whole body has a hand with fingers."""
    return {f"{side}_{name}" for name in ("wrist", *KNUCKLES)} <= set(data.joint_names)


def joints_of_hand(data: BodyData, side: str) -> Bool[np.ndarray, " J"]:
    """Return which joints (J,) are the wrist and the fingers of one side."""
    names = tuple(f"{side}_{name}" for name in ("wrist", *FINGERS))
    return np.array([name.startswith(names) for name in data.joint_names])


def of_hand(data: BodyData, side: str) -> Bool[np.ndarray, " V"]:
    """Return which vertices (V,) move with the wrist and the fingers of one side."""
    return np.asarray(joints_of_hand(data, side)[np.asarray(data.weights).argmax(1)])


def of_forearm(data: BodyData, side: str) -> Bool[np.ndarray, " V"]:
    """Return which vertices (V,) move with the elbow of one side."""
    elbow = np.array([name == f"{side}_elbow" for name in data.joint_names])
    return np.asarray(elbow[np.asarray(data.weights).argmax(1)])


def palm_frame(data: BodyData, joints: Float64[np.ndarray, "J 3"], side: str) -> Transform:
    """Return ``T_palm_world``, which brings a hand to the axes of the free hand model.

    There the wrist is the origin, the middle finger's knuckle lies along +Y, and the palm faces +Z; a left hand comes
    as its mirror image.

    Args:
        data: A body with fingers.
        joints: (J, 3) as it is posed, world frame.
        side: Which hand.
    """
    wrist, index, middle, pinky = (joints[data.joint_names.index(f"{side}_{name}")] for name in ("wrist", *KNUCKLES))
    mirror = np.diag([-1.0 if side == "left" else 1.0, 1.0, 1.0])
    R_palm_world = _palm_rows(mirror @ (middle - wrist), mirror @ (index - pinky)) @ mirror
    return similarity(1.0, R_palm_world, -R_palm_world @ wrist)


def _palm_rows(along: FloatArray, over: FloatArray) -> FloatArray:
    y = along / max(float(np.linalg.norm(along)), 1e-12)
    z = np.cross(over, y)
    z = z / max(float(np.linalg.norm(z)), 1e-12)
    return np.stack([np.cross(y, z), y, z])
