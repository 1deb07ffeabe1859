"""Which rows are sent: those that some combination of their keys finds a person by."""

from __future__ import annotations

from functools import reduce
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from airflow_provider_fbca.identity.columns import EMPTY, REASONS, USABLE, KeyColumn, small
from airflow_provider_fbca.identity.keys import ATTRIBUTES, usable_combinations
from airflow_provider_fbca.identity.ldu import OPTIONS
from airflow_provider_fbca.identity.report import PrepareReport, Reject

if TYPE_CHECKING:
    from collections.abc import Mapping

#: Verdicts travel through Arrow as small numbers: :data:`USABLE`, then one for each reason.
_VERDICTS: tuple[Reject, ...] = tuple(Reject)
_NUMBER_OF_VERDICT: Mapping[Reject, int] = {reason: number for number, reason in enumerate(_VERDICTS, USABLE + 1)}

#: What :meth:`~airflow_provider_fbca.identity.prepare.Preparer.prepare_with_rejects` tells.
REJECTS_SCHEMA = pa.schema([("row", pa.int64()), ("key", pa.string()), ("reason", pa.string())])


def judge_rows(columns: Mapping[str, KeyColumn], rows: int, *, value_based: bool) -> pa.Array:
    """Give the verdict on each row.

    :param columns: the keys' cells, all of the same length.
    :param rows: that length.
    :param value_based: whether a row without LOOKALIKE_VALUE is of no use.
    :return: ``uint8`` without nulls: :data:`USABLE`, or the number of the reason for leaving the row out.
    """
    filled = {name: pc.is_valid(column.values) for name, column in columns.items()}
    no_row = pa.repeat(pa.scalar(False), rows)
    found = no_row
    for combination in usable_combinations(columns):
        found = pc.or_(found, reduce(pc.and_, (filled[name] for name in combination)))
    some_invalid = reduce(pc.or_, (pc.greater(column.reasons, small(EMPTY)) for column in columns.values()), no_row)
    some_filled = reduce(pc.or_, (cells for name, cells in filled.items() if name not in ATTRIBUTES), no_row)
    verdicts = pc.if_else(some_filled, _verdict(Reject.INCOMPLETE), _verdict(Reject.EMPTY))
    verdicts = pc.if_else(some_invalid, _verdict(Reject.UNUSABLE), verdicts)
    verdicts = pc.if_else(found, small(USABLE), verdicts)
    if value_based:
        lacking = pc.and_(found, pc.invert(filled["LOOKALIKE_VALUE"]))
        verdicts = pc.if_else(lacking, _verdict(Reject.NO_VALUE), verdicts)
    if OPTIONS in columns:
        unclear = pc.and_(found, pc.greater(columns[OPTIONS].reasons, small(EMPTY)))
        verdicts = pc.if_else(unclear, _verdict(Reject.NO_OPTIONS), verdicts)
    return verdicts


def count(report: PrepareReport, columns: Mapping[str, KeyColumn], verdicts: pa.Array) -> None:
    """Add a batch to the report.

    :param report: the report to add to.
    :param columns: the keys' cells.
    :param verdicts: what :func:`judge_rows` gave for them.
    """
    report.rows_in += len(verdicts)
    for number, rows in _counts(verdicts):
        if number == USABLE:
            report.rows_out += rows
        else:
            report.count_rejected(_VERDICTS[number - 1], rows)
    for name, column in columns.items():
        counts = report.keys[name]
        for number, cells in _counts(column.reasons):
            if number == USABLE:
                counts.filled += cells
            elif number == EMPTY:
                counts.blank += cells
            else:
                counts.invalid[REASONS[number - 1]] += cells


def tell_rejects(columns: Mapping[str, KeyColumn], verdicts: pa.Array, first_row: int) -> pa.RecordBatch:
    """Give a line for each rejected row and each unusable cell, in the order of rows, the row's own line first.

    :param columns: the keys' cells.
    :param verdicts: what :func:`judge_rows` gave for them.
    :param first_row: how many rows came before this batch.
    :return: a batch of :data:`REJECTS_SCHEMA`.
    """
    lines: list[tuple[int, int, str | None, str]] = []
    for row, number in _marked(verdicts, above=USABLE):
        lines.append((row, 0, None, _VERDICTS[number - 1].value))
    for order, (name, column) in enumerate(columns.items(), 1):
        for row, number in _marked(column.reasons, above=EMPTY):
            lines.append((row, order, name, REASONS[number - 1].value))
    lines.sort(key=lambda line: line[:2])
    told = {
        "row": [first_row + row + 1 for row, _, _, _ in lines],
        "key": [key for _, _, key, _ in lines],
        "reason": [reason for _, _, _, reason in lines],
    }
    return pa.RecordBatch.from_pydict(told, schema=REJECTS_SCHEMA)


def _verdict(reason: Reject) -> pa.Scalar:
    return small(_NUMBER_OF_VERDICT[reason])


def _counts(numbers: pa.Array) -> list[tuple[int, int]]:
    """Count each number, in the order in which they first occur."""
    counts = np.bincount(numbers.to_numpy())
    found = np.flatnonzero(counts).tolist()
    found.sort(key=lambda number: pc.index(numbers, small(number)).as_py())
    return [(number, int(counts[number])) for number in found]


def _marked(numbers: pa.Array, *, above: int) -> zip[tuple[int, int]]:
    rows = pc.indices_nonzero(pc.greater(numbers, small(above)))
    return zip(rows.to_pylist(), numbers.take(rows).to_pylist(), strict=True)
