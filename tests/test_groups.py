"""Several people in a scan: cut where surface is narrow or creased, told apart by the network, each registered."""

from dataclasses import replace
from importlib import import_module
from typing import Any

import numpy as np
import pytest
from command_line import run
from fake_registration import fake_registration
from scipy.spatial import cKDTree

import lvdreg
from lvdreg.base.errors import RegistrationError, ScanError, UsageError
from lvdreg.base.shapes import FloatArray
from lvdreg.descent.choose import Explained
from lvdreg.descent.people import Part, PeopleConfig, Seen, find_people
from lvdreg.fit.correspond import PosedSurface
from lvdreg.fit.owners import owners
from lvdreg.geometry.mesh import unit_rows
from lvdreg.pipeline.config import RegisterConfig
from lvdreg.pipeline.separate import SeparatedScan
from lvdreg.result.read import find_results
from lvdreg.scan.cuts import LEAST, LOOSE, SEAM, SurfaceGraph
from lvdreg.scan.model import Scan, scan_from_arrays
from lvdreg.synth.groups import TOUCHING, beside
from lvdreg.synth.scenes import box

CONFIG = PeopleConfig()


def balls(*middles: tuple[float, float, float], count: int = 500, radius: float = 0.5) -> tuple[SurfaceGraph, Any]:
    """Even samples of balls, what lies in another left out, and whose each is."""
    turn = np.arange(count) * np.pi * (3 - 5**0.5)
    z = 1 - (2 * np.arange(count) + 1) / count
    normals = np.stack([np.sqrt(1 - z**2) * np.cos(turn), np.sqrt(1 - z**2) * np.sin(turn), z], 1)
    points = np.concatenate([radius * normals + middle for middle in middles])
    owner = np.repeat(np.arange(len(middles)), count)
    apart = np.linalg.norm(points[:, None] - np.array(middles), axis=2)
    seen = ((apart > radius - 1e-9) | (owner[:, None] == np.arange(len(middles)))).all(1)
    return SurfaceGraph(points[seen], np.tile(normals, (len(middles), 1))[seen]), owner[seen]


TWO = ((0.0, 0, 0), (0.8, 0, 0))
THREE = (*TWO, (0.4, 0.75, 0))


def test_the_first_cut_goes_through_the_crease() -> None:
    graph, owner = balls(*TWO)
    first, *others = graph.cuts()
    assert min(np.mean(first == (owner == k)) for k in (0, 1)) < 0.01
    assert all(LEAST <= cut.mean() <= 1 - LEAST + 1e-3 for cut in (first, *others))


def test_surfaces_that_face_each_other_do_not_hold_together() -> None:
    # Two sheets closer than their samples are to each other, as where two backs touch.
    u, v = (each.ravel() for each in np.meshgrid(np.arange(20.0), np.arange(20.0)))
    sheets = np.concatenate([np.stack([u, v, 0 * u], 1), np.stack([u, v, 0 * u + 0.5], 1)])
    normals = np.repeat([[0, 0, 1.0], [0, 0, -1.0]], 400, axis=0)
    weights = SurfaceGraph(sheets, normals).weights.toarray()
    assert weights[:400, 400:].max() < 0.01 < 0.9 < weights[0, 1]
    alike = SurfaceGraph(sheets, np.repeat([[0, 0, 1.0]], 800, axis=0)).weights.toarray()
    assert alike[:400, 400:].max() > 0.9


def test_pieces_of_a_mesh_hold_together_less() -> None:
    graph, owner = balls(*TWO)
    plain, cut = graph.weights.toarray(), SurfaceGraph(graph.points, graph.normals, owner).weights.toarray()
    across = owner[:, None] != owner
    assert np.allclose(cut[across], np.where(plain[across] > 0, np.maximum(SEAM * plain[across], LOOSE), 0))
    assert np.array_equal(cut[~across], plain[~across])


def test_sharing_out_minimises_what_it_says() -> None:
    graph, _ = balls(*TWO, count=60)
    likely = np.random.default_rng(0).dirichlet([1, 1], len(graph.points))
    found, weights = graph.shared_out(likely, 0.3), graph.weights.toarray()
    laplacian = np.diag(weights.sum(1)) - weights
    # Grady 2005, equation 5: the gradient of x L x / 2 + belief / 2 |x - likely|^2 vanishes.
    assert np.abs(laplacian @ found + 0.3 * (found - likely)).max() < 1e-4
    assert np.allclose(found.sum(1), 1)


def look_for(points: FloatArray, middles: Any = THREE) -> Seen:
    """What a network would say that knows one ball: the more of others is there, the worse."""
    apart = np.abs(np.linalg.norm(points[:, None] - np.array(middles), axis=2) - 0.5)
    counts = np.bincount(apart.argmin(1), minlength=len(middles)) / 500
    wrong = float(counts.sum() - counts.max() + max(0.75 - counts.max(), 0))
    explained = Explained(0.06 + 0.4 * wrong, 0.1, 0.005)
    ring = 0.5 * unit_rows(np.random.default_rng(0).normal(size=(300, 3)))
    return Seen(explained, ring + middles[int(counts.argmax())], "+y", 1.2)


@pytest.mark.parametrize("middles", [TWO[:1], TWO, THREE])
def test_as_many_are_found_as_there_are(middles: Any) -> None:
    graph, owner = balls(*middles)
    found = find_people(graph, graph.points, look_for, None, CONFIG)
    assert len(found) == len(middles)
    for part in found:
        of = np.bincount(owner[part.which]).argmax()
        assert np.mean(part.which == (owner == of)) > 0.95


def test_one_is_cut_when_two_are_wanted_only_if_both_sides_are_people() -> None:
    graph, _ = balls(TWO[0])
    assert len(find_people(graph, graph.points, look_for, 2, CONFIG)) == 1
    both, _ = balls(*TWO)

    def content(points: FloatArray) -> Seen:
        seen = look_for(points)
        return replace(seen, explained=replace(seen.explained, score=min(seen.explained.score, 0.08)))

    assert len(find_people(both, both.points, content, None, CONFIG)) == 1
    assert len(find_people(both, both.points, content, 2, CONFIG)) == 2


def test_what_is_nobody_is_nobody() -> None:
    graph, _ = balls(*TWO)
    nobody = Seen(Explained(0.3, 0.1, 0.2), np.zeros((5, 3)), "+y", 1.0)
    assert find_people(graph, graph.points, lambda _points: nobody, None, CONFIG) == []


def test_surface_is_whose_body_is_there() -> None:
    graph, owner = balls(*TWO)
    surfaces = []
    for middle in TWO:
        ball, _ = balls(middle, count=200, radius=0.49)
        tree = cKDTree(ball.points)
        surfaces.append(PosedSurface(ball.points, tree.query(ball.points, k=3)[1].astype(np.int64)))
    # Normals of such faces are any: only where the body is counts here.
    plain = SurfaceGraph(graph.points, np.zeros_like(graph.normals))
    assert np.mean(owners(plain, surfaces, 0.2) == owner) > 0.97


@pytest.mark.parametrize("gap", [TOUCHING, 0.2])
def test_people_come_as_near_as_is_wanted(gap: float) -> None:
    one = box(np.zeros(3), np.ones(3))
    way = beside(one, one, np.array([0.0, 0.0, 2.0]), gap)
    assert way == pytest.approx([0, 0, 1 + gap], abs=5e-3)


def separated(touching: bool) -> SeparatedScan:
    """Two balls beside each other, told apart."""
    graph, owner = balls(*TWO)
    scan = scan_from_arrays(graph.points, normals=graph.normals, name="pair")
    return SeparatedScan(scan, graph, np.ones(len(scan.points), bool), owner, touching)


def test_parts_of_a_scan_are_all_of_it() -> None:
    pair = separated(touching=True)
    first, second = pair.person(0), pair.person(1)
    assert len(first.points) + len(second.points) == len(pair.scan.points)
    assert (first.name, second.name) == ("pair-1", "pair-2") and first.points[:, 0].mean() < second.points[:, 0].mean()


@pytest.fixture
def module(monkeypatch: pytest.MonkeyPatch) -> Any:
    """The pipeline with nothing but the story: whoever is fitted is called by the name of the scan."""
    module = import_module("lvdreg.pipeline.people")
    monkeypatch.setattr(module, "separate", lambda *_: separated(touching=False))
    monkeypatch.setattr(module, "fit_scan", lambda scan, *_: scan)
    monkeypatch.setattr(module, "finish_scan", lambda scan, *_: fake_registration(name=scan.name))
    return module


def test_everybody_has_a_result_and_a_folder(module: Any, tmp_path: Any) -> None:
    group = lvdreg.register_group(np.zeros((5, 3)))
    assert [result.name for result in group.results] == ["pair-1", "pair-2"]
    assert group.reason == "2 people: 2 good" and "person 2 of 2" in group.results[1].warnings[0]
    files = group.save(tmp_path / "pair")
    assert {path.parent.name for path in files} == {"pair", "person-1", "person-2"}
    assert all(path.is_file() for path in files)
    assert [path.name for path in find_results([tmp_path])] == ["person-1", "person-2"]


def test_who_cannot_be_registered_is_said(module: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    def fit_scan(scan: Scan, *_: Any) -> Scan:
        if scan.name == "pair-1":
            raise ScanError("too little")
        return scan

    monkeypatch.setattr(module, "fit_scan", fit_scan)
    group = lvdreg.register_group(np.zeros((5, 3)))
    assert group.failures == ("person 1: too little",) and group.verdict != "good"


def test_where_people_touch_who_got_other_surface_is_fitted_again(module: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    fits, pair = list[str](), separated(touching=True)
    owner = pair.owner.copy()
    owner[:60] = 1
    monkeypatch.setattr(module, "separate", lambda *_: pair)
    monkeypatch.setattr(module, "fit_scan", lambda scan, *_: fits.append(f"{scan.name} {len(scan.points)}") or scan)
    monkeypatch.setattr(module, "shared_out", lambda group, _: replace(group, owner=owner))
    lvdreg.register_group(np.zeros((5, 3)))
    before = np.bincount(pair.owner)
    assert fits == [f"pair-{k + 1} {n}" for k, n in enumerate([*before])] + [
        f"pair-{k + 1} {n}" for k, n in enumerate([before[0] - 60, before[1] + 60])
    ]


def test_what_is_told_of_one_person_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    for words, said in (
        (["--people", "0"], "--people: expected all, or a number from 1 to 12, got '0'"),
        (["--people", "all", "--height", "1.8"], "--people: expected it without --height"),
        (["--people", "2", "--same-person"], "--people: expected it without --same-person"),
    ):
        finished = run("register", "x.ply", *words)
        assert finished.exit_code == 2 and said in finished.stderr
    with pytest.raises(UsageError, match="2 to 12"):
        lvdreg.register_group(np.zeros((5, 3)), people=1)


def test_others_than_wanted_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    module = import_module("lvdreg.pipeline.separate")
    graph, owner = balls(*TWO)
    part = Part(owner == 0, look_for(graph.points))

    class Scene:
        @staticmethod
        def of(*_: Any) -> Any:
            return Scene()

        def people(self, *_: Any) -> list[Part]:
            return [part]

    monkeypatch.setattr(module, "_Scene", Scene)
    with pytest.raises(RegistrationError, match="expected 2 in the scan, 1 is seen"):
        module.separate(scan_from_arrays(graph.points), {}, RegisterConfig(), 2)
