"""The story for a scan of several people: told apart by the surface and the network, then each registered as one is.

Where people touch, bodies say better than a cut whose what is: with them the surface is shared out again, and who got
another part of it is fitted again.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from lvdreg.base.errors import LvdregError, RegistrationError, UsageError
from lvdreg.base.text import one_line
from lvdreg.base.threads import one_torch_thread
from lvdreg.base.timing import Clock, Progress, one_blas_thread
from lvdreg.fit.correspond import PosedSurface, posed_surface
from lvdreg.fit.owners import owners
from lvdreg.geometry.frames import scale_of, transform_points
from lvdreg.pipeline.arguments import OF_ONE, check_num_people
from lvdreg.pipeline.scan import Call, FittedScan, finish_scan, fit_scan, person_call
from lvdreg.pipeline.separate import SeparatedScan, separate
from lvdreg.result.scan import Group, Registration
from lvdreg.scan.model import Scan, scan_of
from lvdreg.settings import Settings

if TYPE_CHECKING:
    from numpy.typing import ArrayLike

CHANGED = 0.01
"""Who got or lost more than this share of the samples is fitted again."""


def register_group(
    source: "str | Path | Scan | ArrayLike",
    *,
    people: int | None = None,
    model: str = "anny",
    unit: str = "auto",
    up: str = "auto",
    device: str = "cpu",
    seed: int = 0,
    pose: str | None = None,
    floor: bool = False,
    camera: "str | Path | None" = None,
    settings: "Settings | Mapping[str, Any] | None" = None,
    progress: Progress | None = None,
) -> Group:
    """Register a body model to everybody in a scan: apart, touching, in each other's arms, or carried.

    Other arguments are those of ``register``.

    Args:
        source: File of any supported format, a ``Scan``, or points (P, 3).
        people: How many the scan shows, 2 to 12; None: as many as are seen.

    Returns:
        A result for each person, along that axis of the scan on which they are spread most.

    Raises:
        ScanError: the scan cannot be read or holds too little.
        BodyError, CheckpointError: body or weights are missing.
        UsageError: an option has no such value.
        RegistrationError: nobody was seen, others than so many, or nobody could be registered.
    """
    check_num_people(people)
    given = {"model": model, "unit": unit, "up": up, "device": device, "seed": seed, "camera": camera}
    told = dict.fromkeys(OF_ONE) | {"pose": pose, "floor": floor}
    call = person_call(given, told, settings, progress)
    call = replace(call, asked=call.asked | {"people": people or "all"})
    clock = Clock(progress)
    with clock.stage("read"):
        raw = scan_of(source, camera)
    with clock.stage("separate"):
        group = separate(raw, call.asked, call.config, people)
    return _register_all(group, call, clock)


def _register_all(group: SeparatedScan, call: Call, clock: Clock) -> Group:
    """Fit everybody, share the surface out again where people touch, and finish all."""
    everybody = range(group.num_people)
    fitted, failures, lost = dict[int, FittedScan](), dict[int, str](), dict[str, float]()
    clocks = {i: Clock(clock.listener, dict(clock.seconds) if i == 0 else {}) for i in everybody}

    def fit(group: SeparatedScan, which: Sequence[int]) -> None:
        for i in which:
            try:
                own = Clock(clock.listener, clocks[i].seconds)
                fitted[i] = fit_scan(group.person(i), call.asked, call.told, call.finder, call.config, own)
            except UsageError:
                raise
            except LvdregError as error:
                fitted.pop(i, None)
                failures[i] = f"person {i + 1}: {one_line(str(error))}"
                lost.update({name: lost.get(name, 0.0) + s for name, s in clocks[i].seconds.items()})

    fit(group, everybody)
    if group.touching and len(fitted) > 1:
        shared = shared_out(group, fitted)
        fit(shared, [i for i in fitted if np.mean((shared.owner == i) != (group.owner == i)) > CHANGED])
    results = list[Registration]()
    for i, each in sorted(fitted.items()):
        result = finish_scan(each, call.asked, call.config, Clock(clock.listener, clocks[i].seconds))
        about = f"person {i + 1} of {group.num_people} in the scan, told apart from the others"
        results.append(replace(result, warnings=(about, *group.scan.notes, *result.warnings)))
    reasons = tuple(failures[i] for i in sorted(failures))
    if not results:
        raise RegistrationError("; ".join(reasons))
    return Group(tuple(results), reasons, lost)


@one_blas_thread()
@one_torch_thread()
def shared_out(group: SeparatedScan, fitted: Mapping[int, FittedScan]) -> SeparatedScan:
    """Give each sample to whose body is there."""
    numbers = sorted(fitted)
    surfaces = [_in_scan(fitted[i]) for i in numbers]
    first = fitted[numbers[0]]
    owner = np.asarray(numbers)[owners(group.graph, surfaces, first.size.body_scale * scale_of(first.T_world_scan))]
    return replace(group, owner=np.where(group.owner < 0, -1, owner))


def _in_scan(fitted: FittedScan) -> PosedSurface:
    surface = posed_surface(fitted.body, fitted.refined.params)
    T_scan_world = np.linalg.inv(fitted.T_world_scan).astype(np.float64)
    return replace(surface, vertices=transform_points(T_scan_world, surface.vertices))
