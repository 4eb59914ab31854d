"""What ``scripts/fuzz.py`` has found, each made in code: one line of an error of lvdreg, or read. And the fuzzer."""

import io
import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from lvdreg.augment.repose.sources import read_registered_person as read_result
from lvdreg.base.errors import (
    BodyError,
    CheckpointError,
    DatasetError,
    LvdregError,
    RegistrationError,
    ScanError,
    UsageError,
)
from lvdreg.base.tensors import write_tensors
from lvdreg.batch.table import read_results
from lvdreg.body import store
from lvdreg.body.files import body_arrays, load_body_data
from lvdreg.body.transfer import Correspondence
from lvdreg.dataset import CHANNELS, VERSION_ARRAYS, Dataset, about_of, layout, write_shard
from lvdreg.descent.uncertainty import Calibration
from lvdreg.evaluate.cache import kept
from lvdreg.photo.graph import read_graph
from lvdreg.result.files import owned_names
from lvdreg.scan.hidden import hidden_faces
from lvdreg.scan.model import read_scan
from lvdreg.settings import read_file
from tests.conftest import make_toy_body

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "scripts"))
from fuzz_changes import broken
from fuzz_scans import Seed, scan_seeds

# --- Scans ------------------------------------------------------------------------------------------------------------

PCD = b"VERSION .7\nFIELDS x y z\nSIZE 4 4 4\nTYPE F F F\nCOUNT 1 1 1\nPOINTS 1\nDATA?binary\n" + bytes(12)


def npy_with_a_header_without_end() -> bytes:
    stream = io.BytesIO()
    np.save(stream, np.zeros((300, 3)))
    return stream.getvalue().replace(b"(300, 3)", b"(300L, (", 1)


@pytest.mark.parametrize(("name", "content"), [("a.pcd", PCD), ("a.npy", npy_with_a_header_without_end())])
def test_headers_that_go_on_for_ever(name: str, content: bytes, tmp_path: Path) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(ScanError, match=rf"^{name}: "):
        read_scan(tmp_path / name)


def test_triangles_that_share_nothing_hide_each_other() -> None:
    points = np.random.default_rng(0).normal(size=(900, 3))
    hidden = hidden_faces(points, np.arange(900).reshape(-1, 3), 0.05)
    assert hidden.shape == (300,) and hidden.any()


# --- Datasets ---------------------------------------------------------------------------------------------------------

Arrays = dict[str, Any]


def dataset(folder: Path, change: Callable[[Arrays], object] = dict, **manifest: Any) -> Path:
    """A dataset of two shards, the second one changed."""
    rng, lines = np.random.default_rng(0), []
    for number in range(2):
        arrays: Arrays = {"about": np.array("{}")}
        for name, (shape, kind) in layout(8, 6, 2, 3, CHANNELS, 10).items():
            count = 2 if name in VERSION_ARRAYS else 4
            values = rng.integers(0, 2, (count, *shape))
            arrays[name] = np.array(["x"] * count) if kind is np.str_ else values.astype(kind)
        if number:
            change(arrays)
        write_shard(folder / f"shard-{number:06d}.npz", arrays)
        lines.append({"file": f"shard-{number:06d}.npz", "images": 4, "versions": 2, "sha256": "", "bytes": 1})
    whole = {
        "format": "lvdreg-dataset", "version": 1, "shards": lines, "body": {"name": "toy"},
        "asked": {"size": 8, "channels": list(CHANNELS)}, "rest_box": [[0, 0, 0], [1, 1, 1]],
    }  # fmt: skip
    (folder / "manifest.json").write_text(json.dumps(whole | manifest), encoding="utf-8")
    return folder


NAMES = ("image", "vertices", "joints", "version", "camera_scale")


def test_a_whole_dataset_is_read(tmp_path: Path) -> None:
    found = Dataset(dataset(tmp_path)).batch(0, 8, NAMES)
    assert found["image"].shape == (8, 8, 8, 3) and found["vertices"].shape == (8, 6, 3)


@pytest.mark.parametrize(
    "change",
    [
        lambda arrays: arrays.update(vertices=arrays["vertices"][:, :5]),
        lambda arrays: arrays.update(vertices=arrays["vertices"].astype(np.float64)),
        lambda arrays: arrays.update(vertices=arrays["vertices"][..., 0]),
        lambda arrays: arrays.update(image=np.array(["x"] * 4)),
        lambda arrays: arrays.update(image=arrays["image"][:3]),
        lambda arrays: arrays.update(camera_scale=np.float32(1)),
        lambda arrays: arrays.update(version=arrays["version"] + 2),
        lambda arrays: arrays.update(version=arrays["version"] - 2),
        lambda arrays: arrays.pop("joints"),
    ],
)
def test_shards_that_do_not_fit_the_others(change: Callable[[Arrays], object], tmp_path: Path) -> None:
    data = Dataset(dataset(tmp_path, change))
    with pytest.raises(DatasetError, match=r"shard-000001\.npz: (damaged|expected the array joints)") as caught:
        data.batch(0, 8, NAMES)
    assert "\n" not in str(caught.value) and len(str(caught.value)) < 700


def line(**change: Any) -> dict[str, Any]:
    return {"file": "shard-000000.npz", "images": 4, "versions": 2, "sha256": "", "bytes": 1, **change}


@pytest.mark.parametrize(
    "manifest",
    [
        {"shards": [line(file="s" * 5000)]}, {"shards": [line(file="../shard-000000.npz")]}, {"shards": [line(file=7)]},
        {"shards": [line(images=2.5)]}, {"shards": [line(images=True)]}, {"format": "a\nb" * 900},
        {"version": [0] * 999}, {"asked": {"size": float("inf"), "channels": []}}, {"rest_box": [["a\n" * 900]]},
    ],
)  # fmt: skip
def test_manifests_are_one_short_line(manifest: dict[str, Any], tmp_path: Path) -> None:
    with pytest.raises(DatasetError) as caught:
        Dataset(dataset(tmp_path, **manifest))
    assert "\n" not in str(caught.value) and len(str(caught.value)) < 500


def test_what_a_shard_says_of_itself_is_an_object(tmp_path: Path) -> None:
    for about in ("7", "[1]", "x"):
        dataset(tmp_path, lambda arrays, about=about: arrays.update(about=np.array(about)))
        with pytest.raises(DatasetError, match="damaged"):
            about_of(tmp_path / "shard-000001.npz")


# --- Models and weights -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("change", [{"kind": []}, {"kind": "x" * 3000}, {"source": 7}, {"s" * 5000: 1}, {"date": None}])
def test_notes_of_added_models(change: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LVDREG_MODELS", str(tmp_path))
    note = {"kind": "smpl", "side": None, "source": "a.pkl", "sha256": "0", "date": "2026-11-27"}
    (tmp_path / "toy").mkdir()
    (tmp_path / "toy" / "model.json").write_text(json.dumps(note), encoding="utf-8")
    assert store.entry("toy").kind == "smpl"
    (tmp_path / "toy" / "model.json").write_text(json.dumps(note | change), encoding="utf-8")
    with pytest.raises(BodyError) as caught:
        store.entry("toy")
    assert "\n" not in str(caught.value) and len(str(caught.value)) < 500


@pytest.mark.parametrize(
    "change",
    [
        {"size": 0.0}, {"size": np.nan}, {"faces_index": np.array([-1])}, {"bary": np.full((1, 3), np.nan)},
        {"faces_index": np.zeros(1)}, {"faces_index": np.zeros((1, 1), np.int64)}, {"blind": np.zeros(1)},
    ],
)  # fmt: skip
@pytest.mark.usefixtures("no_type_checks")
def test_correspondences_without_places(change: dict[str, Any]) -> None:
    arrays: dict[str, Any] = {
        "faces_index": np.zeros(1, np.int64), "bary": np.full((1, 3), 1 / 3), "offsets": np.zeros((1, 3)),
        "residual_mm": np.ones(1), "blind": np.zeros(1, bool), "size": 1.0,
    }  # fmt: skip
    assert Correspondence("anny", **arrays, key="k").num_vertices == 1
    with pytest.raises(ValueError, match=r"expected places (on faces|as numbers of faces)"):
        Correspondence("anny", **(arrays | change), key="k")


@pytest.mark.parametrize(
    "values",
    [
        {"spread": [1.0, 2.0], "sigma": [1.0]}, {"spread": [], "sigma": []}, {"spread": 1.0, "sigma": 1.0},
        {"spread": [1.0], "sigma": [-1.0]}, {"spread": [float("nan")], "sigma": [1.0]},
    ],
)  # fmt: skip
def test_calibrations_are_tables(values: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="no two rows of positive numbers"):
        Calibration.from_dict(values)


@pytest.mark.parametrize("change", [{"input": [3, 5] + [6] * 90}, {"input": [3, -5, 6]}, {"range": ["a", 1]}])
def test_networks_of_impossible_pictures(change: dict[str, Any], tmp_path: Path) -> None:
    graph = {"input": [3, 5, 6], "range": [-1, 1], "outputs": {"a": "input"}, "steps": []}
    path = tmp_path / "net.safetensors"
    write_tensors(path, {"w": torch.zeros(1)}, {"graph": graph, "packed": {}})
    assert read_graph(path).input_shape == (3, 5, 6)
    write_tensors(path, {"w": torch.zeros(1)}, {"graph": graph | change, "packed": {}})
    with pytest.raises(CheckpointError, match="describes no network") as caught:
        read_graph(path)
    assert len(str(caught.value).removeprefix(str(path))) < 400


@pytest.mark.parametrize(
    "change",
    [
        {"kintree_table": np.array([[0, 0, -1, 1, 2, 3], range(6)])}, {"kintree_table": np.arange(6)},
        {"kintree_table": np.zeros((2, 6, 1), np.int64)}, {"v_template": np.float32(1)}, {"f": np.zeros((0, 3))},
        {"provenance": np.array("[]")}, {"joint_names": np.array("x")},
    ],
)  # fmt: skip
@pytest.mark.usefixtures("no_type_checks")
def test_bodies_of_strange_arrays(change: dict[str, Any], tmp_path: Path) -> None:
    toy = body_arrays(make_toy_body())
    np.savez(tmp_path / "toy.npz", **toy)
    assert load_body_data(tmp_path / "toy.npz").name == "toy"
    np.savez(tmp_path / "toy.npz", **(toy | change))
    with pytest.raises(BodyError) as caught:
        load_body_data(tmp_path / "toy.npz")
    assert "\n" not in str(caught.value)


# --- Results ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "row", [b"", b"text", b"\xff,,,", b',,,"', b'"a,b', b"a\0,,,\0", b"," * 200_000, b"x" * (2 << 20)]
)
def test_tables_with_strange_rows(row: bytes, tmp_path: Path) -> None:
    lines = (b"source,folder,verdict,reason", row, b"/a,,,x", b"/torn,,")
    (tmp_path / "results.csv").write_bytes(b"\n".join(lines))
    assert [outcome.source for outcome in read_results(tmp_path)] == ["/a"]


@pytest.mark.parametrize("seconds", [np.zeros(3), np.array("x"), np.zeros((), [("a", "f4")])])
def test_kept_results_of_strange_seconds_are_others(seconds: Any, tmp_path: Path) -> None:
    words = {"verdict": np.array("good"), "reason": np.array("x")}
    kept(tmp_path / "a.npz", "k", lambda: words)
    np.savez(tmp_path / "a.npz", key=np.array("k"), seconds=seconds, **words)
    with pytest.raises(LvdregError, match="is not lvdreg's"):
        kept(tmp_path / "a.npz", "k", lambda: words)


def test_reports_that_name_what_is_no_file(tmp_path: Path) -> None:
    files = {"a" * 5000: "x", "a\0b": "x", "..": "x", "": "x", "in/side": "x"}
    (tmp_path / "report.json").write_text(json.dumps({"lvdreg": "0", "files": files}), encoding="utf-8")
    assert owned_names(tmp_path) == {"report.json"}


@pytest.mark.parametrize(
    "text",
    [
        f"{'a' * 5000} = 1",
        f'quality = "{"b" * 5000}"',
        f"[{'c' * 5000}]\n",
        '"a\\nb" = 1',
        '["a\\nb"]',
        'quality = """a\n"""',
        f"[register]\nnum_points = 0x{'f' * 5000}",
        f"quality = {'[' * 200}0x{'f' * 5000}{']' * 200}",
    ],
)  # fmt: skip
def test_settings_of_long_names_are_one_short_line(text: str, tmp_path: Path) -> None:
    (tmp_path / "a.toml").write_text(text, encoding="utf-8")
    with pytest.raises(UsageError) as caught:
        read_file(tmp_path / "a.toml")
    assert "\n" not in str(caught.value) and len(str(caught.value)) < 600


def test_reports_whose_points_are_no_number(tmp_path: Path) -> None:
    (tmp_path / "report.json").write_text(json.dumps({"scan": {"points": []}}), encoding="utf-8")
    with pytest.raises(RegistrationError, match="got something else"):
        read_result(tmp_path)


# --- What every reader goes through -----------------------------------------------------------------------------------


SEEDS = {seed.name: seed for seed in scan_seeds()}


def put(seed: Seed, content: bytes, folder: Path) -> Path:
    for name, whole in seed.files.items():
        (folder / name).write_bytes(content if name == seed.name else whole)
    return folder / seed.name


@pytest.mark.parametrize("name", SEEDS)
def test_seeds_are_read_and_broken_ones_end_well(name: str, tmp_path: Path) -> None:
    seed = SEEDS[name]
    seed.read(put(seed, seed.files[name], tmp_path))
    rng, changed = np.random.default_rng(list(name.encode())), 0
    for _ in range(12):
        content, _done = broken(name, seed.files[name], [SEEDS["mesh.obj"].files["mesh.obj"]], rng)
        changed += content != seed.files[name]
        try:
            seed.read(put(seed, content, tmp_path))
        except ScanError as error:
            assert "\n" not in str(error)
    assert changed > 6


def test_cases_are_the_same_in_every_run() -> None:
    for name in ("mesh.glb", "arrays.npz", "ascii.ply"):
        one, two = (
            [broken(name, SEEDS[name].files[name], [], np.random.default_rng([3, number])) for number in range(9)]
            for _ in range(2)
        )
        assert one == two and len({content for content, _ in one}) > 6
