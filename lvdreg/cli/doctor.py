"""What is installed, and which bodies, added models, weights and example scans are found."""

import os
import platform
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING

from lvdreg.base.assets import PACKAGE, assets_dir
from lvdreg.base.errors import BodyError, CheckpointError, LvdregError, UsageError
from lvdreg.base.text import one_line
from lvdreg.base.version import __version__

if TYPE_CHECKING:
    from lvdreg.body.transfer import Correspondence

REQUIRED = (
    "torch",
    "numpy",
    "scipy",
    "trimesh",
    "pillow",
    "safetensors",
    "typer",
    "rich",
    "libigl",
    "jaxtyping",
    "threadpoolctl",
)
OPTIONAL = {
    "open3d": "distances by LVDREG_BACKEND=open3d",
    "rembg": "--mask rembg",
    "pillow-heif": "photos of iPhones",
    "matplotlib": "plots of lvdreg evaluate",
    "anny": "building bodies anew",
}
DEVICES = ("cpu", "cuda", "auto")
# What is shipped: each body with the networks that register it.
EXAMPLES = {"body": "*.ply", "hand": "hand*.ply", "photo": "*.jpg"}
"""Files of the shipped examples by what they show; scans of people are those that are none of hands."""
NETWORKS = {"anny": ("voxel-anny", "image-anny"), "anny-hand": ("voxel-anny-hand", "hand-detector-anny-hand")}


@dataclass(frozen=True)
class Check:
    """One line of the report: what was looked for, whether registering can go on, and what was found."""

    name: str
    ok: bool
    found: str


def diagnose() -> list[Check]:
    """Look at everything a registration needs."""
    ground = [*_machine(), *_packages()]
    # Without its packages lvdreg cannot even read a body.
    if not all(check.ok for check in ground):
        return ground
    return [*ground, *_bodies(), *_weights(), *_examples(), *_added()]


def _machine() -> Iterator[Check]:
    yield Check("lvdreg", True, f"{__version__}, {PACKAGE}")
    yield Check("python", sys.version_info >= (3, 11), f"{platform.python_version()} on {platform.platform()}")
    yield Check("cores", True, str(os.cpu_count()))


def _packages() -> Iterator[Check]:
    for name in REQUIRED:
        found = _version(name)
        yield Check(name, found is not None, found or "missing: install lvdreg again")
    yield Check("cuda", True, _cuda())
    for name, purpose in OPTIONAL.items():
        yield Check(name, True, _version(name) or f"not installed; only for {purpose}")


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def _cuda() -> str:
    try:
        import torch
    except ImportError:
        return "unknown, torch is missing"
    if not torch.cuda.is_available():
        return "none; lvdreg runs on the CPU"
    return ", ".join(torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count()))


def _bodies() -> Iterator[Check]:
    from lvdreg.body.files import body_names

    for name in sorted({*NETWORKS, *body_names()}):
        try:
            yield Check(f"body {name}", True, describe_body(name))
        except LvdregError as error:
            yield Check(f"body {name}", False, str(error))


def describe_body(name: str) -> str:
    """Say in one line what a body has and under which licence it comes.

    Raises:
        BodyError: its file is missing or damaged.
    """
    from lvdreg.body.catalogue import load_body

    body = load_body(name)
    licence = body.data.provenance.get("licence") or body.data.provenance.get("license", "licence not stated")
    return f"{body.num_vertices} vertices, {body.num_joints} joints, {body.num_betas} betas; {licence}"


def _added() -> Iterator[Check]:
    from lvdreg.body import store

    yield Check("models folder", True, f"{store.models_dir()}: {', '.join(store.names()) or 'none added'}")
    for name in store.names():
        for what, describe in (("model", describe_body), ("transfer", describe_transfer)):
            try:
                yield Check(f"{what} {name}", True, describe(name))
            except LvdregError as error:
                yield Check(f"{what} {name}", False, str(error))


def describe_transfer(name: str) -> str:
    """Say in one line from which free model the network is carried over to an added model, and how well.

    Raises:
        BodyError: there is no added model of that name, or its correspondence is damaged.
        CheckpointError: the network it is carried over from is missing.
    """
    from lvdreg.body import store
    from lvdreg.descent.weights import voxel_weights

    found = store.correspondence(name)
    voxel_weights(found.source)
    typical, high = residual_mm(found)
    ending = "" if store.is_current(name) else "; made for other arrays: found anew at the next use"
    return f"network of {found.source}, transfer residual {typical:.1f} mm median, {high:.1f} at 95 %{ending}"


def residual_mm(found: "Correspondence") -> tuple[float, float]:
    """Return how far vertices lie from their places on the registered free model: median and 95 %, millimetres.

    Vertices that have no place of their own are left out: ``transfer.transfer_notes`` counts them.
    """
    import numpy as np

    near = found.residual_mm[~found.blind]
    return float(np.median(near)), float(np.percentile(near, 95))


def _weights() -> Iterator[Check]:
    from lvdreg.base.tensors import read_tensors

    folder = assets_dir() / "weights"
    shipped = [name for names in NETWORKS.values() for name in names]
    others = sorted({path.stem for path in folder.glob("*.safetensors")} - set(shipped))
    for path in (folder / f"{name}.safetensors" for name in (*shipped, *others)):
        try:
            size = path.stat().st_size / 2**20
            about = read_tensors(path)[1]
            origin = "converted" if "source" in about else f"trained for {about.get('step', '?')} steps"
            yield Check(f"weights {path.stem}", True, f"{size:.1f} MiB, {origin}")
        except (OSError, CheckpointError) as error:
            yield Check(f"weights {path.stem}", False, f"missing or damaged, install lvdreg again: {error}")


def _examples() -> Iterator[Check]:
    for kind in EXAMPLES:
        names = [path.name for path in examples(kind)]
        yield Check(f"example {kind}", True, ", ".join(names) or f"none in {assets_dir() / 'examples'}")


def examples(kind: str) -> list[Path]:
    """Return the shipped examples of a kind; see ``EXAMPLES``."""
    pattern = EXAMPLES[kind]
    found = sorted((assets_dir() / "examples").glob(pattern))
    return [path for path in found if kind != "body" or not path.match(EXAMPLES["hand"])]


def is_hand(model: str) -> bool:
    """Say whether a model, with displacements or without, is a hand; known also of licensed ones not added yet."""
    from lvdreg.body import store
    from lvdreg.body.files import KINDS, kind_named

    name = model.removesuffix("+d")
    if name in store.names():
        return store.entry(name).is_hand
    kind = kind_named(name)
    return KINDS[kind].is_hand if kind else name.endswith("-hand")


def model_names() -> list[str]:
    """Return what ``--model`` takes: every free and added body and hand, alone and with displacements."""
    from lvdreg.body import store
    from lvdreg.body.files import body_names

    return [name + ending for name in (*body_names(), *store.names()) for ending in ("", "+d")]


def describe_model(model: str) -> str:
    """Say in one line which command registers a model and what it has.

    Raises:
        BodyError: the file of a free one is missing or damaged; that of an added one is only said to be.
    """
    from lvdreg.body.files import body_names

    name = model.removesuffix("+d")
    with_displacements = ", with displacements" if model.endswith("+d") else ""
    try:
        return f"{command_of(model):16} {describe_body(name)}{with_displacements}"
    except BodyError as error:
        if name in body_names():
            raise
        return f"{'damaged':16} {one_line(str(error))}"


def command_of(model: str) -> str:
    """Return the command that registers a model."""
    return "lvdreg hands" if is_hand(model) else "lvdreg register"


def check_model(model: str, hands: bool = False, option: str = "--model") -> str:
    """Return the model unchanged.

    Args:
        model: What the user gave.
        hands: Whether a hand is wanted; otherwise a body is.
        option: By which it was given.

    Raises:
        UsageError: there is no such model, or it is of the other kind; says what to do instead.
        BodyError: it is a licensed one that was not added, or a damaged one; says where to get it.
    """
    from lvdreg.body.catalogue import missing
    from lvdreg.body.files import kind_named

    known, name = model_names(), model.removesuffix("+d")
    licensed = model not in known and kind_named(name) is not None
    if model not in known and not licensed:
        raise UsageError(
            f"{option}: expected one of {_wanted(hands)}, got {model!r}; lvdreg models add FILE brings others"
        )
    if is_hand(model) != hands:
        kind = "hand" if is_hand(model) else "whole body"
        raise UsageError(
            f"--model: {model} is a {kind}, use {command_of(model)} for it; expected one of {_wanted(hands)}"
        )
    if licensed:
        raise missing(name)
    return model


def _wanted(hands: bool) -> str:
    """List the hands, or the bodies, that can be registered; a damaged one is no reason not to name the others."""
    found = []
    for name in model_names():
        try:
            found += [name] if is_hand(name) == hands else []
        except BodyError:
            continue
    return ", ".join(found) or "(none found: run lvdreg doctor)"


def check_device(device: str) -> str:
    """Return the device to compute on, "cpu" or "cuda"; "auto" takes a GPU where there is one.

    Raises:
        UsageError: no such device, or no GPU that torch can use.
    """
    if device not in DEVICES:
        raise UsageError(f"--device: expected one of {', '.join(DEVICES)}, got {device!r}")
    if device == "cpu":
        return device
    import torch

    if torch.cuda.is_available():
        return "cuda"
    if device == "cuda":
        raise UsageError("--device: cuda was asked for, but torch finds no GPU; use --device cpu or auto")
    return "cpu"
