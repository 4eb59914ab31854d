"""The benchmark of photos the whole way, on one synthetic photo: nothing in it is faked."""

from pathlib import Path

import pytest

from lvdreg.evaluate import evaluate_images


@pytest.mark.slow
def test_one_photo_is_drawn_registered_and_measured(tmp_path: Path) -> None:
    table = evaluate_images(num=1, views=(0,), out=tmp_path)
    figures = {row.method: row.summary for row in table.rows if row.metric.startswith("corresponding vertex")}
    assert set(figures) == {
        "network alone", "network, fit", "network, fit, silhouette", "mean body at rest", "mean body in the true pose",
    }  # fmt: skip
    assert all(summary.count == 1 for summary in figures.values())
    # Looking at the photo must beat not looking: the body that is the same for everybody is put where the person is.
    for method in ("network alone", "network, fit", "network, fit, silhouette"):
        assert figures[method].mean_mm < figures["mean body at rest"].mean_mm, method
    # 95 % of a normal error lie within two sigma; those of one photo go together, but a sigma in another unit or of
    # another body is off by more.
    for step in ("descent", "final"):
        assert table.details["sigma"][step]["within_2_sigma"] > 0.5, step
