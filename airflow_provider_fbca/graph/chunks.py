"""Rows in batches of any size become batches of one size."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pyarrow as pa

from airflow_provider_fbca.exceptions import UsersError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator


def rechunk(rows: Iterable[pa.RecordBatch], size: int) -> Iterator[tuple[pa.RecordBatch, bool]]:
    """Cut and join record batches to exactly ``size`` rows each, keeping the order of the rows.

    :param rows: batches of one schema; empty ones are skipped.
    :param size: rows of each batch but the last, which may be shorter.
    :returns: batches, each with whether it is the last one. It reads one batch ahead to know.
    :raises UsersError: the schema changes on the way.
    """
    ahead: pa.RecordBatch | None = None
    for batch in _exact(rows, size):
        if ahead is not None:
            yield ahead, False
        ahead = batch
    if ahead is not None:
        yield ahead, True


def _exact(rows: Iterable[pa.RecordBatch], size: int) -> Iterator[pa.RecordBatch]:
    held: list[pa.RecordBatch] = []
    missing = size
    for batch in rows:
        if held and not batch.schema.equals(held[0].schema):
            raise UsersError("The columns of the rows change between two batches.")
        start = 0
        while batch.num_rows - start >= missing:
            yield _joined([*held, batch.slice(start, missing)])
            start, held, missing = start + missing, [], size
        if start < batch.num_rows:
            held.append(batch.slice(start))
            missing -= batch.num_rows - start
    if held:
        yield _joined(held)


def _joined(pieces: list[pa.RecordBatch]) -> pa.RecordBatch:
    pieces = [piece for piece in pieces if piece.num_rows]
    if len(pieces) == 1:
        return pieces[0]
    return pa.Table.from_batches(pieces).combine_chunks().to_batches()[0]
