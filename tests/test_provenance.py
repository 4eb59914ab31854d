"""What had a part in a photo's result is in its report, by content, as it was loaded."""

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import lvdreg
from lvdreg.base.assets import assets_dir
from lvdreg.base.provenance import InputFile, sha256_of

PHOTO = assets_dir() / "examples" / "person.jpg"
NETWORKS = ("image-anny", "person-detector", "person-landmarks", "person-mask")


@pytest.mark.slow
def test_a_photo_with_a_given_mask(tmp_path: Path) -> None:
    mask = tmp_path / "white.png"
    with Image.open(PHOTO) as photo:
        width, height = photo.size
    Image.fromarray(np.pad(np.full((height - 40, width - 40), 255, np.uint8), 20)).save(mask)
    result = lvdreg.register_image(PHOTO, mask=mask, refine=False, settings={"quality": "fast"})
    names = [f"weights/{name}{end}" for name in NETWORKS for end in (".json", ".safetensors")] + ["bodies/anny.npz"]
    expected = {name: sha256_of(assets_dir() / name) for name in names} | {"mask/white.png": sha256_of(mask)}
    assert result.assets == expected
    assert result.source == InputFile(str(PHOTO.absolute()), sha256_of(PHOTO))
    assert list(result.timings) == ["read", "mask", "load", "crop", "descend", "uncertainty", "fit", "refine", "assess"]
    result.save(tmp_path / "out")
    report = json.loads((tmp_path / "out" / "report.json").read_text(encoding="utf-8"))
    assert report["assets"] == expected
    assert report["input"] == {"path": str(PHOTO.absolute()), "sha256": sha256_of(PHOTO)}
