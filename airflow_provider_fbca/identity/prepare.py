"""From record batches of a query to record batches of what Meta matches on.

A cell goes through one plain rule, :func:`~airflow_provider_fbca.identity.rule.identify`. Batches apply it to the
distinct cells of a column only, and fast paths over whole Arrow columns stand in for it where they are sure to agree.
"""

from __future__ import annotations

from functools import partial, reduce
from typing import TYPE_CHECKING

import pyarrow as pa
import pyarrow.compute as pc

from airflow_provider_fbca.exceptions import MappingError, OptionsError
from airflow_provider_fbca.identity.columns import USABLE, Habits, KeyColumn, Reader, Texts, digests_of, small
from airflow_provider_fbca.identity.contexts import Contexts
from airflow_provider_fbca.identity.countries import normalise_country
from airflow_provider_fbca.identity.keys import KEYS, Key
from airflow_provider_fbca.identity.ldu import OPTIONS, constants
from airflow_provider_fbca.identity.memo import Memo
from airflow_provider_fbca.identity.outcome import Blank, Context
from airflow_provider_fbca.identity.report import PrepareReport
from airflow_provider_fbca.identity.rule import identify
from airflow_provider_fbca.identity.verdicts import REJECTS_SCHEMA, count, judge_rows, tell_rejects

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from airflow_provider_fbca.identity.mapping import ColumnMapping, Source

__all__ = ["REJECTS_SCHEMA", "Preparer"]


class Preparer:
    """Prepares record batches, one after the other, and counts what it leaves out.

    Not safe for several threads at once; each may have its own.

    :param mapping: which columns feed which keys.
    :param default_country: the country of rows that name none: a code or a name; needed for phone numbers without
        country code, and used by ST and ZIP.
    :param transliterate: spell names, cities and states with the letters a to z. Off, names keep letters of every
        script and cities and states lose what is not a to z, as in Meta's own code.
    :param hashed: key to True where its cells must be SHA-256 digests (64 hex digits, or 32 bytes), and to False where
        they never are. For other keys any cell of 64 hex digits counts as a digest.
    :param value_based: whether the audience is value-based. Then LOOKALIKE_VALUE is needed, and rows without a usable
        one are rejected; else it is left out though a column's name says that it holds one.
    :param limited_data_use: True to send every row under Limited Data Use, or its place (``{"country": 1, "state":
        1000}``); False where columns say it, or nothing does.
    :raises OptionsError: an option has an impossible value or does not fit the mapping.
    :raises MappingError: the audience is value-based and no column feeds LOOKALIKE_VALUE, or it is not and one was told
        to; or columns tell Limited Data Use by half.
    """

    #: Schema of what :meth:`prepare` gives: a field for each key, ``binary(32)`` for hashed ones.
    schema: pa.Schema
    #: Counts so far.
    report: PrepareReport

    def __init__(
        self,
        mapping: ColumnMapping,
        *,
        default_country: str | None = None,
        transliterate: bool = False,
        hashed: Mapping[str, bool] | None = None,
        value_based: bool = False,
        limited_data_use: bool | Mapping[str, int] = False,
    ) -> None:
        self._mapping = mapping
        self._value_based = value_based
        self._keys = _keys_to_send(mapping, value_based)
        self._hashed = _hashed_by_key(hashed or {}, self._keys)
        self._contexts = Contexts(_country_option(default_country), transliterate)
        self._memos: dict[tuple[str, bool], Memo] = {}
        self._habits = Habits()
        self._constants = constants(limited_data_use, mapping.keys)
        self._columns_schema = pa.schema([pa.field(key.name, key.type) for key in self._keys])
        self.schema = pa.schema([*self._columns_schema, *((name, cell.type) for name, cell in self._constants.items())])
        self.report = PrepareReport(key.name for key in self._keys)

    def prepare(self, batch: pa.RecordBatch) -> pa.RecordBatch:
        """Give the usable rows of a batch, in their order, with one column for each key.

        :param batch: rows with at least the mapped columns, of any Arrow type that has a text.
        :return: a batch of :attr:`schema`; a blank cell is null.
        :raises UsersError: a mapped column is missing, or its type or bytes are no text.
        """
        columns, verdicts = self._judge(batch)
        return self._keep(columns, verdicts)

    def prepare_with_rejects(self, batch: pa.RecordBatch) -> tuple[pa.RecordBatch, pa.RecordBatch]:
        """Do as :meth:`prepare`, and tell where each unusable cell and each rejected row is.

        :param batch: as for :meth:`prepare`.
        :return: the prepared batch, and a batch of ``row`` (int64, counted from 1 over all batches), ``key`` (string,
            null where the reason is that of the whole row) and ``reason`` (string), in the order of rows.
        :raises UsersError: as for :meth:`prepare`.
        """
        first_row = self.report.rows_in
        columns, verdicts = self._judge(batch)
        return self._keep(columns, verdicts), tell_rejects(columns, verdicts, first_row)

    def _judge(self, batch: pa.RecordBatch) -> tuple[dict[str, KeyColumn], pa.Array]:
        """Read every key's column, decide on every row, and count both."""
        reader = Reader(batch, first_row=self.report.rows_in, habits=self._habits)
        countries = self._countries(reader)
        columns = {key.name: self._column(key, reader, countries) for key in self._keys}
        verdicts = judge_rows(columns, batch.num_rows, value_based=self._value_based)
        count(self.report, columns, verdicts)
        return columns, verdicts

    def _keep(self, columns: Mapping[str, KeyColumn], verdicts: pa.Array) -> pa.RecordBatch:
        values = [column.values for column in columns.values()]
        prepared = pa.RecordBatch.from_arrays(values, schema=self._columns_schema)
        usable = pc.equal(verdicts, small(USABLE))
        prepared = prepared if pc.all(usable).as_py() else prepared.filter(usable)
        if not self._constants:
            return prepared
        rows = prepared.num_rows  # Arrow repeats no list zero times
        same = [pa.repeat(cell, rows) if rows else pa.array([], cell.type) for cell in self._constants.values()]
        return pa.RecordBatch.from_arrays([*prepared.columns, *same], schema=self.schema)

    def _countries(self, reader: Reader) -> pa.Array:
        """Give each row's context number: that of its COUNTRY cell, else that of the default country."""
        told = pa.nulls(reader.rows, pa.int32())
        for source in self._mapping.sources.get("COUNTRY", ()):
            cells, _ = reader.texts(source.column)
            numbers = pa.array([self._contexts.number_of(text) for text in cells.texts.to_pylist()], pa.int32())
            told = _first_readable(told, numbers if cells.indices is None else numbers.take(cells.indices))
        return told.fill_null(Contexts.DEFAULT)

    def _column(self, key: Key, reader: Reader, countries: pa.Array) -> KeyColumn:
        """Give one key's cells, each from the first of the key's columns that has a usable one."""
        found = (self._of_source(key, source, reader, countries) for source in self._mapping.sources[key.name])
        return reduce(KeyColumn.or_else, found)

    def _of_source(self, key: Key, source: Source, reader: Reader, countries: pa.Array) -> KeyColumn:
        cells, inexact = reader.texts(source.column, lists=key.name == OPTIONS)
        if key.by_country:
            column = self._by_country(key, cells, countries)
        else:
            whole_date = source.role == "whole_date"
            column = self._of_texts(key, cells, Contexts.DEFAULT, whole_date=whole_date).spread(cells.indices)
        return column if inexact is None or key.name == "LOOKALIKE_VALUE" else column.without(inexact)

    def _by_country(self, key: Key, cells: Texts, countries: pa.Array) -> KeyColumn:
        """Decide on the rows of one country after the other, and put them in order again."""
        contexts = countries.unique().to_pylist()
        if len(contexts) == 1:
            return self._of_texts(key, cells, contexts[0]).spread(cells.indices)
        rows = [pc.indices_nonzero(pc.equal(countries, context)) for context in contexts]
        decided = []
        for context, rows_of_country in zip(contexts, rows, strict=True):
            theirs = cells.of_rows(rows_of_country)
            decided.append(self._of_texts(key, theirs, context).spread(theirs.indices))
        back_in_order = pc.array_sort_indices(pa.concat_arrays(rows)) if rows else pa.array([], pa.uint64())
        return KeyColumn.concat(key, decided).spread(back_in_order)

    def _of_texts(self, key: Key, cells: Texts, context: int, *, whole_date: bool = False) -> KeyColumn:
        """Decide on texts of rows of one context, from memory where they repeat."""
        decide = partial(self._decide, key, context=context, whole_date=whole_date)
        if not cells.distinct or not key.hashed:
            return decide(cells.texts)
        memo = self._memos.setdefault((key.name, whole_date), Memo())
        return memo.outcomes(cells.texts, context, decide)

    def _decide(self, key: Key, texts: pa.Array, *, context: int, whole_date: bool) -> KeyColumn:
        """Decide on texts: by the fast path what it can, by the rule each distinct one of the rest."""
        if key.plain is None or whole_date or self._hashed.get(key.name):
            return self._by_rule(key, texts, context, whole_date=whole_date)
        decided = key.plain(texts, self._contexts[context].country)
        values = digests_of(decided) if key.hashed else decided
        usable = pa.repeat(small(USABLE), len(decided))
        if not decided.null_count:
            return KeyColumn(values, usable)
        left = pc.is_null(decided)
        by_rule = self._by_rule(key, texts.filter(left), context)
        return KeyColumn(
            pc.replace_with_mask(values, left, by_rule.values), pc.replace_with_mask(usable, left, by_rule.reasons)
        )

    def _by_rule(self, key: Key, texts: pa.Array, context: int, *, whole_date: bool = False) -> KeyColumn:
        once = Texts.once_each(texts)
        decide = partial(
            identify, key, context=self._contexts[context], hashed=self._hashed.get(key.name), whole_date=whole_date
        )
        return KeyColumn.of_outcomes(key, [decide(text) for text in once.texts.to_pylist()]).spread(once.indices)


def _keys_to_send(mapping: ColumnMapping, value_based: bool) -> list[Key]:
    if value_based and "LOOKALIKE_VALUE" not in mapping.keys:
        raise MappingError(
            "The audience is value-based and no column feeds LOOKALIKE_VALUE.",
            remedy="Map a column of numbers, zero or more, to LOOKALIKE_VALUE.",
        )
    if not value_based and any(source.reason == "explicit" for source in mapping.sources.get("LOOKALIKE_VALUE", ())):
        raise MappingError(
            "`columns` maps a column to LOOKALIKE_VALUE, and the audience is not value-based.",
            remedy="Leave it out, or use an audience that was created with is_value_based=True.",
        )
    return [KEYS[name] for name in mapping.keys if value_based or name != "LOOKALIKE_VALUE"]


def _hashed_by_key(hashed: Mapping[str, bool], keys: Sequence[Key]) -> dict[str, bool]:
    by_name = {name.strip().upper(): told for name, told in hashed.items()}
    known = {key.name: key.hashed for key in keys}
    for name, told in by_name.items():
        if name not in known:
            in_use = f"The keys in use are {', '.join(known)}."
            raise OptionsError(f"`hashed` names {name!r}, which no column feeds.", remedy=in_use)
        if told and not known[name]:
            raise OptionsError(f"`hashed` names {name}, which is not hashed but sent as it is.", remedy="Leave it out.")
    return by_name


def _country_option(country: str | None) -> str | None:
    if country is None:
        return None
    code = normalise_country(country, Context())
    if isinstance(code, Blank):
        raise OptionsError(
            f"`default_country` is {country!r}, which is no country.",
            remedy="Give an ISO 3166-1 code of two letters, 'DE' for instance.",
        )
    return code


def _first_readable(first: pa.Array, second: pa.Array) -> pa.Array:
    """Give the first column's country numbers where readable, else the second's, else whichever is not blank."""
    of_first = pc.greater(first, Contexts.UNREADABLE).fill_null(False)
    of_second = pc.greater(second, Contexts.UNREADABLE).fill_null(False)
    return pc.if_else(of_first, first, pc.if_else(of_second, second, pc.coalesce(first, second)))
