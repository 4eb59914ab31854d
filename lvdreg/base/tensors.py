"""Tensors on disk: safetensors beside JSON; nothing in them can run."""

import json
import os
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from lvdreg.base.errors import CheckpointError
from lvdreg.base.files import plain_size, read_json
from lvdreg.base.text import one_line

MAX_HEADER_BYTES = 8 << 20
"""A tensor takes a hundred bytes of a header. The tensors themselves are within the file, as safetensors checks."""


def write_tensors(path: Path, tensors: dict[str, Tensor], meta: dict[str, Any]) -> None:
    """Write tensors and their JSON; whoever reads meanwhile finds whole files, never half of one."""
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_suffix(".part")
    save_file({k: v.detach().contiguous().cpu() for k, v in tensors.items()}, part)
    part.chmod(0o644)  # safetensors makes files private; weights are read by whoever uses the install
    text = path.with_suffix(".json.part")
    text.write_text(json.dumps(meta, indent=1) + "\n", encoding="utf-8")
    os.replace(part, path)
    os.replace(text, path.with_suffix(".json"))


def read_tensors(path: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Read a pair written by ``write_tensors``.

    Raises:
        CheckpointError: either file is missing or damaged.
    """
    for file in (path, path.with_suffix(".json")):
        if not file.exists():
            raise CheckpointError(f"{path}: expected a .safetensors file with its .json beside it; missing: {file}")
    try:
        meta = read_json(path.with_suffix(".json"))
        _check_header(path)
        tensors = load_file(path)
    except (SafetensorError, ValueError, OSError) as error:
        raise damaged(path, f"not a readable checkpoint ({error})") from error
    if not isinstance(meta, dict):
        raise damaged(path, f"its .json should hold an object, got {type(meta).__name__}")
    return tensors, meta


def _check_header(path: Path) -> None:
    """Refuse a header that takes much more memory than the tensors could.

    Raises:
        OSError: the path is no file.
        ValueError: its header is longer than any network's.
    """
    plain_size(path)
    with path.open("rb") as file:
        size = int.from_bytes(file.read(8), "little")
    if size > MAX_HEADER_BYTES:
        raise ValueError(f"its header claims {size} bytes")


def damaged(path: Path, reason: str) -> CheckpointError:
    """Return the error that says what is wrong with a file of weights and what to do."""
    return CheckpointError(f"{path}: {one_line(reason)}; install lvdreg again or train anew")
