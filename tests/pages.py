"""Results to look at: a made-up person of the toy body in memory, and a hand in a folder."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from conftest import make_toy_body
from PIL import Image

from lvdreg.base.shapes import FloatArray
from lvdreg.body.chosen import registered_body
from lvdreg.body.model import BodyModel, BodyParams
from lvdreg.body.smplx_names import named_params
from lvdreg.report.subject import Shown
from lvdreg.result.files import write_json
from lvdreg.result.ply import write_ply
from lvdreg.result.read import SavedResult
from lvdreg.scan.model import Scan, scan_from_arrays

REPORT: dict[str, Any] = {
    "lvdreg": "0",
    "name": "person",
    "model": "anny+d",
    "verdict": "check",
    "reason": "something is unusual",
    "warnings": ["the feet are cut off"],
    "scan": {"points": 9, "unit": "mm", "up": "+z", "unit_is_guess": True},
    "metrics": {"sigma_median_mm": 7.0, "seen_share": None, "height_m": 1.7},
    "part_sigma_mm": {"trunk": 5.0, "left upper arm": 9.0},
    "timings_s": {"read": 0.1, "total": 0.1},
    "settings": {"seed": 0},
    "files": {"params.npz": "", "registered.ply": ""},
}


def toy_shown(scan: Scan | None = None, **report: Any) -> Shown:
    """A toy figure whose scan is its surface, moved out by 10 mm along X; changes of the report by key."""
    body = BodyModel(make_toy_body())
    params = BodyParams.zeros(body)
    surface = body(params).vertices.double().numpy()
    sigma = np.linspace(1, 40, len(surface))
    saved = SavedResult(
        Path("person"), REPORT | report, body, params, surface, np.eye(4), "person", 9, None, body_scale=1.0
    )
    scan = scan or scan_from_arrays(surface + [0.01, 0, 0], body.data.faces, name="person")
    return Shown(saved, surface, {"sigma": sigma, "sigma_across": sigma / 2}, sigma, scan, "")


def write_hand(folder: Path, **report: Any) -> None:
    """What ``lvdreg hands`` leaves of a left hand in millimetres, and its scan beside the folder."""
    folder.mkdir(parents=True)
    body = registered_body("anny-hand", "left")
    params = BodyParams.zeros(body)
    with torch.no_grad():
        vertices = 1000 * body(params).vertices.double().numpy()
    sigma: FloatArray = np.linspace(0.5, 3, len(vertices))
    write_ply(folder / "registered.ply", vertices, body.data.faces, properties={"sigma": sigma, "sigma_descent": sigma})
    write_ply(folder / "body.ply", vertices, body.data.faces, properties={"sigma": sigma})
    arrays = {k: np.atleast_2d(v) for k, v in named_params(body, params).items()}
    T_scan_model = np.diag([1000.0, 1000, 1000, 1])
    np.savez(folder / "params.npz", **arrays, T_scan_model=T_scan_model, model=np.array("anny-hand"))
    Image.new("RGB", (40, 30), (200, 30, 30)).save(folder / "preview.png")
    about = {"name": folder.name, "side": "left", "part_sigma_mm": {"palm": 1.0}, "model": "anny-hand"}
    write_json(folder / "report.json", REPORT | about | report)


def with_scan(shown: Shown, scan: Scan) -> Shown:
    """The same result of another scan."""
    return replace(shown, scan=scan)
