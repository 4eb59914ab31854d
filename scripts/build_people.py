"""Write age and sex of the people whose betas assets/bodies/anny.npz holds, by drawing them again.

    python scripts/build_people.py

Needs the package `anny`, as scripts/build_bodies.py: phenotypes are the first that it draws, so equal seeds give equal
people. Refuses what does not fit to the betas: heights must grow with the ages of children.
"""

from typing import Any

import anny
import numpy as np
import torch
from anny.shape_distribution import SimpleShapeDistribution

from lvdreg.base.arrays import write_npz
from lvdreg.base.assets import assets_dir
from lvdreg.body.bake import ADULT_YEARS, SEED
from lvdreg.body.files import shipped_data
from lvdreg.fit.kinematics import Kinematics, upright_height
from lvdreg.fit.people import AGES, SHIPPED

PEOPLE = 3000
"""Of which build_bodies.py keeps the betas of every other."""


def main() -> None:
    """Draw, check and save."""
    model: Any = anny.Anny(rig="anny", topology="makehuman", phenotypes="all", local_changes="default").double()
    torch.manual_seed(SEED)
    low, high = (torch.tensor(years, dtype=torch.float64) for years in AGES)
    ages, phenotypes = SimpleShapeDistribution(model, torch.distributions.Uniform(low, high)).sample(PEOPLE)
    age, sex = (np.float32(values[::2]) for values in (ages.numpy(), phenotypes["gender"].numpy()))
    data = shipped_data("anny")
    kernel = Kinematics(data)
    assert data.people is not None
    heights = np.array([upright_height(kernel, betas.astype(np.float64))[0] for betas in data.people])
    child = age < ADULT_YEARS
    agreement = np.corrcoef(age[child], heights[child])[0, 1]
    if agreement < 0.8:
        raise SystemExit(f"expected heights that grow with ages, got a correlation of {agreement:.2f}: other people")
    write_npz(assets_dir() / SHIPPED, {"age": age, "sex": sex})
    print(f"{len(age)} people; heights of children go with their ages: correlation {agreement:.3f}")


if __name__ == "__main__":
    main()
