"""How COPY writes each type of Postgres, so that a cell reads as the other routes give it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from airflow_provider_fbca.warehouse.text import refused_column

if TYPE_CHECKING:
    from collections.abc import Sequence

_TEXT = pa.string()
#: How COPY writes NULL; a text that looks so has its backslash escaped.
NULL = "\\N"
_BACKSLASH = ord("\\")
# Backslashes first and last, as a character that no text of Postgres can hold: \\\\n is a backslash and an n.
_ESCAPES = (
    *(("\\\\", "\0"), ("\\n", "\n"), ("\\t", "\t"), ("\\r", "\r")),
    *(("\\b", "\b"), ("\\f", "\f"), ("\\v", "\v"), ("\0", "\\")),
)
_MICROSECONDS = "(extract(epoch FROM {}) * 1000000)::bigint"


@dataclass(frozen=True, slots=True)
class Form:
    """How a type is written and read.

    :param sql: the expression to copy, ``{}`` being the column.
    :param written: what Arrow reads the text of that as.
    :param arrow: what the column is then made.
    """

    sql: str = "{}"
    written: pa.DataType = _TEXT
    arrow: pa.DataType = _TEXT


_PLAIN = Form()
# By the numbers that Postgres' pg_type.dat gives its types, which never change. A domain comes as what it is made of.
_FORMS = {
    16: Form("{}::text"),  # bool, which COPY would write t and f
    17: Form("encode({}, 'hex')", arrow=pa.binary()),  # bytea
    700: Form(written=pa.float64(), arrow=pa.float64()),  # float4, by its text as the drivers read it
    701: Form(written=pa.float64(), arrow=pa.float64()),  # float8
    1083: Form(_MICROSECONDS, pa.int64(), pa.time64("us")),  # time
    1184: Form("{}::timestamp"),  # timestamptz, in the session's zone
    1186: Form(_MICROSECONDS, pa.int64(), pa.duration("us")),  # interval
    1266: Form(_MICROSECONDS.replace("{}", "{}::time"), pa.int64(), pa.time64("us")),  # timetz
    1700: Form(arrow=pa.opaque(_TEXT, "numeric", "PostgreSQL")),  # numeric, marked as the driver of ADBC marks it
}
# Types whose values are made of others: arrays by their category, composites and ranges by their kind, and records.
_ARRAYS = "A"
_COMPOSITES_AND_RANGES = ("c", "r", "m")
_RECORDS = (2249, 2277, 2287)


def forms_of(cursor: Any, description: Sequence[Sequence[Any]]) -> tuple[Form, ...]:
    """Give how each column is written and read.

    :param cursor: to ask the server for what it knows of the types.
    :param description: the columns by DB-API, whose second item is their type's number.
    :raises UsersError: a column is of a type that has no one text.
    """
    numbers = [int(column[1]) for column in description]
    cursor.execute(
        "SELECT oid, typcategory, typtype, format_type(oid, NULL) FROM pg_catalog.pg_type "  # noqa: S608  whole numbers
        f"WHERE oid IN ({', '.join(map(str, numbers))})"
    )
    types = {int(number): (category, kind, name) for number, category, kind, name in cursor.fetchall()}
    for column, number in zip(description, numbers, strict=True):
        category, kind, name = types[number]
        if category == _ARRAYS or kind in _COMPOSITES_AND_RANGES or number in _RECORDS:
            raise refused_column(str(column[0]), [name])
    return tuple(_FORMS.get(number, _PLAIN) for number in numbers)


def count_backslashes(text: bytearray) -> int:
    """Count what COPY's text begins its NULLs and its escaped characters with."""
    return int(np.count_nonzero(np.frombuffer(text, np.uint8) == _BACKSLASH))


def made(column: pa.Array, form: Form, *, escaped: bool) -> pa.Array:
    """Make a column that Arrow has read what its form says.

    :param column: as parsed from COPY's text.
    :param form: of its type.
    :param escaped: whether a cell of the batch is.
    """
    if form.arrow == column.type:
        return _unescaped(column) if escaped and form.arrow == _TEXT else column
    if isinstance(form.arrow, pa.OpaqueType):
        return pa.ExtensionArray.from_storage(form.arrow, column)
    return _unhexed(column) if form.arrow == pa.binary() else column.cast(form.arrow)


def _unescaped(texts: pa.Array) -> pa.Array:
    if not pc.any(pc.match_substring(texts, "\\")).as_py():
        return texts
    for escape, character in _ESCAPES:
        texts = pc.replace_substring(texts, escape, character)
    return texts


def _unhexed(column: pa.Array) -> pa.Array:
    """Decode hexadecimal texts, all at once: each takes half its place, and so do the places where they begin."""
    validity, ends, digits = column.buffers()
    halved = np.frombuffer(ends, dtype=np.int32) // 2
    last = column.offset + len(column)
    data = bytes.fromhex(digits.to_pybytes()[: 2 * int(halved[last])].decode("ascii")) if digits else b""
    buffers = [validity, pa.py_buffer(halved.astype(np.int32)), pa.py_buffer(data)]
    return pa.Array.from_buffers(pa.binary(), len(column), buffers, offset=column.offset)
