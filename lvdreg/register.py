"""The story: a scan of a person or a hand in, a registered body out. Each step is one call; nothing is computed here.

People and hands take the same steps. What differs is how the network's box is found, and a preset of settings.
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from lvdreg.assess import Found, assemble
from lvdreg.body import store
from lvdreg.body.catalogue import body_names, load_body
from lvdreg.body.model import BodyData, BodyModel, mirror_image
from lvdreg.body.transfer import Correspondence, place_template
from lvdreg.config import HAND, RegisterConfig
from lvdreg.correspond import posed_surface, target_of, trim
from lvdreg.displace import displace
from lvdreg.errors import BodyError, RegistrationError, ScanError
from lvdreg.explain import look, turns_of
from lvdreg.fit import fit_body
from lvdreg.frames import is_reflected, scale_of
from lvdreg.nearest import find_backend
from lvdreg.normalise import Box, body_boxes, check_side, check_unit, find_size, up_candidates, world_transform
from lvdreg.refine import refine_body
from lvdreg.registration import Registration
from lvdreg.scan import clean_scan, oriented_points, scan_from_arrays, scan_of
from lvdreg.stages import Clock, Progress
from lvdreg.uncertainty import land
from lvdreg.weights import TrainedNet, voxel_weights

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

    from lvdreg.body.licensed import LicensedModel
    from lvdreg.scan import Scan

    FindBoxes = Callable[[NDArray, TrainedNet], list[Box]]


def register(
    source: "str | Path | Scan | ArrayLike",
    *,
    model: str = "anny",
    unit: str = "auto",
    up: str = "auto",
    device: str = "cpu",
    seed: int = 0,
    config: RegisterConfig | None = None,
    progress: Progress | None = None,
) -> Registration:
    """Register a body model to a scan of a person.

    Args:
        source: File of any supported format, a ``Scan``, or points (P, 3).
        model: Name of a body, free or added (``lvdreg models add``), with ``+d`` for displacements that follow clothes
            and hair.
        unit: Unit of the scan's numbers; "auto" finds it, "none" says they mean nothing.
        up: Axis of the scan that points up; "auto" finds it.
        device: Where the network runs.
        seed: Seed of sampling and perturbations: equal seeds give equal results.
        config: Settings of the stages.
        progress: Receives the name of each stage as it begins.

    Returns:
        The result in the frame and unit of the scan, with uncertainty, metrics and a verdict.

    Raises:
        ScanError: the scan cannot be read or holds too little.
        BodyError, CheckpointError: body or weights are missing.
        UsageError: an option has no such value.
        RegistrationError: no body could be fitted.
    """
    ups = up_candidates(up)
    asked = {"model": model, "unit": check_unit(unit), "up": up, "device": device, "seed": seed}

    def finder() -> "FindBoxes":
        return lambda points, trained: body_boxes(points, ups, trained.net.config.voxel.num_points)

    return _register(source, asked, finder, config or RegisterConfig(), Clock(progress))


def register_hand(
    source: "str | Path | Scan | ArrayLike",
    *,
    model: str = "anny-hand",
    side: str = "auto",
    unit: str = "auto",
    device: str = "cpu",
    seed: int = 0,
    config: RegisterConfig | None = None,
    progress: Progress | None = None,
) -> Registration:
    """Register a hand model to a scan of a hand, which may lie anyhow, hold something, and hang on a forearm.

    Args:
        source: File of any supported format, a ``Scan``, or points (P, 3).
        model: Name of a hand, free or added (``lvdreg models add``), with ``+d`` for displacements that follow the
            scan's surface.
        side: "left" or "right"; "auto" finds it.
        unit: Unit of the scan's numbers; "auto" finds it, "none" says they mean nothing.
        device: Where the network runs.
        seed: Seed of sampling and perturbations: equal seeds give equal results.
        config: Settings of the stages; ``lvdreg.config.HAND`` when None.
        progress: Receives the name of each stage as it begins.

    Returns:
        The result in the frame and unit of the scan, with its side. Parameters of a left hand are those of the model's
        mirror image; of ``mano`` those of MANO's left hand where its file was added too.

    Raises:
        ScanError: the scan cannot be read or holds too little.
        BodyError, CheckpointError: body or weights are missing.
        UsageError: an option has no such value.
        RegistrationError: no hand could be fitted.
    """
    # Late, so that bodies need no compass.
    from lvdreg.compass import find_hand
    from lvdreg.weights import compass_weights

    config = config or HAND
    asked = {"model": model, "unit": check_unit(unit), "side": check_side(side), "device": device, "seed": seed}

    def finder() -> "FindBoxes":
        compass = compass_weights(source_of(model), device)
        return lambda points, _trained: find_hand(compass, points, side, config.views)

    return _register(source, asked, finder, config, Clock(progress))


def _register(
    source: "str | Path | Scan | ArrayLike",
    asked: dict[str, Any],
    finder: "Callable[[], FindBoxes]",
    config: RegisterConfig,
    clock: Clock,
) -> Registration:
    """Take all steps; ``finder`` gives what says from points of the scan where the body may lie."""
    name, device, seed = asked["model"].removesuffix("+d"), asked["device"], asked["seed"]
    with clock.stage("load"):
        find_backend()  # One that is not there is better missed now than after the descent.
        model = _model(name)
        trained, find_boxes = voxel_weights(model.source.data.name, device), finder()
    with clock.stage("read"):
        scan = clean_scan(scan_of(source), config.clean)
        points, normals = oriented_points(scan, config.clean.num_points, seed)
    with clock.stage("descend"):
        boxes = find_boxes(points, trained)
        views = look(trained.net, points, boxes, turns_of(config.views), config.views, config.descent)
    with clock.stage("weigh"):
        landed, spread_unit = land(trained.net.field, views, model.source.faces, config.uncertainty, seed)
        model = _of_side(name, model, is_reflected(views.T_unit_scan))
        body, (vertices_unit, sigma_unit) = model.body, model.carried(landed, trained.calibration(spread_unit))
    with clock.stage("fit"):
        likely = fit_body(body, vertices_unit, sigma_unit, config.fit, free_scale=True)
        size = find_size(asked["unit"], likely.scale * scale_of(views.T_unit_scan), config.unit_tolerance)
        T_world_scan = world_transform(views.T_unit_scan, size)
        metres = scale_of(T_world_scan) / scale_of(views.T_unit_scan)
        sigma = (sigma_unit * metres).clamp_min(config.uncertainty.floor_mm / 1000)
        fit = fit_body(body, vertices_unit * metres, sigma, config.fit)
    with clock.stage("refine"):
        target = target_of(scan, points, normals, T_world_scan)
        own = trim(target, posed_surface(body, fit.params), sigma.double().cpu().numpy(), config.trim)
        refined = refine_body(body, fit, own, sigma, config.refine)
    final = refined
    if asked["model"].endswith("+d"):
        with clock.stage("displace"):
            final = displace(body, refined, own, config.displace)
    with clock.stage("assess"):
        in_world = (vertices_unit * metres).double().cpu().numpy()
        found = Found(in_world, fit, refined, final, sigma.double().cpu().numpy(), size, T_world_scan, views)
        return assemble(scan, target, body, found, asked, config, clock)


@dataclass(frozen=True)
class _Model:
    """What is fitted, and the free model whose network finds it: the same, where nothing has to be carried over."""

    body: BodyModel
    """Of a hand always one that looks like a right hand."""
    source: BodyModel
    correspondence: Correspondence | None = None

    def carried(self, vertices: torch.Tensor, sigma: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Return vertices (V, 3) of the model and their sigma (V,) from those of the free one; unit and frame stay."""
        if self.correspondence is None:
            return vertices, sigma
        points, faces = vertices.double().cpu().numpy(), self.source.data.faces
        own = self.correspondence.carry(points, faces)
        own_sigma = self.correspondence.carry_sigma(sigma.double().cpu().numpy(), points, faces)
        return torch.from_numpy(own).to(vertices), torch.from_numpy(own_sigma).to(sigma)


def source_of(model: str) -> str:
    """Return the free model whose networks find a model: the model itself, unless it was added."""
    name = model.removesuffix("+d")
    return name if name in body_names() else free_model_of(load_body(name).data)


def free_model_of(data: BodyData) -> str:
    """Return the name of the free model that another one is like."""
    return "anny-hand" if data.is_hand else "anny"


def correspond(model: "LicensedModel") -> Correspondence:
    """Register the free model to the template of another, and find there the place of each of its vertices.

    Args:
        model: The model, as read from its file. A left hand's correspondence is that of its mirror image.

    Raises:
        BodyError: the template shows neither a person nor a hand.
    """
    return _correspondence(_as_right(model.data, model.side))


def _correspondence(data: BodyData) -> Correspondence:
    """Register the template of a body, or of a right hand: metres, Y up."""
    source = load_body(free_model_of(data)).data
    template = scan_from_arrays(data.v_template.astype(float), data.faces, name=data.name)
    try:
        if data.is_hand:
            result = register_hand(template, model=f"{source.name}+d", side="right", unit="m")
        else:
            result = register(template, model=f"{source.name}+d", unit="m", up="+y")
    except (RegistrationError, ScanError) as error:
        raise BodyError(f"model {data.name}: its template could not be registered: {error}") from error
    if result.verdict == "failed":
        raise BodyError(f"model {data.name}: its template could not be registered: {result.reason}")
    return place_template(data, source, result.body_vertices, result.vertices)


def _model(name: str) -> _Model:
    """Return a model by name and what carries the network over to it; found anew where the free model has changed."""
    if name in body_names():
        body = load_body(name)
        return _Model(body, body)
    added = store.load_model(name) if name in store.names() else None
    data = _as_right(load_body(name).data, added.side if added else None)
    source = load_body(free_model_of(data))
    found = store.correspondence(name) if store.is_current(name) else store.renew(name, correspond)
    return _Model(BodyModel(data), source, found)


def _of_side(name: str, model: _Model, is_left: bool) -> _Model:
    """Return the model whose own file is of the hand that was found, where there is one; else its mirror image."""
    other = "mano-left" if is_left else "mano"
    if name not in {"mano", "mano-left"} or name == other or other not in store.names():
        return model
    return _model(other)


def _as_right(data: BodyData, side: str | None) -> BodyData:
    """Return a left hand's mirror image, which the pipeline takes it for; everything else as it is."""
    return mirror_image(data) if side == "left" else data
