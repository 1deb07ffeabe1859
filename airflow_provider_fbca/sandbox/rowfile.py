"""Rows on disk: blocks of columns, each as small as it gets without losing a character.

A digest is stored as 32 bytes, a column with few distinct cells as codes into a table. A block is what one request
brought; up to a megabyte stays in memory, more goes to a temporary file that has no name.
"""

from __future__ import annotations

import secrets
from array import array
from tempfile import SpooledTemporaryFile
from typing import TYPE_CHECKING, Any, NamedTuple

import msgspec

from airflow_provider_fbca.sandbox.schema import HASHED_KEYS

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path

_MEMORY_BYTES = 1024 * 1024
_DIGEST_BYTES = 32
_MOST_CODES = 1 << 16
_HEAD = 1000
_HASHED = frozenset(HASHED_KEYS)

# Stands for a blank among digests; random, so that no digest a test could send equals it.
_BLANK = secrets.token_hex(_DIGEST_BYTES)


class _Block(NamedTuple):
    first_row: int
    row_count: int
    offset: int
    size: int


class RowFile:
    """Rows by number, readable back exactly.

    :param folder: where the temporary file goes; the system's place by default.
    """

    def __init__(self, folder: Path | None = None) -> None:
        self._file = SpooledTemporaryFile(max_size=_MEMORY_BYTES, dir=str(folder) if folder else None)  # noqa: SIM115 - closed by close()
        self._blocks: list[_Block] = []
        self._end = 0

    def append(self, first_row: int, row_count: int, columns: Mapping[str, Sequence[Any]]) -> None:
        """Store rows ``first_row``, ``first_row + 1``, ...

        :param columns: key -> cells, all of ``row_count`` length.
        """
        encoded = {key: _encode(key, cells) for key, cells in columns.items()}
        content = msgspec.msgpack.encode(encoded)
        self._file.seek(self._end)
        self._file.write(content)
        self._blocks.append(_Block(first_row, row_count, self._end, len(content)))
        self._end += len(content)

    def blocks(self) -> Iterator[tuple[int, dict[str, list[Any]]]]:
        """Yield each block's first row number and its columns."""
        for block in list(self._blocks):
            self._file.seek(block.offset)
            encoded = msgspec.msgpack.decode(self._file.read(block.size))
            yield block.first_row, {key: _decode(column) for key, column in encoded.items()}

    def close(self) -> None:
        """Give the file's space back."""
        self._file.close()


def _encode(key: str, cells: Sequence[Any]) -> list[Any]:
    """Return ``[shape, table, codes]``: a table of distinct cells and codes into it, or the cells as they are."""
    if set(map(type, cells)) != {str}:
        return ["json", list(cells), None]
    shape = "digests" if key in _HASHED else "text"
    if _seems_unique(cells):
        return [shape, _pack(shape, cells), None]
    distinct = dict.fromkeys(cells)
    if len(distinct) > min(len(cells) // 2, _MOST_CODES):
        return [shape, _pack(shape, cells), None]
    code_of = {cell: code for code, cell in enumerate(distinct)}
    codes = array("B" if len(distinct) <= 1 << 8 else "H", map(code_of.__getitem__, cells))
    return [shape, _pack(shape, list(distinct)), [codes.typecode, codes.tobytes()]]


def _seems_unique(cells: Sequence[str]) -> bool:
    """Say whether a look at the first cells tells that a table of distinct ones would not pay."""
    return len(cells) > _HEAD and len(set(cells[:_HEAD])) > _HEAD * 9 // 10


def _decode(column: list[Any]) -> list[Any]:
    shape, packed, coded = column
    cells = packed if shape == "json" else _unpack(shape, packed)
    if coded is None:
        return list(cells)
    typecode, content = coded
    codes = array(typecode)
    codes.frombytes(content)
    return [cells[code] for code in codes]


def _pack(shape: str, cells: Sequence[str]) -> Any:
    if shape == "text":
        return list(cells)
    return bytes.fromhex("".join([cell or _BLANK for cell in cells]))


def _unpack(shape: str, packed: Any) -> list[str]:
    if shape == "text":
        return list(packed)
    digits, width = packed.hex(), 2 * _DIGEST_BYTES
    cells = (digits[start : start + width] for start in range(0, len(digits), width))
    return ["" if cell == _BLANK else cell for cell in cells]
