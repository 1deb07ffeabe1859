"""One table of columns that every route has to read alike: the traps of all engines' types, side by side.

Each engine writes the values in its own types; whatever comes out of its route must be sent to Meta byte by byte like
the same texts in plain Arrow.
"""

from __future__ import annotations

import datetime as dt
from dataclasses import dataclass
from decimal import Decimal
from functools import cache
from typing import TYPE_CHECKING

import pyarrow as pa

from airflow_provider_fbca.identity import Preparer, resolve_mapping

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

LONG = "x" * 100_000
MARKS = 'say "hi", it\'s 100% \\n, {x} :y ?;\r\nnext\tline'


@dataclass(frozen=True)
class Column:
    """A column of the table.

    :param kind: what an engine has a type for.
    :param texts: how a person would write its values; None is NULL. A row of NULLs alone is added to all.
    :param keys: of Meta's, that the column is sent as.
    """

    name: str
    kind: str
    texts: tuple[str | None, str | None, str | None]
    keys: tuple[str, ...] = ("EXTERN_ID",)


DOB = ("DOB",)
TABLE = (
    Column("row_id", "text", ("row-1", "row-2", "row-3")),
    Column("email", "text", ("zoe@example.com", " ZOE+x@Example.COM\t", ""), ("EMAIL",)),
    Column("marks", "text", (MARKS, "", "NULL?")),
    Column("unicode", "text", ("Zoë", "Zoe\u0308 \U0001f469\u200d\U0001f680", "\u00a0日本\u2028")),
    Column("name_nfd", "text", ("Zoe\u0308", "D\u2019Arcy", " Ünal "), ("FN",)),
    Column("spaces", "text", ("  two  ", "\t", "\n")),
    Column("backslashes", "text", ("\\N", "\\.", "\\\\x")),
    Column("long_text", "text", (LONG, "short", "")),
    Column("late", "text", (None, None, "at last")),
    Column("never", "text", (None, None, None)),
    Column("zip_text", "text", ("02108", "00501", ""), ("ZIP",)),
    Column("zip_number", "int", ("2108", "501", "94025"), ("ZIP",)),
    Column("phone_text", "text", ("+1 (650) 555-1212", "001-650-555-1212", ""), ("PHONE",)),
    Column("phone_bigint", "bigint", ("16505551212", "14155550100", "442071838750"), ("PHONE",)),
    Column("phone_decimal", "decimal", ("16505551212", "14155550100", "442071838750"), ("PHONE",)),
    Column("phone_scaled", "scaled", ("16505551212", "14155550100", "442071838750"), ("PHONE",)),
    Column("phone_float", "float", ("16505551212", "14155550100", "442071838750"), ("PHONE",)),
    Column("small_number", "int", ("0", "-7", "32767")),
    Column("big_number", "bigint", ("9007199254740993", "-9223372036854775807", "0")),
    Column("huge_number", "huge", ("12345678901234567890123456789012345678", "-1", "0")),
    Column("money", "money", ("1.5", "-0.25", "100")),
    Column("fraction", "float", ("1.5", "0.1", "-2.25")),
    Column("tiny", "float", ("0.0000001", "0", "123456.789")),
    Column("no_number", "nan", (None, "7", None)),
    Column("flag", "bool", ("true", "false", None)),
    Column("born", "date", ("1991-10-12", "1900-01-01", "2004-02-29"), DOB),
    Column("born_at", "timestamp", ("1991-10-12 00:00:00", "1969-12-31 23:59:59", "2004-02-29 08:30:00"), DOB),
    Column("seen_at", "timestamp", ("1991-10-12 08:30:00.25", "2038-01-19 03:14:08", "1969-12-31 23:59:59.5")),
    # The session is in Tokyo: in UTC these are the day before.
    Column("born_in_tokyo", "zoned", ("1991-10-12 00:00:00", "2004-02-29 08:59:59", "1980-01-01 00:30:00"), DOB),
    Column("uuid", "uuid", ("6a2f41a3-c54c-fce8-32d2-0324e1c32e22", "00000000-0000-0000-0000-000000000001", None)),
    Column("madid", "uuid", ("6a2f41a3-c54c-fce8-32d2-0324e1c32e22", None, None), ("MADID",)),
    Column("document", "json", ('{"a": 1}', "[1, 2]", None)),
    Column("color", "enum", ("red", "blue", None)),
    Column("address", "inet", ("10.0.0.1", "192.168.1.1", None)),
    Column("bytes_of_text", "bytes", ("zoe@example.com", "Zoë", "")),
    Column("digest", "digest", ("ab" * 32, "00ff" * 16, None), ("EMAIL",)),
    Column("padded", "char", ("ab", "abcdefgh", ""), ("FN",)),
)
NAMES = tuple(column.name for column in TABLE)
ROWS = 4


def query(casts: Mapping[str, str], *, rows_from: str = "") -> str:
    """Write the table as a query, its rows in their order where the engine keeps that of a union.

    :param casts: kind -> an expression of the value, with ``{q}`` for it as a literal, ``{v}`` for it without quotes,
        ``{x}`` for the hex digits of its bytes as a literal, ``{b}`` for those bytes as a literal of standard SQL; each
        is NULL where the value is. ``text`` serves the kinds that the engine has no type for.
    :param rows_from: what each row is selected from, where the engine wants that: ``FROM dual``.
    """
    selects = []
    for row in range(ROWS):
        cells = [f"{_cell(column, row, casts)} AS {column.name}" for column in TABLE]
        selects.append(f"SELECT {', '.join(cells)} {rows_from}".rstrip())
    return " UNION ALL ".join(selects)


def arrow() -> pa.Table:
    """Give the table as plain texts."""
    return pa.table({column.name: pa.array(_texts(column), pa.string()) for column in TABLE})


def check(batches: Iterable[pa.RecordBatch]) -> None:
    """Check that what a route gave is sent like the plain texts, column by column; the names of columns may be in
    capitals.
    """
    found = [batch.rename_columns([name.lower() for name in batch.schema.names]) for batch in batches]
    assert all(tuple(batch.schema.names) == NAMES for batch in found)
    assert sum(batch.num_rows for batch in found) == ROWS
    wrong = {}
    for column in TABLE:
        wanted, given = _expected()[column.name], _sent(found, column)
        if given != wanted:
            wrong[column.name] = (given, wanted)
    assert not wrong, wrong


def is_sent(column: Column) -> bool:
    """Tell whether any value of a column makes a key, without which nothing would be compared."""
    keys = set().union(*_expected()[column.name]) - ({"EXTERN_ID"} - set(column.keys))
    return any(row[key] is not None for row in _expected()[column.name] for key in keys)


def values(column: Column) -> list[object]:
    """Give the values of a column as Python has them, for engines that are no more than a server of ours."""
    return [_value(column.kind, text, row) for row, text in enumerate(_texts(column))]


def _value(kind: str, text: str | None, row: int) -> object:
    if text is None:
        return float("nan") if kind == "nan" and row != 1 else None
    return _READERS.get(kind, str)(text)


_READERS: dict[str, Callable[[str], object]] = {
    "int": int,
    "bigint": int,
    "decimal": Decimal,
    "scaled": Decimal,
    "huge": Decimal,
    "money": Decimal,
    "float": float,
    "nan": float,
    "bool": lambda text: text == "true",
    "date": dt.date.fromisoformat,
    "timestamp": dt.datetime.fromisoformat,
    "zoned": lambda text: dt.datetime.fromisoformat(f"{text}+09:00"),
    "bytes": str.encode,
    "digest": bytes.fromhex,
}


def _texts(column: Column) -> Sequence[str | None]:
    return (column.texts[0], None, *column.texts[1:])


def _cell(column: Column, row: int, casts: Mapping[str, str]) -> str:
    text = _texts(column)[row]
    if column.kind == "nan" and text is None and row != 1:
        return casts["nan"]
    cast = casts.get("float" if column.kind == "nan" else column.kind, casts["text"])
    if text is None:
        return cast.format(q="NULL", v="NULL", x="NULL", b="NULL")
    raw = bytes.fromhex(text) if column.kind == "digest" else text.encode()
    backslash = casts.get("backslash", "\\")
    quoted = text.replace("'", "''").replace("\\", backslash)
    return cast.format(q=f"'{quoted}'", v=text, x=f"'{raw.hex()}'", b=f"X'{raw.hex()}'")


@cache
def _expected() -> dict[str, list[dict[str, object]]]:
    return {column.name: _sent(arrow().to_batches(), column) for column in TABLE}


def _sent(batches: Sequence[pa.RecordBatch], column: Column) -> list[dict[str, object]]:
    """Give the prepared rows of one column; rows are told apart by their id, which alone makes them usable."""
    columns = {column.name: list(column.keys)}
    if "EXTERN_ID" not in column.keys:
        columns["row_id"] = ["EXTERN_ID"]
    preparer = Preparer(resolve_mapping(NAMES, columns), default_country="US")
    return [row for batch in batches for row in preparer.prepare(batch).to_pylist()]
