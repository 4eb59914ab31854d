"""The story: a scan of a person or a hand in, a registered body out. Each step is one call; nothing is computed here.

People and hands take the same steps. What differs is how the network's box is found, and a preset of settings.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from jaxtyping import Float
from torch import Tensor

from lvdreg.base.errors import BodyError, RegistrationError, ScanError
from lvdreg.base.shapes import Points, Transform
from lvdreg.base.threads import one_torch_thread
from lvdreg.base.timing import Clock, Progress, one_blas_thread
from lvdreg.body.catalogue import load_body
from lvdreg.body.chosen import as_right, choose, free_model_of, of_side, source_of
from lvdreg.body.model import BodyData, BodyModel
from lvdreg.body.transfer import Correspondence, place_template
from lvdreg.descent.boxes import (
    Box,
    Size,
    body_boxes,
    boxes_without,
    check_side,
    check_unit,
    up_candidates,
    world_transform,
)
from lvdreg.descent.scan import Views, descend_scan, view_rotations
from lvdreg.descent.uncertainty import one_step_spread
from lvdreg.descent.weights import TrainedNet, voxel_weights
from lvdreg.fit.correspond import Target, posed_surface, target_of, trim
from lvdreg.fit.displace import displace
from lvdreg.fit.errors import ErrorEvidence, VertexErrors, errors_file, evidence_of, shipped_errors
from lvdreg.fit.known import Known
from lvdreg.fit.scan import refine_body
from lvdreg.fit.size import find_size, length_density
from lvdreg.fit.things import leave_out
from lvdreg.fit.vertices import Fit, fit_body
from lvdreg.geometry.frames import is_reflected, scale_of
from lvdreg.geometry.nearest import find_backend
from lvdreg.pipeline.arguments import check_arguments, check_kind
from lvdreg.pipeline.assess_scan import FoundInScan, assemble
from lvdreg.pipeline.closer import closer_files, closer_look, with_seen
from lvdreg.pipeline.config import RegisterConfig, scan_config
from lvdreg.pipeline.kind import another_kind
from lvdreg.pipeline.separate import count_people, may_be_several
from lvdreg.pipeline.told import Person, Told, floor_under, with_doubts
from lvdreg.result.scan import Registration
from lvdreg.scan.clean import clean_scan
from lvdreg.scan.model import oriented_points, scan_from_arrays, scan_of
from lvdreg.scan.readers.camera import camera_files
from lvdreg.scan.things import find_things, without_things
from lvdreg.settings import Settings, settings_of

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

    from lvdreg.base.provenance import FileHashes
    from lvdreg.body.licensed import LicensedModel
    from lvdreg.scan.model import Scan

    class FindBoxes(Protocol):
        """Finds where a body may lie among points of a scan."""

        def __call__(self, points: NDArray[Any], trained: TrainedNet[Any]) -> list[Box]: ...

    Finder = Callable[[], tuple[FindBoxes, FileHashes]]


def register(
    source: "str | Path | Scan | ArrayLike",
    *,
    model: str = "anny",
    unit: str = "auto",
    up: str = "auto",
    device: str = "cpu",
    seed: int = 0,
    height: float | None = None,
    sex: str | None = None,
    age: float | None = None,
    pose: str | None = None,
    keypoints: "str | Path | None" = None,
    floor: bool = False,
    camera: "str | Path | None" = None,
    settings: "Settings | Mapping[str, Any] | None" = None,
    progress: Progress | None = None,
) -> Registration:
    """Register a body model to a scan of a person.

    Equal scans, settings and seeds give equal results, bit for bit on one computer with one install, whatever the
    number of threads of torch and BLAS and whatever else the process does. (docs/settings.md says what else moves
    results, and how far.)

    Several threads may register at once, people, hands and photos: each gets what it would get alone, bit for bit. As
    long as one of them is at work BLAS has one thread in the whole process; afterwards it has as many as before.
    torch's number of threads, random states, filters of warnings and the environment are left alone. (Training and
    ``lvdreg augment`` set the first and the last: give them a process of their own.) Besides the calling one as many
    threads are at work as torch has.

    Args:
        source: File of any supported format, a ``Scan``, or points (P, 3).
        model: Name of a body, free or added (``lvdreg models add``), with ``+d`` for displacements that follow clothes
            and hair.
        unit: Unit of the scan's numbers; "auto" finds it, "none" says they mean nothing.
        up: Axis of the scan that points up; "auto" finds it.
        device: Where the network runs.
        seed: Seed of sampling and perturbations: equal seeds give equal results.
        height: Of the person standing upright, metres, where it is known.
        sex: "male" or "female", where it is known: which shapes are likely.
        age: Years, where it is known: likewise.
        pose: "t" or "a" where the person stands in a T-pose or an A-pose.
        keypoints: JSON file of places by joint name, {"left_wrist": [x, y, z]}, in the frame and unit of the scan; or a
            folder of files NAME.json.
        floor: Whether the person stands on a floor: no foot goes below it.
        camera: What took a depth image: a JSON file, or the name of a camera (docs/scans.md has both).
        settings: ``lvdreg.Settings``, or some of them by name: {"quality": "fast"}; standard quality when None.
        progress: Receives the name of each stage as it begins.

    Returns:
        The result in the frame and unit of the scan, with uncertainty, metrics and a verdict.

    Raises:
        ScanError: the scan cannot be read or holds too little.
        BodyError, CheckpointError: body or weights are missing.
        UsageError: an option has no such value.
        RegistrationError: no body could be fitted.
    """
    given = {"model": model, "unit": unit, "up": up, "device": device, "seed": seed, "camera": camera}
    told = {"height": height, "sex": sex, "age": age, "pose": pose, "keypoints": keypoints, "floor": floor}
    call, clock = person_call(given, told, settings, progress), Clock(progress)
    fitted = fit_scan(source, call.asked, call.told, call.finder, call.config, clock)
    result = finish_scan(fitted, call.asked, call.config, clock)
    if result.verdict == "good" or not may_be_several(fitted.scan, fitted.views.explained):
        return result
    return _with_count(result, call, clock)


def _with_count(result: Registration, call: "Call", clock: Clock) -> Registration:
    """Say so where a scan shows several people, whom no one body explains."""
    with clock.stage("assess"):
        count = count_people(result.scan, call.asked, call.config)
    result = replace(result, timings=dict(clock.seconds))
    if count < 2:
        return result
    reason = f"{count} people are seen in the scan, not one: --people all registers each"
    return replace(result, verdict="failed", reason=reason, warnings=(reason, *result.warnings))


@dataclass(frozen=True)
class Call:
    """What a registration of people was asked for.

    Attributes:
        asked: As reports have it.
        told: What the user knows of the person.
        finder: Finds where the body may lie.
        config: Settings of all stages.
    """

    asked: dict[str, Any]
    told: Told
    finder: "Finder"
    config: RegisterConfig


def person_call(
    given: dict[str, Any],
    told: dict[str, Any],
    settings: "Settings | Mapping[str, Any] | None",
    progress: Progress | None,
) -> Call:
    """Check what can be checked of a call before anything is computed: arguments of ``register`` by name.

    Raises:
        UsageError: an option has no such value.
    """
    checked = {"depth_camera" if name == "camera" else name: value for name, value in given.items()}
    check_arguments(progress, **checked, **told)
    given = given | {"camera": given["camera"] and str(given["camera"])}
    ups, chosen = up_candidates(given["up"]), settings_of(settings, "register")
    check_unit(given["unit"])
    told |= {"keypoints": told["keypoints"] and str(told["keypoints"])}

    def finder() -> "tuple[FindBoxes, FileHashes]":
        return lambda points, trained: body_boxes(points, ups, trained.net.config.voxel.num_points), {}

    return Call(given | told | chosen.reported(), Told(**told), finder, scan_config(chosen, "register"))


def register_hand(
    source: "str | Path | Scan | ArrayLike",
    *,
    model: str = "anny-hand",
    side: str = "auto",
    unit: str = "auto",
    device: str = "cpu",
    seed: int = 0,
    camera: "str | Path | None" = None,
    settings: "Settings | Mapping[str, Any] | None" = None,
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
        camera: What took a depth image: a JSON file, or the name of a camera (docs/scans.md has both).
        settings: ``lvdreg.Settings``, or some of them by name: {"quality": "fast"}; standard quality when None.
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
    check_arguments(progress, model=model, side=side, unit=unit, device=device, seed=seed, depth_camera=camera)
    clock = Clock(progress)
    # Late, so that bodies need no hand detector.
    from lvdreg.descent.hand_boxes import hand_pose_hypotheses
    from lvdreg.descent.weights import hand_detector_weights

    chosen = settings_of(settings, "hands")
    config = scan_config(chosen, "hands")
    asked = {"model": model, "unit": check_unit(unit), "side": check_side(side), "device": device, "seed": seed}
    asked |= {"camera": camera and str(camera)}

    def finder() -> "tuple[FindBoxes, FileHashes]":
        detector = hand_detector_weights(source_of(model), device)
        about = side, config.views, config.clean
        return lambda points, trained: hand_pose_hypotheses(detector.net, points, *about), detector.files

    return _register(source, asked | chosen.reported(), Told(), finder, config, clock)


@dataclass(frozen=True)
class FittedScan:
    """A scan and the body that was refined against it; metres and world frame but for the scan and its points.

    Attributes:
        scan: The cleaned scan, without things.
        points: (P, 3) sampled from all of it.
        target: The scan in the world frame.
        own: What of it the body can explain.
        body: The model.
        vertices: (V, 3) as the network has them.
        sigma: (V,) one-sigma of them.
        known: What the user told.
        fit: Body fitted to the vertices.
        refined: Body refined against the scan.
        size: Unit and factor to metres.
        T_world_scan: From the scan to the world.
        views: What the network saw, without its features.
        files: SHA-256 of all files that had a part.
        free_model: Name of the free model whose network saw the scan.
    """

    scan: "Scan"
    points: Points
    target: Target
    own: Target
    body: BodyModel
    vertices: Float[Tensor, "V 3"]
    sigma: Float[Tensor, " V"]
    known: Known
    fit: Fit
    refined: Fit
    size: Size
    T_world_scan: Transform
    views: Views
    files: "FileHashes"
    free_model: str


def _register(
    source: "str | Path | Scan | ArrayLike",
    asked: dict[str, Any],
    told: Told,
    finder: "Finder",
    config: RegisterConfig,
    clock: Clock,
) -> Registration:
    """Take all steps; ``finder`` gives what says from points of the scan where the body may lie, and its weights."""
    return finish_scan(fit_scan(source, asked, told, finder, config, clock), asked, config, clock)


@one_blas_thread()
@one_torch_thread()
def fit_scan(
    source: "str | Path | Scan | ArrayLike",
    asked: dict[str, Any],
    told: Told,
    finder: "Finder",
    config: RegisterConfig,
    clock: Clock,
) -> FittedScan:
    """Take the steps up to the refinement."""
    name, device, seed = asked["model"].removesuffix("+d"), asked["device"], asked["seed"]
    with clock.stage("load"):
        find_backend()  # One that is not there is better missed now than after the descent.
        model = choose(name, correspond)
        check_kind(name, model.source.data, hands="side" in asked)
        trained, (find_boxes, finder_files) = voxel_weights(model.source.data.name, device), finder()
    with clock.stage("read"):
        raw = scan_of(source, asked["camera"])
        unit = raw.unit or asked["unit"] if asked["unit"] == "auto" else asked["unit"]
        person = Person.of(told, model.body.data, raw)
        scan = clean_scan(raw, config.clean)
        points, normals = oriented_points(scan, config.clean.num_points, seed)
        things = find_things(scan, config.things)
    with clock.stage("descend"):
        rest = without_things(points, things, config.clean)
        boxes = boxes_without(partial(find_boxes, trained=trained), points, rest)
        sizes = person.sizes(config.size)
        lengths = partial(length_density, unit=unit, config=sizes)
        views = descend_scan(
            trained.net, points, boxes, view_rotations(config.views), config.views, config.descent, lengths
        )
    with clock.stage("uncertainty"):
        predicted, spread_unit = one_step_spread(trained.net.field, views, model.source.faces, config.uncertainty, seed)
        model = of_side(name, model, is_reflected(views.T_unit_scan), correspond)
        body, (vertices_unit, sigma_unit) = model.body, model.carried(predicted, trained.calibration(spread_unit))
    with clock.stage("fit"):
        in_unit = person.in_unit(views.T_unit_scan, body)
        likely = fit_body(body, vertices_unit, sigma_unit, config.fit, free_scale=True, known=in_unit)
        size = find_size(unit, body, likely, scale_of(views.T_unit_scan), sizes, person.height)
        T_world_scan = world_transform(views.T_unit_scan, size)
        metres = scale_of(T_world_scan) / scale_of(views.T_unit_scan)
        vertices, sigma = vertices_unit * metres, (sigma_unit * metres).clamp_min(config.fit.sigma_floor)
        known = person.in_world(T_world_scan, size.body_scale)
        fit = fit_body(body, vertices, sigma, config.fit, known=known)
        fit = with_doubts(fit, person, known, body, likely, views.T_unit_scan, size)
    with clock.stage("refine"):
        surface, has_normals = posed_surface(body, fit.params), raw.normals is not None
        scan, points_left, normals_left = leave_out(
            scan, points, normals, things, surface, T_world_scan, config.leave_out, has_normals
        )
        target = target_of(scan, points_left, normals_left, T_world_scan)
        if told.floor:
            known = replace(known, floor=floor_under(raw.points, target.points, T_world_scan))
        own = trim(target, surface, sigma.double().cpu().numpy(), config.trim)
        refined = fit
        if config.refine.max_iterations:
            uncertain = (trained.calibration(spread_unit) * metres).clamp_min(config.fit.sigma_floor)
            look = closer_look(model, predicted * metres, uncertain, own.points, known, config, device, seed)
            refined = refine_body(body, fit, own, sigma, config.refine, known, look)
            vertices, sigma, known = with_seen(refined.seen, vertices, sigma, known)
    free = model.source.data.name
    files = {**model.files, **trained.files, **finder_files, **person.files, **errors_file(free)}
    files |= {f"input/{k}": v for k, v in scan.files.items()} | camera_files(asked["camera"])
    files |= closer_files(body, config, device)
    found = vertices, sigma, known, fit, refined, size, T_world_scan, views.without_features()
    return FittedScan(scan, points, target, own, body, *found, files, free)


@one_blas_thread()
@one_torch_thread()
def finish_scan(fitted: FittedScan, asked: dict[str, Any], config: RegisterConfig, clock: Clock) -> Registration:
    """Take the steps after the refinement."""
    body, final = fitted.body, fitted.refined
    if asked["model"].endswith("+d"):
        with clock.stage("displace"):
            final = displace(body, fitted.refined, fitted.own, config.displace)
    with clock.stage("assess"):
        kind = another_kind(fitted.points, fitted.views, fitted.size, "side" in asked, asked["device"])
        steps = fitted.vertices.double().cpu().numpy(), fitted.fit, fitted.refined, final
        sigma = fitted.sigma.double().cpu().numpy()
        errors, evidence = predicted_errors(fitted)
        about = fitted.size, fitted.T_world_scan, fitted.views
        found = FoundInScan(*steps, sigma, *about, looks_like=kind, own=fitted.own, errors=errors, evidence=evidence)
        result = assemble(fitted.scan, fitted.target, body, found, asked, config)
    return replace(result, timings=dict(clock.seconds), assets=fitted.files)


def predicted_errors(fitted: FittedScan) -> tuple[VertexErrors, ErrorEvidence | None]:
    """Return how wrong the refined body is likely to be at each vertex, metres, and what that is known from; None where
    it was not refined: then it is as wrong as the network says of its own vertices."""
    sigma = fitted.sigma.double().cpu().numpy()
    evidence = evidence_of(fitted.body, fitted.fit, fitted.refined, fitted.own, sigma)
    if evidence is None:
        return VertexErrors.alike(sigma), None
    return shipped_errors(fitted.free_model).at(evidence, fitted.body.data), evidence


def correspond(model: "LicensedModel") -> Correspondence:
    """Register the free model to the template of another, and find there the place of each of its vertices.

    Args:
        model: The model, as read from its file. A left hand's correspondence is that of its mirror image.

    Raises:
        BodyError: the template shows neither a person nor a hand.
    """
    return _correspondence(as_right(model.data, model.side))


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
