"""Photos: the protocol of the paper's table 1, its measure of how many shapes are told apart, and what sigma says.

Everybody is seen from several sides and registered from each photo by itself. What the figures mean, and how bodies are
aligned first, is in placement.py; who is photographed is in subjects.py.
"""

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch

from lvdreg.base.errors import CheckpointError, RegistrationError, UsageError
from lvdreg.base.provenance import sha256_of
from lvdreg.base.shapes import FloatArray
from lvdreg.body.catalogue import load_body
from lvdreg.body.model import BodyModel
from lvdreg.descent.checkpoint import load_network
from lvdreg.descent.photo import seen_joints
from lvdreg.evaluate.cache import Arrays, CachedResult, kept, run_key
from lvdreg.evaluate.faust import faust_scans
from lvdreg.evaluate.methods import OURS, Progress, folder_of, verdict_note, words_of
from lvdreg.evaluate.placement import AS_SEEN, MOVED, at_best_depth, at_best_place, corresponding, distances, placed
from lvdreg.evaluate.sigma import sigma_quality
from lvdreg.evaluate.subjects import (
    BROAD,
    DISTANCE,
    GOWNED,
    STANDING,
    PhotoSubject,
    RenderedView,
    draw_character,
    photograph,
    read_photo_subject,
)
from lvdreg.evaluate.table import Row, Table
from lvdreg.evaluate.views import ByView, ViewTable
from lvdreg.geometry.mesh import enclosed_volume
from lvdreg.geometry.metrics import Surface, summarise
from lvdreg.image.crop import CutConfig, crop_around
from lvdreg.image.regressor import RegressorNet
from lvdreg.photo.shown import people_shown
from lvdreg.pipeline.estimate import check_method
from lvdreg.pipeline.photo import register_image
from lvdreg.synth.photos import NEAREST_CAMERA

VIEWS = (0, 90, 180, 270)
FAILURE_MM = 100.0
REGRESSOR, MEAN = "regressor", "mean body"
STAGES = {"descent": "network alone", "fit": "network, fit", "final": "network, fit, silhouette"}
"""Of learned vertex descent; other methods are bodies from the beginning."""
REGISTERED = STAGES["final"]
MEASURED = ("V2V", "V2S", "V2V model to scan", "V2S model to scan", "corresponding vertex")
ALIGNED = (AS_SEEN, MOVED)
SHAPE_COMPONENT = 1
"""The paper measures the spread of the second component."""
GROUPS = {
    STANDING: "characters standing", BROAD: "characters in any pose", GOWNED: "characters standing in skirts and coats"
}  # fmt: skip
WORSE_MM = 2.0
"""Refinement that adds more than this to the mean error of a photo has made it worse."""
SCANS = "FAUST scans"


def evaluate_images(
    num: int = 20,
    seed: int = 0,
    views: Sequence[int] = VIEWS,
    faust: str | Path | None = None,
    limit: int | None = None,
    model: str = "anny",
    out: str | Path = "out/images",
    regressor: str | Path | None = None,
    with_height: bool = False,
    gowned: int = 0,
    distance: float = DISTANCE,
    with_focal: bool = False,
    methods: Sequence[str] = ("lvd",),
    progress: Progress | None = None,
    **settings: Any,
) -> Table:
    """Photograph characters and scans from several sides, register each photo, and compare with the truth.

    Args:
        num: How many characters, half of them standing; drawn from seeds that training never uses.
        seed: Which set of characters.
        views: Degrees from the way a person faces.
        faust: Folder with ``scan/NNN.ply`` of FAUST, which are photographed too; None: none.
        limit: Take only so many scans, spread evenly; None = all.
        model: Name of the body.
        out: Where results are kept; run again to go on, remove it to start afresh.
        regressor: Weights of a regressor of parameters to compare with, before any fit; None: none.
        with_height: Whether each person's height is told.
        gowned: How many more characters, who stand in skirts, gowns, coats and robes that fall around the legs.
        distance: From the camera to the middle of each person, metres.
        with_focal: Whether the focal length is told.
        methods: Of ``register_image``; ``lvd`` is always among them.
        progress: Called after each photo.
        settings: Passed to ``register_image`` for every photo alike.

    Raises:
        UsageError: no views, or a camera that is too near.
        ScanError: the folder holds no scans.
        CheckpointError: weights are missing or damaged.
        RegistrationError: no photo could be registered.
    """
    if not views or len(set(views)) < len(views):
        raise UsageError(f"--views: expected different numbers of degrees, got {list(views)}")
    if num + gowned < 1 and faust is None:
        raise UsageError("--num: expected one character or more, or --faust DIR, got neither")
    if not NEAREST_CAMERA <= distance < np.inf:
        raise UsageError(f"--distance: expected {NEAREST_CAMERA:g} metres or more, got {distance:g}")
    for name in methods:
        check_method(name)
    body, folder = load_body(model), Path(out)
    paths = [] if faust is None else [scan for scan, _ in faust_scans(Path(faust), limit)]
    asked = {**settings, "with_height": with_height, "with_focal": with_focal}
    ours = partial(by_us, body=body, with_height=with_height, with_focal=with_focal, settings=settings)
    compared = {
        OURS if name == "lvd" else name: partial(ours, method=name) for name in dict.fromkeys(("lvd", *methods))
    }
    if regressor is not None:
        net = regressor_of(Path(regressor), model)
        compared[REGRESSOR] = partial(by_regressor, body=body, net=net)
        asked["regressor"] = sha256_of(Path(regressor))
    compared[MEAN] = partial(by_nobody, body=body)
    key = run_key(model, {"seed": seed, **asked})
    results, done, total = Results(), 0, (num + gowned + len(paths)) * len(views)
    for photo_subject in photo_subjects(num, gowned, seed, paths, model, folder / "in_space", key):
        for rendered_view in photograph(photo_subject, views, body, distance):
            for name, method in compared.items():
                path = folder / folder_of(name) / f"{rendered_view.name}_{rendered_view.view:03d}.npz"
                cached = kept(path, f"{key} {rendered_view.digest()}", partial(method, rendered_view))
                results.add(name, rendered_view, cached)
            done += 1
            if progress is not None:
                progress(done, total, f"{rendered_view.name} at {rendered_view.view} degrees")
    title = f"Photos of {num + gowned} characters and {len(paths)} scans from {distance:g} m, seed {seed}, {model}"
    return table_of(title, results, tuple(views), with_height)


def views_of(words: str) -> tuple[int, ...]:
    """Return degrees from numbers with commas between.

    Raises:
        UsageError: they are something else.
    """
    try:
        return tuple(int(word) for word in words.split(","))
    except ValueError:
        raise UsageError(f"--views: expected numbers with commas between, got {words!r}") from None


def known_faust() -> Path | None:
    """Return the folder of FAUST's scans in ``$LVDREG_REAL_DATA``, where both are there."""
    data = os.environ.get("LVDREG_REAL_DATA")
    folder = Path(data) / "bodies" / "faust" if data else None
    return folder if folder is not None and folder.is_dir() else None


def photo_subjects(
    num: int, gowned: int, seed: int, paths: Sequence[Path], model: str, out: Path, key: str
) -> Iterator[PhotoSubject]:
    """Yield characters, standing and in any pose by turns, then those in skirts and coats, then scans."""
    for i in range(num):
        yield draw_character(model, seed, i // 2, (STANDING, BROAD)[i % 2])
    for i in range(gowned):
        yield draw_character(model, seed, i, GOWNED)
    for path in paths:
        yield read_photo_subject(path, model, out, key)


# ---- methods: a photo in, figures out


def by_us(
    rendered_view: RenderedView,
    body: BodyModel,
    with_height: bool,
    with_focal: bool,
    settings: dict[str, Any],
    method: str = "lvd",
) -> Arrays:
    """Register a photo and measure what all stages found."""
    height = rendered_view.height if with_height else None
    focal = rendered_view.focal_mm35 if with_focal else None
    told: dict[str, Any] = {"height": height, "focal": focal, "method": method}
    result = register_image(rendered_view.photo, model=body.data.name, **told, **settings)
    stages = stages_of(method)
    found = {**result.steps, "final": result.vertices}
    in_world = {name: placed(found[name], result.camera, rendered_view.camera, with_height) for name in stages}
    size = 1.0 if with_height else result.camera.scale / rendered_view.camera.scale
    arrays = measured({stages[name]: points for name, points in in_world.items()}, rendered_view, body)
    if rendered_view.is_exact and method == "lvd":
        faces, true = body.data.faces, rendered_view.vertices
        volumes = [enclosed_volume(points, faces) for points in (in_world["fit"], in_world["final"], true)]
        arrays["volume"] = np.array(volumes)
        for name in ("descent", "final"):
            arrays[f"{name}_mm"] = corresponding(in_world[name], true, faces, AS_SEEN).astype(np.float32)
        arrays["sigma_mm"] = (size * result.sigma_mm).astype(np.float32)
    ious = [result.metrics.get(name, np.nan) for name in ("silhouette_iou_fit", "silhouette_iou")]
    return {
        **arrays,
        "vertices": in_world["final"].astype(np.float32),
        "betas": np.asarray(result.params["betas"], np.float64),
        "iou": np.array(ious),
        "height": np.array([result.metrics.get("height_m", np.nan), rendered_view.height]),
        "has_keypoints": np.array(result.keypoints is not None),
        "verdict": np.array(result.verdict),
        "reason": np.array(result.reason),
    }


def stages_of(method: str) -> dict[str, str]:
    """Return what each step of a result is called in tables."""
    return STAGES if method == "lvd" else {method: method, "final": f"{method}, silhouette"}


@torch.no_grad()
def by_regressor(rendered_view: RenderedView, body: BodyModel, net: RegressorNet) -> Arrays:
    """Let a regressor look at the same crop, and measure the body that it names."""
    crop = crop_around(rendered_view.rgb, rendered_view.mask, CutConfig(), net.sees.size)
    # What detectors say, as the image network hears it: both see the same.
    person = people_shown(rendered_view.photo, "auto")[0]
    seen = seen_joints(crop, person.keypoints, net.sees.keypoints)
    said = net(crop.image[None], crop.mask[None], seen[None])
    points = placed(said.vertices(body)[0].double().numpy(), crop.camera(1.0), rendered_view.camera)
    words = {"verdict": np.array("good"), "reason": np.array("a regressor does not judge itself")}
    figures = measured({REGRESSOR: points}, rendered_view, body)
    return {**figures, "betas": said.betas[0].double().numpy(), **words}


def by_nobody(rendered_view: RenderedView, body: BodyModel) -> Arrays:
    """Measure bodies of mean shape that were put where the true one is: what looking must beat."""
    words = {"verdict": np.array("good"), "reason": np.array("nobody looked")}
    return {**measured(rendered_view.mean_bodies, rendered_view, body), **words}


def measured(found: dict[str, FloatArray], rendered_view: RenderedView, body: BodyModel) -> Arrays:
    """Return ``stages`` and ``figures`` (stages, alignments, metrics), mm, of bodies (V, 3) as the camera sees them."""
    faces = body.data.faces
    figures = np.full((len(found), len(ALIGNED), len(MEASURED)), np.nan)
    for i, points in enumerate(found.values()):
        seen = at_best_depth(Surface(points, faces), rendered_view.surface)
        for j, lying in enumerate((seen, at_best_place(Surface(seen, faces), rendered_view.surface))):
            d = distances(lying, faces, rendered_view.surface)
            figures[i, j, :4] = d.v2v, d.v2s, d.v2v_model, d.v2s_model
            if rendered_view.is_exact:
                # Weighted by area: head and hands hold most vertices.
                apart = corresponding(points, rendered_view.vertices, faces, ALIGNED[j])
                figures[i, j, 4] = float(np.average(apart, weights=rendered_view.areas(faces)))
    return {"stages": np.array(list(found)), "figures": figures}


def regressor_of(path: Path, model: str) -> RegressorNet:
    """Load a regressor.

    Raises:
        CheckpointError: the file is missing, damaged, or something else.
    """
    net, _ = load_network(path)
    if not isinstance(net, RegressorNet) or net.config.body != model:
        raise CheckpointError(f"{path}: expected a regressor of {model}, got another network; train one first")
    return net


# ---- results


@dataclass(frozen=True)
class PhotoResult:
    """One method's result of one photo, its arrays reduced to what tables need."""

    group: str
    view: int
    cached: CachedResult
    true_betas: FloatArray


@dataclass(frozen=True)
class Results:
    """What all methods made of all photos."""

    entries: dict[str, list[PhotoResult]] = field(default_factory=dict)

    def add(self, method: str, rendered_view: RenderedView, cached: CachedResult) -> None:
        """Take in one result."""
        group = GROUPS.get(rendered_view.groups[0], SCANS) if rendered_view.groups else SCANS
        self.entries.setdefault(method, []).append(PhotoResult(group, rendered_view.view, cached, rendered_view.betas))

    def stages(self) -> dict[str, str]:
        """Return the method of each stage, in order."""
        found: dict[str, str] = {}
        for method, entries in self.entries.items():
            for entry in entries:
                found |= dict.fromkeys((str(s) for s in entry.cached.arrays.get("stages", [])), method)
        return found

    def groups(self) -> list[str]:
        """Return the groups that there are."""
        return list(dict.fromkeys(entry.group for entries in self.entries.values() for entry in entries))

    def values(self, stage: str, alignment: str, metric: str, group: str, view: int | None = None) -> FloatArray:
        """Return a figure of all photos of a group, or of one view of it; NaN where nothing was registered."""
        entries = self.entries[self.stages()[stage]]
        chosen = [e.cached.arrays for e in entries if e.group == group and view in (None, e.view)]
        return np.array([_figure(arrays, stage, alignment, metric) for arrays in chosen])


def _figure(arrays: Arrays, stage: str, alignment: str, metric: str) -> float:
    if "figures" not in arrays:
        return float("nan")
    row = [str(name) for name in arrays["stages"]].index(stage)
    return float(arrays["figures"][row, ALIGNED.index(alignment), MEASURED.index(metric)])


def table_of(title: str, results: Results, views: tuple[int, ...], with_height: bool) -> ViewTable:
    """Return the tables and notes of a run.

    Raises:
        RegistrationError: none of our photos was registered.
    """
    ours = results.entries[OURS]
    good = [entry.cached.arrays for entry in ours if "figures" in entry.cached.arrays]
    if not good:
        raise RegistrationError(f"expected at least one registered photo, got none; the first: {ours[0].cached.reason}")
    rows = [
        Row(stage, f"{metric}, {group}", summarise(values, FAILURE_MM))
        for group in results.groups()
        for metric in ("V2S", "corresponding vertex")
        for stage in results.stages()
        if np.isfinite(values := results.values(stage, AS_SEEN, metric, group)).any()
    ]
    tables = [by_view(results, group, alignment, views) for group in results.groups() for alignment in ALIGNED]
    details: dict[str, Any] = {"by_view": [vars(table) for table in tables], "shape": shapes(results)}
    details |= {name: words_of([entry.cached for entry in entries]) for name, entries in results.entries.items()}
    pairs = {
        step: [(a["sigma_mm"].astype(float), a[f"{step}_mm"].astype(float)) for a in good if "sigma_mm" in a]
        for step in ("descent", "final")
    }
    details["sigma"] = {step: sigma_quality(found) for step, found in pairs.items() if found}
    details["refinement"] = {group: words for group in results.groups() if (words := refinement_words(results, group))}
    return ViewTable(title, tuple(rows), tuple(_notes(results, details, with_height)), details, tuple(tables))


def by_view(results: Results, group: str, alignment: str, views: tuple[int, ...]) -> ByView:
    """Return mean V2V and V2S by view, then over all photos."""

    def means(stage: str, metric: str) -> tuple[float, ...]:
        each = [results.values(stage, alignment, metric, group, view) for view in (*views, None)]
        return tuple(float(np.nanmean(x)) if np.isfinite(x).any() else float("nan") for x in each)

    rows = tuple((stage, means(stage, "V2V"), means(stage, "V2S")) for stage in results.stages())
    return ByView(f"{group}, {alignment}", views, rows)


def refinement_words(results: Results, group: str) -> str:
    """Say what refinement changed of the network's fits of a group; empty where no truth is known."""
    before, after = (
        results.values(STAGES[stage], AS_SEEN, "corresponding vertex", group) for stage in ("fit", "final")
    )
    known = [
        e.cached.arrays["volume"] for e in results.entries[OURS] if e.group == group and "volume" in e.cached.arrays
    ]
    if not known:
        return ""
    fitted, refined, true = np.stack(known).T
    worse = int((after - before > WORSE_MM).sum())
    return (
        f"{np.nanmean(before):.1f} mm before, {np.nanmean(after):.1f} after (corresponding vertex, mean); worse by "
        f"more than {WORSE_MM:g} mm in {worse} of {np.isfinite(after).sum()} photos; volume as seen changed by "
        f"{np.abs(refined / fitted - 1).max():.0%} at most, off by {np.median(np.abs(fitted / true - 1)):.0%} before "
        f"and {np.median(np.abs(refined / true - 1)):.0%} after (median)"
    )


def shapes(results: Results) -> dict[str, Any]:
    """Compare the spread of each shape component with that of the truth, by group and method (the paper's figure 5).

    Returns:
        For each: standard deviations over photos, found and true, (K,) each, and their correlation (K,).
    """
    found: dict[str, Any] = {}
    for method, entries in results.entries.items():
        for group in results.groups():
            pairs = [(e.cached.arrays["betas"], e.true_betas) for e in entries if e.group == group and _knows(e)]
            if len(pairs) > 2:
                ours, true = (np.stack([pair[i] for pair in pairs]) for i in range(2))
                found[f"{method}, {group}"] = {
                    "std": ours.std(0), "true_std": true.std(0), "correlation": correlations(ours, true),
                }  # fmt: skip
    return found


def _knows(entry: PhotoResult) -> bool:
    return "betas" in entry.cached.arrays


def correlations(ours: FloatArray, true: FloatArray) -> FloatArray:
    """Return Pearson's correlation (K,) of the columns of two arrays (N, K); 0 where one of them is constant."""
    a, b = (x - x.mean(0) for x in (ours, true))
    length = np.sqrt((a**2).sum(0) * (b**2).sum(0))
    return np.asarray(np.where(length > 1e-12, (a * b).sum(0) / np.maximum(length, 1e-12), 0.0))


def _notes(results: Results, details: dict[str, Any], with_height: bool) -> Iterator[str]:
    size = "at its own size, the height being told" if with_height else "at the true camera's scale"
    yield (
        f"as seen: the body lies across the line of sight where the photo shows it, {size}, and is shifted along the "
        "line of sight to where it lies nearest; moved: shifted in all directions and scaled, too; nothing is turned"
    )
    yield (
        "V2V to the nearest vertex, V2S to the surface, means of both ways, to the naked body of characters and to the "
        "scan; V2V has about half the scan's spacing in it"
    )
    yield (
        "rows of the paper are quoted for orientation only: other people (BUFF), another body, and the paper does not "
        "say how it aligned; they are not comparable one to one"
    )
    yield "the mean bodies are put where the true body is, facing as it does: what looking at the photo must beat"
    for name, shape in details["shape"].items():
        k, r = SHAPE_COMPONENT, shape["correlation"]
        yield (
            f"shape, {name}: standard deviation of the second component {shape['std'][k]:.2f}, of the truth "
            f"{shape['true_std'][k]:.2f}; correlation with the truth {r[k]:.2f}, of the first five "
            f"{', '.join(f'{x:.2f}' for x in r[:5])}"
        )
    yield from (f"refinement, {group}: {words}" for group, words in details["refinement"].items())
    for step, quality in details["sigma"].items():
        yield (
            f"sigma against the error, {STAGES[step]}: Spearman {quality['spearman']:.2f} over all vertices, "
            f"{quality['spearman_within_scan']:.2f} within a photo (median); {quality['within_1_sigma']:.0%} within "
            f"one sigma, {quality['within_2_sigma']:.0%} within two"
        )
    ours = [entry.cached for entry in results.entries[OURS]]
    known = [cached.arrays for cached in ours if "iou" in cached.arrays]
    before, after = np.nanmean([arrays["iou"] for arrays in known], axis=0)
    heights = np.stack([arrays["height"] for arrays in known])
    yield f"silhouette IoU of body and mask {before:.3f} after the fit, {after:.3f} after refinement"
    yield f"keypoints were found in {np.mean([bool(arrays['has_keypoints']) for arrays in known]):.0%} of the photos"
    yield f"height off by {1000 * np.abs(heights[:, 0] - heights[:, 1]).mean():.0f} mm on average"
    yield f"{OURS}: {verdict_note(ours)}, which is a photo here"
