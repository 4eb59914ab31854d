"""Light pictures of scans and results: no window, no driver, the same picture on every machine."""

import numpy as np
from jaxtyping import Bool, Float64
from scipy.ndimage import gaussian_filter

from lvdreg.base.shapes import FloatArray
from lvdreg.geometry.mesh import unit_rows
from lvdreg.geometry.raster import Raster

# Light from the viewer's upper left, in view axes (x right, y up, z towards the viewer).
KEY_LIGHT = np.array([-0.42, 0.56, 0.71])


def smooth_over(
    mask: Bool[np.ndarray, "H W"], values: Float64[np.ndarray, "H W"], sigma: float
) -> Float64[np.ndarray, "H W"]:
    """Blur (H, W) values over the mask only, by normalised convolution; zero outside."""
    total = gaussian_filter(np.where(mask, values, 0.0), sigma, truncate=2.5)
    share = gaussian_filter(mask.astype(np.float64), sigma, truncate=2.5)
    return np.where(mask, total / np.maximum(share, 1e-9), 0.0)


def depth_normals(raster: Raster, sigma: float) -> FloatArray:
    """Estimate view-space normals (N, 3) of the N seen pixels from the depth picture, for points that bring none."""
    depth = np.where(raster.mask, smooth_over(raster.mask, raster.depth, sigma), np.nan)
    slope_down, slope_right = (np.nan_to_num(np.gradient(depth, axis=axis)) for axis in (0, 1))
    # A point (x, y up, z towards the viewer) has z = -depth and y = -row.
    normals = np.stack([slope_right, -slope_down, np.ones_like(depth)], -1)
    return unit_rows(normals[raster.mask])


def hollows(raster: Raster, reach_px: int) -> Float64[np.ndarray, " N"]:
    """Say how deep each of the N seen pixels lies behind its surroundings: (N,), in units of ``reach_px``.

    A cheap stand-in for ambient occlusion. The surroundings are smooth, so a quarter of the resolution will do.
    """
    step = 4
    mean = smooth_over(raster.mask[::step, ::step], raster.depth[::step, ::step], reach_px / step)
    rows, columns = np.nonzero(raster.mask)
    around = mean[rows // step, columns // step]
    depth = raster.depth[rows, columns]
    return np.where(raster.mask[::step, ::step][rows // step, columns // step], depth - around, 0) / reach_px


def shade(raster: Raster, normals: FloatArray, colours: FloatArray, reach_px: int) -> FloatArray:
    """Light a picture: key light, headlight, darkened rims and hollows.

    Args:
        raster: What each pixel sees; N pixels see something.
        normals: (N, 3) in view axes; either sign, turned to the viewer here.
        colours: (N, 3) surface colours, 0 to 1.
        reach_px: Size of the hollows that are darkened, pixels.
    Returns:
        (H, W, 4) colours and coverage, 0 to 1.
    """
    normals = normals * np.where(normals[:, 2:] < 0, -1, 1)
    facing = normals[:, 2].clip(0, 1)
    light = 0.32 + 0.50 * (normals @ KEY_LIGHT).clip(0, 1) + 0.24 * facing - 0.16 * (1 - facing) ** 3
    light *= 1 - 0.2 * hollows(raster, reach_px).clip(0, 2)
    shine = 0.10 * (normals @ unit_rows(KEY_LIGHT + np.array([0, 0, 1]))).clip(0, 1) ** 24
    out = np.zeros((*raster.index.shape, 4))
    out[raster.mask, :3] = (colours * light[:, None] + shine[:, None]).clip(0, 1)
    out[..., 3] = raster.mask
    return out


def halve(picture: Float64[np.ndarray, "H W C"]) -> Float64[np.ndarray, "h w C"]:
    """Average 2 x 2 pixels (H, W, 4) into one, colours weighed by coverage: the antialiasing."""
    height, width = picture.shape[0] // 2, picture.shape[1] // 2
    picture = picture[: 2 * height, : 2 * width]
    weighed = np.concatenate([picture[..., :3] * picture[..., 3:], picture[..., 3:]], -1)
    rows = weighed[::2] + weighed[1::2]
    out = (rows[:, ::2] + rows[:, 1::2]) / 4
    out[..., :3] /= np.maximum(out[..., 3:], 1e-9)
    return out
