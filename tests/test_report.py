"""Result folders: whole or not at all, and everything in them can be read back."""

import json
import os
from pathlib import Path

import numpy as np
import pytest
import trimesh
from fake_registration import T_SCAN_MODEL, cone, fake_hand, fake_registration
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image

from lvdreg.base.arrays import write_npz
from lvdreg.base.disk import replacing_folder, write_file
from lvdreg.base.errors import OutputError
from lvdreg.geometry.frames import transform_points
from lvdreg.result import draw_scan as pictures
from lvdreg.result import files, files_scan
from lvdreg.result.files import RESULT, plain, write_json
from lvdreg.result.files_scan import FILES
from lvdreg.result.ply import write_ply
from lvdreg.scan.model import read_scan


@pytest.fixture(autouse=True)
def small_panels(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pictures, "PANEL_PIXELS", 40 * 60)


def read_columns(path: Path) -> dict[str, NDArray[np.float64]]:
    """Read the vertex properties of a binary ply by its header alone, apart from the code under test."""
    data = path.read_bytes()
    header, body = data.split(b"end_header\n", 1)
    words = [line.split() for line in header.decode("ascii").splitlines()]
    count = next(int(line[2]) for line in words if line[:2] == ["element", "vertex"])
    kinds = {"float": "<f4", "double": "<f8", "uchar": "u1"}
    dtype = np.dtype([(line[2], kinds[line[1]]) for line in words if line[0] == "property" and len(line) == 3])
    table = np.frombuffer(body, dtype, count)
    return {name: table[name].astype(np.float64) for name in dtype.names or ()}


def test_save_writes_everything_and_nothing_else(tmp_path: Path) -> None:
    files = fake_registration().save(tmp_path / "deep" / "person")
    assert sorted(path.name for path in (tmp_path / "deep" / "person").iterdir()) == sorted(FILES)
    assert {path.name for path in files} == set(FILES) and all(path.is_file() for path in files)
    assert [path.name for path in (tmp_path / "deep").iterdir()] == ["person"]


def test_meshes_come_back_in_the_scans_frame(tmp_path: Path) -> None:
    registration = fake_registration()
    registration.save(tmp_path / "person")
    for name, expected in (
        ("body", registration.body_vertices),
        ("registered", registration.vertices),
        ("uncertainty", registration.vertices),
    ):
        mesh = trimesh.load(tmp_path / "person" / f"{name}.ply", process=False)
        np.testing.assert_allclose(mesh.vertices, expected, atol=1e-6 * 1800)
        np.testing.assert_array_equal(mesh.faces, registration.faces)
        again = read_scan(tmp_path / "person" / f"{name}.ply")
        np.testing.assert_allclose(again.points, expected, atol=1e-6 * 1800)


def test_sigma_is_in_the_unit_of_the_file(tmp_path: Path) -> None:
    registration = fake_registration()
    registration.save(tmp_path / "person")
    columns = read_columns(tmp_path / "person" / "registered.ply")
    # Millimetres in the file, so sigma reads as millimetres; the header says so.
    np.testing.assert_allclose(columns["sigma"], registration.sigma_mm, rtol=1e-6)
    assert b"in the unit of the coordinates" in (tmp_path / "person" / "registered.ply").read_bytes()
    in_metres = fake_registration(T_scan_model=np.eye(4))
    np.testing.assert_allclose(in_metres.sigma, registration.sigma_mm / 1000)


def test_uncertainty_colours_match_the_scale_in_the_report(tmp_path: Path) -> None:
    registration = fake_registration()
    registration.save(tmp_path / "person")
    columns = read_columns(tmp_path / "person" / "uncertainty.ply")
    colours = np.stack([columns[name] for name in ("red", "green", "blue")], -1)
    scale = json.loads((tmp_path / "person" / "report.json").read_text(encoding="utf-8"))["uncertainty_colours"]
    assert (scale["from_mm"], scale["to_mm"]) == (0.0, 20.0)
    stops = np.linspace(scale["from_mm"], scale["to_mm"], len(scale["red_green_blue"]))
    ramp = [np.interp(registration.sigma_mm, stops, np.array(scale["red_green_blue"])[:, i]) for i in range(3)]
    np.testing.assert_allclose(colours, np.stack(ramp, -1), atol=0.51)


def test_params_are_plain_arrays_with_smplx_names(tmp_path: Path) -> None:
    registration = fake_registration()
    registration.save(tmp_path / "person")
    with np.load(tmp_path / "person" / "params.npz", allow_pickle=False) as arrays:
        names = set(arrays.files)
        for name, value in registration.params.items():
            # smplx's arguments are batches; what is none of its arguments stays as it is.
            np.testing.assert_array_equal(arrays[name], value[None] if value.ndim == 1 else value)
            assert arrays[name].dtype == value.dtype
        assert (str(arrays["model"]), str(arrays["unit"]), str(arrays["up"])) == ("anny+d", "mm", "+z")
        T_scan_model = arrays["T_scan_model"]
    assert {"betas", "global_orient", "body_pose", "left_hand_pose", "right_hand_pose", "transl", "scale"} <= names
    np.testing.assert_array_equal(T_scan_model, T_SCAN_MODEL)
    np.testing.assert_allclose(transform_points(T_scan_model, cone()[0]), registration.vertices)


def test_params_never_need_a_pickle(tmp_path: Path) -> None:
    """Nor do they hold an argument of numpy's by mistake."""
    write_npz(tmp_path / "a.npz", {"x": np.arange(3), "word": "anny", "yes": True})
    with np.load(tmp_path / "a.npz", allow_pickle=False) as arrays:
        assert {name: arrays[name].tolist() for name in arrays.files} == {"x": [0, 1, 2], "word": "anny", "yes": True}
    with pytest.raises(ValueError, match="x: expected numbers or words"):
        write_npz(tmp_path / "b.npz", {"x": np.array([{}], dtype=object)})
    assert not (tmp_path / "b.npz").exists()


def test_report_says_what_happened(tmp_path: Path) -> None:
    fake_registration().save(tmp_path / "person")
    text = (tmp_path / "person" / "report.json").read_text(encoding="utf-8")
    found = json.loads(text, parse_constant=lambda word: pytest.fail(f"{word} is not JSON"))
    assert (found["verdict"], found["reason"]) == ("good", "surface 1.7 mm from the scan")
    assert found["metrics"] == {"point_to_surface_scan_to_registered_mm": 1.7, "seen_share": None}
    assert all(any(name.endswith(ending[1:]) for ending in found["units"]) for name in found["metrics"])
    *stages, total = found["timings_s"].items()
    assert [name for name, _ in stages] == ["read", "descend", "write"] and dict(stages)["write"] > 0
    assert total == ("total", pytest.approx(sum(seconds for _, seconds in stages)))
    assert found["transforms"]["T_scan_model"] == T_SCAN_MODEL.tolist()
    assert found["warnings"] == ["the feet are cut off"] and found["scan"]["notes"] == ["2 points removed"]
    assert set(found["files"]) == set(FILES)


@pytest.mark.parametrize("side", ["left", "right"])
def test_a_hands_folder_says_which_hand(tmp_path: Path, side: str) -> None:
    registration = fake_hand(side)
    registration.save(tmp_path / "hand")
    assert sorted(path.name for path in (tmp_path / "hand").iterdir()) == sorted(FILES)
    found = json.loads((tmp_path / "hand" / "report.json").read_text(encoding="utf-8"))
    assert (found["side"], found["side_confidence"], found["scan"]["up"]) == (side, 0.983, None)
    assert side in found["transforms"]["meaning"]
    with np.load(tmp_path / "hand" / "params.npz", allow_pickle=False) as arrays:
        assert set(arrays.files) == {*registration.params, "model", "unit", "side", "side_confidence", "T_scan_model"}
        assert (str(arrays["side"]), float(arrays["side_confidence"])) == (side, 0.983)
        assert arrays["hand_pose"].shape == (1, 45)


def test_a_bodys_report_has_no_side(tmp_path: Path) -> None:
    fake_registration().save(tmp_path / "person")
    found = json.loads((tmp_path / "person" / "report.json").read_text(encoding="utf-8"))
    assert (found["side"], found["side_confidence"], found["scan"]["up"]) == (None, None, "+z")


def test_preview_is_a_picture(tmp_path: Path) -> None:
    fake_registration().save(tmp_path / "person")
    with Image.open(tmp_path / "person" / "preview.png") as picture:
        assert picture.mode == "RGB" and min(picture.size) > 100


@pytest.mark.parametrize("failing", ["write_meshes", "write_params", "write_json", "preview"])
def test_a_failing_writer_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, failing: str) -> None:
    def fail(*args: object) -> None:
        raise OSError("disk full")

    monkeypatch.setattr(files if failing == "write_json" else files_scan, failing, fail)
    with pytest.raises(OSError, match="disk full"):
        fake_registration().save(tmp_path / "person")
    assert list(tmp_path.iterdir()) == []


def test_a_failing_writer_leaves_the_old_result_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fake_registration().save(tmp_path / "person")
    before = {path.name: path.read_bytes() for path in (tmp_path / "person").iterdir()}
    monkeypatch.setattr(files_scan, "preview", lambda registration: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        fake_registration(reason="new").save(tmp_path / "person")
    assert {path.name: path.read_bytes() for path in (tmp_path / "person").iterdir()} == before
    assert [path.name for path in tmp_path.iterdir()] == ["person"]


def test_saving_again_replaces_the_result(tmp_path: Path) -> None:
    fake_registration().save(tmp_path / "person")
    fake_registration(reason="new").save(tmp_path / "person")
    assert json.loads((tmp_path / "person" / "report.json").read_text(encoding="utf-8"))["reason"] == "new"
    assert [path.name for path in tmp_path.iterdir()] == ["person"]


def test_files_of_others_are_left_alone(tmp_path: Path) -> None:
    (tmp_path / "person" / "mine").mkdir(parents=True)
    (tmp_path / "person" / "thesis.txt").write_text("years of work", encoding="utf-8")
    fake_registration().save(tmp_path / "person")
    fake_registration(reason="new").save(tmp_path / "person")
    assert (tmp_path / "person" / "thesis.txt").read_text(encoding="utf-8") == "years of work"
    assert sorted(path.name for path in (tmp_path / "person").iterdir()) == sorted([*FILES, "mine", "thesis.txt"])
    assert json.loads((tmp_path / "person" / "report.json").read_text(encoding="utf-8"))["reason"] == "new"


def test_nothing_is_written_through_a_link(tmp_path: Path) -> None:
    (tmp_path / "disk").mkdir()
    (tmp_path / "person").symlink_to(tmp_path / "disk")
    with pytest.raises(OutputError, match=r"person: .* got a link"):
        fake_registration().save(tmp_path / "person")
    assert (tmp_path / "person").is_symlink() and not list((tmp_path / "disk").iterdir())
    # The folder that results lie in is the user's to choose, a link or not.
    fake_registration().save(tmp_path / "person" / "ann")
    assert (tmp_path / "disk" / "ann" / "report.json").is_file()
    assert {path.name for path in tmp_path.iterdir()} == {"disk", "person"}


def test_saving_onto_a_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "person").write_text("a file", encoding="utf-8")
    with pytest.raises(OSError, match="got a file"):
        fake_registration().save(tmp_path / "person")
    assert (tmp_path / "person").read_text(encoding="utf-8") == "a file" and len(list(tmp_path.iterdir())) == 1


OTHERS = {
    "a mesh": lambda folder: (folder / "body.ply").write_text("mine", encoding="utf-8"),
    "a folder": lambda folder: (folder / "body.ply").mkdir(),
    "a link": lambda folder: (folder / "body.ply").symlink_to(folder.parent / "diary.txt"),
    "a broken link": lambda folder: (folder / "body.ply").symlink_to("nowhere"),
    "a report": lambda folder: (folder / "report.json").write_text('{"lvdreg": true}', encoding="utf-8"),
    "a linked report": lambda folder: (folder / "report.json").symlink_to(folder.parent / "ours" / "report.json"),
}


@pytest.mark.parametrize("what", list(OTHERS))
def test_what_is_not_provably_ours_is_never_replaced(tmp_path: Path, what: str) -> None:
    (tmp_path / "diary.txt").write_text("secret", encoding="utf-8")
    fake_registration().save(tmp_path / "ours")
    (tmp_path / "person").mkdir()
    OTHERS[what](tmp_path / "person")
    before = tree(tmp_path)
    with pytest.raises(OutputError, match="is not lvdreg's") as caught:
        fake_registration(reason="new").save(tmp_path / "person")
    assert tree(tmp_path) == before and "\n" not in str(caught.value)


def test_a_name_that_the_old_result_has_not_is_not_ours(tmp_path: Path) -> None:
    fake_registration().save(tmp_path / "person")
    report = tmp_path / "person" / "report.json"
    told = json.loads(report.read_text(encoding="utf-8"))
    del told["files"]["preview.png"]
    report.write_text(json.dumps(told), encoding="utf-8")
    before = tree(tmp_path)
    with pytest.raises(OutputError, match=r"preview\.png: is not lvdreg's"):
        fake_registration(reason="new").save(tmp_path / "person")
    assert tree(tmp_path) == before


def tree(folder: Path) -> dict[str, bytes | str | None]:
    """Return what lies in a folder, by relative path: content of files, targets of links."""
    return {
        str(path.relative_to(folder)): os.readlink(path)
        if path.is_symlink()
        else path.read_bytes()
        if path.is_file()
        else None
        for path in sorted(folder.rglob("*"))
    }


def test_the_folder_is_not_seen_before_it_is_whole(tmp_path: Path) -> None:
    with replacing_folder(tmp_path / "person", RESULT) as part:
        (part / "report.json").write_text("{}", encoding="utf-8")
        assert not (tmp_path / "person").exists() and part.parent == tmp_path
    assert (tmp_path / "person" / "report.json").exists()


def test_write_file_keeps_the_old_file_on_failure(tmp_path: Path) -> None:
    (tmp_path / "summary.json").write_text("old", encoding="utf-8")
    with pytest.raises(ZeroDivisionError):
        write_file(tmp_path / "summary.json", lambda path: path.write_text(str(1 / 0), encoding="utf-8"))
    assert (tmp_path / "summary.json").read_text(encoding="utf-8") == "old" and len(list(tmp_path.iterdir())) == 1


@settings(max_examples=30)
@given(
    offset=st.floats(-1e8, 1e8),
    extent=st.floats(1e-3, 1e5),
    seed=st.integers(0, 1000),
)
def test_coordinates_keep_a_millionth_of_the_extent(
    tmp_path_factory: pytest.TempPathFactory, offset: float, extent: float, seed: int
) -> None:
    path = tmp_path_factory.mktemp("ply") / "mesh.ply"
    vertices = offset + extent * np.random.default_rng(seed).random((50, 3))
    write_ply(path, vertices, np.zeros((0, 3), np.int64))
    columns = read_columns(path)
    lost = np.abs(np.stack([columns[axis] for axis in "xyz"], -1) - vertices).max()
    assert lost <= 1e-6 * np.ptp(vertices, axis=0).max()


def test_precision_is_single_where_that_is_enough(tmp_path: Path) -> None:
    vertices = np.random.default_rng(0).random((20, 3))
    for name, points, word in (("near", vertices, b"property float x"), ("far", vertices + 1e6, b"property double x")):
        write_ply(tmp_path / f"{name}.ply", points, np.array([[0, 1, 2]]), comments=["ä é\u4f53"])
        assert word in (tmp_path / f"{name}.ply").read_bytes()
        assert len(read_scan(tmp_path / f"{name}.ply").points) == 20


def test_plain_json() -> None:
    value = {
        "a": np.float32(0.5),
        "b": (np.inf, np.nan, 1),
        "c": np.arange(2),
        "d": Path("x"),
        3: {"e": True, "f": None},
    }
    expected = {"a": 0.5, "b": [None, None, 1], "c": [0, 1], "d": "x", "3": {"e": True, "f": None}}
    assert plain(value) == expected


def test_json_keeps_rows_of_numbers_on_one_line(tmp_path: Path) -> None:
    value = {"T": np.eye(4), "words": ["[ 1,  2 ]", "a\n[\n 1\n]"], "none": [np.nan, 1.5], "empty": []}
    write_json(tmp_path / "a.json", value)
    text = (tmp_path / "a.json").read_text(encoding="utf-8")
    assert "    [1.0, 0.0, 0.0, 0.0],\n" in text and '"none": [null, 1.5]' in text
    assert json.loads(text) == plain(value)


def test_json_takes_file_names_that_are_no_text(tmp_path: Path) -> None:
    write_json(tmp_path / "a.json", {"source": "scan\udcff 体.ply"})
    assert json.loads((tmp_path / "a.json").read_text(encoding="utf-8"))["source"] == "scan\udcff 体.ply"
