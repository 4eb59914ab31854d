"""Which shapes people of a sex and an age have: those of anny's sampled people whose sex and age are alike.

Anny's own phenotypes drew them (assets/priors/anny-people.md). Of other bodies nobody knows what their betas have to do
with sex and age: of them only the height is held.
"""

from functools import cache
from pathlib import Path

import numpy as np
from jaxtyping import Float64

from lvdreg.base.arrays import expect, read_npz
from lvdreg.base.assets import assets_dir
from lvdreg.base.errors import BodyError
from lvdreg.base.provenance import FileHashes, sha256_of
from lvdreg.base.shapes import FloatArray
from lvdreg.base.text import one_line
from lvdreg.body.model import BodyData
from lvdreg.fit.kinematics import Kinematics, upright_height
from lvdreg.fit.priors import ShapePrior

SHIPPED = Path("priors") / "anny-people.npz"
SEXES = {"male": 0.0, "female": 1.0}
"""As anny's phenotype ``gender`` has them; its people lie anywhere between."""
SEX_SPREAD = 0.2
"""How far from the end of that scale people count, one sigma."""
AGES = (5.0, 85.0)
"""Years of the people; who is younger or older counts as the nearest."""
AGE_SPREAD = 1.0, 0.15
"""Years, and share of the age, within which people count, one sigma."""
HEIGHT_SPREAD = 1.5
"""Real people's heights spread so much more than those of the sampled ones, which are a designer's."""


def people_alike(sex: str | None, age: float | None) -> Float64[np.ndarray, " S"]:
    """Return how much each of anny's people counts (S,) for somebody of a sex (``SEXES``) and an age in years."""
    ages, sexes = _phenotypes()
    weight = np.ones(len(ages))
    if sex is not None:
        weight *= np.exp(-0.5 * ((sexes - SEXES[sex]) / SEX_SPREAD) ** 2)
    if age is not None:
        nearest = float(np.clip(age, *AGES))
        weight *= np.exp(-0.5 * ((ages - nearest) / (AGE_SPREAD[0] + AGE_SPREAD[1] * nearest)) ** 2)
    return np.asarray(weight / weight.sum())


def likely_shape(data: BodyData, weight: Float64[np.ndarray, " S"]) -> ShapePrior:
    """Return the Gaussian of people's betas; the fewer they are, the more it spreads as all people do.

    Args:
        data: The body anny, with the betas of its people.
        weight: (S,) how much each counts.
    """
    assert data.people is not None
    betas = np.asarray(data.people, np.float64)
    mean = weight @ betas
    offset = betas - mean
    covariance = (weight[:, None] * offset).T @ offset
    count, num = 1 / float(weight @ weight), betas.shape[1]
    share = num / (num + count)
    covariance = (1 - share) * covariance + share * np.eye(num)
    return ShapePrior(np.asarray(mean), np.asarray(np.linalg.inv(covariance)))


def likely_height(data: BodyData, weight: Float64[np.ndarray, " S"]) -> tuple[float, float]:
    """Return mean and standard deviation of people's heights, metres; arguments as of ``likely_shape``."""
    assert data.people is not None
    kernel = Kinematics(data)
    heights = np.array(
        [upright_height(kernel, np.asarray(betas, np.float64))[0] for betas in data.people[weight > 1e-6]]
    )
    weight = weight[weight > 1e-6]
    mean = float(weight @ heights / weight.sum())
    return mean, HEIGHT_SPREAD * float(np.sqrt(weight @ (heights - mean) ** 2 / weight.sum()))


def people_file() -> FileHashes:
    """Return the SHA-256 of the shipped file by its name."""
    return {SHIPPED.as_posix(): sha256_of(assets_dir() / SHIPPED)}


@cache
def _phenotypes() -> tuple[FloatArray, FloatArray]:
    """Return age in years and sex of each of anny's people (S,)."""
    path = assets_dir() / SHIPPED
    try:
        arrays = read_npz(path)
        age, sex = (expect(arrays, name, "f", (None,)).astype(np.float64) for name in ("age", "sex"))
        if age.shape != sex.shape:
            raise ValueError("as many ages as sexes")
    except (OSError, ValueError) as error:
        raise BodyError(
            f"{path}: damaged table of people ({one_line(str(error))[:120]}); install lvdreg again"
        ) from None
    return age, sex
