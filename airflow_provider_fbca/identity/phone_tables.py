"""Phone numbers in their usual forms, decided by a few look-ups in libphonenumber's tables.

Parsing a number with libphonenumber takes some 15 microseconds, more than all else of a row. What it does to a number
that needs none of its repairs is little: it adds the calling code and checks the length. The tables here say which
numbers are such; any other is left to it. A test holds the two together.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cache
from typing import Any

_PUNCTUATION = {ord(mark): None for mark in " ().-"}
_ZERO_IN_BRACKETS = re.compile(r"\( *0 *\)")
_LOST_IN_A_FLOAT = re.compile(r"\d+\.0{1,2}", re.ASCII)
_AFTER_00 = [f"00{more:03}" for more in range(1000)]
_NORTH_AMERICA = "1"
_NOTHING = re.compile(r"(?!)")


@dataclass(frozen=True, slots=True)
class CallingCode:
    """What numbers behind a calling code must be like.

    :param lengths: how many digits follow the calling code.
    :param trunk_prefix: matches what libphonenumber may take for a trunk prefix and cut off.
    """

    lengths: frozenset[int]
    trunk_prefix: re.Pattern[str]


@dataclass(frozen=True, slots=True)
class Region:
    """What numbers written without calling code must be like in a country.

    :param code: its calling code.
    :param lengths: how many digits a whole number has.
    :param prefixes: matches what begins otherwise than a national number: ways to dial abroad, the calling code itself,
        trunk prefixes that are not plain.
    :param trunk_zero: whether a leading 0 is the trunk prefix and nothing else.
    :param longer_than_00: whether one dials abroad by 00 and more, as in Australia.
    :param zero_belongs: whether a leading 0 is part of a number, never a trunk prefix.
    :param numbers: matches national numbers.
    """

    code: str
    lengths: frozenset[int]
    prefixes: re.Pattern[str]
    trunk_zero: bool
    longer_than_00: bool
    zero_belongs: bool
    numbers: re.Pattern[str]


def digits_by_table(text: str, country: str | None) -> str | None:
    """Give calling code and number where the text is a number in a usual form, None where libphonenumber must see it.

    :param text: one trimmed cell.
    :param country: the row's country, a lower-case code.
    """
    digits = text.translate(_PUNCTUATION)
    if not digits.isascii() or _LOST_IN_A_FLOAT.fullmatch(text) or ("(" in text and _ZERO_IN_BRACKETS.search(text)):
        return None
    if text.startswith("+"):
        return _international(digits[1:])
    if text.startswith("00"):
        return None if country is not None and _means_more(digits, country) else _international(digits[2:])
    if country is None or not digits.isdigit():
        return None
    return _national(digits, country)


def lacks_its_zero(number: str, country: str) -> bool:
    """Tell whether digits are a number of the country only with a zero in front, which a numeric column has lost.

    In Italy and some others the zero is part of the number, no trunk prefix.

    :param number: digits and perhaps marks; with marks, nothing was lost.
    :param country: the row's country, a lower-case code.
    """
    region = region_of(country)
    return region is not None and _lacks_its_zero(number, region)


def _lacks_its_zero(digits: str, region: Region) -> bool:
    if not region.zero_belongs or not digits.isdigit() or digits.startswith(("0", region.code)):
        return False
    return not region.numbers.fullmatch(digits) and bool(region.numbers.fullmatch(f"0{digits}"))


def _means_more(digits: str, country: str) -> bool:
    """Tell whether digits that begin with 00 may be a number of the country, or dialled there by a longer prefix."""
    region = region_of(country)
    if region is None:
        return False
    local = region.numbers.fullmatch(digits) or region.numbers.fullmatch(digits[1:])
    return bool(local) or region.longer_than_00


def _international(digits: str) -> str | None:
    if not digits.isdigit():
        return None
    codes = calling_codes()
    for width in (1, 2, 3):
        if rule := codes.get(digits[:width]):
            number = digits[width:]
            return digits if len(number) in rule.lengths and not rule.trunk_prefix.match(number) else None
    return None


def _national(digits: str, country: str) -> str | None:
    region = region_of(country)
    if region is None:
        return None
    if (
        region.code == _NORTH_AMERICA and digits[0] == _NORTH_AMERICA
    ):  # calling code and trunk prefix are the same there
        number = digits[1:]
        whole = region.numbers.fullmatch(number) and not region.prefixes.match(number)
        return digits if whole and len(number) in region.lengths else None
    if region.prefixes.match(digits) or _lacks_its_zero(digits, region):
        return None
    if region.trunk_zero and digits[0] == "0":
        digits = digits[1:]
        if not region.numbers.fullmatch(digits):
            return None
    return region.code + digits if len(digits) in region.lengths else None


@cache
def calling_codes() -> dict[str, CallingCode]:
    """Give the rule of each calling code."""
    from phonenumbers import COUNTRY_CODE_TO_REGION_CODE  # noqa: PLC0415 - large tables

    rules = {}
    for code in COUNTRY_CODE_TO_REGION_CODE:
        tables = tables_of_code(code)
        rules[str(code)] = CallingCode(_lengths(tables), _pattern(tables.national_prefix_for_parsing))
    return rules


@cache
def region_of(country: str) -> Region | None:
    """Give the rules of a country, None where libphonenumber has none.

    :param country: a lower-case code.
    """
    from phonenumbers import PhoneMetadata  # noqa: PLC0415

    tables = PhoneMetadata.metadata_for_region(country.upper(), None)
    if tables is None or tables.country_code is None or tables.general_desc is None:
        return None
    code = str(tables.country_code)
    trunk_prefix = tables.national_prefix_for_parsing
    trunk_zero = trunk_prefix == "0" and not tables.national_prefix_transform_rule
    abroad = _pattern(tables.international_prefix)
    prefixes = [tables.international_prefix, code, "00", None if trunk_zero else trunk_prefix]
    return Region(
        code=code,
        lengths=_lengths(tables_of_code(tables.country_code)),
        prefixes=_pattern("|".join(f"(?:{prefix})" for prefix in prefixes if prefix)),
        trunk_zero=trunk_zero,
        longer_than_00=any(len(found[0]) > len("00") for found in map(abroad.match, _AFTER_00) if found),
        zero_belongs=tables.national_prefix != "0",
        numbers=_pattern(tables.general_desc.national_number_pattern),
    )


def tables_of_code(code: int) -> Any:
    """Give the tables that rule a calling code, those of its main country where several share it."""
    from phonenumbers import PhoneMetadata, region_code_for_country_code  # noqa: PLC0415

    region = region_code_for_country_code(code)
    if region == "001":  # numbers of no country, satellite phones for instance
        return PhoneMetadata.metadata_for_nongeo_region(code, None)
    return PhoneMetadata.metadata_for_region(region, None)


def _lengths(tables: Any) -> frozenset[int]:
    possible = frozenset(tables.general_desc.possible_length)
    return possible - frozenset(tables.general_desc.possible_length_local_only)


def _pattern(pattern: str | None) -> re.Pattern[str]:
    return re.compile(pattern, re.ASCII) if pattern else _NOTHING
