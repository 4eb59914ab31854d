"""What ``scripts/fuzz.py`` has found in files that lvdreg itself writes: arrays, models, results, plans, datasets."""

import csv
import io
import json
import os
import pickle
import re
import zipfile
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from test_broken_files import dataset

from lvdreg.augment.plan import Asked, Plan, Source
from lvdreg.augment.repose.sources import read_registered_person as read_result
from lvdreg.augment.run import pin
from lvdreg.augment.sheet import write_sheet
from lvdreg.base.arrays import expect, read_npy, write_npz
from lvdreg.base.errors import (
    BodyError,
    CheckpointError,
    DatasetError,
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
from lvdreg.batch.store import Folder
from lvdreg.batch.table import Outcome, read_results
from lvdreg.body import store
from lvdreg.body.catalogue import load_body
from lvdreg.body.files import body_arrays
from lvdreg.body.smplx_names import argument_of
from lvdreg.body.transfer import Correspondence
from lvdreg.dataset import Dataset
from lvdreg.photo.graph import read_graph, run_graph
from lvdreg.scan.textured import read_pictured
from tests.conftest import make_toy_body


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
        {"verdict": "strange"}, {"seconds": "x"}, {"timings": "[1]"}, {"timings": '{"a": "x"}'}, {"unit": '"7'},
        {"side_confidence": "[]"}, {"folder": "f" * 5000}, {"folder": '"a\\u0000b"'}, {"source": ""},
        {"reason": "\ud800"}, {"verdict": '"good"\n'}, {"timings": "{"}, {"timings": '{"a": 1' + 400 * "0" + "}"},
    ],
)  # fmt: skip
@pytest.mark.usefixtures("no_type_checks")
def test_outcomes_that_cannot_be_shown_are_passed_over(change: dict[str, Any], tmp_path: Path) -> None:
    good = {"source": "/a", "folder": "", "verdict": "good", "reason": "x", "timings": '{"a": 1}'}
    for row, count in ((good, 1), (good | change, 0)):
        with (tmp_path / "results.csv").open("w", encoding="utf-8", errors="surrogatepass", newline="") as file:
            writer = csv.DictWriter(file, [*good, *(set(change) - set(good))])
            writer.writeheader()
            writer.writerow(row)
        assert len(read_results(tmp_path)) == count


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
        assert is_finished(outcome, "k", source, Folder(tmp_path)) is is_there


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
