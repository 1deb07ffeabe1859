"""Python values of a driver as Arrow columns, in whose texts every route agrees.

The rules, by type of the value: text stays as it is; None becomes null; whole numbers are written in full; decimals
without exponent and trailing zeros, so that ``6505551212.00`` reads ``6505551212``, and NaN becomes null; booleans are
``true`` and ``false``; dates and timestamps are as in ``1990-05-02 08:30:00.25``, timestamps in the zone that they came
in; UUIDs have their usual form. A column of floats, of bytes, of times or of intervals stays what it is, since whoever
reads it has to know; among values of other types, floats are written like decimals, and bytes must be UTF-8. Any other
type, say a JSON document or an array, is an error.
"""

from __future__ import annotations

import datetime as dt
import math
import numbers
from decimal import Decimal
from functools import lru_cache
from typing import TYPE_CHECKING, Any, cast
from uuid import UUID

import pyarrow as pa
import pyarrow.compute as pc

from airflow_provider_fbca.exceptions import UsersError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    Converter = Callable[[Any], str | None]


def text_batch(names: tuple[str, ...], rows: Sequence[Sequence[object]]) -> pa.RecordBatch:
    """Turn rows of a driver into one batch by the rules above.

    :param names: the columns.
    :param rows: one sequence of values per row; at least one row.
    :raises UsersError: a column holds a type that has no one text, or text that is not Unicode.
    """
    columns = zip(*rows, strict=True)
    arrays = [text_column(name, values) for name, values in zip(names, columns, strict=True)]
    return pa.RecordBatch.from_arrays(arrays, names=list(names))


def text_column(name: str, values: Sequence[object]) -> pa.Array:
    """Turn the values of one column into an array by the rules above.

    :param name: the column, for the error message.
    :param values: what the driver gave.
    :return: a ``string`` array; of floats, bytes, times or intervals alone one of their own type.
    :raises UsersError: a value has a type that has no one text, or is not Unicode.
    """
    kinds = set(map(type, values)) - {type(None)}
    if kinds and (own := _KEPT.get(frozenset(kinds))):
        return pa.array(values, type=own)
    converters = {kind: _converter_of(kind) for kind in kinds - {str}}
    refused = sorted(kind.__qualname__ for kind, converter in converters.items() if converter is None)
    if refused:
        raise refused_column(name, refused)
    try:
        if len(kinds) == 1 and (texts := _written_by_arrow(next(iter(kinds)), values)) is not None:
            return texts
        return pa.array(_texts(values, cast("dict[type, Converter]", converters)), type=pa.string())
    except UnicodeError:
        # Raised below instead of here: this error holds the value, and must not be its context.
        pass
    raise UsersError(
        f"Column {name!r} holds bytes or text that is not UTF-8.",
        remedy="Decode it in the query, or leave the column out.",
    )


def refused_column(name: str, types: Sequence[str]) -> UsersError:
    """Give the error for a column whose values have no one text, to be raised.

    :param name: the column.
    :param types: names of the types of its values.
    """
    return UsersError(
        f"Column {name!r} holds values of type {', '.join(types)}, which no identifier can have.",
        remedy="Leave the column out of the query, or cast it to text there.",
    )


def _written_by_arrow(kind: type, values: Sequence[Any]) -> pa.Array | None:
    """Write a column of one type at once, several times as fast as value by value; None where Arrow cannot."""
    if kind not in _WRITTEN_BY_ARROW:
        return None
    if kind is dt.datetime and any(value is not None and value.tzinfo is not None for value in values):
        # Arrow would turn them into UTC, which may be another day.
        return None
    try:
        column = pa.array(values, type=_WRITTEN_BY_ARROW[kind])
    except (OverflowError, pa.ArrowException):
        # An integer of more than 64 bits.
        return None
    texts = column.cast(pa.string())
    return pc.utf8_rtrim(pc.utf8_rtrim(texts, "0"), ".") if kind is dt.datetime else texts


def _texts(values: Sequence[object], converters: dict[type, Converter]) -> list[str | None]:
    converters[str] = converters[type(None)] = _same
    return [converters[type(value)](value) for value in values]


@lru_cache(maxsize=256)
def _converter_of(kind: type) -> Converter | None:
    """Give how values of a type are written; subclasses follow their base, so that a driver's own types are met."""
    for base in kind.__mro__:
        if base in _CONVERTERS:
            return _CONVERTERS[base]
    # NumPy's integers descend from no Python type; they only say that they are integral.
    return _whole if issubclass(kind, numbers.Integral) else None


def _same(value: Any) -> Any:
    return value


def _whole(value: Any) -> str:
    return str(int(value))


def _bool(value: bool) -> str:
    return "true" if value else "false"


def _float(value: float) -> str | None:
    if math.isnan(value):
        return None
    if math.isinf(value):
        return str(value)
    return str(int(value)) if value.is_integer() else _decimal(Decimal(repr(float(value))))


def _decimal(value: Decimal) -> str | None:
    if value.is_nan():
        return None
    if not value.is_finite():
        return str(float(value))
    text = format(value, "f")
    if "." in text:
        text = text.rstrip("0").rstrip(".")
    return "0" if text == "-0" else text


def _date(value: dt.date) -> str:
    return value.isoformat()


def _timestamp(value: dt.datetime) -> str:
    text = (value.replace(tzinfo=None) if value.tzinfo else value).isoformat(sep=" ")
    return text.rstrip("0") if "." in text else text


def _bytes(value: bytes | bytearray | memoryview) -> str:
    return bytes(value).decode("utf-8")


_CONVERTERS: dict[type, Converter] = {
    str: str.__str__,
    bool: _bool,
    int: _whole,
    float: _float,
    Decimal: _decimal,
    dt.datetime: _timestamp,
    dt.date: _date,
    UUID: str,
    bytes: _bytes,
    bytearray: _bytes,
    memoryview: _bytes,
}

#: What Arrow writes as the converters do: the type to read the values as.
_WRITTEN_BY_ARROW: dict[type, pa.DataType] = {
    str: pa.string(),
    int: pa.int64(),
    bool: pa.bool_(),
    dt.date: pa.date32(),
    dt.datetime: pa.timestamp("us"),
}

#: Columns whose values are of these types alone are left as they are.
_KEPT: dict[frozenset[type], pa.DataType] = {
    frozenset({float}): pa.float64(),
    frozenset({bytes}): pa.binary(),
    frozenset({bytearray}): pa.binary(),
    frozenset({memoryview}): pa.binary(),
    frozenset({dt.time}): pa.time64("us"),
    frozenset({dt.timedelta}): pa.duration("us"),
}
