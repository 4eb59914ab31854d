"""Things that people stand on, lie on and lean against: found by their shape, and left out if the body is elsewhere."""

from collections.abc import Callable

import numpy as np
import pytest
from scipy.spatial import cKDTree

from lvdreg.base.shapes import BoolArray, FloatArray
from lvdreg.body.catalogue import load_body
from lvdreg.descent.boxes import UPS, Box, body_boxes, boxes_without
from lvdreg.fit.correspond import PosedSurface
from lvdreg.fit.things import LeaveOutConfig, leave_out, not_the_body
from lvdreg.geometry.mesh import face_normals, mesh_normals, sample_surface, unit_rows
from lvdreg.pipeline.config import HAND, RegisterConfig, scan_config
from lvdreg.scan.clean import clean_scan
from lvdreg.scan.model import Scan, scan_from_arrays
from lvdreg.scan.things import ThingConfig, Things, find_things, without_things
from lvdreg.settings import settings_of
from lvdreg.synth.scenes import FORMS, KINDS, Mesh, SceneStream, box, joined, upright_cylinder
from tests.scans import standing, vertices_of

CONFIG = ThingConfig()


@pytest.fixture(scope="module")
def person() -> Mesh:
    body = load_body("anny")
    return Mesh(vertices_of(body, standing(body, 3)), body.data.faces)


def turntable(person: Mesh) -> Mesh:
    low = person.vertices.min(0)
    middle = person.vertices.mean(0)
    return upright_cylinder(np.array([middle[0], low[1] - 0.118, middle[2]]), 0.35, 0.12)


def block(person: Mesh) -> Mesh:
    low, middle = person.vertices.min(0), person.vertices.mean(0)
    under = np.array([middle[0], low[1], middle[2]])
    return box(under - [0.3, 0.3, 0.25], under + [0.3, 0.002, 0.25])


def pole(person: Mesh) -> Mesh:
    low, middle = person.vertices.min(0), person.vertices.mean(0)
    return upright_cylinder(np.array([middle[0], low[1], low[2] - 0.02]), 0.03, 1.6)


def scan_of(mesh: Mesh, as_cloud: bool) -> Scan:
    """A scan with normals outward, cleaned of nothing."""
    if not as_cloud:
        return Scan(mesh.vertices, mesh.faces, mesh_normals(mesh.vertices, mesh.faces), None, "scene")
    points, face, _ = sample_surface(mesh.vertices, mesh.faces, 30_000, np.random.default_rng(1))
    return Scan(points, None, unit_rows(face_normals(mesh.vertices, mesh.faces))[face], None, "scene")


def nearer_to(first: Mesh, second: Mesh, points: FloatArray) -> BoolArray:
    """Whether points are further from the second surface than from the first, by a centimetre."""
    trees = [cKDTree(sample_surface(m.vertices, m.faces, 60_000, np.random.default_rng(2))[0]) for m in (first, second)]
    own, other = (tree.query(points)[0] for tree in trees)
    nearer: BoolArray = own + 0.01 < other
    return nearer


@pytest.mark.parametrize(("thing_of", "as_cloud"), [(turntable, False), (block, True), (pole, False)])
def test_things_are_found_and_people_are_not(person: Mesh, thing_of: Callable[[Mesh], Mesh], as_cloud: bool) -> None:
    thing = thing_of(person)
    found = find_things(scan_of(joined(person, thing), as_cloud), CONFIG)
    keep = without_things(found.samples, found, RegisterConfig().clean)
    assert keep[nearer_to(thing, person, found.samples)].mean() < 0.05
    assert keep[nearer_to(person, thing, found.samples)].mean() > 0.93


def test_a_person_alone_is_no_thing_and_neither_is_all_there_is(person: Mesh) -> None:
    assert find_things(scan_of(person, False), CONFIG).is_empty
    assert find_things(scan_of(box(np.zeros(3), np.ones(3)), False), CONFIG).is_empty
    assert find_things(scan_of(joined(person, block(person)), False), None).is_empty
    wanted = scan_config(settings_of({"remove_surroundings": False}, "register"), "register")
    assert wanted.things is None and RegisterConfig().things == CONFIG and HAND.things is not None


def test_what_lies_on_the_body_stays_whatever_it_looked_like(person: Mesh) -> None:
    surface = PosedSurface(person.vertices, person.faces)
    points, face, _ = sample_surface(person.vertices, person.faces, 4000, np.random.default_rng(0))
    normals = unit_rows(face_normals(person.vertices, person.faces))[face]
    is_flat = points[:, 1] > np.median(points[:, 1])
    thing = np.where(is_flat, 0, -1)
    assert not not_the_body(points + 0.03 * normals, normals, thing, surface, LeaveOutConfig()).any()
    away = points + [2.0, 0, 0]
    np.testing.assert_array_equal(not_the_body(away, normals, thing, surface, LeaveOutConfig()), is_flat)
    # What a person lies on faces the other way.
    out = not_the_body(points + 0.002 * normals, -normals, thing, surface, LeaveOutConfig())
    assert out[is_flat].mean() > 0.95


def test_a_scan_loses_its_things_and_says_so(person: Mesh) -> None:
    thing = block(person)
    both = joined(person, thing)
    scan = scan_of(both, False)
    points, face, _ = sample_surface(both.vertices, both.faces, 8000, np.random.default_rng(0))
    normals = unit_rows(face_normals(both.vertices, both.faces))[face]
    is_thing = nearer_to(thing, person, points)
    things = Things(points, np.where(is_thing, 0, -1), 0.1)
    surface = PosedSurface(person.vertices, person.faces)
    rest, rest_points, rest_normals = leave_out(scan, points, normals, things, surface, np.eye(4), LeaveOutConfig())
    assert len(rest_points) == len(rest_normals) == (~is_thing).sum()
    assert "left out flat, box-like or long things" in rest.notes[-1]
    assert rest.points[:, 1].min() > person.vertices[:, 1].min() - 0.02
    assert len(rest.points) >= 0.97 * len(person.vertices)
    same = leave_out(
        scan, points, normals, Things(points, np.full(len(points), -1), 0.1), surface, np.eye(4), LeaveOutConfig()
    )
    assert same[0] is scan and same[1] is points


def test_crumbs_of_things_go_with_them_and_robes_stay(person: Mesh) -> None:
    surface, low = PosedSurface(person.vertices, person.faces), person.vertices.min(0)
    own = sample_surface(person.vertices, person.faces, 4000, np.random.default_rng(0))[0]
    rng = np.random.default_rng(1)
    plate = low + [-1.0, 0.2, 0] + [0.4, 0.0, 0.4] * rng.uniform(size=(2000, 3))
    knob = low + [-0.9, 0.21, 0.1] + 0.05 * rng.uniform(size=(100, 3))
    elsewhere = low + [-1.0, 1.0, 0] + 0.05 * rng.uniform(size=(100, 3))
    wide = low + [-1.0, 0.21, 0] + [0.4, 0.5, 0.0] * rng.uniform(size=(1500, 3))
    for more, expected in ((knob, 0), (elsewhere, 100), (wide, 1500)):
        points = np.concatenate([own, plate, more])
        things = Things(points, np.where(np.arange(len(points)) // 2000 == 2, 0, -1), 0.05)
        scan = Scan(points, None, np.zeros_like(points), None, "cloud")
        kept = leave_out(scan, points, np.zeros_like(points), things, surface, np.eye(4), LeaveOutConfig())[1]
        assert len(kept) == len(own) + expected


def test_boxes_of_what_is_left_come_beside_those_of_all() -> None:
    points = np.random.default_rng(0).uniform(size=(500, 3))
    keep = points[:, 0] < 0.5

    def find(points: FloatArray) -> list[Box]:
        return body_boxes(points, UPS, 400)

    boxes = boxes_without(find, points, keep)
    assert [box.keep is None for box in boxes] == [True] * 6 + [False] * 6
    assert {box.group for box in boxes[:6]} == {0} and {box.group for box in boxes[6:]} == {1}
    np.testing.assert_array_equal(boxes[6].T_unit_scan, find(points[keep])[0].T_unit_scan)
    assert len(boxes_without(find, points, np.ones(500, bool))) == 6


@pytest.fixture(scope="module")
def scenes() -> SceneStream:
    return SceneStream(load_body("anny"), load_body("anny-hand"))


def test_equal_numbers_give_equal_scenes(scenes: SceneStream) -> None:
    scene, again = (scenes.scene("plate", 1, 0, seed=5) for _ in range(2))
    np.testing.assert_array_equal(scene.whole.points, again.whole.points)
    np.testing.assert_array_equal(scene.alone.points, again.alone.points)


@pytest.mark.parametrize("kind", KINDS)
def test_scenes_are_the_person_and_a_thing_that_touches(scenes: SceneStream, kind: str) -> None:
    scene = scenes.scene(kind, 1, 0, seed=5)
    assert scene.form in FORMS and (scene.whole.faces is None) == (scene.form == "cloud")
    distance = cKDTree(scene.alone.points).query(scene.whole.points)[0]
    size = 0.1 if kind == "plate" else 1.0
    is_thing = distance > 0.03 * size
    assert is_thing.mean() > 0.05
    # Most of the person is in the scene: all but what lies against the thing.
    missing = cKDTree(scene.whole.points).query(scene.alone.points)[0] > 0.03 * size
    assert missing.mean() < 0.1
    # What belongs to the thing comes close to the person.
    assert distance[is_thing].min() < 0.05 * size


def test_things_stay_out_of_clean_scans_of_scenes(scenes: SceneStream) -> None:
    scene = scenes.scene("chair", 0, 0, seed=5)
    scan = clean_scan(scene.whole)
    found = find_things(scan, CONFIG)
    keep = without_things(found.samples, found, RegisterConfig().clean)
    distance = cKDTree(clean_scan(scan_from_arrays(scene.alone.points, scene.alone.faces)).points).query(found.samples)[
        0
    ]
    assert keep[distance > 0.05].mean() < 0.1
    assert keep[distance < 0.01].mean() > 0.8
