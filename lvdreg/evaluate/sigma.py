"""What sigma says of the error: whether it ranks it, and whether one sigma is one sigma."""

from collections.abc import Sequence

import numpy as np
from scipy.stats import spearmanr

from lvdreg.base.shapes import FloatArray

SHARES = 100
"""In so many equal shares are vertices left out of a curve of sparsification."""


def sigma_note(what: str, quality: dict[str, float]) -> str:
    """Say in a line what ``sigma_quality`` found."""
    return (
        f"sigma against the error, {what}: Spearman {quality['spearman']:.2f} over all points, "
        f"{quality['spearman_within_scan']:.2f} within a scan (median); "
        f"{quality['within_1_sigma']:.0%} within one sigma, {quality['within_2_sigma']:.0%} within two; "
        f"AUSE {quality['ause_mm']:.1f} mm"
    )


def sigma_quality(pairs: Sequence[tuple[FloatArray, FloatArray]]) -> dict[str, float]:
    """Compare sigma with the true error, vertex by vertex.

    Args:
        pairs: Sigma (V,) and error (V,) of each scan, same unit.

    Returns:
        ``spearman`` over the vertices of all scans, ``spearman_within_scan`` (median over scans), the shares of
        vertices whose error is ``within_1_sigma`` and ``within_2_sigma``, and ``ause_mm``, the area between both curves
        of ``sparsification``. Sigma is calibrated when the first share is 0.68 (descent/uncertainty.py).
    """
    sigma, error = (np.concatenate([pair[i] for pair in pairs]) for i in range(2))
    within = [float(spearmanr(s, e).statistic) for s, e in pairs]
    return {
        "spearman": float(spearmanr(sigma, error).statistic),
        "spearman_within_scan": float(np.median(within)),
        "within_1_sigma": float((error <= sigma).mean()),
        "within_2_sigma": float((error <= 2 * sigma).mean()),
        "ause_mm": float(np.mean(sparsification(sigma, error) - sparsification(error, error))),
    }


def sparsification(doubt: FloatArray, error: FloatArray) -> FloatArray:
    """Return the mean error (``SHARES``,) of what is left when the most doubtful are left out, share by share.

    Nothing is below the curve of an oracle, whose doubt is the error itself (Ilg and others 2018, section 5).

    Args:
        doubt: (N,) of each vertex; more is worse.
        error: (N,) of each.
    """
    sums = np.cumsum(error[np.argsort(doubt, kind="stable")])
    left = -(-len(error) * np.arange(SHARES, 0, -1) // SHARES)
    return np.asarray(sums[left - 1] / left)
