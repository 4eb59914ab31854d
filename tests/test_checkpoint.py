"""Weights on disk: what is written is read again, and every damage is one clear line."""

import json
import os
import pickle
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

import lvdreg.base.tensors
from lvdreg.base.assets import assets_dir
from lvdreg.base.errors import CheckpointError
from lvdreg.base.tensors import CHECKSUM, PAIR, checksums, read_tensors, write_tensors
from lvdreg.descent.checkpoint import SMALLEST_ROUNDED, load_network, rounded, save_network
from lvdreg.descent.weights import voxel_weights
from lvdreg.field import FieldConfig
from lvdreg.voxel.network import VoxelConfig, VoxelNet, VoxelNetConfig

CONFIG = VoxelNetConfig(
    "anny", VoxelConfig(resolution=8, channels=(4, 6)), FieldConfig(hidden=16, layers=2, rank=5, clip=0.3)
)
SUFFIXES = (".safetensors", ".json")
META = {"step": 7, "calibration": {"spread": [0.01, 0.1], "sigma": [0.02, 0.2]}}


def make_net() -> VoxelNet:
    torch.manual_seed(0)
    net = VoxelNet(CONFIG, torch.randn(20, 5))
    torch.nn.init.normal_(net.field.basis.weight)
    return net


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A healthy checkpoint."""
    path = tmp_path / "voxel-anny.safetensors"
    save_network(path, make_net(), META)
    return path


def test_eight_bits_are_near_enough_and_take_half_the_space(path: Path, tmp_path: Path) -> None:
    torch.manual_seed(0)
    config = replace(CONFIG, field=replace(CONFIG.field, hidden=256))
    net, small, large = VoxelNet(config, torch.randn(20, 5)), tmp_path / "small.safetensors", tmp_path / "l.safetensors"
    save_network(small, net, META, in_eight_bits=True)
    save_network(large, net, META)
    again = load_network(small)[0]
    assert small.stat().st_size < 0.65 * large.stat().st_size
    for name, value in again.state_dict().items():
        wanted = net.state_dict()[name]
        if wanted.ndim < 2 or wanted.numel() < SMALLEST_ROUNDED:
            assert torch.equal(value, wanted.half().float())
            continue
        step = wanted.flatten(1).abs().amax(1) / 127
        off = (value - wanted).flatten(1).abs().amax(1)
        assert (off <= 0.51 * step + 1e-3 * wanted.abs().max()).all() and off.max() > 0


def test_rounding_keeps_zeros_signs_and_the_largest() -> None:
    weights = torch.tensor([[0.0, 0.0, 0.0], [1.0, -1.0, 0.25], [-127.0, 63.5, 1e-3]])
    whole, scale = rounded(weights)
    assert whole.tolist()[0] == [0, 0, 0] and whole.tolist()[2] == [-127, 64, 0]
    torch.testing.assert_close(whole * scale.float()[:, None], weights, atol=0.51, rtol=0)
    torch.testing.assert_close((whole * scale.float()[:, None])[1], weights[1], atol=0.005, rtol=0)


def test_scales_that_fit_nothing_are_refused(tmp_path: Path) -> None:
    save_network(tmp_path / "w.safetensors", make_net(), META)
    tensors = load_file(tmp_path / "w.safetensors")
    name = "field.basis.weight"
    for scale in (torch.ones(3).half(), torch.full((len(tensors[name]),), torch.nan).half()):
        changed = {**tensors, name: torch.ones(tensors[name].shape, dtype=torch.int8), name + ".scale": scale}
        write_tensors(tmp_path / "b.safetensors", changed, {"network": CONFIG.to_dict(), **META})
        with pytest.raises(CheckpointError, match=r"do not fit|not finite"):
            load_network(tmp_path / "b.safetensors")


def test_a_network_comes_back_in_single_precision_and_predicts_the_same(path: Path) -> None:
    net, (again, meta) = make_net(), load_network(path)
    assert again.config == CONFIG and isinstance(again.config.voxel.channels, tuple)
    assert meta["step"] == 7 and meta["calibration"] == META["calibration"]
    assert not again.training and not any(p.requires_grad for p in again.parameters())
    for name, value in again.state_dict().items():
        assert value.dtype == torch.float32
        torch.testing.assert_close(value, net.state_dict()[name].half().float(), rtol=0, atol=0)
    points = torch.rand(2, 50, 3) * 2 - 1
    valid, asked = torch.ones(2, 50, dtype=torch.bool), torch.rand(2, 20, 3)
    with torch.no_grad():
        expected = net.field(net.features(points, valid)(asked), asked)
        found = again.field(again.features(points, valid)(asked), asked)
    assert expected.abs().max() > 0.1
    torch.testing.assert_close(found, expected, rtol=0.02, atol=0.01)


def test_shipped_weights_are_in_half_precision_and_plain_json(path: Path) -> None:
    assert {tensor.dtype for tensor in load_file(path).values()} == {torch.float16}
    assert json.loads(path.with_suffix(".json").read_text(encoding="utf-8"))["network"]["voxel"]["channels"] == [4, 6]
    assert {p.name for p in path.parent.iterdir()} == {"voxel-anny.safetensors", "voxel-anny.json"}


def test_any_tensors_come_back_as_they_were(tmp_path: Path) -> None:
    tensors = {
        "a": torch.randn(3, 4).T,
        "b": torch.tensor(5),
        "c": torch.randn(2, dtype=torch.float64, requires_grad=True),
        "d": torch.zeros(0, 3),
    }
    write_tensors(tmp_path / "deep" / "x.safetensors", tensors, {"k": [1, "ü"]})
    again, meta = read_tensors(tmp_path / "deep" / "x.safetensors")
    assert meta == {"k": [1, "ü"]} and again.keys() == tensors.keys()
    assert all(torch.equal(again[k], tensors[k]) and again[k].dtype == tensors[k].dtype for k in tensors)


def test_a_crash_while_writing_leaves_the_old_pair(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def crash(tensors: dict[str, Any], where: Path, header: dict[str, str]) -> None:
        Path(where).write_bytes(b"half of a file")
        raise OSError("no space left on device")

    monkeypatch.setattr(lvdreg.base.tensors, "save_file", crash)
    with pytest.raises(OSError, match="no space"):
        save_network(path, make_net(), {"step": 8})
    assert load_network(path)[1]["step"] == 7


def test_a_kill_between_the_two_files_leaves_one_save_or_the_other(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The new tensors with the old step would go on with a wrong state, and nobody would know."""
    replace, moved = os.replace, list[str]()

    def killed(source: Path, target: Path) -> None:
        if moved:
            raise KeyboardInterrupt
        moved.append(Path(target).name)
        replace(source, target)

    monkeypatch.setattr(os, "replace", killed)
    net = make_net()
    with pytest.raises(KeyboardInterrupt):
        save_network(path, net, {"step": 8})
    again, meta = load_network(path)
    codes = net.state_dict()["field.codes"].half().float()
    assert moved == [path.name] and meta["step"] == 8
    torch.testing.assert_close(again.state_dict()["field.codes"], codes, rtol=0, atol=0)
    assert {file.name for file in path.parent.iterdir()} == {path.name, path.with_suffix(".json").name}


def edit_json(change: Callable[[dict[str, Any]], Any]) -> Callable[[Path], None]:
    """Change it as by a program that knows of no checksums: then what is said is checked by its sense."""

    def damage(path: Path) -> None:
        meta = json.loads(path.with_suffix(".json").read_text(encoding="utf-8"))
        meta.pop(CHECKSUM, None)
        path.with_suffix(".json").write_text(json.dumps(change(meta) or meta), encoding="utf-8")

    return damage


def edit_tensors(change: Callable[[dict[str, Any]], Any]) -> Callable[[Path], None]:
    def damage(path: Path) -> None:
        tensors = load_file(path)
        change(tensors)
        save_file(tensors, path)
        edit_json(lambda meta: None)(path)

    return damage


def edit_bytes(change: Callable[[bytes], bytes], suffix: str = ".safetensors") -> Callable[[Path], None]:
    def damage(path: Path) -> None:
        file = path.with_suffix(suffix)
        file.write_bytes(change(file.read_bytes()))

    return damage


def make_folder(path: Path) -> None:
    path.unlink()
    path.mkdir()


DAMAGES: dict[str, tuple[Callable[[Path], None], str]] = {
    "no tensors": (lambda path: path.unlink(), "missing: .*voxel-anny.safetensors"),
    "no json": (lambda path: path.with_suffix(".json").unlink(), "missing: .*voxel-anny.json"),
    "a folder": (make_folder, "not a readable checkpoint"),
    "empty": (edit_bytes(lambda data: b""), "not a readable checkpoint"),
    "truncated": (edit_bytes(lambda data: data[: len(data) // 2]), "not a readable checkpoint"),
    "one byte short": (edit_bytes(lambda data: data[:-1]), "not a readable checkpoint"),
    "garbage": (edit_bytes(lambda data: bytes(range(256)) * 20), "not a readable checkpoint"),
    "header of endless length": (edit_bytes(lambda data: b"\xff" * 8 + data[8:]), "not a readable checkpoint"),
    "empty json": (edit_bytes(lambda data: b"", ".json"), "not a readable checkpoint"),
    "half a json": (edit_bytes(lambda data: data[: len(data) // 2], ".json"), "not a readable checkpoint"),
    "json not text": (edit_bytes(lambda data: b"\xff\xfe" + data, ".json"), "not a readable checkpoint"),
    "json a list": (edit_json(lambda meta: [meta]), "should hold an object, got list"),
    "no network": (edit_json(lambda meta: meta.pop("network") and None), "lacks 'network'"),
    "no field": (edit_json(lambda meta: meta["network"].pop("field") and None), "lacks 'field'"),
    "unknown setting": (
        edit_json(lambda meta: meta["network"]["voxel"].update({"col\nour": 1})),
        "describes no network",
    ),
    "network a word": (edit_json(lambda meta: meta.update(network="net")), "describes no network"),
    "voxel a word": (edit_json(lambda meta: meta["network"].update(voxel="v")), "describes no network"),
    "channels words": (edit_json(lambda meta: meta["network"]["voxel"].update(channels=["a"])), "describes no network"),
    "channels negative": (
        edit_json(lambda meta: meta["network"]["voxel"].update(channels=[-1])),
        "describes no network",
    ),
    "no channels": (edit_json(lambda meta: meta["network"]["voxel"].update(channels=[])), "describes no network"),
    "other channels": (edit_json(lambda meta: meta["network"]["voxel"].update(channels=[4, 7])), "do not fit"),
    "other width": (edit_json(lambda meta: meta["network"]["field"].update(hidden=8)), "field.entry.weight first"),
    "no codes": (edit_tensors(lambda tensors: tensors.pop("field.codes")), "lacks 'field.codes'"),
    "codes flat": (edit_tensors(lambda tensors: tensors.update({"field.codes": torch.zeros(5)})), "describes no"),
    "a tensor less": (
        edit_tensors(lambda tensors: tensors.pop("field.entry.bias")),
        "field.entry.bias first: expected .16,., got nothing",
    ),
    "a tensor more": (
        edit_tensors(lambda tensors: tensors.update(more=torch.zeros(1))),
        "more first: expected nothing, got .1,.",
    ),
    "not finite": (edit_tensors(lambda tensors: tensors["field.codes"][3].fill_(torch.nan)), "finite in field.codes"),
}


@pytest.mark.parametrize("name", DAMAGES)
@pytest.mark.usefixtures("no_type_checks")
def test_damage_is_one_line_that_names_the_file(path: Path, name: str) -> None:
    damage, words = DAMAGES[name]
    damage(path)
    with pytest.raises(CheckpointError, match=words) as caught:
        load_network(path)
    message = str(caught.value)
    assert message.startswith(f"{path}: ") and "\n" not in message
    assert len(message.removeprefix(f"{path}: ")) < 300


def test_every_flipped_bit_is_noticed(path: Path) -> None:
    """In the tensors always; of the JSON, what it says is either refused or the same."""
    rng = np.random.default_rng(0)
    expected, whole = read_tensors(path), {suffix: path.with_suffix(suffix).read_bytes() for suffix in SUFFIXES}
    for suffix, data in whole.items():
        num_refused = 0
        for place in rng.permutation(len(data))[:300]:
            flipped = bytearray(data)
            flipped[place] ^= 1 << int(rng.integers(8))
            path.with_suffix(suffix).write_bytes(flipped)
            try:
                tensors, meta = read_tensors(path)
            except CheckpointError as error:
                assert "\n" not in str(error)
                num_refused += 1
                continue
            assert suffix == ".json"
            assert {key: value for key, value in meta.items() if key in expected[1]} == expected[1]
            assert all(torch.equal(tensors[name], tensor) for name, tensor in expected[0].items())
        assert num_refused > (100 if suffix == ".json" else 299)
        path.with_suffix(suffix).write_bytes(data)


def test_weights_without_checksums_are_read_as_before(path: Path) -> None:
    expected = read_tensors(path)[1]
    edit_json(lambda meta: meta.pop(PAIR) and None)(path)
    assert read_tensors(path)[1] == expected


def test_shipped_weights_have_checksums() -> None:
    for file in sorted((assets_dir() / "weights").glob("*.safetensors")):
        about = json.loads(file.with_suffix(".json").read_text(encoding="utf-8"))
        assert about.pop(CHECKSUM) == checksums(file, about), file.name


class _Bomb:
    """What a malicious file would hold."""

    def __init__(self, proof: Path) -> None:
        self.proof = proof

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (self.proof,)


def test_a_pickle_is_never_run(path: Path) -> None:
    proof = path.parent / "it-ran"
    for dump in (lambda p: p.write_bytes(pickle.dumps(_Bomb(proof))), lambda p: torch.save(_Bomb(proof), p)):
        dump(path)
        with pytest.raises(CheckpointError, match="not a readable checkpoint"):
            load_network(path)
    assert not proof.exists()
    pickle.loads(pickle.dumps(_Bomb(proof)))
    assert proof.exists(), "the bomb would have told"


@pytest.fixture
def shipped(path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The healthy checkpoint where shipped weights are looked for."""
    assets = path.parent / "assets"
    (assets / "weights").mkdir(parents=True)
    monkeypatch.setattr("lvdreg.descent.weights.assets_dir", lambda: assets)
    for file in (path, path.with_suffix(".json")):
        file.rename(assets / "weights" / file.name)
    return assets / "weights" / path.name


def load_shipped(body: str = "anny") -> Any:
    return voxel_weights.__wrapped__(body)


def test_shipped_weights_come_with_their_calibration(shipped: Path) -> None:
    trained = load_shipped()
    assert trained.net.config == CONFIG and trained.meta["step"] == 7
    spread = torch.tensor([0.001, 0.01, 0.1, 5.0])
    torch.testing.assert_close(trained.calibration(spread), torch.tensor([0.02, 0.02, 0.2, 0.2]))


def test_shipped_weights_of_another_body_or_without_calibration_are_refused(shipped: Path) -> None:
    with pytest.raises(CheckpointError, match=r"missing: .*voxel-smpl"):
        load_shipped("smpl")
    for suffix in (".safetensors", ".json"):
        (shipped.parent / f"voxel-smpl{suffix}").write_bytes(shipped.with_suffix(suffix).read_bytes())
    with pytest.raises(CheckpointError, match="expected weights of smpl, got those of anny"):
        load_shipped("smpl")
    edit_json(lambda meta: meta.pop("calibration") and None)(shipped)
    with pytest.raises(CheckpointError, match="expected a calibration") as caught:
        load_shipped()
    assert "\n" not in str(caught.value)
