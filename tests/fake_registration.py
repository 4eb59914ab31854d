"""A small made-up registration for tests of what happens after registering: a cone, in millimetres, Z up."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from lvdreg.result.scan import Registration
from lvdreg.scan.model import Scan

# Model (metres, Y up) to scan (millimetres, Z up), far from the origin.
T_SCAN_MODEL = np.array([[1000, 0, 0, 5000.0], [0, 0, -1000, -3000.0], [0, 1000, 0, 200.0], [0, 0, 0, 1.0]])

SIGMAS = ("sigma_mm", "sigma_across_mm", "sigma_along_mm", "body_sigma_mm", "descent_sigma_mm")


def cone(segments: int = 24) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """A closed cone, 1.8 m high and 0.8 m wide at the foot, tip up, in the model frame."""
    angles = np.linspace(0, 2 * np.pi, segments, endpoint=False)
    ring = np.stack([0.4 * np.sin(angles), np.zeros(segments), 0.4 * np.cos(angles)], -1)
    vertices = np.concatenate([ring, [[0.0, 1.8, 0.0], [0.0, 0.0, 0.0]]])
    here, there = np.arange(segments), (np.arange(segments) + 1) % segments
    sides = np.stack([here, there, np.full(segments, segments)], -1)
    floor = np.stack([there, here, np.full(segments, segments + 1)], -1)
    return vertices, np.concatenate([sides, floor])


def mitten(side: str) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """A hand of two tetrahedra in the frame of hand models: 0.19 m along Y, the thumb beside, the palm to Z."""
    palm = np.array([[-0.04, 0, 0], [0.04, 0, 0], [0, 0, -0.03], [0.0, 0.19, 0.01]])
    thumb = np.array([[0.03, 0.03, 0], [0.03, 0.06, 0], [0.03, 0.045, 0.02], [0.09, 0.08, 0.04]])
    corners = np.array([[0, 2, 1], [0, 1, 3], [1, 2, 3], [2, 0, 3]])
    vertices, faces = np.concatenate([palm, thumb]), np.concatenate([corners, corners + 4])
    return (vertices, faces) if side == "right" else (vertices * [-1, 1, 1], faces[:, ::-1].copy())


def fake_hand(side: str = "left", **changes: Any) -> Registration:
    """Build the registration of a hand, in millimetres, Z up; ``changes`` replace fields."""
    model_vertices, faces = mitten(side)
    vertices = model_vertices @ T_SCAN_MODEL[:3, :3].T + T_SCAN_MODEL[:3, 3]
    fields: dict[str, Any] = {
        "name": "hand",
        "model": "anny-hand+d",
        "scan": Scan(points=vertices + 0.5, faces=faces, normals=None, colors=None, name="hand", notes=()),
        "vertices": vertices,
        "body_vertices": vertices - 0.5,
        "faces": faces,
        "params": {
            "betas": np.linspace(-1, 1, 10, dtype=np.float32),
            "global_orient": np.zeros(3),
            "hand_pose": np.full(45, 0.1),
            "transl": np.array([0.01, 0.02, 0.03]),
            "scale": np.array(1.0),
            "displacements": np.full(vertices.shape, 0.0002, np.float32),
        },
        "sigma_mm": np.linspace(0.4, 1.8, len(vertices)),
        "metrics": {"point_to_surface_scan_to_registered_mm": 0.7, "seen_share": 0.9},
        "settings": {"seed": 0, "model": "anny-hand+d", "side": "auto"},
        "side": side,
        "side_confidence": 0.983,
        "reason": "surface 0.7 mm from the scan",
    }
    return fake_registration(**{**fields, **changes})


def fake_registration(**changes: Any) -> Registration:
    """Build the registration; ``changes`` replace fields."""
    model_vertices, faces = cone()
    vertices = model_vertices @ T_SCAN_MODEL[:3, :3].T + T_SCAN_MODEL[:3, 3]
    scan = Scan(
        points=vertices + 1.0, faces=faces, normals=None, colors=None, name="person", notes=("2 points removed",)
    )
    fields: dict[str, Any] = {
        "name": "person",
        "model": "anny+d",
        "scan": scan,
        "vertices": vertices,
        "body_vertices": vertices - 2.0,
        "faces": faces,
        "params": {
            "betas": np.linspace(-1, 1, 10, dtype=np.float32),
            "global_orient": np.zeros(3),
            "body_pose": np.full(63, 0.1),
            "left_hand_pose": np.zeros(45),
            "right_hand_pose": np.zeros(45),
            "transl": np.array([0.1, 0.2, 0.3]),
            "scale": np.array(1.0),
            "displacements": np.full(vertices.shape, 0.002, np.float32),
        },
        "sigma_mm": np.linspace(4, 18, len(vertices)),
        "T_scan_model": T_SCAN_MODEL,
        "unit": "mm",
        "up": "+z",
        "unit_is_guess": False,
        "metrics": {"point_to_surface_scan_to_registered_mm": 1.7, "seen_share": float("nan")},
        "timings": {"read": 0.1, "descend": 0.5},
        "settings": {"seed": 0, "model": "anny+d"},
        "warnings": ("the feet are cut off",),
        "verdict": "good",
        "reason": "surface 1.7 mm from the scan",
    }
    # Whoever says one sigma only has it everywhere.
    sigma_mm = next((changes[name] for name in SIGMAS if name in changes), fields["sigma_mm"])
    return Registration(**{**fields, **dict.fromkeys(SIGMAS, sigma_mm), **changes})
