"""SPIN where truth in space is missing: fits to keypoints stand in for it (Kolotouros et al. 2019, section 3.4).

In every step one short fit of the batched SMPLify starts from what the regressor says of each photo; a dictionary keeps
the best fit of every photo over the epochs, by how near its landmarks are to where they are seen; the best fits teach
the regressor. The fit is never part of what the network is scored by.
"""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal, Unpack

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from lvdreg.base.errors import UsageError
from lvdreg.base.tensors import read_tensors, write_tensors
from lvdreg.body.catalogue import load_body
from lvdreg.body.landmarks import landmarks_of
from lvdreg.body.model import BodyModel, BodyParams
from lvdreg.descent.checkpoint import check_tensors
from lvdreg.fit.smplify import Found, Seen, SMPLify, SMPLifyConfig
from lvdreg.geometry.frames import rotmat_to_rotvec
from lvdreg.image.regressor import Regressed, RegressorNetConfig
from lvdreg.photo.keypoints import KEYPOINTS
from lvdreg.synth.photos import Photos, PhotoStream
from lvdreg.train.bank import Numbered, PhotoBank
from lvdreg.train.photos import PhotoSource
from lvdreg.train.regression import Taught
from lvdreg.train.run import RunOptions, TrainConfig, train
from lvdreg.train.spin import SPINTrainer

Fits = Literal["none", "static", "loop"]


@dataclass(frozen=True)
class SPINConfig:
    """What is hidden, and what stands in for it."""

    hidden: float = 1.0
    """Share of the photos whose truth in space is hidden."""
    fits: Fits = "loop"
    """None: keypoints alone teach. Static: fits from the mean body, once. Loop: from what the network says, too."""
    iterations: int = 8
    """Of the fit in the loop."""
    enough: float = 0.05
    """Fits whose landmarks lie farther off on average, units of the crop, teach nothing but keypoints."""
    beta_limit: float = 3.0
    """Fits with a larger beta teach the mean shape instead of theirs."""


class BestFits:
    """The dictionary: the best fit of every photo so far; none is ever exchanged for a worse one."""

    def __init__(self, count: int, body: BodyModel, device: torch.device) -> None:
        """Begin without fits."""
        shapes = {"betas": (body.num_betas,), "pose": (body.num_joints, 3), "transl": (3,)}
        self.params = BodyParams(**{name: torch.zeros(count, *shape, device=device) for name, shape in shapes.items()})
        self.log_unit = torch.zeros(count, device=device)
        self.missed = torch.full((count,), torch.inf, device=device)
        """Mean distance of the landmarks from where they are seen, units of the crop."""

    def update(self, numbers: Int[Tensor, " B"], found: Found, is_told: Bool[Tensor, " B"]) -> Bool[Tensor, " B"]:
        """Keep the fits that are better than those that are kept; returns which.

        Args:
            numbers: Of the photos, each at most once.
            found: Their new fits.
            is_told: Whether so many landmarks are seen that the fits mean anything.
        """
        missed = (found.missed / found.log_unit.exp()).to(self.missed)
        missed = torch.where(is_told, missed, torch.inf)
        is_better = missed < self.missed[numbers]
        rows = numbers[is_better]
        for kept, new in zip(self._tensors().values(), (*_parts(found.params), found.log_unit, missed), strict=True):
            kept[rows] = new[is_better].to(kept)
        return is_better

    def of(self, numbers: Int[Tensor, " B"]) -> tuple[BodyParams, Float[Tensor, " B"], Float[Tensor, " B"]]:
        """Return bodies in metres, logarithms of the metres of the crops' units, and how far landmarks are missed."""
        params = BodyParams(*(x[numbers] for x in _parts(self.params)))
        return params, self.log_unit[numbers], self.missed[numbers]

    def save(self, path: Path) -> None:
        """Write them."""
        write_tensors(path, dict(self._tensors()), {})

    def read(self, path: Path) -> None:
        """Take what was written.

        Raises:
            CheckpointError: the file is missing, damaged, or of other photos.
        """
        tensors = read_tensors(path)[0]
        # Of photos that were never fitted it is infinite.
        check_tensors(self._tensors(), {name: tensor.nan_to_num(posinf=0) for name, tensor in tensors.items()}, path)
        for name, kept in self._tensors().items():
            kept.copy_(tensors[name])

    def _tensors(self) -> dict[str, Tensor]:
        betas, pose, transl = _parts(self.params)
        return {"betas": betas, "pose": pose, "transl": transl, "log_unit": self.log_unit, "missed": self.missed}


def _parts(params: BodyParams) -> tuple[Tensor, Tensor, Tensor]:
    return params.betas, params.pose, params.transl


class SPINLoopTrainer(SPINTrainer):
    """Trains SPIN's regressor on a bank of photos, the truth of some hidden."""

    def __init__(
        self,
        net_config: RegressorNetConfig,
        config: TrainConfig,
        device: torch.device,
        bank: PhotoBank,
        spin: SPINConfig | None = None,
        body: BodyModel | None = None,
    ) -> None:
        """Build body, network, optimiser and dictionary on the device.

        Args:
            net_config: As of ``SPINTrainer``.
            config: As of ``SPINTrainer``.
            device: Where to train.
            bank: The photos, on the device; with parameters, which are hidden as ``spin`` says.
            spin: What is hidden, and what stands in for it.
            body: The body, where it is loaded already.

        Raises:
            UsageError: there are fewer photos than a batch has.
        """
        super().__init__(net_config, replace(config, ahead=False), device, body, bank)
        if len(bank) < config.batch:
            raise UsageError(f"expected {config.batch} photos or more to train on in batches, got {len(bank)}")
        self.bank, self.spin = bank, spin or SPINConfig()
        like = torch.zeros(1, dtype=torch.float64, device=device)
        self.first_fit = SMPLify(self.body, like=like)
        short = SMPLifyConfig(iterations=(*SMPLifyConfig.iterations[:-1], self.spin.iterations))
        self.short_fit = SMPLify(self.body, short, like)
        self.annotators, _ = landmarks_of(self.body.data, KEYPOINTS)
        chosen = torch.zeros(self.body.num_joints, device=device)
        chosen[self.annotators.joints[self.annotators.share < 1].tolist()] = 1
        self.annotated = chosen
        self.best = BestFits(len(bank), self.body, device)

    def batch(self, size: int, seed: int) -> Numbered:
        """Return the photos of a step: in an order that is shuffled anew whenever all of the bank were shown once."""
        own = self.config.batch
        first = seed - self.config.seed * 1_000_003
        numbers = torch.cat([self._order(first + i) for i in range(max(1, size // own))])
        return self.bank.picked(numbers)

    def _order(self, step: int) -> Int[Tensor, " B"]:
        own = self.config.batch
        epoch, place = divmod(step, len(self.bank) // own)
        generator = torch.Generator().manual_seed(self.config.seed * 1_000_003 + epoch)
        return torch.randperm(len(self.bank), generator=generator)[place * own : (place + 1) * own].to(self.device)

    def teach(self, batch: Photos, said: Regressed) -> Taught:
        """Return what is known of photos of the bank, fits in the place of what is hidden."""
        assert isinstance(batch, Numbered)
        return self.taught(batch, said.detached())

    @torch.no_grad()
    def taught(self, photos: Numbered, said: Regressed) -> Taught:
        """Fit what is hidden, keep what is better, and return what is to be taught."""
        numbers, truth = photos.numbers, Taught.truth(photos)
        assert truth.params is not None
        is_hidden = numbers < round(self.spin.hidden * len(self.bank))
        hidden = is_hidden.nonzero()[:, 0]
        if not len(hidden):
            return truth
        fits = numbers[hidden]
        if self.spin.fits != "none":
            self._fit(photos, hidden, fits, said)
        params, log_unit, missed = self.best.of(fits)
        fitted = Regressed.of(self.body, params, log_unit)
        is_good = (missed < self.spin.enough).float()
        shown = self.annotated * (truth.joints.abs() <= 1).all(-1)
        betas = torch.where(params.betas.abs().amax(1, keepdim=True) > self.spin.beta_limit, 0.0, params.betas)

        def put(true: Tensor, fit: Tensor) -> Tensor:
            return true.index_copy(0, hidden, fit)

        pose = put(truth.params.pose, rotmat_to_rotvec(fitted.rotations))
        every = torch.ones_like(missed[:1]).expand(len(numbers))
        return Taught(
            put(truth.vertices, fitted.vertices(self.body)),
            truth.joints,
            BodyParams(put(truth.params.betas, betas), pose, truth.params.transl),
            put(every, is_good),
            torch.where(is_hidden[:, None], shown, 1.0),
        )

    def _fit(self, photos: Photos, rows: Int[Tensor, " H"], numbers: Int[Tensor, " H"], said: Regressed) -> None:
        """Fit photos that were never fitted from the mean body, and in the loop all from what the network says."""
        seen = self.seen(photos).of(rows)
        is_told = (seen.weight > 0).sum(1) >= self.first_fit.config.min_keypoints
        new = self.best.missed[numbers].isinf().nonzero()[:, 0]
        if len(new):
            self.best.update(numbers[new], self.first_fit.fit(seen.of(new)), is_told[new])
        if self.spin.fits == "loop":
            own = Regressed(said.betas[rows], said.rotations[rows], said.scale[rows], said.shift[rows])
            self.best.update(numbers, self.short_fit.fit(seen, own.in_metres(self.body)), is_told)

    def seen(self, photos: Photos) -> Seen:
        """Return what people who look at the photos would mark: the landmarks within the picture."""
        at = self.annotators.of(photos.vertices, photos.joints)[..., :2]
        like = self.first_fit.like
        zero = like.new_zeros(len(at))
        return Seen(at.to(like), (at.abs() <= 1).all(-1).to(like), zero[:, None].expand(-1, 2), zero)

    def save(self, folder: Path, meta: dict[str, Any]) -> None:
        """Write network and state, and the dictionary beside."""
        self.best.save(folder / "fits.safetensors")
        super().save(folder, meta)

    def resume(self, folder: Path) -> dict[str, Any]:
        """Continue from a state written by ``save``, with its dictionary; errors as of ``Trainer.resume``."""
        self.best.read(folder / "fits.safetensors")
        return super().resume(folder)


def train_spin_loop(
    out: Path,
    net_config: RegressorNetConfig,
    config: TrainConfig | None = None,
    *,
    device: str = "cpu",
    source: PhotoSource | None = None,
    photos: int = 2_000,
    spin: SPINConfig | None = None,
    **options: Unpack[RunOptions],
) -> Path:
    """Train SPIN's regressor on so many photos, the truth of some hidden, and keep it in ``out``.

    Other arguments, result and errors are those of ``train_image``; ``photos`` are drawn from the source, or rendered.
    """
    config, body = config or TrainConfig(), load_body(net_config.body).to(device)
    source = PhotoStream(body, net_config.regressor.size) if source is None else source
    bank = PhotoBank.drawn(source, photos, torch.device(device), config.seed)
    return train(SPINLoopTrainer(net_config, config, torch.device(device), bank, spin, body), out, **options)
