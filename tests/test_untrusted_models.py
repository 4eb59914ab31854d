"""Files of models made to take memory or time, pickles and npz: each refused in one line, in a few dozen megabytes."""

import bz2
import io
import pickle
import struct
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from lvdreg.base.arrays import open_npz, read_npz
from lvdreg.base.errors import BodyError, LvdregError
from lvdreg.body import pickle_machine
from lvdreg.body.files import load_body_data
from lvdreg.body.pickles import Unreadable, load_npz, load_pickle
from lvdreg.scan.model import read_scan
from tests.fabricate import chumpy_classes

# --- Pickles ----------------------------------------------------------------------------------------------------------

ENCODE = b"c_codecs\nencode\n"


def text(content: str) -> bytes:
    return b"X" + struct.pack("<I", len(content)) + content.encode()


def in_dictionary(value: bytes) -> bytes:
    """A pickle of {"it": value}."""
    return b"\x80\x02}" + text("it") + value + b"s."


def many_copies(count: int) -> bytes:
    """Text of 0.2 MB, and bytes made of it again and again."""
    return text("a" * 200_000) + b"q\x01" + ENCODE + b"q\x02" + b"(" + b"h\x02h\x01\x85R" * count + b"l"


def chumpy(content: dict[str, Any]) -> bytes:
    """A pickle with chumpy's objects, each given by its name and its attributes; equal ones are one."""
    made: dict[int, Any] = {}

    def built(thing: Any) -> Any:
        if not isinstance(thing, tuple):
            return thing
        if id(thing) not in made:
            made[id(thing)] = make("chumpy.reordering", thing[0])()
            vars(made[id(thing)]).update({key: built(value) for key, value in thing[1].items()})
        return made[id(thing)]

    with chumpy_classes() as make:
        return pickle.dumps({key: built(value) for key, value in content.items()}, protocol=2)


def doubled(start: Any, double: Callable[[Any], Any], times: int) -> Any:
    for _ in range(times):
        start = double(start)
    return start


def joined_with_itself(array: Any) -> Any:
    return "Concatenate", {"dterms": ["a", "b"], "a": array, "b": array}


def selections(count: int) -> dict[str, Any]:
    """Many arrays of 8 MB, all out of the same one."""
    places, source = np.zeros(1_000_000, np.uint8), np.zeros(1)
    return {f"it{i}": ("Select", {"a": source, "idxs": places}) for i in range(count)}


def sparse(shape: bytes) -> bytes:
    """A sparse matrix of a claimed shape that holds nothing."""
    number = pickle.dumps(np.zeros(0), protocol=2)[2:-1]
    place = pickle.dumps(np.zeros(0, np.int32), protocol=2)[2:-1]
    parts = text("data") + number + text("row") + place + text("col") + place + text("_shape") + shape
    return b"cscipy.sparse.coo\ncoo_matrix\n)\x81}(" + parts + b"ub"


PICKLES: dict[str, Callable[[], bytes]] = {
    "place of the memo": lambda: in_dictionary(b"]r\xff\xff\xff\x7f0N"),
    "text place of the memo": lambda: in_dictionary(b"]p99999999999\n0N"),
    "copies of text": lambda: in_dictionary(many_copies(3000)),
    "copies of lists": lambda: in_dictionary(
        b"(" + b"N" * 20_000 + b"lq\x01ccollections\nOrderedDict\nq\x020(" + b"h\x02h\x01\x85R" * 3000 + b"l"
    ),
    "classes": lambda: in_dictionary(b"(" + text("chumpy") + b"q\x010" + b"h\x01h\x01\x93" * 60_000 + b"l"),
    "steps": lambda: in_dictionary(b"(" + b"N" * (pickle_machine.MAX_STEPS + 1) + b"l"),
    "claimed bytes": lambda: in_dictionary(b"\x8e" + struct.pack("<Q", 1 << 40) + b"a"),
    "claimed bytearray": lambda: in_dictionary(b"\x96" + struct.pack("<Q", 1 << 34) + b"a"),
    "claimed frame": lambda: b"\x80\x04\x95" + struct.pack("<Q", 1 << 40) + b"N.",
    "negative text": lambda: in_dictionary(b"T\xff\xff\xff\xff"),
    "long number": lambda: in_dictionary(b"L" + b"9" * 200_000 + b"L\n"),
    "tuples as key": lambda: b"}" + b")" + b"2\x86" * 60 + b"Ns.",
    "sparse matrix": lambda: in_dictionary(sparse(b"K\x18\x8a\x06" + (1 << 40).to_bytes(6, "little") + b"\x86")),
    "joined with itself": lambda: chumpy({"it": doubled(("Ch", {"x": np.zeros(100)}), joined_with_itself, 40)}),
    "arrays of the same": lambda: chumpy(selections(40)),
    "lists of the same": lambda: chumpy({"it": ("Ch", {"x": doubled([1.0], lambda x: [x, x], 40)})}),
}  # fmt: skip


@pytest.mark.parametrize("name", PICKLES)
def test_pickles_take_memory_in_proportion(name: str, tmp_path: Path, in_little_memory: None) -> None:
    path = tmp_path / "model.pkl"
    path.write_bytes(PICKLES[name]())
    assert path.stat().st_size < 3 << 20
    try:
        found = load_pickle(path)
    except BodyError as error:
        assert "\n" not in str(error) and len(str(error)) < 400
    else:
        assert found["it"] is None or isinstance(found["it"], Unreadable | list)


def test_what_pickles_share_is_built_once(tmp_path: Path) -> None:
    array = np.arange(12.0)
    path = tmp_path / "model.pkl"
    path.write_bytes(pickle.dumps({"a": [array] * 3, "b": array}))
    found = load_pickle(path)
    assert found["a"][0] is found["a"][2] is found["b"]


def test_deep_notes_end_in_one_line(tmp_path: Path, in_little_memory: None) -> None:
    # Calls whose argument is a call, so deep that no recursion comes to the end.
    path = tmp_path / "model.pkl"
    path.write_bytes(in_dictionary(b"N" + b"".join(b"q\x01" + ENCODE + b"h\x01\x85R" for _ in range(5_000))))
    with pytest.raises(BodyError, match="expected a pickle of a model"):
        load_pickle(path)


# --- npz --------------------------------------------------------------------------------------------------------------


def npy(shape: tuple[int, ...], descr: str = "<f8", data: bytes = b"") -> bytes:
    head = repr({"descr": descr, "fortran_order": False, "shape": shape}).encode().ljust(117) + b"\n"
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(head)) + head + data


def npz(members: dict[str, bytes], method: int = zipfile.ZIP_DEFLATED) -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", method) as archive:
        for name, content in members.items():
            archive.writestr(f"{name}.npy", content)
    return stream.getvalue()


def zeros(megabytes: int) -> bytes:
    return npy((megabytes << 17, 1), data=bytes(megabytes << 20))


def claims_little() -> bytes:
    """An archive packed by bzip2 whose member claims 100 bytes and unpacks to a hundred million."""
    content = bytearray(npz({"f": npy((3,), data=bytes(24))}, zipfile.ZIP_STORED))
    packed = bz2.compress(bytes(150 << 20))
    start = content.index(b"f.npy") + 5
    end = content.index(b"PK\x01\x02")
    content[start:end] = packed
    content[8:10] = struct.pack("<H", zipfile.ZIP_BZIP2)
    content[18:22] = struct.pack("<I", len(packed))
    listed = start + len(packed)
    content[listed + 10 : listed + 12] = struct.pack("<H", zipfile.ZIP_BZIP2)
    content[listed + 20 : listed + 24] = struct.pack("<I", len(packed))
    where = content.index(b"PK\x05\x06")
    content[where + 16 : where + 20] = struct.pack("<I", listed)
    return bytes(content)


NPZ: dict[str, Callable[[], bytes]] = {
    "one large array": lambda: npz({"f": zeros(150)}),
    "many arrays": lambda: npz({"f": zeros(1)} | {f"v{i}": zeros(10) for i in range(16)}),
    "claimed shape": lambda: npz({"f": npy((1 << 40,))}),
    "negative shape": lambda: npz({"f": npy((-1, -1 << 40), data=bytes(64))}),
    "claimed items": lambda: npz({"f": npy((1,), "<U268435455")}),
    "nothing in many": lambda: npz({"f": npy((1 << 40,), "|S0")}),
    "packed another way": claims_little,
    "names": lambda: npz({"f": b""} | {f"a{i:06}": b"" for i in range(40_000)}, zipfile.ZIP_STORED),
    "deep header": lambda: npz({"f": npy((1,), "'" + "[" * 3000)}),
}


@pytest.fixture(scope="module")
def npz_files() -> dict[str, bytes]:
    """Made before memory is counted."""
    return {name: make() for name, make in NPZ.items()}


@pytest.mark.parametrize("name", NPZ)
def test_npz_files_take_memory_in_proportion(
    name: str, npz_files: dict[str, bytes], tmp_path: Path, in_little_memory: None
) -> None:
    path = tmp_path / "a.npz"
    path.write_bytes(npz_files[name])
    assert path.stat().st_size < 8 << 20
    with pytest.raises(ValueError, match=r"\w") as caught:
        read_npz(path)
    assert "\n" not in str(caught.value)
    for read in (load_body_data, read_scan):
        with pytest.raises(LvdregError):
            read(path)
    if name != "many arrays":  # of which only what is asked for counts
        with pytest.raises(BodyError):
            load_npz(path, ["f"])


def test_arrays_of_every_kind_are_read_as_numpy_wrote_them(tmp_path: Path) -> None:
    arrays: dict[str, NDArray[Any]] = {
        "floats": np.linspace(0, 1, 24).reshape(2, 3, 4), "columns": np.asfortranarray(np.arange(12.0).reshape(3, 4)),
        "none": np.zeros((0, 3)), "number": np.array(2.5), "text": np.array("{}"), "names": np.array(["é", "pelvis"]),
        "big": np.arange(6, dtype=">i4"), "bits": np.array([True, False]),
    }  # fmt: skip
    for save in (np.savez, np.savez_compressed):
        save(tmp_path / "a.npz", **arrays)  # type: ignore[operator]
        found = read_npz(tmp_path / "a.npz")
        assert found.keys() == arrays.keys()
        for key, array in arrays.items():
            assert found[key].dtype == array.dtype and found[key].flags.writeable
            np.testing.assert_array_equal(found[key], array)
    with open_npz((tmp_path / "a.npz").read_bytes()) as npz_file:
        np.testing.assert_array_equal(npz_file.array("big"), arrays["big"])
