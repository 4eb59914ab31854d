"""Measures and landmarks: of a known body, whatever pose and model it has, and what is written of them."""

import csv
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from command_line import run as lvdreg
from fake_registration import fake_registration
from PIL import Image
from real_data import real_path

from lvdreg.base.errors import OutputError, RegistrationError, ScanError
from lvdreg.base.shapes import FloatArray
from lvdreg.body.catalogue import load_body
from lvdreg.body.chosen import registered_body
from lvdreg.body.model import BodyData, BodyModel, BodyParams
from lvdreg.body.smplx_names import named_params
from lvdreg.body.transfer import Correspondence
from lvdreg.evaluate import evaluate_landmarks, evaluate_measures
from lvdreg.evaluate import measures as evaluated
from lvdreg.evaluate.measures import draw_measured
from lvdreg.geometry.mesh import closest_point_on_mesh
from lvdreg.measure import files
from lvdreg.measure import model as models
from lvdreg.measure.definitions import BODY, HAND, Girth, Height, Measure, Straight
from lvdreg.measure.definitions import Path as PathOver
from lvdreg.measure.draw import measures_sheet
from lvdreg.measure.files import MEASURES, Sheet, lnd_text, measures_report, save, write_table
from lvdreg.measure.measured import FACTORS, FLOOR_MM, take
from lvdreg.measure.model import StandingModel, standing_model
from lvdreg.measure.places import caesar_names, on_template
from lvdreg.measure.readings import StandingBody
from lvdreg.measure.shape import Shape, shape_under
from lvdreg.measure.subject import SCAN_TO_BODY, SCAN_TO_SURFACE, read_subject
from lvdreg.result.files import write_json
from lvdreg.result.ply import write_ply
from lvdreg.result.scan import Registration
from lvdreg.scan.model import Scan, scan_from_arrays
from lvdreg.synth.clothes.layers import Wardrobe

T_SCAN_MODEL = np.array([[0, -1000, 0, 3.0], [1000, 0, 0, 4.0], [0, 0, 1000, 5.0], [0, 0, 0, 1.0]])
"""The scan is in millimetres; what is up in the model is -x of the scan, for which the report says -x."""
MEAN_MM = {
    "stature": (1650, 1750), "crotch height": (740, 840), "waist girth": (750, 880), "hip girth": (950, 1050),
    "bust girth": (880, 1000), "neck girth": (320, 380), "head girth": (540, 580), "thigh girth": (520, 620),
    "knee girth": (340, 400), "calf girth": (340, 400), "ankle girth": (220, 300), "minimum leg girth": (200, 250),
    "upper arm girth": (260, 320), "wrist girth": (145, 175), "hand length": (175, 205), "foot length": (240, 270),
    "back waist length": (380, 440), "shoulder length": (120, 170), "shoulder breadth": (360, 430),
    "head breadth": (138, 160), "head length": (180, 205), "armscye girth": (350, 450), "inside": (0, 0),
}  # fmt: skip
"""Between what the mean adult must lie: means of men and women in ANSUR II, a deviation either way."""


def body() -> StandingModel:
    return standing_model("anny")


def measure(name: str) -> Measure:
    return next(measure for measure in BODY if measure.name == name)


def some_betas(seed: int, count: int = 50) -> FloatArray:
    return np.random.default_rng(seed).normal(0, 0.8, count)


def write_result(
    folder: Path, name: str = "anny", side: str | None = None, seed: int = 0, betas: FloatArray | None = None
) -> FloatArray:
    """What ``lvdreg register --model anny+d`` leaves, as far as measures read it; returns the betas."""
    folder.mkdir(parents=True)
    posed, rng = registered_body(name, side), np.random.default_rng(seed)
    betas = some_betas(1, posed.num_betas) if betas is None else betas
    arrays = (betas, rng.normal(0, 0.3, (posed.num_joints, 3)), np.array([0.3, -0.2, 0.5]))
    params = BodyParams(*(torch.from_numpy(np.float32(array)) for array in arrays))
    params = replace(params, displacements=torch.zeros(posed.num_vertices, 3))
    surface = posed(params).vertices.double().numpy() @ T_SCAN_MODEL[:3, :3].T + T_SCAN_MODEL[:3, 3]
    sigma = np.full(len(surface), 6.0)
    properties = {"sigma": sigma, "sigma_descent": 2 * sigma}
    write_ply(folder / "registered.ply", surface, posed.data.faces, properties=properties)
    named = {k: np.atleast_2d(v) for k, v in named_params(posed, params).items()}
    np.savez(folder / "params.npz", **named, T_scan_model=T_SCAN_MODEL, model=np.array(f"{name}+d"))
    files = dict.fromkeys(("params.npz", "registered.ply"), "")
    scan = {"points": 9, "unit": "mm", "unit_is_guess": False, "up": "-x"}
    report = {"lvdreg": "0", "name": folder.name, "verdict": "good", "scan": scan, "side": side, "files": files}
    write_json(folder / "report.json", report | {"metrics": {"body_scale": 1.0}})
    return betas


# --- Definitions ------------------------------------------------------------------------------------------------------


def test_there_are_enough_measures_and_each_can_be_taken_of_the_mean_person() -> None:
    assert len(BODY) >= 40 and len({m.name for m in BODY}) == len(BODY)
    standing = StandingBody.of(body(), np.zeros(50))
    found = {m.name: 1000 * standing.read(m.how).value for m in BODY}
    outside = {
        name: found[name] for name, (low, high) in MEAN_MM.items() if name in found and not low <= found[name] <= high
    }
    assert not outside
    assert found["shoulder width"] > found["shoulder breadth"] > found["chest breadth"]
    assert found["arm length"] >= found["upper arm length"] + found["lower arm length"] - 1e-6


@pytest.mark.parametrize("seed", range(3))
def test_measures_can_be_taken_of_everybody(seed: int) -> None:
    people = load_body("anny").data.people
    assert people is not None
    found = take("anny", Shape(np.float64(people[seed * 400]), np.eye(50)))
    assert not found.missing and all(m.value_mm > 0 and np.isfinite(m.sigma_mm) for m in found.measurements)


def test_a_hand_is_measured() -> None:
    found = take("anny-hand", Shape(np.zeros(24), np.eye(24)))
    values = {m.measure.name: m.value_mm for m in found.measurements}
    assert not found.missing and len(values) == len(HAND)
    assert 170 < values["hand length"] < 200 and 70 < values["hand breadth"] < 95
    assert values["middle finger length"] > values["index finger length"] > values["little finger length"]


def test_landmarks_are_caesars_lie_on_the_skin_and_are_symmetric() -> None:
    data = load_body("anny").data
    places = on_template(data)
    assert len(caesar_names()) == 72 and set(caesar_names()) <= set(places)
    points = np.stack(list(places.values()))
    assert closest_point_on_mesh(points, np.float64(data.v_template), data.faces).distance.max() < 1e-3
    for name in places:
        if name.startswith("Lt. "):
            np.testing.assert_allclose(places[name] * [-1, 1, 1], places[name.replace("Lt.", "Rt.")])
    y = {name: place[1] for name, place in places.items()}
    order = ["Sellion", "Supramenton", "Cervicale", "Suprasternale", "Substernale", "Crotch", "Lt. Sphyrion"]
    assert [y[name] for name in order] == sorted((y[name] for name in order), reverse=True)
    assert places["Lt. Humeral Lateral Epicn"][0] > places["Lt. Humeral Medial Epicn"][0] > 0
    assert places["Lt. Radial Styloid"][2] > places["Lt. Ulnar Styloid"][2]


@pytest.mark.real
def test_names_are_those_of_the_landmark_files() -> None:
    known = json.loads(real_path("bodies/faust/landmarks/000.json").read_text(encoding="utf-8"))
    assert set(known) == set(caesar_names())


# --- How a measure changes --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "tolerance"),
    [("stature", 1e-6), ("crotch height", 1e-6), ("shoulder breadth", 1e-6), ("foot length", 0.02),
     ("waist girth", 0.1), ("upper arm girth", 0.1), ("back waist length", 0.1)],
)  # fmt: skip
def test_slopes_are_finite_differences(name: str, tolerance: float) -> None:
    model, how, betas = body(), measure(name).how, some_betas(2)
    slope = np.einsum("vi,vik->k", StandingBody.of(model, betas).read(how).slopes, model.shapes)
    change = np.zeros(50)
    for k in range(0, 50, 7):
        step = 1e-4 * np.eye(50)[k]
        pair = [StandingBody.of(model, betas + sign * step).read(how).value for sign in (1, -1)]
        change[k] = (pair[0] - pair[1]) / 2e-4
    chosen = slice(0, 50, 7)
    # Of a girth the tape stays on the skin as this moves, where the level of the plane would not.
    assert np.linalg.norm(slope[chosen] - change[chosen]) <= tolerance * np.linalg.norm(change[chosen]) + 1e-7


def test_a_larger_person_is_larger_by_the_same_factor_and_so_is_sigma() -> None:
    shape = Shape(some_betas(3), np.eye(50))
    plain, twice = take("anny", shape), take("anny", shape, scale=2.0)
    for one, two in zip(plain.measurements, twice.measurements, strict=True):
        assert two.value_mm == pytest.approx(2 * one.value_mm)
        assert one.sigma_mm < two.sigma_mm <= 2 * one.sigma_mm


def test_a_known_stature_fixes_the_scale() -> None:
    shape = Shape(some_betas(3), 0.01 * np.eye(50))
    plain = {m.measure.name: m for m in take("anny", shape).measurements}
    known = {m.measure.name: m for m in take("anny", shape, height=1.8).measurements}
    assert known["stature"].value_mm == pytest.approx(1800) and known["stature"].sigma_mm == 0
    factor = 1800 / plain["stature"].value_mm
    assert known["waist girth"].value_mm == pytest.approx(factor * plain["waist girth"].value_mm)
    # Of the crotch height only its share of the stature is unsure.
    model, drawn = body(), shape.betas + np.random.default_rng(0).normal(0, 0.1, (300, 50))
    standing = [StandingBody.of(model, betas) for betas in drawn]
    shares = [one.read(measure("crotch height").how).value / one.read(measure("stature").how).value for one in standing]
    sigma = np.hypot(FACTORS["height"] * 1800 * np.std(shares), FLOOR_MM)
    assert known["crotch height"].sigma_mm == pytest.approx(sigma, rel=0.1)


def test_sigma_is_the_posteriors() -> None:
    model, shape = body(), Shape(np.zeros(50), np.diag(np.linspace(0.01, 0.05, 50)))
    found = take("anny", shape).measurements[0]
    drawn = np.random.default_rng(0).normal(0, np.sqrt(np.diag(shape.covariance)), (400, 50))
    heights = [np.ptp(model.standing(betas)[:, 1]) for betas in drawn]
    assert found.sigma_mm == pytest.approx(np.hypot(FACTORS["height"] * 1000 * np.std(heights), FLOOR_MM), rel=0.1)


# --- The shape under a surface ----------------------------------------------------------------------------------------


def between(betas: FloatArray, true: FloatArray) -> FloatArray:
    """Displacements at rest that take one shape to another, but for the joints that move along."""
    return np.float64(load_body("anny").data.shapedirs) @ (true - betas)


def test_of_bare_people_the_surface_is_measured() -> None:
    model, true = body(), some_betas(4)
    start = 0.8 * true
    sigma = np.full(len(model.mean), 0.01)
    found = shape_under(model, start, between(start, true), sigma, 5.0, bare=True)
    how = measure("waist girth").how
    values = [StandingBody.of(model, betas).read(how).value for betas in (start, found.betas, true)]
    assert abs(values[1] - values[2]) < 0.25 * abs(values[0] - values[2])
    assert np.linalg.eigvalsh(found.covariance).min() > 0


def test_loose_clothes_make_thinner_and_less_sure() -> None:
    model, betas = body(), np.zeros(50)
    sigma, how = np.full(len(model.mean), 0.01), measure("waist girth").how
    found = [shape_under(model, betas, None, sigma, gap, bare=False) for gap in (0.5, 4.0, 9.0)]
    girths = [StandingBody.of(model, shape.betas).read(how).value for shape in found]
    assert girths[0] > girths[1] > girths[2] > 0.7 * girths[0]
    sure = [np.trace(shape.covariance) for shape in found]
    assert sure[0] < sure[1] < sure[2]


# --- Results ----------------------------------------------------------------------------------------------------------


def test_poses_and_frames_change_nothing(tmp_path: Path) -> None:
    found = []
    for seed in (0, 1):
        write_result(tmp_path / str(seed), seed=seed)
        found.append(read_subject(tmp_path / str(seed)).measured())
    for one, two in zip(found[0].measurements, found[1].measurements, strict=True):
        assert one.value_mm == pytest.approx(two.value_mm, abs=1e-3)
    betas = some_betas(1)
    expected = StandingBody.of(body(), betas).read(measure("stature").how).value
    assert found[0].measurements[0].value_mm == pytest.approx(1000 * expected, abs=6)


def test_landmarks_are_in_the_scans_frame_and_found_on_it(tmp_path: Path) -> None:
    write_result(tmp_path / "p")
    subject = read_subject(tmp_path / "p")
    in_scan = subject.saved.surface @ T_SCAN_MODEL[:3, :3].T + T_SCAN_MODEL[:3, 3]
    marks = {mark.name: mark for mark in subject.landmarks()}
    np.testing.assert_allclose(marks["Sellion"].surface, body().place("Sellion").points(in_scan)[0], atol=1e-3)
    np.testing.assert_allclose(marks["Sellion"].surface, marks["Sellion"].body, atol=1e-2)
    assert marks["Sellion"].scan is None and marks["Sellion"].sigma_mm == pytest.approx(6, rel=0.01)

    lower = in_scan[in_scan @ T_SCAN_MODEL[:3, 1] < np.median(in_scan @ T_SCAN_MODEL[:3, 1])]
    projected = {mark.name: mark for mark in subject.landmarks(scan_from_arrays(lower, name="legs"))}
    seen = [name for name, mark in projected.items() if mark.scan is not None]
    assert "Lt. Sphyrion" in seen and "Sellion" not in seen
    assert np.linalg.norm(projected["Lt. Sphyrion"].place - marks["Lt. Sphyrion"].surface) < 30


def test_a_left_hand_has_the_measures_of_its_mirror_image(tmp_path: Path) -> None:
    for side in ("left", "right"):
        write_result(tmp_path / side, "anny-hand", side)
    left, right = (read_subject(tmp_path / side) for side in ("left", "right"))
    assert [m.value_mm for m in left.measured().measurements] == [m.value_mm for m in right.measured().measurements]
    assert Sheet("left", left, left.measured(), False).what == "skin"


def test_definitions_are_carried_to_another_model(monkeypatch: pytest.MonkeyPatch) -> None:
    """Another model: the free body with its vertices in another order, and a correspondence that knows it."""
    data = load_body("anny").data
    count = len(data.v_template)
    order = np.random.default_rng(0).permutation(count)
    other = permuted(data, order)
    at = closest_point_on_mesh(np.float64(other.v_template), np.float64(data.v_template), data.faces)
    found = Correspondence(
        "anny", at.face, at.bary, np.zeros((count, 3)), np.zeros(count), np.zeros(count, bool), 1.0, ""
    )
    monkeypatch.setattr(models, "load_body", lambda name: BodyModel(other) if name == "other" else load_body(name))
    monkeypatch.setattr(models, "correspondence", lambda name: found)
    carried, betas = standing_model.__wrapped__("other"), some_betas(5)
    one, two = StandingBody.of(carried, betas), StandingBody.of(body(), betas)
    np.testing.assert_allclose(carried.places.points(one.vertices), body().places.points(two.vertices), atol=2e-4)
    for each in BODY:
        assert one.read(each.how).value == pytest.approx(two.read(each.how).value, abs=1e-3), each.name


def permuted(data: BodyData, order: np.ndarray) -> BodyData:
    inverse = np.argsort(order)
    return replace(
        data, name="other", v_template=data.v_template[order], shapedirs=data.shapedirs[order],
        weights=data.weights[order], faces=inverse[data.faces], mirror_vertices=None, vt=None, ft=None,
    )  # fmt: skip


def test_what_is_no_result_of_a_scan_is_said_so(tmp_path: Path) -> None:
    with pytest.raises(RegistrationError, match="no such file"):
        read_subject(tmp_path / "nothing")
    write_result(tmp_path / "p")
    surface = read_subject(tmp_path / "p").saved.surface
    write_ply(tmp_path / "p/registered.ply", surface, body().faces)
    with pytest.raises(RegistrationError, match="expected sigma and sigma_descent of every vertex"):
        read_subject(tmp_path / "p")


# --- Files and the command --------------------------------------------------------------------------------------------


@pytest.fixture
def no_drawing(monkeypatch: pytest.MonkeyPatch) -> None:
    """Drawing takes seconds, and has a test of its own."""
    monkeypatch.setattr(files, "measures_sheet", lambda *_: Image.new("RGB", (4, 4)))


@pytest.mark.usefixtures("no_drawing")
def test_files_of_a_person(tmp_path: Path) -> None:
    write_result(tmp_path / "p")
    subject = read_subject(tmp_path / "p")
    sheet = Sheet("p", subject, subject.measured(bare=True), True)
    save(sheet, tmp_path / "out/p", subject.landmarks())
    report = json.loads((tmp_path / "out/p" / MEASURES).read_text(encoding="utf-8"))
    assert set(report["files"]) == {path.name for path in (tmp_path / "out/p").iterdir()}
    assert report == json.loads(json.dumps(measures_report(sheet)))
    assert report["measured"] == "skin" and not report["size_is_guess"] and len(report["measures"]) == len(BODY)
    marks = json.loads((tmp_path / "out/p/landmarks.json").read_text(encoding="utf-8"))["landmarks"]
    assert sum(mark["caesar"] for mark in marks.values()) == 72
    save(sheet, tmp_path / "out/p", subject.landmarks())
    (tmp_path / "out/q").mkdir()
    (tmp_path / "out/q" / MEASURES).write_text("mine")
    with pytest.raises(OutputError, match="not lvdreg's"):
        save(sheet, tmp_path / "out/q", ())


def test_caesars_format_is_millimetres_with_z_up(tmp_path: Path) -> None:
    write_result(tmp_path / "p")
    subject = read_subject(tmp_path / "p")
    marks = subject.landmarks()
    rows = [
        line.split(maxsplit=7) for line in lnd_text(Sheet("p", subject, subject.measured(), False), marks).splitlines()
    ]
    rows = [row for row in rows if len(row) == 8 and row[0].isdigit()]
    assert [row[7] for row in rows] == [mark.name for mark in marks]
    points = {row[7]: np.float64(row[4:7]) for row in rows}
    radii = np.array([np.hypot(*points[row[7]][:2]) for row in rows])
    np.testing.assert_allclose(radii, [float(row[3]) for row in rows], atol=0.02)
    # The scan's unit is the millimetre, and its -x is up.
    np.testing.assert_allclose([points[mark.name][2] for mark in marks], [-mark.place[0] for mark in marks], atol=0.01)
    between_two = [np.linalg.norm(points[a] - points[b]) for a, b in (("Sellion", "Cervicale"),)]
    places = {mark.name: mark.place for mark in marks}
    assert between_two[0] == pytest.approx(np.linalg.norm(places["Sellion"] - places["Cervicale"]), abs=0.02)


def test_every_measure_is_drawn() -> None:
    found = take("anny", Shape(np.zeros(50), 0.001 * np.eye(50)))
    sheet = measures_sheet(found, "mean", "skin")
    assert isinstance(sheet, Image.Image)
    from lvdreg.measure.draw import CAPTION, COLOURS, COLUMNS, HEAD, MARGIN, TILE

    pixels = np.asarray(sheet, np.int64)
    for number, each in enumerate(found.measurements):
        left, top = MARGIN + number % COLUMNS * TILE, HEAD + number // COLUMNS * (TILE + CAPTION)
        tile = pixels[top : top + TILE, left : left + TILE]
        near = np.abs(tile - COLOURS[each.measure.kind]).sum(2) < 150
        assert near.sum() > 10, each.measure.name


@pytest.mark.usefixtures("no_drawing")
def test_the_command_measures_folders_and_writes_a_table(tmp_path: Path) -> None:
    for name in ("a", "b"):
        write_result(tmp_path / "in" / name)
    write_result(tmp_path / "more/a", "anny-hand", "left")
    ran = lvdreg("measure", str(tmp_path / "in"), str(tmp_path / "more/a"), "--out", str(tmp_path / "out"))
    assert ran.exit_code == 0, ran.output
    with (tmp_path / "out/measures/measures.csv").open(encoding="utf-8") as file:
        rows = {row["name"]: row for row in csv.DictReader(file)}
    assert set(rows) == {"a", "b", "a-2"} and rows["a-2"]["stature_mm"] == ""
    assert float(rows["a"]["stature_mm"]) > 1000 and float(rows["a"]["waist_girth_sigma_mm"]) > 0
    assert float(rows["a-2"]["index_finger_breadth_proximal_mm"]) > 10


@pytest.mark.parametrize(
    ("words", "status", "said"),
    [(["nowhere"], 1, "could not be measured"), (["in", "--height", "17"], 2, "--height"),
     (["in", "--height", "1.7"], 2, "of one person")],
)  # fmt: skip
def test_what_cannot_be_measured(
    words: list[str], status: int, said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("a", "b"):
        write_result(tmp_path / "in" / name)
    ran = lvdreg("measure", *words)
    assert ran.exit_code == status and said in ran.output


def test_a_table_of_others_is_not_replaced(tmp_path: Path) -> None:
    write_result(tmp_path / "p")
    subject = read_subject(tmp_path / "p")
    (tmp_path / "t.csv").write_text("mine")
    with pytest.raises(OutputError):
        write_table(tmp_path / "t.csv", [Sheet("p", subject, subject.measured(), False)])


def test_every_landmark_that_a_definition_names_is_there() -> None:
    for each, model in [(m, body()) for m in BODY] + [(m, standing_model("anny-hand")) for m in HAND]:
        how = each.how
        match how:
            case Height():
                names = how.top + how.bottom
            case Straight():
                names = how.start + how.end
            case PathOver():
                names = how.places
                assert len(how.outward) == len(names) - 1
            case Girth():
                names = how.plane.at + how.plane.to
                assert set(how.plane.only) <= set(model.parts)
            case _:
                names = ()
        assert set(names) <= {*model.names, *model.joint_names}, each.name


# --- Benchmarks -------------------------------------------------------------------------------------------------------


def test_the_benchmark_of_measures_knows_a_right_answer_from_a_wrong_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    drawn: list[FloatArray] = []

    def draw(*what: object) -> tuple[Scan, FloatArray]:
        scan, betas = draw_measured(*what)  # type: ignore[arg-type]
        drawn.append(betas)
        return scan, betas

    def register(scan: Scan, **_: object) -> Registration:
        off = 0.0 if scan.name.startswith("naked") else 0.3
        params = {"betas": np.float32(drawn[-1] + off), "displacements": np.zeros((6999, 3), np.float32)}
        metrics = {SCAN_TO_BODY: 0.5, SCAN_TO_SURFACE: 0.5, "body_scale": 1.0}
        surface = {name: np.zeros((6999, 3)) for name in ("vertices", "body_vertices")}
        return fake_registration(params=params, metrics=metrics, sigma_mm=np.full(6999, 5.0), **surface)

    monkeypatch.setattr(evaluated, "POINTS", 500)
    monkeypatch.setattr(evaluated, "draw_measured", draw)
    monkeypatch.setattr(evaluated, "register", register)
    table = evaluate_measures(1, 7, out=tmp_path)
    errors = {wear: np.abs(table.details[wear]["errors_mm"]).mean() for wear in ("naked", "dressed")}
    assert errors["naked"] < 1.0 < 3.0 < errors["dressed"]
    assert "waist girth" in table.render() and "within 1 sigma" in table.render()


def test_synthetic_people_are_the_same_naked_and_dressed() -> None:
    posed = load_body("anny")
    naked, betas = draw_measured(posed, 3, 1, None)
    dressed, same = draw_measured(posed, 3, 1, Wardrobe(posed, evaluated.DRESSED))
    np.testing.assert_array_equal(betas, same)
    assert not np.array_equal(draw_measured(posed, 4, 1, None)[1], betas)
    assert np.ptp(dressed.points, axis=0).prod() > np.ptp(naked.points, axis=0).prod()


def test_the_benchmark_of_landmarks_measures_their_distance(tmp_path: Path) -> None:
    write_result(tmp_path / "results/000")
    marks = read_subject(tmp_path / "results/000").landmarks()
    (tmp_path / "given").mkdir()
    places = {mark.name: (mark.place + [0, 0, 10]).tolist() for mark in marks[:3]}
    (tmp_path / "given/000.json").write_text(json.dumps({**places, "Nobody's": [0, 0, 0]}))
    table = evaluate_landmarks(tmp_path / "given", tmp_path / "results")
    assert "| all " in table.render() and set(table.details["errors_mm"]) == set(places)
    np.testing.assert_allclose(list(table.details["errors_mm"].values()), 10, atol=1e-9)
    with pytest.raises(ScanError, match="none that belong together"):
        evaluate_landmarks(tmp_path, tmp_path / "results")
    (tmp_path / "given/000.json").write_text("[1]")
    with pytest.raises(RegistrationError, match="expected places by name"):
        evaluate_landmarks(tmp_path / "given", tmp_path / "results")
