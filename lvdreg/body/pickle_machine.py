"""Pickles as data: a machine for them that makes containers, numbers, text, and notes of what they name and call.

A pickle is a program for a small machine with a stack. Python's own machine calls what a program names, and allocates
what it asks for. This one looks nothing up and calls nothing: a name stays a `Named`, a call a `Made`. Memory follows
from the file: numbers and text are parts of it, and each of at most ``MAX_STEPS`` steps makes one small object.
"""

import codecs
import pickle
import struct
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

MAX_STEPS = 300_000
"""A model is a few arrays and lists, which take some thousand steps; so many take 0.1 GB at most."""


class RefusedError(Exception):
    """A pickle named what it may not."""


@dataclass(frozen=True, eq=False, slots=True)
class Named:
    """A class or a function that a pickle names.

    Attributes:
        kind: What it is known as to whoever allowed it.
        name: Its own name.
    """

    kind: str
    name: str


@dataclass(eq=False, slots=True)
class Made:
    """What a call in a pickle would make.

    Attributes:
        of: What is called.
        arguments: With what.
        state: What the pickle then gives it as state.
        items: What it then puts in as items.
    """

    of: Named
    arguments: tuple[Any, ...]
    state: Any = None
    items: dict[Any, Any] = field(default_factory=dict)


Resolve = Callable[[str, str], Named]
"""Tells what a module and a name in it stand for; raises ``RefusedError`` where that is not allowed."""


def run_pickle(data: bytes, resolve: Resolve) -> Any:
    """Return what a pickle holds.

    Args:
        data: Its bytes; what follows its end is not looked at.
        resolve: Knows the names that are allowed.

    Raises:
        RefusedError: it names what is not allowed, or something outside of the file.
        ValueError: it is damaged, takes too many steps, or does what no model needs.
    """
    return _Machine(data, resolve).run()


class _Machine:
    """The bytes with the place that is read next, the stack with the places of its marks, and the memo."""

    def __init__(self, data: bytes, resolve: Resolve) -> None:
        self.data, self.resolve, self.at = data, resolve, 0
        self.stack: list[Any] = []
        self.marks: list[int] = []
        self.memo: dict[int, Any] = {}

    def run(self) -> Any:
        for _ in range(MAX_STEPS):
            code = self.take(1)
            if code == pickle.STOP:
                return self.pop()
            if code in _LITERALS:
                self.stack.append(_LITERALS[code](self))
            elif code in _STEPS:
                _STEPS[code](self)
            else:
                raise ValueError(f"unknown opcode {code!r}")
        raise ValueError(f"more than {MAX_STEPS} steps")

    def take(self, count: int) -> bytes:
        """Return the next bytes."""
        if not 0 <= count <= len(self.data) - self.at:
            raise ValueError(f"{count} bytes are promised, {len(self.data) - self.at} are left")
        self.at += count
        return self.data[self.at - count : self.at]

    def number(self, form: str) -> Any:
        """Return the next number, in struct's words."""
        return struct.unpack(form, self.take(struct.calcsize(form)))[0]

    def line(self) -> bytes:
        """Return what stands before the next line break."""
        end = self.data.find(b"\n", self.at)
        if end < 0:
            raise ValueError("a line without end")
        line = self.take(end - self.at)
        self.at += 1
        return line

    def name(self) -> str:
        return self.line().decode("utf-8")

    def pop(self) -> Any:
        if len(self.stack) <= (self.marks[-1] if self.marks else 0):
            raise ValueError("nothing on the stack")
        return self.stack.pop()

    def top(self) -> Any:
        """Return what lies on top and leave it there."""
        self.stack.append(self.pop())
        return self.stack[-1]

    def pop_to_mark(self) -> list[Any]:
        if not self.marks:
            raise ValueError("no mark on the stack")
        start = self.marks.pop()
        items = self.stack[start:]
        del self.stack[start:]
        return items


Step = Callable[[_Machine], Any]


def _text_int(machine: _Machine) -> int | bool:
    line = machine.line()
    return line == b"01" if line in (b"00", b"01") else int(line)


def _quoted(machine: _Machine) -> str:
    """Return text as Python 2's repr wrote it: bytes, among them those of arrays, as code points."""
    line = machine.line().strip()
    if len(line) < 2 or line[:1] != line[-1:] or line[:1] not in b"'\"":
        raise ValueError("text without quotes")
    return codecs.escape_decode(line[1:-1])[0].decode("latin-1")


def _counted(form: str, encoding: str) -> Step:
    """Return what reads text whose length stands before it."""
    return lambda machine: machine.take(machine.number(form)).decode(encoding, "surrogatepass")


def _bytes(form: str) -> Step:
    return lambda machine: machine.take(machine.number(form))


def _int(form: str) -> Step:
    return lambda machine: int.from_bytes(machine.take(machine.number(form)), "little", signed=True)


_LITERALS: dict[bytes, Step] = {
    pickle.NONE: lambda machine: None,
    pickle.NEWTRUE: lambda machine: True,
    pickle.NEWFALSE: lambda machine: False,
    pickle.INT: _text_int,
    pickle.LONG: lambda machine: int(machine.line().rstrip(b"L")),
    pickle.BININT: lambda machine: machine.number("<i"),
    pickle.BININT1: lambda machine: machine.number("<B"),
    pickle.BININT2: lambda machine: machine.number("<H"),
    pickle.LONG1: _int("<B"),
    pickle.LONG4: _int("<i"),
    pickle.FLOAT: lambda machine: float(machine.line()),
    pickle.BINFLOAT: lambda machine: machine.number(">d"),
    pickle.STRING: _quoted,
    pickle.BINSTRING: _counted("<i", "latin-1"),
    pickle.SHORT_BINSTRING: _counted("<B", "latin-1"),
    pickle.UNICODE: lambda machine: machine.line().decode("raw-unicode-escape"),
    pickle.SHORT_BINUNICODE: _counted("<B", "utf-8"),
    pickle.BINUNICODE: _counted("<I", "utf-8"),
    pickle.BINUNICODE8: _counted("<Q", "utf-8"),
    pickle.SHORT_BINBYTES: _bytes("<B"),
    pickle.BINBYTES: _bytes("<I"),
    pickle.BINBYTES8: _bytes("<Q"),
    pickle.BYTEARRAY8: _bytes("<Q"),
    pickle.EMPTY_TUPLE: lambda machine: (),
    pickle.EMPTY_LIST: lambda machine: [],
    pickle.EMPTY_DICT: lambda machine: {},
    pickle.EMPTY_SET: lambda machine: [],
    pickle.TUPLE1: lambda machine: (machine.pop(),),
    pickle.TUPLE2: lambda machine: (machine.pop(), machine.pop())[::-1],
    pickle.TUPLE3: lambda machine: (machine.pop(), machine.pop(), machine.pop())[::-1],
    pickle.TUPLE: lambda machine: tuple(machine.pop_to_mark()),
    pickle.LIST: lambda machine: machine.pop_to_mark(),
    pickle.FROZENSET: lambda machine: machine.pop_to_mark(),
    pickle.DICT: lambda machine: dict(_pairs(machine.pop_to_mark())),
    pickle.DUP: lambda machine: machine.top(),
    pickle.GET: lambda machine: _recalled(machine, int(machine.line())),
    pickle.BINGET: lambda machine: _recalled(machine, machine.number("<B")),
    pickle.LONG_BINGET: lambda machine: _recalled(machine, machine.number("<I")),
    pickle.GLOBAL: lambda machine: machine.resolve(machine.name(), machine.name()),
    pickle.REDUCE: lambda machine: _called(arguments=machine.pop(), called=machine.pop()),
    pickle.NEWOBJ: lambda machine: _called(arguments=machine.pop(), called=machine.pop()),
}
"""What each opcode puts on the stack."""


def _recalled(machine: _Machine, place: int) -> Any:
    if place not in machine.memo:
        raise ValueError(f"nothing was kept at {place}")
    return machine.memo[place]


def _called(arguments: Any, called: Any) -> Made:
    if not isinstance(called, Named) or not isinstance(arguments, tuple):
        raise ValueError("a call of what is no class")
    return Made(called, arguments)


def _pairs(flat: list[Any]) -> list[tuple[Any, Any]]:
    """Return keys with their values.

    Tuples are no keys: to tell some apart that hold each other twice, sixty deep, would take for ever.
    """
    if len(flat) % 2 or not all(isinstance(key, str | bytes | int | float | None | Named | Made) for key in flat[::2]):
        raise ValueError("a key that is neither text nor number")
    return list(zip(flat[::2], flat[1::2], strict=True))


def _keep(machine: _Machine, place: int) -> None:
    machine.memo[place] = machine.top()


def _pop(machine: _Machine) -> None:
    if machine.marks and machine.marks[-1] == len(machine.stack):
        machine.marks.pop()
    else:
        machine.pop()


def _append(machine: _Machine, items: list[Any]) -> None:
    target = machine.top()
    if not isinstance(target, list):
        raise ValueError("items for what is no list")
    target += items


def _set_items(machine: _Machine, flat: list[Any]) -> None:
    target = machine.top()
    if not isinstance(target, dict | Made):
        raise ValueError("keys for what is no dictionary")
    (target if isinstance(target, dict) else target.items).update(_pairs(flat))


def _stack_global(machine: _Machine) -> None:
    name, module = machine.pop(), machine.pop()
    if not isinstance(name, str) or not isinstance(module, str):
        raise ValueError("a name that is no text")
    machine.stack.append(machine.resolve(module, name))


def _new_with_names(machine: _Machine) -> None:
    named, arguments, called = machine.pop(), machine.pop(), machine.pop()
    if named != {}:
        raise ValueError("a call with named arguments")
    machine.stack.append(_called(arguments, called))


def _instance(machine: _Machine) -> None:
    called = machine.resolve(machine.name(), machine.name())
    machine.stack.append(Made(called, tuple(machine.pop_to_mark())))


def _object(machine: _Machine) -> None:
    called, *arguments = machine.pop_to_mark() or [None]
    machine.stack.append(_called(tuple(arguments), called))


def _build(machine: _Machine) -> None:
    state, target = machine.pop(), machine.top()
    if not isinstance(target, Made):
        raise ValueError("a state for what has none")
    target.state = state


def _refuse(what: str) -> Step:
    def step(machine: _Machine) -> None:
        raise RefusedError(what)

    return step


_STEPS: dict[bytes, Step] = {
    pickle.PROTO: lambda machine: machine.take(1),
    pickle.FRAME: lambda machine: machine.take(8),
    pickle.MARK: lambda machine: machine.marks.append(len(machine.stack)),
    pickle.POP: _pop,
    pickle.POP_MARK: lambda machine: machine.pop_to_mark(),
    pickle.PUT: lambda machine: _keep(machine, int(machine.line())),
    pickle.BINPUT: lambda machine: _keep(machine, machine.number("<B")),
    pickle.LONG_BINPUT: lambda machine: _keep(machine, machine.number("<I")),
    pickle.MEMOIZE: lambda machine: _keep(machine, len(machine.memo)),
    pickle.APPEND: lambda machine: _append(machine, [machine.pop()]),
    pickle.APPENDS: lambda machine: _append(machine, machine.pop_to_mark()),
    pickle.ADDITEMS: lambda machine: _append(machine, machine.pop_to_mark()),
    pickle.SETITEM: lambda machine: _set_items(machine, [machine.pop(), machine.pop()][::-1]),
    pickle.SETITEMS: lambda machine: _set_items(machine, machine.pop_to_mark()),
    pickle.STACK_GLOBAL: _stack_global,
    pickle.NEWOBJ_EX: _new_with_names,
    pickle.INST: _instance,
    pickle.OBJ: _object,
    pickle.BUILD: _build,
    pickle.PERSID: _refuse("a persistent id"),
    pickle.BINPERSID: _refuse("a persistent id"),
    pickle.EXT1: _refuse("an extension"),
    pickle.EXT2: _refuse("an extension"),
    pickle.EXT4: _refuse("an extension"),
}
"""What the other opcodes do. Buffers outside of the file (protocol 5) are unknown here."""
