"""Bodies for pictures of which keypoints are known and nothing more (Joo et al. 2020, section 4.1).

Each picture tunes a copy of SPIN's regressor to its keypoints (fit/eft.py); what comes out is written as a dataset, as
if it were the truth. Pictures on whose keypoints no likely body could be brought are left out.
"""

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import numpy as np
import torch
from jaxtyping import Float32, UInt8

from lvdreg.augment.photograph import to_numpy
from lvdreg.augment.plan import Asked, Source, made_with
from lvdreg.augment.run import Progress, manifest_of, pin, write_text
from lvdreg.augment.shards import assemble, body_hash, is_made
from lvdreg.augment.sheet import write_sheet
from lvdreg.augment.versions import Made, Tally
from lvdreg.base.disk import recover
from lvdreg.base.errors import PhotoError, UsageError
from lvdreg.base.lock import locked
from lvdreg.base.provenance import sha256_of
from lvdreg.base.threads import one_torch_thread
from lvdreg.batch import PHOTO_SUFFIXES, expand_inputs
from lvdreg.body.catalogue import load_body
from lvdreg.body.landmarks import JOINTS
from lvdreg.body.model import BodyModel
from lvdreg.dataset import (
    ABOUT,
    FORMAT,
    FORMAT_VERSION,
    MANIFEST,
    Arrays,
    Dataset,
    json_text,
    shard_name,
    write_shard,
)
from lvdreg.descent.photo import seen_joints
from lvdreg.descent.weights import TrainedRegressor, spin_weights
from lvdreg.fit.eft import EFT, EFTConfig
from lvdreg.image.crop import CutConfig, crop_around
from lvdreg.image.encoder import ImageConfig
from lvdreg.photo.keypoints import KEYPOINTS
from lvdreg.photo.model import photo_of
from lvdreg.photo.shown import people_shown
from lvdreg.synth.camera.view import Cameras

PER_SHARD = 32
"""Pictures of a shard: what is lost when a run is killed."""
CHANNELS = ("image", "mask")


@dataclass(frozen=True)
class Limits:
    """What is good enough to be kept; chosen by hand."""

    max_error: float = 8.0
    """Mean distance to the keypoints that count, pixels of a crop of 256."""
    min_keypoints: int = 6
    max_beta: float = 5.0


@dataclass(frozen=True)
class Marked:
    """A square picture of one person, with keypoints.

    Attributes:
        name: Of the picture.
        image: sRGB over black.
        mask: Share of each pixel that is the person, 0 to 255.
        keypoints: Column, row and visibility, in the order of ``photo.keypoints.KEYPOINTS``.
    """

    name: str
    image: UInt8[np.ndarray, "S S 3"]
    mask: UInt8[np.ndarray, "S S"]
    keypoints: Float32[np.ndarray, "33 3"]


@runtime_checkable
class Pictures(Protocol):
    """Where pictures come from; each number may give several people."""

    size: int
    hashes: dict[str, str]
    at_joints: bool
    """Whether keypoints mark joints, not what people see of them."""

    def __len__(self) -> int:
        """How many numbers there are."""
        ...

    def of(self, number: int) -> list[Marked]:
        """Return the people of a number."""
        ...


class DatasetPictures:
    """Pictures of a dataset with the places of its joints in them; all else that it knows stays unread."""

    at_joints = True

    def __init__(self, folder: Path) -> None:
        """Open a dataset.

        Raises:
            DatasetError: it is missing, damaged, or lacks pictures or masks.
        """
        self.dataset = Dataset(folder).require(None, CHANNELS)
        self.size, self.hashes = self.dataset.size, {MANIFEST: sha256_of(folder / MANIFEST)}
        names = [str(name) for name in self.dataset.manifest["body"].get("joint_names", ())]
        pairs = {f"{side}_{point}": f"{side}_{joint}" for side in ("left", "right") for point, joint in JOINTS.items()}
        known = [(i, names.index(pairs[name])) for i, name in enumerate(KEYPOINTS) if pairs.get(name) in names]
        self.rows, self.joints = (np.array(each, np.int64) for each in zip(*known, strict=True))

    def __len__(self) -> int:
        """Count the pictures."""
        return len(self.dataset)

    def of(self, number: int) -> list[Marked]:
        """Return the person of a picture; joints that lie outside of it are not seen."""
        arrays = self.dataset.sample(number, (*CHANNELS, "joints_px"))
        keypoints = np.zeros((len(KEYPOINTS), 3), np.float32)
        places = arrays["joints_px"][self.joints, :2]
        keypoints[self.rows, :2] = places
        keypoints[self.rows, 2] = ((places >= 0) & (places < self.size)).all(1)
        return [Marked(f"picture-{number:06d}", arrays["image"], arrays["mask"], keypoints)]


class PhotoPictures:
    """Photos of a folder, with keypoints that somebody marked."""

    at_joints = False

    def __init__(self, folder: Path, keypoints: Path) -> None:
        """Find photos.

        Args:
            folder: Where they lie.
            keypoints: As of ``register_image``.

        Raises:
            UsageError: there are none.
        """
        self.paths, self.keypoints = expand_inputs([folder], PHOTO_SUFFIXES), keypoints
        if not self.paths or self.paths == [folder]:
            raise UsageError(f"{folder}: expected a dataset or a folder of photos, got neither")
        given = sorted(keypoints.glob("*.json")) if keypoints.is_dir() else [keypoints]
        self.size = ImageConfig.size
        self.hashes = {path.name: sha256_of(path) for path in (*self.paths, *given)}

    def __len__(self) -> int:
        """Count the photos."""
        return len(self.paths)

    def of(self, number: int) -> list[Marked]:
        """Return the people of a photo who have keypoints, each in a square around them.

        Raises:
            PhotoError: it cannot be read, or nobody in it has keypoints.
        """
        photo = photo_of(self.paths[number])
        found = []
        for shown in people_shown(photo, "auto", everyone=True, keypoints=self.keypoints):
            if shown.keypoints is None:
                continue
            crop = crop_around(photo.rgb, shown.mask, CutConfig(), self.size)
            image = (255 * (crop.image * crop.mask).permute(1, 2, 0)).round().to(torch.uint8).numpy()
            mask = (255 * crop.mask[0]).round().to(torch.uint8).numpy()
            keypoints = shown.keypoints.copy()
            unit = crop.to_unit(keypoints[:, :2].astype(np.float64))
            keypoints[:, :2] = self.size / 2 * (1 + unit * [1.0, -1.0])
            found.append(Marked(f"{self.paths[number].stem}-{shown.number}", image, mask, keypoints))
        return found


@dataclass(frozen=True)
class LiftPlan:
    """What a set of lifted pictures is made from.

    Attributes:
        asked: Size and channels of the pictures.
        body: Name of the body.
        body_hash: SHA-256 of its arrays.
        count: Numbers of pictures.
        hashes: SHA-256 of what they come from, and of the regressor's weights.
        eft: How each picture tunes the regressor.
        limits: What is kept.
    """

    asked: Asked
    body: str
    body_hash: str
    count: int
    hashes: dict[str, str]
    eft: EFTConfig = field(default_factory=EFTConfig)
    limits: Limits = field(default_factory=Limits)
    scans: tuple[Source, ...] = ()
    versions_per_source: int = 1

    @property
    def num_sources(self) -> int:
        """How many pictures there are to begin with."""
        return self.count

    @property
    def shards(self) -> tuple[range, ...]:
        """Numbers of the pictures in each shard."""
        return tuple(range(first, min(first + PER_SHARD, self.count)) for first in range(0, self.count, PER_SHARD))

    def to_json(self) -> dict[str, Any]:
        """Return what pins the bytes of the set."""
        return {
            "format": FORMAT,
            "version": FORMAT_VERSION,
            "made_with": made_with(),
            "asked": {**asdict(self.asked), "channels": list(self.asked.channels)},
            "body": {"name": self.body, "sha256": self.body_hash},
            "sources": [],
            "lifted_from": self.hashes,
            "lifted_by": {**asdict(self.eft), **asdict(self.limits)},
        }

    @cached_property
    def digest(self) -> str:
        """A hash of all that pins the bytes."""
        return hashlib.sha256(json_text(self.to_json()).encode()).hexdigest()


class Lifter:
    """Finds bodies for pictures.

    Args:
        body: The body.
        trained: The regressor, on the device.
        plan: How, and what is kept.
        device: Where it works.
        at_joints: As of ``Pictures``.
    """

    def __init__(
        self, body: BodyModel, trained: TrainedRegressor, plan: LiftPlan, device: str, at_joints: bool
    ) -> None:
        self.body, self.net, self.limits, self.device = body, trained.net, plan.limits, device
        self.eft = EFT(body, plan.eft, device, at_joints)

    def lift(self, marked: Marked) -> Made | str:
        """Return the arrays of a version and its picture, or why it is given up."""
        sees = self.net.sees
        try:
            crop = crop_around(marked.image, marked.mask.astype(np.float32) / 255, CutConfig(), sees.size)
        except PhotoError:
            return "too small"
        seen = self.eft.seen(crop, marked.keypoints)
        if int((seen[:, 2] > 0).sum()) < self.limits.min_keypoints:
            return "too few keypoints"
        look = (crop.image, crop.mask, seen_joints(crop, marked.keypoints, sees.keypoints))
        image, mask, keypoints = (x[None].to(self.device) for x in look)
        tuned = self.eft.tune(self.net, image, mask, keypoints, seen)
        if not tuned.missed[tuned.best] * 256 / sees.size <= self.limits.max_error:
            return "keypoints missed"
        said = tuned.said[tuned.best].detached("cpu")
        if float(said.betas.abs().amax()) > self.limits.max_beta:
            return "unlikely shape"
        with torch.no_grad():
            params, log_unit = said.in_metres(self.body)
            posed = self.body(params)
            scale = crop.side / 2 / log_unit.exp()
            rotation = torch.diag(torch.tensor([1.0, -1.0, -1.0]))[None]
            centre = torch.from_numpy(crop.centre).float()[None]
            cameras = Cameras(rotation, torch.zeros(1, 3), scale, torch.zeros(1), centre)
            joints_px = cameras.project(posed.joints)
        person = {"vertices": posed.vertices, "joints": posed.joints, "betas": params.betas, "pose": params.pose}
        arrays: Arrays = {name: to_numpy(rows[0]).astype(np.float32) for name, rows in person.items()}
        arrays |= {"transl": to_numpy(params.transl[0]).astype(np.float32), "shape_change": 0 * arrays["betas"]}
        arrays |= {"source": np.array(marked.name), "pose_kind": np.array("lifted"), "seed": np.array(0, np.int64)}
        numbers = {"pose_number": 0, "shape_number": 0, "tries": len(tuned.said)}
        arrays |= {name: np.array(number, np.int32) for name, number in numbers.items()}
        pictures: Arrays = {"image": marked.image[None], "mask": marked.mask[None], "joints_px": to_numpy(joints_px)}
        pictures |= {f"camera_{name}": to_numpy(rows).astype(np.float32) for name, rows in vars(cameras).items()}
        pictures |= {"view": np.zeros(1, np.int32), "light": np.zeros(1, np.int32)}
        shapes = {"sh": (9, 3), "direction": (3,), "colour": (3,), "shadow": ()}
        pictures |= {f"light_{name}": np.zeros((1, *shape), np.float32) for name, shape in shapes.items()}
        return Made(arrays, pictures)


@one_torch_thread()
def lift(
    source: Path,
    folder: Path,
    keypoints: Path | None = None,
    *,
    limits: Limits | None = None,
    eft: EFTConfig | None = None,
    device: str = "cpu",
    progress: Progress | None = None,
) -> dict[str, Any]:
    """Lift a set of pictures to bodies, or what is missing of it.

    Killed at any moment and run again, only what is missing is made, and the finished set is the same to the last byte.

    Args:
        source: A dataset, or a folder of photos.
        folder: Where the set is to be; made if it is not there.
        keypoints: Of photos: a file or folder, as of ``register_image``.
        limits: What is kept.
        eft: How each picture tunes the regressor.
        device: Where the regressor works.
        progress: Hears how far it is.

    Returns:
        The manifest.

    Raises:
        UsageError: there is nothing to lift, another set lies in the folder, or it was begun with other settings.
        CheckpointError: the regressor's weights are missing.
        DatasetError: the source is damaged.
        OutputError: another run is writing into the folder.
    """
    name = "anny"
    trained, body = spin_weights(name, device), load_body(name)
    pictures = opened(source, keypoints)
    asked = Asked(views=1, size=pictures.size, channels=CHANNELS, device=device)
    hashes = {**pictures.hashes, **trained.files}
    plan = LiftPlan(asked, name, body_hash(body), len(pictures), hashes, eft or EFTConfig(), limits or Limits())
    folder.mkdir(parents=True, exist_ok=True)
    with locked(folder):
        pin(plan, folder)
        recover(folder, alone=True)
        lifter = Lifter(body, trained, plan, device, pictures.at_joints)
        for number, numbers in enumerate(plan.shards):
            if not is_made(plan, number, folder):
                (folder / shard_name(number)).unlink(missing_ok=True)
                _make_shard(plan, number, folder, lifter, pictures)
            if progress is not None:
                progress(numbers.stop, len(pictures))
        manifest = manifest_of(plan, folder, body)
        write_text(folder / MANIFEST, json_text(manifest))
        write_sheet(folder)
    return manifest


def opened(source: Path, keypoints: Path | None) -> Pictures:
    """Return the pictures of a dataset, or of a folder of photos with keypoints.

    Raises:
        UsageError, DatasetError: there are none.
    """
    if (source / MANIFEST).exists():
        if keypoints is not None:
            raise UsageError("--keypoints: expected it with a folder of photos, got a dataset, which has its own")
        return DatasetPictures(source)
    if keypoints is None:
        raise UsageError(f"{source}: expected a dataset, or a folder of photos and --keypoints; got neither")
    return PhotoPictures(source, keypoints)


def _make_shard(plan: LiftPlan, number: int, folder: Path, lifter: Lifter, pictures: Pictures) -> None:
    """Make one shard and write it."""
    tally = Tally()
    versions = list(_made(plan.shards[number], lifter, pictures, tally))
    arrays = assemble(plan.asked, lifter.body, versions)
    about = {
        "plan": plan.digest,
        "shard": number,
        "images": len(versions),
        "versions": len(versions),
        "rejected": dict(tally.rejected),
        "given_up": dict(tally.given_up),
    }
    write_shard(folder / shard_name(number), {**arrays, ABOUT: np.array(json_text(about))})


def _made(numbers: Sequence[int], lifter: Lifter, pictures: Pictures, tally: Tally) -> Iterator[Made]:
    for number in numbers:
        try:
            people = pictures.of(number)
        except PhotoError as error:
            tally.given_up.update([f"the photo cannot be used ({type(error).__name__})"])
            continue
        for marked in people:
            made = lifter.lift(marked)
            if isinstance(made, str):
                tally.given_up.update([made])
            else:
                yield made
