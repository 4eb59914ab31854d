"""Carry a result over to another model: from one added model by the free one to another, vertex by vertex."""

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch

from lvdreg.base.arrays import write_npz
from lvdreg.base.disk import replacing_folder
from lvdreg.base.errors import BodyError, OutputError, UsageError
from lvdreg.base.files import read_json
from lvdreg.base.shapes import FloatArray
from lvdreg.body import store
from lvdreg.body.chosen import Chosen, choose, free_model_of
from lvdreg.body.files import body_names
from lvdreg.body.model import BodyModel, BodyParams, Posed
from lvdreg.body.smplx_names import named_params
from lvdreg.body.transfer import place_template
from lvdreg.fit.vertices import FitConfig, fit_body
from lvdreg.geometry.frames import transform_points
from lvdreg.pipeline.scan import correspond
from lvdreg.result.files import EXPORTS, REPORT, RESULT, write_json
from lvdreg.result.ply import write_ply
from lvdreg.result.read import SavedResult

FIT = FitConfig(sigma=0.003, sigma_floor=0.001)
"""Vertices that are carried over are nearly exact: what is left is how both models differ."""
BLIND_SIGMA = 0.03
"""Metres; of vertices that nothing of the other model corresponds to."""


@dataclass(frozen=True)
class Converted:
    """A result with another model, in the frame of the posed model, metres of the model.

    Attributes:
        body: The other model.
        params: Its parameters; with displacements that reach the surface exactly, where the result had some.
        vertices: (V, 3) the surface.
        body_vertices: (V, 3) the body under the clothes.
        residual_mm: How far the body lies from what was carried over, mean, at the model's size.
    """

    body: BodyModel
    params: BodyParams
    vertices: FloatArray
    body_vertices: FloatArray
    residual_mm: float


def convert(result: SavedResult, model: str) -> Converted:
    """Fit another model to a result.

    Args:
        result: Of a body; as read from its folder.
        model: Name of a free or an added model of a body.

    Raises:
        UsageError: the result or the model is of a hand.
        BodyError: there is no such model.
    """
    other = choose(model, correspond)
    if result.side is not None or other.body.data.is_hand:
        raise UsageError("expected a result and a model of whole bodies, got a hand: hands are not converted")
    bare = result.body(replace(result.params, displacements=None)).vertices.double().numpy()
    carried, surface = (_carried(result, each, other) for each in (bare, result.surface))
    sigma = torch.full((len(carried),), FIT.sigma, dtype=torch.float64)
    if other.correspondence is not None:
        sigma[torch.from_numpy(other.correspondence.blind)] = BLIND_SIGMA
    body = other.body.double()
    fit = fit_body(body, torch.from_numpy(carried), sigma, FIT)
    params = BodyParams(*(each.double() for each in (fit.params.betas, fit.params.pose, fit.params.transl)))
    posed = body(params)
    own = posed.vertices.numpy()
    moved = None if result.params.displacements is None else _unposed(body, posed, surface - own)
    whole = replace(params, displacements=moved)
    off = 1000 * float(np.linalg.norm(own - carried, axis=1).mean())
    return Converted(body, whole, body(whole).vertices.numpy(), own, off)


def _carried(result: SavedResult, vertices: FloatArray, other: Chosen) -> FloatArray:
    """Return the other model's vertices where the result's are, by the free model that both correspond to."""
    data = result.body.data
    free = other.source.data
    if data.name not in body_names():
        # The added mesh as it lies on the free model at rest: there the free model's vertices have their places.
        at_rest = store.correspondence(data.name).carry(free.v_template.astype(np.float64), free.faces)
        vertices = place_template(free, data, at_rest, at_rest).carry(vertices, data.faces)
    elif free_model_of(data) != free.name:
        raise BodyError(f"{data.name} and {other.body.data.name} correspond to different free models")
    return vertices if other.correspondence is None else other.correspondence.carry(vertices, free.faces)


def _unposed(body: BodyModel, posed: Posed, moves: FloatArray) -> torch.Tensor:
    """Return displacements (V, 3) at rest that move the posed vertices so."""
    turn = (body.weights @ posed.Ts_world_rest[:, :3, :3].flatten(1)).unflatten(1, (3, 3))
    return torch.linalg.solve(turn, torch.from_numpy(moves)[..., None])[..., 0]


FILES = {
    "body.ply": "the model itself, under clothes, without displacements",
    "registered.ply": "the final surface, carried over from the model before",
    "params.npz": "pose and shape under smplx's argument names, (1, K) each, model, T_scan_model",
    REPORT: "this file",
}


def save_converted(result: SavedResult, found: Converted, model: str, folder: Path) -> None:
    """Write a converted result: frame and unit are those of the result that it comes from.

    Args:
        result: What was converted.
        found: What it became.
        model: Name of the other model.
        folder: Made if it is missing; what was converted to it earlier is replaced.

    Raises:
        OutputError: a result that was not converted is in the folder's place, or the one that is converted; a link or a
            file is there, or a file of others bears the name of one of ours.
        OSError: the folder cannot be written.
    """
    _check_place(folder, result.folder)
    name = model + ("+d" if found.params.displacements is not None else "")
    report = {key: value for key, value in result.report.items() if key not in _OF_THE_FIRST}
    metrics = report.get("metrics")
    report |= {
        "model": name,
        "metrics": (metrics if isinstance(metrics, dict) else {}) | {"conversion_residual_mm": found.residual_mm},
        "converted_from": {"folder": str(result.folder.resolve()), "model": result.report.get("model")},
        "files": FILES,
    }
    arrays = {key: np.asarray(value, np.float32) for key, value in named_params(found.body, found.params).items()}
    arrays = {key: array[None] if array.ndim == 1 else array for key, array in arrays.items()}
    faces, note = found.body.data.faces, [f"lvdreg, model {name}, converted"]
    with replacing_folder(folder, RESULT) as part:
        for file, vertices in (("body.ply", found.body_vertices), ("registered.ply", found.vertices)):
            write_ply(part / file, transform_points(result.T_scan_model, vertices), faces, comments=note)
        write_npz(part / "params.npz", {**arrays, "model": np.array(name), "T_scan_model": result.T_scan_model})
        write_json(part / REPORT, report)


def _check_place(folder: Path, source: Path) -> None:
    """Refuse to replace what was registered, or what is being converted."""
    report = folder / REPORT
    if not report.is_file():
        return
    earlier = read_json(report)
    if folder.resolve() == source.resolve() or not (isinstance(earlier, dict) and "converted_from" in earlier):
        raise OutputError(f"{folder}: expected a folder without a result, got one with another; give another --out")


_OF_THE_FIRST = frozenset((EXPORTS, "uncertainty_colours", "timings_s"))
"""Keys of the report that say nothing of what was converted."""
