"""The whole way of a photo with a network that knows the answer: metres, camera, verdict, files."""

import json
from collections.abc import Iterator
from dataclasses import replace
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from fake_photo import Scene, known_image_weights, scene, standing
from numpy.typing import NDArray
from PIL import Image
from scipy.spatial.transform import Rotation

import lvdreg
from lvdreg.base.errors import PhotoError, RegistrationError, UsageError
from lvdreg.body.model import BodyModel, BodyParams
from lvdreg.geometry.frames import transform_points
from lvdreg.image.crop import CutConfig, crop_around, turned_crop
from lvdreg.photo.keypoints import MIRRORED
from lvdreg.photo.model import Photo
from lvdreg.pipeline import assess_photo
from lvdreg.pipeline.assess_photo import cut_off, is_beside
from lvdreg.pipeline.lens import LIKELY_DISTANCE, likely_focal, likely_unit
from lvdreg.result.draw_photo import overlay
from lvdreg.result.files_photo import FILES
from lvdreg.result.photo import People, PhotoRegistration
from lvdreg.result.verdict_photo import PhotoEvidence, PhotoVerdictConfig, judge_photo
from lvdreg.scan.model import read_scan
from lvdreg.scan.readers.gltf import read_gltf

QUICK = {"refine_iterations": 6}


@pytest.fixture(scope="module")
def one(body: BodyModel) -> Scene:
    return scene(body, standing(body, 3), size=(700, 520), scale=220.0, distance=3.0)


def show(
    monkeypatch: pytest.MonkeyPatch,
    scenes: list[Scene],
    errors_m: float = 0.0,
    with_mask: bool = True,
    size: int = 256,
) -> list[Any]:
    """Let the photo show these people, and a network for crops of a size know them, up to an error that differs
    smoothly; returns the features that it will have computed."""
    module = import_module("lvdreg.pipeline.photo")
    people = [replace(s.shown, number=i, count=len(scenes), has_mask=with_mask) for i, s in enumerate(scenes, 1)]
    known: list[torch.Tensor] = []
    for s in scenes:
        crop = crop_around(s.rgb, s.shown.mask, CutConfig(), 256)
        wave = np.stack([np.sin(5 * s.vertices[:, 1]), np.cos(4 * s.vertices[:, 0]), np.sin(6 * s.vertices[:, 0])], -1)
        known.append(replace(s, vertices=s.vertices + errors_m * wave).unit_vertices(crop))
    asked, seen = iter(known), list[Any]()
    monkeypatch.setattr(module, "people_shown", lambda *_args, everyone, **_kwargs: people if everyone else people[:1])
    monkeypatch.setattr(
        import_module("lvdreg.pipeline.estimate"),
        "image_weights",
        lambda *_: known_image_weights(next(asked, known[0]), size=size, seen=seen),
    )
    return seen


def recomposed(body: BodyModel, params: dict[str, NDArray[Any]]) -> NDArray[np.float64]:
    """Pose a body by the arguments of smplx that a result holds."""
    named = {name: np.asarray(value).reshape(-1) for name, value in params.items()}
    order = ("global_orient", "body_pose", "left_hand_pose", "right_hand_pose")
    pose = np.concatenate([named[name] for name in order]).reshape(-1, 3)
    values = (torch.from_numpy(np.asarray(x, np.float32)) for x in (named["betas"], pose, named["transl"]))
    vertices: NDArray[np.float64] = body(BodyParams(*values)).vertices.double().numpy()
    return vertices


@pytest.fixture(scope="module")
def result(body: BodyModel, one: Scene) -> Iterator[PhotoRegistration]:
    with pytest.MonkeyPatch.context() as patch:
        import lvdreg.pipeline.photo

        show(patch, [one], 0.02)
        yield lvdreg.register_image(one.rgb, height=1.7, focal=one.camera.lens.mm35((700, 520)))


def test_the_body_lands_on_the_photo(body: BodyModel, one: Scene, result: PhotoRegistration) -> None:
    there = result.camera.project(result.vertices)
    pixels = np.linalg.norm(there - one.camera.project(one.vertices), axis=1)
    assert pixels.mean() < 6  # less than 3 cm at 220 pixels a metre
    assert result.metrics["silhouette_iou"] > 0.93 >= result.metrics["silhouette_iou_fit"] - 0.05
    assert result.verdict == "good", result.reason


def test_the_world_is_metres_about_the_pelvis(body: BodyModel, one: Scene, result: PhotoRegistration) -> None:
    assert np.abs(result.joints[0]).max() < 1e-6
    assert result.metrics["height_m"] == pytest.approx(1.7, abs=0.005) and not result.size_is_guess
    # Their left is on the right of the photo, their head up, and they look at the viewer.
    names = body.joint_names
    left, right, head = (result.joints[names.index(name)] for name in ("left_hip", "right_hip", "head"))
    assert left[0] > right[0] and head[1] > 0.4
    grown = 1.7 / float(np.ptp(body.rest(one.params.betas)[0][:, 1].numpy()))
    true = (one.vertices - one.joints[0]) * grown
    assert np.linalg.norm(result.vertices - true, axis=1).mean() < 0.05


def test_parameters_give_the_meshes(body: BodyModel, result: PhotoRegistration) -> None:
    assert np.abs(recomposed(body, result.params) - result.vertices).max() < 1e-5


def test_files_are_complete_and_agree(body: BodyModel, one: Scene, result: PhotoRegistration, tmp_path: Path) -> None:
    written = result.save(tmp_path / "out")
    assert {path.name for path in written} == set(FILES) == {path.name for path in (tmp_path / "out").iterdir()}
    with np.load(tmp_path / "out" / "params.npz", allow_pickle=False) as arrays:
        stored = {name: arrays[name] for name in arrays.files}
    vertices = np.pad(recomposed(body, stored), ((0, 0), (0, 1)), constant_values=1.0)
    homogeneous = (vertices @ stored["camera_extrinsics"].T)[:, :3] @ stored["camera_intrinsics"].T
    camera = homogeneous[:, :2] / homogeneous[:, 2:]
    # What the overlay draws is what others get from the matrices; at the pelvis weak perspective does as well.
    assert np.abs(result.camera.project(result.vertices) - camera).max() < 0.01
    assert np.allclose(stored["camera_centre"], result.camera.project(np.zeros(3)))
    near_pelvis = np.abs(result.vertices[:, 2]) < 0.005
    weak = stored["camera_centre"] + stored["camera_scale"] * result.vertices[:, :2] * [1, -1]
    assert np.abs(weak - camera)[near_pelvis].max() < 0.6 < 10 < np.abs(weak - camera).max()
    for name in ("body.ply", "registered.ply"):
        mesh = read_scan(tmp_path / "out" / name)
        assert np.abs(result.camera.project(mesh.points) - camera).max() < 0.01
    report = json.loads((tmp_path / "out" / "report.json").read_text(encoding="utf-8"))
    told = report["camera"]
    assert told["scale_px_per_m"] == pytest.approx(result.camera.scale) and told["focal_source"] == "given"
    assert told["focal_px"] == pytest.approx(660) and told["principal_px"] == [350, 260]
    assert told["focal_px"] == pytest.approx(told["focal_mm35"] / np.hypot(36, 24) * np.hypot(700, 520))
    assert told["distance_m"] == pytest.approx(told["focal_px"] / told["scale_px_per_m"])
    assert np.allclose(told["T_camera_world"], stored["camera_extrinsics"])
    assert np.allclose(told["intrinsics"], stored["camera_intrinsics"])
    assert report["keypoints"]["nose"][2] == pytest.approx(0.95) and report["settings"]["height"] == 1.7
    mask = np.asarray(Image.open(tmp_path / "out" / "mask.png"))
    assert np.array_equal(mask > 127, one.shown.mask > 0.5)
    glb = read_gltf((tmp_path / "out" / "body.glb").read_bytes(), tmp_path)
    assert np.abs(np.asarray(glb.points) - result.vertices).max() < 1e-5


def test_the_camera_stands_where_it_stood(one: Scene, result: PhotoRegistration) -> None:
    """Of a person of known height the distance is known, too."""
    true = one.camera.moved(one.joints[0])
    assert result.camera.distance == pytest.approx(true.distance * true.scale / result.camera.scale, rel=1e-6)
    grown = 1.7 / float(np.ptp(lvdreg.load_body("anny").rest(one.params.betas)[0][:, 1].numpy()))
    assert result.camera.distance == pytest.approx(true.distance * grown, rel=0.05)


def test_weak_perspective_stays_a_choice(one: Scene, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    show(monkeypatch, [one])
    weak = lvdreg.register_image(one.rgb, camera="weak", refine=False, settings=QUICK)
    flat = weak.camera.centre + weak.camera.scale * weak.vertices[:, :2] * [1, -1]
    assert np.abs(weak.camera.project(weak.vertices) - flat).max() < 1e-9
    weak.save(tmp_path / "out")
    with np.load(tmp_path / "out" / "params.npz", allow_pickle=False) as arrays:
        assert "camera_scale" in arrays.files and "camera_intrinsics" not in arrays.files
    camera = json.loads((tmp_path / "out" / "report.json").read_text(encoding="utf-8"))["camera"]
    assert camera["focal_source"] == "weak"
    assert camera["focal_px"] is camera["distance_m"] is camera["T_camera_world"] is camera["intrinsics"] is None
    # From so far away that it makes no difference, perspective finds the same body.
    far = lvdreg.register_image(one.rgb, focal=2000.0, refine=False, settings=QUICK)
    assert np.linalg.norm(far.vertices - weak.vertices, axis=1).mean() < 0.01


def test_smplify_finds_the_body_by_keypoints_alone(one: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    seen = show(monkeypatch, [one])
    focal = one.camera.lens.mm35((700, 520))
    found = lvdreg.register_image(one.rgb, height=1.7, focal=focal, method="smplify", refine=False, settings=QUICK)
    assert not seen, "no network looked"
    assert found.settings["method"] == "smplify" and list(found.steps)[:2] == ["smplify_1", "smplify_2"]
    assert list(found.steps)[-2:] == ["smplify", "fit"] and "descent" not in found.steps
    # What is fitted to the vertices of a body is that body.
    assert np.linalg.norm(found.steps["smplify"] - found.steps["fit"], axis=1).mean() < 0.01
    true = one.vertices - one.joints[0]
    apart = np.linalg.norm(found.vertices - true, axis=1)
    assert apart.mean() < 0.1 and found.metrics["keypoint_error_m"] < 0.03
    assert (apart < 2 * found.sigma).mean() > 0.5
    assert "priors/photo-poses.npz" in found.assets
    # Where most looks say so, sides are the others: keypoints named for the wrong ones give the same body.
    assert one.shown.keypoints is not None
    mirrored = replace(one.shown, keypoints=one.shown.keypoints[MIRRORED], sides=-0.7)
    show(monkeypatch, [replace(one, shown=mirrored)])
    other = lvdreg.register_image(one.rgb, height=1.7, focal=focal, method="smplify", refine=False, settings=QUICK)
    np.testing.assert_allclose(other.vertices, found.vertices, atol=1e-6)
    assert other.metrics["sides_agreement"] == 0.7 and any("other way round" in line for line in other.warnings)
    # People are found where --device says; the fit stays on the CPU, and says so.
    gpu = lvdreg.register_image(
        one.rgb, height=1.7, focal=focal, method="smplify", refine=False, settings=QUICK, device="meta"
    )
    assert any("--device meta: smplify fitted on the CPU" in line for line in gpu.warnings)
    assert not any("--device" in line for line in other.warnings)


def test_smplify_asks_for_keypoints_and_methods_for_their_names(one: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    assert one.shown.keypoints is not None
    unseen = one.shown.keypoints * np.float32([1, 1, 0])
    for keypoints in (None, unseen):
        show(monkeypatch, [replace(one, shown=replace(one.shown, keypoints=keypoints))])
        with pytest.raises(PhotoError, match="expected 4 keypoints or more for --method smplify, found none in"):
            lvdreg.register_image(one.rgb, method="smplify")
    with pytest.raises(UsageError, match="--method: expected lvd, smplify, spin, eft, pymaf, got hmr"):
        lvdreg.register_image(one.rgb, method="hmr")


def test_the_focal_length_comes_from_the_user_the_file_or_the_likeliest(
    one: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    show(monkeypatch, [one])
    own = Photo(one.rgb, None, "own", focal_mm35=35.0)
    for photo, focal, source, mm35 in ((own, 50.0, "given", 50.0), (own, None, "exif", 35.0)):
        found = lvdreg.register_image(photo, focal=focal, refine=False, settings=QUICK).camera
        assert found.lens.source == source and found.lens.mm35(own.size) == pytest.approx(mm35)
    guessed = lvdreg.register_image(one.rgb, refine=False, settings=QUICK).camera
    # Not nearer than cameras mostly stand, as the likely size of people has it; a larger photo has a longer diagonal.
    assert guessed.lens.source == "guess" and guessed.distance == pytest.approx(LIKELY_DISTANCE, rel=0.15)
    crop = crop_around(one.rgb, one.shown.mask, CutConfig(), 256)
    wide = Photo(np.zeros((3000, 4000, 3), np.uint8), None, "wide")
    body = lvdreg.load_body("anny")
    metres_per_unit = likely_unit(one.unit_vertices(crop).double().numpy(), body, None)
    assert likely_focal(wide, [crop.side / 2 / metres_per_unit]) == 5000
    # One of three who is taken for far too large does not decide; of two both do.
    assert likely_focal(wide, [1300.0, 9000.0, 1500.0]) == 6000 and likely_focal(wide, [1300.0, 1500.0]) == 5600


@pytest.mark.parametrize(
    ("given", "word"),
    [
        ({"camera": "orthographic"}, "--camera: expected perspective or weak"),
        ({"focal": 0.0}, "--focal: expected millimetres on 35 mm film from 8 to 2000"),
        ({"focal": float("nan")}, "--focal: expected millimetres"),
        ({"focal": 4000}, "--focal: expected millimetres"),
        ({"focal": 26, "camera": "weak"}, "no focal length"),
        ({"focal": "26mm"}, "focal: expected millimetres"),
        ({"camera": 3}, "camera: expected 'perspective'"),
    ],
)
@pytest.mark.usefixtures("no_type_checks")
def test_cameras_that_there_are_not_are_refused(given: dict[str, Any], word: str) -> None:
    for register in (lvdreg.register_image, lvdreg.register_people):
        with pytest.raises(UsageError, match=word) as error:
            register(np.zeros((40, 40, 3), np.uint8), **given)
        assert "\n" not in str(error.value)


def test_an_interrupted_save_leaves_the_old_result(
    result: PhotoRegistration, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "report.json").write_text("old", encoding="utf-8")
    monkeypatch.setattr("lvdreg.result.files_photo.overlay", lambda _: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        result.save(tmp_path / "out")
    assert [path.name for path in tmp_path.iterdir()] == ["out"]
    assert (tmp_path / "out" / "report.json").read_text(encoding="utf-8") == "old"


def test_equal_photos_give_equal_results(one: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    show(monkeypatch, [one], 0.02)
    first, second = (lvdreg.register_image(one.rgb, settings=QUICK) for _ in range(2))
    assert np.array_equal(first.vertices, second.vertices) and np.array_equal(first.sigma_mm, second.sigma_mm)


def test_crops_are_as_large_as_the_network_was_made_for(one: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    for size in (128, 256):
        seen = show(monkeypatch, [one], size=size)
        lvdreg.register_image(one.rgb, settings={"refine_iterations": 0})
        assert [tuple(mask.shape) for mask in seen] == [(1, 1, size, size)]


def test_a_height_that_was_not_reached_is_said(one: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    show(monkeypatch, [one])
    told = []
    for rounds in (1, assess_photo.HEIGHT_ROUNDS):
        monkeypatch.setattr(assess_photo, "HEIGHT_ROUNDS", rounds)
        found = lvdreg.register_image(one.rgb, height=2.0, refine=False, settings=QUICK)
        told.append([line for line in found.warnings if "not 2.00 m as given" in line])
        assert bool(told[-1]) == (abs(found.metrics["height_m"] - 2) > 0.02)
    assert told[0] and not told[1]


def test_without_a_height_the_size_is_a_guess_and_said_to_be(one: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    show(monkeypatch, [one])
    found = lvdreg.register_image(one.rgb, settings=QUICK)
    assert found.size_is_guess and any("guess" in line for line in found.warnings)
    assert 1.2 < found.metrics["height_m"] < 2.0


def test_guessed_heights_lie_near_the_usual_one(one: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    """Proportions say little of a height: what they make likely is believed by a third, as is a child's."""
    show(monkeypatch, [one])
    far = []
    for shown in (1.0, assess_photo.HEIGHT_SHOWN):
        monkeypatch.setattr(assess_photo, "HEIGHT_SHOWN", shown)
        found = lvdreg.register_image(one.rgb, refine=False)
        far.append(np.log(found.metrics["height_m"] / assess_photo.SizeConfig().usual))
    assert far[1] == pytest.approx(assess_photo.HEIGHT_SHOWN * far[0], abs=0.002) and abs(far[0]) > 0.02


def test_no_refinement_is_the_networks_fit(one: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    show(monkeypatch, [one], 0.02)
    found = lvdreg.register_image(one.rgb, refine=False)
    assert np.abs(found.vertices - found.steps["fit"]).max() < 1e-5
    assert found.metrics["silhouette_iou"] == found.metrics["silhouette_iou_fit"]


def test_a_cut_person_is_told(body: BodyModel, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    cut = scene(body, standing(body, 2), size=(480, 190), scale=230.0, drop=0.5)
    show(monkeypatch, [cut])
    found = lvdreg.register_image(cut.rgb, settings=QUICK)
    assert (
        found.verdict == "check"
        and found.reason == "the photo shows the upper body only: what is not seen is a guess, use only the rest"
    )
    assert 0.1 < found.metrics["seen_share"] < 0.8
    found.save(tmp_path / "out")


@pytest.mark.slow
def test_a_wrong_network_is_found_out(one: Scene, body: BodyModel, monkeypatch: pytest.MonkeyPatch) -> None:
    wrong = replace(one, vertices=one.vertices * [1, 0.3, 1], shown=one.shown)
    show(monkeypatch, [wrong])
    found = lvdreg.register_image(one.rgb, settings=QUICK, refine=False)
    assert found.verdict == "failed", found.reason


def test_no_mask_is_never_good(one: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    show(monkeypatch, [one], with_mask=False)
    found = lvdreg.register_image(one.rgb, mask="none", settings=QUICK)
    assert found.verdict == "check" and "silhouette_iou" not in found.metrics and "no mask" in found.reason


@pytest.mark.slow
def test_everybody(body: BodyModel, one: Scene, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    tiny = replace(one, shown=replace(one.shown, mask=np.zeros_like(one.shown.mask)))
    tiny.shown.mask[5:9, 5:9] = 1
    show(monkeypatch, [one, replace(one)])
    module = import_module("lvdreg.pipeline.photo")
    people = [replace(one.shown, number=1, count=2), replace(tiny.shown, number=2, count=2)]
    monkeypatch.setattr(module, "people_shown", lambda *_args, **_kwargs: people)
    found = lvdreg.register_people(one.rgb, settings=QUICK)
    assert len(found.results) == 1 and "person 2: expected a person of 24 pixels" in found.reason
    assert found.verdict == "check"
    assert found.timings.keys() == found.results[0].timings.keys() and found.lost.keys() == {"load", "crop"}
    total = sum(found.results[0].timings.values()) + sum(found.lost.values())
    assert sum(found.timings.values()) == pytest.approx(total)
    check_folders_of_people(found, tmp_path)
    monkeypatch.setattr(module, "people_shown", lambda *_args, **_kwargs: people[1:])
    with pytest.raises(RegistrationError, match="person 2"):
        lvdreg.register_people(one.rgb, settings=QUICK)


def check_folders_of_people(found: People, folder: Path) -> None:
    """What an earlier run found besides goes; what is not provably ours stays."""
    alone, many = {"person-1", "report.json"}, {"person-1", "person-3", "report.json"}
    three = replace(found, results=(*found.results, replace(found.results[0], person=3)))
    assert {path.name for path in folder_of(three, folder / "out").iterdir()} == many
    assert {path.name for path in folder_of(found, folder / "out").iterdir()} == alone
    report = json.loads((folder / "out" / "report.json").read_text(encoding="utf-8"))
    assert [person["folder"] for person in report["people"]] == ["person-1"] and report["failures"]
    assert list(report["timings_s"])[-2:] == ["write", "total"]
    # The same among files of others, and where an earlier version wrote no report of all.
    others = {"person-of-interest/mask.png", "person-4/diary.txt", "person-5/report.json", "person-6"}
    folder_of(three, folder / "mixed")
    for name in others:
        path = folder / "mixed" / name
        if path.suffix:
            path.parent.mkdir()
            path.write_text("mine", encoding="utf-8")
        else:
            path.symlink_to(folder / "out" / "person-1")
    (folder / "mixed" / "report.json").unlink()
    folder_of(found, folder / "mixed")
    kept = {path.name for path in (folder / "mixed").iterdir()}
    assert kept == {*alone, "person-of-interest", "person-4", "person-5", "person-6"}
    assert all((folder / "mixed" / name).read_text(encoding="utf-8") == "mine" for name in others if "." in name)
    assert (folder / "out" / "person-1" / "overlay.png").is_file()


def folder_of(people: People, folder: Path) -> Path:
    assert all(path.is_file() for path in people.save(folder))
    return folder


def test_bad_input_is_one_line(one: Scene, tmp_path: Path) -> None:
    with pytest.raises(PhotoError, match=r"no\.jpg"):
        lvdreg.register_image(tmp_path / "no.jpg")
    with pytest.raises(UsageError, match="--height: expected metres"):
        lvdreg.register_image(one.rgb, height=175)
    with pytest.raises(UsageError, match="without displacements"):
        lvdreg.register_image(one.rgb, model="anny+d")


@pytest.mark.slow
@pytest.mark.parametrize("size", [(90, 900), (900, 90), (60, 60)])
def test_overlays_of_any_shape_have_room(body: BodyModel, result: PhotoRegistration, size: tuple[int, int]) -> None:
    small = np.zeros((size[1], size[0], 3), np.uint8)
    mask = np.ones((size[1], size[0]), np.float32)
    crop = crop_around(small, mask, CutConfig(), 256)
    picture = overlay(replace(result, rgb=small, mask=mask, crop=crop))
    assert 700 < picture.width < 2200 and 500 < picture.height < 1800


def test_what_a_photo_cuts_off_in_words() -> None:
    joints = ("head", "left_shoulder", "right_shoulder", "left_hip", "right_hip", "left_knee", "right_knee")
    rest = ("left_ankle", "right_ankle", "left_wrist", "right_wrist")
    everything = dict.fromkeys((*joints, *rest), True)

    def lost(*names: str) -> str:
        return cut_off({**everything, **dict.fromkeys(names, False)})

    assert lost() == "" and lost("left_ankle") == ""
    assert lost("left_ankle", "right_ankle") == "the photo cuts off feet"
    assert lost(*joints[5:], *rest[:2]) == "the photo ends above the knees"
    assert lost(*joints[3:], *rest[:2]) == "the photo shows the upper body only"
    assert lost(*joints[3:], *rest[:2], "spine1") == "the photo shows head and shoulders only"
    assert lost(*joints[:3]) == "the photo shows the lower body only"
    assert lost("head") == "the photo cuts off the head"


GOOD = PhotoEvidence(0.9, 0.03, 1.0, 40.0, 20.0, 1.0, 1.7)


@pytest.mark.parametrize(
    ("changes", "verdict", "words"),
    [
        ({}, "good", "overlap to 90%"),
        ({"silhouette_iou": 0.7}, "check", "overlap to 70% only"),
        ({"silhouette_iou": 0.3}, "failed", "overlap to 30% only"),
        ({"silhouette_iou": 0.4}, "check", "overlap to 40% only"),
        ({"silhouette_iou": 0.4, "keypoint_error_m": 0.08}, "failed", "overlap to 40% only"),
        ({"was_refined": False}, "check", "undone"),
        ({"unseen_bend_deg": 39.0}, "check", "39 degrees"),
        ({"sides_agreement": 0.2}, "check", "front and back"),
        ({"sides_agreement": 0.0}, "check", "front and back"),
        ({"silhouette_iou": None, "keypoint_error_m": None}, "good", "median sigma"),
        ({"keypoint_error_m": 0.5}, "failed", "0.50 m"),
        ({"sigma_median_mm": float("nan")}, "failed", "could not be measured"),
        ({"height_m": 2.2}, "check", "--height"),
        ({"converged": False}, "check", "still moved"),
        ({"has_mask": False}, "check", "no mask"),
        ({"missed_beside": True}, "check", "somebody else"),
    ],
)
def test_verdicts(changes: dict[str, Any], verdict: str, words: str) -> None:
    found, reason = judge_photo(replace(GOOD, **changes), PhotoVerdictConfig())
    assert found == verdict and words in reason


def test_who_was_missed_counts_where_the_person_is() -> None:
    mask = np.zeros((40, 60), np.float32)
    mask[10:30, 20:30] = 1
    for box, expected in (((25, 5, 50, 35), True), ((31, 5, 50, 35), False), ((0, 30, 60, 40), False)):
        assert is_beside(np.array([(0, 0, 5, 5), box], np.float32), mask) == expected
    assert not is_beside(np.zeros((0, 4), np.float32), mask)


@pytest.mark.slow
def test_who_lies_is_looked_at_upright(body: BodyModel, monkeypatch: pytest.MonkeyPatch) -> None:
    """A network that only knows people upright: of someone lying it is shown a picture turned by a quarter."""
    lying = standing(body, 3, bend=0.05, yaw=0.0)
    turn = torch.from_numpy(Rotation.from_rotvec([0, 0, np.pi / 2]).as_rotvec()).float()
    lying.pose[0] = turn
    flat = scene(body, lying, size=(700, 520), scale=220.0)
    crop = crop_around(flat.rgb, flat.shown.mask, CutConfig(), 256)
    _, T_turned_crop = turned_crop(flat.rgb, crop, -np.pi / 2, CutConfig())
    upright = transform_points(T_turned_crop, flat.unit_vertices(crop).double().numpy())
    show(monkeypatch, [flat])
    known = known_image_weights(torch.from_numpy(upright).float())
    monkeypatch.setattr(import_module("lvdreg.pipeline.estimate"), "image_weights", lambda *_: known)
    found = lvdreg.register_image(flat.rgb, settings=QUICK, refine=False)
    pixels = np.linalg.norm(found.camera.project(found.vertices) - flat.camera.project(flat.vertices), axis=1)
    assert pixels.mean() < 6 and found.verdict == "good", (pixels.mean(), found.reason)
    head, pelvis = found.joints[body.joint_names.index("head")], found.joints[0]
    assert head[0] < pelvis[0] - 0.4 and abs(head[1] - pelvis[1]) < 0.2
