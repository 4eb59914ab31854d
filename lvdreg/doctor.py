"""What is installed, and which bodies, weights and example scans are found."""

import json
import os
import platform
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from lvdreg.assets import assets_dir
from lvdreg.errors import LvdregError, UsageError

REQUIRED = ("torch", "numpy", "scipy", "trimesh", "pillow", "safetensors", "typer", "libigl", "jaxtyping")
OPTIONAL = {
    "open3d": "more file formats",
    "warp-lang": "faster nearest points on a GPU",
    "anny": "building bodies anew",
}
DEVICES = ("cpu", "cuda", "auto")
# What is shipped: each body with the networks that register it.
NETWORKS = {"anny": ("voxel-anny",), "anny-hand": ("voxel-anny-hand", "compass-anny-hand")}


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
    return [*ground, *_bodies(), *_weights(), *_examples()] if all(check.ok for check in ground) else ground


def _machine() -> Iterator[Check]:
    from lvdreg import __version__

    yield Check("lvdreg", True, f"{__version__}, {Path(__file__).parent}")
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
    from lvdreg.body.catalogue import body_names

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


def _weights() -> Iterator[Check]:
    folder = assets_dir() / "weights"
    shipped = [name for names in NETWORKS.values() for name in names]
    others = sorted({path.stem for path in folder.glob("*.safetensors")} - set(shipped))
    for path in (folder / f"{name}.safetensors" for name in (*shipped, *others)):
        try:
            size = path.stat().st_size / 2**20
            step = json.loads(path.with_suffix(".json").read_text(encoding="utf-8")).get("step", "?")
            yield Check(f"weights {path.stem}", True, f"{size:.1f} MiB, trained for {step} steps")
        except (OSError, ValueError, AttributeError) as error:
            yield Check(f"weights {path.stem}", False, f"missing or damaged, install lvdreg again: {error}")


def _examples() -> Iterator[Check]:
    for kind, hands in (("body", False), ("hand", True)):
        names = [path.name for path in example_scans(hands)]
        yield Check(f"example {kind}", True, ", ".join(names) or f"none in {assets_dir() / 'examples'}")


def example_scans(hands: bool = False) -> list[Path]:
    """Return the shipped example scans, of people or of hands."""
    scans = sorted((assets_dir() / "examples").glob("*.ply"))
    return [path for path in scans if path.stem.startswith("hand") == hands]


def is_hand(model: str) -> bool:
    """Say whether a model is a hand, with displacements or without."""
    return model.removesuffix("+d").endswith("-hand")


def model_names() -> list[str]:
    """Return what ``--model`` takes: every body and hand, alone and with displacements."""
    from lvdreg.body.catalogue import body_names

    return [name + ending for name in body_names() for ending in ("", "+d")]


def command_of(model: str) -> str:
    """Return the command that registers a model."""
    return "lvdreg hands" if is_hand(model) else "lvdreg register"


def check_model(model: str, hands: bool = False) -> str:
    """Return the model unchanged.

    Args:
        model: What the user gave.
        hands: Whether a hand is wanted; otherwise a body is.

    Raises:
        UsageError: there is no such model, or it is of the other kind; says what to do instead.
    """
    known = model_names()
    wanted = ", ".join(name for name in known if is_hand(name) == hands) or "(none found: run lvdreg doctor)"
    if model not in known:
        raise UsageError(f"--model: expected one of {wanted}, got {model!r}")
    if is_hand(model) != hands:
        kind = "hand" if is_hand(model) else "whole body"
        raise UsageError(f"--model: {model} is a {kind}, use {command_of(model)} for it; expected one of {wanted}")
    return model


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
