"""Scan a coloured person in one pose, register, bake the texture, and repaint the person in another pose.

    python scripts/bench_texture.py [--out out/texture] [--seed 0]

Colours are a function of the place on the mean person: stripes on a shirt, checks on trousers, skin with a red nose.
The scan has holes and noise. Prints errors of colours (mean over red, green and blue, 0 to 255) at places of the true
person, in the pose of the scan and in a T-pose, and writes a picture of the truth and of the repainted result.
"""

import argparse
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from PIL import Image

import lvdreg
from lvdreg.body.model import BodyModel, BodyParams
from lvdreg.export.figure import figure_of, named_pose
from lvdreg.export.paint import colours_of, painted
from lvdreg.geometry.frames import transform_points
from lvdreg.geometry.mesh import closest_point_on_mesh, interpolate, sample_surface
from lvdreg.geometry.raster import rasterise
from lvdreg.result.read import SavedResult, read_result
from lvdreg.scan.model import scan_from_arrays
from lvdreg.scan.textured import bilinear, to_srgb

SIZE = 1024


def true_colours(rest: np.ndarray) -> np.ndarray:
    """Return sRGB colours (P, 3), 0 to 255, of places on the mean person at rest (P, 3)."""
    x, y, z = rest.T
    skin = np.array([205.0, 150, 125]) + 18 * np.sin(25 * y)[:, None]
    stripes = np.where((np.floor(y / 0.06) % 2 == 0)[:, None], [40.0, 60, 140], [225.0, 225, 215])
    checks = np.where(((np.floor(x / 0.08) + np.floor(y / 0.08)) % 2 == 0)[:, None], [70.0, 75, 60], [120.0, 110, 80])
    high = (y - rest[:, 1].min()) / np.ptp(rest[:, 1])
    shirt, legs = (high > 0.52) & (high < 0.83) & (np.abs(x) < 0.48), (high > 0.06) & (high <= 0.52) & (np.abs(x) < 0.3)
    out = np.where(shirt[:, None], stripes, np.where(legs[:, None], checks, skin))
    nose = np.linalg.norm(rest - rest[np.argmax(z + 10 * (high > 0.88) * (high < 0.95))], axis=1) < 0.02
    return np.where(nose[:, None], [200.0, 50, 50], out)


def person(seed: int) -> tuple[BodyModel, BodyParams]:
    """Draw a person in a pose with arms and legs apart."""
    rng, body = np.random.default_rng(seed), lvdreg.load_body("anny")
    pose = 0.6 * named_pose(body.data, "t").double().numpy() + rng.normal(0, 0.12, (body.num_joints, 3))
    pose[0] = 0
    betas = torch.from_numpy(np.float32(rng.normal(0, 0.7, body.num_betas)))
    return body, BodyParams(betas, torch.from_numpy(np.float32(pose)), torch.zeros(3))


def scan_of(vertices: np.ndarray, rest: np.ndarray, faces: np.ndarray, seed: int) -> lvdreg.Scan:
    """Scan a person: 120,000 coloured vertices or so, 1 mm noise, three holes of 6 cm."""
    import trimesh

    rng = np.random.default_rng(seed)
    both, fine = trimesh.remesh.subdivide(np.hstack([vertices, rest]), faces)
    both, fine = trimesh.remesh.subdivide(both, fine)
    places, colours = both[:, :3], true_colours(both[:, 3:])
    holes = places[rng.choice(len(places), 3)]
    kept = (np.linalg.norm(places[:, None] - holes, axis=2) > 0.06).all(1)
    noisy = places + rng.normal(0, 0.001, places.shape)
    return scan_from_arrays(noisy, fine[kept[fine].all(1)], colors=np.rint(colours).clip(0, 255).astype(np.uint8))


def texture_at(paint: np.ndarray, result: SavedResult, face: np.ndarray, bary: np.ndarray) -> np.ndarray:
    """Read a texture at places of the body; sRGB."""
    assert result.body.data.vt is not None and result.body.data.ft is not None
    uv = interpolate(result.body.data.vt.astype(np.float64), result.body.data.ft, face, bary)
    return to_srgb(bilinear(torch.from_numpy(paint), torch.from_numpy(uv).float()).numpy()).astype(float)


def picture(vertices: np.ndarray, faces: np.ndarray, colour_at: object, side: int = 700) -> Image.Image:
    """Draw a coloured mesh from the front and from behind, without light."""
    half, panels = side / 2, []
    zoom = 0.95 * side / np.ptp(vertices, axis=0)[:2].max()
    middle = (vertices.min(0) + vertices.max(0)) / 2
    for turn in (1, -1):
        x, y, z = ((vertices - middle) * zoom).T
        seen = rasterise(np.stack([half + turn * x, half - y, -turn * z], 1), faces, side, side)
        panel = np.full((side, side, 3), 250.0)
        panel[seen.mask] = colour_at(seen.index[seen.mask], seen.weights[seen.mask])  # type: ignore[operator]
        panels.append(panel)
    return Image.fromarray(np.hstack(panels).round().astype(np.uint8))


def main() -> None:
    """Measure and draw."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("out/texture"))
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    args.out.mkdir(parents=True, exist_ok=True)
    body, params = person(args.seed)
    rest, faces = body.v_template.double().numpy(), body.data.faces
    true = body(params).vertices.double().numpy()
    scan = scan_of(true, rest, faces, args.seed)
    lvdreg.register(scan, model="anny+d", unit="m", up="+y").save(args.out / "result")
    result = read_result(args.out / "result")
    colours = colours_of(scan, np.linalg.inv(result.T_scan_model))
    assert colours is not None
    paint = painted(result, colours, SIZE)
    assert paint.image is not None and paint.seen is not None
    Image.fromarray(paint.image).save(args.out / "texture.png")
    Image.fromarray(paint.seen).save(args.out / "seen.png")
    moved = figure_of(result, "t")
    t_pose = replace(params, pose=named_pose(body.data, "t"))
    truth_t = body(t_pose)
    # Both stand on the floor, above the origin.
    in_t = truth_t.vertices.double().numpy()
    in_t -= [truth_t.joints[0, 0], in_t[:, 1].min(), truth_t.joints[0, 2]]
    in_scan = transform_points(np.linalg.inv(result.T_scan_model), true)
    for name, own, shown in (("pose of the scan", in_scan, result.surface), ("T-pose", in_t, moved.posed())):
        points, face, bary = sample_surface(own, faces, 40_000, np.random.default_rng(1))
        near = closest_point_on_mesh(points, shown, faces)
        wanted = true_colours(interpolate(rest, faces, face, bary))
        error = np.abs(texture_at(paint.image, result, near.face, near.bary) - wanted).mean(1)
        seen = texture_at(np.repeat(paint.seen[..., None], 3, 2), result, near.face, near.bary)[:, 0] > 128
        print(
            f"{name}: mean {error.mean():.1f}, median {np.median(error):.1f}, over 30: {(error > 30).mean():.1%}; "
            f"seen {seen.mean():.1%}: mean {error[seen].mean():.1f}; filled in: mean {error[~seen].mean():.1f}"
        )
    truth = picture(in_t, faces, lambda face, bary: true_colours(interpolate(rest, faces, face, bary)))
    again = picture(moved.posed(), faces, lambda face, bary: texture_at(paint.image, result, face, bary))
    Image.fromarray(np.vstack([truth, again])).save(args.out / "repainted.png")


if __name__ == "__main__":
    main()
