"""The story for several scans of one person: each is registered by itself, then all again with one shape."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from lvdreg.base.errors import UsageError
from lvdreg.base.shapes import FloatArray
from lvdreg.base.threads import one_torch_thread
from lvdreg.base.timing import Clock, Progress, one_blas_thread
from lvdreg.fit.scan import refine_body, shape_information
from lvdreg.fit.size import rest_length
from lvdreg.fit.together import agreement
from lvdreg.fit.vertices import fit_body
from lvdreg.pipeline.arguments import check_num_scans
from lvdreg.pipeline.config import RegisterConfig
from lvdreg.pipeline.scan import FittedScan, finish_scan, fit_scan, person_call
from lvdreg.result.scan import Registration
from lvdreg.settings import Settings

if TYPE_CHECKING:
    from numpy.typing import ArrayLike

    from lvdreg.scan.model import Scan

UNLIKE = 0.06
"""Who differs in height by more than this share from the median of all scans is somebody else, or in another unit."""


def register_scans(
    sources: "Sequence[str | Path | Scan | ArrayLike]",
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
) -> list[Registration | Exception]:
    """Register a body model to several scans of one person, who has the same shape in all of them.

    Other arguments are those of ``register``. A scan that cannot be registered, or whose person is of another size,
    does not keep the others from it.

    Args:
        sources: 2 to 100 scans: files, ``Scan`` or points (P, 3).

    Returns:
        For each scan its result, or the error that kept it from one. Betas of those that share the shape are the same
        bit for bit; ``shape_with`` names the scans that a result shares them with.

    Raises:
        UsageError: an option has no such value, or there are too few or too many scans.
    """
    check_num_scans(len(sources))
    given = {"model": model, "unit": unit, "up": up, "device": device, "seed": seed, "camera": camera}
    told = {"height": height, "sex": sex, "age": age, "pose": pose, "keypoints": keypoints, "floor": floor}
    call = person_call(given, told, settings, progress)
    asked, config = call.asked | {"same": "shape"}, call.config
    results: dict[int, Registration | Exception] = {}
    fitted: dict[int, FittedScan] = {}
    clocks: dict[int, Clock] = {}
    for i, source in enumerate(sources):
        clocks[i] = Clock(progress)
        try:
            fitted[i] = fit_scan(source, asked, call.told, call.finder, config, clocks[i])
        except UsageError:
            raise
        except Exception as error:  # noqa: BLE001 - what is wrong with one scan must not lose the results of others
            results[i] = error
    alike = of_one_person(fitted)
    for i, each in with_one_shape({i: fitted[i] for i in alike}, config, clocks).items():
        fitted[i] = each
    for i, each in fitted.items():
        clock = Clock(progress, clocks[i].seconds)
        others = [j for j in alike if j != i] if i in alike else []
        result = finish_scan(each, asked, config, clock)
        warnings = (*result.warnings, *alone_warnings(others, len(fitted)))
        names = tuple(fitted[j].scan.name for j in others)
        results[i] = replace(result, warnings=warnings, shape_with=names)
    return [results[i] for i in range(len(sources))]


def of_one_person(fitted: Mapping[int, FittedScan]) -> list[int]:
    """Return which scans show somebody as tall as most show."""
    if not fitted:
        return []
    heights = {
        i: each.size.body_scale * rest_length(each.body, each.refined.params.betas) for i, each in fitted.items()
    }
    usual = float(np.median(list(heights.values())))
    scales = {each.size.body_scale for each in fitted.values()}
    return [i for i, height in heights.items() if abs(height / usual - 1) < UNLIKE] if len(scales) == 1 else []


@one_blas_thread()
@one_torch_thread()
def with_one_shape(
    fitted: Mapping[int, FittedScan], config: RegisterConfig, clocks: Mapping[int, Clock]
) -> dict[int, FittedScan]:
    """Give scans of one person the shape that all of them together show, and fit and refine each again with it."""
    if len(fitted) < 2:
        return {}
    own = list[tuple[FloatArray, FloatArray]]()
    for i, each in fitted.items():
        with Clock(clocks[i].listener, clocks[i].seconds).stage("refine"):
            own.append(known_shape(each, config))
    betas, again = agreed_shape(own), {}
    for i, each in fitted.items():
        clock = Clock(clocks[i].listener, clocks[i].seconds)
        known = replace(each.known, betas=betas)
        with clock.stage("fit"):
            fit = fit_body(each.body, each.vertices, each.sigma, config.fit, known=known)
        with clock.stage("refine"):
            refined = fit
            if config.refine.max_iterations:
                refined = refine_body(each.body, fit, each.own, each.sigma, config.refine, known)
        again[i] = replace(each, known=known, fit=fit, refined=refined)
    return again


def known_shape(fitted: FittedScan, config: RegisterConfig) -> tuple[FloatArray, FloatArray]:
    """Return the betas (K,) that a scan shows, and what it tells of them (K, K)."""
    found = fitted.body, fitted.refined, fitted.own, fitted.sigma, config.refine, fitted.known
    return fitted.refined.params.betas.double().numpy(), shape_information(*found)


def agreed_shape(known: Sequence[tuple[FloatArray, FloatArray]]) -> FloatArray:
    """Return the betas (K,) that all scans together show."""
    betas, information = zip(*known, strict=True)
    return agreement(np.stack(betas), np.stack(information), np.inf)[0]


def alone_warnings(others: Sequence[int], count: int) -> list[str]:
    """Say where a scan shares its shape with none, though it should."""
    if others:
        return []
    if count == 1:
        return ["no other scan could be registered, so this one was by itself"]
    return ["the person in this scan is not as tall as in the others, so this one was by itself: check --unit"]
