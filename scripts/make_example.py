"""Make the example scans that are shipped: a dressed person and a hand as scanners would have written them.

    python scripts/make_example.py [--seed 29] [--hand-seed 23]

No real scan may be shipped. The person is in millimetres with Z up, as many scanners write; it has noise, holes under
the feet and in the hair, and a patch of floor. The hand is a left one with a piece of forearm, in metres, and lies
anyhow. Writes assets/examples/dressed.ply and hand.ply, and what is true of them beside them (.npz).
"""

import argparse
from pathlib import Path

import numpy as np
import torch
import trimesh
from scipy.spatial.transform import Rotation

from lvdreg.body.catalogue import load_body
from lvdreg.body.model import BodyParams
from lvdreg.frames import similarity, transform_points
from lvdreg.normalise import UPS
from lvdreg.report import write_ply
from lvdreg.synth.clothing import Wardrobe
from lvdreg.synth.draw import Draw
from lvdreg.synth.hand_stream import HandStream, surface_of
from lvdreg.synth.poses import PoseSampler

ROOT = Path(__file__).parent.parent
FOLDER = ROOT / "assets" / "examples"
NOISE_M, HAND_NOISE_M = 0.0012, 0.0002


def dressed_person(seed: int) -> tuple[trimesh.Trimesh, BodyParams]:
    """Return the outer surface of a dressed person, world frame, and the body beneath."""
    body, generator = load_body("anny"), torch.Generator().manual_seed(seed)
    betas = 0.7 * torch.randn(1, body.num_betas, generator=generator)
    params = BodyParams(betas, PoseSampler(body).sample(betas, generator), torch.zeros(1, 3))
    outer = Wardrobe(body).dress(body(params).vertices, generator)
    mesh = trimesh.Trimesh(outer.vertices[0].numpy(), outer.faces[outer.face_keep[0]].numpy(), process=False)
    mesh.remove_unreferenced_vertices()
    return mesh.subdivide(), params


def scan(mesh: trimesh.Trimesh, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Add what a scanner adds and leave out what it does not see; world frame, metres."""
    rng = np.random.default_rng(seed)
    points = mesh.vertices + rng.normal(size=mesh.vertices.shape) * NOISE_M
    low = points[:, 1].min()
    centres = mesh.triangles_center
    unseen = (mesh.face_normals[:, 1] < -0.8) & (centres[:, 1] < low + 0.03)
    crown = np.linalg.norm(centres - points[points[:, 1].argmax()], axis=1) < 0.05
    faces = mesh.faces[~(unseen | crown)]
    side = np.linspace(-0.6, 0.6, 40)
    x, z = np.meshgrid(side, side)
    floor = np.stack([x.ravel(), np.full(x.size, low - 0.004), z.ravel()], -1) + rng.normal(size=(x.size, 3)) * NOISE_M
    floor += [points[:, 0].mean(), 0, points[:, 2].mean()]
    corner = (np.arange(39)[:, None] * 40 + np.arange(39)).ravel()
    quads = np.stack([corner, corner + 40, corner + 1, corner + 1, corner + 40, corner + 41], -1).reshape(-1, 3)
    return np.concatenate([points, floor]), np.concatenate([faces, quads + len(points)])


def write_hand(seed: int) -> None:
    """Write a left hand: the mirror image of a right one, turned and moved at random."""
    body, generator, rng = load_body("anny-hand"), torch.Generator().manual_seed(seed), np.random.default_rng(seed)
    scene = HandStream(body).scenes(1, generator)
    outer = surface_of(body, scene, Draw(1, generator))
    # A left hand's faces wind the other way round.
    faces = outer.faces[outer.face_keep[0]].numpy()[:, ::-1]
    mesh = trimesh.Trimesh(outer.vertices[0].numpy() * [-1, 1, 1], faces, process=False)
    mesh.remove_unreferenced_vertices()
    mesh.merge_vertices()  # forearm and hand meet at the wrist
    mesh = mesh.subdivide()
    points = mesh.vertices + rng.normal(size=mesh.vertices.shape) * HAND_NOISE_M
    T_scan_left = similarity(1.0, Rotation.random(random_state=seed).as_matrix(), rng.uniform(-0.5, 0.5, 3))
    comments = ["synthetic, made by scripts/make_example.py from a CC0 hand; metres, a left hand"]
    write_ply(FOLDER / "hand.ply", transform_points(T_scan_left, points).round(5), mesh.faces, comments=comments)
    true = transform_points(T_scan_left, scene.posed.vertices[0].double().numpy() * [-1, 1, 1]).astype(np.float32)
    np.savez_compressed(FOLDER / "hand_truth.npz", vertices=true, side="left", seed=seed)


def write_person(seed: int) -> None:
    """Write a dressed person."""
    mesh, params = dressed_person(seed)
    points, faces = scan(mesh, seed)
    T_scan_world = np.diag([1000.0, 1000.0, 1000.0, 1.0])
    T_scan_world[:3, :3] @= UPS["+z"].T
    comments = ["synthetic, made by scripts/make_example.py from a CC0 body; millimetres, Z up"]
    write_ply(FOLDER / "dressed.ply", transform_points(T_scan_world, points).round(1), faces, comments=comments)
    vertices = load_body("anny")(params).vertices[0].double().numpy()
    truth = transform_points(T_scan_world, vertices).astype(np.float32)
    np.savez_compressed(
        FOLDER / "dressed_truth.npz", vertices=truth, betas=params.betas[0], pose=params.pose[0], seed=seed
    )


def main() -> None:
    """Write the scans and what is true of them."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seed", type=int, default=29)
    parser.add_argument("--hand-seed", type=int, default=23)
    args = parser.parse_args()
    write_person(args.seed)
    write_hand(args.hand_seed)


if __name__ == "__main__":
    main()
