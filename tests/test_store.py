"""Licensed models that users add: kept whole, replaced and removed as asked, and nothing left of what failed."""

import json
import subprocess
import sys
from collections.abc import Callable
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fabricate import fabricate

from lvdreg.base.assets import assets_dir
from lvdreg.base.errors import BodyError, LvdregError, UsageError
from lvdreg.base.provenance import sha256_of
from lvdreg.body import store
from lvdreg.body.catalogue import load_body
from lvdreg.body.chosen import choose
from lvdreg.body.files import KINDS, body_names
from lvdreg.body.licensed import LicensedModel, read_model
from lvdreg.body.model import BodyData, mirror_image
from lvdreg.body.store import CORRESPONDENCE
from lvdreg.body.transfer import Correspondence, key_of

ROOT = Path(__file__).resolve().parent.parent
Read = Callable[..., Path]


def correspond(model: LicensedModel) -> Correspondence:
    """Put every vertex on the first face: quick, and read back it must be the same."""
    num = len(model.data.v_template)
    source = load_body("anny-hand" if model.data.is_hand else "anny").data
    seen = mirror_image(model.data) if model.side == "left" else model.data
    bary = np.full((num, 3), 1 / 3)
    return Correspondence(
        source=source.name,
        faces_index=np.arange(num),
        bary=bary,
        offsets=0.01 * bary,
        residual_mm=np.arange(num) / num,
        blind=np.zeros(num, bool),
        size=1.3,
        key=key_of(seen, source),
    )


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Keep models in an empty folder of the test."""
    monkeypatch.setenv("LVDREG_MODELS", str(tmp_path / "models"))
    return tmp_path / "models"


@pytest.fixture
def file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, toy_data: BodyData) -> Read:
    """Give what writes a file that reads as a made-up model."""
    there: dict[str, LicensedModel] = {}

    def read(path: Path, num_betas: int | None) -> LicensedModel:
        if path.name not in there:
            raise BodyError(f"{path}: no model")
        return there[path.name]

    def write(kind: str = "smpl", side: str | None = None, data: BodyData = toy_data, **extra: Any) -> Path:
        path = tmp_path / f"{kind}-{len(there)}.pkl"
        path.write_text(f"{kind} {len(there)}", encoding="utf-8")
        there[path.name] = LicensedModel(kind, side, data, **extra)
        return path

    monkeypatch.setattr("lvdreg.body.licensed.read_model", read)
    return write


@pytest.fixture
def hand(toy_data: BodyData) -> BodyData:
    """The toy as if it were a hand."""
    return replace(toy_data, joint_names=("wrist", *toy_data.joint_names[1:]), mirror_vertices=None, mirror_joints=None)


def add(path: Path, name: str | None = None, **options: Any) -> str:
    return store.add(path, name, correspond=correspond, **options)


def left_behind(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir()) if folder.exists() else []


def assert_same(a: Any, b: Any) -> None:
    for field in fields(a):
        x, y = getattr(a, field.name), getattr(b, field.name)
        if isinstance(x, np.ndarray):
            np.testing.assert_array_equal(x, y, err_msg=field.name)
            assert x.dtype == y.dtype, field.name
        elif field.name not in ("data", "name", "sha256"):
            assert x == y, field.name


def test_a_model_is_read_back_as_it_was_added(file: Read, toy_data: BodyData, folder: Path) -> None:
    rng = np.random.default_rng(0)
    posed = replace(toy_data, posedirs=np.float32(rng.standard_normal((len(toy_data.v_template), 3, 45))))
    extra = {
        "hand_mean": np.float32(rng.standard_normal((2, 45))),
        "expression": np.float32(rng.standard_normal((4, 3, 10))),
        "shapes_in_file": 7,
    }
    path = file("smplh", data=posed, mended_shapes=True, **extra)
    steps: list[str] = []
    assert add(path, progress=steps.append) == "smplh" and len(steps) == 3
    assert store.names() == ("smplh",) and left_behind(folder) == ["smplh"]
    model = store.load_model("smplh")
    assert_same(model.data, posed)
    assert_same(model, LicensedModel("smplh", None, posed, mended_shapes=True, **extra))
    assert model.hand_components is None
    assert model.data.name == "smplh" and model.data is store.load("smplh")
    assert_same(store.correspondence("smplh"), correspond(model))
    assert store.is_current("smplh")
    note = store.entry("smplh")
    assert (note.kind, note.side, note.source, note.is_hand) == ("smplh", None, path.name, False) and len(
        note.sha256
    ) == 64


def test_a_file_in_the_public_format(tmp_path: Path, folder: Path) -> None:
    path = fabricate("mano", tmp_path, "chumpy", side="left")
    name, model = add(path), read_model(path)
    assert name == model.data.name == "mano-left" and model.hand_components is not None
    assert_same(store.load_model(name), model)
    assert_same(store.load(name), model.data)
    for kept in folder.rglob("*.npz"):
        with np.load(kept, allow_pickle=False) as arrays:
            assert all(arrays[name].dtype != object for name in arrays.files)


def test_what_is_kept_holds_no_pickle(file: Read, folder: Path) -> None:
    add(file("smpl"))
    assert left_behind(folder / "smpl") == ["correspondence.npz", "model.json", "smpl.npz"]
    for path in folder.rglob("*.npz"):
        with np.load(path, allow_pickle=False) as arrays:
            assert all(arrays[name].dtype != object for name in arrays.files)


def test_bodies_are_found_by_name_after_the_free_ones(file: Read, toy_data: BodyData) -> None:
    assert add(file("smpl"), "Tom-1") == "Tom-1"
    body = load_body("Tom-1")
    np.testing.assert_array_equal(body.v_template.numpy(), toy_data.v_template)
    assert "Tom-1" not in body_names()
    with pytest.raises(BodyError, match="left"):
        load_body("Tom-1", "left")
    store.remove("Tom-1")
    with pytest.raises(BodyError, match="no body named 'Tom-1'"):
        load_body("Tom-1")


def test_hands_are_named_by_side(file: Read, hand: BodyData) -> None:
    assert add(file("mano", "right", hand)) == "mano"
    assert add(file("mano", "left", hand)) == "mano-left"
    assert store.entry("mano-left").is_hand and store.is_current("mano-left")
    with pytest.raises(UsageError, match="mano-left is kept for another file"):
        add(file("mano", "right", hand), "mano-left", replace=True)


def test_a_failed_add_leaves_nothing(file: Read, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(model: LicensedModel) -> Correspondence:
        raise BodyError("a teapot")

    with pytest.raises(BodyError, match="teapot"):
        store.add(file("smpl"), correspond=fail)
    with pytest.raises(BodyError, match="no model"):
        add(folder.parent / "other.pkl")
    monkeypatch.setattr(json, "dumps", lambda *args, **kwargs: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        add(file("smpl"))
    assert left_behind(folder) == [] and store.names() == ()


def test_a_failed_replacement_keeps_the_old(file: Read, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    add(file("smpl"))
    old, rename = store.entry("smpl"), store.os.rename
    monkeypatch.setattr("lvdreg.base.disk._exchanged", lambda first, second: False)

    def fail(source: Path, target: Path) -> None:
        if Path(source).suffix == ".part":
            raise OSError("disk full")
        rename(source, target)

    monkeypatch.setattr("os.rename", fail)
    with pytest.raises(OSError, match="disk full"):
        add(file("smpl"), replace=True)
    assert store.entry("smpl") == old and left_behind(folder) == ["smpl"]


def test_only_replace_replaces(file: Read, toy_data: BodyData, folder: Path) -> None:
    add(file("smpl"))
    store.load("smpl")
    taller = replace(toy_data, v_template=toy_data.v_template * 1.1)
    for name in (None, "smpl", "SMPL"):
        with pytest.raises(UsageError, match="--replace"):
            add(file("smpl", data=taller), name)
    add(file("smpl", data=taller), replace=True)
    np.testing.assert_array_equal(load_body("smpl").v_template.numpy(), taller.v_template)
    assert left_behind(folder) == ["smpl"]


@pytest.mark.parametrize(
    "name", ["", "anny", "Anny", "anny-hand", "a+d", "a b", "../a", ".a", "-a", "a-", "a_b", "ä", "smplx", "a\n", "a/b"]
)
def test_names_that_cannot_be(file: Read, folder: Path, name: str) -> None:
    with pytest.raises(UsageError, match="--name"):
        add(file("smpl"), name)
    assert left_behind(folder) == []


@pytest.mark.parametrize(
    ("name", "site"),
    [
        ("smpl", "https://smpl.is.tue.mpg.de"),
        ("smplh", "https://mano.is.tue.mpg.de"),
        ("smplx", "https://smpl-x.is.tue.mpg.de"),
        ("mano", "https://mano.is.tue.mpg.de"),
        ("mano-left", "https://mano.is.tue.mpg.de"),
    ],
)
def test_a_model_that_is_missing_is_said_where_to_get(name: str, site: str) -> None:
    with pytest.raises(BodyError) as caught:
        load_body(name)
    words = str(caught.value)
    assert words.startswith(f"{name}: ") and site in words and "non-commercial" in words and "\n" not in words
    assert "register at" in words and words.endswith("lvdreg models add FILE")


def test_a_correspondence_to_another_body_is_known_and_found_anew(file: Read) -> None:
    add(file("smpl"))

    def other(model: LicensedModel) -> Correspondence:
        return replace(correspond(model), key="of an older body")

    assert store.renew("smpl", other).key == "of an older body"
    assert not store.is_current("smpl")
    store.renew("smpl", correspond)
    assert store.is_current("smpl")
    assert left_behind(store.models_dir() / "smpl") == ["correspondence.npz", "model.json", "smpl.npz"]


def test_a_result_names_every_file_of_an_added_model(file: Read, folder: Path) -> None:
    path = file("mano", side="left", data=load_body("anny-hand").data)
    add(path, "left-one")
    chosen = choose("left-one", correspond)
    kept = {
        f"models/left-one/{name}": sha256_of(folder / "left-one" / name) for name in ("left-one.npz", CORRESPONDENCE)
    }
    free = {"bodies/anny-hand.npz": sha256_of(assets_dir() / "bodies" / "anny-hand.npz")}
    assert chosen.files == {**free, **kept, f"models/left-one/{path.name}": sha256_of(path)}
    assert choose("anny-hand", correspond).files == free
    # One that had to be found anew and cannot be kept is no other.
    (folder / "left-one" / CORRESPONDENCE).write_bytes(b"")
    with pytest.raises(BodyError, match=r"damaged|plain arrays"):
        choose("left-one", correspond)
    store.renew("left-one", correspond)
    assert choose("left-one", correspond).files == chosen.files


@pytest.mark.parametrize("content", [None, "{}", "[1]", "secret"])
def test_a_folder_of_others_is_not_replaced(file: Read, folder: Path, content: str | None) -> None:
    """Of a user who keeps the downloaded files there."""
    (folder / "smpl").mkdir(parents=True)
    (folder / "smpl" / "smpl.npz").write_text("downloaded", encoding="utf-8")
    if content is not None:
        (folder / "smpl" / "model.json").write_text(content, encoding="utf-8")
    before = {path.name: path.read_text(encoding="utf-8") for path in (folder / "smpl").iterdir()}
    for replacing in (True, False):
        with pytest.raises(LvdregError, match=r"is not lvdreg's|--replace"):
            add(file("smpl"), replace=replacing)
    assert {path.name: path.read_text(encoding="utf-8") for path in (folder / "smpl").iterdir()} == before
    assert left_behind(folder) == ["smpl"]


def test_a_replaced_model_keeps_what_its_user_put_beside_it(file: Read, folder: Path) -> None:
    add(file("smpl"))
    (folder / "smpl" / "thesis.doc").write_text("years of work", encoding="utf-8")
    add(file("smpl"), replace=True)
    assert (folder / "smpl" / "thesis.doc").read_text(encoding="utf-8") == "years of work" and store.is_current("smpl")


def test_a_folder_with_other_files_is_not_removed(file: Read, folder: Path) -> None:
    add(file("smpl"))
    (folder / "smpl" / "thesis.doc").write_text("years of work", encoding="utf-8")
    with pytest.raises(BodyError, match=r"thesis\.doc"):
        store.remove("smpl")
    (folder / "photos").mkdir()
    with pytest.raises(BodyError, match="no model named 'photos'"):
        store.remove("photos")
    assert (folder / "smpl" / "thesis.doc").exists() and store.names() == ("smpl",)


@pytest.mark.parametrize("broken", ["model.json", "smpl.npz", "correspondence.npz"])
@pytest.mark.parametrize("content", [b"", b"[1, 2]", b"{}", b"PK\x03\x04"])
def test_damaged_files_are_one_line_and_can_be_removed(file: Read, folder: Path, broken: str, content: bytes) -> None:
    add(file("smpl"))
    (folder / "smpl" / broken).write_bytes(content)
    with pytest.raises(BodyError) as caught:
        store.is_current("smpl")
    assert broken in str(caught.value) and "\n" not in str(caught.value)
    store.remove("smpl")
    assert left_behind(folder) == []


def test_half_a_correspondence_is_damaged(file: Read, folder: Path) -> None:
    add(file("smpl"))
    np.savez(folder / "smpl" / "correspondence.npz", source=np.array("anny"))
    with pytest.raises(BodyError, match="lvdreg models remove smpl"):
        store.correspondence("smpl")


def test_the_folder_is_the_users_own(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    assert store.names() == ()
    monkeypatch.delenv("LVDREG_MODELS")
    monkeypatch.setattr(Path, "home", lambda: tmp_path)
    for name in ("XDG_DATA_HOME", "APPDATA"):
        monkeypatch.delenv(name, raising=False)
    wanted = {"linux": ".local/share", "darwin": "Library/Application Support", "win32": "AppData/Roaming"}
    for platform, place in wanted.items():
        monkeypatch.setattr(sys, "platform", platform)
        assert store.models_dir() == tmp_path / place / "lvdreg" / "models"


def test_a_file_where_the_folder_should_be(folder: Path, file: Read) -> None:
    folder.write_text("", encoding="utf-8")
    assert store.names() == ()
    with pytest.raises((OSError, LvdregError)):
        add(file("smpl"))


def test_all_kinds_say_where_they_are_from() -> None:
    assert set(KINDS) == {"smpl", "smplh", "smplx", "mano"}
    assert [name for name, kind in KINDS.items() if kind.is_hand] == ["mano"]


def test_free_bodies_need_nothing_of_licensed_ones() -> None:
    foreign = {"smplx", "chumpy", "manopth", "kaolin", "open3d"}
    code = (
        "import sys, lvdreg, lvdreg.cli, lvdreg.cli.doctor, lvdreg.body.store\n"
        "lvdreg.register, lvdreg.register_hand, lvdreg.load_body('anny'), lvdreg.load_body('anny-hand', 'left')\n"
        f"assert not {foreign!r} & {{name.split('.')[0] for name in sys.modules}}\n"
        "assert not {'lvdreg.body.licensed', 'lvdreg.body.pickles'} & set(sys.modules)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
