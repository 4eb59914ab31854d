"""Changes that break files: of bytes, of numbers in text, of the structure of JSON, npz, glb, safetensors and PNG."""

import io
import json
import re
import struct
import zipfile
import zlib
from collections.abc import Callable
from typing import Any

import numpy as np

Rng = np.random.Generator
Change = Callable[[bytes, Rng], bytes]

WORDS = [
    b"0", b"-1", b"-0", b"1", b"2", b"3", b"1.5", b"nan", b"inf", b"-inf", b"1e308", b"1e39", b"1e-320", b"1e999",
    b"1,5", b"0x10", b"99999999999", b"-99999999999", b"2147483648", b"4294967295", b"18446744073709551616", b"9" * 400,
    b"9" * 5000, b"1" + b"0" * 30, "²".encode(), "١".encode(), b"+", b"-", b".", b",", b'"', b"", b"x", b"null",
    b"NaN(ind)", b"1.#QNAN", b"\0", b"\xff", b"\xef\xbb\xbf", b"true", b"[]", b"{}", b"#", b"//", b"$",
]  # fmt: skip
"""What takes the place of a number or a word."""
BITS = [
    struct.pack(form, value)
    for form, values in {
        "<I": (0, 1, 2, 3, 0xFF, 0xFFFF, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF, 100_000_000), ">I": (1, 0x7FFFFFFF),
        "<Q": (0, 1 << 31, 1 << 40, 1 << 62, (1 << 64) - 1), "<H": (0, 1, 0x7FFF, 0xFFFF),
        "<f": (np.nan, np.inf, -np.inf, 1e38, 1e12, -1.0, 1e-40), "<d": (np.nan, np.inf, 1e308, 1e12),
    }.items()
    for value in values
]  # fmt: skip
"""What takes the place of binary numbers."""
VALUES: list[Any] = [
    None, True, False, 0, -1, 1, 2, 1.5, -1e308, 1e308, 1e39, float("nan"), float("inf"), 10**12, 2**31, 2**63, 2**64,
    -(2**63), 10**30, "", "x", "0", "é\n", "a" * 3000, [], [[]], [None], [1, 2, 3], [-1], [1e39] * 4, list(range(300)),
    {}, {"a": 1},
    [[0] * 16], {"": None},
]  # fmt: skip
"""What takes the place of a value in JSON."""


def cut(data: bytes, rng: Rng) -> bytes:
    """Cut the end off."""
    return data[: _place(data, rng)]


def flip(data: bytes, rng: Rng) -> bytes:
    """Turn bits."""
    out = bytearray(data)
    for _ in range(int(rng.integers(1, 20)) if len(out) else 0):
        out[_place(data, rng)] ^= 1 << int(rng.integers(8))
    return bytes(out)


def overwrite(data: bytes, rng: Rng) -> bytes:
    """Put random bytes, zeros or ones in."""
    place, count = _place(data, rng), _stretch(rng)
    filler = [rng.bytes(count), bytes(count), b"\xff" * count, b" " * count][int(rng.integers(4))]
    return data[:place] + filler + data[place + count :]


def remove(data: bytes, rng: Rng) -> bytes:
    """Take a stretch out."""
    place = _place(data, rng)
    return data[:place] + data[place + _stretch(rng) :]


def repeat(data: bytes, rng: Rng) -> bytes:
    """Repeat a stretch, sometimes very often."""
    place, count = _place(data, rng), _stretch(rng)
    times = int(rng.choice([2, 3, 10, 300]))
    return data[:place] + data[place : place + count] * times + data[place + count :]


def swap(data: bytes, rng: Rng) -> bytes:
    """Exchange two stretches."""
    (a, b), count = sorted((_place(data, rng), _place(data, rng))), _stretch(rng)
    return data[:a] + data[b : b + count] + data[a + count : b] + data[a : a + count] + data[b + count :]


def put_number(data: bytes, rng: Rng) -> bytes:
    """Put an extreme binary number in, most often where headers have their own."""
    number = BITS[rng.integers(len(BITS))]
    place = _place(data, rng)
    place -= place % int(rng.choice([1, 2, 4]))
    return data[:place] + number + data[place + len(number) :]


def put_word(data: bytes, rng: Rng) -> bytes:
    """Put an extreme number or word in the place of a number or word of text."""
    found = list(re.finditer(rb"[-+.\w]+" if rng.random() < 0.3 else rb"[-+]?\d[\d.eE+-]*", data[: 1 << 16]))
    # Headers are where it hurts.
    among = len(found) if rng.random() < 0.4 else min(len(found), 25)
    chosen = rng.permutation(among)[: int(rng.choice([1, 1, 1, 2, 5]))]
    for i in sorted(chosen.tolist(), reverse=True):
        word = WORDS[rng.integers(len(WORDS))]
        data = data[: found[i].start()] + word + data[found[i].end() :]
    return data


def shuffle_lines(data: bytes, rng: Rng) -> bytes:
    """Take lines out, repeat or exchange them."""
    lines = data.split(b"\n")
    for _ in range(int(rng.integers(1, 4))):
        a, b = (int(rng.integers(min(len(lines), 12) if rng.random() < 0.7 else len(lines))) for _ in range(2))
        kind = rng.integers(3)
        if kind == 0:
            lines[a], lines[b] = lines[b], lines[a]
        elif kind == 1:
            lines.insert(a, lines[b])
        elif len(lines) > 1:
            del lines[a]
    return b"\n".join(lines)


def encode(data: bytes, rng: Rng) -> bytes:
    """Write text in another encoding, with other line ends or other decimal marks."""
    kind = int(rng.integers(5))
    if kind < 3:
        encoding = ("utf-8-sig", "utf-16", "utf-32")[kind]
        return data.decode("latin-1").encode(encoding)
    if kind == 3:
        return data.replace(b"\n", [b"\r", b"\r\n", b"\n\r", b" "][int(rng.integers(4))])
    return data.replace(b".", b",")


def _place(data: bytes, rng: Rng) -> int:
    """Choose a place, half of the time near the beginning."""
    return int(rng.integers(max(1, len(data) if rng.random() < 0.5 else min(len(data), 600))))


def _stretch(rng: Rng) -> int:
    return int(rng.choice([1, 2, 4, 8, 30, 200]))


# --- Structure --------------------------------------------------------------------------------------------------------


def change_value(value: Any, rng: Rng) -> Any:
    """Return JSON with one value, key or length changed somewhere in it."""
    if isinstance(value, dict) and value and rng.random() < 0.93:
        key = list(value)[rng.integers(len(value))]
        kind = rng.random()
        if kind < 0.08:
            return {k: v for k, v in value.items() if k != key}
        if kind < 0.1:
            return {("x" if k == key else k): v for k, v in value.items()}
        return {**value, key: change_value(value[key], rng)}
    if isinstance(value, list) and value and rng.random() < 0.93:
        i, kind = int(rng.integers(len(value))), rng.random()
        if kind < 0.08:
            return value[:i] + value[i + 1 :]
        if kind < 0.16:
            return value + [value[i]] * int(rng.choice([1, 3, 2000]))
        return [*value[:i], change_value(value[i], rng), *value[i + 1 :]]
    if isinstance(value, int | float) and not isinstance(value, bool) and rng.random() < 0.4:
        return [value + 1, value - 1, -value, value * 1000, value // 2][int(rng.integers(5))]
    return VALUES[rng.integers(len(VALUES))]


def change_json(data: bytes, rng: Rng) -> bytes:
    """Change values of JSON."""
    value = json.loads(data)
    for _ in range(int(rng.choice([1, 1, 2, 4]))):
        value = change_value(value, rng)
    return json.dumps(value).encode()


def change_glb(data: bytes, rng: Rng) -> bytes:
    """Change the JSON of a glb; the lengths stay right."""
    size = int.from_bytes(data[12:16], "little")
    text = change_json(data[20 : 20 + size], rng)
    text += b" " * (-len(text) % 4)
    rest = data[20 + size :]
    return data[:8] + struct.pack("<III", 20 + len(text) + len(rest), len(text), 0x4E4F534A) + text + rest


def change_safetensors(data: bytes, rng: Rng) -> bytes:
    """Change the header of safetensors; its length stays right."""
    size = int.from_bytes(data[:8], "little")
    header = change_json(data[8 : 8 + size], rng)
    return len(header).to_bytes(8, "little") + header + data[8 + size :]


def change_array(array: np.ndarray, rng: Rng) -> np.ndarray:
    """Change type, shape or values of an array."""
    kind = int(rng.integers(8))
    wild = [np.nan, np.inf, -1, 1e39, 1e300, 2**40, 0][int(rng.integers(7))]
    with np.errstate(all="ignore"):
        if kind == 0 or array.dtype.kind not in "biuf":
            types: list[Any] = ["f2", "f8", "i1", "u8", "c16", "U3", "?", ">f4", "M8[s]", [("a", "f4")]]
            return np.zeros(array.shape, np.dtype(types[int(rng.integers(len(types)))]))
        if kind == 1:
            return array.astype(["f8", "f4", "i8", "u1", ">i4"][int(rng.integers(5))])
        if kind == 2:
            return array[..., None] if rng.random() < 0.5 else array.ravel()
        if kind == 3:
            return array[: int(rng.integers(len(array) + 1))] if array.ndim else array[None]
        if kind == 4:
            return np.concatenate([array, array]) if array.ndim else np.repeat(array, 3)
        if kind == 5:
            return np.full(array.shape, wild).astype(array.dtype) if rng.random() < 0.5 else np.full(array.shape, wild)
        if kind == 6:
            return np.zeros([(0,), (0, 3), (), (1,), (3, 0), (1, 1, 1), (2,) * 20][int(rng.integers(7))], array.dtype)
        out = array.astype(np.float64) if rng.random() < 0.5 else array.copy()
        if out.size:
            out.flat[int(rng.integers(out.size))] = np.array(wild).astype(out.dtype)
        return out


def change_npy(data: bytes, rng: Rng) -> bytes:
    """Change an array in its own format."""
    stream = io.BytesIO()
    try:
        array = np.load(io.BytesIO(data), allow_pickle=False)
    except ValueError:
        return put_word(data, rng)
    np.lib.format.write_array(stream, np.asarray(change_array(array, rng)), allow_pickle=False)
    return stream.getvalue()


def change_npz(data: bytes, rng: Rng) -> bytes:
    """Change a member of an npz, its bytes or its array, its name or how it is packed."""
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    name = list(members)[rng.integers(len(members))]
    kind = rng.random()
    if kind < 0.55:
        members[name] = change_npy(members[name], rng)
    elif kind < 0.85:
        members[name] = BYTES[rng.integers(len(BYTES))](members[name], rng)
    elif kind < 0.93:
        del members[name]
    else:
        members["" if rng.random() < 0.3 else name + "x.npy"] = members.pop(name)
    stream = io.BytesIO()
    method = [zipfile.ZIP_DEFLATED, zipfile.ZIP_STORED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA][
        int(rng.choice([0, 0, 0, 1, 2, 3]))
    ]
    with zipfile.ZipFile(stream, "w", method) as archive:
        for key, content in members.items():
            archive.writestr(key, content)
    return stream.getvalue()


def change_png(data: bytes, rng: Rng) -> bytes:
    """Change what is in a chunk of a PNG, and give it the right checksum."""
    at = 8
    chunks: list[tuple[bytes, bytes]] = []
    while at + 8 <= len(data):
        size = int.from_bytes(data[at : at + 4], "big")
        chunks.append((data[at + 4 : at + 8], data[at + 8 : at + 8 + size]))
        at += size + 12
    i = int(rng.integers(len(chunks) if rng.random() < 0.6 else 1))
    name, content = chunks[i]
    chunks[i] = (name if rng.random() < 0.9 else rng.bytes(4), BYTES[rng.integers(len(BYTES))](content, rng)[: 1 << 20])
    out = data[:8]
    for name, content in chunks:
        out += struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))
    return out


BYTES: tuple[Change, ...] = (cut, flip, overwrite, remove, repeat, swap, put_number)
TEXT: tuple[Change, ...] = (put_word, put_word, shuffle_lines, encode)

_STRUCTURE: tuple[tuple[bytes, Change], ...] = (
    (b"PK\x03\x04", change_npz), (b"glTF", change_glb), (b"\x93NUMPY", change_npy), (b"\x89PNG", change_png),
    (b"{", change_json),
)  # fmt: skip


def changes_of(name: str, data: bytes) -> tuple[Change, ...]:
    """Return the changes that suit a file."""
    structure = [change for magic, change in _STRUCTURE if data.startswith(magic)]
    structure += [change_safetensors] if name.endswith(".safetensors") else []
    is_text = b"\0" not in data[:4096]
    return (*BYTES, *(TEXT if is_text else (put_word,)), *structure * 6)


def broken(name: str, data: bytes, others: list[bytes], rng: Rng) -> tuple[bytes, str]:
    """Return a file with one to three changes, and what they were.

    Args:
        name: Of the file.
        data: The file.
        others: Files of the same kind, of which one may be joined to it.
        rng: Decides.
    """
    if others and rng.random() < 0.05:
        other = others[rng.integers(len(others))]
        return data[: _place(data, rng)] + other[_place(other, rng) :], "splice"
    done = []
    for _ in range(int(rng.choice([1, 1, 1, 2, 3]))):
        possible = changes_of(name, data)
        change = possible[rng.integers(len(possible))]
        try:
            data = change(data, rng)
        except Exception:  # noqa: BLE001 - what was broken by the change before has no such structure any more
            continue
        done.append(change.__name__)
    return data[: 8 << 20], " ".join(done)
