"""What all rules share: trimming, placeholders, digits of other scripts, numbers written as text, letters only.

Every function gives the same answer for its own answer, so that text that was clean already stays as it is.
"""

from __future__ import annotations

import re
import string
import unicodedata
from functools import cache

# Marks that take no place on a screen: copies from spreadsheets, web pages and chats leave them behind.
ZERO_WIDTH = (
    "\u00ad\u034f\u061c\u115f\u1160\u180e\u200b\u200c\u200d\u200e\u200f\u2028\u2029"
    "\u202a\u202b\u202c\u202d\u202e\u2060\u2061\u2062\u2063\u2064\u2066\u2067\u2068\u2069\u3164\ufeff\uffa0"
)
_CONTROLS = "".join(chr(code) for code in (*range(0x20), *range(0x7F, 0xA0)))
_SPACES = "\u0020\u00a0\u1680\u2000\u2001\u2002\u2003\u2004\u2005\u2006\u2007\u2008\u2009\u200a\u202f\u205f\u3000"
INVISIBLE = _SPACES + _CONTROLS + ZERO_WIDTH

_PLACEHOLDERS = frozenset({"", "null", "none", "n/a", "nan"})
_LONGEST_PLACEHOLDER = max(map(len, _PLACEHOLDERS))

_DELETE_ZERO_WIDTH = {ord(mark): None for mark in ZERO_WIDTH}
_DELETE_INVISIBLE = {ord(mark): None for mark in INVISIBLE}
_PLAIN_SPACES = dict.fromkeys(map(ord, _SPACES), " ")
_DELETE_ASCII_MARKS = {ord(mark): None for mark in string.punctuation + INVISIBLE}
# Letters by Unicode's classes, punctuation by use: the half rings and primes that people type for an apostrophe.
_APOSTROPHE_LETTERS = frozenset("\u02b9\u02ba\u02bb\u02bc\u02bd\u02be\u02bf\u02c8\u02ca\u02cb\ua78b\ua78c")
_VARIATION_SELECTORS = frozenset(chr(code) for code in (*range(0xFE00, 0xFE10), *range(0xE0100, 0xE01F0)))
# Control, format and surrogate marks; separators; punctuation; symbols. Unassigned code points stay: a newer Unicode
# may make letters of them, and the answer must not depend on the Python at hand.
_MARKS_OF_NO_NAME = ("Cc", "Cf", "Cs", "Z", "P", "S")

_WHOLE_NUMBER = re.compile(r"(\d+)\.0{1,2}", re.ASCII)
# As Python, Java and Arrow print large floats; "1e5" may be somebody's postal code.
_EXPONENT = re.compile(r"(\d)(?:\.(\d+)[eE]\+?|[eE]\+)(\d{1,2})", re.ASCII)
_NOT_A_TO_Z = re.compile(r"[^a-z]+")


def trim(text: str) -> str:
    """Drop white space, controls and zero-width marks (a BOM, say) from both ends."""
    return text.strip(INVISIBLE)


def is_placeholder(trimmed: str) -> bool:
    """Whether trimmed text stands for no value: nothing, null, none, n/a, nan, in any case."""
    return len(trimmed) <= _LONGEST_PLACEHOLDER and trimmed.lower() in _PLACEHOLDERS


def without_zero_width(text: str) -> str:
    """Drop zero-width marks wherever they stand."""
    return text if text.isascii() else text.translate(_DELETE_ZERO_WIDTH)


def without_blanks(text: str) -> str:
    """Drop white space, controls and zero-width marks wherever they stand."""
    return text.translate(_DELETE_INVISIBLE)


def plain_spaces(text: str) -> str:
    """Write spaces of any width as the plain one."""
    return text if text.isascii() else text.translate(_PLAIN_SPACES)


def ascii_digits(text: str) -> str:
    """Write decimal digits of any script as 0 to 9."""
    if text.isascii():
        return text
    return "".join(_ascii_digit(mark) for mark in text)


def _ascii_digit(mark: str) -> str:
    value = unicodedata.decimal(mark, None)
    return mark if value is None else str(value)


def whole_number(text: str) -> str:
    """Write a whole number that went through a float (``2108.0``, ``6.505551212E9``) with its digits alone.

    Any other text comes back as it is.
    """
    if plain := _WHOLE_NUMBER.fullmatch(text):
        return plain[1]
    if power := _EXPONENT.fullmatch(text):
        lead, fraction, zeros = power[1], (power[2] or "").rstrip("0"), int(power[3])
        if len(fraction) <= zeros:
            return lead + fraction.ljust(zeros, "0")
    return text


def letters_of_name(text: str, *, transliterate: bool) -> str:
    """Lower-case a name and drop punctuation, symbols, white space and invisible marks; letters of any script stay.

    The result is in Unicode's composed form (NFC): Meta's own example ``valéry`` is the hash of that form. Source:
    https://developers.facebook.com/documentation/ads-commerce/conversions-api/parameters/customer-information-parameters

    :param text: the name as stored.
    :param transliterate: spell it with the letters a to z first.
    """
    if not text.isascii():
        text = unicodedata.normalize("NFC", text)
        if transliterate:
            text = spell_with_ascii(text)
    if text.isascii():
        return text.lower().translate(_DELETE_ASCII_MARKS)
    kept = "".join(mark for mark in text.lower() if _belongs_to_name(mark))
    return unicodedata.normalize("NFC", kept)


@cache
def _belongs_to_name(mark: str) -> bool:
    if mark in _APOSTROPHE_LETTERS or mark in _VARIATION_SELECTORS or mark in ZERO_WIDTH:
        return False
    return not unicodedata.category(mark).startswith(_MARKS_OF_NO_NAME)


def letters_a_to_z(text: str, *, transliterate: bool) -> str:
    """Lower-case text and delete everything that is not one of the letters a to z.

    :param text: text as stored.
    :param transliterate: spell it with the letters a to z first, instead of losing the others.
    """
    if not text.isascii():
        text = unicodedata.normalize("NFC", text)
        if transliterate:
            text = spell_with_ascii(text)
    return _NOT_A_TO_Z.sub("", text.lower())


def spell_with_ascii(text: str) -> str:
    """Spell text of any script with ASCII (``ü`` as ``u``, ``山`` as ``Shan``)."""
    from anyascii import anyascii  # noqa: PLC0415 - tables of every script, needed by few

    return anyascii(text)


def fold(text: str) -> str:
    """Reduce a word to what is compared in word lists: letters and digits, no case, no accents, no apostrophes."""
    folded = unicodedata.normalize("NFKD", text.casefold())
    return "".join(mark for mark in folded if mark.isalnum() and mark not in _APOSTROPHE_LETTERS)
