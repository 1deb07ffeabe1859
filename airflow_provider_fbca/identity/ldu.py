"""Limited Data Use: what may be said about the use of a person's data, row by row or for all rows alike.

It is no part of who a row is. For customer lists it covers California only; zeros let Meta find out where a person is.
Source: https://developers.facebook.com/docs/marketing-apis/data-processing-options
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import TYPE_CHECKING

import pyarrow as pa
import pyarrow.types as pt

from airflow_provider_fbca.exceptions import MappingError, OptionsError
from airflow_provider_fbca.identity.outcome import Blank, Context
from airflow_provider_fbca.identity.text import ascii_digits, whole_number

if TYPE_CHECKING:
    from collections.abc import Collection

OPTIONS = "DATA_PROCESSING_OPTIONS"
COUNTRY = "DATA_PROCESSING_OPTIONS_COUNTRY"
STATE = "DATA_PROCESSING_OPTIONS_STATE"

#: How the three look in Arrow: ``["LDU"]`` or null, and Meta's own numbers.
OPTIONS_TYPE = pa.list_(pa.string())
PLACE_TYPE = pa.int32()

_LDU = "LDU"
_ANYWHERE = 0
_UNITED_STATES = 1
_CALIFORNIA = 1000
_PLACES = ((_UNITED_STATES, _CALIFORNIA), (_ANYWHERE, _ANYWHERE))

_WORDS = re.compile(r"""[^\s,;\[\]{}()"']+""")
_ON = frozenset({"ldu", "true", "t", "yes", "y", "1"})
_OFF = frozenset({"false", "f", "no", "n", "0"})


def normalise_options(text: str, context: Context) -> str | Blank:  # noqa: ARG001 - all rules take both
    """Give ``LDU`` for a cell that says so; nothing for one that says no.

    :param text: one trimmed cell that is no placeholder: ``LDU``, a truth value, or a list of these.
    :param context: not used.
    """
    words = {whole_number(word) for word in _WORDS.findall(text.lower())}
    if words <= _OFF:
        return Blank.EMPTY
    return _LDU if words <= _ON else Blank.NOT_OPTIONS


def normalise_country(text: str, context: Context) -> str | Blank:  # noqa: ARG001 - all rules take both
    """Give Meta's number of a country.

    :param text: one trimmed cell that is no placeholder.
    :param context: not used.
    """
    return _number(text, {_ANYWHERE, _UNITED_STATES})


def normalise_state(text: str, context: Context) -> str | Blank:  # noqa: ARG001 - all rules take both
    """Give Meta's number of a state.

    :param text: one trimmed cell that is no placeholder.
    :param context: not used.
    """
    return _number(text, {_ANYWHERE, _CALIFORNIA})


def lists_as_text(column: pa.Array) -> pa.Array:
    """Write the cells of a column of lists as text that :func:`normalise_options` reads; any other stays as it is."""
    kind = column.type
    if not (pt.is_list(kind) or pt.is_large_list(kind) or pt.is_fixed_size_list(kind)):
        return column
    texts = [None if cell is None else ",".join(map(str, cell)) for cell in column.to_pylist()]
    return pa.array(texts, pa.string())


def constants(limited_data_use: bool | Mapping[str, int], keys: Collection[str]) -> dict[str, pa.Scalar]:
    """Give the cells that every row gets, by key.

    :param limited_data_use: True, or the place as ``{"country": 1, "state": 1000}``; False for none.
    :param keys: what the columns feed already.
    :raises OptionsError: the place is none of Meta's, or columns say something too.
    :raises MappingError: columns tell a half of it.
    """
    by_column = [key for key in (OPTIONS, COUNTRY, STATE) if key in keys]
    if by_column and limited_data_use is not False:
        raise OptionsError(
            f"`limited_data_use` is set, and columns feed {', '.join(by_column)}.",
            remedy="Say it once: for all rows by the option, or row by row by a column.",
        )
    if by_column not in ([], [OPTIONS], [OPTIONS, COUNTRY, STATE]):
        raise MappingError(
            f"Columns feed {', '.join(by_column)}, which is half of what Limited Data Use needs.",
            remedy=f"Map {OPTIONS} alone, or it with both {COUNTRY} and {STATE}.",
        )
    if limited_data_use is False:
        return {}
    options = {OPTIONS: pa.scalar([_LDU], OPTIONS_TYPE)}
    if limited_data_use is True:
        return options
    country, state = _place(limited_data_use)
    return options | {COUNTRY: pa.scalar(country, PLACE_TYPE), STATE: pa.scalar(state, PLACE_TYPE)}


def _place(told: object) -> tuple[int, int]:
    if isinstance(told, Mapping) and set(told) == {"country", "state"}:
        for country, state in _PLACES:
            if (told["country"], told["state"]) == (country, state):
                return country, state
    raise OptionsError(
        f"`limited_data_use` is {told!r}.",
        remedy='Give True, {"country": 1, "state": 1000} for California, or {"country": 0, "state": 0} to let Meta '
        "find out.",
    )


def _number(text: str, known: Collection[int]) -> str | Blank:
    number = whole_number(ascii_digits(text))
    return number if number in {str(each) for each in known} else Blank.NOT_A_PLACE
