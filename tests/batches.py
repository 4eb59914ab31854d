"""Batches in tests: scans that say what becomes of them, and what registers them."""

from pathlib import Path
from typing import Any

from fake_registration import fake_registration

from lvdreg.base.errors import RegistrationError, ScanError, UsageError
from lvdreg.base.provenance import InputFile, sha256_of
from lvdreg.result.scan import Registration


def fake_register(source: Path, **options: Any) -> Registration:
    """Register what the file says: a verdict, or the error to raise."""
    words = source.read_text(encoding="utf-8").split()
    errors = {
        "scan": ScanError,
        "fit": RegistrationError,
        "usage": UsageError,
        "bug": ValueError,
        "memory": MemoryError,
    }
    if words[0] in errors:
        raise errors[words[0]](f"{source.name}: expected\na scan, got {words[0]}")
    options["progress"]("read")
    return fake_registration(
        name=source.stem,
        verdict=words[0],
        reason=source.read_text(encoding="utf-8"),
        settings={"source": str(source)},
        source=InputFile(str(source.absolute()), sha256_of(source)),
    )


def make(folder: Path, **files: str) -> list[Path]:
    """Write files ``stem="content"`` as .ply."""
    folder.mkdir(parents=True, exist_ok=True)
    for stem, content in files.items():
        (folder / f"{stem}.ply").write_text(content, encoding="utf-8")
    return [folder / f"{stem}.ply" for stem in files]


def fail_on_call(*_: Any, **__: Any) -> Registration:
    raise AssertionError("nothing may be computed")
