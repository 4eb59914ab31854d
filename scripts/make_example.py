"""Make the examples that are shipped: scans of a dressed person and of a hand, and a photo of another person.

    python scripts/make_example.py [--seed 29] [--hand-seed 23] [--photo-seed 49]

No real scan or photo may be shipped. The person is in millimetres with Z up, as many scanners write; it has noise,
holes under the feet and in the hair, and a patch of floor. The hand is a left one with a piece of forearm, in metres,
and lies anyhow. The photo is rendered. Writes dressed.ply, hand.ply and person.jpg to assets/examples, and what is true
of them beside them (.npz).
"""

import argparse
from pathlib import Path

import numpy as np
import torch
import trimesh
from PIL import Image
from scipy.spatial.transform import Rotation

from lvdreg.body.catalogue import load_body
from lvdreg.body.model import BodyParams
from lvdreg.descent.boxes import UPS
from lvdreg.geometry.frames import similarity, transform_points
from lvdreg.result.ply import write_ply
from lvdreg.synth.camera import degrade
from lvdreg.synth.camera.light import draw_lights
from lvdreg.synth.camera.render import render
from lvdreg.synth.camera.view import framing, look_at
from lvdreg.synth.clothes.layers import Wardrobe
from lvdreg.synth.draw import Draw
from lvdreg.synth.hand_scans import HandStream, surface_of
from lvdreg.synth.people.poses import PoseSampler
from lvdreg.synth.photos import PhotoStream

ROOT = Path(__file__).parent.parent
FOLDER = ROOT / "assets" / "examples"
NOISE_M, HAND_NOISE_M = 0.0012, 0.0002
PHOTO_SIDE, PHOTO_WIDTH = 640, 480


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


def write_photo(seed: int) -> None:
    """Write a photo of a person before soft surroundings, and pose, shape and weak-perspective camera."""
    stream, generator = PhotoStream(load_body("anny"), PHOTO_SIDE), torch.Generator().manual_seed(seed)
    params = stream.params(1, generator)
    person, draw, one = stream.people.dress(params, generator), Draw(1, generator), torch.ones(1)
    points, yaw = person.outer.vertices, draw.uniform(-0.6, 0.6)[:, 0]
    middle = (points.amin(1) + points.amax(1)) / 2
    camera = framing(
        points, look_at(middle, yaw, 0.03 * one, 0 * one, one, one / 3.2, PHOTO_SIDE), PHOTO_SIDE, 0.8 * one
    )
    seen = render(person, camera, draw_lights(draw, yaw), PHOTO_SIDE)
    behind = degrade.blurred(degrade.backgrounds(PHOTO_SIDE, draw), 2 * one[:, None])
    picture = degrade.noisy(seen.image.permute(0, 3, 1, 2) + (1 - seen.alpha[:, None]) * behind, draw)[0]
    edge = (PHOTO_SIDE - PHOTO_WIDTH) // 2
    pixels = (255 * picture.permute(1, 2, 0)).round().byte().numpy()[:, edge : PHOTO_SIDE - edge]
    Image.fromarray(np.ascontiguousarray(pixels)).save(FOLDER / "person.jpg", quality=88)
    height = float(person.vertices[0, :, 1].max() - person.vertices[0, :, 1].min())
    true = {"betas": params.betas[0], "pose": params.pose[0], "rotation": camera.rotation[0], "extent_m": height}
    np.savez_compressed(FOLDER / "person_truth.npz", seed=seed, **true)


def main() -> None:
    """Write the examples and what is true of them."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seed", type=int, default=29)
    parser.add_argument("--hand-seed", type=int, default=23)
    parser.add_argument("--photo-seed", type=int, default=49)
    args = parser.parse_args()
    write_person(args.seed)
    write_hand(args.hand_seed)
    write_photo(args.photo_seed)


if __name__ == "__main__":
    main()
