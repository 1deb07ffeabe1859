"""Columns of a batch on their way: from cells to distinct texts, and from outcomes back to one cell for each row."""

from __future__ import annotations

from dataclasses import dataclass
from hashlib import sha256
from typing import TYPE_CHECKING

import pyarrow as pa
import pyarrow.compute as pc

from airflow_provider_fbca.exceptions import UsersError
from airflow_provider_fbca.identity.cells import read_cells
from airflow_provider_fbca.identity.keys import DIGEST, Key
from airflow_provider_fbca.identity.outcome import Blank

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from airflow_provider_fbca.identity.rule import Outcome

#: Reasons travel through Arrow as small numbers, this one for a usable cell and then one for each reason.
USABLE = 0
REASONS: tuple[Blank, ...] = tuple(Blank)
_NUMBER_OF_REASON: Mapping[Blank, int] = {reason: number for number, reason in enumerate(REASONS, USABLE + 1)}
EMPTY = _NUMBER_OF_REASON[Blank.EMPTY]


def small(number: int) -> pa.Scalar:
    """Give the Arrow scalar that stands for a reason."""
    return pa.scalar(number, pa.uint8())


@dataclass(frozen=True, slots=True)
class KeyColumn:
    """Cells of one key.

    :param values: of the key's type; null where the cell is blank.
    :param reasons: ``uint8`` without nulls: :data:`USABLE`, or the number of the reason why the cell is blank.
    """

    values: pa.Array
    reasons: pa.Array

    @classmethod
    def of_outcomes(cls, key: Key, outcomes: Sequence[Outcome]) -> KeyColumn:
        """Put what the rule said into Arrow."""
        values = [None if isinstance(outcome, Blank) else outcome for outcome in outcomes]
        reasons = [_NUMBER_OF_REASON[outcome] if isinstance(outcome, Blank) else USABLE for outcome in outcomes]
        written = pa.array(values, DIGEST if key.hashed else pa.string())
        return cls(written if written.type == key.type else written.cast(key.type), pa.array(reasons, pa.uint8()))

    @classmethod
    def concat(cls, key: Key, columns: Sequence[KeyColumn]) -> KeyColumn:
        """Put columns of a key behind each other."""
        first = cls.of_outcomes(key, [])  # there may be none
        values = [first.values, *(column.values for column in columns)]
        return cls(pa.concat_arrays(values), pa.concat_arrays([first.reasons, *(column.reasons for column in columns)]))

    def spread(self, indices: pa.Array) -> KeyColumn:
        """Give each row the cell at its index; a row without one is empty."""
        return KeyColumn(self.values.take(indices), self.reasons.take(indices).fill_null(EMPTY))

    def without(self, inexact: pa.Array) -> KeyColumn:
        """Blank the cells that were floats too large to be exact."""
        nothing = pa.scalar(None, self.values.type)
        reason = small(_NUMBER_OF_REASON[Blank.INEXACT_NUMBER])
        return KeyColumn(pc.if_else(inexact, nothing, self.values), pc.if_else(inexact, reason, self.reasons))

    def or_else(self, other: KeyColumn) -> KeyColumn:
        """Take the other's cells where these are blank; of two reasons the first that is not "empty" stays."""
        values = pc.coalesce(self.values, other.values)
        reasons = pc.if_else(pc.equal(self.reasons, small(EMPTY)), other.reasons, self.reasons)
        return KeyColumn(values, pc.if_else(pc.is_valid(values), small(USABLE), reasons))


@dataclass(frozen=True, slots=True)
class Distinct:
    """One column of a batch as its distinct texts.

    :param texts: the distinct texts, without null.
    :param indices: for each row the position of its text, null for a null.
    :param inexact: as in :class:`~airflow_provider_fbca.identity.cells.Cells`.
    """

    texts: pa.Array
    indices: pa.Array
    inexact: pa.Array | None


class Reader:
    """Reads columns of one batch, each once.

    :param batch: the batch.
    :param first_row: how many rows came before it.
    """

    def __init__(self, batch: pa.RecordBatch, *, first_row: int) -> None:
        self.rows: int = batch.num_rows
        self._batch = batch
        self._first_row = first_row
        self._read: dict[str, Distinct] = {}

    def distinct(self, name: str) -> Distinct:
        """Give a column's distinct texts and where they stand.

        :raises UsersError: the column is missing or has no text.
        """
        if name not in self._read:
            cells = read_cells(self._column(name), name=name, first_row=self._first_row)
            encoded = cells.texts.dictionary_encode()
            self._read[name] = Distinct(encoded.dictionary, encoded.indices, cells.inexact)
        return self._read[name]

    def _column(self, name: str) -> pa.Array:
        positions = self._batch.schema.get_all_field_indices(name)
        if len(positions) != 1:
            raise UsersError(
                f"The rows after row {self._first_row} have {len(positions)} columns of the name {name!r}, not one.",
                remedy="Every batch must have the columns that the first one had.",
            )
        return self._batch.column(positions[0])


def digests_of(texts: pa.Array) -> pa.Array:
    """Give the SHA-256 digest of each text, null for a null.

    :param texts: Arrow strings.
    """
    cells = texts.cast(pa.binary()).to_pylist()
    return pa.array([None if cell is None else sha256(cell).digest() for cell in cells], DIGEST)
