"""Keypoints that users bring: the formats that others write, whose they are, and corrections."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from lvdreg.base.errors import PhotoError, UsageError
from lvdreg.cli.image import check_together, parse_places
from lvdreg.photo.given import LAYOUTS, ON_PERSON, Rows, corrected, is_of_many, read_keypoints, with_given
from lvdreg.photo.keypoints import KEYPOINTS
from lvdreg.photo.model import Photo
from lvdreg.photo.people import DetectedPerson

PHOTO = Photo(np.zeros((200, 100, 3), np.uint8), None, "me")


def truth(seed: int = 0) -> Rows:
    """Every keypoint somewhere in the photo, seen."""
    rng = np.random.default_rng(seed)
    return np.c_[rng.uniform(0, 100, 33), rng.uniform(0, 200, 33), np.full(33, 0.9)].astype(np.float32)


def in_layout(rows: Rows, count: int) -> list[float]:
    """Flat, as others write it; what we have no name for is somewhere else."""
    return [v for name in LAYOUTS[count] for v in (rows[KEYPOINTS.index(name)].tolist() if name else [7, 7, 1])]


def written(folder: Path, content: Any, name: str = "k.json") -> Path:
    path = folder / name
    path.write_text(json.dumps(content), encoding="utf-8")
    return path


def person(left: int, right: int) -> DetectedPerson:
    """A mask of all rows between two columns."""
    mask = np.zeros((200, 100), np.float32)
    mask[:, left:right] = 1
    return DetectedPerson(np.float32([left, 0, right, 200]), np.zeros((33, 3), np.float32), mask, 1.0)


@pytest.mark.parametrize("count", LAYOUTS)
def test_openpose_and_coco_name_the_same_joints(count: int, tmp_path: Path) -> None:
    rows = truth()
    flat = in_layout(rows, count)
    named = [name in LAYOUTS[count] for name in KEYPOINTS]
    results = [{"image_id": 5, "category_id": 1, "keypoints": flat, "score": 0.8}]
    for content in ({"people": [{"pose_keypoints_2d": flat}]}, results, {"keypoints": flat}):
        (found,), files = read_keypoints(written(tmp_path, content), PHOTO)
        np.testing.assert_allclose(found[named], rows[named], rtol=1e-6)
        assert not found[~np.array(named)].any() and list(files) == ["keypoints/k.json"]


def test_layouts_are_those_of_others() -> None:
    """A few places by number, as OpenPose's and COCO's own pages list them."""
    assert {i: LAYOUTS[25][i] for i in (4, 7, 9, 13, 19, 22, 24)} == {
        4: "right_wrist", 7: "left_wrist", 9: "right_hip", 13: "left_knee", 19: "left_toe", 22: "right_toe",
        24: "right_heel",
    }  # fmt: skip
    assert {i: LAYOUTS[18][i] for i in (8, 13, 14)} == {8: "right_hip", 13: "left_ankle", 14: "right_eye"}
    assert (LAYOUTS[17][9], LAYOUTS[17][14]) == ("left_wrist", "right_knee")


def test_annotations_are_found_by_the_photos_name_and_flags_are_visibilities(tmp_path: Path) -> None:
    rows = truth()
    flat = np.array(in_layout(rows, 17)).reshape(-1, 3)
    flat[:, 2] = np.arange(17) % 3
    other = [0.0] * 51
    content = {
        "images": [{"id": 3, "file_name": "x/me.jpg"}, {"id": 4, "file_name": "you.jpg"}],
        "annotations": [{"image_id": 4, "keypoints": other}, {"image_id": 3, "keypoints": flat.ravel().tolist()}],
    }
    (found,), _ = read_keypoints(written(tmp_path, content), PHOTO)
    visible = found[[KEYPOINTS.index(name) for name in LAYOUTS[17]], 2]
    assert visible[0] == 0 and 0 < visible[1] < visible[2] == 1
    with pytest.raises(PhotoError, match=r"nobody's of third"):
        read_keypoints(tmp_path / "k.json", Photo(PHOTO.rgb, None, "third"))
    assert is_of_many(tmp_path / "k.json") and not is_of_many(written(tmp_path, [], "one.json"))


def test_a_report_goes_back_in_and_large_photos_are_brought_to_size(tmp_path: Path) -> None:
    rows = truth()
    report = {"photo": {"width": 100}, "keypoints": dict(zip(KEYPOINTS, rows.tolist(), strict=True))}
    reduced = Photo(PHOTO.rgb, None, "me", reduction=4)
    for photo in (PHOTO, reduced):
        (found,), _ = read_keypoints(written(tmp_path, report), photo)
        np.testing.assert_allclose(found, rows)
    (found,), _ = read_keypoints(written(tmp_path, {"people": [{"pose_keypoints_2d": in_layout(rows, 33)}]}), reduced)
    np.testing.assert_allclose(found[:, :2], rows[:, :2] / 4)
    np.testing.assert_allclose(corrected(person(0, 9), {"nose": (40, 80)}, reduced).keypoints[0], [10, 20, 1])


def test_a_folder_has_a_file_for_each_photo(tmp_path: Path) -> None:
    written(tmp_path, {"people": [{"pose_keypoints_2d": in_layout(truth(), 25)}]}, "me_keypoints.json")
    assert len(read_keypoints(tmp_path, PHOTO)[0]) == 1 and is_of_many(tmp_path)
    with pytest.raises(PhotoError, match=r"expected you_keypoints\.json or you\.json"):
        read_keypoints(tmp_path, Photo(PHOTO.rgb, None, "you"))


@pytest.mark.parametrize(
    "content",
    [
        "{", '"text"', "3", "{}", "[]", "[1]", '{"people": 3}', '{"people": []}', '{"people": [{}]}',
        '{"people": [{"pose_keypoints_2d": [1, 2]}]}', '{"people": [{"pose_keypoints_2d": [1, 2, 3]}]}',
        '{"keypoints": {"knee": [1, 2, 3]}}', '{"keypoints": {"nose": 3}}', '{"keypoints": null}',
        '{"keypoints": {"nose": [1, 2, 3, 4]}}', '{"keypoints": {"nose": [1e999, 2, 1]}}',
        '{"keypoints": {"nose": ["a", 2, 1]}}', '{"photo": {"width": 0}, "keypoints": {"nose": [1, 2, 1]}}',
        '{"photo": 3, "keypoints": {"nose": [1, 2, 1]}}', '{"annotations": []}', '{"images": 3, "annotations": []}',
        '[{"image_id": 1, "keypoints": []}, {"image_id": 2, "keypoints": []}]', "[" * 5000,
    ],
)  # fmt: skip
def test_what_is_none_is_one_line(content: str, tmp_path: Path) -> None:
    path = tmp_path / "k.json"
    path.write_text(content, encoding="utf-8")
    with pytest.raises(PhotoError, match=r"k\.json: expected keypoints") as caught:
        read_keypoints(path, PHOTO)
    assert "\n" not in str(caught.value) and len(str(caught.value)) < 400


def test_people_get_the_keypoints_that_lie_on_them() -> None:
    people = [person(0, 30), person(40, 60), person(70, 100)]
    given = []
    for left in (70, 5):
        rows = truth(left)
        rows[:, 0] = left + rows[:, 0] / 5
        given.append(rows)
    found = with_given(people, given, {"keypoints/k.json": "1"})
    np.testing.assert_array_equal(found[0].keypoints, given[1])
    np.testing.assert_array_equal(found[2].keypoints, given[0])
    assert found[1] is people[1] and found[0].files == {"keypoints/k.json": "1"}
    beside = truth()
    beside[:, 0] = np.where(np.arange(33) < 33 * ON_PERSON - 1, 50, 65)
    with pytest.raises(PhotoError, match="none on anybody"):
        with_given(people, [beside], {})


def test_corrections_move_one_keypoint() -> None:
    one = person(0, 50)
    found = corrected(one, {"left_knee": (41.5, 63)}, PHOTO).keypoints
    row = KEYPOINTS.index("left_knee")
    np.testing.assert_array_equal(found[row], [41.5, 63, 1])
    assert not np.delete(found, row, 0).any() and not one.keypoints.any()
    for places in ({"knee": (1, 2)}, {"nose": (101, 2)}, {"nose": (float("nan"), 2)}):
        with pytest.raises(UsageError, match="--set: expected"):
            corrected(one, places, PHOTO)


def test_options_are_parsed_and_refused_together(tmp_path: Path) -> None:
    assert parse_places(["left_knee=412,633", "nose = 1.5,2"]) == {"left_knee": (412, 633), "nose": (1.5, 2)}
    for word in ("left_knee", "left_knee=1", "left_knee=1,2,3", "left_knee=a,b"):
        with pytest.raises(UsageError, match="--set"):
            parse_places([word])
    for everyone, count in ((True, 1), (False, 2)):
        with pytest.raises(UsageError, match="--set"):
            check_together("auto", None, everyone, count, None, {"nose": (1, 2)})
    one = written(tmp_path, {"people": []})
    check_together("auto", None, False, 1, str(one))
    check_together("auto", None, False, 2, str(tmp_path))
    with pytest.raises(UsageError, match="--keypoints"):
        check_together("auto", None, False, 2, str(one))
