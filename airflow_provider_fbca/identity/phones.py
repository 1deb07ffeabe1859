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
from airflow_provider_fbca.identity.phone_tables import digits_by_table, lacks_its_zero
from airflow_provider_fbca.identity.text import ascii_digits, plain_spaces, whole_number, without_zero_width

if TYPE_CHECKING:
    import pyarrow as pa
    from phonenumbers import PhoneNumber

# "+" in its widths, or the "00" that most of the world dials instead; Meta strips leading zeros behind it too.
_INTERNATIONAL = re.compile(r"^[^\d+\uff0b]*(?:[+\uff0b]+|00)\W*0*", re.ASCII)
_ONE_ONE = re.compile(r"\+1\W*1", re.ASCII)
_SOME_DIGITS = re.compile(r"(?:\d\D*){4}", re.ASCII)
_TRUNK_ZERO = re.compile(r"[(\uff08\[]\s*0\s*[)\uff09\]]")
# A letter behind digits begins an extension or a label ("x12", "poste 12", "home"). Words spelled with the letters of a
# dial ("1-800-FLOWERS") are cut too, and then too short: Meta drops letters.
_LETTER_BEHIND_DIGITS = re.compile(r"(?<=\d)\W*[^\W\d_].*$", re.DOTALL)


def normalise_phone(text: str, context: Context) -> str | Blank:
    """Give a phone number as the digits of its international form.

    :param text: one trimmed cell that is no placeholder.
    :param context: gives the country of a number that does not begin with ``+`` or ``00``.
    """
    return digits_by_table(text, context.country) or digits_by_libphonenumber(text, context.country)


def plain_phones(texts: pa.Array, country: str | None) -> pa.Array:
    """Give the digits for each text that is a number in a usual form, null for any other.

    :param texts: Arrow strings, not trimmed.
    :param country: the rows' country, a lower-case code.
    """
    from airflow_provider_fbca.identity.phone_vectors import digits_of_usual  # noqa: PLC0415 - only where phones are

    return digits_of_usual(texts, country)


def digits_by_libphonenumber(text: str, country: str | None) -> str | Blank:
    """Give the digits as :func:`normalise_phone` does, without its short cut.

    :param text: one trimmed cell that is no placeholder.
    :param country: the row's country, a lower-case code.
    """
    number = whole_number(ascii_digits(plain_spaces(without_zero_width(text))))
    number = _LETTER_BEHIND_DIGITS.sub("", number)
    international = _INTERNATIONAL.sub("+", number, count=1)
    if international.startswith("+"):
        found = _read(international, None)
        if country is not None and "+" not in number:
            # Some countries dial abroad by more than 00: "0011" in Australia; and nobody writes "+1 1".
            at_home = _valid(_read(number, country.upper()))
            found = (at_home or found) if _ONE_ONE.match(international) else (_valid(found) or at_home or found)
        return _digits(found) or Blank.NOT_A_PHONE
    if country is None:
        return Blank.PHONE_WITHOUT_COUNTRY if _SOME_DIGITS.search(number) else Blank.NOT_A_PHONE
    region = country.upper()
    if lacks_its_zero(number, country):
        number = f"0{number}"
    return _digits(_with_country_code_but_no_plus(number, region) or _read(number, region)) or Blank.NOT_A_PHONE


def _read(number: str, region: str | None) -> PhoneNumber | None:
    """Read a number; a zero in brackets belongs to it where the number exists with it, as in Italy."""
    found = _parse(number, region)
    without_zero = _TRUNK_ZERO.sub("", number)
    if without_zero == number:
        return found
    shorter = _parse(without_zero, region)
    return _valid(found) or _valid(shorter) or shorter or found


def _valid(number: PhoneNumber | None) -> PhoneNumber | None:
    from phonenumbers import is_valid_number  # noqa: PLC0415

    return number if number is not None and is_valid_number(number) else None


def _parse(number: str, region: str | None) -> PhoneNumber | None:
    """Read a number whose whole length is possible, None where it is not."""
    from phonenumbers import NumberParseException, ValidationResult, is_possible_number_with_reason, parse  # noqa: PLC0415

    try:
        parsed = parse(number, region)
    except NumberParseException:
        return None
    return parsed if is_possible_number_with_reason(parsed) == ValidationResult.IS_POSSIBLE else None


def _with_country_code_but_no_plus(number: str, region: str) -> PhoneNumber | None:
    """Read ``491701234567`` of a German row as what it is: a number whose plus was lost.

    Taken so are digits that begin with the country's calling code and give a number that exists, where they cannot be
    national: people there write a trunk prefix, which is lacking, or the digits are no number of the country.
    """
    from phonenumbers import country_code_for_region, ndd_prefix_for_region  # noqa: PLC0415

    digits = re.sub(r"\D", "", number)
    if not digits.startswith(str(country_code_for_region(region))):
        return None
    international = _valid(_parse(f"+{digits}", None))
    if international is None:
        return None
    trunk_prefix = ndd_prefix_for_region(region, strip_non_digits=True)
    if trunk_prefix and not digits.startswith(trunk_prefix):
        return international
    return None if _valid(_read(number, region)) else international


def _digits(number: PhoneNumber | None) -> str | None:
    from phonenumbers import national_significant_number  # noqa: PLC0415

    return None if number is None else f"{number.country_code}{national_significant_number(number)}"
