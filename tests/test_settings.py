"""The settings of users: each does what it says, files say what is wrong in them, and nothing said twice differs."""

import re
from dataclasses import asdict, fields, is_dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from conftest import make_toy_body
from fake_network import KnownNet
from fake_photo import scene
from fake_photo import standing as standing_before_a_camera
from scans import disturbed, dressed, person, scan_of, standing, vertices_of
from typer.testing import CliRunner

import lvdreg
from lvdreg.base.errors import UsageError
from lvdreg.base.shapes import FloatArray
from lvdreg.body.catalogue import load_body
from lvdreg.body.model import BodyModel, BodyParams
from lvdreg.cli import app
from lvdreg.descent.boxes import Box
from lvdreg.descent.scan import descend_scan, view_rotations
from lvdreg.fit.correspond import Target
from lvdreg.fit.displace import displace
from lvdreg.fit.kinematics import State
from lvdreg.fit.photo import evidence_of
from lvdreg.fit.scan import refine_body
from lvdreg.fit.together import refine_to_photo
from lvdreg.fit.vertices import Fit, fit_body
from lvdreg.geometry.mesh import closest_point_on_mesh, mesh_normals
from lvdreg.image.crop import CutConfig, crop_around
from lvdreg.pipeline.config import HAND, ImageRegisterConfig, RegisterConfig, image_config, scan_config
from lvdreg.scan.clean import clean_scan
from lvdreg.scan.model import Scan
from lvdreg.settings import COMMANDS, KNOBS, QUALITIES, Settings, as_toml, preset, read_file, settings_of


def configured(command: str = "register", **settings: Any) -> RegisterConfig:
    return scan_config(Settings(**settings), command)


@pytest.fixture(scope="module")
def toy() -> BodyModel:
    return BodyModel(make_toy_body())


def held(params: BodyParams) -> Fit:
    return Fit(params, 1.0, 0.0, True)


def off_mm(body: BodyModel, params: BodyParams, points: FloatArray) -> float:
    """Mean distance from points to a posed body."""
    return float(1000 * closest_point_on_mesh(points, vertices_of(body, params), body.data.faces).distance.mean())


def test_standard_quality_is_what_the_stages_have_themselves() -> None:
    assert configured() == RegisterConfig() and configured("hands") == HAND
    assert image_config(Settings()) == ImageRegisterConfig()
    for command, config in (("register", RegisterConfig()), ("hands", HAND)):
        said, milli = preset("standard", command), 0.001
        own = {
            "num_points": config.clean.num_points,
            "num_views": config.views.num_views,
            "refine_iterations": config.refine.max_iterations,
            "outlier_distance_mm": config.refine.kernel[1] / milli,
            "smoothing_mm": config.displace.smoothing[1] / milli,
            "shape_prior": config.fit.prior.shape_weight,
            "pose_prior": config.refine.prior.pose_weight,
            "remove_surroundings": config.clean.remove_planes,
            "max_sigma_mm": config.verdict.sigma_mean_mm[0],
            "max_distance_mm": config.verdict.scan_to_registered_mm[0],
        }
        assert own == {name: pytest.approx(said[name], rel=0.01) for name in own}
        assert set(said) - set(own) == ({"quality", "clothes"} if command == "register" else {"quality"})
    said, photo = preset("standard", "image"), ImageRegisterConfig()
    assert said["refine_iterations"] == photo.silhouette.max_iterations
    assert said["outlier_distance_mm"] == 1000 * photo.silhouette.kernel[1]
    assert said["max_sigma_mm"] == photo.verdict.sigma_median_mm[0]


def test_what_is_good_is_the_users_to_say() -> None:
    verdict = configured(max_sigma_mm=5.0, max_distance_mm=10.0).verdict
    assert verdict.sigma_mean_mm == (5.0, 150.0) and verdict.scan_to_registered_mm == (10.0, 60.0)
    assert verdict.registered_to_scan_mm == pytest.approx((6.0, 40.0)), "the way back in proportion"
    # Nobody fails by a limit that is not even good's.
    assert configured(max_sigma_mm=100.0).verdict.sigma_mean_mm == (100.0, 200.0)


def configs_of(config: Any) -> set[type]:
    """The classes of nested settings."""
    inner = [getattr(config, item.name) for item in fields(config)]
    return {type(config)}.union(*(configs_of(value) for value in inner if is_dataclass(value)))


def test_private_settings_say_where_they_come_from() -> None:
    classes = configs_of(RegisterConfig()) | configs_of(HAND) | configs_of(ImageRegisterConfig())
    silent = {kind.__name__ for kind in classes if not re.search(r"[Cc]hosen", kind.__doc__ or "")}
    # These two only hold the others.
    assert silent == {"RegisterConfig", "ImageRegisterConfig"}


@pytest.mark.parametrize("command", COMMANDS)
@pytest.mark.parametrize("name", [name for name in KNOBS if name != "quality"])
def test_every_setting_of_a_command_changes_its_stages(command: str, name: str) -> None:
    knob = KNOBS[name]
    if command not in knob.standard:
        with pytest.raises(UsageError, match=f"{name}: expected it only for"):
            settings_of({name: next(iter(knob.standard.values()))}, command)
        return
    other = not knob.standard[command] if knob.kind is bool else knob.kind(knob.high)
    settings = Settings(**{name: other})
    changed = image_config(settings) if command == "image" else scan_config(settings, command)
    assert changed != (image_config(Settings()) if command == "image" else scan_config(Settings(), command))


@pytest.mark.parametrize("quality", ["fast", "best"])
@pytest.mark.parametrize("command", COMMANDS)
def test_a_quality_is_the_settings_that_are_shown_for_it(quality: str, command: str) -> None:
    written_out = {name: value for name, value in preset(quality, command).items() if name != "quality"}
    make = image_config if command == "image" else lambda settings: scan_config(settings, command)
    assert make(Settings(quality=quality)) == make(Settings(**written_out))  # type: ignore[arg-type]


def test_more_points_show_finer_detail(toy: BodyModel) -> None:
    """A few points of a bumpy surface miss its bumps."""
    params = standing(toy, 0)
    naked = vertices_of(toy, params)
    height = 0.02 * np.random.default_rng(0).normal(size=len(naked))
    target = scan_of(toy, naked + height[:, None] * mesh_normals(naked, toy.data.faces), 30_000)
    few, many = (
        displace(toy, held(params), target, configured(num_points=n, smoothing_mm=10).displace) for n in (1_000, 30_000)
    )
    assert off_mm(toy, many.params, target.points) < 0.8 * off_mm(toy, few.params, target.points)
    assert configured(num_points=6_000).refine.fine_points == 1_000


def test_as_many_views_are_looked_at_as_asked() -> None:
    points = np.random.default_rng(0).uniform(-0.8, 0.8, (500, 3))
    for count in (1, 3, 8):
        config = configured(num_views=count)
        net = KnownNet(torch.zeros(40, 3), 400)
        views = descend_scan(
            net, points, [Box("+y", np.eye(4))], view_rotations(config.views), config.views, config.descent
        )
        assert len(views.Rs_view_unit) == len(views.features.points) == count


def test_more_steps_of_refinement_come_nearer(toy: BodyModel) -> None:
    truth = person(toy, 1, 0.2)
    surface = vertices_of(toy, truth)
    start, target = held(disturbed(toy, truth, 2, angle=0.15)), scan_of(toy, surface, 3_000)
    errors = [
        np.linalg.norm(
            vertices_of(toy, refine_body(toy, start, target, None, configured(refine_iterations=n).refine).params)
            - surface,
            axis=1,
        ).mean()
        for n in (2, 25)
    ]
    assert errors[1] < 0.5 * errors[0]


def test_without_clothes_the_body_reaches_the_scan() -> None:
    body = load_body("anny")
    params = standing(body, 1)
    target = scan_of(body, dressed(body, vertices_of(body, params)), 3_000)
    quick = {"num_points": 6_000, "refine_iterations": 12}
    clothed, bare = (
        refine_body(body, held(params), target, None, configured(clothes=clothes, **quick).refine).params
        for clothes in (True, False)
    )
    assert off_mm(body, bare, target.points) < 0.8 * off_mm(body, clothed, target.points)


def test_outliers_pull_from_as_far_as_they_may(toy: BodyModel) -> None:
    """Beside the trunk a patch of scan hangs 8 cm off, facing as the trunk does."""
    params = standing(toy, 0)
    surface = vertices_of(toy, params)
    own = scan_of(toy, surface, 3_000)
    front = own.normals[:, 2] > 0.7
    target = Target(np.where(front[:, None], own.points + [0, 0, 0.08], own.points), own.normals)
    near, far = (
        refine_body(toy, held(params), target, None, configured(outlier_distance_mm=d, clothes=False).refine).params
        for d in (5, 200)
    )
    moved = [np.linalg.norm(vertices_of(toy, p) - surface, axis=1).mean() for p in (near, far)]
    assert moved[1] > 1.5 * moved[0]


def test_longer_smoothing_leaves_less_detail(toy: BodyModel) -> None:
    params = standing(toy, 0)
    naked = vertices_of(toy, params)
    height = 0.02 * np.random.default_rng(0).normal(size=len(naked))
    target = scan_of(toy, naked + height[:, None] * mesh_normals(naked, toy.data.faces), 8_000)
    fine, coarse = (displace(toy, held(params), target, configured(smoothing_mm=s).displace) for s in (8, 150))
    lengths = [
        fit.params.displacements.double().norm(dim=-1).std()
        for fit in (fine, coarse)
        if fit.params.displacements is not None
    ]
    assert lengths[1] < 0.7 * lengths[0]
    assert off_mm(toy, coarse.params, target.points) > 1.5 * off_mm(toy, fine.params, target.points)


@pytest.mark.parametrize(("name", "what"), [("shape_prior", "betas"), ("pose_prior", "pose")])
def test_strong_priors_hold_bodies_back(name: str, what: str) -> None:
    body = load_body("anny")
    seen = vertices_of(body, person(body, 3, 0.25))
    start, sigma = torch.from_numpy(seen).float(), torch.full((len(seen),), 0.03)
    sizes = []
    for weight in (0.1, 30):
        config = configured(num_points=6_000, refine_iterations=6, **{name: weight})
        fit = fit_body(body, start, sigma, config.fit)
        refined = refine_body(body, fit, scan_of(body, seen, 2_000), sigma, config.refine)
        # The root may turn as it likes.
        states = [State.from_params(params) for params in (fit.params, refined.params)]
        sizes.append([np.linalg.norm(state.betas if what == "betas" else state.pose[1:]) for state in states])
    assert sizes[1][0] < 0.8 * sizes[0][0] and sizes[1][1] < 0.8 * sizes[0][1]


def test_surroundings_stay_if_they_are_to(toy: BodyModel) -> None:
    rng = np.random.default_rng(0)
    figure = scan_of(toy, vertices_of(toy, replace(standing(toy, 0), transl=torch.zeros(3))), 6_000).points
    floor = np.column_stack(
        [rng.uniform(-2, 2, 6_000), np.full(6_000, figure[:, 1].min() - 0.005), rng.uniform(-2, 2, 6_000)]
    )
    scan = Scan(np.concatenate([figure, floor]), None, None, None, "figure")
    gone, kept = (clean_scan(scan, configured(remove_surroundings=r).clean) for r in (True, False))
    assert len(gone.points) < 6_500 and len(kept.points) > 11_000
    assert any("floor" in note for note in gone.notes) and not any("floor" in note for note in kept.notes)


@pytest.fixture(scope="module")
def photographed() -> tuple[BodyModel, Any, Fit]:
    """A body, the crop of its photo, and where it stands in that crop."""
    body = load_body("anny")
    one = scene(body, standing_before_a_camera(body))
    crop = crop_around(one.rgb, one.shown.mask, CutConfig(), 256)
    size = crop.side / 2 / one.camera.scale
    shift = np.append(crop.to_unit(one.camera.centre) * size, -one.joints[0, 2])
    moved = replace(one.params, transl=one.params.transl + torch.from_numpy(shift).float())
    return body, (crop, size), held(moved)


def in_photo(photographed: tuple[BodyModel, Any, Fit], start: Fit, **settings: Any) -> Fit:
    body, (crop, size), _ = photographed
    config = image_config(Settings(**settings))
    shown = evidence_of(crop, size, None, config.silhouette)
    return refine_to_photo(body, start, shown, None, config.silhouette, config.refine)[0]


def test_photos_are_refined_as_far_as_asked(photographed: tuple[BodyModel, Any, Fit]) -> None:
    body, _, truth = photographed
    start = held(disturbed(body, truth.params, 4, angle=0.06))
    begin, short, full = (
        np.linalg.norm((vertices_of(body, p) - vertices_of(body, truth.params))[:, :2], axis=1).mean()
        for p in (start.params, *(in_photo(photographed, start, refine_iterations=n).params for n in (1, 22)))
    )
    assert full < short < begin


def test_an_outline_without_clothes_is_the_bodys_own(photographed: tuple[BodyModel, Any, Fit]) -> None:
    """From a thinner body the mask's outline stands off: clothes, or flesh that the network has missed."""
    body, (crop, size), truth = photographed
    wide = replace(crop, mask=torch.nn.functional.max_pool2d(crop.mask[None], 9, 1, 4)[0])
    dressed_mm, bare_mm = (
        in_photo((body, (wide, size), truth), truth, clothes=clothes).residual_mm for clothes in (True, False)
    )
    assert bare_mm < 0.8 * dressed_mm


def test_the_quality_and_what_was_given_stand_in_the_report() -> None:
    assert Settings(quality="best", num_views=2).reported() == {"quality": "best", "given": {"num_views": 2}}


@pytest.mark.usefixtures("no_type_checks")
def test_what_is_wrong_is_said_in_python() -> None:
    for bad in ({"num_views": 0}, {"num_views": 2.5}, {"num_views": True}, {"clothes": 1}, {"quality": "good"}):
        (name,) = bad
        with pytest.raises(UsageError, match=f"^settings: {name}: expected .*, got"):
            settings_of(bad, "register")
    with pytest.raises(UsageError, match=r"^num_views: expected a whole number from 1 to 32"):
        Settings(num_views=0)
    with pytest.raises(UsageError, match="num_view: no such setting; did you mean num_views"):
        lvdreg.register("no-such-file.ply", settings={"num_view": 3})
    with pytest.raises(UsageError, match="clothes: expected it only for register and image"):
        lvdreg.register_hand("no-such-file.ply", settings=Settings(clothes=False))


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("num_veiws = 3", "num_veiws: no such setting; did you mean num_views?"),
        ("[hands]\nnum_views = 0", "[hands]: num_views: expected a whole number from 1 to 32 (views), got 0"),
        ("[hand]\nnum_views = 3", "[hand]: no such table; did you mean hands?"),
        ("[image]\nnum_points = 3000", "[image]: num_points: expected it only for register and hands; leave it out"),
        ('smoothing_mm = "8"', "smoothing_mm: expected a number from 0.1 to 200 (mm), got '8'"),
        ("smoothing_mm = nan", "smoothing_mm: expected a number from 0.1 to 200 (mm), got nan"),
        ("clothes = 0", "clothes: expected true or false, got 0"),
        ('quality = "fastest"', "quality: expected one of fast, standard, best, got 'fastest'"),
        ('method = "smplify"', "method: no such setting; give it on the command line: --method"),
        ('model = "anny+d"', "model: no such setting; give it on the command line: --model"),
        ("quality = fast", "expected TOML such as"),
        ("\xff\xfe", "expected TOML"),
    ],
)
def test_a_fault_in_a_file_is_one_line_that_names_it(tmp_path: Path, text: str, words: str) -> None:
    path = tmp_path / "my.toml"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(UsageError) as caught:
        read_file(path)
    assert str(caught.value).startswith(str(path)) and words in str(caught.value)
    for command in (
        ["config", str(path)],
        ["register", "scan.ply", "--config", str(path), "--out", str(tmp_path / "o")],
    ):
        done = CliRunner().invoke(app, command)
        assert done.exit_code == 2 and done.stderr.startswith("lvdreg: ") and len(done.stderr.splitlines()) == 1
    assert not (tmp_path / "o").exists()


def test_a_file_that_cannot_be_read_is_said_so(tmp_path: Path) -> None:
    (tmp_path / "latin.toml").write_bytes(b"# \xe4\nquality = 'fast'\n")
    for path in (tmp_path / "missing.toml", tmp_path, tmp_path / "latin.toml"):
        with pytest.raises(UsageError, match="--config: cannot read"):
            read_file(path)


def test_settings_above_the_tables_count_for_all_that_have_them(tmp_path: Path) -> None:
    path = tmp_path / "my.toml"
    path.write_text('quality = "best"\nnum_views = 6\n[hands]\nnum_views = 2\n[image]\nquality = "fast"\n')
    found = read_file(path)
    assert found == {
        "register": Settings(quality="best", num_views=6),
        "hands": Settings(quality="best", num_views=2),
        "image": Settings(quality="fast"),
    }


@pytest.mark.parametrize("quality", QUALITIES)
def test_a_printed_file_is_read_back(tmp_path: Path, quality: str) -> None:
    path = tmp_path / "printed.toml"
    path.write_text(CliRunner().invoke(app, ["config", "--toml", "--quality", quality]).stdout)
    assert read_file(path) == {command: Settings(quality=quality) for command in COMMANDS}
    # With every # in front of a setting taken away, all of them are set, to what they were anyway.
    lines = path.read_text().splitlines()
    path.write_text("\n".join(line.removeprefix("# ") if " = " in line else line for line in lines))
    for command, settings in read_file(path).items():
        assert settings.effective(command) == preset(quality, command) == settings.given()
    assert as_toml(read_file(path)) == path.read_text() + "\n"


def test_all_settings_are_shown() -> None:
    shown = CliRunner().invoke(app, ["config"])
    assert shown.exit_code == 0 and all(name in shown.stdout for name in (*KNOBS, *COMMANDS))
    assert len(asdict(Settings())) == len(KNOBS) <= 12


def test_options_win_over_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path, seen = tmp_path / "my.toml", list[dict[str, Any]]()
    path.write_text('quality = "best"\nnum_views = 6\n')
    monkeypatch.setattr("lvdreg.cli.doctor.check_model", lambda *_, **__: "anny")
    monkeypatch.setattr("lvdreg.batch.expand_inputs", lambda *_: [])
    monkeypatch.setattr("lvdreg.cli.scans.register_all", lambda *_, settings, **__: seen.append(settings))
    for command in ("register", "hands"):
        for options in ([], ["--quality", "fast"]):
            out = ["--out", str(tmp_path / "out")]
            assert CliRunner().invoke(app, [command, "scan.ply", "--config", str(path), *options, *out]).exit_code == 0
    assert [settings["quality"] for settings in seen] == ["best", "fast"] * 2
    assert all(settings["num_views"] == 6 for settings in seen)
