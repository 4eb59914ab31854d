"""Making datasets: the same bytes whatever happens on the way."""

import hashlib
import json
import multiprocessing
import os
import random
import signal
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from fake_people import MAKERS, FakePerson, fake_open, fake_render, toy_body, toy_plan

from lvdreg.augment import plan as plan_module
from lvdreg.augment import run as run_module
from lvdreg.augment.estimate import estimate, words_for
from lvdreg.augment.lookup import find_scans, plan_of
from lvdreg.augment.people import FIRST_CHANGE, draw_change, moved
from lvdreg.augment.photograph import draw_cameras, rest_box
from lvdreg.augment.plan import Asked, Plan, Version, differences, made_with
from lvdreg.augment.run import augment, jobs_of, manifest_of
from lvdreg.augment.seeds import Seeds
from lvdreg.augment.shards import OpenSource, make_shard
from lvdreg.augment.sheet import contact_sheet, pick, project
from lvdreg.augment.versions import TRIES, Tally, find
from lvdreg.base.errors import DatasetError, OutputError, UsageError
from lvdreg.base.lock import locked
from lvdreg.batch import Outcome, write_results
from lvdreg.body.model import BodyParams
from lvdreg.dataset import CHANNELS, MANIFEST, Dataset, read_shard, shard_name
from lvdreg.synth.camera.render import Rendered
from lvdreg.synth.draw import Draw
from lvdreg.synth.subjects import Material, Pixels

forks = pytest.mark.skipif(sys.platform != "linux", reason="processes are forked to save time")
ALL: dict[str, Any] = {"channels": CHANNELS}


@pytest.fixture(autouse=True, scope="module")
def warm(tmp_path_factory: pytest.TempPathFactory) -> None:
    """Import what is imported late, before processes are forked."""
    plan = toy_plan(characters=1, **ALL)
    make_shard(plan, 0, tmp_path_factory.mktemp("warm"), OpenSource(plan, MAKERS))


@pytest.fixture
def one_thread() -> Iterator[None]:
    """As workers have: sums over several threads may round differently."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def made(plan: Plan, folder: Path, **options: Any) -> dict[str, Any]:
    return augment(plan, folder, **{"workers": 2, "makers": MAKERS, "start": "fork", **options})


def hashes(folder: Path) -> dict[str, str]:
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in sorted(folder.iterdir())}


@forks
def test_bytes_depend_on_the_seed_and_not_on_workers(tmp_path: Path) -> None:
    plan = toy_plan(("ann", "torn"), characters=3, **ALL)
    made(plan, tmp_path / "one", workers=1)
    made(plan, tmp_path / "three", workers=3)
    one = hashes(tmp_path / "one")
    assert one == hashes(tmp_path / "three") and len(one) == len(plan.shards) + 3
    made(toy_plan(("ann", "torn"), characters=3, seed=1, **ALL), tmp_path / "other")
    assert one[shard_name(0)] != hashes(tmp_path / "other")[shard_name(0)]


@pytest.mark.slow
def test_processes_that_are_started_afresh_make_the_same(tmp_path: Path, one_thread: None) -> None:
    plan = toy_plan(characters=1, poses=1)
    augment(plan, tmp_path / "spawned", 1, makers=MAKERS)
    for number in range(len(plan.shards)):
        make_shard(plan, number, tmp_path, OpenSource(plan, MAKERS))
        assert (tmp_path / shard_name(number)).read_bytes() == (tmp_path / "spawned" / shard_name(number)).read_bytes()


def render_while_fewer(folder: Path, limit: int, *scene: Any) -> Rendered:
    """Take pictures until the folder holds so many shards; then wait to be killed."""
    while shards_in(folder) >= limit:
        time.sleep(0.001)
    return fake_render(*scene)


@pytest.mark.slow
@forks
def test_killed_at_random_moments_the_set_is_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("lvdreg.base.lock.PATIENCE_S", 600.0)  # a busy machine takes its time to end what was killed
    plan = toy_plan(("ann", "torn"), characters=12, shapes=3)
    whole, part, rng = tmp_path / "whole", tmp_path / "part", random.Random(5)
    made(plan, whole)
    for _ in range(10):
        enough = shards_in(part) + rng.randint(0, 2)
        # No machine is so quick that it comes to the end before it is killed: both workers stop short of it.
        makers = replace(MAKERS, render=partial(render_while_fewer, part, enough + 2))
        victim = multiprocessing.get_context("fork").Process(target=made, args=(plan, part), kwargs={"makers": makers})
        victim.start()
        while shards_in(part) < enough and victim.is_alive():
            time.sleep(0.002)
        time.sleep(rng.uniform(0, 0.03))
        assert victim.is_alive()
        victim.kill()
        victim.join()
    assert 5 < shards_in(part) < len(plan.shards)
    made(plan, part)
    assert hashes(part) == hashes(whole)
    assert not [path for path in part.iterdir() if path.name.startswith(".")]


def shards_in(folder: Path) -> int:
    return len(list(folder.glob("shard-*.npz")))


@pytest.mark.slow
@forks
def test_only_missing_and_damaged_shards_are_made_again(tmp_path: Path) -> None:
    plan = toy_plan(characters=5)
    made(plan, tmp_path)
    before, whole = {path.name: path.stat().st_mtime_ns for path in tmp_path.iterdir()}, hashes(tmp_path)
    (tmp_path / shard_name(1)).unlink()
    (tmp_path / shard_name(2)).write_bytes(b"damaged")
    (tmp_path / f".{shard_name(3)}.0123abcd.part").write_bytes(b"half")
    (tmp_path / "notes.part").write_bytes(b"not ours")
    made(plan, tmp_path)
    after = {path.name: path.stat().st_mtime_ns for path in tmp_path.iterdir()}
    changed = {name for name, when in after.items() if before.get(name) != when and name.startswith("shard")}
    assert changed == {shard_name(1), shard_name(2)}
    assert hashes(tmp_path) == {**whole, "notes.part": hashes(tmp_path)["notes.part"]}


@forks
def test_other_settings_are_refused_and_named(tmp_path: Path) -> None:
    made(toy_plan(("ann",)), tmp_path)
    with pytest.raises(UsageError, match=r"--views 2 \(now 3\)"):
        made(toy_plan(("ann",), views=3), tmp_path)
    with pytest.raises(UsageError, match=r"--seed 0 .now 4.*scan bob absent"):
        made(toy_plan(("ann", "bob"), seed=4), tmp_path)
    with pytest.raises(UsageError, match="expected a new folder"):
        made(toy_plan(), tmp_path.parent)
    assert differences(toy_plan(("a",)).to_json(), toy_plan(("a",)).to_json()) == []


def test_other_code_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run_module.pin(toy_plan(("ann",)), tmp_path)
    run_module.pin(toy_plan(("ann",)), tmp_path)
    monkeypatch.setattr(plan_module, "made_with", lambda: {**made_with(), "code": "0123"})
    with pytest.raises(UsageError, match=rf"code {made_with()['code']} \(now 0123\)"):
        run_module.pin(toy_plan(("ann",)), tmp_path)


@pytest.mark.slow
@forks
def test_a_shard_of_another_plan_is_not_taken(tmp_path: Path) -> None:
    plan = toy_plan(characters=2)
    made(plan, tmp_path / "a")
    made(toy_plan(characters=2, seed=9), tmp_path / "b")
    whole = hashes(tmp_path / "a")
    (tmp_path / "b" / shard_name(0)).replace(tmp_path / "a" / shard_name(0))
    made(plan, tmp_path / "a")
    assert hashes(tmp_path / "a") == whole


@forks
def test_two_runs_do_not_write_into_one_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("lvdreg.base.lock.PATIENCE_S", 0.0)
    plan = toy_plan(characters=1)
    run_module.pin(plan, tmp_path)
    with locked(tmp_path), pytest.raises(OutputError, match=f"another lvdreg .process {os.getpid()} on"):
        made(plan, tmp_path)
    made(plan, tmp_path)


@pytest.mark.slow
@forks
def test_rejections_are_counted_and_survive(tmp_path: Path) -> None:
    plan = toy_plan(("ann", "torn", "unbound"), characters=4, shapes=4)
    manifest = made(plan, tmp_path)
    expected = Tally()
    for number in range(len(plan.shards)):
        for version in plan.versions(number):
            if version.source.name != "unbound":
                find(FakePerson(version.source.name), version, plan.asked, expected)
    assert manifest["draws_rejected"] == dict(expected.rejected) and expected.rejected["webbed"] > TRIES
    assert manifest["versions_given_up"] == {"the scan cannot be bound (ScanError)": 8, **expected.given_up}
    lost = sum(manifest["versions_given_up"].values())
    assert manifest["counts"]["versions"] == manifest["counts"]["versions_planned"] - lost
    assert manifest == manifest_of(plan, tmp_path, toy_body())


@forks
def test_a_set_of_which_nothing_worked_is_still_readable(tmp_path: Path) -> None:
    manifest = made(toy_plan(("torn",), **ALL), tmp_path)
    assert manifest["counts"]["images"] == 0 and len(Dataset(tmp_path)) == 0
    arrays = read_shard(tmp_path / shard_name(0))
    assert arrays["image"].shape == (0, 8, 8, 3) and arrays["vertices"].shape == (0, toy_body().num_vertices, 3)
    with pytest.raises(DatasetError, match="all versions were rejected"):
        Dataset(tmp_path).require()


def hang(sign: Path, source: Any, plan: Plan) -> FakePerson:
    sign.touch()
    time.sleep(600)
    return fake_open(source, plan)


def interrupted(folder: Path, sign: Path) -> None:
    signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        made(toy_plan(characters=2), folder, makers=replace(MAKERS, open_person=partial(hang, sign)))
    except KeyboardInterrupt:
        os._exit(13)


@forks
def test_an_interruption_ends_at_once(tmp_path: Path) -> None:
    folder, sign = tmp_path / "out", tmp_path / "hangs"
    process = multiprocessing.get_context("fork").Process(target=interrupted, args=(folder, sign))
    process.start()
    while not sign.exists() and process.is_alive():
        time.sleep(0.01)
    assert process.pid is not None
    os.kill(process.pid, signal.SIGINT)
    process.join(300)  # half of what its worker would still sleep: only a run that waits for it takes longer
    assert process.exitcode == 13 and not (folder / MANIFEST).exists()


def crash(source: Any, plan: Plan) -> FakePerson:
    os._exit(9)


@forks
def test_a_process_that_dies_is_said(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match="fewer --workers"):
        made(toy_plan(characters=2), tmp_path, makers=replace(MAKERS, open_person=crash))


def test_seeds_are_stable_and_apart() -> None:
    numbers = {Seeds(s, n).number(*p) for s in (0, 1) for n in ("a", "b") for p in (("pose", 1), ("pose", 11), ("p",))}
    assert len(numbers) == 12 and all(0 <= number < 2**63 for number in numbers)
    # Words are not run together.
    assert Seeds(0, "a").number("b", 1, 23) != Seeds(0, "a").number("b", 12, 3)


def test_the_plan_covers_every_version_once() -> None:
    for plan in (toy_plan(("a", "b"), characters=7), toy_plan(("a",), 10**9), toy_plan((), 1, characters=3)):
        numbers = [number for shard in plan.shards for number in shard]
        assert numbers == list(range(plan.num_sources * plan.versions_per_source))
        assert sum(plan.images_in(i) for i in range(len(plan.shards))) == plan.num_images
        for i in range(len(plan.shards)):
            of_scans = {version.source.name for version in plan.versions(i)} & {"a", "b"}
            assert len(of_scans) <= 1


def test_jobs_keep_scans_together_but_nobody_idle() -> None:
    plan = toy_plan(("a", "b"), 1, characters=2)
    everything = list(range(len(plan.shards)))
    assert jobs_of(plan, everything, 1)[:2] == [[0, 1, 2, 3], [4, 5, 6, 7]]
    jobs = jobs_of(plan, everything[:8], 4)
    assert len(jobs) == 8 and sorted(n for job in jobs for n in job) == everything[:8]


def test_shapes_go_through_the_first_direction_evenly() -> None:
    generator = torch.Generator().manual_seed(0)
    changes = torch.cat([draw_change(torch.zeros(1, 6), shape, 6, generator) for shape in range(1, 6)])
    first = changes[:, 0]
    assert bool((first[1:] > first[:-1]).all()) and float(first.abs().max()) <= FIRST_CHANGE
    assert float(first[0]) < -0.5 * FIRST_CHANGE and float(first[-1]) > 0.5 * FIRST_CHANGE


def test_cameras_stand_evenly_around_and_see_all_of_the_person() -> None:
    subjects = FakePerson("ann").draw(1, 1, Seeds(0, "ann"), 0).subjects
    asked = Asked(views=6, size=32)
    cameras, yaw = draw_cameras(subjects, asked, Draw(1, torch.Generator().manual_seed(1)))
    seen = cameras.project(subjects.outer.vertices.expand(6, -1, -1))[..., :2]
    assert float(seen.min()) > 0 and float(seen.max()) < 32
    assert float((seen.amax(1) - seen.amin(1)).amax(-1).min()) > 0.7 * 32
    assert torch.allclose((yaw[1:] - yaw[:-1]), torch.full((5,), torch.pi / 3), atol=1e-5)
    # Where the cameras stand is what the angle says: their backward axis in the world.
    back = -cameras.rotation[:, 2]
    assert torch.allclose(torch.atan2(back[:, 0], back[:, 2]).cos(), yaw.cos(), atol=1e-4)


@forks
def test_stored_cameras_carry_the_world_to_the_pictures(tmp_path: Path) -> None:
    made(toy_plan(characters=2, channels=("mask", "depth", "parts", "rest"), size=24, views=3), tmp_path)
    dataset = Dataset(tmp_path)
    for index in (0, len(dataset) - 1):
        sample = dataset.sample(index)
        assert np.allclose(project(sample["joints"], sample), sample["joints_px"], atol=1e-3)
        pixels = np.floor(project(sample["vertices"], sample)[:, :2]).astype(int)
        assert sample["mask"][pixels[:, 1], pixels[:, 0]].all()
        there = sample["mask"] > 127
        assert (np.isfinite(sample["depth"]) == there).all() and ((sample["parts"] < 255) == there).all()
        assert (sample["rest"].any(-1) == there).all()
        params = BodyParams(*(torch.from_numpy(sample[name][None]) for name in ("betas", "pose", "transl")))
        posed = toy_body()(params)
        assert np.allclose(posed.vertices[0], sample["vertices"], atol=1e-5)


@forks
def test_the_sheet_shows_every_channel(tmp_path: Path) -> None:
    made(toy_plan(characters=3, **ALL), tmp_path)
    sheet = np.asarray(contact_sheet(Dataset(tmp_path)))
    assert sheet.shape[1] == 1600 and (tmp_path / "preview.png").exists()
    last = sheet[-160:]
    assert all(last[:, 160 * i : 160 * (i + 1)].std() > 1 for i in range(9))
    assert pick(5, 10).tolist() == [0, 1, 2, 3, 4] and len(set(pick(1000, 60).tolist())) == 60


def test_an_estimate_multiplies_what_it_measured(tmp_path: Path) -> None:
    plan = toy_plan(("slow-ann",), characters=50, views=8)
    found = estimate(plan, 4, MAKERS)
    work = found.source_s + found.version_s * 204 + found.image_s * plan.num_images
    assert found.seconds == pytest.approx(work / 4) and found.version_s > 0.003 and found.bytes > 100
    text = "\n".join(found.lines())
    assert "204 versions" in text and "3,264 pictures" in text and "4 workers" in text
    with pytest.raises(DatasetError, match="all were rejected"):
        estimate(toy_plan(("torn",)), 1, MAKERS)
    assert [words_for(s) for s in (3, 300, 9000, 200_000)] == ["3 seconds", "5.0 minutes", "2.5 hours", "2.3 days"]


def test_own_pose_in_own_shape_is_tried_once() -> None:
    tally = Tally()
    assert find(FakePerson("torn"), Version(toy_plan(("torn",)).source(0), 0, 0), Asked(), tally) is None
    assert tally.rejected["webbed"] == 1
    assert find(FakePerson("torn"), Version(toy_plan(("torn",)).source(0), 1, 0), Asked(), tally) is None
    assert tally.rejected["webbed"] == 1 + TRIES and tally.given_up["webbed"] == 2


def test_nothing_of_this_machine_is_pinned() -> None:
    one, other = toy_plan(("ann",)), toy_plan(("ann",))
    other = replace(other, scans=(replace(other.scans[0], scan=Path("/elsewhere"), result=Path("/there")),))
    assert one.digest == other.digest != toy_plan(("ann",), seed=1).digest


def test_the_box_holds_clothes_too() -> None:
    box, places = rest_box(toy_body()), toy_body().data.v_template
    assert (box[0] < places.min(0) - 0.05).all() and (box[1] > places.max(0) + 0.05).all()


def registered(out: Path, scan: Path, folder: str | None = None, **report: Any) -> None:
    """Leave what of a result is looked at."""
    scan.parent.mkdir(exist_ok=True)
    scan.write_text(f"scan {scan}", encoding="utf-8")
    result = out / (folder or scan.stem)
    result.mkdir(parents=True)
    (result / "report.json").write_text(
        json.dumps({"side": None, "verdict": "good", "model": "anny+d", **report}), encoding="utf-8"
    )
    (result / "params.npz").write_text(f"params {folder}", encoding="utf-8")


def test_registrations_are_found_by_file_and_by_name(tmp_path: Path) -> None:
    out = tmp_path / "regs"
    registered(out, tmp_path / "in" / "ann.ply", "ann-2")
    registered(out, tmp_path / "in" / "bob.ply")
    registered(out, tmp_path / "in" / "hand.ply", side="left")
    registered(out, tmp_path / "in" / "bad.ply", verdict="failed")
    (tmp_path / "in" / "new.ply").write_text("", encoding="utf-8")
    write_results(out, [Outcome(str(tmp_path / "in" / "ann.ply"), "ann-2", "good", "")])
    found, left_out, body = find_scans([tmp_path / "in", tmp_path / "gone.ply"], out)
    assert [(source.name, source.scan) for source in found] == [
        ("ann-2", tmp_path / "in" / "ann.ply"),
        ("bob", tmp_path / "in" / "bob.ply"),
    ]
    assert found[0].hashes["scan"] == hashlib.sha256((tmp_path / "in" / "ann.ply").read_bytes()).hexdigest()
    assert left_out == {
        "hand.ply": "a hand",
        "bad.ply": "its registration failed",
        "new.ply": "not registered",
        "gone.ply": "no such file",
    }
    assert body == "anny"
    plan = plan_of(Asked(), [tmp_path / "in"], out, "ignored")
    assert plan.body == "anny" and plan.num_images == 8 and plan.left_out.keys() == left_out.keys() - {"gone.ply"}


def test_scans_that_cannot_be_used_are_refused(tmp_path: Path) -> None:
    out = tmp_path / "regs"
    with pytest.raises(UsageError, match=r"found none, gone.ply: no such file; run lvdreg register"):
        find_scans([tmp_path / "gone.ply"], out)
    registered(out, tmp_path / "in" / "ann.ply")
    registered(out, tmp_path / "in" / "bob.ply", model="smpl")
    with pytest.raises(UsageError, match="one body for all scans, got anny, smpl"):
        find_scans([tmp_path / "in"], out)
    with pytest.raises(UsageError, match="expected a whole body, got anny-hand"):
        plan_of(Asked(characters=1), [], None, "anny-hand")


@dataclass(frozen=True)
class Looks:
    values: tuple[Any, ...]

    def __call__(self, pixels: Pixels) -> Material:
        raise AssertionError("nobody looks")


def test_everything_of_a_dataclass_moves_to_a_device() -> None:
    meta, person = torch.device("meta"), FakePerson("ann").draw(0, 0, Seeds(0, "a"), 0).subjects
    here = Looks((torch.zeros(1), "x", None))
    there = moved(replace(person, texture=here), meta)
    assert isinstance(there.texture, Looks)
    assert there.outer.vertices.device == there.params.pose.device == there.texture.values[0].device == meta
    assert there.texture.values[1:] == ("x", None)
