"""Benchmarks on toy data whose right answer is known, with a registration that is perfect, or wrong in a known way."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import trimesh
from numpy.typing import NDArray

from lvdreg.base.errors import OutputError, RegistrationError, ScanError
from lvdreg.body.model import BodyModel
from lvdreg.evaluate import cache, faust
from lvdreg.evaluate.regions import REGIONS, region_table, regions_of
from lvdreg.evaluate.table import Row, Table
from lvdreg.geometry.metrics import summarise
from lvdreg.scan.model import read_scan

Arrays = dict[str, NDArray[Any]]


@pytest.fixture
def faust_folder(tmp_path: Path) -> Path:
    """Two persons in two poses: spheres of several sizes, cut open; the truth has a topology of its own."""
    for name, scale in (("000", 0.5), ("001", 0.55), ("010", 0.7), ("011", 0.8)):
        true = trimesh.creation.icosphere(subdivisions=2, radius=scale)
        scan = trimesh.creation.icosphere(subdivisions=3, radius=scale)
        scan.update_faces(scan.triangles_center[:, 1] < 0.8 * scale)
        for kind, mesh in (("registration", true), ("scan", scan)):
            (tmp_path / kind).mkdir(exist_ok=True)
            mesh.export(tmp_path / kind / f"{name}.ply")
    return tmp_path


def perfect(path: Path, model: str, settings: dict[str, Any]) -> Arrays:
    """Our surface is a finer sphere of the scan's own size: every point is where it should be."""
    radius = float(np.linalg.norm(read_scan(path).points[0]))
    mesh = trimesh.creation.icosphere(subdivisions=3, radius=radius)
    words = {"verdict": np.array("good"), "reason": np.array("all is well")}
    return {"vertices": np.array(mesh.vertices), "faces": np.array(mesh.faces, np.int64), **words}


def test_perfect_surfaces_have_no_error(faust_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(faust, "registered", perfect)
    calls: list[tuple[int, int, str]] = []
    table = faust.evaluate_faust(
        faust_folder, out=faust_folder / "out", with_baseline=False, progress=lambda *call: calls.append(call)
    )
    figures = {row.metric: row.summary for row in table.rows}
    assert [figures[name].count for name in figures] == [8, 4, 4, 4, 4]
    # The chords of the truth's sphere and of ours differ by two millimetres.
    assert all(summary.max_mm < 2 for summary in figures.values())
    assert figures["point_to_surface scan to model"].max_mm < 0.01
    seen = [s["seen_share"] for s in json.loads(table.to_json())["details"]["lvdreg"]["point_to_surface_mm"]]
    assert seen == pytest.approx([0.9] * 4, abs=0.04)
    assert [call[:2] for call in calls] == [(1, 4), (2, 4), (3, 4), (4, 4)]
    assert "4 of 4 scans" in table.render()


def test_a_turned_person_is_wrong_against_all_others(faust_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def turned(path: Path, model: str, settings: dict[str, Any]) -> Arrays:
        found = perfect(path, model, settings)
        # Half a turn about Y: the surface is the same, every correspondence is wrong.
        return found | ({"vertices": found["vertices"] * [-1, 1, -1]} if path.stem == "010" else {})

    monkeypatch.setattr(faust, "registered", turned)
    table = faust.evaluate_faust(faust_folder, out=faust_folder / "out", with_baseline=False)
    figures = {row.metric: row.summary for row in table.rows}
    # 4 of the 8 pairs of two persons have scan 010 on one side, and 2 of the 4 pairs within persons.
    assert figures["faust inter-subject, pairs"].failures == 4
    assert figures["faust intra-subject, pairs"].failures == 2
    assert figures["faust median to the others, scans"].failures == 1
    assert figures["point_to_surface model to scan"].failures == 0
    pairs = np.array(json.loads(table.to_json())["details"]["lvdreg"]["faust_mean_mm"], float)
    # A point at distance r from the axis misses by its diameter there: over a sphere r is pi / 4 on average.
    assert pairs[2, 0] == pytest.approx(1000 * 2 * 0.5 * np.pi / 4, rel=0.03)


@pytest.mark.parametrize(("factor", "low", "high"), [(0.1, 0.0, 0.1), (1.0, 0.68, 0.95), (10.0, 0.999, 1.0)])
def test_sigma_is_compared_with_the_errors_of_pairs(
    factor: float, low: float, high: float, faust_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def noisy(path: Path, model: str, settings: dict[str, Any]) -> Arrays:
        found, rng = perfect(path, model, settings), np.random.default_rng(int(path.stem))
        spread = rng.uniform(0.005, 0.03, len(found["vertices"]))
        offsets = spread[:, None] * rng.normal(size=found["vertices"].shape)
        # 68 % of points with one standard deviation along each axis lie within 1.87 of these; on the first surface
        # the nearest point makes up for some of it.
        return found | {"vertices": found["vertices"] + offsets, "sigma_mm": factor * 1870 * spread}

    monkeypatch.setattr(faust, "registered", noisy)
    table = faust.evaluate_faust(faust_folder, out=faust_folder / "out", with_baseline=False)
    for quality in json.loads(table.to_json())["details"]["lvdreg"]["sigma"].values():
        assert low <= quality["within_1_sigma"] <= high
    assert sum("one sigma" in note for note in table.notes) == 2


def test_a_failure_is_missing_and_not_fatal(faust_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def failing(path: Path, model: str, settings: dict[str, Any]) -> Arrays:
        if path.stem == "001":
            raise RegistrationError("no person there")
        return perfect(path, model, settings)

    monkeypatch.setattr(faust, "registered", failing)
    table = faust.evaluate_faust(faust_folder, out=faust_folder / "out", with_baseline=False)
    figures = {row.metric: row.summary for row in table.rows}
    assert figures["faust median to the others, scans"].missing == 1
    assert figures["faust inter-subject, pairs"].missing == 4
    details = json.loads(table.to_json())["details"]["lvdreg"]
    assert details["verdicts"] == ["good", "failed", "good", "good"]
    assert details["reasons"][1] == "no person there"
    assert details["scan_median_mm"][1] is None
    monkeypatch.setattr(faust, "registered", lambda *_: (_ for _ in ()).throw(RegistrationError("nobody")))
    with pytest.raises(RegistrationError, match="nobody"):
        faust.evaluate_faust(faust_folder, out=faust_folder / "other", with_baseline=False)


def test_an_interrupted_run_goes_on(faust_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[str] = []

    def interrupted(path: Path, model: str, settings: dict[str, Any]) -> Arrays:
        seen.append(path.stem)
        if len(seen) == 3:
            raise KeyboardInterrupt
        return perfect(path, model, settings)

    monkeypatch.setattr(faust, "registered", interrupted)
    with pytest.raises(KeyboardInterrupt):
        faust.evaluate_faust(faust_folder, out=faust_folder / "out", with_baseline=False)
    faust.evaluate_faust(faust_folder, out=faust_folder / "out", with_baseline=False)
    assert seen == ["000", "001", "010", "010", "011"]
    # Another model, another setting or another scan is another result.
    faust.evaluate_faust(faust_folder, model="anny", out=faust_folder / "out", with_baseline=False)
    faust.evaluate_faust(faust_folder, model="anny", out=faust_folder / "out", with_baseline=False, seed=2)
    faust.evaluate_faust(faust_folder, model="anny", out=faust_folder / "out", with_baseline=False, seed=1)
    assert len(seen) == 17
    trimesh.creation.icosphere(subdivisions=1, radius=0.9).export(faust_folder / "scan" / "011.ply")
    faust.evaluate_faust(faust_folder, model="anny", out=faust_folder / "out", with_baseline=False, seed=1)
    assert seen[17:] == ["011"]


def test_the_baseline_stands_in_the_same_table(faust_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(faust, "registered", perfect)
    monkeypatch.setattr(faust, "chamfer_from_rest", lambda path, model: perfect(path, model, {}))
    table = faust.evaluate_faust(faust_folder, out=faust_folder / "out", limit=2)
    assert [row.method for row in table.rows] == ["lvdreg"] * 4 + ["chamfer from rest"] * 4


def test_faust_scans_are_named_or_refused(faust_folder: Path) -> None:
    assert [p.stem for p, _ in faust.faust_scans(faust_folder)] == ["000", "001", "010", "011"]
    assert [p.stem for p, _ in faust.faust_scans(faust_folder, 2)] == ["000", "011"]
    (faust_folder / "registration" / "001.ply").unlink()
    assert len(faust.faust_scans(faust_folder)) == 3
    with pytest.raises(ScanError, match="found none"):
        faust.faust_scans(faust_folder / "scan")


def test_scan_errors_are_medians_over_both_directions() -> None:
    pairs = np.array([[np.nan, 1, 2], [3, np.nan, 4], [50, 60, np.nan]])
    np.testing.assert_array_equal(faust.scan_errors(pairs), [2.5, 3.5, 27.0])
    assert np.isnan(faust.scan_errors(np.full((2, 2), np.nan))).all()


def test_pairs_are_of_two_persons_or_of_one() -> None:
    inter, intra = faust.pair_masks([0, 0, 1])
    np.testing.assert_array_equal(inter, [[0, 0, 1], [0, 0, 1], [1, 1, 0]])
    np.testing.assert_array_equal(intra, [[0, 1, 0], [1, 0, 0], [0, 0, 0]])


def test_a_result_under_another_key_is_made_anew(tmp_path: Path) -> None:
    made: list[int] = []

    def compute() -> Arrays:
        made.append(1)
        return {"x": np.arange(3), "verdict": np.array("good"), "reason": np.array("as it should be")}

    first = cache.kept(tmp_path / "a" / "x.npz", "key", compute)
    second = cache.kept(tmp_path / "a" / "x.npz", "key", compute)
    assert len(made) == 1
    assert first.seconds == second.seconds
    assert (second.verdict, second.reason) == ("good", "as it should be")
    np.testing.assert_array_equal(second.arrays["x"], [0, 1, 2])
    assert set(second.arrays) == {"x"}
    cache.kept(tmp_path / "a" / "x.npz", "another", compute)
    assert len(made) == 2
    assert [path.name for path in (tmp_path / "a").iterdir()] == ["x.npz"]


def test_results_of_other_code_or_other_weights_do_not_count(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    keys = [cache.run_key("anny", {"seed": 0})]
    (tmp_path / "weights").mkdir()
    (tmp_path / "weights" / "voxel-anny.safetensors").write_bytes(b"other weights")
    monkeypatch.setattr(cache, "assets_dir", lambda: tmp_path)
    keys.append(cache.run_key("anny", {"seed": 0}))
    (tmp_path / "register.py").write_text("other code", encoding="utf-8")
    monkeypatch.setattr(cache, "PACKAGE", tmp_path)
    keys.append(cache.run_key("anny", {"seed": 0}))
    assert len(set(keys)) == 3
    assert cache.run_key("anny", {"seed": 0}) == keys[-1]


def test_another_file_of_an_added_model_does_not_count(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LVDREG_MODELS", str(tmp_path))
    (tmp_path / "smpl").mkdir()
    (tmp_path / "smpl" / "model.json").write_text("{}")
    keys = {cache.run_key("smpl+d", {}), cache.run_key("anny", {})}
    (tmp_path / "smpl" / "smpl.npz").write_text("another")
    keys |= {cache.run_key("smpl+d", {}), cache.run_key("anny", {})}
    assert len(keys) == 3


@pytest.mark.parametrize("what", ["text", "arrays", "link", "folder"])
def test_a_file_of_others_is_no_result_and_is_not_replaced(tmp_path: Path, what: str) -> None:
    path = tmp_path / "x.npz"
    cache.kept(tmp_path / "ours.npz", "key", lambda: {"verdict": np.array("good"), "reason": np.array("fine")})
    if what == "text":
        path.write_text("mine")
    elif what == "arrays":
        np.savez(path, points=np.zeros((9, 3)))
    elif what == "link":
        path.symlink_to("ours.npz")
    else:
        path.mkdir()
    before = path.read_bytes() if path.is_file() else None
    with pytest.raises(OutputError, match=r"x\.npz: is not lvdreg's") as caught:
        cache.kept(path, "key", lambda: 1 / 0)
    assert "\n" not in str(caught.value) and path.is_symlink() == (what == "link")
    assert before is None or path.read_bytes() == before


def test_tables_are_aligned_and_have_no_nan_in_json() -> None:
    rows = (Row("lvdreg", "joint", summarise([1.0, 250.0], 100)), Row("b", "faust", summarise([float("nan")], 60)))
    table = Table("a title", rows, ("a note",), {"x": np.array([1.0, np.inf]), 3: (np.float64(2), None)})
    lines = table.render().splitlines()
    assert lines[0] == "**a title**" and lines[-1] == "- a note"
    assert len({len(line) for line in lines[2:6]}) == 1
    assert "125.5" in lines[4] and "1 (> 100)" in lines[4]
    whole = json.loads(table.to_json())
    assert whole["rows"][1]["mean_mm"] is None and whole["rows"][0]["max_mm"] == 250
    assert whole["details"] == {"x": [1.0, None], "3": [2.0, None]}


def test_errors_are_told_by_region_of_the_body(body: BodyModel) -> None:
    """True points are vertices of the body; in one of three scans the hands are clasped; hands alone are wrong."""
    rng = np.random.default_rng(0)
    vertices, faces = body.data.v_template.astype(float), body.data.faces
    chosen = rng.permutation(len(vertices))[:600]
    surfaces = np.stack([vertices, vertices * 1.05, vertices * 0.95])
    true = surfaces[:, chosen].copy()
    hand = np.array(["wrist" in n or (n[-1] in "123" and "spine" not in n) for n in body.joint_names])
    is_hand = hand[body.data.weights[chosen].argmax(1)]
    left = vertices[chosen, 0] > 0
    true[0, is_hand & left] = surfaces[0][chosen[is_hand & ~left]].mean(0)
    of = regions_of(body.data, faces, surfaces, true)
    assert of is not None and len(of.region) == 600
    assert (np.array(list(REGIONS))[of.region[is_hand]] == "hands").mean() > 0.9
    assert (of.halves.points[is_hand & left] == 1).mean() > 0.9 and (
        of.halves.points[is_hand & ~left] == -1
    ).mean() > 0.9
    assert regions_of(body.data, faces, surfaces[:, :-1], true) is None
    errors = np.zeros((3, 3, 600), np.float32)
    errors[:, :, of.region == list(REGIONS).index("hands")] = 70.0
    errors[0, 1] = np.nan
    table = region_table(
        "t", errors, of, {"same person": ~np.eye(3, dtype=bool), "other person": np.zeros((3, 3), bool)}
    )
    (row,) = table.rows
    cells = dict(zip(table.head, row, strict=True))
    assert cells["hands"] == "70.0 / 70.0" and cells["trunk"] == "0.0 / 0.0" == cells["feet"]
    share = float(np.mean(of.region != list(REGIONS).index("hands")))
    assert cells["under 50 mm"] == f"{share:.1%}" and cells["under 100 mm"] == "100.0%"
