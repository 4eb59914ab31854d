"""Tensors on disk: safetensors beside JSON; nothing in them can run."""

import hashlib
import json
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from lvdreg.base.disk import write_file
from lvdreg.base.errors import CheckpointError
from lvdreg.base.files import parse_json, plain_size, read_json
from lvdreg.base.provenance import FileHashes, sha256_of
from lvdreg.base.text import one_line

MAX_HEADER_BYTES = 8 << 20
"""A tensor takes a hundred bytes of a header. The tensors themselves are within the file, as safetensors checks."""
_LONGEST_REASON = 250
META, PAIR, CHECKSUM = "meta", "pair", "sha256"
"""In the header of the tensors: the JSON once more; in both: what is equal in files that were written together; in the
JSON: the SHA-256 of the file of tensors, and that of the JSON itself without it."""


def write_tensors(path: Path, tensors: dict[str, Tensor], meta: dict[str, Any]) -> None:
    """Write tensors and their JSON; whoever reads meanwhile finds whole files, never half of one.

    A kill between the two files costs nothing: the tensors carry the JSON, too, and know which one is theirs. A byte
    that changes later is noticed by the checksums in the JSON.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    text = json.dumps(meta)
    pair = hashlib.sha256(text.encode()).hexdigest()[:16]

    def write(part: Path) -> None:
        save_file({k: v.detach().contiguous().cpu() for k, v in tensors.items()}, part, {META: text, PAIR: pair})
        part.chmod(0o644)  # safetensors makes files private; weights are read by whoever uses the install

    write_file(path, write)
    about = {**meta, PAIR: pair}
    beside = json.dumps(about | {CHECKSUM: checksums(path, about)}, indent=1) + "\n"
    write_file(path.with_suffix(".json"), lambda part: part.write_text(beside, encoding="utf-8"))


def checksums(path: Path, about: dict[str, Any]) -> dict[str, str]:
    """Return the SHA-256 of a file of tensors, and that of what its JSON says."""
    return {"tensors": sha256_of(path), "json": hashlib.sha256(json.dumps(about, sort_keys=True).encode()).hexdigest()}


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
        with safe_open(path, "pt") as file:
            header = file.metadata() or {}
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - it is no dict
    except (SafetensorError, ValueError, OSError) as error:
        raise damaged(path, f"not a readable checkpoint ({error})") from error
    if not isinstance(meta, dict):
        raise damaged(path, f"its .json should hold an object, got {type(meta).__name__}")
    noted, pair = meta.pop(CHECKSUM, None), meta.get(PAIR)
    if pair is not None and pair != header.get(PAIR, pair):
        meta = _carried(path, header)
    elif noted is not None and noted != checksums(path, meta):  # weights of lvdreg 0.1 have none
        raise damaged(path, "its bytes, or those of its .json, are not those that were written")
    meta.pop(PAIR, None)
    return tensors, meta


def _carried(path: Path, header: dict[str, str]) -> dict[str, Any]:
    """Return the JSON that tensors carry: a kill has kept it from being put in its place.

    Raises:
        CheckpointError: it is not what was written.
    """
    text = header.get(META, "")
    if hashlib.sha256(text.encode()).hexdigest()[:16] != header.get(PAIR):
        raise damaged(path, "its .json belongs to other tensors")
    try:
        return dict(parse_json(text.encode()))
    except (ValueError, TypeError) as error:
        raise damaged(path, f"the JSON in it is none ({error})") from error


def tensor_files(path: Path) -> FileHashes:
    """Return the SHA-256 of a pair of files, by their names behind that of their folder."""
    return {f"{path.parent.name}/{file.name}": sha256_of(file) for file in (path, path.with_suffix(".json"))}


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
    return CheckpointError(f"{path}: {one_line(reason)[:_LONGEST_REASON]}; install lvdreg again or train anew")
