"""Files of body models without running what is in them: pickles of Python 2 and 3, and npz files with pickles inside.

A pickle is a program that may call anything. Here it becomes notes of what it names and calls (`pickle_machine`); from
those arrays are built, and nothing else. chumpy's objects are evaluated without chumpy. All that is built together is
bounded by the size of the file.
"""

import re
from collections.abc import Callable, Collection
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lvdreg.base.arrays import open_npz
from lvdreg.base.errors import BodyError
from lvdreg.base.files import read_bytes
from lvdreg.base.text import brief, shown
from lvdreg.body.pickle_machine import Made, Named, RefusedError, run_pickle

Array = NDArray[Any]

MAX_BYTES = 2 << 30
"""No file of a model is larger (SMPL-X's has 0.2 GB as a pickle)."""
BUILT_BYTES, BUILT_RATIO = 64 << 20, 8
"""What is built of a pickle takes at most so many times its size, of small ones so many bytes: a few copies of each
array, however often a few bytes ask for one more."""
MAX_SPARSE = 1 << 24
"""Rows times columns of a sparse matrix, which becomes a dense one: SMPL-X's regressor has 0.6 million."""

_DTYPE = re.compile(r"[<>|=]?(b|i|u|f|S|U|O|b1|[iuf][1248]|f16|[SU]\d{1,6}|O[48]|\?)")
# What damaged content raises, here, in numpy and in scipy; a warning, where warnings are errors.
_DAMAGE = (
    ValueError, TypeError, AttributeError, IndexError, KeyError, OverflowError, MemoryError, RecursionError,
    NotImplementedError, RuntimeError, Warning,
)  # fmt: skip


@dataclass(frozen=True)
class Unreadable:
    """A value of a model file that is known to be there and was not made into an array.

    Attributes:
        reason: Why, as the end of a sentence.
    """

    reason: str


def load_pickle(path: Path) -> dict[str, Any]:
    """Return what a pickled dictionary holds, without running anything.

    Arrays are numpy's, sparse matrices scipy's, chumpy's objects what they evaluate to; those of chumpy that cannot be
    evaluated here are `Unreadable`.

    Raises:
        BodyError: the file is missing, damaged, no pickled dictionary, or names a class that no model consists of.
    """
    try:
        data = read_bytes(path, MAX_BYTES)
    except OSError as error:
        raise BodyError(f"{path}: cannot be read ({error.strerror or error})") from error
    content = _unpickle(data, str(path))
    if not isinstance(content, dict) or not all(isinstance(key, str) for key in content):
        raise BodyError(f"{path}: expected a pickled dictionary of arrays, got a {type(content).__name__}")
    return content


def load_npz(path: Path, names: Collection[str]) -> dict[str, Any]:
    """Return those arrays of an npz file that are asked for and there; the others, objects or not, are not looked at.

    Arrays of objects, as of sparse matrices, are pickles: read as in `load_pickle`, `Unreadable` where that cannot be.

    Raises:
        BodyError: the file is missing or damaged.
    """
    try:
        with open_npz(path) as npz:
            found = {Path(name).name: name for name in npz.names}
            return {name: npz.array(found[name], _objects) for name in names if name in found}
    except FileNotFoundError as error:
        raise BodyError(f"{path}: no such file") from error
    except OSError as error:
        raise BodyError(f"{path}: cannot be read ({error.strerror or error})") from error
    except ValueError as error:
        raise BodyError(f"{path}: expected an npz file, got a damaged or truncated one ({brief(error)})") from error


def _objects(data: bytes) -> Any:
    """Return what the pickle of an array of objects holds."""
    try:
        value = _unpickle(data, "")
    except BodyError as error:
        return Unreadable(str(error).removeprefix(": "))
    if isinstance(value, np.ndarray) and value.dtype.hasobject and value.size == 1:
        value = value.reshape(-1)[0]
    if isinstance(value, np.ndarray) and value.dtype.hasobject:
        return Unreadable("is an array of objects")
    return value


def _unpickle(data: bytes, label: str) -> Any:
    """Return what a pickle stands for."""
    try:
        return _Builder(max(BUILT_BYTES, BUILT_RATIO * len(data))).value(run_pickle(data, _resolve))
    except RefusedError as error:
        raise BodyError(
            f"{label}: names {error}, which no model consists of; nothing was run. Do not open it otherwise"
        ) from error
    except _DAMAGE as error:
        raise BodyError(
            f"{label}: expected a pickle of a model, got something else or a truncated one ({brief(error)})"
        ) from error


_NUMPY = {
    "ndarray": "object", "dtype": "dtype", "_reconstruct": "array", "scalar": "scalar", "_frombuffer": "buffer",
}  # fmt: skip
_SPARSE = {
    "csc_matrix": "csc", "csr_matrix": "csr", "coo_matrix": "coo", "csc_array": "csc", "csr_array": "csr",
    "coo_array": "coo",
}  # fmt: skip
_BUILTINS = {"object": "object", "set": "list", "frozenset": "list", "bytearray": "bytes", "bytes": "bytes"}
_OTHERS = {
    "copyreg": {"_reconstructor": "instance"},
    "copy_reg": {"_reconstructor": "instance"},
    "_codecs": {"encode": "bytes"},
    "collections": {"OrderedDict": "mapping"},
    "builtins": _BUILTINS,
    "__builtin__": _BUILTINS,
}


def _resolve(module: str, name: str) -> Named:
    """Say what a name stands for; modules have the names of their time, and their versions'."""
    top = module.partition(".")[0]
    if top == "chumpy" and name.isidentifier():
        # Every class of chumpy holds its attributes alike; what is done with them is decided when evaluating.
        return Named("chumpy", name)
    known = _NUMPY if top == "numpy" else _SPARSE if module.startswith("scipy.sparse") else _OTHERS.get(module, {})
    if name not in known:
        raise RefusedError(shown(f"{module}.{name}"))
    return Named(known[name], name)


class _Endless:
    """Takes the place of what is being looked at."""


class _Builder:
    """Builds what the notes of one pickle stand for, up to a number of bytes."""

    def __init__(self, budget: int) -> None:
        self._left = budget
        # By the note's identity: shared ones are looked at once, or few bytes could take for ever.
        self._built: dict[int, Any] = {}
        self._kept: list[Any] = []

    def spend(self, count: int) -> None:
        """Count bytes before they are allocated."""
        self._left -= count
        if count < 0 or self._left < 0:
            raise ValueError("it asks for more memory than a model of its size takes")

    def value(self, thing: Any) -> Any:
        """Return what a note, or a container of notes, stands for."""
        if thing is None or isinstance(thing, bool | int | float | str | bytes):
            return thing
        if id(thing) not in self._built:
            self._built[id(thing)] = _Endless
            self._built[id(thing)] = self._build(thing)
            self._kept.append(thing)  # or another note could get its identity
        if self._built[id(thing)] is _Endless:
            raise ValueError("a container that holds itself")
        return self._built[id(thing)]

    def _build(self, thing: Any) -> Any:
        if isinstance(thing, dict):
            return {self._key(key): self.value(value) for key, value in thing.items()}
        if isinstance(thing, list):
            return [self.value(value) for value in thing]
        if isinstance(thing, tuple):
            return tuple(self.value(value) for value in thing)
        if isinstance(thing, Named):
            return Unreadable(f"is a {thing.name.lstrip('_')}")
        return _MAKERS[thing.of.kind](self, thing)

    def _key(self, key: Any) -> Any:
        key = self.value(key)
        return key.decode("latin1") if isinstance(key, bytes) else key


def _instance(builder: _Builder, made: Made) -> Any:
    """Protocols 0 and 1 make an object of a class, its base, and the base's state."""
    of = made.arguments[0]
    if not isinstance(of, Named):
        raise ValueError("an object of no class")
    return builder.value(Made(of, (), made.state))


def _bytes(builder: _Builder, made: Made) -> bytes:
    """Python 3 writes bytes so for Python 2, as text with the same code points."""
    arguments: list[Any] = [*made.arguments, *[b"", "latin1"][len(made.arguments) :]]
    content, encoding = arguments
    if encoding not in ("latin1", "latin-1"):
        raise ValueError(f"encoding {encoding!r:.40}")
    content = builder.value(content)
    if not isinstance(content, bytes | str):
        raise ValueError("bytes of something else")
    builder.spend(len(content))
    return content.encode("latin1") if isinstance(content, str) else content


def _list(builder: _Builder, made: Made) -> Any:
    """Return the members of a set: they are unimportant to a model, as of chumpy's list of what has changed."""
    members = builder.value(made.arguments[0]) if made.arguments else []
    if not isinstance(members, list | tuple):
        raise ValueError("a set of something else")
    return members


def _mapping(builder: _Builder, made: Made) -> dict[Any, Any]:
    pairs = builder.value(made.arguments[0]) if made.arguments else {}
    builder.spend(100 * len(pairs))
    return {**dict(pairs), **builder.value(made.items)}


def _dtype(builder: _Builder, made: Made) -> np.dtype[Any] | Unreadable:
    """Return a type from its text, the byte order from the state; of records and dates, which no model has, none."""
    text = made.arguments[0] if made.arguments else None
    if not isinstance(text, str) or not _DTYPE.fullmatch(text):
        return Unreadable(f"has elements of type {text!r:.40}")
    order = made.state[1] if isinstance(made.state, tuple) and len(made.state) > 1 else None
    dtype = np.dtype(text)
    return dtype.newbyteorder(order) if order in ("<", ">") and not dtype.hasobject else dtype


def _array(builder: _Builder, made: Made) -> Any:
    """Build an array of numpy: version, shape, type, order and bytes are its state."""
    if not isinstance(made.state, tuple) or len(made.state) not in (4, 5):
        raise ValueError("an array without content")
    shape, dtype, fortran, content = made.state[-4:]
    return _from_bytes(builder, content, dtype, shape, "F" if fortran else "C")


def _buffer(builder: _Builder, made: Made) -> Any:
    """Build an array of protocol 5: bytes, type, shape and order are the arguments."""
    content, dtype, shape, order = made.arguments[:4]
    return _from_bytes(builder, content, dtype, shape, order)


def _scalar(builder: _Builder, made: Made) -> Any:
    """Build a number of numpy: its type and bytes are the arguments."""
    dtype, content = made.arguments
    built = _from_bytes(builder, content, dtype, (), "C")
    return built if isinstance(built, Unreadable) else built[()]


def _from_bytes(builder: _Builder, content: Any, dtype: Any, shape: Any, order: Any) -> Any:
    """Build an array from its bytes, or one of objects from the list of them."""
    kind = builder.value(dtype)
    if isinstance(kind, Unreadable):
        return kind
    if not isinstance(kind, np.dtype) or not isinstance(shape, tuple) or order not in ("C", "F"):
        raise ValueError("an array without type, shape or order")
    sizes = [int(n) for n in shape]
    if any(n < 0 for n in sizes):
        raise ValueError("an array of negative size")
    content = builder.value(content)
    if kind.hasobject:
        if not isinstance(content, list):
            raise ValueError("an array of objects without them")
        items = np.empty(len(content), dtype=object)
        for i, item in enumerate(content):  # at once, numpy would take arrays among them apart
            items[i] = item
        return items.reshape(sizes, order=order)
    builder.spend(2 * len(content))
    raw = content.encode("latin1") if isinstance(content, str) else content
    flat = np.frombuffer(raw, kind) if len(raw) else np.zeros(0, kind)
    return flat.reshape(sizes, order=order).copy()


def _sparse(builder: _Builder, made: Made) -> Any:
    """Build a sparse matrix through scipy's own checks."""
    import scipy.sparse

    state = builder.value(made.state)
    if not isinstance(state, dict):
        raise ValueError("a sparse matrix without content")
    rows, columns = (int(n) for n in state["_shape" if "_shape" in state else "shape"])
    if min(rows, columns) < 0 or rows * columns > MAX_SPARSE:
        raise ValueError(f"a sparse matrix of {rows} x {columns}, larger than any model's")
    if made.of.kind == "coo":
        places = state["coords"] if "coords" in state else (state["row"], state["col"])
        parts = [state["data"], *places]
    else:
        parts = [state["data"], state["indices"], state["indptr"]]
    if len(parts) != 3 or not all(isinstance(part, np.ndarray) and part.dtype.kind in "biuf" for part in parts):
        raise ValueError("a sparse matrix without numbers")
    builder.spend(3 * sum(part.nbytes for part in parts))
    if made.of.kind == "coo":
        return scipy.sparse.coo_matrix((parts[0], (parts[1], parts[2])), shape=(rows, columns))
    kind = scipy.sparse.csc_matrix if made.of.kind == "csc" else scipy.sparse.csr_matrix
    matrix = kind((parts[0], parts[1], parts[2]), shape=(rows, columns))
    matrix.check_format(full_check=True)
    return matrix


def _object(builder: _Builder, made: Made) -> Unreadable:
    return Unreadable("is a bare object")


class _NoArrayError(Exception):
    """A term of chumpy has no value here."""


Term = Callable[[str], Array]
"""Gives a chumpy object's attribute as an array."""


def _chumpy(builder: _Builder, made: Made) -> Any:
    """Return the array that an object of chumpy stands for; ``Ch`` and what reorders, as models have."""
    name = made.of.name
    rule = _RULES.get(name)
    if not isinstance(made.state, dict) or rule is None:
        return Unreadable(f"is chumpy's {name[:40]}, of which only the arrays could be read")
    state = {str(key.decode("latin1") if isinstance(key, bytes) else key): value for key, value in made.state.items()}

    def term(key: str) -> Array:
        value = builder.value(state[key])
        if isinstance(value, Unreadable):
            raise _NoArrayError(value.reason)
        flat = isinstance(value, list | tuple) and all(isinstance(item, str | int | float) for item in value)
        if not flat and not isinstance(value, np.ndarray | np.generic | int | float):
            # numpy would spell out lists within lists, however often they hold each other.
            raise _NoArrayError(f"has a {type(value).__name__} as its {key[:40]}")
        return np.asarray(value)

    try:
        return rule(builder, term, {key for key, value in state.items() if value is not None})
    except _NoArrayError as error:
        return Unreadable(str(error))
    except KeyError as error:
        return Unreadable(f"is chumpy's {name} without its {brief(error)}")


def _ch(builder: _Builder, term: Term, given: set[str]) -> Array:
    return np.atleast_1d(term("x"))


def _select(builder: _Builder, term: Term, given: set[str]) -> Array:
    source, places = term("a"), term("idxs")
    builder.spend(source.nbytes + places.size * source.itemsize)
    chosen = source.ravel()[places]
    return chosen.reshape(_sizes(term("preferred_shape"))) if "preferred_shape" in given else chosen


def _reshape(builder: _Builder, term: Term, given: set[str]) -> Array:
    builder.spend(term("a").nbytes)
    return term("a").reshape(_sizes(term("newshape")))


def _transpose(builder: _Builder, term: Term, given: set[str]) -> Array:
    builder.spend(term("a").nbytes)
    return np.ascontiguousarray(np.transpose(term("a"), _sizes(term("axes")) if "axes" in given else None))


def _concatenate(builder: _Builder, term: Term, given: set[str]) -> Array:
    parts = [term(str(name)) for name in term("dterms")]
    builder.spend(sum(part.size for part in parts) * max((part.itemsize for part in parts), default=0))
    return np.concatenate(parts, axis=int(term("axis")) if "axis" in given else 0)


def _sizes(shape: Array) -> tuple[int, ...]:
    return tuple(int(n) for n in np.atleast_1d(shape))


_RULES: dict[str, Callable[[_Builder, Term, set[str]], Array]] = {
    "Ch": _ch, "Select": _select, "Reshape": _reshape, "transpose": _transpose, "Concatenate": _concatenate,
}  # fmt: skip
_MAKERS: dict[str, Callable[[_Builder, Made], Any]] = {
    "instance": _instance, "bytes": _bytes, "list": _list, "mapping": _mapping, "dtype": _dtype, "array": _array,
    "buffer": _buffer, "scalar": _scalar, "csc": _sparse, "csr": _sparse, "coo": _sparse, "object": _object,
    "chumpy": _chumpy,
}  # fmt: skip
