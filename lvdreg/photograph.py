"""The result of registering a photo: a body in metres before a camera that sees it as the photo does."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lvdreg.image.crop import Camera, Crop
from lvdreg.registration import Verdict

SEVERITY: tuple[Verdict, ...] = ("good", "check", "failed")
MM_PER_M = 1000.0


@dataclass(frozen=True)
class PhotoRegistration:
    """A body model registered to one person in a photo.

    The world is in metres: x right in the photo, y up, z towards the viewer, the pelvis joint at the origin.

    Attributes:
        name: Name of the photo.
        model: Name of the body.
        rgb: (H, W, 3) the photo, upright.
        mask: (H, W) how much each pixel is the person, 0 to 1.
        keypoints: (33, 3) column, row and visibility, ``image.keypoints.KEYPOINTS``; None without a pose.
        crop: What the network was shown.
        camera: Weak perspective: projects the world onto the photo.
        vertices: (V, 3) world.
        faces: (F, 3).
        joints: (J, 3) world.
        params: smplx's arguments, as of a ``Registration``: they pose the model into the world.
        sigma_mm: (V,) calibrated one-sigma uncertainty, millimetres.
        sigma_depth_mm: (V,) its part along the line of sight.
        size_is_guess: Whether nothing but the likely size of people decided it.
        person: Number of the person in the photo, from 1.
        people: How many were found.
        metrics: Numbers by name; the name ends in the unit.
        timings: Seconds by stage.
        settings: What the run was asked for.
        warnings: What a user should know, one plain line each.
        verdict: ``good``, ``check`` or ``failed``.
        reason: Why, in one plain line.
        steps: World: vertices (V, 3) as the network has them ("descent") and of the body fitted to those ("fit").
    """

    name: str
    model: str
    rgb: NDArray[np.uint8] = field(repr=False)
    mask: NDArray[np.float32] = field(repr=False)
    keypoints: NDArray[np.float32] | None = field(repr=False)
    crop: Crop = field(repr=False)
    camera: Camera
    vertices: NDArray[np.float64] = field(repr=False)
    faces: NDArray[np.int64] = field(repr=False)
    joints: NDArray[np.float64] = field(repr=False)
    params: dict[str, NDArray[Any]] = field(repr=False)
    sigma_mm: NDArray[np.float64] = field(repr=False)
    sigma_depth_mm: NDArray[np.float64] = field(repr=False)
    size_is_guess: bool
    person: int
    people: int
    metrics: dict[str, float]
    timings: dict[str, float]
    settings: dict[str, Any] = field(repr=False)
    warnings: tuple[str, ...]
    verdict: Verdict
    reason: str
    steps: dict[str, NDArray[np.float64]] = field(default_factory=dict, repr=False)

    @property
    def sigma(self) -> NDArray[np.float64]:
        """(V,) one-sigma uncertainty, metres."""
        return self.sigma_mm / MM_PER_M

    @property
    def headline(self) -> dict[str, Any]:
        """What stands in the summary of a batch."""
        height = self.metrics["height_m"]
        return {"iou": self.metrics.get("silhouette_iou"), "height_m": height, "height_is_guess": self.size_is_guess}

    def save(self, folder: str | Path) -> list[Path]:
        """Write pictures, meshes, parameters and report into a folder: all of them, or none.

        Args:
            folder: Made if it is missing; an earlier result in it is replaced once the new one is complete. Other files
                in it are left alone.

        Returns:
            The files written.

        Raises:
            OSError: the folder cannot be written; an earlier result is then still whole.
        """
        # Late, because a result must not need what draws it.
        from lvdreg.photo_files import write_photo_result

        return write_photo_result(self, Path(folder))


@dataclass(frozen=True)
class People:
    """Everybody in a photo.

    Attributes:
        results: One for each person, the most prominent first.
        failures: Why others could not be registered, one line each.
    """

    results: Sequence[PhotoRegistration]
    failures: tuple[str, ...] = ()

    @property
    def verdict(self) -> Verdict:
        """The worst one's."""
        worst = max(SEVERITY.index(result.verdict) for result in self.results)
        return SEVERITY[max(worst, 1 if self.failures else 0)]

    @property
    def reason(self) -> str:
        """How many of which verdict, in one line."""
        counts = [(sum(r.verdict == verdict for r in self.results), verdict) for verdict in SEVERITY]
        words = ", ".join(f"{count} {verdict}" for count, verdict in counts if count)
        failed = f"; not registered: {'; '.join(self.failures)}" if self.failures else ""
        return f"{len(self.results)} people: {words}{failed}"

    @property
    def timings(self) -> dict[str, float]:
        """Seconds by stage, of all people together."""
        names = dict.fromkeys(name for result in self.results for name in result.timings)
        return {name: sum(result.timings.get(name, 0.0) for result in self.results) for name in names}

    @property
    def headline(self) -> dict[str, Any]:
        """What stands in the summary of a batch: the worst outline."""
        found = [result.metrics.get("silhouette_iou") for result in self.results]
        known = [value for value in found if value is not None]
        return {"iou": min(known) if known else None}

    def save(self, folder: str | Path) -> list[Path]:
        """Write each person's result into a folder of its own, ``person-1`` and so on; see ``PhotoRegistration.save``.

        Folders of people that an earlier run found besides are removed.
        """
        from lvdreg.photo_files import remove_results

        folder = Path(folder)
        written = [path for result in self.results for path in result.save(folder / f"person-{result.person}")]
        kept = {f"person-{result.person}" for result in self.results}
        remove_results(path for path in folder.glob("person-*") if path.name not in kept)
        return written
