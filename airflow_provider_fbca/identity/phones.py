"""PHONE: country code and national number as digits alone.

Meta wants digits with the country code and without leading zeros. What a number means is decided by libphonenumber's
tables. A number counts where its length is possible, though its range may be unassigned: Meta's own example,
1 555 987 6543, is such a one. Source:
https://developers.facebook.com/documentation/ads-commerce/marketing-api/audiences/guides/custom-audiences
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from airflow_provider_fbca.identity.outcome import Blank, Context
from airflow_provider_fbca.identity.text import ascii_digits, whole_number, without_zero_width

if TYPE_CHECKING:
    from phonenumbers import PhoneNumber

# "+" in its widths, or the "00" that most of the world dials instead; Meta strips leading zeros behind it too.
_INTERNATIONAL = re.compile(r"^[^\w+\uff0b]*(?:[+\uff0b]+|00)[^\w]*0*", re.ASCII)
_TRUNK_ZERO = re.compile(r"[(\uff08\[]\s*0\s*[)\uff09\]]")
# A letter behind digits begins an extension or a label ("x12", "poste 12", "home"). Words spelled with the letters of a
# dial ("1-800-FLOWERS") are cut too, and then too short: Meta drops letters.
_LETTER_BEHIND_DIGITS = re.compile(r"(?<=\d)([^\w]*)[^\W\d_].*$", re.DOTALL)


def normalise_phone(text: str, context: Context) -> str | Blank:
    """Give a phone number as the digits of its international form.

    :param text: one trimmed cell that is no placeholder.
    :param context: gives the country of a number that does not begin with ``+`` or ``00``.
    """
    number = whole_number(ascii_digits(without_zero_width(text)))
    number = _LETTER_BEHIND_DIGITS.sub("", number)
    international = _INTERNATIONAL.sub("+", number, count=1)
    if international.startswith("+"):
        digits = _digits(international, None)
        if digits is not None or context.country is None or not number.startswith("00"):
            return digits or Blank.NOT_A_PHONE
    if context.country is None:
        return Blank.PHONE_WITHOUT_COUNTRY
    return _digits(number, context.country.upper()) or Blank.NOT_A_PHONE


def _digits(number: str, region: str | None) -> str | None:
    parsed = _parse(number, region) or _parse(_TRUNK_ZERO.sub("", number), region)
    if parsed is None:
        return None
    if region is not None and not _is_valid(parsed):
        parsed = _with_country_code_but_no_plus(number, region) or parsed
    return f"{parsed.country_code}{_national_number(parsed)}"


def _with_country_code_but_no_plus(number: str, region: str) -> PhoneNumber | None:
    """Read ``491701234567`` of a German row as international, where only that gives a number that exists."""
    from phonenumbers import country_code_for_region  # noqa: PLC0415

    digits = re.sub(r"\D", "", number)
    if not digits.startswith(str(country_code_for_region(region))):
        return None
    parsed = _parse(f"+{digits}", None)
    return parsed if parsed is not None and _is_valid(parsed) else None


def _parse(number: str, region: str | None) -> PhoneNumber | None:
    """Read a number whose whole length is possible, None where it is not."""
    from phonenumbers import NumberParseException, ValidationResult, parse  # noqa: PLC0415 - large tables
    from phonenumbers import is_possible_number_with_reason as why_possible  # noqa: PLC0415

    try:
        parsed = parse(number, region)
    except NumberParseException:
        return None
    return parsed if why_possible(parsed) == ValidationResult.IS_POSSIBLE else None


def _is_valid(number: PhoneNumber) -> bool:
    from phonenumbers import is_valid_number  # noqa: PLC0415

    return is_valid_number(number)


def _national_number(number: PhoneNumber) -> str:
    from phonenumbers import national_significant_number  # noqa: PLC0415

    return national_significant_number(number)
