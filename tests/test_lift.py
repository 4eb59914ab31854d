"""Bodies for a whole set of keypoints: they lie on them, what does not is left out, and killed runs go on."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from fake_photo import scene, standing
from PIL import Image
from torch import nn
from typer.testing import CliRunner

from lvdreg.augment import lift as module
from lvdreg.augment.lift import DatasetPictures, Limits, Marked, PhotoPictures, lift, opened
from lvdreg.augment.plan import Asked, Plan
from lvdreg.augment.run import manifest_of, pin, write_text
from lvdreg.augment.shards import assemble, body_hash
from lvdreg.augment.versions import Made
from lvdreg.base.errors import UsageError
from lvdreg.body import BodyModel, BodyParams
from lvdreg.cli import app
from lvdreg.dataset import ABOUT, MANIFEST, VERSION_ARRAYS, Dataset, json_text, layout, shard_name, write_shard
from lvdreg.descent.uncertainty import JointErrors
from lvdreg.descent.weights import TrainedRegressor
from lvdreg.fit.eft import EFTConfig
from lvdreg.image.regressor import RegressorConfig, RegressorNet, RegressorNetConfig
from lvdreg.photo.keypoints import KEYPOINTS
from lvdreg.photo.shown import Shown

SIZE, COUNT = 64, 5
FAST = EFTConfig(steps=12, rate=6e-3)
LOOSE = Limits(max_error=40.0, max_beta=100.0)


@pytest.fixture(autouse=True)
def untrained(body: BodyModel, monkeypatch: pytest.MonkeyPatch) -> None:
    """A small network that knows nothing stands for the trained one."""
    torch.manual_seed(0)
    net = RegressorNet(RegressorNetConfig("anny", body.num_betas, body.num_joints, RegressorConfig(64, (8, 16), 32)))
    nn.init.normal_(net.head.answer.weight, std=0.01)
    errors = JointErrors(*(np.full(body.num_joints, 0.05) for _ in range(2)))
    trained = TrainedRegressor(net.eval().requires_grad_(False), errors, errors, {"weights/none": "abc"})
    monkeypatch.setattr(module, "spin_weights", lambda *_: trained)
    monkeypatch.setattr(module, "load_body", lambda name: body)
    monkeypatch.setattr(module, "PER_SHARD", 2)


@pytest.fixture(scope="module")
def dataset(body: BodyModel, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Five pictures of people, of whom everything but pictures and joints in them is nonsense."""
    folder = tmp_path_factory.mktemp("set")
    plan = Plan(Asked(views=1, size=SIZE, channels=("image", "mask"), characters=COUNT), "anny", body_hash(body))
    pin(plan, folder)
    sizes = layout(SIZE, body.num_vertices, body.num_joints, body.num_betas, plan.asked.channels, 1)
    versions = []
    for seed in range(COUNT):
        one = scene(body, standing(body, seed), size=(SIZE, SIZE), scale=28.0)
        arrays = {name: np.zeros(shape, kind) for name, (shape, kind) in sizes.items() if kind is not np.str_}
        arrays |= {"source": np.array(f"character-{seed}"), "pose_kind": np.array("own")}
        mask = (255 * one.shown.mask).astype(np.uint8)
        at = np.concatenate([one.camera.project(one.joints), one.joints[:, 2:]], 1).astype(np.float32)
        shown = {"image": one.rgb * (mask[..., None] > 0), "mask": mask, "joints_px": at}
        arrays |= shown
        person = {name: array for name, array in arrays.items() if name in VERSION_ARRAYS}
        versions.append(Made(person, {name: array[None] for name, array in arrays.items() if name not in person}))
    arrays = assemble(plan.asked, body, versions)
    about = {"plan": plan.digest, "shard": 0, "images": COUNT, "versions": COUNT, "rejected": {}, "given_up": {}}
    write_shard(folder / shard_name(0), {**arrays, ABOUT: np.array(json_text(about))})
    write_text(folder / MANIFEST, json_text(manifest_of(plan, folder, body)))
    return folder


def files(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir() if path.suffix in (".json", ".npz")}


def test_bodies_lie_on_the_keypoints(dataset: Path, body: BodyModel, tmp_path: Path) -> None:
    manifest = lift(dataset, tmp_path / "out", limits=LOOSE, eft=FAST)
    kept = manifest["counts"]["images"]
    assert kept + sum(manifest["versions_given_up"].values()) == COUNT and kept >= 3
    lifted, given = Dataset(tmp_path / "out"), Dataset(dataset)
    assert lifted.channels == ("image", "mask") and (tmp_path / "out" / "preview.png").exists()
    counted = [i for i, name in enumerate(body.joint_names) if name.endswith(("shoulder", "elbow", "wrist"))]
    for index in range(kept):
        sample = lifted.sample(index)
        source = given.sample(int(str(sample["source"]).removeprefix("picture-")))
        assert np.array_equal(sample["image"], source["image"]) and np.array_equal(sample["mask"], source["mask"])
        # As docs/dataset.md has it.
        seen = sample["joints"] @ sample["camera_rotation"].T + sample["camera_translation"]
        pixels = sample["camera_centre"] + sample["camera_scale"] * seen[:, :2]
        np.testing.assert_allclose(pixels, sample["joints_px"][:, :2], atol=1e-3)
        apart = np.linalg.norm(pixels - source["joints_px"][:, :2], axis=1)[counted]
        assert apart.mean() < 20 * SIZE / 256
        posed = body.forward(BodyParams(*(torch.from_numpy(sample[x]) for x in ("betas", "pose", "transl"))))
        np.testing.assert_allclose(posed.vertices, sample["vertices"], atol=1e-4)


def test_killed_and_resumed_the_set_is_the_same(dataset: Path, tmp_path: Path) -> None:
    few = replace(FAST, steps=2)
    lift(dataset, tmp_path / "whole", limits=LOOSE, eft=few)

    def killed(done: int, _count: int) -> None:
        if done == 4:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        lift(dataset, tmp_path / "parts", limits=LOOSE, eft=few, progress=killed)
    assert (tmp_path / "parts" / shard_name(1)).exists() and not (tmp_path / "parts" / MANIFEST).exists()
    lift(dataset, tmp_path / "parts", limits=LOOSE, eft=few)
    assert files(tmp_path / "whole") == files(tmp_path / "parts")
    with pytest.raises(UsageError, match="begun with other settings"):
        lift(dataset, tmp_path / "parts", eft=few)


def test_what_is_not_good_enough_is_left_out(dataset: Path, tmp_path: Path) -> None:
    strict = lift(dataset, tmp_path / "strict", limits=Limits(max_error=0.01), eft=replace(FAST, steps=1))
    assert strict["counts"]["images"] == 0 and strict["versions_given_up"] == {"keypoints missed": COUNT}
    blind = lift(dataset, tmp_path / "blind", limits=Limits(min_keypoints=30), eft=replace(FAST, steps=1))
    assert blind["versions_given_up"] == {"too few keypoints": COUNT}
    shapes = lift(dataset, tmp_path / "shapes", limits=replace(LOOSE, max_beta=0.0), eft=replace(FAST, steps=1))
    assert shapes["versions_given_up"] == {"unlikely shape": COUNT}
    assert len(Dataset(tmp_path / "shapes")) == 0


def test_only_pixels_and_keypoints_are_read(dataset: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pictures, asked = DatasetPictures(dataset), list[str]()
    sample = Dataset.sample

    def watched(self: Dataset, index: int, names: tuple[str, ...]) -> dict[str, np.ndarray]:
        asked.extend(names)
        return sample(self, index, names)

    monkeypatch.setattr(Dataset, "sample", watched)
    (marked,) = pictures.of(3)
    assert set(asked) == {"image", "mask", "joints_px"} and marked.name == "picture-000003"
    assert marked.keypoints[KEYPOINTS.index("left_knee"), 2] == 1 and marked.keypoints[KEYPOINTS.index("nose"), 2] == 0


def test_photos_are_cut_out_with_their_keypoints(
    body: BodyModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    one = scene(body, standing(body), size=(300, 400), scale=150.0)
    Image.fromarray(one.rgb).save(tmp_path / "a.png")
    (tmp_path / "a.json").write_text("{}")
    people = [one.shown, Shown(one.shown.mask, None)]
    monkeypatch.setattr(module, "people_shown", lambda *_, **__: people)
    pictures = opened(tmp_path, tmp_path / "a.json")
    assert isinstance(pictures, PhotoPictures) and len(pictures) == 1
    (marked,) = pictures.of(0)
    assert isinstance(marked, Marked) and marked.image.shape == (256, 256, 3)
    assert one.shown.keypoints is not None
    knee = KEYPOINTS.index("left_knee")
    before, after = one.shown.keypoints[[0, knee], :2], marked.keypoints[[0, knee], :2]
    side = np.linalg.norm(after[1] - after[0]) / np.linalg.norm(before[1] - before[0])
    share = one.shown.mask.sum() * side**2 / 256**2
    assert 0.4 < side < 1.0 and (marked.mask > 127).mean() == pytest.approx(share, rel=0.05)
    row, column = np.rint(marked.keypoints[knee, 1::-1] - 0.5).astype(int)
    assert marked.mask[row, column] > 127 and not marked.image[marked.mask == 0].any()


def test_the_command_line_says_what_came_out(dataset: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "EFTConfig", lambda: replace(FAST, steps=1))
    done = CliRunner().invoke(app, ["lift", str(dataset), "--out", str(tmp_path / "out"), "--max-error", "0"])
    assert done.exit_code == 1 and "0 bodies of 5 pictures; left out: 5 keypoints missed" in done.stdout
    assert json.loads((tmp_path / "out" / MANIFEST).read_text())["lifted_by"]["max_error"] == 0
    for argument, options in ((tmp_path, []), (dataset, ["--keypoints", "a.json"])):
        done = CliRunner().invoke(app, ["lift", str(argument), "--out", str(tmp_path / "other"), *options])
        assert done.exit_code != 0 and "expected" in done.stderr and done.stderr.strip().count("\n") == 0
