"""Whole batches: which rows stay, what is counted, what is told."""

from __future__ import annotations

import hashlib
import json
import logging
import random
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pyarrow as pa
import pytest

from airflow_provider_fbca.exceptions import MappingError, OptionsError
from airflow_provider_fbca.identity import REJECTS_SCHEMA, Preparer, memo, resolve_mapping

NOTHING = hashlib.sha256(b"").digest()
MD5, SHA1 = hashlib.md5(b"mary@example.com").hexdigest(), hashlib.sha1(b"mary@example.com").hexdigest()


def sha(text: str) -> bytes:
    return hashlib.sha256(text.encode()).digest()


def prepare(columns: dict[str, Any], **options: Any) -> tuple[pa.RecordBatch, Preparer]:
    preparer = Preparer(resolve_mapping(list(columns)), **options)
    return preparer.prepare(pa.record_batch(columns)), preparer


def test_types_of_the_output() -> None:
    names = ["email", "phone", "madid", "extern_id", "value", "appuid", "pageuid"]
    schema = Preparer(resolve_mapping(names), value_based=True).schema
    assert schema == pa.schema(
        [
            ("EMAIL", pa.binary(32)),
            ("PHONE", pa.binary(32)),
            ("MADID", pa.string()),
            ("EXTERN_ID", pa.string()),
            ("LOOKALIKE_VALUE", pa.float64()),
            ("APPUID", pa.string()),
            ("PAGEUID", pa.string()),
        ]
    )


def test_rows_keep_their_order_and_stay_whole() -> None:
    order = random.Random(3)
    rows = 30_000
    emails = [order.choice(("", None, "bad", f"P{row}@Example.com", f"ü{row}@example.com")) for row in range(rows)]
    ids = [f"id-{row}" for row in range(rows)]
    names = [order.choice(("Ann", "Zoë", None)) for _ in range(rows)]
    prepared, preparer = prepare({"first": names, "email": emails, "extern_id": ids})
    assert prepared.column("EXTERN_ID").to_pylist() == ids
    expected = [sha(email.lower()) if email and "@" in email else None for email in emails]
    assert prepared.column("EMAIL").to_pylist() == expected
    assert prepared.column("FN").to_pylist() == [name and sha(name.lower()) for name in names]
    assert preparer.report.rows_out == rows


def test_rows_stay_whole_on_two_threads_far_beyond_a_batch() -> None:
    def prepared_rows(seed: int) -> bool:
        pick = random.Random(seed)
        phones = [f"+1650{pick.randrange(2_000_000, 9_999_999)}" for _ in range(40_000)]
        columns = {
            "extern_id": phones,
            "phone": phones,
            "email": [f"{phone[1:]}@example.com" for phone in phones],
            "last": [chr(ord("a") + int(phone[-1])) for phone in phones],
            "zip": [f"9{phone[-4:]}" for phone in phones],
            "country": [("us", "de", "jp")[int(phone[-2]) % 3] for phone in phones],
        }
        preparer = Preparer(resolve_mapping(list(columns)))
        batches = pa.table(columns).to_batches(max_chunksize=15_000)
        rows = [row for batch in map(preparer.prepare, batches) for row in batch.to_pylist()]
        return [row["EXTERN_ID"] for row in rows] == phones and all(
            row["PHONE"] == sha(row["EXTERN_ID"][1:])
            and row["EMAIL"] == sha(f"{row['EXTERN_ID'][1:]}@example.com")
            and row["LN"] == sha(chr(ord("a") + int(row["EXTERN_ID"][-1])))
            and row["ZIP"] == sha(f"9{row['EXTERN_ID'][-4:]}")
            and row["COUNTRY"] == sha(("us", "de", "jp")[int(row["EXTERN_ID"][-2]) % 3])
            for row in rows
        )

    with ThreadPoolExecutor(2) as pool:
        assert all(pool.map(prepared_rows, range(2)))


def test_a_batch_without_rows_gives_a_batch_without_rows() -> None:
    names = ["email", "phone", "zip", "country", "dob", "first", "last", "extern_id"]
    preparer = Preparer(resolve_mapping(names))
    prepared, rejects = preparer.prepare_with_rejects(
        pa.record_batch({name: pa.array([], pa.string()) for name in names})
    )
    assert prepared.schema == preparer.schema
    assert (prepared.num_rows, rejects.num_rows, preparer.report.rows_in) == (0, 0, 0)


def test_only_rows_that_find_a_person_stay() -> None:
    prepared, preparer = prepare(
        {
            "email": ["a@b.co", None, "", "bad", None, None, None],
            "first": ["Ann", "Bea", None, None, "Cid", "Dan", None],
            "last": [None, "Lee", None, None, "Fox", "-", None],
            "zip": [None, "94025", None, None, None, None, "94025"],
        },
        default_country="US",
    )
    assert prepared.column("FN").to_pylist() == [sha("ann"), sha("bea")]
    assert preparer.report.rejected == {"empty": 1, "unusable": 2, "incomplete": 2}
    assert preparer.report.invalid_ratio == 5 / 7
    assert preparer.report.rows_in == preparer.report.rows_out + sum(preparer.report.rejected.values()) == 7


def test_a_row_with_a_full_date_of_birth_stays_and_with_half_a_date_does_not() -> None:
    columns = {"first": ["Ann"] * 3, "last": ["Lee"] * 3, "dob": ["1990-05-02", "1990-02-31", None]}
    prepared, preparer = prepare(columns)
    assert prepared.num_rows == 1
    assert preparer.report.rejected == {"unusable": 1, "incomplete": 1}


def test_rejects_tell_row_key_and_reason_and_never_a_value() -> None:
    preparer = Preparer(resolve_mapping(["email", "phone", "madid"]))
    first = pa.record_batch({"email": ["a@b.co"], "phone": ["06 12 34 56 78"], "madid": [None]})
    second = pa.record_batch({"email": ["secret", None], "phone": [None, None], "madid": [None, None]})
    preparer.prepare(first)
    prepared, rejects = preparer.prepare_with_rejects(second)
    assert prepared.num_rows == 0
    assert rejects.schema == REJECTS_SCHEMA
    assert rejects.to_pylist() == [
        {"row": 2, "key": None, "reason": "unusable"},
        {"row": 2, "key": "EMAIL", "reason": "not_an_email"},
        {"row": 3, "key": None, "reason": "empty"},
    ]


def test_report_counts_cells_of_each_key() -> None:
    _, preparer = prepare({"email": ["a@b.co", "", "N/A", "bad", MD5], "extern_id": ["1", "2", "3", "4", "5"]})
    told = preparer.report.as_dict()
    assert told == {
        "rows_in": 5,
        "rows_out": 5,
        "rejected": {},
        "keys": {
            "EMAIL": {"filled": 1, "blank": 2, "invalid": {"not_an_email": 1, "md5_or_sha1_digest": 1}},
            "EXTERN_ID": {"filled": 5, "blank": 0, "invalid": {}},
        },
    }
    assert json.loads(json.dumps(told)) == told
    assert preparer.report.lines() == [
        "5 rows received, 5 prepared, 0 rejected",
        "EMAIL: 1 filled (20.0 %), 2 blank, 1 not_an_email, 1 md5_or_sha1_digest",
        "EXTERN_ID: 5 filled (100.0 %), 0 blank",
    ]


def test_report_before_any_row() -> None:
    _, preparer = prepare({"email": pa.array([], pa.string())})
    assert (preparer.report.rows_in, preparer.report.invalid_ratio) == (0, 0.0)


@pytest.mark.parametrize(
    "text", ["", " ", "null", "NULL", " None ", "n/a", "N/A", "NaN", "\ufeff", "\u200b", "\0", "\t\n"]
)
@pytest.mark.parametrize("key", ["email", "phone", "first", "madid", "extern_id", "value", "dob", "country"])
def test_placeholders_are_blank_and_never_hashed(key: str, text: str) -> None:
    columns = {"email": ["a@b.co"], "appuid": ["1"], "value": ["1"], key: [text]}
    preparer = Preparer(resolve_mapping(list(columns)), default_country="US", value_based=True)
    preparer.prepare(pa.record_batch(columns))
    for name, counts in preparer.report.as_dict()["keys"].items():
        assert counts["invalid"] == {}, name
    blank = [name for name, counts in preparer.report.as_dict()["keys"].items() if counts["blank"]]
    assert blank


def test_first_usable_column_wins_row_by_row() -> None:
    prepared, preparer = prepare(
        {
            "email": ["a@b.co", "bad", None, "bad", None],
            "primary_email": ["x@y.co", "c@d.co", "e@f.co", "worse", ""],
            "madid": [None] * 5,
            "extern_id": ["1", "2", "3", "4", "5"],
        }
    )
    assert prepared.column("EMAIL").to_pylist() == [sha("a@b.co"), sha("c@d.co"), sha("e@f.co"), None, None]
    counts = preparer.report.as_dict()["keys"]["EMAIL"]
    assert counts == {"filled": 3, "blank": 1, "invalid": {"not_an_email": 1}}


def test_parts_of_a_date_and_a_whole_date_fill_in_for_each_other() -> None:
    columns = {"id": ["1", "2"], "y": [None, "1980"], "born": ["1990-05-02", "1990-05-02"]}
    mapping = resolve_mapping(list(columns), {"id": "EXTERN_ID", "y": "DOBY", "born": "DOB"})
    prepared = Preparer(mapping).prepare(pa.record_batch(columns))
    assert prepared.column("DOBY").to_pylist() == [sha("1990"), sha("1980")]
    assert prepared.column("DOBM").to_pylist() == [sha("05")] * 2


def test_country_of_the_row_comes_before_the_default() -> None:
    columns = {
        "phone": ["06 12 34 56 78", "(650) 555-1212", "06 12 34 56 78", "+33612345678", "0612345678"],
        "country": ["France", None, "Narnia", "Narnia", hashlib.sha256(b"fr").hexdigest().upper()],
        "extern_id": list("abcde"),
    }
    prepared, preparer = prepare(columns, default_country="usa")
    french, american = sha("33612345678"), sha("16505551212")
    assert prepared.column("PHONE").to_pylist() == [french, american, None, french, french]
    assert prepared.column("COUNTRY").to_pylist() == [sha("fr"), None, None, None, sha("fr")]
    assert preparer.report.as_dict()["keys"]["PHONE"]["invalid"] == {"phone_without_country": 1}


def test_second_country_column_helps_where_the_first_is_blank_or_unreadable() -> None:
    columns = {
        "phone": ["06 12 34 56 78"] * 4,
        "country": [None, "Narnia", "Narnia", "DE"],
        "country_code": ["FR", "FR", None, "FR"],
        "extern_id": list("abcd"),
    }
    prepared, _ = prepare(columns, default_country="DE")
    french, german = sha("33612345678"), sha("49612345678")
    assert prepared.column("PHONE").to_pylist() == [french, french, None, german]


def test_many_countries_in_one_batch_keep_their_rows() -> None:
    codes = ["fr", "us", "de", "gb", "it", "es", "jp", "br"]
    rows = [random.Random(5).choice(codes) for _ in range(500)]
    columns = {"zip": ["10115"] * 500, "country": rows, "extern_id": [str(row) for row in range(500)]}
    prepared, _ = prepare(columns)
    assert prepared.column("COUNTRY").to_pylist() == [sha(code) for code in rows]
    assert prepared.column("ZIP").to_pylist() == [None if code == "gb" else sha("10115") for code in rows]


@pytest.mark.parametrize(
    "key", ["email", "phone", "first", "last", "city", "state", "zip", "country", "gender", "birth year"]
)
def test_cells_of_64_hex_digits_pass_lower_cased(key: str) -> None:
    digest = hashlib.sha256(b"fr").hexdigest()
    columns = {"extern_id": ["1", "2", "3"], key: [digest, f" {digest.upper()}\n", NOTHING.hex()]}
    prepared, preparer = prepare(columns)
    name = next(name for name in prepared.schema.names if name != "EXTERN_ID")
    assert prepared.column(name).to_pylist() == [bytes.fromhex(digest)] * 2 + [None]
    assert preparer.report.as_dict()["keys"][name]["invalid"] == {"digest_of_the_empty_string": 1}


def test_cells_that_look_like_other_digests_are_blank() -> None:
    prepared, preparer = prepare({"email": [MD5, SHA1.upper()], "last": [MD5, SHA1], "extern_id": [MD5, SHA1]})
    assert prepared.column("EMAIL").to_pylist() == prepared.column("LN").to_pylist() == [None, None]
    assert prepared.column("EXTERN_ID").to_pylist() == [MD5, SHA1]
    assert preparer.report.as_dict()["keys"]["EMAIL"]["invalid"] == {"md5_or_sha1_digest": 2}


def test_hashed_true_takes_digests_only() -> None:
    digest = sha("mary@example.com")
    columns = {"email": [digest.hex(), "mary@example.com", "", MD5], "extern_id": list("abcd")}
    prepared, preparer = prepare(columns, hashed={"email": True})
    assert prepared.column("EMAIL").to_pylist() == [digest, None, None, None]
    told = preparer.report.as_dict()["keys"]["EMAIL"]
    assert told == {"filled": 1, "blank": 1, "invalid": {"not_a_sha256_digest": 1, "md5_or_sha1_digest": 1}}


def test_hashed_true_takes_digests_as_bytes() -> None:
    digest = sha("mary@example.com")
    prepared, _ = prepare(
        {"email": pa.array([digest, None], pa.binary()), "extern_id": list("ab")}, hashed={"EMAIL": True}
    )
    assert prepared.column("EMAIL").to_pylist() == [digest, None]


def test_hashed_false_takes_no_cell_for_a_digest() -> None:
    name = "a" * 64
    prepared, _ = prepare({"last": [name], "extern_id": ["1"]}, hashed={"LN": False})
    assert prepared.column("LN").to_pylist() == [sha(name)]


def test_digest_of_a_whole_date_is_no_digest_of_its_parts() -> None:
    columns = {"dob": [hashlib.sha256(b"19900502").hexdigest()], "extern_id": ["1"]}
    for hashed, reason in ((None, "not_a_date"), ({"DOBY": True}, "not_a_sha256_digest")):
        prepared, preparer = prepare(columns, hashed=hashed)
        assert prepared.column("DOBY").to_pylist() == [None]
        assert preparer.report.as_dict()["keys"]["DOBY"]["invalid"] == {reason: 1}


def test_hashed_country_does_not_stop_the_phones() -> None:
    columns = {"phone": ["06 12 34 56 78"], "country": [hashlib.sha256(b"fr").hexdigest()]}
    prepared, _ = prepare(columns, hashed={"COUNTRY": True})
    assert prepared.column("PHONE").to_pylist() == [sha("33612345678")]


def test_value_is_left_out_unless_the_audience_is_value_based() -> None:
    columns = {"email": ["a@b.co", "c@d.co", "e@f.co"], "ltv": [1.5, None, -1.0]}
    prepared, preparer = prepare(columns)
    assert prepared.schema.names == ["EMAIL"]
    assert prepared.num_rows == 3
    prepared, preparer = prepare(columns, value_based=True)
    assert prepared.column("LOOKALIKE_VALUE").to_pylist() == [1.5]
    assert preparer.report.rejected == {"no_lookalike_value": 2}


@pytest.mark.parametrize(
    ("options", "error", "said"),
    [
        ({"default_country": "Narnia"}, OptionsError, "`default_country` is 'Narnia'"),
        ({"hashed": {"PHONE": True}}, OptionsError, "'PHONE', which no column feeds"),
        ({"hashed": {"MADID": True}}, OptionsError, "MADID, which is not hashed but sent as it is"),
        ({"value_based": True}, MappingError, "no column feeds LOOKALIKE_VALUE"),
    ],
)
def test_options_that_do_not_fit_are_refused(options: dict[str, Any], error: type[Exception], said: str) -> None:
    with pytest.raises(error, match=said):
        Preparer(resolve_mapping(["email", "madid"]), **options)


def test_transliterate_reaches_every_key_that_has_letters() -> None:
    columns = {
        "email": ["é@b.co"],
        "first": ["José"],
        "last": ["Müller"],
        "city": ["Łódź"],
        "state": ["Île"],
        "country": ["fr"],
    }
    prepared, _ = prepare(columns, transliterate=True)
    assert [prepared.column(key)[0].as_py() for key in ("FN", "LN", "CT", "ST")] == [
        *(sha("jose"), sha("muller"), sha("lodz"), sha("ile"))
    ]
    assert prepared.column("EMAIL")[0].as_py() == sha("é@b.co")


def test_memory_of_outcomes_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memo, "_MOST", 50)
    preparer = Preparer(resolve_mapping(["first", "last", "zip", "country"]))
    kept = 0
    for start in range(0, 1000, 100):
        names = [f"n{row}" for row in range(start, start + 100)]
        columns = {"first": names, "last": names, "zip": ["94025"] * 100, "country": ["us", "de"] * 50}
        assert preparer.prepare(pa.record_batch(columns)).column("LN").to_pylist() == [sha(name) for name in names]
        kept = max(kept, *(len(known) for known in preparer._memos.values()))
    assert kept <= 50


def test_slices_of_batches_are_read_where_they_are() -> None:
    batch = pa.record_batch({"email": ["x@y.co", "a@b.co", None], "extern_id": ["x", "y", "z"]})[1:]
    prepared = Preparer(resolve_mapping(["email", "extern_id"])).prepare(batch)
    assert prepared.to_pydict() == {"EMAIL": [sha("a@b.co"), None], "EXTERN_ID": ["y", "z"]}


def test_logs_nothing(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.DEBUG):
        prepare({"email": ["a@b.co", "bad"], "phone": ["+33612345678", "1"]})
    assert caplog.text == ""


def test_import_is_light_and_knows_no_airflow() -> None:
    code = (
        "import sys, airflow_provider_fbca.identity;"
        "print([name for name in ('airflow', 'phonenumbers', 'pycountry', 'babel', 'anyascii') if name in sys.modules])"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout.strip() == "[]"
