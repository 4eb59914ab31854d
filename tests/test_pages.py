"""Pages and pictures of results: what is packed is what was there, what comes from outside is text, files are kept."""

import base64
import hashlib
import json
import re
import zlib
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import trimesh
from command_line import run as lvdreg
from command_line import scans
from documents import rows, section, text_of
from numpy.typing import NDArray
from pages import REPORT, toy_shown, write_hand
from PIL import Image

from lvdreg.base.errors import OutputError, RegistrationError, UsageError
from lvdreg.batch.crew import Lost
from lvdreg.batch.table import Outcome
from lvdreg.report import render
from lvdreg.report.index import card_of, index_page, lost_card
from lvdreg.report.page import Picture, report_page
from lvdreg.report.render import camera_of, drawn, turned, turntable, write_film
from lvdreg.report.run import INDEX, MADE, PAGE, THUMB, build_report, is_current, page_for
from lvdreg.report.scene import DISTANCE, packed_faces, packed_places, scene_of
from lvdreg.report.subject import read_shown, signed_distances
from lvdreg.report.words import METRICS, measured
from lvdreg.result.files import RESULT, read_report
from lvdreg.scan.model import scan_from_arrays

NASTY = "</script><script>alert(1)</script><img src=x onerror=alert(2)>\n\x00\udcff\"'&amp;"


def unpacked(text: str, kind: str) -> NDArray[Any]:
    return np.frombuffer(zlib.decompress(base64.b64decode(text)), kind)


class Elements(HTMLParser):
    """All elements of a page with what stands in them."""

    def __init__(self, content: bytes) -> None:
        super().__init__()
        self.found: list[tuple[str, dict[str, str | None], list[str]]] = []
        self.feed(content.decode())

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, dict(attrs), []))

    def handle_data(self, data: str) -> None:
        if self.found:
            self.found[-1][2].append(data)

    def of(self, tag: str) -> list[tuple[dict[str, str | None], str]]:
        return [(about, "".join(text)) for name, about, text in self.found if name == tag]


def test_distances_have_the_sign_of_the_side() -> None:
    box = trimesh.creation.box([2.0, 2.0, 2.0])
    vertices, faces = np.asarray(box.vertices, np.float64), np.asarray(box.faces, np.int64)
    rng = np.random.default_rng(0)
    points = rng.uniform(-2, 2, (500, 3))
    outside = np.maximum(np.abs(points) - 1, 0)
    true = np.where(outside.any(1), np.linalg.norm(outside, axis=1), np.abs(points).max(1) - 1)
    distance, vertex = signed_distances(points, vertices, faces)
    np.testing.assert_allclose(distance, true, atol=1e-12)
    assert (
        np.sign(vertices[vertex])[np.abs(points).min(1) > 0.5] == np.sign(points)[np.abs(points).min(1) > 0.5]
    ).all()


@pytest.mark.parametrize("count", [5, 70_000])
def test_what_is_packed_comes_back(count: int) -> None:
    rng = np.random.default_rng(count)
    points, faces = rng.normal(size=(count, 3)), rng.integers(0, count, (40, 3))
    points[0] = np.nan
    low, size, text = packed_places(points)
    back = low + size * unpacked(text, "<u2").reshape(-1, 3) / 65535
    assert np.abs(back - points)[1:].max() <= size.max() / 65535
    packed = packed_faces(faces)
    kind = f"<u{packed['bits'] // 8}"
    assert packed["bits"] == (16 if count <= 65536 else 32)
    np.testing.assert_array_equal(np.cumsum(unpacked(packed["steps"], kind), dtype=kind).reshape(-1, 3), faces)


def test_a_scene_holds_all_layers_and_their_values() -> None:
    shown = toy_shown()
    layers = {layer["key"]: layer for layer in scene_of(shown)["layers"]}
    assert list(layers) == ["body", "surface", "scan"]
    (distance,) = layers["scan"]["values"]
    values = distance["low"] + (distance["high"] - distance["low"]) * unpacked(distance["steps"], "<u2") / 65535
    np.testing.assert_allclose(values, shown.distance_mm, atol=1e-3)
    assert distance["name"] == DISTANCE and -distance["from"] == distance["to"] == 10.0
    assert [each["name"] for each in layers["surface"]["values"]] == ["sigma", "sigma across the surface"]
    assert set(shown.part_distances_mm) == {
        "trunk",
        "left upper arm",
        "right upper arm",
        "left forearm",
        "right forearm",
    }
    cloud = scan_from_arrays(shown.surface)
    assert "faces" not in scene_of(toy_shown(cloud))["layers"][-1]


def test_nothing_from_outside_becomes_markup() -> None:
    measures = {"measures": {NASTY: {"value_mm": 1.0, "sigma_mm": 2.0, "definition": NASTY}}, "measured": NASTY}
    shown = toy_shown(name=NASTY, reason=NASTY, warnings=[NASTY], model=NASTY, settings={NASTY: NASTY})
    card = card_of(REPORT | {"name": NASTY, "model": NASTY}, Path(NASTY), PAGE, THUMB)
    lost = lost_card(Outcome(f"/in/{NASTY}", None, None, NASTY))
    pages = [report_page(shown, Picture(b"x", (1, 1)), measures), index_page(NASTY, [card, lost])]
    for content, scripts, images in zip(pages, (2, 1), (1, 1), strict=True):
        page = Elements(content)
        assert len(page.of("script")) == scripts and len(page.of("img")) == images
        assert not [name for _, about, _ in page.found for name in about if name.startswith("on")]
        assert "alert(1)" in page.of("h1")[0][1]
        for about, text in page.of("script"):
            if about.get("type") == "application/json":
                json.loads(text)


def test_the_policy_lets_nothing_in_and_runs_what_the_page_brings_only() -> None:
    page = Elements(report_page(toy_shown(), None, {}))
    policy = next(about["content"] or "" for about, _ in page.of("meta") if "http-equiv" in about)
    assert "default-src 'none'" in policy and "unsafe" not in policy and "http" not in policy and "*" not in policy
    (script,) = [text for about, text in page.of("script") if "type" not in about]
    for kind, text in (("script", script), ("style", page.of("style")[0][1])):
        digest = base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
        assert f"{kind}-src 'sha256-{digest}'" in policy


def test_tables_have_heads_and_pictures_have_words() -> None:
    page = Elements(report_page(toy_shown(), Picture(b"x", (3, 2)), {}))
    assert all("scope" in about for about, _ in page.of("th")) and len(page.of("caption")) == len(page.of("table"))
    assert all(about["alt"] for about, _ in page.of("img"))
    text = "".join(part for _, _, parts in page.found for part in parts)
    for words in (
        "something is unusual",
        "the feet are cut off",
        "left upper arm",
        "not measured",
        "unit mm (a guess)",
    ):
        assert words in text


def test_metrics_have_words() -> None:
    documented = [
        name.strip("`, ") for row in rows(section(text_of("files.md"), "Metrics")) for name in row[0].split(",")
    ]
    assert set(documented) <= set(METRICS)
    assert measured("seen_share", 0.5) == "50.0 %" and measured("height_m", 1.7) == "1.700 m"
    assert (
        measured("shape_size", 1.0) == "1.00" and measured("x_mm", None) == measured("x_mm", np.nan) == "not measured"
    )


def test_the_index_is_sorted_by_what_needs_attention() -> None:
    made = [("good", 5.0, "a"), ("check", 5.0, "b"), ("check", 50.0, "c"), ("failed", 1.0, "d"), ("odd", 1.0, "e")]
    cards = [
        card_of(REPORT | {"verdict": v, "name": n, "metrics": {"sigma_mean_mm": s}}, Path(n), PAGE, None)
        for v, s, n in made
    ]
    page = Elements(index_page("out", [*cards, lost_card(Outcome("/in/f.ply", None, None, "no points"))]))
    assert [about["data-name"] for about, _ in page.of("li")] == ["e", "f.ply", "d", "c", "b", "a"]
    assert [about["href"] for about, _ in page.of("a")] == [f"{name}/{PAGE}" for name in "edcba"]


def test_sides_are_found_by_name_and_by_degrees() -> None:
    cameras = toy_shown().cameras
    for name, degrees in (("front", 0.0), ("left", 90.0), ("back", 180.0), ("right", -90.0)):
        found = turned(name, cameras[0], degrees).rotation
        np.testing.assert_allclose(camera_of(name, cameras).rotation, found, atol=1e-12)
        np.testing.assert_allclose(camera_of(f"{degrees:g}", cameras).rotation, found, atol=1e-12)
    above = camera_of("0,90", cameras).rotation
    np.testing.assert_allclose(above[2], [0, 1, 0], atol=1e-12)
    for wrong in ("above", "1,2,3", "nan", "400", ""):
        with pytest.raises(UsageError, match="--from: expected front, left"):
            camera_of(wrong, cameras)


def test_pictures_show_what_was_asked_for() -> None:
    shown = toy_shown()
    front, left = drawn(shown, "surface", shown.cameras[:2], 60)
    assert front.size == left.size and front.size[1] == 60

    def covered(picture: Image.Image) -> int:
        return int((np.asarray(picture) != np.asarray(picture)[0, 0]).any(-1).sum())

    assert covered(front) > 1.5 * covered(left) > 100, "arms stretched out are seen from the front"
    others = [
        np.asarray(drawn(shown, what, shown.cameras[:1], 60)[0]) for what in ("scan", "sigma", "distance", "body")
    ]
    assert len({picture.tobytes() for picture in others}) == 4
    with pytest.raises(UsageError, match="--show distance"):
        drawn(toy_without_scan(), "distance", shown.cameras[:1], 60)


def toy_without_scan() -> Any:
    from dataclasses import replace

    return replace(toy_shown(), scan=None, scan_note="The scan is gone.")


@pytest.mark.parametrize("film", ["gif", "mp4"])
def test_turntables_go_around(film: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(render, "FRAMES", 4)
    shown = toy_shown()
    frames = drawn(shown, "surface", turntable(shown.cameras), 33)
    path = tmp_path / f"film.{film}"
    if film == "mp4":
        monkeypatch.setenv("PATH", str(tmp_path))
        with pytest.raises(UsageError, match="ffmpeg"):
            write_film(path, frames, film)
        size = f"{frames[0].width // 2 * 2}x32"
        (tmp_path / "ffmpeg").write_text(f'#!/bin/sh\n/bin/cat > "{path}"; echo "$*" > "{tmp_path}/said"\n')
        (tmp_path / "ffmpeg").chmod(0o700)
        write_film(path, frames, film)
        assert (
            size in (tmp_path / "said").read_text() and path.stat().st_size == 4 * 32 * (frames[0].width // 2 * 2) * 3
        )
    else:
        write_film(path, frames, film)
        with Image.open(path) as found:
            assert found.n_frames == 4 and found.size == frames[0].size and found.info["loop"] == 0


@pytest.fixture(scope="module")
def hand(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The result of a hand with its page; nobody may change it."""
    folder = tmp_path_factory.mktemp("out") / "hand"
    write_hand(folder)
    build_report(folder)
    return folder


def test_a_page_belongs_to_its_result(hand: Path) -> None:
    report = read_report(hand)
    assert report is not None and report["exports"] == MADE and is_current(hand)
    assert set(MADE) <= RESULT.owned(hand)
    with Image.open(hand / THUMB) as thumb:
        assert thumb.format == "WEBP" and np.ptp(np.asarray(thumb)) > 100
    page = Elements((hand / PAGE).read_bytes())
    assert "data:image/webp" in (page.of("img")[0][0]["src"] or "")
    assert (
        "palm"
        in (scene := json.loads(next(t for a, t in page.of("script") if a.get("id") == "scene")))["views"][0]["name"]
    )
    assert [layer["key"] for layer in scene["layers"]] == ["body", "surface"]
    assert any("scan is not shown" in text for _, text in page.of("p"))


def test_the_scan_is_read_again_where_it_still_is(tmp_path: Path, hand: Path) -> None:
    from lvdreg.base.provenance import sha256_of

    source = hand / "registered.ply"
    write_hand(tmp_path / "hand", input={"path": str(source), "sha256": sha256_of(source)})
    shown = read_shown(tmp_path / "hand")
    assert shown.scan is not None and shown.distance_mm is not None and np.abs(shown.distance_mm).max() < 0.01
    write_hand(tmp_path / "other", input={"path": str(source), "sha256": "0"})
    assert read_shown(tmp_path / "other").scan is None


def test_pages_are_built_when_they_are_missing_or_old(tmp_path: Path) -> None:
    write_hand(tmp_path / "out/a")
    assert page_for(tmp_path / "out/a") == tmp_path / "out/a" / PAGE == page_for(tmp_path / "out/a/report.json")
    first = (tmp_path / "out/a" / PAGE).stat().st_mtime_ns
    told: list[Any] = []
    assert page_for(tmp_path / "out", progress=lambda *about: told.append(about)) == tmp_path / "out" / INDEX
    assert told == [] and (tmp_path / "out/a" / PAGE).stat().st_mtime_ns == first
    measures = tmp_path / "out/measures/a/measures.json"
    measures.parent.mkdir(parents=True)
    measures.write_text(
        '{"lvdreg": "0", "measures": {"stature": {"value_mm": 1700, "sigma_mm": 9, "definition": "d"}}}'
    )
    page_for(tmp_path / "out", progress=lambda *about: told.append(about))
    assert told == [(1, 1, "a")]
    assert b"stature" in (tmp_path / "out/a" / PAGE).read_bytes()
    with pytest.raises(RegistrationError, match="got none"):
        page_for(tmp_path / "nowhere")


def test_several_processes_build_pages(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in "abc":
        write_hand(tmp_path / name)
    (tmp_path / "b" / "params.npz").write_bytes(b"broken")

    def crew(workers: int, limits: Any) -> Any:
        """As many processes as there are jobs, of which the third is killed."""
        assert workers == 2
        return lambda next_job, work: (
            (job, Lost("killed", False) if job.name == "c" else work(job)) for job in iter(next_job, None)
        )

    monkeypatch.setattr("lvdreg.report.run.Crew", crew)
    page = page_for(tmp_path, workers=2)
    text = page.read_text(encoding="utf-8")
    assert "a/report.html" in text and "b/report.html" not in text and "without a page: killed" in text
    assert text.count("without a page") == 2


def test_files_of_others_stay(tmp_path: Path) -> None:
    write_hand(tmp_path / "out/a")
    (tmp_path / "out/a" / PAGE).write_text("mine")
    (tmp_path / "out" / INDEX).write_text("mine")
    with pytest.raises(OutputError, match="not lvdreg's"):
        build_report(tmp_path / "out/a")
    with pytest.raises(OutputError, match="not lvdreg's"):
        page_for(tmp_path / "out")
    assert (tmp_path / "out/a" / PAGE).read_text() == (tmp_path / "out" / INDEX).read_text() == "mine"


def test_the_commands(hand: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    opened: list[str] = []
    monkeypatch.setattr("webbrowser.open", lambda url: opened.append(url) or True)
    ran = lvdreg("view", hand, "--no-browser")
    assert (ran.exit_code, ran.stdout.strip(), opened) == (0, str(hand / PAGE), [])
    assert lvdreg("view", hand).exit_code == 0 and opened == [(hand / PAGE).as_uri()]
    out = tmp_path / "renders"
    words = ["render", hand, "--from", "palm", "--from", "30,10", "--height", "40", "--out", out]
    assert lvdreg(*words).exit_code == 0
    assert {path.name for path in out.iterdir()} == {"hand-surface-palm.png", "hand-surface-30_10.png"}
    again = lvdreg(*words)
    assert again.exit_code == 1 and "is there already; --force" in again.output
    assert lvdreg(*words, "--force").exit_code == 0
    assert lvdreg("render", tmp_path / "no", "--out", out).exit_code == 1


@pytest.mark.usefixtures("made_up_registering")
def test_registering_says_where_to_look_and_builds_pages_when_asked() -> None:
    scans(a="good", b="bad")
    ran = lvdreg("register", "a.ply", "b.ply")
    assert "to look at them: lvdreg view out" in ran.stdout and not Path("out", INDEX).exists()
    ran = lvdreg("register", "a.ply", "b.ply", "--report")
    assert str(Path("out", INDEX)) in ran.stdout
    text = Path("out", INDEX).read_text(encoding="utf-8")
    assert re.search(r"b\.ply.*not registered|not registered.*b\.ply", text) and "without a page" in text
