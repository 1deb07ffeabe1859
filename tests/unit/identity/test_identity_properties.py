"""What must hold for any input at all."""
# ruff: noqa: E501, RUF001 - tables of examples read best one a line

from __future__ import annotations

import hashlib
import math
import random
from datetime import date
from decimal import Decimal
from itertools import pairwise
from typing import Any

import phonenumbers
import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from airflow_provider_fbca.identity import ATTRIBUTES, KEYS, Blank, Context, Preparer, identify, resolve_mapping
from airflow_provider_fbca.identity.phone_tables import digits_by_table
from airflow_provider_fbca.identity.phones import digits_by_libphonenumber
from airflow_provider_fbca.identity.rule import country_of_cell
from airflow_provider_fbca.identity.text import is_placeholder, trim

NOTHING = hashlib.sha256(b"").digest()


def examples(count: int) -> settings:
    """Give settings for so many examples, without a deadline: machines differ."""
    return settings(deadline=None, max_examples=count, suppress_health_check=[HealthCheck.too_slow], database=None)


COUNTRIES = [None, "", "US", "fr", "Deutschland", "uk", "CAN", "PR", "Narnia", "pl", "JP", " it ", "none"]
PIECES = [
    *("mary@example.com", " MARY@Example.COM\x1c", "a@b@c.de", "é@b.co", "x" * 64, "A" * 64, "0" * 32, "null", " N/A ", "nan"),
    *("+1 (555) 987-6543", "06 12 34 56 78", "0049 170 1234567", "(650) 555-1212", "+44 (0)7911 123456", "6505551212.0"),
    *("O'Neill", "İpek", "ΟΔΥΣΣΕΥΣ", "São Paulo", "e\u0301", "山田", "\u200b", "\ufeff", "\0", "St. Louis", "California", "ON"),
    *("94025-3215", "2108", "M1 1AE", "K1A 0B1", "1990-05-02", "19900502", "5", "31", "May", "05/02/1990", "m", "Frau", "us"),
    *("6D92078A-8246-4BA4-AE5B-76104861E7DC", "00000000-0000-0000-0000-000000000000", "44.5", "-1", "1e999", "٥", "A@B.co"),
]  # fmt: skip
TEXTS = st.one_of(
    st.none(),
    st.sampled_from(PIECES),
    st.text(max_size=12),
    st.text(st.characters(max_codepoint=0x7F), max_size=12),
    st.text("0123456789+-(). xX", max_size=16),
    st.builds("{}@{}.{}".format, *[st.text("aAbB0._-+é \u0130\x1c", max_size=4)] * 3),
    st.builds(str.__add__, st.sampled_from(PIECES), st.text(max_size=2)),
    st.builds(str.__add__, st.text(max_size=2), st.sampled_from(PIECES)),
)
MAPPING = {
    **{key: key for key in KEYS if key not in {"COUNTRY", "EXTERN_ID", *ATTRIBUTES}},
    "where": "COUNTRY",
    "id": "EXTERN_ID",
    "born": "DOB",
}


def expected_cell(key: str, text: str | None, context: Context) -> Any:
    outcome = identify(KEYS[key], text, context)
    if isinstance(outcome, Blank):
        return None
    return float(outcome) if key == "LOOKALIKE_VALUE" else outcome


def expected_context(where: str | None, default: str | None, transliterate: bool) -> Context:
    country = country_of_cell(where or "")
    if country is Blank.EMPTY:
        return Context(default, transliterate)
    return Context(None if isinstance(country, Blank) else country, transliterate)


@examples(300)
@given(
    key=st.sampled_from(sorted(set(KEYS) - ATTRIBUTES - {"COUNTRY", "EXTERN_ID"} | {"LOOKALIKE_VALUE"})),
    cells=st.lists(st.tuples(TEXTS, st.sampled_from(COUNTRIES)), min_size=1, max_size=30),
    default=st.sampled_from([None, "us", "de"]),
    transliterate=st.booleans(),
    cuts=st.lists(st.integers(0, 30), max_size=4),
)
def test_batches_give_what_the_plain_rule_gives_however_they_are_cut(
    key: str, cells: list[tuple[str | None, str | None]], default: str | None, transliterate: bool, cuts: list[int]
) -> None:
    ids = [f"id{row}" for row in range(len(cells))]
    table = pa.record_batch(
        {
            "id": ids,
            key: pa.array([text for text, _ in cells], pa.string()),
            "where": pa.array([where for _, where in cells], pa.string()),
        }
    )
    mapping = resolve_mapping(table.schema.names, {"id": "EXTERN_ID", key: key, "where": "COUNTRY"})
    options: dict[str, Any] = {"default_country": default, "transliterate": transliterate}
    preparer = Preparer(mapping, value_based=key == "LOOKALIKE_VALUE", **options)
    edges = sorted({0, len(cells), *(cut for cut in cuts if cut < len(cells))})
    prepared = [preparer.prepare(table.slice(a, b - a)) for a, b in pairwise(edges)]
    got = dict(
        zip(
            (cell for batch in prepared for cell in batch.column("EXTERN_ID").to_pylist()),
            (cell for batch in prepared for cell in batch.column(key).to_pylist()),
            strict=True,
        )
    )
    want = {
        row: expected_cell(key, text, expected_context(where, default, transliterate))
        for row, (text, where) in zip(ids, cells, strict=True)
    }
    if key == "LOOKALIKE_VALUE":
        want = {row: cell for row, cell in want.items() if cell is not None}
    assert got == want
    assert list(got) == list(want)
    report = preparer.report
    assert report.rows_in == len(cells) == report.rows_out + sum(report.rejected.values())
    for counts in report.keys.values():
        assert counts.filled + counts.blank + counts.invalid.total() == len(cells)


@examples(60)
@given(cells=st.lists(TEXTS, min_size=1, max_size=20), default=st.sampled_from([None, "us"]))
def test_rows_stay_if_and_only_if_a_combination_is_filled(cells: list[str | None], default: str | None) -> None:
    shuffled = random.Random(len(cells))
    columns = {name: pa.array(shuffled.sample(cells, len(cells)), pa.string()) for name in MAPPING}
    preparer = Preparer(resolve_mapping(list(columns), MAPPING), default_country=default)
    prepared, rejects = preparer.prepare_with_rejects(pa.record_batch(columns))
    filled = [{name for name, cell in row.items() if cell is not None} for row in prepared.to_pylist()]
    single = {"EMAIL", "PHONE", "MADID", "EXTERN_ID", "APPUID", "PAGEUID"}
    for names in filled:
        assert names & single or ({"FN", "LN"} <= names and names & {"ZIP", "CT", "DOBY"})
    rejected = [line["row"] for line in rejects.to_pylist() if line["key"] is None]
    assert len(rejected) + prepared.num_rows == len(cells) == preparer.report.rows_in
    assert rejected == sorted(set(rejected))


@examples(300)
@given(key=st.sampled_from(list(KEYS)), text=TEXTS, country=st.sampled_from([None, "us", "fr"]), date_too=st.booleans())
def test_blanks_never_hash(key: str, text: str | None, country: str | None, date_too: bool) -> None:
    outcome = identify(KEYS[key], text, Context(country), whole_date=date_too)
    assert outcome not in {"", NOTHING, None}
    if text is None or is_placeholder(trim(text)):
        assert outcome is Blank.EMPTY


@examples(600)
@given(
    key=st.sampled_from(["EMAIL", "GEN", "DOBY", "DOBM", "DOBD", "LN", "FN", "FI", "CT", "ST", "ZIP", "COUNTRY", "MADID", "EXTERN_ID", "LOOKALIKE_VALUE", "APPUID"]),
    text=TEXTS,
    country=st.sampled_from([None, "us", "ca", "gb", "fr", "pr"]),
    transliterate=st.booleans(),
)  # fmt: skip
def test_normalising_twice_changes_nothing(
    key: str, text: str | None, country: str | None, transliterate: bool
) -> None:
    context = Context(country, transliterate)
    trimmed = trim(text or "")
    if is_placeholder(trimmed):
        return
    once = KEYS[key].normalise(trimmed, context)
    if isinstance(once, str):
        assert once
        assert KEYS[key].normalise(once, context) == once


@examples(60)
@given(text=TEXTS, country=st.sampled_from([None, "us", "fr", "it", "de"]))
def test_a_normalised_phone_is_read_again_as_itself(text: str | None, country: str | None) -> None:
    trimmed = trim(text or "")
    if is_placeholder(trimmed):
        return
    once = KEYS["PHONE"].normalise(trimmed, Context(country))
    if isinstance(once, str):
        assert once.isascii()
        assert once.isdigit()
        assert KEYS["PHONE"].normalise(f"+{once}", Context()) == once


def numbers_of(region: str, pick: random.Random) -> list[str]:
    """Give numbers of a country in the ways they are written, right ones and spoilt ones."""
    kinds = (
        phonenumbers.PhoneNumberType.MOBILE,
        phonenumbers.PhoneNumberType.FIXED_LINE,
        phonenumbers.PhoneNumberType.VOIP,
    )
    found = []
    for kind in kinds:
        number = phonenumbers.example_number_for_type(region, kind)
        if number is None:
            continue
        for form in range(3):
            text = phonenumbers.format_number(number, form)
            digits = "".join(mark for mark in text if mark.isdigit())
            spoilt = list(text)
            spoilt[pick.randrange(len(spoilt))] = pick.choice("0123456789 ")
            found += [text, digits, "0" + digits, "00" + digits, "+" + digits, "+0" + digits, "".join(spoilt)]
            found += [
                text[:-1],
                text + str(pick.randrange(10)),
                digits[1:],
                digits[:-2],
                f"({digits[:3]}) {digits[3:]}",
            ]
            found += [f"{digits}.0", f"+{digits[:2]} (0){digits[2:]}", f"0{digits[2:]}", f"1{digits}", f"8{digits}"]
    return found


@pytest.mark.parametrize("chunk", range(4))
def test_usual_phones_are_decided_as_libphonenumber_does(chunk: int) -> None:
    pick = random.Random(chunk)
    regions = sorted(phonenumbers.SUPPORTED_REGIONS)[chunk::4]
    short_cuts = 0
    for region in regions:
        others = pick.sample(regions, 2)
        for text in numbers_of(region, pick)[pick.randrange(3) :: 3]:
            for country in (region.lower(), others[0].lower(), None):
                quick = digits_by_table(text, country)
                if quick is not None:
                    short_cuts += 1
                    assert quick == digits_by_libphonenumber(text, country), (region, country)
    assert short_cuts > 1000


@examples(1500)
@given(
    text=st.builds(
        str.__add__,
        st.sampled_from(["", "", "+", "00", "0", "1", "+1", "+0", "(0", "44", "+44 (0)", "+ 0", "0 0"]),
        st.text("0123456789012345678901234567890123456789-(). ", min_size=4, max_size=14),
    ).map(str.strip),
    country=st.sampled_from([None, "us", "fr", "it", "de", "br", "ru", "gb", "mx", "ar", "jp", "ca", "jm"]),
)
def test_any_digits_are_decided_as_libphonenumber_does(text: str, country: str | None) -> None:
    quick = digits_by_table(text, country)
    assert quick is None or quick == digits_by_libphonenumber(text, country)


NUMBERS = st.one_of(
    st.integers(-(10**16), 10**16), st.integers(0, 10**6), st.sampled_from([2108, 6505551212, 1990, 19900502])
)
KEYS_OF_NUMBERS = ["PHONE", "ZIP", "DOBY", "DOBM", "DOBD", "EXTERN_ID", "APPUID", "LN"]


def prepared_cells(key: str, array: pa.Array, *, whole_date: bool = False) -> list[Any]:
    columns = {"anchor": ["a@b.co"] * len(array), "it": array}
    mapping = resolve_mapping(list(columns), {"anchor": "EMAIL", "it": "DOB" if whole_date else key})
    preparer = Preparer(mapping, default_country="US")
    return list(preparer.prepare(pa.record_batch(columns)).column(key).to_pylist())


@examples(150)
@given(key=st.sampled_from(KEYS_OF_NUMBERS), number=NUMBERS, scale=st.integers(0, 9))
def test_numbers_of_every_type_give_what_their_text_gives(key: str, number: int, scale: int) -> None:
    want = [expected_cell(key, str(number), Context("us"))]
    assert prepared_cells(key, pa.array([number])) == want
    assert prepared_cells(key, pa.array([Decimal(number)], pa.decimal128(18 + scale, scale))) == want
    if abs(number) < 2**53:
        assert prepared_cells(key, pa.array([float(number)])) == want
    for kind in (pa.large_string(), pa.string_view(), pa.binary(), pa.large_binary()):
        assert prepared_cells(key, pa.array([str(number)]).cast(kind)) == want
    assert prepared_cells(key, pa.array([str(number)] * 2).dictionary_encode()) == want * 2


@examples(60)
@given(
    day=st.dates(date(1880, 1, 1), date(2040, 1, 1)),
    unit=st.sampled_from(["s", "ms", "us", "ns"]),
    hour=st.integers(0, 86_399),
)
def test_dates_of_every_type_give_what_their_text_gives(day: date, unit: str, hour: int) -> None:
    seconds = (day - date(1970, 1, 1)).days * 86_400 + hour
    stamps = pa.array([seconds], pa.timestamp("s")).cast(pa.timestamp(unit))
    for key in ("DOBY", "DOBM", "DOBD"):
        outcome = identify(KEYS[key], day.isoformat(), Context("us"), whole_date=True)
        want = [None if isinstance(outcome, Blank) else outcome]
        forms = [pa.array([day]), pa.array([day], pa.date64()), stamps, pa.array([f"{day:%Y%m%d}"])]
        forms += [pa.array([int(f"{day:%Y%m%d}")]), pa.array([float(f"{day:%Y%m%d}")]), pa.array([day.isoformat()])]
        for form in forms:
            assert prepared_cells(key, form, whole_date=True) == want


@examples(60)
@given(value=st.floats(allow_nan=True, allow_infinity=True))
def test_values_keep_every_bit(value: float) -> None:
    columns = {"email": ["a@b.co"], "value": [value]}
    prepared = Preparer(resolve_mapping(list(columns)), value_based=True).prepare(pa.record_batch(columns))
    assert prepared.column("LOOKALIKE_VALUE").to_pylist() == ([value] if math.isfinite(value) and value >= 0 else [])
