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

    for name in body_names():
        try:
            yield Check(f"body {name}", True, describe_body(name))
        except LvdregError as error:
            yield Check(f"body {name}", False, str(error))
    if not body_names():
        yield Check("body", False, f"none in {assets_dir() / 'bodies'}: install lvdreg again")


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
    found = sorted((assets_dir() / "weights").glob("*.safetensors"))
    for path in found:
        about = path.with_suffix(".json")
        size = f"{path.stat().st_size / 2**20:.1f} MiB"
        try:
            step = json.loads(about.read_text(encoding="utf-8")).get("step", "?")
            yield Check(f"weights {path.stem}", True, f"{size}, trained for {step} steps")
        except (OSError, ValueError, AttributeError) as error:
            yield Check(
                f"weights {path.stem}", False, f"{about.name} is missing or damaged ({error}): install lvdreg again"
            )
    if not found:
        yield Check(
            "weights",
            False,
            f"none in {assets_dir() / 'weights'}: install lvdreg again, or train with lvdreg train voxel",
        )


def _examples() -> Iterator[Check]:
    names = [path.name for path in example_scans()]
    yield Check("examples", True, ", ".join(names) or f"none in {assets_dir() / 'examples'}")


def example_scans() -> list[Path]:
    """Return the shipped example scans."""
    return sorted((assets_dir() / "examples").glob("*.ply"))


def model_names() -> list[str]:
    """Return what ``--model`` takes: every body, alone and with displacements."""
    from lvdreg.body.catalogue import body_names

    return [name + ending for name in body_names() for ending in ("", "+d")]


def check_model(model: str) -> str:
    """Return the model unchanged.

    Raises:
        UsageError: there is no such model; names those there are.
    """
    known = model_names()
    if model not in known:
        raise UsageError(
            f"--model: expected one of {', '.join(known) or '(none found: run lvdreg doctor)'}, got {model!r}"
        )
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
