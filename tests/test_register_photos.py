"""Several photos of one person, the whole way, with a network that knows the answer up to errors in depth."""

import json
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fake_photo import Scene, known_image_weights, scene, standing
from test_silhouette import in_crop
from test_together import turned

import lvdreg
from lvdreg.base.errors import PhotoError, UsageError
from lvdreg.body.model import BodyModel
from lvdreg.fit.together import Shared
from lvdreg.fit.vertices import Fit
from lvdreg.image.crop import CutConfig, crop_around
from lvdreg.pipeline.agree import with_fused_sigma
from lvdreg.pipeline.assess_photo import FoundInPhoto, Sized
from lvdreg.result.photo import PhotoRegistration

QUICK = {"refine_iterations": 1}


@pytest.fixture(scope="module")
def sides(body: BodyModel) -> list[Scene]:
    return [scene(body, turned(standing(body, 3, yaw=0.0), yaw), distance=4.0) for yaw in (0.0, np.pi / 2)]


def show(monkeypatch: pytest.MonkeyPatch, scenes: list[Scene | None], deep: float = 1.0) -> None:
    """Let each photo show one of these people, or nobody; the network takes depth for ``deep`` times as much."""
    module = import_module("lvdreg.pipeline.photo")
    queue, people = [], iter(scenes)
    for one in scenes:
        if one is not None:
            crop = crop_around(one.rgb, one.shown.mask, CutConfig(), 256)
            vertices = one.unit_vertices(crop)
            vertices[:, 2] *= deep
            queue.append(vertices)
    known = iter(queue)

    def shown(*_args: Any, **_kwargs: Any) -> list[Any]:
        one = next(people)
        if one is None:
            raise PhotoError("expected a person, found none")
        return [one.shown]

    monkeypatch.setattr(module, "people_shown", shown)
    estimate = import_module("lvdreg.pipeline.estimate")
    monkeypatch.setattr(estimate, "image_weights", lambda *_: known_image_weights(next(known)))


@pytest.fixture(scope="module")
def found(body: BodyModel, sides: list[Scene]) -> Iterator[list[PhotoRegistration | Exception]]:
    with pytest.MonkeyPatch.context() as patch:
        show(patch, [sides[0], None, sides[1]], deep=1.25)
        empty = np.zeros((40, 40, 3), np.uint8)
        yield lvdreg.register_photos([sides[0].rgb, empty, sides[1].rgb], same="pose", settings=QUICK)


def test_what_is_shared_is_the_same_bit_for_bit(found: list[PhotoRegistration | Exception]) -> None:
    front, nobody, side = found
    assert isinstance(front, PhotoRegistration) and isinstance(side, PhotoRegistration)
    assert isinstance(nobody, PhotoError)
    for name in ("betas", "body_pose", "left_hand_pose", "right_hand_pose"):
        assert np.array_equal(front.params[name], side.params[name])
    assert not np.array_equal(front.params["global_orient"], side.params["global_orient"])
    assert front.metrics["height_m"] == side.metrics["height_m"] and front.size_is_guess
    assert front.shape_with == front.pose_with == (side.name,)
    # What is depth in one is width in the other, and sure.
    assert np.median(front.sigma_depth_mm) < np.median(front.sigma_mm)
    assert "refine" in front.timings and "refine" not in side.timings and "assess" in side.timings


def test_the_report_says_with_which_photos(found: list[PhotoRegistration | Exception], tmp_path: Path) -> None:
    front = found[0]
    assert isinstance(front, PhotoRegistration)
    front.save(tmp_path / "out")
    report = json.loads((tmp_path / "out" / "report.json").read_text(encoding="utf-8"))
    assert report["shared"] == {"shape_with": list(front.shape_with), "pose_with": list(front.pose_with)}
    assert report["settings"]["same"] == "pose"


def test_one_that_is_left_is_registered_by_itself(sides: list[Scene], monkeypatch: pytest.MonkeyPatch) -> None:
    show(monkeypatch, [None, sides[0]])
    nobody, alone = lvdreg.register_photos([sides[0].rgb] * 2, refine=False, height=1.7, settings=QUICK)
    assert isinstance(nobody, PhotoError) and isinstance(alone, PhotoRegistration)
    assert alone.warnings[-1].startswith("no other photo could be registered") and not alone.shape_with
    assert alone.metrics["height_m"] == pytest.approx(1.7, abs=0.005) and not alone.size_is_guess


@pytest.mark.parametrize(
    ("same", "count", "words"),
    [("shape", 1, "--same-person: expected 2 to 16"), ("pose", 9, "--views: expected 2 to 8")],
)
def test_too_few_or_too_many_photos_are_refused(sides: list[Scene], same: Shared, count: int, words: str) -> None:
    with pytest.raises(UsageError, match=words):
        lvdreg.register_photos([sides[0].rgb] * count, same=same)


def test_sigmas_are_fused_as_if_photos_might_err_alike(body: BodyModel, sides: list[Scene]) -> None:
    """A photo given twice is no surer; of two from aside depth is nearly as sure as width."""
    ones, shown = np.ones(body.num_vertices), in_crop(sides[0], body)[1]
    fits = [Fit(each.params, 1.0, 0.0, True) for each in sides]
    front, side = (
        FoundInPhoto(np.zeros((len(ones), 3)), Sized(fit, 1.0, True), fit, 0.11**0.5 * ones, 0.3 * ones, shown, True)
        for fit in fits
    )
    twice, aside = (with_fused_sigma([front, other], [[1], [0]])[0] for other in (front, side))
    assert twice.sigma == pytest.approx(front.sigma) and twice.sigma_depth == pytest.approx(front.sigma_depth)
    # Variances 0.01 across, 0.09 along; the mean of their inverses is that of 0.018, and 0.01 stays upwards.
    assert aside.sigma_depth**2 == pytest.approx(0.018 * ones, rel=1e-3)
    assert aside.sigma**2 == pytest.approx(0.046 * ones, rel=1e-3)
    assert with_fused_sigma([front, side], [[], []])[1] is side
