"""Reading photos: every kind comes out upright and in plain colours, every damage is one clear line."""

import io
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from drawn import man
from numpy.typing import NDArray
from PIL import Image
from PIL.TiffImagePlugin import IFDRational

import lvdreg.photo.model as photo_module
from lvdreg.base.errors import PhotoError
from lvdreg.photo.model import photo_from_array, photo_of, read_photo

COLOURS = {"red": (200, 30, 20), "green": (20, 180, 40), "blue": (30, 40, 220), "grey": (128, 128, 128)}


def quarters(width: int = 60, height: int = 40) -> NDArray[np.uint8]:
    """Red, green above, blue, grey below: tells every turn and mirroring apart."""
    rgb = np.empty((height, width, 3), np.uint8)
    red, green, blue, grey = COLOURS.values()
    rgb[: height // 2, : width // 2], rgb[: height // 2, width // 2 :] = red, green
    rgb[height // 2 :, : width // 2], rgb[height // 2 :, width // 2 :] = blue, grey
    return rgb


def saved(path: Path, image: Image.Image, **options: object) -> Path:
    image.save(path, **options)
    return path


def one_line(error: pytest.ExceptionInfo[PhotoError]) -> str:
    text = str(error.value)
    assert text.strip() and "\n" not in text and len(text) < 400
    return text


@pytest.mark.parametrize("suffix", ["png", "jpg", "bmp", "webp", "tif", "gif"])
def test_formats_give_the_same_colours(tmp_path: Path, suffix: str) -> None:
    options = {"quality": 98} if suffix in ("jpg", "webp") else {}
    photo = read_photo(saved(tmp_path / f"a.{suffix}", Image.fromarray(quarters()), **options))
    assert photo.rgb.shape == (40, 60, 3) and photo.rgb.dtype == np.uint8 and photo.size == (60, 40)
    assert photo.alpha is None and photo.name == "a" and not photo.notes
    for (row, column), colour in zip(((5, 5), (5, 50), (35, 5), (35, 50)), COLOURS.values(), strict=True):
        assert np.abs(photo.rgb[row, column].astype(int) - colour).max() <= 6


@pytest.mark.parametrize("orientation", range(1, 9))
def test_every_exif_orientation_comes_out_upright(tmp_path: Path, orientation: int) -> None:
    turns = {
        1: None, 2: "FLIP_LEFT_RIGHT", 3: "ROTATE_180", 4: "FLIP_TOP_BOTTOM", 5: "TRANSPOSE", 6: "ROTATE_90",
        7: "TRANSVERSE", 8: "ROTATE_270",
    }  # fmt: skip
    upright = Image.fromarray(quarters())
    turn = turns[orientation]
    stored = upright if turn is None else upright.transpose(Image.Transpose[turn])
    exif = Image.Exif()
    exif[0x0112] = orientation
    photo = read_photo(saved(tmp_path / "a.png", stored, exif=exif))
    np.testing.assert_array_equal(photo.rgb, quarters())
    assert bool(photo.notes) == (orientation > 1)


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGBA", "CMYK", "YCbCr", "LAB", "I;16", "I", "F"])
def test_every_mode_becomes_rgb(tmp_path: Path, mode: str) -> None:
    grey = Image.fromarray(np.linspace(0, 255, 64 * 48).reshape(48, 64).astype(np.uint8))
    if mode == "I;16":
        image = Image.fromarray(np.linspace(0, 65535, 64 * 48).reshape(48, 64).astype(np.uint16))
    elif mode in ("I", "F"):
        image = Image.fromarray(np.linspace(-5, 3, 64 * 48).reshape(48, 64).astype(np.int32 if mode == "I" else "f4"))
    else:
        image = grey.convert("RGB").convert(mode)
    # Pillow before 13 cannot read back its own TIFFs of that mode.
    photo = read_photo(saved(tmp_path / ("a.jpg" if mode == "YCbCr" else "a.tif"), image))
    assert photo.rgb.shape == (48, 64, 3) and photo.alpha is None
    assert photo.rgb[0, 0].max() <= 10 and photo.rgb[-1, -1].min() >= 235
    if mode in ("I;16", "F"):
        assert np.abs(photo.rgb[..., 0].astype(int) - np.array(grey)).max() <= 1 and photo.notes


def test_alpha_counts_only_if_it_tells_something_apart(tmp_path: Path) -> None:
    rgba = np.dstack([quarters(), np.full((40, 60), 255, np.uint8)])
    assert read_photo(saved(tmp_path / "opaque.png", Image.fromarray(rgba))).alpha is None
    rgba[..., 3] = 0
    assert read_photo(saved(tmp_path / "clear.png", Image.fromarray(rgba))).alpha is None
    rgba[:20, :, 3] = 255
    photo = read_photo(saved(tmp_path / "half.png", Image.fromarray(rgba)))
    assert photo.alpha is not None and photo.alpha.dtype == np.float32
    np.testing.assert_array_equal(photo.alpha, rgba[..., 3] / 255)
    np.testing.assert_array_equal(photo.rgb, quarters())
    assert any("alpha" in note for note in photo.notes)


def test_a_palette_may_hold_transparency(tmp_path: Path) -> None:
    image = Image.fromarray(quarters()).quantize(8)
    clear = image.getpixel((0, 0))
    photo = read_photo(saved(tmp_path / "a.png", image, transparency=clear))
    assert photo.alpha is not None and photo.alpha[5, 5] == 0 and photo.alpha[35, 50] == 1


def test_the_first_of_several_pictures_is_taken(tmp_path: Path) -> None:
    first, second = Image.fromarray(quarters()), Image.new("RGB", (60, 40))
    photo = read_photo(saved(tmp_path / "a.gif", first, save_all=True, append_images=[second]))
    assert photo.rgb.mean() > 50 and "2 pictures" in photo.notes[0]


@pytest.mark.parametrize("suffix", ["png", "jpg"])
def test_large_photos_are_reduced(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, suffix: str) -> None:
    monkeypatch.setattr(photo_module, "MAX_PIXELS", 60 * 40)
    options = {"quality": 98} if suffix == "jpg" else {}
    photo = read_photo(saved(tmp_path / f"a.{suffix}", Image.fromarray(quarters(240, 160)), **options))
    assert photo.size == (60, 40) and "reduced from 240 x 160" in photo.notes[0]
    assert np.abs(photo.rgb[35, 5].astype(int) - COLOURS["blue"]).max() <= 6


def test_decompression_bombs_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 1000)
    with pytest.raises(PhotoError) as error:
        read_photo(saved(tmp_path / "a.png", Image.fromarray(quarters())))
    assert "reduce" in one_line(error)
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 2000)  # where Pillow only warns
    with pytest.warns(Image.DecompressionBombWarning):
        assert read_photo(tmp_path / "a.png").size == (60, 40)


@pytest.mark.parametrize(
    ("content", "word"),
    [
        (b"", "empty"),
        (b"Dear Sir,\nhere is my photo.\n", "text"),
        (bytes(range(256)) * 4, "something else"),
        (b"solid scan\n facet normal 0 0 1\n", "text"),
        (b"\x00\x00\x00\x18ftypheic\x00\x00\x00\x00mif1heic", "HEIC"),
    ],
)
def test_what_is_no_photo_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, content: bytes, word: str) -> None:
    monkeypatch.setitem(sys.modules, "pillow_heif", None)
    path = tmp_path / "photo.jpg"
    path.write_bytes(content)
    with pytest.raises(PhotoError) as error:
        read_photo(path)
    assert word in one_line(error) and "photo.jpg" in str(error.value)


def test_missing_files_folders_and_specks_are_said(tmp_path: Path) -> None:
    speck = saved(tmp_path / "speck.png", Image.new("RGB", (8, 300)))
    strip = saved(tmp_path / "strip.png", Image.new("RGB", (20, 2000)))
    for path, word in (
        (tmp_path / "no.png", "No such file"),
        (tmp_path, "a folder"),
        (speck, "8 x 300"),
        (strip, "20 x 2000"),
    ):
        with pytest.raises(PhotoError) as error:
            read_photo(path)
        assert word in one_line(error)


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "GIF", "TIFF", "WEBP", "BMP", "PPM"])
def test_damaged_files_are_read_or_refused_in_one_line(tmp_path: Path, kind: str) -> None:
    """Cut at every place of a list, and with bytes changed at random."""
    buffer = io.BytesIO()
    Image.fromarray(quarters()).save(buffer, kind)
    whole, rng, path = buffer.getvalue(), np.random.default_rng(0), tmp_path / "a.bin"
    damaged = [whole[: len(whole) * i // 12] for i in range(1, 12)]
    for _ in range(40):
        content = bytearray(whole)
        for place in rng.integers(0, len(whole), 4):
            content[place] = rng.integers(0, 256)
        damaged.append(bytes(content))
    refused = 0
    for content in damaged:
        path.write_bytes(content)
        try:
            assert read_photo(path).rgb.ndim == 3
        except PhotoError as error:
            refused += 1
            assert "\n" not in str(error) and str(path) in str(error)
    assert refused


def test_arrays_are_photos() -> None:
    rgb = quarters()
    photo = photo_from_array(rgb, "mine")
    np.testing.assert_array_equal(photo.rgb, rgb)
    rgb[:] = 0
    assert photo.rgb.any() and photo.name == "mine" and photo_of(photo) is photo
    np.testing.assert_array_equal(photo_of(quarters() / 255).rgb, quarters())
    np.testing.assert_array_equal(photo_of(quarters()[..., 0]).rgb[..., 2], quarters()[..., 0])
    alpha = np.zeros((40, 60, 1), np.uint8)
    alpha[:10] = 255
    given = photo_of(np.concatenate([quarters(), alpha], 2)).alpha
    assert given is not None and given[:10].all() and not given[10:].any()


@pytest.mark.parametrize(
    "array",
    [
        np.zeros((40, 60, 2)), np.zeros((3, 40, 60)), np.zeros((40, 8, 3)), np.full((40, 60, 3), 1.5),
        np.full((40, 60, 3), np.nan), np.full((40, 60, 3), 300), np.full((40, 60, 3), -1),
        np.zeros((40, 60, 3), complex), np.array("text"), np.zeros(0),
    ],
)  # fmt: skip
def test_arrays_that_are_no_photos_are_refused(array: NDArray[np.float64]) -> None:
    with pytest.raises(PhotoError) as error:
        photo_from_array(array)
    assert "expected" in one_line(error)


def test_the_drawn_man_has_his_joints_on_him() -> None:
    _, mask, joints = man()
    assert all(mask[round(y), round(x)] for x, y in joints.values())


FOCAL, FOCAL_35MM, WIDTH, HEIGHT, RESOLUTION, UNIT = 0x920A, 0xA405, 0xA002, 0xA003, 0xA20E, 0xA210


def with_exif(path: Path, tags: dict[int, Any], size: tuple[int, int] = (60, 40), orientation: int = 1) -> Path:
    """A photo with tags in the Exif directory."""
    exif = Image.Exif()
    exif[0x0112] = orientation
    exif.get_ifd(0x8769).update(tags)
    return saved(path, Image.fromarray(quarters(*size)), exif=exif)


@pytest.mark.parametrize(
    ("tags", "mm35"),
    [
        ({FOCAL_35MM: 26}, 26.0),
        ({FOCAL_35MM: 26, FOCAL: 4.2, WIDTH: 6000, HEIGHT: 4000}, 26.0),
        # Full frame: 36 mm across 6000 pixels; a unit of inches is meant where none is given.
        ({FOCAL: 50.0, RESOLUTION: 6000 / 36, UNIT: 4, WIDTH: 6000, HEIGHT: 4000}, 50.0),
        ({FOCAL: 50.0, RESOLUTION: 60 / 36 * 25.4}, 50.0),
        ({FOCAL_35MM: 0, FOCAL: 25.0, RESOLUTION: 6000 / 18 * 10, UNIT: 3, WIDTH: 6000, HEIGHT: 4000}, 50.0),
        ({}, None),
        ({WIDTH: 60}, None),
        ({FOCAL: 4.2}, None),
        ({FOCAL_35MM: 0}, None),
    ],
)
def test_focal_lengths_of_exif_data(tmp_path: Path, tags: dict[int, Any], mm35: float | None) -> None:
    for orientation in (1, 6):
        photo = read_photo(with_exif(tmp_path / "a.jpg", tags, orientation=orientation))
        assert photo.focal_mm35 == (None if mm35 is None else pytest.approx(mm35, rel=1e-4))
        assert not any("focal" in note for note in photo.notes)


@pytest.mark.parametrize(
    "tags",
    [
        {FOCAL_35MM: 1},
        {FOCAL_35MM: 65535},
        {FOCAL_35MM: b"\xff\xfe"},
        {FOCAL_35MM: "wide"},
        {FOCAL: 50.0, RESOLUTION: IFDRational(1, 0)},
        {FOCAL: 1e9, RESOLUTION: 1e9},
        {FOCAL: 50.0, RESOLUTION: 100.0, UNIT: 77},
        {FOCAL_35MM: 26, WIDTH: 4000, HEIGHT: 4000},
    ],
    ids=str,
)
def test_absurd_exif_data_are_ignored_and_said(tmp_path: Path, tags: dict[int, Any]) -> None:
    photo = read_photo(with_exif(tmp_path / "a.jpg", tags))
    assert photo.focal_mm35 is None and photo.rgb.shape == (40, 60, 3)
    assert [note for note in photo.notes if note.startswith("the focal length in its EXIF data was not used")]


def test_reducing_keeps_the_focal_length(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(photo_module, "MAX_PIXELS", 1000)
    for suffix in ("jpg", "png"):
        photo = read_photo(with_exif(tmp_path / f"a.{suffix}", {FOCAL_35MM: 26, WIDTH: 60, HEIGHT: 40}))
        assert photo.reduction == 2 and photo.size == (30, 20) and photo.focal_mm35 == 26
