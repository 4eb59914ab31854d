"""Photos from a rendered dataset (``lvdreg augment``) instead of from the endless stream."""

from dataclasses import fields
from pathlib import Path

import torch
from torch import Tensor

from lvdreg.base.errors import DatasetError
from lvdreg.body.model import BodyParams
from lvdreg.dataset import Dataset
from lvdreg.synth.camera.view import Cameras
from lvdreg.synth.draw import Draw
from lvdreg.synth.photos import Photos, Shots, degraded_photos

ARRAYS = ("image", "mask", "vertices", "joints", "betas", "pose", "transl")
CAMERA_ARRAYS = tuple(f"camera_{item.name}" for item in fields(Cameras))


class DatasetPhotos:
    """Photos of a dataset's pictures, each time with other surroundings and other faults."""

    def __init__(self, folder: str | Path, body: str, size: int) -> None:
        """Open a dataset.

        Args:
            folder: Where it lies.
            body: Whose vertices it should hold.
            size: Side of its pictures, pixels.

        Raises:
            DatasetError: it is missing, damaged, of another body or size, or lacks pictures or masks.
        """
        self.dataset = Dataset(folder).require(body, ("image", "mask"))
        if self.dataset.size != size:
            made = f"got {self.dataset.size}; make it with --size {size}"
            raise DatasetError(f"{folder}: expected pictures of {size} pixels a side, {made}")

    @torch.no_grad()
    def photos(self, batch: int, generator: torch.Generator) -> Photos:
        """Return photos; the generator's seed says where in the shuffled dataset, neighbouring seeds are neighbours."""
        device = generator.device
        arrays = self.dataset.batch(generator.initial_seed(), batch, (*ARRAYS, *CAMERA_ARRAYS))
        rows: dict[str, Tensor] = {name: torch.from_numpy(array).to(device) for name, array in arrays.items()}
        naked = BodyParams(rows["betas"].float(), rows["pose"].float(), rows["transl"].float())
        cameras = Cameras(*(rows[name].float() for name in CAMERA_ARRAYS))
        endless = torch.tensor([-torch.inf, -torch.inf, torch.inf, torch.inf], device=device).expand(batch, 4)
        image, alpha = rows["image"] / 255, rows["mask"] / 255
        shots = Shots(image, alpha, rows["vertices"].float(), rows["joints"].float(), naked, cameras, endless)
        return degraded_photos(shots, Draw(batch, generator))
