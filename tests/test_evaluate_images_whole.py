"""The benchmark of photos the whole way, on two synthetic photos of one person: nothing in it is faked."""

from pathlib import Path

import pytest

from lvdreg.evaluate import evaluate_images


@pytest.mark.slow
def test_photos_are_drawn_registered_and_measured(tmp_path: Path) -> None:
    table = evaluate_images(num=1, views=(0, 90), out=tmp_path)
    figures = {row.method: row.summary for row in table.rows if row.metric.startswith("corresponding vertex")}
    assert set(figures) == {
        "network alone", "network, fit", "network, fit, silhouette", "mean body at rest", "mean body in the true pose",
    }  # fmt: skip
    assert all(summary.count == 2 for summary in figures.values())
    # Looking at the photo must beat not looking: the body that is the same for everybody is put where the person is.
    for method in ("network alone", "network, fit", "network, fit, silhouette"):
        assert figures[method].mean_mm < 0.9 * figures["mean body at rest"].mean_mm, method
    # 95 % of a normal error lie within two sigma; those of one person go together, but a sigma in another unit or of
    # another body is off by more.
    for step in ("descent", "final"):
        assert table.details["sigma"][step]["within_2_sigma"] > 0.5, step
