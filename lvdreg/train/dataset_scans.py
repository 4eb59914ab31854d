"""Scans from a dataset (``lvdreg augment --sensor``) instead of from the endless stream."""

from pathlib import Path

import torch

from lvdreg.dataset import SCAN_ARRAYS, Dataset
from lvdreg.geometry.frames import rotvec_to_rotmat
from lvdreg.synth.scans import Samples


class DatasetScans:
    """The scans of a dataset, shuffled, again and again, each time seen from another side."""

    def __init__(self, folder: str | Path, body: str) -> None:
        """Open a dataset.

        Args:
            folder: Where it lies.
            body: Whose vertices it should hold.

        Raises:
            DatasetError: it is missing, damaged, of another body, or holds no scans.
        """
        self.dataset = Dataset(folder).require(body, ("scan",))

    def scans(self, batch: int, num_points: int, generator: torch.Generator) -> Samples:
        """Return scans; the generator's seed says where in the shuffled dataset, neighbouring seeds are neighbours.

        Args:
            batch: How many.
            num_points: So many points of each, or all if there are fewer: they are in random order, those that exist
                first.
            generator: Its device is where they are wanted.
        """
        names = (*SCAN_ARRAYS, "vertices", "joints")
        arrays = self.dataset.batch(generator.initial_seed(), batch, names, versions=True)
        rows = {name: torch.from_numpy(array).to(generator.device) for name, array in arrays.items()}
        points, normals, valid = (rows[name][:, :num_points] for name in SCAN_ARRAYS)
        # People of a dataset face the same way; the network must know them from all sides.
        angle = 2 * torch.pi * torch.rand(batch, generator=generator, device=generator.device)
        up = torch.tensor([0.0, 1.0, 0.0], device=generator.device)
        turn = rotvec_to_rotmat(angle[:, None] * up).mT
        points, normals = points @ turn, normals.float() / 127 @ turn
        return Samples(points, normals, valid, rows["vertices"] @ turn, rows["joints"] @ turn)
