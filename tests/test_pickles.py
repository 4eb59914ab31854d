"""Reading pickles runs nothing of them; what numpy, scipy and chumpy left in them comes out as arrays."""

import copyreg
import io
import os
import pickle
import struct
import zipfile
from collections import OrderedDict
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import scipy.sparse

from lvdreg.base.errors import BodyError
from lvdreg.body import pickles
from lvdreg.body.pickles import Unreadable, load_npz, load_pickle
from tests.fabricate import Python2Pickler, chumpy_classes

PROTOCOLS = range(pickle.HIGHEST_PROTOCOL + 1)


class Call:
    """Pickles as a call of any function."""

    def __init__(self, function: Callable[..., Any], *arguments: Any) -> None:
        self.call = function, arguments

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[Any, ...]]:
        return self.call

    def __call__(self) -> None:
        """Only callables may be called in pickles; what this stands for is one when loaded."""


class State:
    """Pickles as a call whose result is given a state, and items."""

    def __init__(self, *parts: Any) -> None:
        self.parts = parts

    def __reduce__(self) -> tuple[Any, ...]:
        return self.parts


def shell(marker: Path) -> str:
    return f"echo run > {marker}"


def python(marker: Path) -> str:
    return f"open({str(marker)!r}, 'w').close()"


def hostile_npy(marker: Path) -> str:
    """Write an array whose loading runs a command, for numpy.load to open."""
    path = marker.with_name("hostile.npy")
    np.save(path, np.array([Call(os.system, shell(marker))], dtype=object), allow_pickle=True)
    return str(path)


def sparse_with(name: str, value: Any) -> scipy.sparse.csc_matrix:
    """A sparse matrix with an attribute that does not belong there."""
    matrix = scipy.sparse.eye(3, format="csc")
    vars(matrix)[name] = value
    return matrix


# What runs a command when loaded by pickle.load; the tests make sure that it does.
CALLS: dict[str, Callable[[Path], Any]] = {
    "os.system": lambda m: Call(os.system, shell(m)),
    "eval": lambda m: Call(eval, python(m)),
    "exec": lambda m: Call(exec, python(m)),
    "open": lambda m: Call(open, str(m), "w"),
    "getattr": lambda m: Call(Call(getattr, m, "touch")),
    "map": lambda m: Call(list, Call(map, os.system, [shell(m)])),
    "numpy.load": lambda m: Call(np.load, hostile_npy(m), None, True),
    "numpy.memmap": lambda m: Call(np.memmap, str(m), "u1", "w+", 0, (4,)),
    "numpy's tofile": lambda m: Call(np.ndarray.tofile, np.zeros(3), str(m)),
    "in a list": lambda m: [1, [Call(os.system, shell(m))]],
    "as a key": lambda m: {Call(os.system, shell(m)): 1},
    "in a state": lambda m: State(OrderedDict, (), {"x": Call(os.system, shell(m))}),
    "in an array of objects": lambda m: np.array([Call(os.system, shell(m))], dtype=object),
    "in a sparse matrix": lambda m: sparse_with("data", Call(os.system, shell(m))),
}


@pytest.fixture
def marker(tmp_path: Path) -> Path:
    """A file that is there only if something was run."""
    return tmp_path / "run"


# Files that the calls open are never closed.
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("protocol", [0, 2, 5])
@pytest.mark.parametrize("name", CALLS)
def test_nothing_is_run(name: str, protocol: int, marker: Path, tmp_path: Path) -> None:
    thing = CALLS[name](marker)
    marker.unlink(missing_ok=True)
    content = pickle.dumps({"v_template": np.zeros((4, 3)), "more": thing}, protocol=protocol)
    path = tmp_path / "model.pkl"
    path.write_bytes(content)
    with pytest.raises(BodyError, match="nothing was run") as caught:
        load_pickle(path)
    assert not marker.exists()
    assert str(path) in str(caught.value)
    # The same bytes do run where they are trusted: the test is worth something.
    with suppress(TypeError, AttributeError, KeyError, ValueError, OSError):
        pickle.loads(content)
    assert marker.exists()


def test_the_refused_name_is_told(marker: Path, tmp_path: Path) -> None:
    path = tmp_path / "model.pkl"
    path.write_bytes(pickle.dumps({"f": Call(os.system, shell(marker))}))
    with pytest.raises(BodyError, match=rf"names '{os.system.__module__}\.system', which no model consists of"):
        load_pickle(path)
    path.write_bytes(pickle.dumps(Call(eval, python(marker)), protocol=2))
    with pytest.raises(BodyError, match=r"names '\w+\.eval', which"):
        load_pickle(path)


@pytest.mark.parametrize("place", ["x", "_dirty_vars", "a term of another"])
def test_nothing_is_run_within_chumpy(place: str, marker: Path, tmp_path: Path) -> None:
    with chumpy_classes() as make:
        inner = make("chumpy.ch", "Ch")()
        vars(inner).update({"x": np.zeros(3), place: Call(os.system, shell(marker))})
        outer = make("chumpy.reordering", "Select")()
        vars(outer).update({"a": inner, "idxs": np.arange(3)})
        content = pickle.dumps({"shapedirs": outer}, protocol=2)
    path = tmp_path / "model.pkl"
    path.write_bytes(content)
    with pytest.raises(BodyError, match="nothing was run"):
        load_pickle(path)
    assert not marker.exists()


def op(name: str, *lines: str) -> bytes:
    """One opcode with its lines."""
    return name.encode() + "".join(f"{line}\n" for line in lines).encode()


def string(text: str) -> bytes:
    return b"X" + struct.pack("<I", len(text)) + text.encode()


# Pickles that no pickler writes. S: name on the stack; R: call; b: give a state.
CRAFTED = {
    "attribute of a stand-in": b"\x80\x04" + string("chumpy.ch") + string("Ch.__init__.__globals__") + b"\x93.",
    "attribute of numpy": b"\x80\x04" + string("numpy") + string("ndarray.tofile") + b"\x93.",
    "module below numpy": op("c", "numpy.f2py", "compile") + b".",
    "module that begins like numpy": op("c", "numpyx", "ndarray") + b".",
    "module below chumpy's names": op("c", "chumpy.ch", "os.system") + b".",
    "scipy.io": op("c", "scipy.io", "loadmat") + b".",
    "state that changes a class": op("c", "copyreg", "_reconstructor") + b"(N}" + string("__new__") + b"Nstb.",
    "instance": b"(" + string("echo") + op("i", "os", "system") + b".",
    "object": b"(" + op("c", "os", "system") + string("echo") + b"o.",
    "new object": op("c", "io", "FileIO") + b"(" + string("run") + string("w") + b"t\x81.",
    "registering an extension": op("c", "copyreg", "add_extension") + b".",
    "persistent id": op("P", "os.system") + b".",
    "persistent id on the stack": b"N" + b"Q.",
    "extension": b"\x82\x01.",
}


@pytest.mark.parametrize("name", CRAFTED)
def test_crafted_pickles_are_refused(name: str, tmp_path: Path) -> None:
    before = {key: dict(vars(value)) for key, value in vars(pickles).items() if isinstance(value, type)}
    path = tmp_path / "model.pkl"
    path.write_bytes(CRAFTED[name])
    with pytest.raises(BodyError):
        load_pickle(path)
    assert before == {key: dict(vars(value)) for key, value in vars(pickles).items() if isinstance(value, type)}


def test_a_registered_extension_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "model.pkl"
    path.write_bytes(CRAFTED["extension"])
    copyreg.add_extension(os.system.__module__, "system", 1)
    try:
        with pytest.raises(BodyError, match="names an extension"):
            load_pickle(path)
    finally:
        copyreg.remove_extension(os.system.__module__, "system", 1)


def test_objects_in_npz_files_run_nothing(marker: Path, tmp_path: Path) -> None:
    path = tmp_path / "model.npz"
    hostile = np.array(Call(os.system, shell(marker)), dtype=object)
    np.savez(path, v_template=np.zeros((4, 3)), f=hostile, joint2num=hostile)
    found = load_npz(path, ["v_template", "f"])
    assert isinstance(found["f"], Unreadable) and "system" in found["f"].reason
    assert set(found) == {"v_template", "f"}
    assert not marker.exists()
    with np.load(path, allow_pickle=True) as file:
        file["f"]
    assert marker.exists()


def test_objects_in_npz_files_are_read(tmp_path: Path) -> None:
    regressor = scipy.sparse.random(5, 8, 0.4, format="csc", random_state=1)
    path = tmp_path / "model.npz"
    np.savez(path, J_regressor=np.array(regressor, dtype=object), words=np.array([{"a": 1}, None], dtype=object))
    found = load_npz(path, ["J_regressor", "words", "missing"])
    np.testing.assert_array_equal(found["J_regressor"].toarray(), regressor.toarray())
    assert isinstance(found["words"], Unreadable)
    assert "missing" not in found


ARRAYS = {
    "floats": np.linspace(0, 1, 24).reshape(2, 3, 4),
    "columns first": np.asfortranarray(np.arange(12.0).reshape(3, 4)),
    "big end first": np.arange(6, dtype=">f4"),
    "unsigned": np.array([[2**32 - 1, 0], [0, 1]], np.uint32),
    "half": np.arange(5, dtype=np.float16),
    "bool": np.array([True, False]),
    "none": np.zeros((0, 3)),
    "one": np.array(2.5),
    "text": np.array(["pelvis", "é"]),
    "bytes": np.array([b"ab", b"c"]),
    "view": np.arange(20.0).reshape(4, 5)[::2, 1:],
}


@pytest.mark.parametrize("protocol", PROTOCOLS)
@pytest.mark.parametrize("name", ARRAYS)
def test_arrays_come_out_as_they_went_in(name: str, protocol: int, tmp_path: Path) -> None:
    path = tmp_path / "model.pkl"
    path.write_bytes(pickle.dumps({"it": ARRAYS[name], "twice": [ARRAYS[name]]}, protocol=protocol))
    found = load_pickle(path)
    assert found["it"].dtype == ARRAYS[name].dtype
    np.testing.assert_array_equal(found["it"], ARRAYS[name])
    np.testing.assert_array_equal(found["twice"][0], ARRAYS[name])
    # Arrays of the file may be changed without changing anything else.
    assert found["it"].flags.writeable


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_containers_numbers_and_sparse_matrices(protocol: int, tmp_path: Path) -> None:
    regressor = scipy.sparse.random(5, 8, 0.4, format="csr", random_state=1)
    content = {
        "number": np.float32(1.5), "count": np.int64(3), "words": {"a": (1, 2.5, None, True, "é", b"\xff")},
        "ordered": OrderedDict(b=1, a=2), "csr": regressor, "csc": regressor.tocsc(), "coo": regressor.tocoo(),
        "array": scipy.sparse.csc_array(regressor), "set": {1}, "dtype": np.dtype("<f8"),
    }  # fmt: skip
    path = tmp_path / "model.pkl"
    path.write_bytes(pickle.dumps(content, protocol=protocol))
    found = load_pickle(path)
    assert (found["number"], found["count"]) == (1.5, 3)
    assert found["words"] == content["words"]
    assert found["ordered"] == {"b": 1, "a": 2}
    for name in ("csr", "csc", "coo", "array"):
        np.testing.assert_array_equal(found[name].toarray(), regressor.toarray())
    assert found["dtype"] == np.dtype("<f8")


def test_few_bytes_do_not_take_for_ever(tmp_path: Path) -> None:
    thing: list[Any] = [1.0]
    for _ in range(60):
        thing = [thing, thing]
    path = tmp_path / "model.pkl"
    path.write_bytes(pickle.dumps({"it": thing}))
    assert len(load_pickle(path)["it"]) == 2
    # Lists within lists: opcodes by hand, for the pickler would give up.
    path.write_bytes(b"}" + string("it") + b"(" * 50_000 + b"N" + b"l" * 50_000 + b"s.")
    with pytest.raises(BodyError, match="expected a pickle of a model"):
        load_pickle(path)


def test_records_are_left_out_and_harm_no_other_field(tmp_path: Path) -> None:
    path = tmp_path / "model.pkl"
    records = np.zeros(2, [("a", "f8"), ("b", "i4")])
    path.write_bytes(pickle.dumps({"it": records, "day": np.array(["2020-01-01"], "M8[D]"), "f": np.zeros(3)}))
    found = load_pickle(path)
    assert isinstance(found["it"], Unreadable) and "type 'V12'" in found["it"].reason
    assert isinstance(found["day"], Unreadable)
    np.testing.assert_array_equal(found["f"], np.zeros(3))


# As Python 2.7 with numpy 1.11 wrote {"v": numpy.array([1.0, 2.0])} by default, in text.
PYTHON_2_TEXT = rb"""(dp0
S'v'
p1
cnumpy.core.multiarray
_reconstruct
p2
(cnumpy
ndarray
p3
(I0
tp4
S'b'
p5
tp6
Rp7
(I1
(I2
tp8
cnumpy
dtype
p9
(S'f8'
p10
I0
I1
tp11
Rp12
(I3
S'<'
p13
NNNI-1
I-1
I0
tp14
bI00
S'\x00\x00\x00\x00\x00\x00\xf0?\x00\x00\x00\x00\x00\x00\x00@'
p15
tp16
bs."""


def test_python_2_text(tmp_path: Path) -> None:
    path = tmp_path / "model.pkl"
    path.write_bytes(PYTHON_2_TEXT)
    np.testing.assert_array_equal(load_pickle(path)["v"], [1.0, 2.0])


def chumpy_content(make: Callable[[str, str], type]) -> tuple[dict[str, Any], dict[str, Any]]:
    """Objects of chumpy and what they are to evaluate to; None: to nothing."""

    def new(name: str, **state: Any) -> Any:
        module = "chumpy.ch" if name == "Ch" else "chumpy.reordering"
        thing = make(module, name)()
        vars(thing).update(state | {"_dirty_vars": {"x"}, "_itr": None})
        return thing

    base = np.arange(12.0).reshape(3, 4)
    ch = new("Ch", x=base)
    select = new("Select", a=ch, idxs=np.array([5, 1, 2, 3]), preferred_shape=(2, 2))
    cases: dict[str, tuple[Any, Any]] = {
        "Ch": (ch, base),
        "number": (new("Ch", x=np.array(2.0)), np.array([2.0])),
        "Select": (select, base.ravel()[[5, 1, 2, 3]].reshape(2, 2)),
        "flat Select": (new("Select", a=ch, idxs=np.array([0, 4])), base.ravel()[[0, 4]]),
        "nested": (new("Reshape", a=select, newshape=(4, 1)), np.array([[5.0], [1], [2], [3]])),
        "reshaped to a number": (new("Reshape", a=ch, newshape=-1), base.ravel()),
        "transposed": (new("transpose", a=ch, axes=None), base.T),
        "joined": (new("Concatenate", dterms=["m0", "m1"], m0=ch, m1=ch, axis=1), np.hstack([base, base])),
        "unknown": (new("Sort", a=ch), None),
        "Select of an unknown": (new("Select", a=new("Sort", a=ch), idxs=np.array([0])), None),
        "without its term": (new("Ch"), None),
    }
    return {k: v[0] for k, v in cases.items()}, {k: v[1] for k, v in cases.items()}


@pytest.mark.parametrize("protocol", [0, 1, 2, 4, "python 2"])
def test_chumpy_is_evaluated_without_it(protocol: int | str, tmp_path: Path) -> None:
    with chumpy_classes() as make:
        content, expected = chumpy_content(make)
        file = io.BytesIO()
        if isinstance(protocol, int):
            pickle.dump(content, file, protocol)
        else:
            Python2Pickler(file).dump(content)
    path = tmp_path / "model.pkl"
    path.write_bytes(file.getvalue())
    found = load_pickle(path)
    for name, value in expected.items():
        if value is None:
            assert isinstance(found[name], Unreadable), name
        else:
            np.testing.assert_array_equal(found[name], value)


# Damage of arrays that pickle itself would let through.
def damaged_arrays() -> dict[str, Any]:
    make = np.zeros(1).__reduce__()[0]
    f8 = np.dtype("f8")
    blank = (np.ndarray, (0,), b"b")
    loop: list[Any] = []
    loop.append(loop)
    return {
        "too few bytes": State(make, blank, (1, (9,), f8, False, b"12345678")),
        "no bytes": State(make, blank, (1, (9,), f8, False, None)),
        "negative size": State(make, blank, (1, (-1,), f8, False, b"12345678")),
        "no state": State(make, blank),
        "index outside": sparse_with("indices", np.array([0, 1, 7], np.int32)),
        "list in itself": loop,
    }


@pytest.mark.parametrize("name", damaged_arrays())
def test_damaged_arrays_are_one_line(name: str, tmp_path: Path) -> None:
    path = tmp_path / "model.pkl"
    path.write_bytes(pickle.dumps({"it": damaged_arrays()[name]}, protocol=2))
    with pytest.raises(BodyError, match="expected a pickle of a model") as caught:
        load_pickle(path)
    assert "\n" not in str(caught.value)


def test_any_truncation_and_any_flipped_byte_is_a_body_error(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    with chumpy_classes() as make:
        file = io.BytesIO()
        Python2Pickler(file).dump(chumpy_content(make)[0] | {"s": scipy.sparse.eye(3, format="csc")})
    whole = file.getvalue()
    path = tmp_path / "model.pkl"
    for end in range(0, len(whole) - 1, max(len(whole) // 150, 1)):
        path.write_bytes(whole[:end])
        with pytest.raises(BodyError):
            load_pickle(path)
    for _ in range(150):
        bad = bytearray(whole)
        bad[int(rng.integers(len(bad)))] = int(rng.integers(256))
        path.write_bytes(bytes(bad))
        try:
            load_pickle(path)
        except BodyError as error:
            assert "\n" not in str(error)


def test_damaged_npz_files_are_body_errors(tmp_path: Path) -> None:
    whole = tmp_path / "whole.npz"
    np.savez_compressed(whole, f=np.random.default_rng(0).normal(size=(50, 3)), o=np.array({"a": 1}, dtype=object))
    content = whole.read_bytes()
    path = tmp_path / "model.npz"
    for end in range(0, len(content) - 1, 41):
        path.write_bytes(content[:end])
        with pytest.raises(BodyError, match="damaged or truncated"):
            load_npz(path, ["f"])
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("f.npy", b"not an array")
    with pytest.raises(BodyError, match="damaged"):
        load_npz(path, ["f"])
    with pytest.raises(BodyError, match="no such file"):
        load_npz(tmp_path / "none.npz", ["f"])


def test_what_is_no_dictionary_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "model.pkl"
    path.write_bytes(pickle.dumps([1, 2]))
    with pytest.raises(BodyError, match="expected a pickled dictionary of arrays, got a list"):
        load_pickle(path)
    with pytest.raises(BodyError, match="cannot be read"):
        load_pickle(tmp_path / "none.pkl")
