"""Arrow columns of any type to text: the same text that a person would write for the value.

Warehouses hand out phones as floats, ids as decimals and birthdays as timestamps; all must hash like the clean text.
No message quotes a cell, and Arrow's own exceptions do, so none of them is let through or chained.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import timedelta
from decimal import Decimal
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.types as pt

from airflow_provider_fbca.exceptions import UsersError
from airflow_provider_fbca.identity.vectors import hex_digits, strings_of_rows

if TYPE_CHECKING:
    from collections.abc import Callable

# Beyond these a float cannot tell a whole number from the next one, so that an id is lost already.
_EXACT_BELOW = {16: 2.0**11, 32: 2.0**24, 64: 2.0**53}
_DIGEST_BYTES = 32
_OFFSET_BYTES = 4
# Where, in its digits, each part of a UUID begins but the first.
_UUID_PARTS = (8, 12, 16, 20)
_NOT_A_NUMBER = pa.array(["NaN", "nan"])
_OFFSET = re.compile(r"([+-])(\d{2}):?(\d{2})", re.ASCII)
# Types of databases, known to Arrow by name only, whose bytes are their text. Those of others are not, even where they
# happen to be UTF-8: an inet's are two small numbers and an address.
_TEXT_AS_BYTES = {"citext", "cstring", "name", "unknown", "xml"}


@dataclass(frozen=True, slots=True, repr=False)
class Cells:
    """The cells of one column as text.

    :param texts: Arrow ``string`` array, null where the cell is.
    :param inexact: Arrow ``bool`` array without nulls, true where a float is too large to be an exact whole number;
        None where no cell is.
    """

    texts: pa.Array
    inexact: pa.Array | None = None


def read_cells(column: pa.Array, *, name: str, first_row: int) -> Cells:
    """Give a column as text.

    Floats and decimals print without exponent and needless zeros, dates and timestamps as in
    ``1990-05-02 08:30:00.25``, with the day that the column shows (of a zoned timestamp: the day in its zone), booleans
    as ``true`` and ``false``, UUIDs in their usual form, bytes as the UTF-8 that they are, and 32 bytes that are no
    UTF-8 as the hex digits of a digest. Sources that give Python's values write them the same way.

    :param column: an array of any type.
    :param name: the column's name, for messages.
    :param first_row: rows that came before this batch, for messages.
    :raises UsersError: the type has no text (lists, structs, maps, durations), text is not UTF-8, or bytes are neither
        UTF-8 nor a digest.
    """
    try:
        cells = _read(column, name, first_row)
        # Arrow's strings may hold any bytes; who decodes them later would raise an error that holds the value.
        cells.texts.validate(full=True)
        return Cells(_from_the_start(cells.texts), cells.inexact)
    except pa.ArrowException as error:
        kind = type(error).__name__
    raise UsersError(
        f"Column {name!r} of type {column.type} cannot be read as text ({kind}, in the batch that begins at row"
        f" {first_row + 1}).",
        remedy="Cast it to text in the query.",
    )


def _from_the_start(texts: pa.Array) -> pa.Array:
    """Copy texts that do not begin where their memory does: of these, Arrow's ``ascii_lower`` reads past the end.

    Arrays cut out of others are such; those that Arrow itself cuts say so by their offset, and are read well.
    """
    offsets = texts.buffers()[1]
    if texts.offset or offsets is None or not offsets.size or not any(offsets[:_OFFSET_BYTES]):
        return texts
    return pa.concat_arrays([texts, texts[:0]])


def _read(column: pa.Array, name: str, first_row: int) -> Cells:
    kind = column.type
    if pt.is_string(kind):
        return Cells(column)
    if pt.is_dictionary(kind) or pt.is_run_end_encoded(kind) or isinstance(column, pa.ExtensionArray):
        return _read_wrapped(column, name, first_row)
    if pt.is_floating(kind):
        return _read_floats(column)
    if _is_binary(kind):
        return Cells(_bytes_as_text(column, name, first_row))
    for matches, as_text in _WRITERS:
        if matches(kind):
            return Cells(as_text(column))
    raise UsersError(
        f"Column {name!r} has the type {kind}, which holds no identifier.",
        remedy="Cast it to text in the query, or leave it out of `columns`.",
    )


def _read_wrapped(column: pa.Array, name: str, first_row: int) -> Cells:
    if isinstance(column, pa.ExtensionArray):
        return _read_extension(column, name, first_row)
    if pt.is_run_end_encoded(column.type):
        return _read(pc.run_end_decode(column), name, first_row)
    values = _read(column.dictionary, name, first_row)
    inexact = None if values.inexact is None else values.inexact.take(column.indices).fill_null(False)
    return Cells(values.texts.take(column.indices), inexact)


def _read_extension(column: pa.ExtensionArray, name: str, first_row: int) -> Cells:
    kind = column.type.extension_name
    if kind == "arrow.uuid":
        return Cells(_uuids_as_text(column.storage))
    if kind == "arrow.bool8":
        return Cells(column.storage.cast(pa.bool_()).cast(pa.string()))
    database_type = column.type.type_name if kind == "arrow.opaque" else None
    if _is_text(column.storage.type):
        cells = _read(column.storage, name, first_row)
        return Cells(_numerics_as_text(cells.texts)) if database_type == "numeric" else cells
    if database_type in _TEXT_AS_BYTES and _is_binary(column.storage.type):
        return Cells(_bytes_as_text(column.storage, name, first_row))
    raise UsersError(
        f"Column {name!r} has the type {column.type}, of which only the database knows the text.",
        remedy="Cast it to text in the query, or leave it out of `columns`.",
    )


def _uuids_as_text(column: pa.Array) -> pa.Array:
    digits = hex_digits(column)
    dash = np.full((len(column), 1), ord("-"), np.uint8)
    first, second, third, fourth, last = np.split(digits, _UUID_PARTS, axis=1)
    return strings_of_rows(np.hstack([first, dash, second, dash, third, dash, fourth, dash, last]), column)


def _read_floats(column: pa.Array) -> Cells:
    limit = _EXACT_BELOW[column.type.bit_width]
    numbers = column.cast(pa.float64())
    whole = pc.equal(pc.floor(numbers), numbers)
    inexact = pc.greater_equal(pc.abs(numbers), limit).fill_null(False)  # not so NaN, which is nothing
    as_whole = pc.if_else(pc.and_not(whole, inexact), numbers, None).cast(pa.int64()).cast(pa.string())
    texts = pc.coalesce(as_whole, _without_exponents(_shortest_decimals(column)))
    return Cells(pc.if_else(pc.is_nan(numbers), None, texts), inexact if pc.any(inexact).as_py() else None)


def _shortest_decimals(column: pa.Array) -> pa.Array:
    if column.type.bit_width == 16:  # noqa: PLR2004 - Arrow writes half floats nowhere
        column = column.cast(pa.float32())
    return column.cast(pa.string())


def _without_exponents(numbers: pa.Array) -> pa.Array:
    if not pc.any(pc.match_substring(numbers, "e", ignore_case=True)).as_py():
        return numbers
    return pa.array([None if cell is None else _written_out(cell) for cell in numbers.to_pylist()], pa.string())


def _written_out(number: str) -> str:
    return format(Decimal(number), "f") if "e" in number.lower() else number


def _decimals_as_text(column: pa.Array) -> pa.Array:
    # Arrow writes the very small with an exponent, and any number of negative scale.
    return _without_decimal_zeros(_without_exponents(column.cast(pa.string())))


def _numerics_as_text(texts: pa.Array) -> pa.Array:
    """Take Postgres' text of its type numeric, of the server or its driver; NaN and infinity become what floats do."""
    texts = pc.replace_substring(pc.if_else(pc.is_in(texts, _NOT_A_NUMBER), None, texts), "Infinity", "inf")
    return _without_decimal_zeros(_without_exponents(texts))


def _without_decimal_zeros(texts: pa.Array) -> pa.Array:
    has_point = pc.match_substring(texts, ".")
    if not pc.any(has_point).as_py():
        return texts
    return pc.if_else(has_point, pc.utf8_rtrim(pc.utf8_rtrim(texts, "0"), "."), texts)


def _timestamps_as_text(column: pa.Array) -> pa.Array:
    zone = column.type.tz
    if zone is None:
        return _without_fraction_zeros(column)
    if offset := _OFFSET.fullmatch(zone):  # which older Arrows look up as if it were the name of a zone
        minutes = int(f"{offset[1]}{int(offset[2]) * 60 + int(offset[3])}")
        shift = pa.scalar(timedelta(minutes=minutes), pa.duration(column.type.unit))
        return _without_fraction_zeros(pc.add(column.view(pa.timestamp(column.type.unit)), shift))
    return _without_fraction_zeros(pc.local_timestamp(column))


def _without_fraction_zeros(column: pa.Array) -> pa.Array:
    """Write timestamps the same in whatever unit a source has them: ``... 08:30:00``, ``... 08:30:00.25``."""
    texts = column.cast(pa.string())
    if column.type.unit == "s":
        return texts
    return pc.utf8_rtrim(pc.utf8_rtrim(texts, "0"), ".")


def _is_text(kind: pa.DataType) -> bool:
    if pt.is_dictionary(kind):
        return _is_text(kind.value_type)
    return bool(pt.is_string(kind) or pt.is_large_string(kind) or pt.is_string_view(kind))


def _is_binary(kind: pa.DataType) -> bool:
    return bool(
        pt.is_binary(kind) or pt.is_large_binary(kind) or pt.is_fixed_size_binary(kind) or pt.is_binary_view(kind)
    )


def _bytes_as_text(column: pa.Array, name: str, first_row: int) -> pa.Array:
    if pt.is_fixed_size_binary(column.type) and column.type.byte_width == _DIGEST_BYTES:
        return strings_of_rows(hex_digits(column), column)
    cells = column.cast(pa.binary())
    try:
        return cells.cast(pa.string())
    except pa.ArrowException:
        pass  # some cell is no UTF-8
    if pc.all(pc.equal(pc.binary_length(cells), _DIGEST_BYTES)).as_py():
        # Of a hundred million digests one is UTF-8 by chance, and none is meant as text.
        digests = cells.cast(pa.binary(_DIGEST_BYTES))
        return strings_of_rows(hex_digits(digests), digests)
    texts: list[str | None] = []
    for row, cell in enumerate(cells.to_pylist(), first_row + 1):
        texts.append(None if cell is None else _one_as_text(cell))
        if cell is not None and texts[-1] is None:
            raise UsersError(
                f"Column {name!r} of type {column.type} holds bytes in row {row} that are no UTF-8 text.",
                remedy="Cast it to text in the query.",
            )
    return pa.array(texts, pa.string())


def _one_as_text(cell: bytes) -> str | None:
    try:
        return cell.decode()
    except UnicodeDecodeError:
        return cell.hex() if len(cell) == _DIGEST_BYTES else None


def _as_string(column: pa.Array) -> pa.Array:
    return column.cast(pa.string())


_WRITERS: tuple[tuple[Callable[[Any], bool], Callable[[pa.Array], pa.Array]], ...] = (
    (pt.is_null, _as_string),
    (pt.is_large_string, _as_string),
    (pt.is_string_view, _as_string),
    (pt.is_integer, _as_string),
    (pt.is_boolean, _as_string),
    (pt.is_date, _as_string),
    (pt.is_decimal, _decimals_as_text),
    (pt.is_timestamp, _timestamps_as_text),
)
