"""How the descent on photos converges: errors along the way, starts, spread, plots."""

import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from fake_network import Known, Seen
from fake_photo import KnownImageNet
from naked import naked, rendered_view
from PIL import Image

from lvdreg.base.errors import OutputError
from lvdreg.body.model import BodyModel
from lvdreg.evaluate import convergence, images
from lvdreg.evaluate.plot import draw_panels
from lvdreg.image.crop import Crop

pytestmark = pytest.mark.usefixtures("small_photos")


class Halfway(Known):
    """Takes every vertex half of its way."""

    def forward(self, features: Any, points: torch.Tensor, vertices: torch.Tensor | None = None) -> torch.Tensor:
        return 0.5 * super().forward(features, points, vertices)


def test_convergence_is_measured_by_iteration_part_and_start(
    body: BodyModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def seen(net: Any, crop: Crop, keypoints: Any, config: Any) -> Any:
        true, _ = convergence.true_in_crop(rendered_view(), crop)
        net.field = Halfway(torch.from_numpy(true).float())
        return SimpleNamespace(features=Seen(torch.zeros(1)))

    shown = SimpleNamespace(mask=rendered_view().mask, keypoints=None)
    monkeypatch.setattr(convergence, "people_shown", lambda photo, mode: [shown])
    monkeypatch.setattr(convergence, "descend_crop", seen)
    monkeypatch.setattr(convergence, "draw_character", lambda model, seed, i, pose: naked())
    net = KnownImageNet(Halfway(torch.zeros(body.num_vertices, 3)))
    monkeypatch.setattr(convergence, "image_weights", lambda model, device: SimpleNamespace(net=net))
    table = convergence.evaluate_convergence(1, 3, 0, (0,), "anny", tmp_path)
    curves = table.details["curves_mm"]
    for start in (convergence.POINT, convergence.TPOSE, convergence.RANDOM):
        whole = curves[start]["whole body"]
        assert len(whole) == 11 and set(curves[start]) == set(convergence.COLOURS)
        np.testing.assert_allclose(whole[1:] / whole[:-1], 0.5, rtol=2e-2)
    assert curves["a point"]["shins and feet"][0] > 1.3 * curves["a point"]["torso"][0], "feet have the longest way"
    spread = table.details["spread_mm"][0]
    assert 0 < spread < 1.0 and "this is robustness, not uncertainty" in table.render()
    picture = np.asarray(Image.open(tmp_path / "convergence.png").convert("RGB"))
    assert all((picture == colour).all(-1).any() for colour in convergence.COLOURS.values())
    # Drawn again over its own, but over no picture of others.
    convergence.evaluate_convergence(1, 3, 0, (0,), "anny", tmp_path)
    Image.new("RGB", (9, 9)).save(tmp_path / "convergence.png")
    monkeypatch.setattr(convergence, "draw_character", lambda *_: 1 / 0)
    with pytest.raises(OutputError, match=r"convergence\.png: is not lvdreg's"):
        convergence.evaluate_convergence(1, 3, 0, (0,), "anny", tmp_path)
    with Image.open(tmp_path / "convergence.png") as picture:
        assert picture.size == (9, 9)


def test_errors_along_the_way_do_not_count_the_unknown_depth() -> None:
    true = torch.randn(1, 40, 3, generator=torch.Generator().manual_seed(0))
    along = [true + torch.tensor([0.0, 0.0, 7.0]), true + torch.tensor([0.3, 0.4, -2.0])]
    np.testing.assert_allclose(convergence.errors_along(along, true), np.repeat([[0.0], [0.5]], 40, 1), atol=1e-5)


def test_spread_is_the_standard_deviation_of_the_ends(body: BodyModel, monkeypatch: pytest.MonkeyPatch) -> None:
    class Still(Known):
        def forward(self, features: Any, points: torch.Tensor, vertices: torch.Tensor | None = None) -> torch.Tensor:
            return torch.zeros_like(points)

    shown = SimpleNamespace(mask=rendered_view().mask, keypoints=None)
    monkeypatch.setattr(convergence, "people_shown", lambda photo, mode: [shown])
    monkeypatch.setattr(
        convergence,
        "descend_crop",
        lambda net, crop, keypoints, config: SimpleNamespace(features=Seen(torch.zeros(1))),
    )
    net = KnownImageNet(Still(torch.zeros(body.num_vertices, 3)))
    found = convergence.descents_on(net, rendered_view(), body, 4, 11)
    starts = convergence.random_bodies(body, 4, 11)[:, :: convergence.EVERY].double().numpy()
    apart = np.sqrt(((starts - starts.mean(0)) ** 2).sum(-1).mean(0))
    crop = images.crop_around(rendered_view().rgb, rendered_view().mask, images.CutConfig(), 256)
    np.testing.assert_allclose(
        found.spread_mm, 1000 * apart * convergence.true_in_crop(rendered_view(), crop)[1], rtol=1e-4
    )
    assert np.all(found.steps_mm == 0)


def test_starts_are_as_large_as_people_in_crops(body: BodyModel) -> None:
    for vertices in (convergence.tpose(body)[None], convergence.random_bodies(body, 3, 0)):
        extent = np.ptp(vertices.numpy(), axis=1)[:, :2].max(-1)
        np.testing.assert_allclose(extent, 1.7, atol=1e-4)
        assert np.abs(vertices.numpy().max(1) + vertices.numpy().min(1)).max() < 1e-4
    parts = convergence.parts_of(body)
    assert set(parts) == set(convergence.COLOURS) - {"whole body"}
    assert parts[body.v_template[:, 1].argmax()] == "head" and parts[body.v_template[:, 1].argmin()] == "shins and feet"
    assert parts[body.v_template[:, 0].argmax()] == "forearms and hands"


def test_true_places_in_a_crop_are_those_seen_in_the_photo() -> None:
    crop = images.crop_around(rendered_view().rgb, rendered_view().mask, images.CutConfig(), 64)
    unit, metres = convergence.true_in_crop(rendered_view(), crop)
    np.testing.assert_allclose(crop.to_photo(unit), rendered_view().camera.project(rendered_view().vertices), atol=1e-9)
    np.testing.assert_allclose(unit[:, 2] * metres, rendered_view().vertices[:, 2], atol=1e-9)
    # Perspective is in the picture: what is nearer was seen larger.
    extents = np.ptp(unit, axis=0) * metres / np.ptp(rendered_view().vertices, axis=0)
    assert np.abs(extents[:2] - 1).max() > 1e-3


def test_what_falls_goes_down_in_a_plot(tmp_path: Path) -> None:
    falls = {"a": np.array([4.0, 2.0, 0.0]), "b": np.array([1.0, 1.0, 1.0])}
    colours = {"a": (255, 0, 0), "b": (0, 0, 255)}
    assert draw_panels(tmp_path / "one.png", {"one": falls, "two": falls}, colours, "step", "mm") is None
    image = np.asarray(Image.open(tmp_path / "one.png").convert("RGB"))
    red = np.argwhere((image == (255, 0, 0)).all(-1))
    red = red[(red[:, 1] < image.shape[1] / 2) & (red[:, 0] < 0.8 * image.shape[0])]
    assert len(red) > 100
    columns = red[:, 1]
    first, last = (red[columns == column][:, 0].mean() for column in (columns.min() + 5, columns.max() - 5))
    assert first < last - 50


def test_a_plot_without_matplotlib_is_a_line_that_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    missing = draw_panels(tmp_path / "one.png", {"one": {"a": np.ones(3)}}, {"a": (0, 0, 0)}, "step", "mm")
    assert missing is not None and "lvdreg[plots]" in missing and not (tmp_path / "one.png").exists()
