"""The story: a scan of a person in, a registered body out. Every step is one call; nothing is computed here."""

from pathlib import Path
from typing import TYPE_CHECKING

from lvdreg.assess import Found, assemble
from lvdreg.body.catalogue import load_body
from lvdreg.config import RegisterConfig
from lvdreg.correspond import target_of
from lvdreg.displace import displace
from lvdreg.explain import look, turns_of
from lvdreg.fit import fit_body
from lvdreg.frames import scale_of
from lvdreg.normalise import body_boxes, check_unit, find_size, up_candidates, world_transform
from lvdreg.refine import refine_body
from lvdreg.registration import Registration
from lvdreg.scan import clean_scan, oriented_points, scan_of
from lvdreg.stages import Clock, Progress
from lvdreg.uncertainty import land
from lvdreg.weights import voxel_weights

if TYPE_CHECKING:
    from numpy.typing import ArrayLike

    from lvdreg.scan import Scan


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
        model: Name of a body, with ``+d`` for displacements that follow clothes and hair.
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
    config, clock = config or RegisterConfig(), Clock(progress)
    asked = {"model": model, "unit": unit, "up": up, "device": device, "seed": seed}
    check_unit(unit)
    ups = up_candidates(up)
    with clock.stage("load"):
        body = load_body(model.removesuffix("+d"))
        trained = voxel_weights(model.removesuffix("+d"), device)
    with clock.stage("read"):
        scan = clean_scan(scan_of(source))
        points, normals = oriented_points(scan, config.clean.num_points, seed)
    with clock.stage("descend"):
        boxes = body_boxes(points, ups, trained.net.config.voxel.num_points)
        views = look(trained.net, points, boxes, turns_of(config.views), config.views, config.descent)
    with clock.stage("weigh"):
        vertices_unit, spread_unit = land(trained.net.field, views, body.faces, config.uncertainty, seed)
        sigma_unit = trained.calibration(spread_unit)
    with clock.stage("fit"):
        likely = fit_body(body, vertices_unit, sigma_unit, config.fit, free_scale=True)
        size = find_size(unit, likely.scale * scale_of(views.T_unit_scan))
        T_world_scan = world_transform(views.T_unit_scan, size)
        metres = scale_of(T_world_scan) / scale_of(views.T_unit_scan)
        sigma = (sigma_unit * metres).clamp_min(config.uncertainty.floor_mm / 1000)
        fit = fit_body(body, vertices_unit * metres, sigma, config.fit)
    with clock.stage("refine"):
        target = target_of(scan, points, normals, T_world_scan)
        refined = refine_body(body, fit, target, sigma, config.refine)
    final = refined
    if model.endswith("+d"):
        with clock.stage("displace"):
            final = displace(body, refined, target, config.displace)
    with clock.stage("assess"):
        found = Found(fit, refined, final, sigma.double().cpu().numpy(), size, T_world_scan, views)
        return assemble(scan, target, body, found, asked, config, clock)
