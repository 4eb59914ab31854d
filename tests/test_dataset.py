"""Datasets on disk: what is written is read again, by numpy alone too; damage is found; batches are fair."""

import json
import re
import shutil
import time
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from fake_people import MAKERS, toy_body, toy_plan

from lvdreg.augment.plan import DEFAULT_CHANNELS, SENSORS
from lvdreg.augment.run import manifest_of, pin
from lvdreg.augment.shards import OpenSource, make_shard
from lvdreg.base.errors import DatasetError
from lvdreg.base.provenance import sha256_of
from lvdreg.cli.augment import Wanted
from lvdreg.dataset import (
    ABOUT,
    CHANNELS,
    MANIFEST,
    SCAN_ARRAYS,
    VERSION_ARRAYS,
    Dataset,
    about_of,
    decode_rest,
    encode_normals,
    encode_rest,
    json_text,
    layout,
    part_type,
    read_shard,
    shard_name,
    write_shard,
)
from lvdreg.train.dataset_scans import DatasetScans

DOCS = Path(__file__).resolve().parent.parent / "docs" / "dataset.md"
PLAN = toy_plan(("ann", "torn"), 6_000, characters=4, channels=CHANNELS)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished dataset of tiny pictures, made in this process; tests leave it as it is."""
    path = tmp_path_factory.mktemp("data")
    pin(PLAN, path)
    opened = OpenSource(PLAN, MAKERS)
    for number in range(len(PLAN.shards)):
        make_shard(PLAN, number, path, opened)
    (path / MANIFEST).write_text(json_text(manifest_of(PLAN, path, toy_body())), encoding="utf-8")
    return path


@pytest.fixture
def copy(folder: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(folder, tmp_path / "copy"))


def test_bytes_of_a_shard_depend_on_its_arrays_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    arrays = {"b": np.arange(6).reshape(2, 3).T, "a": np.array("text"), "none": np.zeros((0, 3), np.float16)}
    write_shard(tmp_path / "one.npz", arrays)
    now = time.time()
    monkeypatch.setattr(time, "time", lambda: now + 4000)
    write_shard(tmp_path / "two.npz", dict(reversed(arrays.items())))
    assert (tmp_path / "one.npz").read_bytes() == (tmp_path / "two.npz").read_bytes()
    with np.load(tmp_path / "one.npz") as found:
        for name, array in arrays.items():
            assert np.array_equal(found[name], array) and found[name].dtype == array.dtype
    assert sorted(path.name for path in tmp_path.iterdir()) == ["one.npz", "two.npz"]


def test_a_shard_that_cannot_be_written_leaves_nothing(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="Object arrays"):
        write_shard(tmp_path / "bad.npz", {"x": np.array([object()])})
    assert not list(tmp_path.iterdir())


def test_what_is_stored_is_near_what_it_was() -> None:
    rng = np.random.default_rng(0)
    normals = rng.normal(size=(500, 3)).astype(np.float32)
    normals /= np.linalg.norm(normals, axis=1, keepdims=True)
    stored = encode_normals(normals).astype(np.float64)
    cosine = (stored / np.linalg.norm(stored, axis=1, keepdims=True) * normals).sum(1)
    assert np.degrees(np.arccos(cosine.clip(-1, 1))).max() < 0.5
    assert not encode_normals(np.zeros((1, 3), np.float32)).any()
    box = np.array([[-1.0, 0, -0.5], [1, 2, 0.5]])
    places = rng.uniform(box[0], box[1], (500, 3)).astype(np.float32)
    mask = rng.random(500) < 0.7
    found = decode_rest(encode_rest(places, mask, box), box)
    assert np.abs(found[mask] - places[mask]).max() < 2e-5 and np.isnan(found[~mask]).all()
    assert (part_type(52), part_type(254), part_type(255)) == (np.uint8, np.uint8, np.uint16)


def test_shards_have_the_arrays_of_the_layout(folder: Path) -> None:
    body = toy_body()
    expected = layout(8, body.num_vertices, body.num_joints, body.num_betas, CHANNELS, 30)
    for shard in Dataset(folder).shards:
        arrays = read_shard(folder / shard.file)
        assert set(arrays) == {*expected, ABOUT}
        for name, (shape, kind) in expected.items():
            rows = shard.versions if name in VERSION_ARRAYS else shard.images
            assert arrays[name].shape == (rows, *shape) and np.issubdtype(arrays[name].dtype, kind), name
    assert set(VERSION_ARRAYS) <= set(expected) and set(SCAN_ARRAYS) <= set(expected)
    assert "rest" not in layout(8, 1, 1, 1, ("image",), 1) and "scan_points" not in layout(8, 1, 1, 1, ("image",), 1)


def test_the_document_has_every_array_with_shape_and_type() -> None:
    rows = re.findall(r"^\| `(\w+)` \| ([\w, ]+) \| (\w+) \|", DOCS.read_text(encoding="utf-8"), re.MULTILINE)
    expected = layout(1001, 1002, 1003, 1004, CHANNELS, 1005)
    sizes = {"S": 1001, "V": 1002, "J": 1003, "K": 1004, "P": 1005, "3": 3, "9": 9, "2": 2}
    found = {name: (shape.split(", "), kind) for name, shape, kind in rows}
    assert set(found) == set(expected)
    for name, (shape, kind) in expected.items():
        letters, written = found[name]
        assert letters[0] == ("M" if name in VERSION_ARRAYS else "N"), name
        assert tuple(sizes[letter] for letter in letters[1:]) == shape, name
        # Of a body with many joints the type is another; the document says so in words.
        assert written.rstrip("_") == ("uint8" if name == "parts" else kind.__name__.rstrip("_").replace("str", "str"))


def test_the_example_of_the_document_runs_on_numpy_alone(folder: Path, tmp_path: Path) -> None:
    (code,) = re.findall(r"^```python\n(.*?)^```", DOCS.read_text(encoding="utf-8"), re.DOTALL | re.MULTILINE)
    assert "lvdreg" not in code and len(code.strip().splitlines()) <= 12
    names: dict[str, Any] = {}
    exec(compile(code.replace('"data"', repr(str(folder))), "dataset.md", "exec"), names)
    sample = Dataset(folder).sample(0)
    assert np.array_equal(names["image"], sample["image"])
    pixels = names["pixels"].astype(int)
    assert (sample["mask"][pixels[:, 1], pixels[:, 0]] == 255).all()


def test_samples_are_the_rows_of_the_shards(folder: Path) -> None:
    dataset, index = Dataset(folder, cache=1), 0
    for shard in dataset.shards:
        arrays = read_shard(folder / shard.file)
        for row in range(shard.images):
            sample, version = dataset.sample(index), arrays["version"][row]
            assert np.array_equal(sample["image"], arrays["image"][row])
            assert np.array_equal(sample["vertices"], arrays["vertices"][version])
            assert str(sample["source"]) == str(arrays["source"][version])
            index += 1
    assert index == len(dataset)
    with pytest.raises(IndexError):
        dataset.sample(index)


@pytest.mark.parametrize("versions", [False, True])
@pytest.mark.parametrize("cache", [1, 3, 100])
def test_each_pass_has_every_row_once(folder: Path, versions: bool, cache: int) -> None:
    dataset = Dataset(folder, cache)
    total = dataset.num_versions if versions else len(dataset)
    names = ("seed",) if versions else ("seed", "view", "light")

    def keys(number: int, size: int, seed: int = 0) -> list[tuple[int, ...]]:
        batch = dataset.batch(number, size, names, seed, versions)
        return [tuple(int(batch[name][i]) for name in names) for i in range(size)]

    first, second = keys(0, total), keys(1, total)
    assert len(set(first)) == total and set(first) == set(second) and first != second
    assert first != keys(0, total, seed=1)
    # Cut otherwise, the sequence is the same; and any part of it can be had at any time.
    assert [key for number in range(4) for key in keys(number, 5)] == (first + second)[:20]
    later = islice(dataset.batches(5, names, start=2, versions=versions), 2)
    assert [int(seed) for batch in later for seed in batch["seed"]] == [key[0] for key in (first + second)[10:20]]


def test_few_shards_are_in_memory(folder: Path) -> None:
    dataset = Dataset(folder, cache=2)
    for batch in islice(dataset.batches(3, ("image", "vertices")), 40):
        assert batch["image"].shape == (3, 8, 8, 3) and len({number for number, _ in dataset._kept}) <= 2


def test_shards_without_rows_are_passed_over(copy: Path) -> None:
    dataset = Dataset(copy)
    assert any(shard.images == 0 for shard in dataset.shards), "the torn one has none"
    assert set(dataset.batch(0, len(dataset), ("source",))["source"]) == {
        "ann",
        *(f"character-{i:06d}" for i in range(4)),
    }


def test_what_is_missing_or_damaged_is_said(copy: Path, tmp_path: Path) -> None:
    Dataset(copy).verify()
    shard = copy / Dataset(copy).shards[0].file
    whole = shard.read_bytes()
    shard.write_bytes(whole[:-50] + bytes(50))
    with pytest.raises(DatasetError, match=f"{shard.name}: damaged"):
        Dataset(copy).verify()
    for broken in (whole[:100], b"", whole[: len(whole) // 2] + bytes(len(whole) // 2)):
        shard.write_bytes(broken)
        with pytest.raises(DatasetError, match="damaged"):
            Dataset(copy).sample(0)
        with pytest.raises(DatasetError, match="damaged"):
            about_of(shard)
    shard.unlink()
    with pytest.raises(DatasetError, match=f"1 shards are missing, {shard.name} first"):
        Dataset(copy)
    (copy / MANIFEST).unlink()
    with pytest.raises(DatasetError, match="not finished; run the same lvdreg augment again"):
        Dataset(copy)
    with pytest.raises(DatasetError, match="expected a dataset"):
        Dataset(tmp_path)
    with pytest.raises(DatasetError, match="no such shard"):
        read_shard(tmp_path / shard_name(0))


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"version": 2}, "expected lvdreg-dataset version 1, got lvdreg-dataset version 2"),
        ({"format": "other"}, "got other"),
        ({"shards": None}, "damaged"),
        ({"shards": [{"file": "x"}]}, "damaged"),
        ({"body": {}}, "damaged, lacks 'name'"),
        ({"rest_box": "box"}, "damaged"),
    ],
)
def test_a_manifest_of_another_format_is_refused(copy: Path, change: dict[str, Any], words: str) -> None:
    manifest = json.loads((copy / MANIFEST).read_text(encoding="utf-8")) | change
    (copy / MANIFEST).write_text(json.dumps(manifest), encoding="utf-8")
    with pytest.raises(DatasetError, match=words):
        Dataset(copy)
    (copy / MANIFEST).write_text("[", encoding="utf-8")
    with pytest.raises(DatasetError, match="damaged"):
        Dataset(copy)


def test_what_it_is_needed_for_is_checked(folder: Path) -> None:
    assert Dataset(folder).require("toy", ("image", "scan"))
    with pytest.raises(DatasetError, match="expected people of the body anny, got toy"):
        DatasetScans(folder, "anny")
    with pytest.raises(DatasetError, match="expected the array nonsense"):
        Dataset(folder).sample(0, ["nonsense"])


def test_a_set_without_scans_says_how_to_make_them(copy: Path) -> None:
    manifest = json.loads((copy / MANIFEST).read_text(encoding="utf-8"))
    manifest["asked"]["channels"] = ["image", "mask"]
    (copy / MANIFEST).write_text(json.dumps(manifest), encoding="utf-8")
    with pytest.raises(DatasetError, match="holds no scan; make it with --channels image,mask,scan"):
        DatasetScans(copy, "toy")


def test_scans_are_read_as_the_stream_gives_them(folder: Path) -> None:
    source, dataset = DatasetScans(folder, "toy"), Dataset(folder)
    samples = source.scans(3, 20, torch.Generator().manual_seed(4))
    stored = dataset.batch(4, 3, (*SCAN_ARRAYS, "vertices"), versions=True)
    assert samples.points.shape == (3, 20, 3) and samples.points.dtype == torch.float32
    # Everything of a sample is turned about the vertical by the same angle, each sample by its own.
    for name, values in (("scan_points", samples.points), ("vertices", samples.vertices)):
        true = torch.from_numpy(stored[name])[:, : values.shape[1]]
        torch.testing.assert_close(values[..., 1], true[..., 1])
        torch.testing.assert_close(torch.cdist(values, values), torch.cdist(true, true), atol=1e-3, rtol=1e-3)
    moved = (samples.vertices - torch.from_numpy(stored["vertices"])).norm(dim=-1).mean(1)
    assert float(moved.min()) > 0.01 and float(moved.max() - moved.min()) > 0.01
    length = samples.normals.norm(dim=-1)
    assert bool(((length < 1e-6) | ((length - 1).abs() < 0.02)).all()) and samples.valid.dtype == torch.bool
    # The points lie on the body that is stored with them, but for noise.
    distance = torch.cdist(samples.points, samples.vertices).amin(-1)[samples.valid]
    assert float(distance.median()) < 0.08


def test_the_manifest_counts_and_hashes(folder: Path) -> None:
    manifest = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))
    assert manifest["counts"]["images"] == len(Dataset(folder)) == 4 * manifest["counts"]["versions"]
    assert manifest["shards"][1]["sha256"] == sha256_of(folder / shard_name(1))
    assert manifest["body"]["joint_names"] == list(toy_body().joint_names)
    assert manifest["sources"][0] == {"name": "ann", "sha256": {"scan": "ann", "params": "0"}}
    assert len(manifest["shards"]) == len(PLAN.shards)


def test_the_command_line_knows_the_channels_and_sensors() -> None:
    assert Wanted().channels == ",".join(DEFAULT_CHANNELS)
    assert Wanted(sensor="ring").asked().channels == (*DEFAULT_CHANNELS, "scan")
    assert all(Wanted(sensor=sensor).asked().sensor == sensor for sensor in SENSORS)
