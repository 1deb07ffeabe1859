"""What numbers in their usual forms look like, as patterns and tables that work on whole columns.

Made of the tables of libphonenumber, as :mod:`~airflow_provider_fbca.identity.phone_tables` is. RE2 (Arrow) and Python
read the patterns alike; libphonenumber itself runs them by either.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Any

import numpy as np

from airflow_provider_fbca.identity.phone_tables import calling_codes, region_of, tables_of_code

if TYPE_CHECKING:
    from collections.abc import Collection

    import numpy.typing as npt

    from airflow_provider_fbca.identity.phone_tables import Region
    from airflow_provider_fbca.identity.vectors import Flags

_NORTH_AMERICA = "1"
_FEWEST_DIGITS = 5
#: Counts of digits end here: no number has as many.
MOST_DIGITS = 31


@dataclass(frozen=True, slots=True)
class Codes:
    """The calling codes as tables.

    :param of_digits: the first three digits of a number to the position of its calling code, 0 for none.
    :param whole: for each calling code and count of digits, code included, whether a number is whole.
    :param trunk_prefixes: what finds a calling code and a trunk prefix behind it, empty where there is none.
    """

    of_digits: npt.NDArray[np.int16]
    whole: Flags
    trunk_prefixes: tuple[str, ...]


@cache
def codes_abroad() -> Codes:
    """Give the calling codes."""
    of_digits = np.zeros(1000, np.int16)
    whole = [_counts(())]
    trunk_prefixes = [""]
    for position, (code, rule) in enumerate(calling_codes().items(), 1):
        of_digits[int(code.ljust(3, "0")) : int(code.ljust(3, "9")) + 1] = position
        whole.append(_counts(rule.lengths, code))
        trunk_prefixes.append(_trunk_prefix(code))
    return Codes(of_digits, np.array(whole), tuple(trunk_prefixes))


@dataclass(frozen=True, slots=True)
class Home:
    """One country, for its numbers written without plus.

    :param region: the country's rules.
    :param whole: for each count of digits, without calling code, whether a number is whole.
    :param lost_plus: how numbers look that lost the plus in front of the calling code; None where they cannot be told
        from others.
    """

    region: Region
    whole: Flags
    lost_plus: LostPlus | None


@dataclass(frozen=True, slots=True)
class LostPlus:
    """How numbers look that begin with their country's calling code.

    :param every_kind: what matches the calling code and a number of any kind.
    :param kinds: what matches the calling code and a number of one kind, and the counts of digits that are whole.
    :param local: what matches numbers without calling code that may look the same; empty where there are none.
    :param refused: what finds a calling code and, behind it, what libphonenumber may cut off; empty where it does not.
    """

    every_kind: str
    kinds: tuple[tuple[str, Flags], ...]
    local: str
    refused: str


@cache
def home_of(country: str) -> Home | None:
    """Give what is needed for a country, None where libphonenumber has nothing on it.

    :param country: a lower-case code.
    """
    region = region_of(country)
    if region is None:
        return None
    whole = _counts(region.lengths)
    if region.code == _NORTH_AMERICA:  # where the calling code is the trunk prefix too
        every_kind = f"1(?:{region.numbers.pattern})"
        counts = _counts(region.lengths, _NORTH_AMERICA)
        refused = f"1(?:{region.prefixes.pattern})"
        return Home(region, whole, LostPlus(every_kind, ((every_kind, counts),), "", refused))
    return Home(region, whole, _lost_plus(country, region))


def _lost_plus(country: str, region: Region) -> LostPlus | None:
    from phonenumbers import COUNTRY_CODE_TO_REGION_CODE  # noqa: PLC0415 - large tables

    code, own = region.code, _tables_of(country)
    main = tables_of_code(int(code))
    trunk_prefix = own.national_prefix
    # A number that lacks the trunk prefix is no national one. Where there is no such prefix, the patterns must tell.
    told_apart = trunk_prefix and not trunk_prefix.startswith(code) and not code.startswith(trunk_prefix)
    if main.leading_digits or (not told_apart and (trunk_prefix or own.national_prefix_for_parsing)):
        return None
    lengths = calling_codes()[code].lengths
    neighbours = [_tables_of(name) for name in COUNTRY_CODE_TO_REGION_CODE[int(code)]]
    local = "" if told_apart else "|".join(f"(?:{_pattern_of(one.general_desc)})" for one in neighbours)
    return LostPlus(
        every_kind=f"{code}(?:{_pattern_of(main.general_desc)})",
        kinds=tuple(
            (f"{code}(?:{_pattern_of(kind)})", _counts(lengths.intersection(kind.possible_length or lengths), code))
            for kind in (main.mobile, main.fixed_line)
            if kind is not None and kind.national_number_pattern
        ),
        local=local,
        refused=_trunk_prefix(code),
    )


def _tables_of(country: str) -> Any:
    from phonenumbers import PhoneMetadata  # noqa: PLC0415

    return PhoneMetadata.metadata_for_region(country.upper(), None)


def _pattern_of(kind: Any) -> str:
    return str(kind.national_number_pattern)


def _trunk_prefix(code: str) -> str:
    prefix = tables_of_code(int(code)).national_prefix_for_parsing
    return f"{code}(?:{prefix})" if prefix else ""


def _counts(lengths: Collection[int], code: str = "") -> Flags:
    """Tell of each count of digits whether it is one of these lengths, with a calling code in front."""
    counts = np.zeros(MOST_DIGITS + 1, np.bool_)
    counts[[length + len(code) for length in lengths]] = True
    counts[:_FEWEST_DIGITS] = False
    return counts
