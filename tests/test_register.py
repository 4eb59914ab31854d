"""The whole way, on the shipped example and, where there are any, on real scans."""

import numpy as np
import pytest
from real_data import real_path

import lvdreg
from lvdreg.base.assets import assets_dir
from lvdreg.base.errors import ScanError, UsageError
from lvdreg.base.provenance import InputFile, sha256_of
from lvdreg.geometry.frames import transform_points
from lvdreg.geometry.metrics import Surface, corresponding_vertex, point_to_surface
from lvdreg.result.scan import Registration
from lvdreg.scan.model import read_scan

pytestmark = pytest.mark.slow
EXAMPLE = assets_dir() / "examples" / "dressed.ply"


@pytest.fixture(scope="module")
def example() -> Registration:
    return lvdreg.register(EXAMPLE, model="anny+d")


def test_unit_and_axis_of_the_example_are_found(example: Registration) -> None:
    assert (example.unit, example.up, example.unit_is_guess) == ("mm", "+z", False)
    assert example.verdict != "failed"


def test_all_that_had_a_part_is_known_and_no_time_is_missing(example: Registration) -> None:
    hands = ("bodies/anny-hand.npz", "correspondences/anny-hand.npz")
    nets = (f"weights/voxel-{name}.{kind}" for name in ("anny", "anny-hand") for kind in ("json", "safetensors"))
    names = ("bodies/anny.npz", "priors/errors-anny.json", *hands, *nets)
    assert example.assets == {name: sha256_of(assets_dir() / name) for name in names}
    assert example.source == InputFile(str(EXAMPLE.absolute()), sha256_of(EXAMPLE))
    assert list(example.timings) == ["load", "read", "descend", "uncertainty", "fit", "refine", "displace", "assess"]


def test_the_body_lies_near_the_true_body_and_in_its_frame(example: Registration) -> None:
    truth = np.load(EXAMPLE.with_name("dressed_truth.npz"))["vertices"].astype(np.float64)
    error_mm = corresponding_vertex(example.body_vertices / 1000, truth / 1000, example.faces)
    # The person is dressed and the network is small; a limb on the wrong side would cost over 100 mm.
    assert error_mm < 45


def test_the_surface_meets_the_scan_and_the_floor_is_gone(example: Registration) -> None:
    scan = Surface(example.scan.points / 1000, example.scan.faces)
    apart = point_to_surface(scan, Surface(example.vertices / 1000, example.faces))
    # What stands between the true body and the scan is clothes, which the surface must take up: all but a tenth where
    # it lies, and all but a fifth where the scan does, for the hem of the jacket hangs free and no skin can follow it.
    truth = np.load(EXAMPLE.with_name("dressed_truth.npz"))["vertices"].astype(np.float64)
    clothes = point_to_surface(scan, Surface(truth / 1000, example.faces))
    assert apart.scan_to_model_mm < 0.2 * clothes.scan_to_model_mm
    assert apart.model_to_scan_mm < 0.1 * clothes.model_to_scan_mm
    assert any("floor" in warning for warning in example.warnings)


def test_parameters_pose_the_very_vertices_that_are_reported(example: Registration) -> None:
    import torch

    body, p = lvdreg.load_body("anny"), {k: torch.from_numpy(np.asarray(v)).float() for k, v in example.params.items()}
    pose = torch.cat([p["global_orient"], p["body_pose"], p["left_hand_pose"], p["right_hand_pose"]]).view(-1, 3)
    posed = body(lvdreg.BodyParams(p["betas"], pose, p["transl"], p["displacements"]))
    for found, given in ((posed.vertices, example.vertices), (posed.joints, example.joints)):
        np.testing.assert_allclose(transform_points(example.T_scan_model, found.double().numpy()), given, atol=0.05)


def test_each_step_comes_nearer_to_the_body_that_is_reported(example: Registration) -> None:
    apart = [
        corresponding_vertex(example.steps[name] / 1000, example.body_vertices / 1000, example.faces)
        for name in ("descent", "fit")
    ]
    assert 60 > apart[0] > apart[1] > 0
    assert 0 < np.linalg.norm(example.steps["fit_joints"] - example.joints, axis=1).mean() < 40


def test_sigma_is_positive_finite_and_not_the_same_everywhere(example: Registration) -> None:
    assert np.isfinite(example.sigma_mm).all()
    assert example.sigma_mm.min() > 0
    assert example.sigma_mm.std() > 0.05 * example.sigma_mm.mean()


@pytest.mark.whole
def test_the_same_person_in_another_frame_and_unit_gives_the_same_body(example: Registration) -> None:
    """Inches, X up, far from the origin: found again, and brought back to that very frame."""
    turn = np.array([[0.0, 0, 1], [1, 0, 0], [0, 1, 0]])
    points = read_scan(EXAMPLE).points @ turn.T / 25.4 + [1000.0, -500, 40]
    again = lvdreg.register(points)
    assert (again.unit, again.up) == ("inch", "+x")
    back = (again.body_vertices - [1000.0, -500, 40]) @ turn * 25.4
    error_mm = corresponding_vertex(back / 1000, example.body_vertices / 1000, example.faces)
    # Points alone instead of the mesh: other samples, other normals, the same person.
    assert error_mm < 25


def test_wrong_words_are_refused_before_any_work() -> None:
    with pytest.raises(UsageError, match="--unit"):
        lvdreg.register("no-such-file.ply", unit="mile")
    with pytest.raises(UsageError, match="--up"):
        lvdreg.register("no-such-file.ply", up="sideways")


def test_a_missing_file_is_one_clear_line() -> None:
    with pytest.raises(ScanError) as caught:
        lvdreg.register("no-such-file.ply")
    assert "no-such-file.ply" in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.real
@pytest.mark.whole
def test_a_real_scan_of_a_bare_man_lying_along_x() -> None:
    result = lvdreg.register(real_path("bodies/xaxis_mesh000.off"), model="anny+d")
    assert (result.up, result.unit) == ("+x", "m")
    assert result.metrics["point_to_surface_scan_to_registered_mm"] < 2.5


@pytest.mark.real
@pytest.mark.parametrize(
    "name",
    [
        "junk/stanford-bunny.obj",
        *(pytest.param(f"junk/{name}", marks=pytest.mark.whole) for name in ("teapot.obj", "body_part_calf.stl")),
    ],
)
def test_what_is_not_a_person_is_never_called_good(name: str) -> None:
    # Fast is what looks least closely, and who says which way is up is believed.
    assert lvdreg.register(real_path(name), up="+y", settings={"quality": "fast"}).verdict != "good"
