"""Whole columns of ASCII text at once: what the fast paths of several keys share.

Arrow strings are one run of bytes and the places where the texts begin, and numpy works on both where they lie.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeAlias

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

if TYPE_CHECKING:
    import numpy.typing as npt

    Flags: TypeAlias = npt.NDArray[np.bool_]
    Bytes: TypeAlias = npt.NDArray[np.uint8]
    Numbers: TypeAlias = npt.NDArray[np.int32]

# Latin letters and the marks that names and cities have; longer ones may be digests.
_LETTERS = r"^[a-z][a-z '.-]*$"
_LONGEST = 31
_NO_LETTERS = b" '.-"
# Placeholders that consist of letters.
_PLACEHOLDERS = ("null", "none", "nan")
# The two digits of each byte.
_DIGITS = np.frombuffer(bytes(range(256)).hex().encode(), np.uint8).reshape(256, 2)


def matches(texts: pa.Array, pattern: str) -> Flags:
    """Tell in which texts a pattern is found.

    :param texts: Arrow strings without null.
    :param pattern: written so that RE2 (Arrow) and Python read it alike.
    """
    found: Flags = pc.match_substring_regex(texts, pattern).to_numpy(zero_copy_only=False)
    return found


def memory_of(texts: pa.Array) -> tuple[Bytes, Numbers]:
    """Give the bytes of all texts, and where in them each begins and the last one ends.

    :param texts: Arrow strings without null.
    """
    _, offsets, data = texts.buffers()
    if offsets is None or not offsets.size:
        return np.empty(0, np.uint8), np.zeros(1, np.int32)
    begins = np.frombuffer(offsets, np.int32)[texts.offset : texts.offset + len(texts) + 1]
    everything = np.frombuffer(data, np.uint8) if data is not None else np.empty(0, np.uint8)
    return everything[begins[0] : begins[-1]], begins - begins[0]


def without_marks(texts: pa.Array, marks: bytes) -> tuple[Bytes, Numbers]:
    """Drop marks wherever they stand; gives what is left as :func:`memory_of` does.

    :param texts: Arrow strings without null.
    :param marks: ASCII characters.
    """
    data, begins = memory_of(texts)
    dropped = np.zeros(256, np.bool_)
    dropped[list(marks)] = True
    kept = ~dropped[data]
    before = np.zeros(len(data) + 1, np.int32)
    np.cumsum(kept, dtype=np.int32, out=before[1:])
    return data[kept], before[begins]


def strings_over(data: Bytes, begins: Numbers, valid: Flags | None = None) -> pa.Array:
    """Give the Arrow strings that lie in memory, without copying.

    :param data: the bytes of all texts.
    :param begins: where in them each begins, and where the last one ends.
    :param valid: which of them are not null; None for all.
    """
    bits = None if valid is None else pa.py_buffer(np.packbits(valid, bitorder="little"))
    buffers = [bits, pa.py_buffer(begins), pa.py_buffer(data)]
    return pa.Array.from_buffers(pa.string(), len(begins) - 1, buffers)


def hex_digits(cells: pa.Array) -> Bytes:
    """Give the hexadecimal digits of cells, a row of them for each cell; for a null some that mean nothing.

    :param cells: an Arrow ``fixed_size_binary`` array.
    """
    width = cells.type.byte_width
    data = np.frombuffer(cells.buffers()[1] or b"", np.uint8)
    rows = data[cells.offset * width : (cells.offset + len(cells)) * width].reshape(len(cells), width)
    return _DIGITS[rows].reshape(len(cells), 2 * width)


def strings_of_rows(rows: Bytes, like: pa.Array) -> pa.Array:
    """Give the Arrow strings whose bytes are the rows of a matrix.

    :param rows: the bytes of one text in each row.
    :param like: an array as long, which has a null where the strings are to have one.
    """
    count, width = rows.shape
    begins = np.arange(count + 1, dtype=np.int32) * np.int32(width)
    return strings_over(rows.reshape(-1), begins, like.is_valid().to_numpy(zero_copy_only=False))


def plain_letters(texts: pa.Array, country: str | None) -> pa.Array:  # noqa: ARG001 - all fast paths take both
    """Give the letters, in lower case, of each text that is a plain ASCII name, null for any other.

    :param texts: Arrow strings, not trimmed, without null.
    :param country: not used.
    """
    lower = pc.ascii_lower(texts)
    sure = matches(lower, _LETTERS) & (np.diff(memory_of(lower)[1]) <= _LONGEST)
    letters = strings_over(*without_marks(lower, _NO_LETTERS))
    blank = pc.is_in(letters, pa.array(_PLACEHOLDERS)).to_numpy(zero_copy_only=False)
    return pc.if_else(pa.array(sure & ~blank), letters, None)
