"""What ``scripts/fuzz.py`` has found, each made in code: one line of an error of lvdreg, or read. And the fuzzer."""

import io
import json
import os
import pickle
import re
import sys
import zipfile
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from lvdreg.augment.plan import Asked, Plan, Source
from lvdreg.augment.repose.sources import read_result
from lvdreg.augment.repose.textured import read_pictured
from lvdreg.augment.run import pin
from lvdreg.augment.sheet import write_sheet
from lvdreg.base.arrays import expect, read_npy, write_npz
from lvdreg.base.errors import (
    BodyError,
    CheckpointError,
    DatasetError,
    LvdregError,
    OutputError,
    RegistrationError,
    ScanError,
    UsageError,
)
from lvdreg.base.files import parse_json
from lvdreg.base.provenance import sha256_of
from lvdreg.base.tensors import write_tensors
from lvdreg.base.text import LONGEST_SHOWN, shown
from lvdreg.batch.resume import is_finished
from lvdreg.batch.summary import Outcome, read_summary
from lvdreg.body import store
from lvdreg.body.catalogue import load_body
from lvdreg.body.files import body_arrays, load_body_data
from lvdreg.body.smplx_names import argument_of
from lvdreg.body.transfer import Correspondence
from lvdreg.dataset import CHANNELS, VERSION_ARRAYS, Dataset, about_of, layout, write_shard
from lvdreg.descent.uncertainty import Calibration
from lvdreg.evaluate.cache import kept
from lvdreg.photo.graph import read_graph, run_graph
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


@pytest.mark.parametrize("entry", ["text", 7, None, [], {}, {"source": 7}, {"source": "a", "folder": [], "reason": ""}])
def test_summaries_with_strange_entries(entry: Any, tmp_path: Path) -> None:
    good = {"source": "/a", "folder": None, "verdict": None, "reason": "x"}
    (tmp_path / "summary.json").write_text(json.dumps({"lvdreg": "0", "results": [good, entry]}), encoding="utf-8")
    assert read_summary(tmp_path) == []
    lines = ['{"lvdreg": "0"}', json.dumps(entry), json.dumps(good)]
    (tmp_path / "summary.jsonl").write_text("\n".join(lines), encoding="utf-8")
    assert [outcome.source for outcome in read_summary(tmp_path)] == ["/a"]


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


def put_bytes(path: Path, name: str, content: bytes) -> None:
    """Replace an array of an npz."""
    with zipfile.ZipFile(path) as archive:
        members = {one: archive.read(one) for one in archive.namelist()}
    with zipfile.ZipFile(path, "w") as archive:
        for one, data in (members | {f"{name}.npy": content}).items():
            archive.writestr(one, data)


def npy_beyond_unicode(order: str) -> bytes:
    stream = io.BytesIO()
    np.save(stream, np.array("ab", f"{order}U2"))
    code = 0x110000
    return stream.getvalue()[:-8] + code.to_bytes(4, "little" if order == "<" else "big") + bytes(4)


@pytest.mark.parametrize("order", ["<", ">"])
def test_words_beyond_unicode_are_refused(order: str) -> None:
    data = npy_beyond_unicode(order)
    with pytest.raises(ValueError, match="characters that there are not"):
        read_npy(io.BytesIO(data), len(data))


@pytest.mark.parametrize("array", [np.zeros(2, "M8[s]"), np.zeros(2, [("a" * 900, "U3")]), np.zeros(2, "m8[s]")])
def test_dates_and_records_are_refused(array: Any) -> None:
    stream = io.BytesIO()
    np.save(stream, array)
    with pytest.raises(ValueError, match="neither numbers nor words") as caught:
        read_npy(io.BytesIO(stream.getvalue()), len(stream.getvalue()))
    assert len(str(caught.value)) < 200


@pytest.mark.parametrize(
    ("array", "words"),
    [
        (np.zeros((3, 2)), r"shape \(3, 2\)"), (np.zeros((3, 3), int), "int64"), (np.float64(1), r"shape \(\)"),
        (np.full((3, 3), np.inf), "not finite"), (np.array("x"), "<U1"), (None, "lacks the array a"),
    ],
)  # fmt: skip
def test_arrays_are_what_is_expected(array: Any, words: str) -> None:
    arrays = {} if array is None else {"a": np.asarray(array)}
    with pytest.raises(ValueError, match=words):
        expect(arrays, "a", "f", (None, 3))
    assert expect({"a": np.zeros((5, 3), np.float32)}, "a", "f", (None, 3)).shape == (5, 3)


@pytest.mark.parametrize(
    ("value", "words"),
    [
        ([1 << 20_000], "something too long to show"), ({"a": [1 << 20_000]}, "something too long to show"),
        (["x"], r"\['x'\]"), ("a\nb", r"'a\\nb'"), (None, "None"),
        ("\udc80\ud800", r"'\\udc80\\ud800'"), ("x" * 5000, "'x+.*x'?"),
    ],
)  # fmt: skip
def test_what_others_wrote_is_quoted_in_one_short_line(value: Any, words: str) -> None:
    assert re.fullmatch(words, shown(value)) and len(shown(value)) <= LONGEST_SHOWN


def test_messages_are_one_line_whatever_is_in_them() -> None:
    assert str(ScanError("a\nb\r\nc  d")) == "a b c  d"
    error = OutputError("a\nb")
    assert str(error) == "a b" and isinstance(pickle.loads(pickle.dumps(error)), OSError)


@pytest.mark.parametrize("text", ["[" * 101 + "]" * 101, '{"a":' * 150 + "1" + "}" * 150])
def test_json_is_not_deeper_than_what_comes_after_it_can_stand(text: str) -> None:
    assert parse_json(b"[" * 99 + b"]" * 99)
    with pytest.raises(ValueError, match="nested too deep"):
        parse_json(text.encode())


def test_every_error_of_torch_is_one_line(tmp_path: Path) -> None:
    step = {"op": "pad", "in": ["input"], "pad": [10**30, 0, 0, 0], "out": "x"}
    graph = {"input": [3, 5, 6], "range": [-1, 1], "outputs": {"a": "x"}, "steps": [step]}
    write_tensors(tmp_path / "net.safetensors", {"w": torch.zeros(1)}, {"graph": graph, "packed": {}})
    with pytest.raises(CheckpointError, match="do not fit each other") as caught:
        run_graph(read_graph(tmp_path / "net.safetensors"), torch.zeros(1, 3, 5, 6), "net")
    assert "\n" not in str(caught.value) and len(str(caught.value)) < 300


# --- What lvdreg kept -------------------------------------------------------------------------------------------------


def added_model(folder: Path) -> Path:
    """The folder of an added model with everything that one can have."""
    toy = make_toy_body()
    num = len(toy.v_template)
    (folder / "toy").mkdir()
    note = {"kind": "smpl", "side": None, "source": "a.pkl", "sha256": "0", "date": "2026-11-27"}
    (folder / "toy" / "model.json").write_text(json.dumps(note), encoding="utf-8")
    extra = {"model_hand_mean": np.zeros((1, 45), np.float32), "model_shapes_in_file": np.array(10)}
    write_npz(folder / "toy" / "toy.npz", body_arrays(toy) | extra)
    ones = np.ones(num)
    place = Correspondence(
        "anny", np.zeros(num, np.int64), np.full((num, 3), 1 / 3), np.zeros((num, 3)), ones, ones < 0, 1.0, "k"
    )
    write_npz(folder / "toy" / "correspondence.npz", vars(place))
    return folder / "toy"


def npy(array: Any) -> bytes:
    stream = io.BytesIO()
    np.save(stream, array)
    return stream.getvalue()


@pytest.mark.parametrize("bad", [npy(1.0), npy(np.zeros(3)), npy("x"), npy(np.zeros((2, 2))), npy_beyond_unicode("<")])
@pytest.mark.parametrize("name", ["faces_index", "bary", "blind", "source", "size", "key"])
def test_correspondences_of_other_kinds(
    name: str, bad: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, no_type_checks: None
) -> None:
    monkeypatch.setenv("LVDREG_MODELS", str(tmp_path))
    folder = added_model(tmp_path)
    assert store.correspondence("toy").source == "anny"
    assert store.is_current("toy") is False
    if (name, bad) in {("size", npy(1.0)), ("source", npy("x")), ("key", npy("x"))}:
        return
    put_bytes(folder / "correspondence.npz", name, bad)
    with pytest.raises(BodyError, match=r"correspondence\.npz: ") as caught:
        store.correspondence("toy")
    assert "\n" not in str(caught.value) and len(str(caught.value)) < 500


@pytest.mark.parametrize("name", ["model_hand_mean", "model_shapes_in_file"])
def test_added_models_of_strange_extras(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, no_type_checks: None
) -> None:
    monkeypatch.setenv("LVDREG_MODELS", str(tmp_path))
    folder = added_model(tmp_path)
    found = store.load_model("toy")
    assert found.hand_mean is not None and found.shapes_in_file == 10
    store._load_model.cache_clear()
    put_bytes(folder / "toy.npz", name, npy(np.zeros(3)))
    put_bytes(folder / "toy.npz", "model_strange", npy(np.zeros(3)))
    with pytest.raises(BodyError, match=rf"damaged \(the array {name.removeprefix('model_')}"):
        store.load_model("toy")


def kept_body(folder: Path, **change: Any) -> Path:
    """A result as far as augmenting reads it."""
    body = load_body("anny")
    owners = Counter(["global_orient", *map(argument_of, body.joint_names[1:])])
    params: dict[str, Any] = {name: np.zeros((1, 3 * count)) for name, count in owners.items()}
    params |= {"betas": np.zeros((1, body.num_betas)), "transl": np.zeros((1, 3)), "model": np.array("anny")}
    np.savez(folder / "params.npz", **{**params, "T_scan_model": np.eye(4), **change})
    rows = "\n".join(" ".join(map(str, row)) for row in body.data.v_template.tolist())
    head = f"element vertex {body.num_vertices}\nproperty float x\nproperty float y\nproperty float z\nend_header\n"
    (folder / "registered.ply").write_text(f"ply\nformat ascii 1.0\n{head}{rows}\n", encoding="ascii")
    (folder / "report.json").write_text(json.dumps({"scan": {"points": 9}}), encoding="utf-8")
    return folder


def test_whole_results_are_read(tmp_path: Path) -> None:
    turn = np.array([[0.0, -2000, 0, 3], [2000, 0, 0, 4], [0, 0, 2000, 5], [0, 0, 0, 1]])
    found = read_result(kept_body(tmp_path, T_scan_model=turn))
    back = found.surface @ turn[:3, :3].T + turn[:3, 3]
    np.testing.assert_allclose(back, load_body("anny").data.v_template, atol=1e-5)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"T_scan_model": np.zeros((4, 4))}, "a transform that no body has"),
        ({"T_scan_model": np.diag([1.0, 1, 0, 1])}, "a transform that no body has"),
        ({"T_scan_model": np.ones((4, 4))}, "a transform that no body has"),
        ({"T_scan_model": np.eye(4, dtype=int)}, "no parameters"), ({"T_scan_model": np.eye(5)}, "no parameters"),
        ({"betas": np.zeros((1, 3))}, "the array betas"), ({"transl": np.array([["x", "y", "z"]])}, "the array transl"),
        ({"transl": np.full((1, 3), 1e300)}, "too large"), ({"model": np.zeros(3)}, "the array model"),
    ],
)  # fmt: skip
def test_results_of_strange_parameters(change: dict[str, Any], words: str, tmp_path: Path) -> None:
    with pytest.raises(RegistrationError, match=words) as caught:
        read_result(kept_body(tmp_path, **change))
    assert "\n" not in str(caught.value) and len(str(caught.value)) < 500


def test_models_of_endless_names_are_quoted_short(tmp_path: Path) -> None:
    with pytest.raises(BodyError, match="no body named 'a") as caught:
        read_result(kept_body(tmp_path, model=np.array("a" * 5000)))
    assert len(str(caught.value)) < 500


@pytest.mark.parametrize(
    "change",
    [
        {"verdict": "strange"}, {"seconds": "x"}, {"timings": [1]}, {"timings": {"a": "x"}}, {"unit": 7}, {"reason": 7},
        {"side_confidence": []}, {"folder": "f" * 5000}, {"folder": "a\0b"},
    ],
)  # fmt: skip
@pytest.mark.usefixtures("no_type_checks")
def test_outcomes_that_cannot_be_shown_are_passed_over(change: dict[str, Any], tmp_path: Path) -> None:
    good = {"source": "/a", "folder": None, "verdict": "good", "reason": "x", "timings": {"a": 1}}
    (tmp_path / "summary.json").write_text(json.dumps({"results": [good]}), encoding="utf-8")
    assert len(read_summary(tmp_path)) == 1
    (tmp_path / "summary.json").write_text(json.dumps({"results": [good | change]}), encoding="utf-8")
    assert read_summary(tmp_path) == []


@pytest.mark.parametrize(
    "assets",
    [[], "x", {"input/a\0b": "0"}, {"input/\ud800": "0"}, {"input//dev/zero": "0"}, {"models/" + "a" * 5000: "0"}],
)
def test_reports_whose_assets_are_no_files_are_not_finished(
    assets: Any, tmp_path: Path, in_little_memory: None
) -> None:
    source = tmp_path / "a.ply"
    source.write_bytes(b"ply")
    outcome = Outcome(str(source), "a", "good", "x", key="k")
    report: dict[str, Any] = {"lvdreg": "0", "files": {}, "input": {"sha256": sha256_of(source)}, "assets": {}}
    (tmp_path / "a").mkdir()
    for content, is_there in (({}, True), (assets, False)):
        (tmp_path / "a" / "report.json").write_text(json.dumps(report | {"assets": content}), encoding="utf-8")
        assert is_finished(outcome, "k", source, tmp_path) is is_there


def test_plans_that_are_none(tmp_path: Path) -> None:
    plan = Plan(Asked(), "toy", "0", (Source("a", {"scan": "0"}),))
    pin(plan, tmp_path)
    pin(plan, tmp_path)
    for change in ({"asked": []}, {"sources": [7]}, {"sources": [{"name": "a"}]}, {"made_with": 7}):
        (tmp_path / "plan.json").write_text(json.dumps(plan.to_json() | change), encoding="utf-8")
        with pytest.raises(DatasetError, match="damaged"):
            pin(plan, tmp_path)
    strange = {f"a\n{i}" + "b" * 900: "c" * 900 for i in range(90)}
    (tmp_path / "plan.json").write_text(json.dumps(plan.to_json() | {"left_out": strange}), encoding="utf-8")
    with pytest.raises(UsageError, match="other settings") as caught:
        pin(plan, tmp_path)
    assert "\n" not in str(caught.value) and len(str(caught.value)) < 2500


@pytest.mark.parametrize(
    "change",
    [
        {"counts": 7}, {"draws_rejected": []}, {"versions_given_up": {"a": "x"}},
    ],
)  # fmt: skip
def test_datasets_that_cannot_be_drawn(change: dict[str, Any], tmp_path: Path) -> None:
    whole = {"counts": dict.fromkeys(("images", "versions", "scans", "characters"), 1)}
    whole |= {"draws_rejected": {}, "versions_given_up": {}}
    write_sheet(dataset(tmp_path, **whole))
    with pytest.raises(DatasetError, match="damaged") as caught:
        write_sheet(dataset(tmp_path, **(whole | change)))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "change",
    [
        {"asked": {"size": 10**9, "channels": []}}, {"asked": {"size": 0, "channels": []}}, {"rest_box": [0]},
        {"rest_box": [[0, 0, 0], [1, 1, float("nan")]]},
    ],
)  # fmt: skip
def test_datasets_have_sizes_that_pictures_have(change: dict[str, Any], tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match="sizes that pictures and people have"):
        Dataset(dataset(tmp_path, **change))


# --- Pictures of meshes -----------------------------------------------------------------------------------------------


def textured(folder: Path, library: str = "a.mtl", picture: str = "a.png") -> Path:
    """A triangle with a picture on it."""
    Image.new("RGB", (8, 8), (200, 10, 10)).save(folder / "a.png")
    (folder / "a.mtl").write_text(f"newmtl m\nmap_Kd {picture}\n", encoding="utf-8")
    text = f"mtllib {library}\nv 0 0 0\nv 1 0 0\nv 0 1 0\nvt 0 0\nvt 1 0\nvt 0 1\nusemtl m\nf 1/1 2/2 3/3\n"
    (folder / "a.obj").write_text(text, encoding="utf-8")
    return folder / "a.obj"


@pytest.mark.skipif(os.name != "posix", reason="pipes in folders are POSIX's")
@pytest.mark.parametrize("name", ["pipe", "/dev/zero", "../out.png"])
def test_meshes_name_plain_files_beside_them(name: str, tmp_path: Path, in_little_memory: None) -> None:
    folder = tmp_path / "in"
    folder.mkdir()
    assert read_pictured(textured(folder)) is not None
    os.mkfifo(folder / "pipe")
    Image.new("RGB", (8, 8), (200, 10, 10)).save(tmp_path / "out.png")
    assert read_pictured(textured(folder, picture=name)) is None
    assert read_pictured(textured(folder, library=name)) is None


def test_pictures_that_unpack_to_too_much_are_left(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = textured(tmp_path)

    def convert(*_: Any) -> None:  # some formats know only when they are decoded
        raise Image.DecompressionBombError("it is large")

    monkeypatch.setattr(Image.Image, "convert", convert)
    assert read_pictured(path) is None


# --- The fuzzer -------------------------------------------------------------------------------------------------------

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
