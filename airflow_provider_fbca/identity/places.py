"""CT, ST and ZIP: cities, states and postal codes as Meta's guide writes them.

Sources: of cities as a to z only, two-letter codes for states of the US and the first five digits of US ZIP codes,
https://developers.facebook.com/documentation/ads-commerce/marketing-api/audiences/guides/custom-audiences
and of postal codes without dash and ``m11ae`` as the example of a British one,
https://developers.facebook.com/documentation/ads-commerce/conversions-api/parameters/customer-information-parameters
"""

from __future__ import annotations

import re
from functools import cache

import pyarrow as pa
import pyarrow.compute as pc

from airflow_provider_fbca.identity.countries import parts_of, territories_of_the_us
from airflow_provider_fbca.identity.outcome import Blank, Context
from airflow_provider_fbca.identity.text import ascii_digits, fold, letters_a_to_z, whole_number, without_blanks

# Postal "states" of the US forces, which ISO 3166-2 and so pycountry does not list.
_US_FORCES = ("AA", "AE", "AP")
# What forms say around the name of a state, and old and short names of Canada's provinces.
_AROUND_A_STATE = re.compile(r"(?:stateof|commonwealthof|provinceof|territoryof)?(.+?)(?:state|province|territory)?")
_OLD_PROVINCES = {"Newfoundland": "nl", "NF": "nl", "PQ": "qc", "PEI": "pe", "NWT": "nt"}
_US_CAPITAL = ("Washington DC", "Washington D.C.")

_US_ZIP = re.compile(r"(\d{3,5})(?:-(?:\d{4})?)?", re.ASCII)
_ZIP_DIGITS = 5
_PLAIN_US_ZIP = r"^[0-9]{5}(?:-[0-9]{4})?$"
_US_ZIP_PLUS_4 = re.compile(r"\d{7,9}", re.ASCII)
_ZIP_PLUS_4 = re.compile(r"(\d{5})-\d{4}", re.ASCII)
_GB_CODE = re.compile(r"(?:[a-z]{1,2}\d[a-z\d]?\d[a-z]{2}|gir0aa)", re.ASCII)
_CA_CODE = re.compile(r"[a-z]\d[a-z]\d[a-z]\d", re.ASCII)
_OTHER_CODE = re.compile(r"(?=[a-z]*\d)[a-z\d]{2,10}", re.ASCII)
# Marks that lists, sentences and spreadsheets leave around a code; a dash would mean that something is lost.
_AROUND_A_CODE = ".,;:'\"`\u2018\u2019"
# "D-10115", "SE-111 20": abroad one writes the country in front. Only in Latvia it is part of the code.
_COUNTRY_AND_CODE = re.compile(r"([a-z]{1,2})-(\d[\d-]*)", re.ASCII)
_COUNTRY_IN_THE_CODE = "lv"
# Countries whose codes are so many digits and may begin with zeros, which numeric columns lose.
_DIGITS = {
    **dict.fromkeys(("au", "no"), 4),
    **dict.fromkeys(("de", "es", "fi", "fr", "it", "kr", "lt", "mx", "my", "pl", "tr", "ua"), 5),
    **dict.fromkeys(("cn", "ro", "sg"), 6),
    "jp": 7,
    "br": 8,
}
# Of the short ones up to two; six or seven digits without two would be an older kind of code.
_ZEROS = {4: 2, 5: 2}
_NOT_IN_A_CODE = re.compile(r"[^a-z\d]+", re.ASCII)


def normalise_city(text: str, context: Context) -> str | Blank:
    """Give a city with everything deleted that is not one of the letters a to z, as Meta's own code does.

    :param text: one trimmed cell that is no placeholder.
    :param context: says whether to transliterate instead of deleting.
    """
    return letters_a_to_z(text, transliterate=context.transliterate) or Blank.NO_LETTERS


def normalise_state(text: str, context: Context) -> str | Blank:
    """Give the two-letter code of a state of the US or a province of Canada, the cleaned name of any other state.

    :param text: one trimmed cell that is no placeholder: a code or a name.
    :param context: gives the country; without one, codes and names of the US and Canada are taken as such.
    """
    country = "us" if context.country in territories_of_the_us() else context.country
    if country in {"us", "ca"}:
        word = fold(text)
        codes = _state_codes(country)
        plain = _AROUND_A_STATE.fullmatch(word)
        return codes.get(word) or codes.get(plain[1] if plain else "") or Blank.UNKNOWN_STATE
    letters = letters_a_to_z(text, transliterate=context.transliterate)
    if country is None:
        letters = _code_in_north_america(fold(text)) or _code_in_north_america(letters) or letters
    return letters or Blank.NO_LETTERS


def _code_in_north_america(word: str) -> str | None:
    return _state_codes("us").get(word) or _state_codes("ca").get(word)


@cache
def _state_codes(country: str) -> dict[str, str]:
    codes: dict[str, str] = {}
    for part in parts_of(country.upper()):
        codes |= dict.fromkeys((part.local_code, fold(part.code), *map(fold, part.names)), part.local_code)
    if country == "us":
        codes |= {code.lower(): code.lower() for code in _US_FORCES}
        codes |= {fold(name): "dc" for name in _US_CAPITAL}
        codes[fold("US Virgin Islands")] = codes[fold("Virgin Islands")] = "vi"
    else:
        codes |= {fold(name): code for name, code in _OLD_PROVINCES.items()}
    return codes


def normalise_postal_code(text: str, context: Context) -> str | Blank:
    """Give a postal code in lower case without white space and dashes, cut to five digits in the US.

    :param text: one trimmed cell that is no placeholder.
    :param context: gives the country; without one, only a ZIP+4 with its dash is known to be of the US.
    """
    code = without_blanks(whole_number(ascii_digits(text).lower())).strip(_AROUND_A_CODE)
    country = context.country
    if country is not None and (parts := _COUNTRY_AND_CODE.fullmatch(code)):
        code = _without_country(parts, country)
    if country == "us" or country in territories_of_the_us():
        return _us_zip(code)
    if country is None and (zip_plus_4 := _ZIP_PLUS_4.fullmatch(code)):
        return zip_plus_4[1]
    code = _NOT_IN_A_CODE.sub("", code)
    digits = _DIGITS.get(country or "", 0)
    if digits - _ZEROS.get(digits, 1) <= len(code) < digits and code.isdigit():
        code = code.zfill(digits)
    form = {"gb": _GB_CODE, "ca": _CA_CODE}.get(country or "", _OTHER_CODE)
    return code if form.fullmatch(code) else Blank.NOT_A_POSTAL_CODE


def _without_country(code: re.Match[str], country: str) -> str:
    """Drop what stands in front of the dash where it is the country's code, or one letter as cars carry it."""
    foreign = len(code[1]) > 1 and code[1] != country
    return code[0] if foreign or country == _COUNTRY_IN_THE_CODE else code[2]


def _us_zip(code: str) -> str | Blank:
    """Give five digits, with the leading zeros that numbers lose put back."""
    if match := _US_ZIP.fullmatch(code):
        digits = match[1].zfill(5)
    elif _US_ZIP_PLUS_4.fullmatch(code):
        digits = code.zfill(9)[:5]
    else:
        return Blank.NOT_A_POSTAL_CODE
    return digits if digits.strip("0") else Blank.NOT_A_POSTAL_CODE


def plain_us_zips(texts: pa.Array, country: str | None) -> pa.Array:
    """Give the five digits of each text that is a ZIP or ZIP+4 of the US with all its digits, null for any other.

    :param texts: Arrow strings, not trimmed.
    :param country: the rows' country, a lower-case code.
    """
    if country != "us" and country not in territories_of_the_us():
        return pa.nulls(len(texts), pa.string())
    digits = pc.utf8_slice_codeunits(texts, 0, _ZIP_DIGITS)
    sure = pc.and_(pc.match_substring_regex(texts, _PLAIN_US_ZIP), pc.not_equal(digits, "0" * _ZIP_DIGITS))
    return pc.if_else(sure, digits, None)
