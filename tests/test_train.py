"""Training: codes, the schedule, steps and what they change, validation, runs that go on where they stopped."""

import math
import re
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from typer.testing import CliRunner

import lvdreg.train.voxel as run
from lvdreg.base.errors import BodyError, CheckpointError, OutputError
from lvdreg.base.provenance import sha256_of
from lvdreg.base.tensors import read_tensors, write_tensors
from lvdreg.body import load_body
from lvdreg.cli import app
from lvdreg.descent.checkpoint import load_network
from lvdreg.descent.descend import Descent
from lvdreg.field import FieldConfig
from lvdreg.synth.scans import SynthStream
from lvdreg.train.codes import pose_codes
from lvdreg.train.loss import descent_loss
from lvdreg.train.run import VALIDATION_SEED, TrainConfig
from lvdreg.train.voxel import UnitBatch, VoxelTrainer, train_voxel
from lvdreg.voxel.network import VoxelConfig, VoxelNet, VoxelNetConfig

NET = VoxelNetConfig("anny", VoxelConfig(16, 300, (8, 8, 16)), FieldConfig(hidden=32, layers=2, rank=16, clip=0.35))
CONFIG = TrainConfig(
    steps=4,
    cooldown=2,
    warmup=1,
    batch=2,
    points_per_scan=64,
    scan_points=300,
    learning_rate=3e-3,
    ema=0.9,
    validate_every=2,
    validation_scans=2,
    save_every=2,
)


@pytest.fixture(scope="module")
def stream() -> SynthStream:
    """The stream of the shipped body."""
    return SynthStream(load_body("anny"))


@pytest.fixture(scope="module")
def codes(stream: SynthStream) -> Tensor:
    """Codes from few bodies."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("lvdreg.train.codes.stream_of", lambda body: stream)
        return pose_codes(stream.body, NET.field.rank, num_bodies=24)


@pytest.fixture(autouse=True)
def prepared(stream: SynthStream, codes: Tensor, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Build body, stream and codes once for all tests, and compute on one thread, where sums have one order."""
    monkeypatch.setattr(run, "stream_of", lambda body: stream)
    monkeypatch.setattr(run, "load_body", lambda name: stream.body)
    monkeypatch.setattr(run, "pose_codes", lambda body, rank: codes)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def make_trainer(config: TrainConfig = CONFIG, net: VoxelNetConfig = NET) -> VoxelTrainer:
    return VoxelTrainer(net, config, torch.device("cpu"))


def test_codes_are_a_constant_and_the_principal_components(
    stream: SynthStream, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("lvdreg.train.codes.stream_of", lambda body: stream)
    codes = pose_codes(stream.body, 20, num_bodies=24, seed=3)
    assert codes.shape == (stream.body.num_vertices, 20) and codes.dtype == torch.float32
    assert torch.equal(codes[:, 0], torch.ones(len(codes)))
    gram = (codes.double().T @ codes.double()) / len(codes)
    size = gram.diag().sqrt()
    assert (gram / size / size[:, None] - torch.eye(20)).abs().max() < 1e-3, "orthogonal to each other and the constant"
    assert size[1] == pytest.approx(1, abs=1e-3) and (size[1:-1] >= size[2:]).all() and size[-1] < 0.5
    vertices = stream.bodies(24, seeded(3)).vertices
    rows = (vertices - vertices.mean(1, keepdim=True)).transpose(1, 2).reshape(72, -1)
    strength, right = torch.linalg.svd(rows.double(), full_matrices=False)[1:]
    match = (right[:10] * (codes[:, 1:11].double() / codes[:, 1:11].double().norm(dim=0)).T).sum(-1).abs()
    assert match.min() > 0.999
    torch.testing.assert_close(size[1:] ** 2, strength[:19] / strength[0], atol=2e-3, rtol=0)


def test_codes_span_bodies_they_never_saw(stream: SynthStream, codes: Tensor) -> None:
    vertices = stream.bodies(6, seeded(99)).vertices
    columns = (vertices - vertices.mean(1, keepdim=True)).permute(1, 0, 2).reshape(len(codes), -1)

    def unexplained(basis: Tensor) -> float:
        q = torch.linalg.qr(basis).Q
        return float((columns - q @ (q.T @ columns)).square().sum() / columns.square().sum())

    rough = torch.randn(codes.shape, generator=seeded())
    affine = torch.cat([torch.ones(len(codes), 1), stream.body.v_template], 1)
    assert unexplained(codes) < 0.02
    assert 5 * unexplained(codes) < unexplained(affine) < unexplained(rough)


def rates(config: TrainConfig) -> list[float]:
    trainer = VoxelTrainer.__new__(VoxelTrainer)
    trainer.config = config
    found = []
    for trainer.step in range(config.steps):
        found.append(trainer.learning_rate() / config.learning_rate)
    return found


def test_the_rate_warms_up_stays_and_falls() -> None:
    found = rates(replace(CONFIG, steps=20, warmup=4, cooldown=5))
    assert found[:4] == pytest.approx([0.25, 0.5, 0.75, 1.0])
    assert found[4:15] == pytest.approx([1.0] * 11)
    assert found[15:] == pytest.approx([1.0, 0.8, 0.6, 0.4, 0.2])
    assert rates(replace(CONFIG, steps=3, warmup=0, cooldown=0)) == [1.0, 1.0, 1.0]
    # A run that is prolonged goes on at the full rate.
    assert rates(replace(CONFIG, steps=30, warmup=4, cooldown=5))[:20] == pytest.approx([*found[:15], *[1.0] * 5])


def test_a_tiny_network_learns_a_batch_by_heart(monkeypatch: pytest.MonkeyPatch) -> None:
    trainer = make_trainer(replace(CONFIG, steps=60, cooldown=10, warmup=3, learning_rate=1e-2))
    fixed = trainer.batch(2, 0, 0.0)
    monkeypatch.setattr(trainer, "batch", lambda *_: fixed)
    before = {name: value.clone() for name, value in trainer.net.named_parameters()}
    losses = [trainer.train_step() for _ in range(40)]
    assert sum(losses[-5:]) < 0.6 * sum(losses[:5]), losses
    still = [name for name, value in trainer.net.named_parameters() if torch.equal(value, before[name])]
    assert not still, f"never trained: {still}"
    assert trainer.step == 40 and all(math.isfinite(loss) for loss in losses)
    drift = [(trainer.net.state_dict()[k] - v).norm() for k, v in trainer.ema.items()]
    start = [(before[k] - v).norm() for k, v in trainer.ema.items()]
    assert max(drift) > 0 and min(start) > 0, "averaged weights are on the way"


def test_every_weight_gets_a_gradient_from_the_first_steps_on() -> None:
    """The basis starts at zero, so the first step reaches it alone; visited points must not cut the others off."""
    trainer = make_trainer()
    trainer.train_step()
    trainer.train_step()
    for name, value in trainer.net.named_parameters():
        assert value.grad is not None and bool(value.grad.isfinite().all()) and value.grad.abs().max() > 0, name


def test_a_step_whose_gradient_overflows_changes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    trainer = make_trainer()
    trainer.train_step()
    before = {name: value.clone() for name, value in trainer.net.state_dict().items()}
    monkeypatch.setattr(run, "descent_loss", lambda *inputs: descent_loss(*inputs) * float("inf"))
    trainer.train_step()
    assert trainer.step == 2
    assert all(torch.equal(value, before[name]) for name, value in trainer.net.state_dict().items())
    monkeypatch.undo()


def test_the_step_is_computed_on_the_devices_that_were_asked_for() -> None:
    """See test_stream.py: nothing may be made on the default device, so that training on a GPU works."""
    expected, found = make_trainer(), make_trainer()
    # torch 2.6 makes the optimiser's own state on the default device, in the first step.
    found.train_step()
    expected.train_step()
    expected.train_step()
    expected_scores = expected.validate()
    with torch.device("meta"):
        found.train_step()
        assert found.validate() == expected_scores
    for name, value in expected.net.state_dict().items():
        assert torch.equal(value, found.net.state_dict()[name]), name


def test_validation_measures_millimetres_on_the_same_unseen_scans(monkeypatch: pytest.MonkeyPatch) -> None:
    trainer = make_trainer(replace(CONFIG, validation_scans=3))
    asked: list[Tensor] = []

    def lazy(field: Any, features: Any, count: int, config: Any, subset: Tensor) -> Descent:
        asked.append(subset)
        return Descent(torch.zeros(count, len(subset), 3), torch.zeros(1, count), (True,) * count)

    monkeypatch.setattr(run, "descend", lazy)
    scores = trainer.validate()
    samples = trainer.batch(3, VALIDATION_SEED, 0.0)
    by_hand = 1000 * samples.metres_per_unit * samples.vertices[:, asked[0]].norm(dim=-1).mean(1)
    assert scores["error_mm_median"] == pytest.approx(float(by_hand.median()), rel=1e-4)
    assert scores["error_mm_mean"] == pytest.approx(float(by_hand.mean()), rel=1e-4)
    assert scores["error_mm_max"] == pytest.approx(float(by_hand.max()), rel=1e-4)
    assert 100 < scores["error_mm_median"] < 1000
    trainer.train_step()
    assert trainer.validate() == scores


def test_the_global_generator_is_left_alone() -> None:
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    trainer = make_trainer()
    trainer.train_step()
    trainer.averaged()
    assert torch.equal(torch.rand(3), expected)
    torch.manual_seed(6)
    again = make_trainer()
    again.train_step()
    assert all(torch.equal(v, again.net.state_dict()[k]) for k, v in trainer.net.state_dict().items())


def test_a_resumed_run_is_the_uninterrupted_one_bit_for_bit(tmp_path: Path) -> None:
    whole = make_trainer()
    for _ in range(4):
        whole.train_step()
    half = make_trainer()
    half.train_step()
    half.train_step()
    half.save(tmp_path, {})
    second = make_trainer(CONFIG)
    second.resume(tmp_path)
    assert second.step == 2
    second.validate()
    second.train_step()
    second.train_step()
    whole.save(tmp_path / "whole", {})
    second.save(tmp_path / "second", {})
    for file in ("state.safetensors", "voxel.safetensors"):
        expected, meta = read_tensors(tmp_path / "whole" / file)
        found, again = read_tensors(tmp_path / "second" / file)
        assert meta == again and meta["step"] == 4 and expected.keys() == found.keys()
        assert all(torch.equal(expected[name], found[name]) for name in expected)
    names = {name.split(".")[1] for name in read_tensors(tmp_path / "whole" / "state.safetensors")[0] if "adam" in name}
    assert names == {"step", "exp_avg", "exp_avg_sq"}


def test_train_voxel_writes_what_load_network_reads_and_goes_on(tmp_path: Path) -> None:
    reports: list[dict[str, float]] = []
    path = train_voxel(tmp_path / "run", NET, replace(CONFIG, steps=3), report=reports.append)
    assert path == tmp_path / "run" / "voxel.safetensors"
    assert [report["step"] for report in reports] == [1, 2, 3]
    assert [("error_mm_median" in report) for report in reports] == [False, True, True]
    assert all(0 < report["loss"] < 1 for report in reports)
    net, meta = load_network(path)
    assert net.config == NET and meta["step"] == 3 and meta["train"]["batch"] == 2 and meta["device"] == "cpu"
    assert meta["validation"]["error_mm_median"] == reports[-1]["error_mm_median"]
    reports.clear()
    assert train_voxel(tmp_path / "run", NET, replace(CONFIG, steps=4), resume=True, report=reports.append) == path
    assert [report["step"] for report in reports] == [4]
    assert load_network(path)[1]["step"] == 4
    other = train_voxel(tmp_path / "other", NET, replace(CONFIG, steps=1), start=path, report=reports.append)
    assert reports[-1]["step"] == 1 and load_network(other)[1]["step"] == 1
    # Where a run began stays known, also after it was resumed.
    begun = {"file": path.name, "sha256": sha256_of(path)}
    assert load_network(other)[1]["start"] == begun and "start" not in load_network(path)[1]
    train_voxel(tmp_path / "other", NET, replace(CONFIG, steps=2), resume=True)
    assert (load_network(other)[1]["step"], load_network(other)[1]["start"]) == (2, begun)


@pytest.mark.parametrize("name", ["voxel.safetensors", "voxel.json", "state.safetensors", "state.json"])
@pytest.mark.parametrize("how", ["file", "broken link"])
def test_a_new_run_is_not_written_over_what_is_there(tmp_path: Path, name: str, how: str) -> None:
    there = tmp_path / name
    if how == "file":
        there.write_text("weeks of training")
    else:
        there.symlink_to("nowhere")
    with pytest.raises(OutputError, match=rf"{name}: is there already; give --resume") as caught:
        train_voxel(tmp_path, NET, CONFIG)
    assert "\n" not in str(caught.value) and [path.name for path in tmp_path.iterdir()] == [name]
    assert how != "file" or there.read_text() == "weeks of training"


def test_a_run_may_start_from_weights(tmp_path: Path) -> None:
    first = make_trainer()
    first.train_step()
    first.save(tmp_path, {})
    second = make_trainer(replace(CONFIG, seed=9))
    second.start_from(tmp_path / "voxel.safetensors")
    assert second.step == 0 and not second.optimiser.state
    for name, value in first.ema.items():
        torch.testing.assert_close(second.net.state_dict()[name], value.half().float(), rtol=0, atol=0)
        assert torch.equal(second.ema[name], second.net.state_dict()[name])
    second.train_step()
    assert any(not torch.equal(second.ema[name], value) for name, value in first.ema.items())


@pytest.mark.parametrize(
    "change",
    [
        {"step": -1},
        {"step": 2**63},
        {"step": 1e400},
        {"step": "x"},
        {"network": [7]},
        {"network": {"body": "b" * 5000}},
    ],
)
def test_states_that_say_strange_things_are_refused(change: dict[str, Any], tmp_path: Path) -> None:
    trainer = make_trainer()
    trainer.save(tmp_path, {})
    path = tmp_path / "state.safetensors"
    tensors, meta = read_tensors(path)
    write_tensors(path, tensors, meta | change)
    with pytest.raises(CheckpointError) as caught:
        make_trainer().resume(tmp_path)
    assert "\n" not in str(caught.value) and len(str(caught.value)) < 500


@pytest.mark.parametrize("kind", ["ema", "adam.exp_avg", "adam.step"])
@pytest.mark.parametrize("bad", [torch.zeros(2, 3, 4), torch.tensor(float("nan"))])
def test_states_of_other_tensors_are_refused(kind: str, bad: torch.Tensor, tmp_path: Path) -> None:
    trainer = make_trainer()
    for parameter in trainer.net.parameters():
        parameter.grad = torch.zeros_like(parameter)
    trainer.optimiser.step()
    trainer.save(tmp_path, {})
    path = tmp_path / "state.safetensors"
    tensors, meta = read_tensors(path)
    make_trainer().resume(tmp_path)
    name = next(name for name in tensors if name.startswith(kind))
    write_tensors(path, tensors | {name: bad}, meta)
    with pytest.raises(CheckpointError, match=r"do not fit|not finite"):
        make_trainer().resume(tmp_path)


def test_what_cannot_be_resumed_says_so_in_one_line(tmp_path: Path) -> None:
    trainer = make_trainer()
    trainer.train_step()
    trainer.save(tmp_path, {})
    state, meta = read_tensors(tmp_path / "state.safetensors")
    wider = replace(NET, field=replace(NET.field, hidden=40))
    cases: list[tuple[dict[str, Tensor], dict[str, Any], VoxelNetConfig, str]] = [
        (state, meta, wider, "do not fit the network"),
        (state, {**meta, "network": {**meta["network"], "body": "smpl"}}, NET, "expected a run with body anny, got"),
        (state, {k: v for k, v in meta.items() if k != "step"}, NET, "after None steps"),
        ({k: v for k, v in state.items() if not k.startswith("ema.")}, meta, NET, "do not fit the network"),
        ({k: v for k, v in state.items() if k != "net.field.codes"}, meta, NET, "field.codes first"),
        ({**state, "net.field.codes": state["net.field.codes"] * torch.nan}, meta, NET, "not finite"),
    ]
    for number, (tensors, about, config, words) in enumerate(cases):
        folder = tmp_path / str(number)
        write_tensors(folder / "state.safetensors", tensors, about)
        with pytest.raises(CheckpointError, match=words) as caught:
            make_trainer(net=config).resume(folder)
        assert str(folder) in str(caught.value) and "\n" not in str(caught.value)
    with pytest.raises(CheckpointError, match="missing"):
        train_voxel(tmp_path / "nowhere", NET, CONFIG, resume=True)
    with pytest.raises(CheckpointError, match="missing"):
        train_voxel(tmp_path / "new", NET, CONFIG, start=tmp_path / "no.safetensors")
    with pytest.raises(CheckpointError, match="do not fit the network"):
        make_trainer(net=wider).start_from(tmp_path / "voxel.safetensors")
    assert not (tmp_path / "nowhere").exists() and not (tmp_path / "new").exists()


def test_an_unknown_body_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(run, "load_body", load_body)
    with pytest.raises(BodyError, match="nobody"):
        train_voxel(tmp_path, replace(NET, body="nobody"), CONFIG)


def test_codes_are_not_computed_where_they_will_be_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    train_voxel(tmp_path, NET, replace(CONFIG, steps=1))
    monkeypatch.setattr(run, "pose_codes", None)
    train_voxel(tmp_path, NET, replace(CONFIG, steps=2), resume=True)
    assert float(load_network(tmp_path / "voxel.safetensors")[0].field.codes.abs().max()) > 0.5


def test_the_network_sees_what_inference_gives_it() -> None:
    """A batch is made of what VoxelNet.features takes, and its truth lies in the box, but for what was not scanned."""
    batch: UnitBatch = make_trainer().batch(2, 7, 0.1)
    assert batch.points.shape == (2, 300, 3) and batch.valid.shape == (2, 300)
    assert batch.points[batch.valid].abs().max() < 1
    assert (batch.vertices.abs() < 1).all(-1).float().mean() > 0.8 and batch.vertices.abs().max() < 3
    net = VoxelNet(NET, torch.randn(5, 16))
    features = net.features(batch.points, batch.valid)(batch.vertices[:, :5])
    assert features.shape == (2, 5, net.encoder.num_features)


def test_the_command_line_trains_and_says_how_well(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("lvdreg.train.plans.voxel_plan", lambda body: (replace(NET, body=body), CONFIG))
    out = tmp_path / "run"
    options = ["train", "voxel", "--out", str(out), "--batch", "1", "--device", "cpu"]
    first = CliRunner().invoke(app, [*options, "--steps", "2", "--cooldown", "0", "--seed", "3", "--body", "anny"])
    assert first.exit_code == 0, first.output
    assert first.stdout == f"{out / 'voxel.safetensors'}\n"
    assert re.search(r"step 2 of 2, loss 0\.\d+, error_mm_median [\d.]+, error_mm_mean [\d.]+", first.stderr)
    trained = load_network(out / "voxel.safetensors")[1]["train"]
    assert (trained["steps"], trained["batch"], trained["cooldown"], trained["seed"]) == (2, 1, 0, 3)
    second = CliRunner().invoke(app, [*options, "--steps", "4", "--resume"])
    assert second.exit_code == 0 and "step 4 of 4" in second.stderr and "step 2 of" not in second.stderr
    meta = load_network(out / "voxel.safetensors")[1]
    assert meta["step"] == 4 and meta["train"]["cooldown"] == 1, "a quarter of the steps"
    nowhere = ["train", "voxel", "--out", str(tmp_path / "none"), "--resume", "--device", "cpu"]
    missing = CliRunner().invoke(app, nowhere)
    assert missing.exit_code == 1 and "none" in missing.stderr
    assert missing.stderr.strip().startswith("lvdreg: ") and "\n" not in missing.stderr.strip()


BARE = """
import sys
for name in ("igl", "scipy", "PIL", "trimesh", "typer", "tqdm", "rich"):
    sys.modules[name] = None
sys.path.insert(0, "scripts")
import bench_claims
import torch
import train_bare
from lvdreg.body.catalogue import load_body
from lvdreg.synth.photos import PhotoStream
from lvdreg.synth.scans import SynthStream
body = load_body("anny")
PhotoStream(body, 64).photos(2, torch.Generator())
SynthStream(body).scans(1, 500, torch.Generator())
train_bare.plans.pymaf_plan("anny")
del sys.modules["scipy"]
import bench_gpu
bench_gpu.inputs(1, 100, bench_gpu.RegisterConfig())
print(*train_bare.NETWORKS)
"""


def test_networks_train_where_there_is_little_but_torch() -> None:
    """Machines with a GPU are lent bare: what makes samples must not ask for more than they have."""
    root = Path(__file__).parent.parent
    done = subprocess.run([sys.executable, "-c", BARE], capture_output=True, text=True, cwd=root)
    assert done.stdout.split() == ["image", "spin", "pymaf", "voxel", "hand", "hand-detector", "next"], done.stderr
