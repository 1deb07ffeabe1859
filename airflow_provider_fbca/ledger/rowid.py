"""A short fixed-size name for each row of identifiers, equal exactly when the rows are.

Rows are compared by these 16 bytes instead of by up to seventeen cells, which keeps distinct and difference in memory.
A row's id is the sum, in two lanes of 64 bits, of its cells' SHA-256 digests, each times an odd constant of its key.
The digests are evenly spread, so two rows meet by chance once in 2**128 pairs. A blank adds nothing: a column that is
not there is a column of blanks (rule S2), and so a schema that grows or shrinks is a plain difference.
"""

from __future__ import annotations

import hashlib
from functools import cache
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

if TYPE_CHECKING:
    from collections.abc import Sequence

    Lanes = np.ndarray[tuple[int, ...], np.dtype[np.uint64]]
    Lane = np.ndarray[tuple[int], np.dtype[np.uint64]]
    Records = np.ndarray[tuple[int], np.dtype[np.void]]

#: Cells that describe a row without saying who it is: a change of them is an addition, not another row (rule S2).
NOT_IDENTITY = frozenset(
    {
        "LOOKALIKE_VALUE",
        "DATA_PROCESSING_OPTIONS",
        "DATA_PROCESSING_OPTIONS_COUNTRY",
        "DATA_PROCESSING_OPTIONS_STATE",
    }
)
DIGEST = pa.binary(32)
ROW_ID = pa.binary(16)


def row_ids(batch: pa.RecordBatch) -> pa.Array:
    """Return the id of each row.

    :param batch: columns named by key, hashed ones as ``binary(32)``, plain ones as ``string``; null is blank.
    :returns: ``binary(16)``, one per row, never null.
    """
    return _as_ids(_sums(batch, [name for name in batch.schema.names if name not in NOT_IDENTITY]))


def whole_ids(ids: pa.Array, batch: pa.RecordBatch) -> Records:
    """Return an id of all cells of each row, its worth and its data processing included.

    :param ids: of the rows, as :func:`row_ids` gives them.
    :param batch: as for :func:`row_ids`; its cells that are not identity are added to the ids. A column that is not
        there equals a column of blanks.
    :returns: 16 bytes per row.
    """
    lanes = np.frombuffer(ids.buffers()[1], dtype="<u8", count=2 * len(ids), offset=ids.offset * 16).reshape(-1, 2)
    described = lanes + _sums(batch, [name for name in batch.schema.names if name in NOT_IDENTITY])
    whole: Records = described.view("V16").ravel()
    return whole


def combination_ids(batch: pa.RecordBatch, combination: Sequence[str]) -> Lane:
    """Return 64 bits that name the identifiers of one combination of keys in each row, within this process only.

    Two rows meet by chance once in 2**64 pairs; whoever compares must be content with a person too many.

    :param batch: as for :func:`row_ids`, with a column for each key.
    :param combination: the keys.
    :returns: one integer per row, 0 where any of the cells is blank.
    """
    named: Lane = np.zeros(batch.num_rows, dtype=np.uint64)
    filled = np.ones(batch.num_rows, dtype=bool)
    for key in combination:
        column = batch.column(key)
        named += _short_names(column) * _constants(key)[0]
        filled &= column.is_valid().to_numpy(zero_copy_only=False)
    return np.where(filled, named | np.uint64(1), np.uint64(0))


def _sums(batch: pa.RecordBatch, names: Sequence[str]) -> Lanes:
    lanes = np.zeros((batch.num_rows, 2), dtype=np.uint64)
    for name in names:
        lanes += _digests(batch.column(name)) * _constants(name)
    return lanes


def _as_ids(lanes: Lanes) -> pa.Array:
    return pa.FixedSizeBinaryArray.from_buffers(ROW_ID, len(lanes), [None, pa.py_buffer(lanes)])


def _digests(column: pa.Array) -> Lanes:
    """Return the first 16 bytes of each cell's digest as two integers, zeros for a blank."""
    if column.type != DIGEST:
        column = _hashed(column)
    filled = column if column.null_count == 0 else pc.fill_null(column, bytes(32))
    start = filled.offset * 32
    raw = np.frombuffer(filled.buffers()[1], dtype=np.uint8, count=len(filled) * 32, offset=start)
    lanes: Lanes = raw.reshape(len(filled), 32)[:, :16].copy().view("<u8")
    return lanes


def _short_names(column: pa.Array) -> Lane:
    """Return 64 bits of each cell: of its digest, or, as that costs a fifth of one, of Python's own hash."""
    if column.type == DIGEST:
        return _digests(column)[:, 0]
    return np.fromiter(map(hash, column.to_pylist()), dtype=np.int64, count=len(column)).view(np.uint64)


def _hashed(column: pa.Array) -> pa.Array:
    texts = (cell if isinstance(cell, str | None) else repr(cell) for cell in column.to_pylist())
    cells = (None if text is None else hashlib.sha256(text.encode()).digest() for text in texts)
    return pa.array(cells, DIGEST)


@cache
def _constants(key: str) -> Lanes:
    """Return the two odd multipliers of a key; they are part of the ledger's format."""
    seed = hashlib.sha256(f"fbca row id: {key}".encode()).digest()[:16]
    return np.frombuffer(seed, dtype="<u8") | np.uint64(1)
