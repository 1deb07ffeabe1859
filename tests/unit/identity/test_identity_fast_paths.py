"""Every fast path gives what the plain rule gives, or leaves the cell to it."""

from __future__ import annotations

import hashlib
import random
from typing import Any

import phonenumbers
import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from airflow_provider_fbca.identity import KEYS, Blank, Context, Preparer, columns, identify, memo, resolve_mapping
from airflow_provider_fbca.identity.columns import Habits, KeyColumn, digests_of
from airflow_provider_fbca.identity.phone_vectors import digits_of_usual
from airflow_provider_fbca.identity.phones import digits_by_libphonenumber

REGIONS = sorted(phonenumbers.SUPPORTED_REGIONS)
KINDS = (
    phonenumbers.PhoneNumberType.MOBILE,
    phonenumbers.PhoneNumberType.FIXED_LINE,
    phonenumbers.PhoneNumberType.VOIP,
    phonenumbers.PhoneNumberType.TOLL_FREE,
)


def examples(count: int) -> settings:
    return settings(deadline=None, max_examples=count, suppress_health_check=[HealthCheck.too_slow], database=None)


def mangled(region: str, pick: random.Random) -> str:
    """Give a number of a country as somebody may have typed it: prefixes, wrong digits, wrong lengths, marks."""
    code = str(phonenumbers.country_code_for_region(region))
    number = next(filter(None, (phonenumbers.example_number_for_type(region, kind) for kind in pick.sample(KINDS, 4))))
    digits = phonenumbers.national_significant_number(number)
    kept = pick.randrange(len(digits) + 1)
    wanted = len(digits) - kept + pick.choice((0, 0, 0, 0, 1, -1, 2))
    digits = digits[:kept] + "".join(pick.choice("0123456789") for _ in range(wanted))
    fronts = ("", "", "0", "1", "8", code, code, f"+{code}", f"+{code}", f"00{code}", f"011{code}", f"+{code}0")
    text = list(pick.choice((*fronts, f"+{code}(0)", "00", "+", "06", "9", f"90{code}", f"0{code}")) + digits)
    if pick.random() < 0.5:
        for _ in range(pick.randrange(5)):
            text.insert(pick.randrange(len(text) + 1), pick.choice(" ().-"))
    if pick.random() < 0.1:
        text = [" ", *text, " "]
    if pick.random() < 0.05:
        text.append(pick.choice((".0", ".00", "x1", "é")))
    return "".join(text)


@pytest.mark.parametrize("chunk", range(4))
def test_columns_of_phones_are_decided_as_libphonenumber_does(chunk: int) -> None:
    pick = random.Random(chunk)
    taken = 0
    for region in REGIONS[chunk::4]:
        texts = [mangled(region, pick) for _ in range(25)]
        for country in (region.lower(), pick.choice(REGIONS).lower(), None):
            for text, quick in zip(texts, digits_of_usual(pa.array(texts), country).to_pylist(), strict=True):
                if quick is not None:
                    taken += 1
                    assert quick == digits_by_libphonenumber(text.strip(), country), (text, country)
    assert taken > 500


@pytest.mark.parametrize(
    ("text", "country", "digits"),
    [
        ("33612345678", "fr", "33612345678"),
        ("491701234567", "de", "491701234567"),
        ("4917012345678", "de", "4917012345678"),
        ("39 333 123 4567", "it", "393331234567"),
        ("34 612 345 678", "es", "34612345678"),
        ("16505551212", "us", "16505551212"),
        ("(650) 555-1212", "us", "16505551212"),
        ("06 12 34 56 78", "fr", "33612345678"),
        ("0049 170 1234567", "us", "491701234567"),
        ("+44 7911 123456", None, "447911123456"),
        ("+44 (0)7911 123456", None, None),
        ("6505551212.0", "us", None),
        ("0011 33 612345678", "au", None),
        ("(", "us", None),
        ("+", None, None),
        ("", "us", None),
    ],
)
def test_phones_that_the_fast_path_takes_and_those_it_leaves(
    text: str, country: str | None, digits: str | None
) -> None:
    column = pa.array(["x", text, "+33612345678", ""])
    assert digits_of_usual(column, country).to_pylist() == [None, digits, "33612345678", None]
    assert digits_of_usual(column[1:2], country).to_pylist() == [digits]


@examples(1000)
@given(
    texts=st.lists(
        st.builds(
            str.__add__,
            st.sampled_from(["", "", "+", "00", "0", "1", "+1", "33", "49", "44", "39", "7", "61", "(0", "+44 (0)"]),
            st.text("0123456789012345678901234567890123456789-(). +x", max_size=14),
        ),
        max_size=8,
    ),
    country=st.sampled_from([None, "us", "fr", "it", "de", "br", "ru", "gb", "mx", "ar", "jp", "ca", "jm", "au", "zz"]),
)  # fmt: skip
def test_columns_of_any_digits_are_decided_as_libphonenumber_does(texts: list[str], country: str | None) -> None:
    for text, quick in zip(texts, digits_of_usual(pa.array(texts, pa.string()), country).to_pylist(), strict=True):
        assert quick is None or quick == digits_by_libphonenumber(text.strip(), country)


PLAIN = [key for key in KEYS.values() if key.plain is not None]
TEXTS = st.one_of(
    st.sampled_from(["null", "None", "nan.", "N/A", "a" * 32, "f" * 40, "A" * 64, "o'neill", "St. Louis", "-", " a"]),
    st.sampled_from(["00000", "00000-1234", "94025-3215", "2108", "00501 "]),
    st.text("abzABZ '.-\u00e9\u0130", max_size=40),
    st.text("0123456789- ", max_size=11),
    st.from_regex(r"\d{5}(-\d{4})?", fullmatch=True),
    st.from_regex(r"[A-Za-z]{1,3}[ @.'-]{0,2}[a-f]{1,30}\.co", fullmatch=True),
    st.uuids().map(str),
    st.text(max_size=6),
)  # fmt: skip


@examples(1000)
@given(
    key=st.sampled_from(PLAIN),
    texts=st.lists(TEXTS, min_size=1, max_size=10),
    country=st.sampled_from([None, "us", "pr", "fr", "gb"]),
    transliterate=st.booleans(),
)
def test_fast_paths_give_what_the_rule_gives(
    key: Any, texts: list[str], country: str | None, transliterate: bool
) -> None:
    column = pa.array(["before", *texts])[1:]  # slices are read where they are
    for text, quick in zip(texts, key.plain(column, country).to_pylist(), strict=True):
        if quick is not None:
            value = hashlib.sha256(quick.encode()).digest() if key.hashed else quick
            assert value == identify(key, text, Context(country, transliterate))


@examples(100)
@given(texts=st.lists(st.one_of(st.none(), st.text(max_size=70)), max_size=20), start=st.integers(0, 9))
def test_digests_of_columns(texts: list[str | None], start: int) -> None:
    column = pa.array(texts, pa.string())[start:]
    expected = [None if text is None else hashlib.sha256(text.encode()).digest() for text in texts[start:]]
    digests = digests_of(column)
    digests.validate(full=True)
    assert digests.to_pylist() == expected


@examples(100)
@given(outcomes=st.lists(st.one_of(st.sampled_from(Blank), st.binary(min_size=32, max_size=32)), max_size=20))
def test_outcomes_survive_the_memory(outcomes: list[Any]) -> None:
    column = KeyColumn.of_outcomes(KEYS["LN"], outcomes)
    again = KeyColumn.of_records(column.records())
    again.values.validate(full=True)
    assert again.values.equals(column.values)
    assert again.reasons.equals(column.reasons)


COLUMNS = {
    "EMAIL": "email",
    "PHONE": "phone",
    "GEN": "gender",
    "LN": "last",
    "ZIP": "zip",
    "COUNTRY": "country",
    "EXTERN_ID": "extern_id",
}


def rows_of(kind: str, rows: int) -> dict[str, pa.Array]:
    """Give columns that repeat, that never do, or that start as the one and go on as the other."""
    pick = random.Random(rows)
    spread = {"few": 3, "many": 10**9}
    begin, *_, end = (*kind.split(), *kind.split())
    tops = [spread[begin] if row < 200 else spread[end] for row in range(rows)]

    def cells(*forms: str) -> pa.Array:
        texts = [pick.choice(forms).format(pick.randrange(top)) for top in tops]
        return pa.array([pick.choice((text, text, text, text, "", None)) for text in texts], pa.string())

    return {
        "extern_id": pa.array([f"id{row}" for row in range(rows)]),
        "email": cells("P{}@Example.com", "ü{}@b.co", "bad {}"),
        "phone": cells("+1650{}", "06{}", "({})", "1650{}"),
        "last": cells("O'Neill", "Ån{}", "x{}"),
        "zip": cells("{:05}", "{}", "M1 1AE"),
        "country": pa.array([pick.choice(("us", "fr", None, "Narnia")) for _ in range(rows)]),
        "gender": pa.array([pick.choice(("m", "Frau", "?", None)) for _ in range(rows)]),
    }


@pytest.mark.parametrize("kind", ["few", "many", "few many", "many few"])
@pytest.mark.parametrize("size", [1, 70, 1000])
def test_columns_that_repeat_and_columns_that_do_not(kind: str, size: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memo, "_MOST", 100)
    monkeypatch.setattr(columns, "_FIRST_CELLS", 40)
    cells = rows_of(kind, 1000 if size > 1 else 100)
    preparer = Preparer(resolve_mapping(list(cells)), default_country="DE")
    table = pa.table(cells)
    got = pa.Table.from_batches(map(preparer.prepare, table.to_batches(max_chunksize=size))).to_pylist()
    want = []
    for row in table.to_pylist():
        country = {"us": "us", "fr": "fr", None: "de", "Narnia": None}[row["country"]]
        outcomes = {key: identify(KEYS[key], row[name], Context(country)) for key, name in COLUMNS.items()}
        want.append({name: None if isinstance(cell, Blank) else cell for name, cell in outcomes.items()})
    assert got == want
    assert all(len(known) <= 100 for known in preparer._memos.values())


def test_habits_are_asked_again_and_blanks_are_no_repetition() -> None:
    habits = Habits()
    mails = pa.array([f"{row}@b.co" if row % 8 else "" for row in range(5000)])
    names = pa.array([f"name {row * 7919 % 30_000}" for row in range(65_536)]).take(
        pa.array(random.Random(1).sample(range(65_536), 65_536))
    )
    assert not habits.repeats("email", mails)
    assert habits.repeats("last", names)
    assert [habits.repeats("email", names) for _ in range(9)].count(True) == 2
