"""DOBY, DOBM and DOBD: a year of four digits, a month and a day of two, from parts or from a whole date.

A whole date is read where it can mean one day only: ``1990-05-02`` and ``2 May 1990`` do, ``05/02/1990`` and
``02.05.90`` do not. Source of the forms:
https://developers.facebook.com/documentation/ads-commerce/marketing-api/audiences/guides/custom-audiences
"""

from __future__ import annotations

import re
from datetime import UTC, date, datetime
from functools import cache, lru_cache
from itertools import chain

from airflow_provider_fbca.identity.outcome import Blank, Context
from airflow_provider_fbca.identity.text import ascii_digits, fold, whole_number

_FIRST_YEAR = 1900
_MONTHS = 12
_DAYS = 31

# Whose month names are understood; English comes first and wins where languages disagree on a word.
_LANGUAGES = (
    *("en", "de", "fr", "es", "it", "pt", "nl", "da", "sv", "nb", "fi", "pl", "cs", "sk", "hu", "ro", "hr", "sl"),
    *("bg", "el", "ru", "uk", "tr", "ar", "he", "hi", "th", "vi", "id", "ja", "ko", "zh"),
)

_ZONE = r"(?:Z|UTC|GMT|[+-]\d{2}(?::?\d{2})?|[A-Za-z]+/[A-Za-z0-9_/+-]+)"
_TIME = rf"(?:[T\s]+\d{{1,2}}:\d{{2}}(?::\d{{2}}(?:[.,]\d+)?)?\s*(?:[AaPp][Mm])?\s*{_ZONE}?)?"
_YEAR_FIRST = re.compile(rf"(?P<year>\d{{4}})([-/.])(?P<month>\d{{1,2}})\2(?P<day>\d{{1,2}}){_TIME}", re.ASCII)
_PACKED = re.compile(rf"(?P<year>\d{{4}})(?P<month>\d{{2}})(?P<day>\d{{2}}){_TIME}", re.ASCII)
# As Chinese, Japanese and Koreans write it.
_EASTERN = re.compile(
    "(?P<year>\\d{4})\\s*[\u5e74\ub144.]\\s*(?P<month>\\d{1,2})\\s*[\u6708\uc6d4.]\\s*(?P<day>\\d{1,2})\\s*[\u65e5\uc77c.]?"
)
_YEAR_LAST = re.compile(rf"(\d{{1,2}})([-/.])(\d{{1,2}})\2(\d{{4}}){_TIME}", re.ASCII)
_SHORT_YEAR = re.compile(
    r"(?:\d{1,2}[-/. ]+(?:\d{1,2}|[^\W\d]+)|\d{1,2}|[^\W\d]+\.? \d{1,2},?)[-/. ]+'?\d{1,2}|\d{5,6}", re.ASCII
)
_DAY_MONTH_YEAR = re.compile(r"(\d{1,2})(?:st|nd|rd|th|\.)?[\s-]*(?:de\s+)?([^\W\d]+)\.?,?[\s-]*(?:de\s+)?(\d{4})")
_MONTH_DAY_YEAR = re.compile(r"([^\W\d]+)\.?[\s-]*(\d{1,2})(?:st|nd|rd|th)?,?[\s-]+(\d{4})")


def normalise_year(text: str, context: Context) -> str | Blank:  # noqa: ARG001 - all rules take both
    """Give a year of birth from 1900 to this year.

    :param text: one trimmed cell that is no placeholder.
    :param context: not used.
    """
    number = _small_number(text)
    if number is not None and _is_year(number):
        return str(number)
    if number is not None and number < 100:  # noqa: PLR2004 - two digits
        return Blank.TWO_DIGIT_YEAR
    return Blank.NOT_A_YEAR


def normalise_month(text: str, context: Context) -> str | Blank:  # noqa: ARG001 - all rules take both
    """Give a month as two digits, from a number or from its name in one of the main languages.

    :param text: one trimmed cell that is no placeholder.
    :param context: not used.
    """
    number = _small_number(text)
    if number is None:
        number = _month_names().get(fold(text))
    if number is None or not 1 <= number <= _MONTHS:
        return Blank.NOT_A_MONTH
    return f"{number:02}"


def normalise_day(text: str, context: Context) -> str | Blank:  # noqa: ARG001 - all rules take both
    """Give a day of the month as two digits.

    :param text: one trimmed cell that is no placeholder.
    :param context: not used.
    """
    number = _small_number(text)
    if number is None or not 1 <= number <= _DAYS:
        return Blank.NOT_A_DAY
    return f"{number:02}"


def _small_number(text: str) -> int | None:
    digits = whole_number(ascii_digits(text))
    return int(digits) if digits.isascii() and digits.isdigit() and len(digits) <= 4 else None  # noqa: PLR2004


def year_of_date(text: str, context: Context) -> str | Blank:  # noqa: ARG001 - all rules take both
    """Give the year of a whole date of birth.

    :param text: one trimmed cell that is no placeholder.
    :param context: not used.
    """
    day = read_date(text)
    return day if isinstance(day, Blank) else f"{day.year:04}"


def month_of_date(text: str, context: Context) -> str | Blank:  # noqa: ARG001 - all rules take both
    """Give the month of a whole date of birth.

    :param text: one trimmed cell that is no placeholder.
    :param context: not used.
    """
    day = read_date(text)
    return day if isinstance(day, Blank) else f"{day.month:02}"


def day_of_date(text: str, context: Context) -> str | Blank:  # noqa: ARG001 - all rules take both
    """Give the day of a whole date of birth.

    :param text: one trimmed cell that is no placeholder.
    :param context: not used.
    """
    day = read_date(text)
    return day if isinstance(day, Blank) else f"{day.day:02}"


@lru_cache(maxsize=1 << 16)  # one date is asked for three times: its year, its month and its day
def read_date(text: str) -> date | Blank:
    """Read a date of birth that can mean one day only.

    :param text: a date year first (ISO, with or without a time, or packed as YYYYMMDD), or with a month's name, or with
        a day above 12 that tells day from month.
    """
    text = whole_number(ascii_digits(text))
    if match := _YEAR_FIRST.fullmatch(text) or _PACKED.fullmatch(text) or _EASTERN.fullmatch(text):
        return _birthday(int(match["year"]), int(match["month"]), int(match["day"]))
    if match := _YEAR_LAST.fullmatch(text):
        return _year_last(int(match[1]), int(match[3]), int(match[4]))
    if match := _DAY_MONTH_YEAR.fullmatch(text):
        return _birthday(int(match[3]), _month_names().get(fold(match[2]), 0), int(match[1]))
    if match := _MONTH_DAY_YEAR.fullmatch(text):
        return _birthday(int(match[3]), _month_names().get(fold(match[1]), 0), int(match[2]))
    return Blank.TWO_DIGIT_YEAR if _SHORT_YEAR.fullmatch(text) else Blank.NOT_A_DATE


def _year_last(first: int, second: int, year: int) -> date | Blank:
    if first > _MONTHS or first == second:
        return _birthday(year, second, first)
    if second > _MONTHS:
        return _birthday(year, first, second)
    return Blank.AMBIGUOUS_DATE


def _birthday(year: int, month: int, day: int) -> date | Blank:
    if not _is_year(year):
        return Blank.NOT_A_DATE
    try:
        return date(year, month, day)
    except ValueError:  # 31 February and the like
        return Blank.NOT_A_DATE


def _is_year(number: int) -> bool:
    return _FIRST_YEAR <= number <= datetime.now(tz=UTC).year


@cache
def _month_names() -> dict[str, int]:
    from babel import Locale  # noqa: PLC0415 - reads files of each language

    numbers: dict[str, int] = {}
    disputed: set[str] = set()
    for language in _LANGUAGES:
        months = Locale(language).months
        widths = [months[context][width] for context in ("format", "stand-alone") for width in ("wide", "abbreviated")]
        for number, name in chain.from_iterable(names.items() for names in widths):
            word = fold(name)
            if word.isdigit() or not word:
                continue
            if numbers.setdefault(word, number) != number and word not in _english_months():
                disputed.add(word)
    return {word: number for word, number in numbers.items() if word not in disputed}


@cache
def _english_months() -> frozenset[str]:
    from babel import Locale  # noqa: PLC0415

    months = Locale("en").months["format"]
    return frozenset(fold(name) for width in ("wide", "abbreviated") for name in months[width].values())
