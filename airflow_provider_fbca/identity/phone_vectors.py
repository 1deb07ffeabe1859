"""Whole columns of phone numbers at once, where they are written in the usual forms.

The tables are those of :mod:`~airflow_provider_fbca.identity.phone_tables`. Their patterns run inside Arrow over all
numbers of a column, and the digits are put together in the column's memory, so that no Python object is made for a
number. What is not surely right is left to the plain rule; a test holds the two together.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from airflow_provider_fbca.identity.phone_patterns import MOST_DIGITS, codes_abroad, home_of
from airflow_provider_fbca.identity.vectors import matches, strings_over, without_marks

if TYPE_CHECKING:
    from airflow_provider_fbca.identity.phone_patterns import Home
    from airflow_provider_fbca.identity.vectors import Bytes, Flags, Numbers

_USUAL = r"^\+?\(?[0-9][0-9 ().-]*$"
_UNUSUAL = r"\( *0 *\)|\.00?$"  # a zero in brackets, the fraction of a float
_PLUS, _ZERO = b"+0"

_PUNCTUATION = b" ().-"


def digits_of_usual(texts: pa.Array, country: str | None) -> pa.Array:
    """Give calling code and number for each text that is a number in a usual form, null for any other.

    :param texts: Arrow strings, not trimmed, without null.
    :param country: the rows' country, a lower-case code.
    """
    texts = pc.ascii_trim(texts, characters=" ")
    usual = matches(texts, _USUAL) & ~matches(texts, _UNUSUAL)
    if not usual.any():
        return pa.nulls(len(texts), pa.string())
    numbers = _Numerals.of(texts)
    plus = usual & (numbers.marks(0) == _PLUS)
    zeros = usual & _begin_with_00(texts)
    none = np.zeros(len(texts), np.bool_)
    home = None if country is None else home_of(country)
    whole = after_zero = none
    if home is not None:
        whole = numbers.matches(home.region.numbers.pattern)
        if (numbers.marks(0) == _ZERO).any():
            after_zero = numbers.matches(f"0(?:{home.region.numbers.pattern})")
        # In some countries "00" begins something else.
        zeros &= ~(whole | after_zero | home.region.longer_than_00)
    taken = _abroad(numbers, plus, zeros)
    skipped = plus + 2 * zeros.astype(np.int32)
    if home is None:
        return numbers.written(taken, skipped, coded=none, code=b"")
    rest = usual & ~plus & ~_begin_with_00(texts)
    national, zero = _national(home, numbers, rest, whole, after_zero)
    taken |= national | _with_code(home, numbers, rest, whole)
    return numbers.written(taken, skipped + zero, coded=national, code=home.region.code.encode())


@dataclass(frozen=True, slots=True, repr=False)
class _Numerals:
    """Numbers without punctuation.

    :param data: the bytes of all of them.
    :param begins: where in them each begins, and where the last one ends.
    :param texts: the same as Arrow strings, which share the memory.
    """

    data: Bytes
    begins: Numbers
    texts: pa.Array

    @classmethod
    def of(cls, texts: pa.Array) -> _Numerals:
        """Drop the punctuation of phone numbers.

        :param texts: Arrow strings without null.
        """
        data, begins = without_marks(texts, _PUNCTUATION)
        return cls(data, begins, strings_over(data, begins))

    def marks(self, position: int | Numbers) -> Bytes:
        """Give the byte at a position of each number, any byte where it is shorter."""
        return self.data.take(self.begins[:-1] + position, mode="clip")

    def matches(self, pattern: str) -> Flags:
        """Tell which numbers a pattern matches as a whole."""
        return matches(self.texts, f"^(?:{pattern})$")

    def begin_with(self, pattern: str) -> Flags:
        """Tell which numbers begin with what a pattern matches."""
        return matches(self.texts, f"^(?:{pattern})")

    def lengths(self) -> Numbers:
        """Give how many digits each number has."""
        return np.minimum(np.diff(self.begins), MOST_DIGITS)

    def written(self, taken: Flags, skipped: Numbers, coded: Flags, code: bytes) -> pa.Array:
        """Give the numbers as Arrow strings.

        :param taken: which of them; the others are null.
        :param skipped: how many bytes to leave out at the beginning of each, two at the most.
        :param coded: which of them get the calling code put in front.
        :param code: the calling code.
        """
        kept = np.ones(len(self.data), np.bool_)
        kept[self.begins[:-1][skipped > 0]] = False
        kept[self.begins[:-1][skipped > 1] + 1] = False
        begins = np.zeros_like(self.begins)
        np.cumsum(np.diff(self.begins) - skipped + np.int32(len(code)) * coded, dtype=np.int32, out=begins[1:])
        data = np.empty(begins[-1], np.uint8)
        numerals = np.ones(len(data), np.bool_)
        for offset, digit in enumerate(code):
            places = begins[:-1][coded] + offset
            numerals[places] = False
            data[places] = digit
        data[numerals] = self.data[kept]
        return strings_over(data, begins, taken)


def _abroad(numbers: _Numerals, plus: Flags, zeros: Flags) -> Flags:
    """Tell which of the numbers behind ``+`` or ``00`` are whole and have no trunk prefix behind the calling code."""
    candidates = plus | zeros
    if not candidates.any():
        return candidates
    codes = codes_abroad()
    lead = np.where(plus, np.int32(1), np.int32(2))
    three = [numbers.marks(lead + place).astype(np.int32) - _ZERO for place in range(3)]
    which = codes.of_digits.take(three[0] * 100 + three[1] * 10 + three[2], mode="clip")
    found = candidates & codes.whole[which, np.clip(numbers.lengths() - lead, 0, MOST_DIGITS)]
    trunk_prefixes = [codes.trunk_prefixes[code] for code in np.unique(which[found])]
    pattern = "|".join(prefix for prefix in trunk_prefixes if prefix)
    return found & ~numbers.begin_with(rf"(?:\+|00)(?:{pattern})") if pattern else found


def _national(
    home: Home, numbers: _Numerals, candidates: Flags, whole: Flags, after_zero: Flags
) -> tuple[Flags, Flags]:
    """Tell which numbers are national ones, and which of these have a trunk zero in front.

    :param home: the country.
    :param numbers: the numbers.
    :param candidates: those to look at.
    :param whole: those that the country's pattern matches.
    :param after_zero: those that it matches behind a zero.
    """
    candidates = candidates & ~numbers.begin_with(home.region.prefixes.pattern)
    lengths = numbers.lengths()
    plain = candidates & whole & home.whole[lengths]
    if not home.region.trunk_zero:
        return plain, np.zeros_like(plain)
    zero = candidates & after_zero & home.whole[lengths - 1]
    return zero | (plain & (numbers.marks(0) != _ZERO)), zero


def _with_code(home: Home, numbers: _Numerals, candidates: Flags, whole: Flags) -> Flags:
    """Tell which numbers carry the calling code, having lost their plus.

    :param home: the country.
    :param numbers: the numbers.
    :param candidates: those to look at.
    :param whole: those that the country's pattern matches, calling code or not.
    """
    found = candidates & numbers.begin_with(home.region.code)
    if home.lost_plus is None or not found.any():
        return np.zeros_like(found)
    lengths = numbers.lengths()
    exists = np.zeros_like(found)
    for pattern, counts in home.lost_plus.kinds:
        exists |= numbers.matches(pattern) & counts[lengths]
    found &= exists & numbers.matches(home.lost_plus.every_kind)
    if home.lost_plus.local:
        found &= ~(whole | numbers.matches(home.lost_plus.local))
    if home.lost_plus.refused:
        found &= ~numbers.begin_with(home.lost_plus.refused)
    return found


def _begin_with_00(texts: pa.Array) -> Flags:
    found: Flags = pc.starts_with(texts, "00").to_numpy(zero_copy_only=False)
    return found
