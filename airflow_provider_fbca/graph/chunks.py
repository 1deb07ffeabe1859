"""Rows in batches of any size become batches of one size, and those become smaller ones where they have to."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import pyarrow as pa

from airflow_provider_fbca.exceptions import UsersError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from airflow_provider_fbca.graph.sessions import Session


@dataclass(frozen=True, slots=True, repr=False)
class Piece:
    """Rows that travel together. They stay in Arrow's memory, so that they can be cut.

    :param rows: of the piece.
    :param first_row: position of the first among all rows of the call, from 0.
    :param moves: how many sessions were over before it got through.
    :param may_have_closed: the session that an earlier request of these rows may have closed.
    """

    rows: pa.RecordBatch
    first_row: int
    moves: int = 0
    may_have_closed: Session | None = None

    def __len__(self) -> int:
        return int(self.rows.num_rows)

    def part(self, start: int, size: int) -> Piece:
        """Return some of the rows.

        :param start: the first of them, from 0.
        :param size: how many, if there are so many.
        """
        return replace(self, rows=self.rows.slice(start, size), first_row=self.first_row + start)

    def cut(self, size: int) -> list[Piece]:
        """Return all rows in parts.

        :param size: rows of each part but the last, which may be smaller.
        """
        return [self.part(start, size) for start in range(0, len(self), size)]

    def moved(self) -> Piece:
        """Return the piece on its way to another session."""
        return replace(self, moves=self.moves + 1, may_have_closed=None)


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
