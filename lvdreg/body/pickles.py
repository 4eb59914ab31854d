"""Files of body models without running what is in them: pickles of Python 2 and 3, and npz files with pickles inside.

A pickle is a program that may call anything. Here it can name only classes of this module, which hold what they are
given; when the program has ended, arrays are built from what they hold. chumpy's objects are evaluated without chumpy.
"""

import io
import pickle
import re
import zipfile
import zlib
from collections.abc import Callable, Collection
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, ClassVar

import numpy as np
from numpy.lib import format as npy
from numpy.typing import NDArray

from lvdreg.base.errors import BodyError

Array = NDArray[Any]

MAX_ARRAY_BYTES = 8 << 30
"""More than this no array of a model has (SMPL-X's largest has 0.1 GB)."""

_DTYPE = re.compile(r"[<>|=]?(b|i|u|f|S|U|O|b1|[iuf][1248]|f16|[SU]\d{1,6}|O[48]|\?)")
# What reading damaged bytes raises, here and in pickle, numpy and zipfile.
_DAMAGE = (
    pickle.UnpicklingError, EOFError, ValueError, TypeError, AttributeError, IndexError, KeyError, ImportError,
    OverflowError, MemoryError, RecursionError, NotImplementedError, RuntimeError, OSError, zipfile.BadZipFile,
    zlib.error,
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
        with path.open("rb") as handle:
            content = _unpickle(handle, str(path))
    except OSError as error:
        raise BodyError(f"{path}: cannot be read ({error.strerror or error})") from error
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
        with zipfile.ZipFile(path) as archive:
            members = {Path(m).stem: m for m in archive.namelist() if m.endswith(".npy")}
            found = {}
            for name in [name for name in names if name in members]:
                with archive.open(members[name]) as handle:
                    found[name] = _read_npy(io.BytesIO(handle.read()), f"{path}: {name}")
            return found
    except FileNotFoundError as error:
        raise BodyError(f"{path}: no such file") from error
    except _DAMAGE as error:
        raise BodyError(f"{path}: expected an npz file, got a damaged or truncated one ({_brief(error)})") from error


def _read_npy(handle: BinaryIO, label: str) -> Any:
    """Read one array; of objects through the restricted unpickler."""
    version = npy.read_magic(handle)
    if version not in {(1, 0), (2, 0), (3, 0)}:
        raise ValueError(f"npy format {version}")
    read_header = npy.read_array_header_1_0 if version == (1, 0) else npy.read_array_header_2_0
    dtype = read_header(handle)[2]
    if not dtype.hasobject:
        handle.seek(0)
        return npy.read_array(handle, allow_pickle=False)
    try:
        value = _unpickle(handle, label)
    except BodyError as error:
        return Unreadable(str(error).removeprefix(f"{label}: "))
    if isinstance(value, np.ndarray) and value.dtype.hasobject and value.size == 1:
        value = value.reshape(-1)[0]
    if isinstance(value, np.ndarray) and value.dtype.hasobject:
        return Unreadable("is an array of objects")
    return value


def _unpickle(handle: BinaryIO, label: str) -> Any:
    """Run a pickle among stand-ins and return what they stand for."""
    try:
        return _value(_Unpickler(handle).load(), {})
    except _RefusedError as error:
        raise BodyError(
            f"{label}: names {error}, which no model consists of; nothing was run. Do not open it otherwise"
        ) from error
    except _DAMAGE as error:
        raise BodyError(
            f"{label}: expected a pickle of a model, got something else or a truncated one ({_brief(error)})"
        ) from error


def _brief(error: BaseException) -> str:
    return " ".join(str(error).split())[:120] or type(error).__name__


class _RefusedError(Exception):
    """A pickle named what it may not."""


class _Sealed(type):
    """Classes that a pickle cannot change: its BUILD sets attributes of whatever it is given."""

    def __setattr__(cls, name: str, value: Any) -> None:
        raise _RefusedError(f"an attribute {name} of {cls.__name__}")


class _Unpickler(pickle.Unpickler):
    """Resolves the names of a pickle to stand-ins and to nothing else."""

    def __init__(self, handle: BinaryIO) -> None:
        # Python 2's strings, among them the bytes of arrays, come as text with the same code points.
        super().__init__(handle, encoding="latin1")

    def find_class(self, module: str, name: str) -> Any:
        """Return the stand-in of a class; called for every name, with modules under the names of their time."""
        top = module.partition(".")[0]
        if top == "numpy":
            found = _NUMPY.get(name)
        elif module.startswith("scipy.sparse"):
            found = _SPARSE.get(name)
        elif top == "chumpy" and name.isidentifier():
            # Every class of chumpy holds its attributes alike; what is done with them is decided when evaluating.
            return _Sealed(name, (_Chumpy,), {"__slots__": ()})
        else:
            found = _OTHERS.get((module, name))
        if found is None:
            raise _RefusedError(f"{module}.{name}")
        return found

    def persistent_load(self, pid: Any) -> Any:
        """Refuse references to things outside of the file."""
        raise _RefusedError("a persistent id")


class _Holder(metaclass=_Sealed):
    """Holds the state that the pickle gives an object."""

    __slots__ = ("arguments", "state")

    def __init__(self, *arguments: Any) -> None:
        self.arguments = arguments
        self.state: Any = None

    def __new__(cls, *arguments: Any) -> "_Holder":
        held = super().__new__(cls)
        # An object made by __newobj__ is not initialised.
        held.arguments, held.state = arguments, None
        return held

    def __setstate__(self, state: Any) -> None:
        self.state = state


class _Chumpy(_Holder):
    """Any object of chumpy."""

    __slots__ = ()


class _Sparse(_Holder):
    """A sparse matrix of scipy."""

    __slots__ = ()
    kind: ClassVar[str] = ""


class _Csc(_Sparse):
    __slots__ = ()
    kind: ClassVar[str] = "csc"


class _Csr(_Sparse):
    __slots__ = ()
    kind: ClassVar[str] = "csr"


class _Coo(_Sparse):
    __slots__ = ()
    kind: ClassVar[str] = "coo"


class _Dtype(_Holder):
    """A type of numpy: its text as argument, the byte order in the state."""

    __slots__ = ()

    def dtype(self) -> np.dtype[Any] | Unreadable:
        """Return the type; of records and dates, which no field of a model has, none."""
        text = self.arguments[0] if self.arguments else None
        if not isinstance(text, str) or not _DTYPE.fullmatch(text):
            return Unreadable(f"has elements of type {text!r:.40}")
        order = self.state[1] if isinstance(self.state, tuple) and len(self.state) > 1 else None
        dtype = np.dtype(text)
        return dtype.newbyteorder(order) if order in ("<", ">") and not dtype.hasobject else dtype


class _Array(_Holder):
    """An array: version, shape, type, order and bytes are its state."""

    __slots__ = ()


class _Scalar(_Holder):
    """A number of numpy: its type and bytes are the arguments."""

    __slots__ = ()


class _Buffer(_Holder):
    """An array of protocol 5: bytes, type, shape and order are the arguments."""

    __slots__ = ()


class _Plain(_Holder):
    """A class that is only mentioned, as the base of another."""

    __slots__ = ()


class _Reconstructor(metaclass=_Sealed):
    """Protocol 0 and 1 make an object of a class, its base, and the base's state."""

    def __new__(cls, made: Any, base: Any = None, state: Any = None) -> Any:
        if not (isinstance(made, _Sealed) and issubclass(made, _Holder)):
            raise ValueError("an object of something else")
        return made()


class _Encode(metaclass=_Sealed):
    """Python 3 writes bytes so for Python 2."""

    def __new__(cls, text: str, encoding: str = "latin1") -> bytes:  # type: ignore[misc]
        if not isinstance(text, str) or encoding not in ("latin1", "latin-1"):
            raise ValueError(f"encoding {encoding!r:.40}")
        return text.encode("latin1")


class _Reconstruct(metaclass=_Sealed):
    """numpy's maker of arrays, whose content comes as state."""

    def __new__(cls, *arguments: Any) -> "_Array":  # type: ignore[misc]
        return _Array()


class _Bytes(metaclass=_Sealed):
    def __new__(cls, content: bytes | str = b"", encoding: str = "latin1") -> bytes:  # type: ignore[misc]
        if isinstance(content, str):
            return content.encode("latin1")
        if not isinstance(content, bytes | bytearray):
            raise ValueError("bytes of something else")
        return bytes(content)


class _Collection(metaclass=_Sealed):
    """A set: its members are unimportant to a model, as of chumpy's list of what has changed."""

    def __new__(cls, members: Collection[Any] = ()) -> list[Any]:  # type: ignore[misc]
        if not isinstance(members, list | tuple):
            raise ValueError("a set of something else")
        return list(members)


class _Mapping(metaclass=_Sealed):
    def __new__(cls, pairs: Collection[Any] = ()) -> dict[Any, Any]:  # type: ignore[misc]
        if not isinstance(pairs, list | tuple | dict):
            raise ValueError("a mapping of something else")
        return dict(pairs)


_NUMPY: dict[str, Any] = {
    "ndarray": _Plain, "dtype": _Dtype, "_reconstruct": _Reconstruct, "scalar": _Scalar, "_frombuffer": _Buffer,
}  # fmt: skip
_SPARSE: dict[str, Any] = {
    "csc_matrix": _Csc, "csr_matrix": _Csr, "coo_matrix": _Coo, "csc_array": _Csc, "csr_array": _Csr, "coo_array": _Coo,
}  # fmt: skip
_OTHERS: dict[tuple[str, str], Any] = {
    ("copyreg", "_reconstructor"): _Reconstructor,
    ("copy_reg", "_reconstructor"): _Reconstructor,
    ("_codecs", "encode"): _Encode,
    ("collections", "OrderedDict"): _Mapping,
}
for _module in ("builtins", "__builtin__"):
    _OTHERS |= {
        (_module, "object"): _Plain, (_module, "set"): _Collection, (_module, "frozenset"): _Collection,
        (_module, "bytearray"): _Bytes, (_module, "bytes"): _Bytes,
    }  # fmt: skip


Seen = dict[int, Any]
"""What was found for each object of a pickle: shared ones are looked at once, or few bytes could take for ever."""


def _value(thing: Any, seen: Seen) -> Any:
    """Return what a stand-in, or a container with stand-ins, stands for."""
    if thing is None or isinstance(thing, bool | int | float | complex | str | bytes):
        return thing
    if id(thing) not in seen:
        seen[id(thing)] = _Endless
        seen[id(thing)] = _found(thing, seen)
    if seen[id(thing)] is _Endless:
        raise ValueError("a container that holds itself")
    return seen[id(thing)]


class _Endless:
    """Takes the place of what is being looked at."""


def _found(thing: Any, seen: Seen) -> Any:
    if isinstance(thing, dict):
        return {_key(key): _value(value, seen) for key, value in thing.items()}
    if isinstance(thing, list):
        return [_value(value, seen) for value in thing]
    if isinstance(thing, tuple):
        return tuple(_value(value, seen) for value in thing)
    for kind, make in _MAKERS:
        if isinstance(thing, kind):
            return make(thing, seen)
    if isinstance(thing, set | frozenset):
        return thing
    return Unreadable(f"is a {getattr(thing, '__name__', type(thing).__name__).lstrip('_')}")


def _key(key: Any) -> Any:
    return key.decode("latin1") if isinstance(key, bytes) else key


def _array(thing: _Array, seen: Seen) -> Any:
    if not isinstance(thing.state, tuple) or len(thing.state) not in (4, 5):
        raise ValueError("an array without content")
    shape, dtype, fortran, content = thing.state[-4:]
    return _from_bytes(content, dtype, shape, "F" if fortran else "C", seen)


def _buffer(thing: _Buffer, seen: Seen) -> Any:
    content, dtype, shape, order = thing.arguments[:4]
    if order not in ("C", "F"):
        raise ValueError(f"order {order!r:.40}")
    return _from_bytes(content, dtype, shape, order, seen)


def _scalar(thing: _Scalar, seen: Seen) -> Any:
    dtype, content = thing.arguments
    made = _from_bytes(content, dtype, (), "C", seen)
    return made if isinstance(made, Unreadable) else made[()]


def _from_bytes(content: Any, dtype: Any, shape: Any, order: str, seen: Seen) -> Any:
    """Build an array from its bytes, or one of objects from the list of them."""
    if not isinstance(dtype, _Dtype) or not isinstance(shape, tuple):
        raise ValueError("an array without type or shape")
    kind = dtype.dtype()
    if isinstance(kind, Unreadable):
        return kind
    sizes = [int(n) for n in shape]
    if any(n < 0 for n in sizes):
        raise ValueError("an array of negative size")
    if kind.hasobject:
        return _of_objects(content, sizes, order, seen)
    raw = content.encode("latin1") if isinstance(content, str) else content
    if len(raw) > MAX_ARRAY_BYTES:
        raise ValueError("an array too large for a model")
    flat = np.frombuffer(raw, kind) if len(raw) else np.zeros(0, kind)
    return flat.reshape(sizes, order="F" if order == "F" else "C").copy()


def _of_objects(content: Any, sizes: list[int], order: str, seen: Seen) -> Array:
    if not isinstance(content, list):
        raise ValueError("an array of objects without them")
    flat = np.empty(len(content), dtype=object)
    for i, item in enumerate(content):
        flat[i] = _value(item, seen)
    return flat.reshape(sizes, order="F" if order == "F" else "C")


def _sparse(thing: _Sparse, seen: Seen) -> Any:
    """Build a sparse matrix through scipy's own checks."""
    import scipy.sparse

    state = _value(thing.state, seen)
    if not isinstance(state, dict):
        raise ValueError("a sparse matrix without content")
    shape = state.get("_shape", state.get("shape"))
    if thing.kind == "coo":
        places = state["coords"] if "coords" in state else (state["row"], state["col"])
        return scipy.sparse.coo_matrix((state["data"], tuple(places)), shape=shape)
    made = scipy.sparse.csc_matrix if thing.kind == "csc" else scipy.sparse.csr_matrix
    matrix = made((state["data"], state["indices"], state["indptr"]), shape=shape)
    matrix.check_format(full_check=True)
    return matrix


def _type(thing: _Dtype, seen: Seen) -> Any:
    return thing.dtype()


def _named(thing: _Plain, seen: Seen) -> Unreadable:
    return Unreadable("is a bare object")


def _evaluate(thing: _Chumpy, seen: Seen) -> Any:
    """Return the array that an object of chumpy stands for; ``Ch`` and what reorders, as models have."""
    name = type(thing).__name__
    rule = _RULES.get(name)
    if not isinstance(thing.state, dict) or rule is None:
        return Unreadable(f"is chumpy's {name}, of which only the arrays could be read")
    state = {str(_key(key)): value for key, value in thing.state.items()}

    def term(key: str) -> Array:
        value = _value(state[key], seen)
        if isinstance(value, Unreadable):
            raise _NoArrayError(value.reason)
        return np.asarray(value)

    try:
        return rule(term, state)
    except _NoArrayError as error:
        return Unreadable(str(error))
    except KeyError as error:
        return Unreadable(f"is chumpy's {name} without its {error}")


class _NoArrayError(Exception):
    """A term of chumpy has no value here."""


Term = Callable[[str], Array]
State = dict[str, Any]


def _ch(term: Term, state: State) -> Array:
    return np.atleast_1d(term("x"))


def _select(term: Term, state: State) -> Array:
    chosen = term("a").ravel()[term("idxs")]
    return chosen.reshape(_sizes(term("preferred_shape"))) if "preferred_shape" in state else chosen


def _reshape(term: Term, state: State) -> Array:
    return term("a").reshape(_sizes(term("newshape")))


def _transpose(term: Term, state: State) -> Array:
    axes = None if state.get("axes") is None else _sizes(term("axes"))
    return np.ascontiguousarray(np.transpose(term("a"), axes))


def _concatenate(term: Term, state: State) -> Array:
    axis = int(term("axis")) if "axis" in state else 0
    return np.concatenate([term(str(part)) for part in term("dterms")], axis=axis)


def _sizes(shape: Array) -> tuple[int, ...]:
    return tuple(int(n) for n in np.atleast_1d(shape))


_RULES: dict[str, Callable[[Term, State], Array]] = {
    "Ch": _ch, "Select": _select, "Reshape": _reshape, "transpose": _transpose, "Concatenate": _concatenate,
}  # fmt: skip
_MAKERS: tuple[tuple[type, Callable[[Any, Seen], Any]], ...] = (
    (_Array, _array), (_Buffer, _buffer), (_Scalar, _scalar), (_Sparse, _sparse), (_Dtype, _type), (_Plain, _named),
    (_Chumpy, _evaluate),
)  # fmt: skip
