"""A person made of capsules, as a cloud and as a mesh: metres, Y up, feet at zero, facing +Z."""

import numpy as np
import trimesh
from numpy.typing import NDArray

Points = NDArray[np.float64]

# Start, end, radius.
_CAPSULES = [
    ((0.0, 0.95, 0.0), (0.0, 1.35, 0.0), 0.15),  # trunk
    ((0.0, 1.50, 0.0), (0.0, 1.62, 0.02), 0.10),  # head
    ((0.10, 0.06, 0.0), (0.10, 0.90, 0.0), 0.08),  # legs
    ((-0.10, 0.06, 0.0), (-0.10, 0.90, 0.0), 0.08),
    ((0.10, 0.04, 0.0), (0.10, 0.04, 0.16), 0.04),  # feet
    ((-0.10, 0.04, 0.0), (-0.10, 0.04, 0.16), 0.04),
    ((0.18, 1.38, 0.0), (0.55, 0.90, 0.05), 0.05),  # arms
    ((-0.18, 1.38, 0.0), (-0.55, 0.90, 0.05), 0.05),
]
CAPSULES = [(np.array(a), np.array(b), radius) for a, b, radius in _CAPSULES]


def figure_distance(points: Points) -> Points:
    """Signed distance to the union of the capsules, negative inside (exact outside)."""
    distances = []
    for a, b, radius in CAPSULES:
        t = np.clip(((points - a) @ (b - a)) / max(float((b - a) @ (b - a)), 1e-12), 0, 1)
        distances.append(np.linalg.norm(points - a - t[:, None] * (b - a), axis=1) - radius)
    return np.min(distances, axis=0)


def figure_mesh() -> tuple[Points, NDArray[np.int64]]:
    """The capsules as closed meshes that overlap, wound outward."""
    meshes = []
    for a, b, radius in CAPSULES:
        length = float(np.linalg.norm(b - a))
        mesh = trimesh.creation.capsule(height=max(length, 1e-6), radius=radius, count=[16, 16])
        mesh.apply_translation([0, 0, -mesh.bounds.mean(axis=0)[2]])
        mesh.apply_transform(trimesh.geometry.align_vectors([0, 0, 1], (b - a) / length))
        mesh.apply_translation((a + b) / 2)
        meshes.append(mesh)
    merged = trimesh.util.concatenate(meshes)
    return np.array(merged.vertices), np.array(merged.faces, dtype=np.int64)


def figure_cloud(num_points: int, rng: np.random.Generator, noise: float = 0.0) -> Points:
    """Even points on the outer surface of the figure, with noise along all axes."""
    points, faces = figure_mesh()
    mesh = trimesh.Trimesh(points, faces, process=False)
    samples = trimesh.sample.sample_surface(mesh, 3 * num_points, seed=int(rng.integers(1 << 30)))[0]
    outer = samples[figure_distance(samples) > -0.004][:num_points]
    return outer + noise * rng.normal(size=outer.shape)


def plane_cloud(num_points: int, low: list[float], high: list[float], rng: np.random.Generator, noise: float) -> Points:
    """Points in a flat box."""
    points = rng.uniform(low, high, (num_points, 3))
    return points + noise * rng.normal(size=points.shape)
