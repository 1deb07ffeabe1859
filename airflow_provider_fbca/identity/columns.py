"""Columns of a batch on their way: from cells to distinct texts, and from outcomes back to one cell for each row."""

from __future__ import annotations

from dataclasses import dataclass
from hashlib import sha256
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.types as pt

from airflow_provider_fbca.exceptions import UsersError
from airflow_provider_fbca.identity.cells import read_cells
from airflow_provider_fbca.identity.keys import DIGEST, Key
from airflow_provider_fbca.identity.ldu import lists_as_text
from airflow_provider_fbca.identity.outcome import Blank

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from airflow_provider_fbca.identity.rule import Outcome

#: Reasons travel through Arrow as small numbers, this one for a usable cell and then one for each reason.
USABLE = 0
REASONS: tuple[Blank, ...] = tuple(Blank)
_NUMBER_OF_REASON: Mapping[Blank, int] = {reason: number for number, reason in enumerate(REASONS, USABLE + 1)}
EMPTY = _NUMBER_OF_REASON[Blank.EMPTY]

_NO_DIGEST = bytes(DIGEST.byte_width)
#: What :meth:`KeyColumn.records` gives of a cell: a digest and a reason.
RECORD_BYTES = DIGEST.byte_width + 1

# By how many cells a column is judged, and how many distinct texts are too many to be worth finding.
_FIRST_CELLS = 4096
_ASK_AGAIN = 8  # batches
_MANY_TEXTS = 1 << 18


def small(number: int) -> pa.Scalar:
    """Give the Arrow scalar that stands for a reason."""
    return pa.scalar(number, pa.uint8())


@dataclass(frozen=True, slots=True, repr=False)
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
        if pt.is_list(key.type):
            lists = [None if value is None else [value] for value in values]
            return cls(pa.array(lists, key.type), pa.array(reasons, pa.uint8()))
        written = pa.array(values, DIGEST if key.hashed else pa.string())
        return cls(written if written.type == key.type else written.cast(key.type), pa.array(reasons, pa.uint8()))

    @classmethod
    def of_records(cls, records: bytes) -> KeyColumn:
        """Give the cells of a hashed key, of which :meth:`records` were taken."""
        table = np.frombuffer(records, np.uint8).reshape(-1, RECORD_BYTES)
        digests, reasons = np.ascontiguousarray(table[:, :-1]), np.ascontiguousarray(table[:, -1])
        usable = reasons == USABLE
        valid = None if usable.all() else pa.py_buffer(np.packbits(usable, bitorder="little"))
        values = pa.FixedSizeBinaryArray.from_buffers(DIGEST, len(table), [valid, pa.py_buffer(digests)])
        return cls(values, pa.array(reasons))

    def records(self) -> bytes:
        """Give the cells of a hashed key as records of one size: the digest, and the number of the reason."""
        width, first, rows = DIGEST.byte_width, self.values.offset, len(self.values)
        table = np.empty((rows, RECORD_BYTES), np.uint8)
        digests = np.frombuffer(self.values.buffers()[1] or b"", np.uint8)[first * width : (first + rows) * width]
        table[:, :-1] = digests.reshape(-1, width)
        table[:, -1] = self.reasons.to_numpy()
        return table.tobytes()

    @classmethod
    def concat(cls, key: Key, columns: Sequence[KeyColumn]) -> KeyColumn:
        """Put columns of a key behind each other."""
        first = cls.of_outcomes(key, [])  # there may be none
        values = [first.values, *(column.values for column in columns)]
        return cls(pa.concat_arrays(values), pa.concat_arrays([first.reasons, *(column.reasons for column in columns)]))

    def spread(self, indices: pa.Array | None) -> KeyColumn:
        """Give each row the cell at its index; a row without one is empty. No indices: cells are rows already."""
        if indices is None:
            return self
        reasons = self.reasons.take(indices)
        return KeyColumn(self.values.take(indices), reasons.fill_null(EMPTY) if reasons.null_count else reasons)

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


@dataclass(frozen=True, slots=True, repr=False)
class Texts:
    """The texts of one column of a batch, each once where they repeat.

    :param texts: the texts, without null.
    :param indices: for each row the position of its text, null for a null; None where the texts are the rows.
    :param distinct: whether the column is one whose texts repeat, so that they stand here once each.
    """

    texts: pa.Array
    indices: pa.Array | None
    distinct: bool

    @classmethod
    def as_they_are(cls, cells: pa.Array) -> Texts:
        """Give the text of every row: where they do not repeat, finding the distinct ones is lost time.

        :param cells: Arrow strings.
        """
        if not cells.null_count:
            return cls(cells, None, distinct=False)
        valid = cells.is_valid().to_numpy(zero_copy_only=False)
        positions = np.cumsum(valid, dtype=np.int32) - np.int32(1)
        return cls(cells.drop_null(), pa.array(positions, mask=~valid), distinct=False)

    @classmethod
    def once_each(cls, cells: pa.Array) -> Texts:
        """Give each distinct text once.

        :param cells: Arrow strings.
        """
        encoded = cells.dictionary_encode()
        return cls(encoded.dictionary, encoded.indices, distinct=True)

    def of_rows(self, rows: pa.Array) -> Texts:
        """Give the texts of some of the rows.

        :param rows: their numbers in the batch.
        """
        if self.indices is None:
            return Texts(self.texts.take(rows), None, self.distinct)
        few = self.indices.take(rows).dictionary_encode()
        return Texts(self.texts.take(few.dictionary), few.indices, self.distinct)


class Habits:
    """Which columns repeat themselves, by what their first cells in some batch said: speed alone depends on it."""

    def __init__(self) -> None:
        self._told: dict[str, tuple[int, bool]] = {}

    def repeats(self, name: str, cells: pa.Array) -> bool:
        """Tell whether a column repeats itself.

        It does where it has few texts, or as many pairs as a lot of texts would make by chance. Pairs are counted
        rather than cells, so that a blank that many rows share does not make a column of mails repeat.

        :param name: the column's name.
        :param cells: its cells in the batch at hand, as Arrow strings.
        """
        asked, told = self._told.get(name, (0, False))
        if not asked % _ASK_AGAIN:
            first = cells[:_FIRST_CELLS].drop_null()
            times = first.value_counts().field("counts").to_numpy()
            pairs = int(np.count_nonzero(times > 1))
            told = len(times) * 2 <= len(first) or pairs * 2 * _MANY_TEXTS > len(first) ** 2
        self._told[name] = asked + 1, told
        return told


class Reader:
    """Reads columns of one batch, each once.

    :param batch: the batch.
    :param first_row: how many rows came before it.
    :param habits: which columns repeat themselves.
    """

    def __init__(self, batch: pa.RecordBatch, *, first_row: int, habits: Habits) -> None:
        self._habits = habits
        self.rows: int = batch.num_rows
        self._batch = batch
        self._first_row = first_row
        self._read: dict[str, tuple[Texts, pa.Array | None]] = {}

    def texts(self, name: str, *, lists: bool = False) -> tuple[Texts, pa.Array | None]:
        """Give a column's texts, and which cells are inexact as :class:`~airflow_provider_fbca.identity.cells.Cells`.

        :param name: of the column.
        :param lists: whether its cells may be lists.
        :raises UsersError: the column is missing or has no text.
        """
        if name not in self._read:
            column = lists_as_text(self._column(name)) if lists else self._column(name)
            cells = read_cells(column, name=name, first_row=self._first_row)
            repeats = self._habits.repeats(name, cells.texts)
            texts = Texts.once_each(cells.texts) if repeats else Texts.as_they_are(cells.texts)
            self._read[name] = texts, cells.inexact
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
    if texts.null_count:
        digests = b"".join([_NO_DIGEST if cell is None else sha256(cell).digest() for cell in cells])
        valid = texts.is_valid().buffers()[1]
    else:
        digests = b"".join([sha256(cell).digest() for cell in cells])
        valid = None
    return pa.FixedSizeBinaryArray.from_buffers(DIGEST, len(cells), [valid, pa.py_buffer(digests)])
