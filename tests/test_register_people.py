"""Everybody in a photo is seen through one lens, by either method, and overlays name the method."""

from importlib import import_module

import numpy as np
import pytest
from fake_photo import scene, standing
from test_register_image import QUICK, show

import lvdreg
from lvdreg.body.model import BodyModel
from lvdreg.pipeline.lens import LIKELY_DISTANCE
from lvdreg.result.draw_photo import overlay


@pytest.mark.parametrize("method", ["lvd", "smplify"])
def test_people_of_one_photo_are_seen_through_one_lens(
    body: BodyModel, method: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    far, near = (
        scene(body, standing(body, 3), size=(700, 520), scale=scale, distance=distance)
        for scale, distance in ((220.0, 3.0), (330.0, 2.0))
    )
    show(monkeypatch, [far, near])
    found = lvdreg.register_people(far.rgb, refine=False, method=method, settings=QUICK).results
    first, second = (result.camera for result in found)
    assert first.lens.focal == second.lens.focal and first.lens.source == "guess"
    assert np.array_equal(first.lens.intrinsics, second.lens.intrinsics)
    # Who is seen larger is nearer; both together are as far away as people mostly are.
    assert first.distance > 1.3 * second.distance
    assert 0.75 * LIKELY_DISTANCE < second.distance < LIKELY_DISTANCE < first.distance < 1.35 * LIKELY_DISTANCE
    assert f"anny by {method}, " in written_on_overlay(found[0], monkeypatch)


def written_on_overlay(result: lvdreg.PhotoRegistration, monkeypatch: pytest.MonkeyPatch) -> str:
    """Draw an overlay and return its lines."""
    lines = list[str]()

    def keep(_draw: object, text: str, *_: object) -> str:
        lines.append(text)
        return text

    monkeypatch.setattr(import_module("lvdreg.result.sheet"), "shortened", keep)
    overlay(result)
    return "\n".join(lines)
