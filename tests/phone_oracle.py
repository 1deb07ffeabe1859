"""Phones of all countries, written as people and systems write them, read by us and by libphonenumber alone.

    python -m tests.phone_oracle [count] [seed]

Every number begins as one whose digits are known, so that where the two differ it can be told who is right. The oracle
does only what the documents promise: it parses with the country from ``+`` or ``00``, else the row's, takes a number
whose length is possible, and writes E164. It is not handed anything that our code made; of a float it gets the number.
"""

# ruff: noqa: E501, RUF001 - digits of all scripts; tables read best one a line

from __future__ import annotations

import random
import re
import sys
from collections import Counter, defaultdict
from dataclasses import dataclass
from typing import TYPE_CHECKING

import phonenumbers
from phonenumbers import PhoneNumber, PhoneNumberFormat, PhoneNumberType, ValidationResult

from airflow_provider_fbca.identity import Blank, Context
from airflow_provider_fbca.identity.phones import normalise_phone
from airflow_provider_fbca.identity.text import trim

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

REGIONS = sorted(phonenumbers.SUPPORTED_REGIONS)
_TYPES = [kind for kind in PhoneNumberType.values() if kind != PhoneNumberType.UNKNOWN]
MARKS = (".", "-", "/", "  ", "\u00a0", "\u2009", "\u202f", "\u2011", "\u2013")
_FULL_WIDTH = str.maketrans("0123456789+()-", "０１２３４５６７８９＋（）－")
_ARABIC = str.maketrans("0123456789", "٠١٢٣٤٥٦٧٨٩")
_PERSIAN = str.maketrans("0123456789", "۰۱۲۳۴۵۶۷۸۹")
_DEVANAGARI = str.maketrans("0123456789", "०१२३४५६७८९")


@dataclass(frozen=True)
class Written:
    """A phone number as a warehouse holds it.

    :param text: the cell.
    :param country: the row's country, lower case; None where it names none.
    :param form: how the number is written.
    :param digits: what it means, None where it was spoilt and may mean anything.
    :param number: the cell as a number, where it is one.
    """

    text: str
    country: str | None
    form: str
    digits: str | None
    number: int | None = None


def numbers(region: str, pick: random.Random) -> Iterator[PhoneNumber]:
    """Give an example of each type, and the same with other last digits: valid, possible or neither."""
    for kind in _TYPES:
        example = phonenumbers.example_number_for_type(region, kind)
        if example is None:
            continue
        yield example
        national = phonenumbers.national_significant_number(example)
        keep = pick.randrange(1, len(national))
        text = national[:keep] + "".join(str(pick.randrange(10)) for _ in national[keep:])
        other = PhoneNumber(country_code=example.country_code)
        phonenumbers.phonenumberutil._set_italian_leading_zeros_for_phone_number(text, other)
        other.national_number = int(text)
        if phonenumbers.national_significant_number(other) == text:
            yield other


def spelled(number: PhoneNumber, region: str, pick: random.Random) -> Iterator[Written]:
    """Give a number in one way of each kind that it is written in."""
    national = phonenumbers.national_significant_number(number)
    code = str(number.country_code)
    digits = code + national
    own = region.lower()
    any_country = pick.choice([None, own, pick.choice(REGIONS).lower()])
    in_country = phonenumbers.format_number(number, PhoneNumberFormat.NATIONAL)
    abroad = phonenumbers.format_number(number, PhoneNumberFormat.INTERNATIONAL)
    other_digits = pick.choice([_FULL_WIDTH, _ARABIC, _PERSIAN, _DEVANAGARI])
    marks = pick.choice(MARKS)
    trunk = phonenumbers.ndd_prefix_for_region(region, strip_non_digits=True) or ""
    written = {
        "E164": f"+{digits}",
        "international": abroad,
        "international, other marks": abroad.replace(" ", marks).replace("-", marks),
        "RFC 3966": phonenumbers.format_number(number, PhoneNumberFormat.RFC3966),
        "00": f"00{digits}",
        "00, spaced": f"00 {abroad[1:]}",
        "direction marks": f"\u200e{abroad}\u202c",
        "digits of other scripts": abroad.translate(other_digits),
        "extension": abroad + pick.choice([" x12", " ext. 345", " extn 7", "#12", ";ext=9"]),
    }
    for form, text in written.items():
        yield Written(text, any_country, form, digits)
    # Where the number itself begins with 0, nobody can tell whose the zero in brackets is.
    yield Written(f"+{code} (0){national}", any_country, "zero in brackets", None if national[0] == "0" else digits)
    yield Written(f"+{code} 0{national}", any_country, "zero behind the code", digits if trunk == "0" else None)
    written = {
        "national": in_country,
        "national, other marks": re.sub(r"\D+", pick.choice(("", *MARKS)), in_country),
        "national, digits of other scripts": in_country.translate(other_digits),
        "national, extension": in_country + pick.choice([" x12", " ext. 345", "#12"]),
        "national digits": national,
        "trunk prefix": f"{trunk}{national}",
        "code without plus": digits,
        "dialled at home": phonenumbers.format_out_of_country_calling_number(number, region),
    }
    for form, text in written.items():
        yield Written(text, own, form, digits)
    for caller in ("US", "DE", "AU", "BR"):
        text = phonenumbers.format_out_of_country_calling_number(number, caller)
        yield Written(text, caller.lower(), f"dialled in {caller}", digits)
    for form, value in (("national", int(national)), ("code without plus", int(digits))):
        yield Written(f"{value}", own, f"{form}, int", digits, value)
        yield Written(f"{value}.0", own, f"{form}, float", digits, value)
        yield Written(_exponent(value), own, f"{form}, large float", digits, value)
    if region in {"BR", "CO", "CL"}:
        carrier = pick.choice(["15", "21", "41"])
        text = phonenumbers.format_national_number_with_carrier_code(number, carrier)
        yield Written(text, own, "carrier code", digits)
    yield Written(in_country, None, "no country", None)
    yield Written(digits, None, "no country", None)
    spoilt = list(pick.choice([abroad, in_country, digits]))
    spoilt[pick.randrange(len(spoilt))] = pick.choice(["", *"0123456789 -x"])
    yield Written("".join(spoilt), own, "one mark spoilt", None)
    yield Written(pick.choice([abroad, in_country]) + str(pick.randrange(10)), own, "one digit more", None)
    yield Written(pick.choice([abroad, in_country])[:-1], own, "one digit less", None)


def corpus(count: int, seed: int) -> Iterator[Written]:
    """Give so many written numbers, of all countries in turn."""
    pick = random.Random(seed)
    given = 0
    while given < count:
        for region in pick.sample(REGIONS, len(REGIONS)):
            number = pick.choice(list(numbers(region, pick)))
            forms = list(spelled(number, region, pick))
            for written in pick.sample(forms, 4):
                yield written
                given += 1
                if given == count:
                    return


def by_libphonenumber(written: Written) -> str | None:
    """Give what libphonenumber alone makes of the cell under the documented policy, None where it refuses."""
    text = written.text.strip() if written.number is None else str(written.number)
    region = None
    if text.startswith("00"):
        text = "+" + text[2:]
    elif "+" not in text and "＋" not in text:
        if written.country is None:
            return None
        region = written.country.upper()
    try:
        parsed = phonenumbers.parse(text, region)
    except phonenumbers.NumberParseException:
        return None
    if phonenumbers.is_possible_number_with_reason(parsed) != ValidationResult.IS_POSSIBLE:
        return None
    return phonenumbers.format_number(parsed, PhoneNumberFormat.E164)[1:].partition(";")[0]


def by_us(written: Written) -> str | None:
    """Give what the rule makes of the cell, None where it is blank."""
    found = normalise_phone(trim(written.text), Context(written.country))
    return None if isinstance(found, Blank) else found


def explain(written: Written, ours: str | None, theirs: str | None) -> str | None:
    """Give the class that a difference is of, None where it is of none."""
    text = written.text
    digits = re.sub(r"\D", "", text if written.number is None else str(written.number))
    classes = {
        "zero in brackets": "(0)" in text and ours is not None,
        "letters": re.search(r"[^\W\d]", re.sub(r"E\d+$|^tel:", "", text)),
        "thin spaces": theirs is None and re.search("[\u2009\u202f]", text),
        "00 that is more than 00": text.startswith("00") and written.country,
        "zeros behind the plus": theirs is None and text.startswith("+0"),
        "calling code without plus": ours == digits,
        "zero lost in a number": ours and ours.endswith(f"0{digits}"),
    }
    return next((told for told, holds in classes.items() if holds), None)


def _exists(digits: str) -> bool:
    return phonenumbers.is_valid_number(phonenumbers.parse(f"+{digits}"))


def _exponent(number: int) -> str:
    mantissa = str(number).rstrip("0")
    return f"{mantissa[0]}.{mantissa[1:] or '0'}E{len(str(number)) - 1}"


@dataclass
class Comparison:
    """What came of a comparison.

    :param read: how many cells were compared.
    :param agreed: how many both read alike, blank included.
    :param classes: for each class of difference, how often we were right, the oracle was, neither was known to be.
    :param examples: a few differences of each class.
    :param lost: where the oracle was right on a number that exists and we were not.
    :param unexplained: differences of no class.
    :param right: for each form with known digits, how many we read right, how many the oracle did, and of how many.
    """

    read: int
    agreed: int
    classes: dict[str, Counter[str]]
    examples: dict[str, list[Written]]
    lost: list[Written]
    unexplained: list[Written]
    right: dict[str, Counter[str]]


def compare(cells: Iterable[Written]) -> Comparison:
    """Read each cell both ways."""
    seen = Comparison(0, 0, defaultdict(Counter), defaultdict(list), [], [], defaultdict(Counter))
    for written in cells:
        ours, theirs = by_us(written), by_libphonenumber(written)
        seen.read += 1
        if written.digits:
            seen.right[written.form] += Counter(of=1, us=ours == written.digits, oracle=theirs == written.digits)
        if ours == theirs:
            seen.agreed += 1
            continue
        if theirs is not None and theirs == written.digits and _exists(theirs):
            seen.lost.append(written)
        told = explain(written, ours, theirs)
        if told is None:
            seen.unexplained.append(written)
            continue
        known = written.digits is not None
        verdict = "we" if known and ours == written.digits else "oracle" if known and theirs == written.digits else "?"
        seen.classes[told][verdict] += 1
        if len(seen.examples[told]) < 3:
            seen.examples[told].append(written)
    return seen


def main() -> int:
    """Compare as many as the command line says, and print what came of it."""
    count = int(sys.argv[1]) if len(sys.argv) > 1 else 200_000
    seed = int(sys.argv[2]) if len(sys.argv) > 2 else 1
    seen = compare(corpus(count, seed))
    print(f"phonenumbers {phonenumbers.__version__}, {len(REGIONS)} countries, seed {seed}")
    print(f"{seen.agreed} of {seen.read} agree ({seen.agreed / seen.read:.2%})")
    for told, verdicts in sorted(seen.classes.items()):
        print(
            f"{verdicts.total():6} {told}: {verdicts['we']} we are right, {verdicts['oracle']} oracle, {verdicts['?']} unknown"
        )
        for written in seen.examples[told]:
            print(
                f"       {written.text!r} {written.country}: we {by_us(written)}, oracle {by_libphonenumber(written)}"
            )
    print(f"{len(seen.unexplained)} unexplained, {len(seen.lost)} where the oracle is right and we are not")
    for written in [*seen.unexplained[:20], *seen.lost[:20]]:
        print(f"       {written} we {by_us(written)}, oracle {by_libphonenumber(written)}")
    for form, right in seen.right.items():
        print(
            f"{right['of']:6} {form}: {right['us'] / right['of']:.2%} right, oracle {right['oracle'] / right['of']:.2%}"
        )
    return len(seen.unexplained) + len(seen.lost) > 0


if __name__ == "__main__":
    sys.exit(main())
