"""`lvdreg models`: licensed models added, listed, used and removed from the command line."""

import sys
from dataclasses import fields, replace
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
from fake_registration import fake_hand, fake_registration
from PIL import Image
from typer.testing import CliRunner, Result

from lvdreg.base.errors import BodyError
from lvdreg.body.catalogue import load_body
from lvdreg.body.licensed import LicensedModel
from lvdreg.body.model import BodyData
from lvdreg.body.store import load_model
from lvdreg.body.transfer import Correspondence, key_of
from lvdreg.cli import app

SEEN: list[str] = []


def run(*arguments: str | Path) -> Result:
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


def correspond(model: LicensedModel) -> Correspondence:
    num, source = len(model.data.v_template), load_body("anny-hand" if model.data.is_hand else "anny").data
    blind = np.arange(num) == 0
    residual = np.where(blind, 900.0, 2.0)
    rows = np.full((num, 3), 1 / 3)
    return Correspondence(
        source.name, np.zeros(num, np.int64), rows, rows, residual, blind, 1.3, key_of(model.data, source)
    )


@pytest.fixture(autouse=True)
def stage(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, toy_data: BodyData) -> None:
    """Work in an empty folder; files are read and registered by what is made up."""
    hand = replace(toy_data, joint_names=("wrist", *toy_data.joint_names[1:]), mirror_vertices=None, mirror_joints=None)

    def read(path: Path, num_betas: int | None) -> LicensedModel:
        kind = path.read_text(encoding="utf-8")
        if kind == "junk":
            raise BodyError(f"{path.name}: expected v_template, got nothing")
        data = replace(hand if kind == "mano" else toy_data, provenance={"licence": "for research only"})
        if num_betas is not None:
            kept = {name: getattr(data, name)[..., :num_betas] for name in ("shapedirs", "J_shapedirs")}
            data = replace(data, **kept, provenance={"changed": "a sign"})
        return LicensedModel(kind, None, data)

    def register(source: Path, model: str, **options: Any) -> Any:
        SEEN.append(model)
        return (fake_hand if "side" in options else fake_registration)(name=source.stem, verdict="good")

    module = ModuleType("lvdreg.pipeline.scan")
    vars(module).update(register=register, register_hand=register, correspond=correspond)
    monkeypatch.setitem(sys.modules, "lvdreg.pipeline.scan", module)
    monkeypatch.setattr("lvdreg.body.licensed.read_model", read)
    monkeypatch.setattr("lvdreg.result.files_scan.preview", lambda registration: Image.new("RGB", (4, 4)))
    monkeypatch.setenv("LVDREG_MODELS", str(tmp_path / "added"))
    monkeypatch.chdir(tmp_path)
    for name in ("smpl", "mano", "junk"):
        Path(f"{name}.pkl").write_text(name, encoding="utf-8")
    Path("ann.ply").write_text("good", encoding="utf-8")
    SEEN.clear()


def test_add_list_use_remove() -> None:
    added = run("models", "add", "smpl.pkl", "--name", "tom")
    assert added.exit_code == 0, added.output
    first, doubt, last = added.stdout.splitlines()
    assert first == "added tom: network of anny, transfer residual 2.0 mm median, 2.0 at 95 %"
    assert "no place on anny" in doubt
    assert last == "use: lvdreg register SCAN --model tom+d"
    listed = run("models", "list").stdout
    assert run("models").stdout == listed
    rows = [line.split()[:3] for line in listed.splitlines()]
    assert rows[-2:] == [["tom", "lvdreg", "register"], ["tom+d", "lvdreg", "register"]]
    assert "246 vertices, 6 joints, 4 betas; for research only" in listed
    assert run("register", "ann.ply", "--model", "tom+d").exit_code == 0 and SEEN == ["tom+d"]
    refused = run("hands", "ann.ply", "--model", "tom")
    assert refused.exit_code == 2 and "tom is a whole body, use lvdreg register" in refused.stderr
    assert run("models", "remove", "tom").stdout == "removed tom\n"
    assert run("models").stdout.count("\n") == listed.count("\n") - 2
    again = run("models", "remove", "tom")
    assert again.exit_code == 1 and "no model named 'tom'" in again.stderr


def test_a_hand_is_registered_by_hands() -> None:
    assert run("models", "add", "mano.pkl").stdout.endswith("use: lvdreg hands SCAN --model mano+d\n")
    assert run("hands", "ann.ply", "--model", "mano").exit_code == 0 and SEEN == ["mano"]
    refused = run("register", "ann.ply", "--model", "mano")
    assert refused.exit_code == 2 and "mano is a hand, use lvdreg hands" in refused.stderr


def test_betas_and_what_was_put_right() -> None:
    added = run("models", "add", "mano.pkl", "--betas", "2")
    assert added.exit_code == 0 and "note: put right in it: a sign\n" in added.stdout
    assert "6 joints, 2 betas" in run("models").stdout
    assert run("models", "add", "mano.pkl", "--betas", "0").exit_code == 2


def test_an_added_model_is_offered() -> None:
    run("models", "add", "smpl.pkl")
    assert "anny, anny+d, smpl, smpl+d, got 'smlp'" in run("register", "ann.ply", "--model", "smlp").stderr


def test_what_cannot_be_added_is_one_line_and_leaves_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    for arguments, status, words in (
        (["junk.pkl"], 1, "expected v_template"),
        (["smpl.pkl", "--name", "anny"], 2, "free model"),
        (["smpl.pkl", "--name", "a b"], 2, "letters and digits"),
    ):
        refused = run("models", "add", *arguments)
        assert (refused.exit_code, refused.stdout) == (status, "") and words in refused.stderr
        assert len(refused.stderr.splitlines()) == 1
    assert not Path("added").exists()
    run("models", "add", "smpl.pkl")
    twice = run("models", "add", "smpl.pkl")
    assert twice.exit_code == 2 and "--replace" in twice.stderr
    assert run("models", "add", "smpl.pkl", "--replace").exit_code == 0


def test_an_interrupted_add_leaves_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt(model: LicensedModel) -> Correspondence:
        raise KeyboardInterrupt

    vars(sys.modules["lvdreg.pipeline.scan"])["correspond"] = interrupt
    assert run("models", "add", "smpl.pkl").exit_code == 130 and not Path("added").exists()


def test_where_is_the_folder(tmp_path: Path) -> None:
    assert run("models", "where").stdout == f"{tmp_path}/added\n"


def test_doctor_looks_at_added_models(monkeypatch: pytest.MonkeyPatch) -> None:
    def look() -> tuple[int, dict[str, str]]:
        done = run("doctor")
        rows = [line.strip().split(maxsplit=3) for line in done.stdout.splitlines()]
        return done.exit_code, {" ".join(row[1:3]): f"{row[0]} {row[3]}" for row in rows if len(row) == 4}

    monkeypatch.setattr("lvdreg.descent.weights.voxel_weights", lambda body: None)
    assert "none added" in look()[1]["models folder"]
    run("models", "add", "smpl.pkl")
    found = look()[1]
    assert found["model smpl"].startswith("ok 246 vertices")
    assert found["transfer smpl"] == "ok network of anny, transfer residual 2.0 mm median, 2.0 at 95 %"
    changed = replace(correspond(load_model("smpl")), key="old")
    np.savez("added/smpl/correspondence.npz", **{f.name: np.asarray(getattr(changed, f.name)) for f in fields(changed)})
    assert "found anew at the next use" in look()[1]["transfer smpl"]
    Path("added/smpl/correspondence.npz").write_text("", encoding="utf-8")
    status, found = look()
    assert status == 1 and found["model smpl"].startswith("ok") and found["transfer smpl"].startswith("!!")


def test_a_damaged_model_is_in_nobodys_way() -> None:
    run("models", "add", "smpl.pkl")
    Path("added/smpl/model.json").write_text("", encoding="utf-8")
    listed = run("models")
    assert listed.exit_code == 0 and "anny+d " in listed.stdout
    assert [line.split()[:2] for line in listed.stdout.splitlines()][-1] == ["smpl+d", "damaged"]
    assert run("register", "ann.ply", "--model", "anny+d").exit_code == 0
    assert run("register", "ann.ply", "--model", "any").exit_code == 2
    refused = run("register", "ann.ply", "--model", "smpl")
    assert refused.exit_code == 1 and "lvdreg models remove smpl" in refused.stderr
    assert run("models", "remove", "smpl").exit_code == 0
