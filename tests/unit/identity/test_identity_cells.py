"""Values of every Arrow type give the hash of their clean text, or an error that names column and type."""
# ruff: noqa: E501 - tables of examples read best one a line

from __future__ import annotations

import struct
import uuid
from datetime import date, datetime, timedelta, timezone
from decimal import Decimal
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from airflow_provider_fbca.exceptions import UsersError
from airflow_provider_fbca.identity import KEYS, Context, Preparer, identify, resolve_mapping
from airflow_provider_fbca.identity.cells import read_cells

EMAIL = b"mary@example.com"
UUID = uuid.UUID("6d92078a-8246-4ba4-ae5b-76104861e7dc")


def half_floats(*numbers: float) -> pa.Array:
    """Give numbers as Arrow half floats, which it makes of Python's floats with numpy's help only."""
    return pa.Array.from_buffers(
        pa.float16(), len(numbers), [None, pa.py_buffer(struct.pack(f"{len(numbers)}e", *numbers))]
    )


def extension(name: str, storage: pa.Array, *parameters: Any) -> pa.Array:
    """Give an array of an extension type, or of its storage where this Arrow does not know the type yet."""
    known = getattr(pa, name, None)
    return storage if known is None else pa.ExtensionArray.from_storage(known(*parameters), storage)


def texts(array: pa.Array) -> list[str | None]:
    return read_cells(array, name="c", first_row=0).texts.to_pylist()


@pytest.mark.parametrize(
    ("array", "expected"),
    [
        (pa.array(["a", None]), ["a", None]),
        (pa.array(["a", None], pa.large_string()), ["a", None]),
        (pa.array(["a", None], pa.string_view()), ["a", None]),
        (pa.array(["a", None, "b"]).dictionary_encode(), ["a", None, "b"]),
        (pa.DictionaryArray.from_arrays(pa.array([1, 0, None], pa.int8()), pa.array([1.0, None])), [None, "1", None]),
        (pa.RunEndEncodedArray.from_arrays([2, 3], ["a", "b"]), ["a", "a", "b"]),
        (pa.nulls(2), [None, None]),
        (pa.array([2108, -1, None]), ["2108", "-1", None]),
        (pa.array([6505551212], pa.uint64()), ["6505551212"]),
        (pa.array([6505551212.0, 2108.0, 6.505551212e9, 0.5, None]), ["6505551212", "2108", "6505551212", "0.5", None]),
        (pa.array([float("nan"), float("inf"), -0.0]), [None, "inf", "0"]),
        (pa.array([2108.0, 0.1], pa.float32()), ["2108", "0.1"]),
        (half_floats(1990.0, 0.5), ["1990", "0.5"]),
        (pa.array([Decimal("14155550100.000000000"), None], pa.decimal128(38, 9)), ["14155550100", None]),
        (pa.array([Decimal(0), Decimal("0.0000001"), Decimal("10.50")], pa.decimal128(38, 10)), ["0", "0.0000001", "10.5"]),
        (pa.array([Decimal(100), Decimal(-20)], pa.decimal256(40, 0)), ["100", "-20"]),
        (pa.array([Decimal(1200)], pa.decimal128(5, -2)), ["1200"]),
        (pa.array([Decimal("100.10")], pa.decimal128(9, 2)), ["100.1"]),
        (pa.array([Decimal(100), None, Decimal("-0.50")], pa.decimal128(9, 2)), ["100", None, "-0.5"]),
        (pa.array([True, False, None]), ["true", "false", None]),
        (pa.array([EMAIL, None]), [EMAIL.decode(), None]),
        (pa.array(["é".encode()], pa.large_binary()), ["é"]),
        (pa.array(["é".encode()], pa.binary_view()), ["é"]),
        (pa.array([b"ab\0\0"], pa.binary(4)), ["ab\0\0"]),
        (pa.array([b"\xff" * 32, b"a" * 32], pa.binary(32)), ["ff" * 32, "61" * 32]),
        (pa.array([b"\xff" * 32, b"mary"], pa.binary()), ["ff" * 32, "mary"]),
        (pa.array([date(1990, 5, 2)]), ["1990-05-02"]),
        (pa.array([date(1990, 5, 2)], pa.date64()), ["1990-05-02"]),
        (pa.ExtensionArray.from_storage(pa.uuid(), pa.array([UUID.bytes, None], pa.binary(16))), [str(UUID), None]),
        (extension("json_", pa.array(["x"])), ["x"]),
        (
            extension("opaque", pa.array(["14155550100", "100", "1.50", "0.00", "NaN", "nan", None, "-Infinity", "1.5E+10"]), pa.string(), "numeric", "pg"),
            ["14155550100", "100", "1.5", "0", None, None, None, "-inf", "15000000000"],
        ),
        (extension("bool8", pa.array([1, 0], pa.int8())), ["true", "false"] if hasattr(pa, "bool8") else ["1", "0"]),
        (pa.array(["x", "a", "b"])[1:], ["a", "b"]),
        (pa.array([9.0, 1.0])[1:], ["1"]),
    ],
)  # fmt: skip
def test_reads_every_type_as_its_clean_text(array: pa.Array, expected: list[str | None]) -> None:
    assert texts(array) == expected


@pytest.mark.parametrize("unit", ["s", "ms", "us", "ns"])
@pytest.mark.parametrize("tz", [None, "UTC", "America/New_York", "Asia/Tokyo"])
def test_timestamps_keep_the_day_that_their_zone_shows(unit: str, tz: str | None) -> None:
    just_after_midnight = pa.array(["1990-05-02 00:30:00"]).cast(pa.timestamp(unit))
    column = just_after_midnight if tz is None else pa.compute.assume_timezone(just_after_midnight, tz)
    mapping = resolve_mapping(["f", "l", "dob"], {"f": "FN", "l": "LN", "dob": "DOB"})
    prepared = Preparer(mapping).prepare(pa.record_batch({"f": ["a"], "l": ["b"], "dob": column}))
    for key, part in (("DOBY", "1990"), ("DOBM", "05"), ("DOBD", "02")):
        assert prepared.column(key).to_pylist() == [identify(KEYS[key], part, Context())]


@pytest.mark.parametrize(
    ("tz", "day"), [("+14:00", "1990-05-03"), ("-03:30", "1990-05-02"), ("+0000", "1990-05-02"), ("UTC", "1990-05-02")]
)
@pytest.mark.parametrize("unit", ["s", "ms", "us", "ns"])
def test_timestamps_at_an_offset_show_the_day_of_that_place(unit: str, tz: str, day: str) -> None:
    late = pa.array(["1990-05-02 23:30:00"]).cast(pa.timestamp(unit)).view(pa.timestamp(unit, tz))
    shown = texts(late)[0]
    assert shown is not None
    assert shown.startswith(day)


@pytest.mark.parametrize(
    ("key", "array", "clean"),
    [
        ("PHONE", pa.array([6505551212.0]), "6505551212"),
        ("PHONE", pa.array([6505551212]), "6505551212"),
        ("PHONE", pa.array([Decimal("6505551212.00")]), "6505551212"),
        ("PHONE", pa.array(["6505551212"]).dictionary_encode(), "6505551212"),
        ("ZIP", pa.array([2108]), "02108"),
        ("ZIP", pa.array([2108.0]), "02108"),
        ("ZIP", pa.array([2108], pa.int16()), "02108"),
        ("EMAIL", pa.array([b" MARY@example.com"]), "mary@example.com"),
        ("EMAIL", pa.array(["mary@example.com"], pa.large_string()), "mary@example.com"),
        ("DOBY", pa.array([1990.0]), "1990"),
        ("DOBM", pa.array([5], pa.int8()), "05"),
        ("LN", pa.array([b"O'Neill\0\0"], pa.binary(9)), "oneill"),
        ("MADID", pa.ExtensionArray.from_storage(pa.uuid(), pa.array([UUID.bytes], pa.binary(16))), str(UUID)),
        ("EXTERN_ID", pa.array([42.0]), "42"),
        ("EXTERN_ID", pa.array([Decimal("42.000")]), "42"),
        ("EXTERN_ID", pa.array([2**53 + 1]), "9007199254740993"),
        ("EXTERN_ID", pa.array([" Ab "]), " Ab "),
        ("APPUID", pa.array([10158000000000001]), "10158000000000001"),
    ],
)
def test_values_hash_like_their_clean_text(key: str, array: pa.Array, clean: str) -> None:
    names = ["FN", "LN", "ZIP", "EXTERN_ID", key]
    columns: dict[str, Any] = {name: [name] for name in names} | {"ZIP": ["94025"], key: array}
    prepared = Preparer(resolve_mapping(list(columns)), default_country="US").prepare(pa.record_batch(columns))
    assert prepared.column(key).to_pylist() == [identify(KEYS[key], clean, Context("us"))]


def test_floats_that_cannot_be_exact_are_blank_with_their_reason() -> None:
    mapping = resolve_mapping(["email", "phone", "extern_id", "value"])
    batch = pa.record_batch(
        {
            "email": ["a@b.co"] * 4,
            "phone": pa.array([6505551212.0, 16777215.0, None, float("nan")]).cast(pa.float32(), safe=False),
            "extern_id": [1e20, 2.0**53, 7.0, float("nan")],
            "value": [1e20, 2.0**53, 7.0, 0.0],
        }
    )
    preparer = Preparer(mapping, default_country="US", value_based=True)
    prepared = preparer.prepare(batch)
    assert prepared.column("EXTERN_ID").to_pylist() == [None, None, "7", None]
    assert prepared.column("LOOKALIKE_VALUE").to_pylist() == [1e20, 2.0**53, 7.0, 0.0]
    assert prepared.column("PHONE").to_pylist() == [None] * 4
    assert preparer.report.as_dict()["keys"]["PHONE"]["invalid"] == {"number_beyond_exact_range": 1, "not_a_phone": 1}
    assert preparer.report.as_dict()["keys"]["EXTERN_ID"]["invalid"] == {"number_beyond_exact_range": 2}


@pytest.mark.parametrize(
    "array",
    [
        pa.array([["secret"]]),
        pa.array([{"a": "secret"}]),
        pa.array([[("a", "secret")]], pa.map_(pa.string(), pa.string())),
        pa.array([timedelta(seconds=1)]),
        pa.array([1], pa.time32("s")),
        pa.array([b"secret\xff"]),
        pa.array([b"secret\xff"], pa.binary(7)),
        extension("opaque", pa.array([b"secret\xff"]), pa.binary(), "numeric", "pg"),
        pa.array([0], pa.timestamp("s", "Nowhere/Secret")),
    ],
)
def test_a_type_without_text_is_an_error_that_names_the_column_and_quotes_nothing(array: pa.Array) -> None:
    preparer = Preparer(resolve_mapping(["email", "mail"]))
    preparer.prepare(pa.record_batch({"email": ["a@b.co"] * 4, "mail": [None] * 4}))
    with pytest.raises(UsersError) as caught:
        preparer.prepare(pa.record_batch({"email": ["a@b.co"], "mail": array}))
    message = str(caught.value)
    assert "'mail'" in message
    kind = array.storage.type if isinstance(array, pa.ExtensionArray) else array.type
    assert str(kind) in message
    assert "secret" not in message.replace(str(kind), "")
    assert caught.value.__cause__ is None
    assert caught.value.__context__ is None


@given(st.lists(st.none() | st.uuids()), st.integers(0, 3))
def test_uuids_have_their_usual_form(values: list[uuid.UUID | None], cut: int) -> None:
    cells = [None if each is None else each.bytes for each in values]
    column = pa.ExtensionArray.from_storage(pa.uuid(), pa.array(cells, pa.binary(16)))[cut:]
    assert texts(column) == [None if each is None else str(each) for each in values[cut:]]


@given(st.lists(st.none() | st.binary(min_size=32, max_size=32)), st.integers(0, 3), st.sampled_from([-1, 32]))
def test_digests_are_hex_digits(values: list[bytes | None], cut: int, width: int) -> None:
    column = pa.array([*values, b"\xff" * 32], pa.binary(width))[cut:]
    assert texts(column) == [None if each is None else each.hex() for each in [*values, b"\xff" * 32][cut:]]


def test_a_digest_that_is_unicode_by_chance_is_a_digest_too() -> None:
    assert texts(pa.array([b"\xff" * 32, b"a" * 32, None])) == ["ff" * 32, "61" * 32, None]


def test_bytes_that_are_no_text_are_named_by_their_row() -> None:
    preparer = Preparer(resolve_mapping(["email"]))
    preparer.prepare(pa.record_batch({"email": ["a@b.co"] * 4}))
    with pytest.raises(UsersError, match="in row 6 "):
        preparer.prepare(pa.record_batch({"email": pa.array([None, b"\xff", b"\xfe"])}))


def test_a_batch_without_a_mapped_column_is_an_error() -> None:
    preparer = Preparer(resolve_mapping(["email", "phone"]))
    with pytest.raises(UsersError, match="0 columns of the name 'phone'"):
        preparer.prepare(pa.record_batch({"email": ["a@b.co"]}))


def test_local_time_needs_no_utc_shift_in_text_either() -> None:
    late = datetime(1990, 5, 2, 23, 30, tzinfo=timezone(timedelta(hours=-8))).isoformat()
    assert identify(KEYS["DOBD"], late, Context(), whole_date=True) == identify(KEYS["DOBD"], "2", Context())


@pytest.mark.parametrize("kind", [pa.string(), pa.large_string()])
@pytest.mark.parametrize("index", [None, pa.int8()])
def test_text_that_is_no_utf8_is_refused_without_its_bytes(kind, index):
    cell = b"zoe.secret\xff@example.com"
    storage = pa.array([cell, None], pa.binary() if kind == pa.string() else pa.large_binary())
    column = pa.Array.from_buffers(kind, 2, storage.buffers())
    if index is not None:
        column = pa.DictionaryArray.from_arrays(pa.array([0, 1], index), column)
    with pytest.raises(UsersError, match=r"Column 'a' .* row 1") as caught:
        read_cells(column, name="a", first_row=0)
    assert "zoe" not in repr(caught.value.args)
    assert caught.value.__context__ is None
