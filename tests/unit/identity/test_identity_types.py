"""Every Arrow type that a warehouse gives, for every key: the hash of the clean text, or an error with column and type."""
# ruff: noqa: E501 - tables of examples read best one a line

from __future__ import annotations

import struct
import uuid
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.compute as pc
import pytest

from airflow_provider_fbca.exceptions import UsersError
from airflow_provider_fbca.identity import KEYS, Blank, Context, Preparer, identify, resolve_mapping

if TYPE_CHECKING:
    from collections.abc import Callable

MADID = uuid.UUID("6d92078a-8246-4ba4-ae5b-76104861e7dc")

#: Key to a cell as text that is clean, in ASCII, for a row of the United States.
TEXTS = {
    "EMAIL": "mary@example.com",
    "PHONE": "6505551212",
    "GEN": "f",
    "DOBY": "1990",
    "DOBM": "12",
    "DOBD": "31",
    "LN": "quillfeather",
    "FN": "mary",
    "FI": "m",
    "CT": "menlopark",
    "ST": "ca",
    "ZIP": "94025",
    "COUNTRY": "us",
    "MADID": str(MADID),
    "EXTERN_ID": "42",
    "APPUID": "1015",
    "PAGEUID": "1016",
}
#: The keys whose cells come as numbers, too.
NUMBERS = {key: int(text) for key, text in TEXTS.items() if text.isdigit()}

INTS = (pa.int8(), pa.uint8(), pa.int16(), pa.uint16(), pa.int32(), pa.uint32(), pa.int64(), pa.uint64())


def of_text(kind: pa.DataType) -> Callable[[str], pa.Array]:
    return lambda text: pa.array([text, None], kind)


def fixed_binary(text: str) -> pa.Array:
    return pa.array([text.encode(), None], pa.binary(len(text)))


def ree(text: str) -> pa.Array:
    return pa.RunEndEncodedArray.from_arrays(pa.array([1, 2], pa.int32()), pa.array([text, None]))


def extension(name: str, storage: pa.DataType, *parameters: Any) -> Callable[[str], pa.Array]:
    known = getattr(pa, name, None)  # an older Arrow has the storage only
    plain = of_text(storage)
    return lambda text: (
        plain(text) if known is None else pa.ExtensionArray.from_storage(known(*parameters), plain(text))
    )


def indexed(index: pa.DataType) -> Callable[[str], pa.Array]:
    return lambda text: pa.array([text, None]).dictionary_encode().cast(pa.dictionary(index, pa.string()))


WRITERS = {
    "string": of_text(pa.string()),
    "large_string": of_text(pa.large_string()),
    "string_view": of_text(pa.string_view()),
    "binary": lambda text: pa.array([text.encode(), None]),
    "large_binary": lambda text: pa.array([text.encode(), None], pa.large_binary()),
    "binary_view": lambda text: pa.array([text.encode(), None], pa.binary_view()),
    "fixed_size_binary": fixed_binary,
    "run_end_encoded": ree,
    "json": extension("json_", pa.string()),
    "opaque": extension("opaque", pa.string(), pa.string(), "citext", "PostgreSQL"),
    **{f"dictionary of {index}": indexed(index) for index in INTS},
    "dictionary of large_string": lambda text: pa.array([text, None], pa.large_string()).dictionary_encode(),
    "dictionary of binary": lambda text: pa.array([text.encode(), None]).dictionary_encode(),
    "dictionary with null among its values": lambda text: pa.DictionaryArray.from_arrays(pa.array([1, 0], pa.int8()), pa.array([None, text])),
}  # fmt: skip

FLOATS = (pa.float32(), pa.float64())
DECIMALS = (pa.decimal128(18, 0), pa.decimal128(38, 9), pa.decimal256(50, 12))


def numbers_of(value: int) -> dict[str, pa.Array]:
    """Give a number as each numeric type that can hold it."""
    arrays = {str(kind): pa.array([value, None], kind) for kind in INTS if value < 2 ** (kind.bit_width - 1)}
    arrays |= {
        str(kind): pa.array([float(value), None], kind) for kind in FLOATS if value < 2**24 or kind == pa.float64()
    }
    arrays |= {str(kind): pa.array([Decimal(value), None], kind) for kind in DECIMALS}
    arrays["dictionary of float"] = pa.array([float(value), None]).dictionary_encode()
    arrays["dictionary of int"] = pa.array([value, None]).dictionary_encode()
    if value < 2**11:
        half = pa.Array.from_buffers(pa.float16(), 2, [pa.py_buffer(b"\1"), pa.py_buffer(struct.pack("2e", value, 0))])
        arrays["halffloat"] = half
    return arrays


def prepared_cells(key: str, array: pa.Array) -> list[Any]:
    """Give what two rows are sent with for a key; other columns keep both rows in."""
    names = {"id": "EXTERN_ID", "it": key} if key != "EXTERN_ID" else {"id": "MADID", "it": key}
    batch = pa.record_batch({"id": [str(MADID)] * 2, "it": array})
    return Preparer(resolve_mapping(list(names), names), default_country="US").prepare(batch).column(key).to_pylist()


def clean(key: str, text: str) -> Any:
    outcome = identify(KEYS[key], text, Context("us"))
    assert not isinstance(outcome, Blank)
    return outcome


@pytest.mark.parametrize("writer", WRITERS)
@pytest.mark.parametrize("key", TEXTS)
def test_text_of_every_type_hashes_alike(key: str, writer: str) -> None:
    assert prepared_cells(key, WRITERS[writer](TEXTS[key])) == [clean(key, TEXTS[key]), None]


@pytest.mark.parametrize("key", NUMBERS)
def test_numbers_of_every_type_hash_like_their_digits(key: str) -> None:
    for kind, array in numbers_of(NUMBERS[key]).items():
        assert prepared_cells(key, array) == [clean(key, TEXTS[key]), None], kind


@pytest.mark.parametrize(
    ("key", "number", "text"), [("ZIP", 2108, "02108"), ("DOBM", 5, "05"), ("DOBD", 2, "02"), ("ZIP", 501, "00501")]
)
def test_zeros_that_numbers_lose_are_put_back(key: str, number: int, text: str) -> None:
    for kind, array in numbers_of(number).items():
        assert prepared_cells(key, array) == [clean(key, text), None], kind


def test_worth_is_a_number_of_every_type() -> None:
    mapping = resolve_mapping(["id", "v"], {"id": "EXTERN_ID", "v": "LOOKALIKE_VALUE"})
    arrays = [*numbers_of(44).values(), *(writer("44") for writer in WRITERS.values())]
    for array in arrays:
        batch = pa.record_batch({"id": ["a", "b"], "v": array})
        prepared = Preparer(mapping, value_based=True).prepare(batch)
        assert prepared.column("LOOKALIKE_VALUE").to_pylist() == [44.0], array.type


@pytest.mark.parametrize("key", [key for key, rule in KEYS.items() if rule.hashed])
@pytest.mark.parametrize("kind", [pa.binary(), pa.binary(32), pa.large_binary(), pa.binary_view()])
def test_digests_come_as_bytes_too(key: str, kind: pa.DataType) -> None:
    digest = clean(key, TEXTS[key])
    assert prepared_cells(key, pa.array([digest, None], kind)) == [digest, None]


DAYS = [date(1990, 5, 2), date(1969, 12, 31), date(1904, 2, 29), date(1970, 1, 1)]
LATE = time(23, 59, 59)


def birthdays() -> dict[str, tuple[date, pa.Array]]:
    """Give days, most of them before 1970, as each type of date and as the last second of the day."""
    found: dict[str, tuple[date, pa.Array]] = {}
    for day in DAYS:
        found[f"date32 {day}"] = (day, pa.array([day], pa.date32()))
        found[f"date64 {day}"] = (day, pa.array([day], pa.date64()))
        for number in (pa.int32(), pa.int64()):
            found[f"{number} {day}"] = (day, pa.array([int(f"{day:%Y%m%d}")], number))
        found[f"double {day}"] = (day, pa.array([float(f"{day:%Y%m%d}")]))
        found[f"text {day}"] = (day, pa.array([day.isoformat()]))
        for unit in ("s", "ms", "us", "ns"):
            for hour in (time(0), LATE):
                naive = pa.array([datetime.combine(day, hour)], pa.timestamp(unit))
                found[f"{unit} {day} {hour}"] = (day, naive)
                for zone in ("UTC", "Asia/Tokyo", "America/New_York", "+05:30", "-0300"):
                    if zone[0] in "+-":
                        sign, hours, minutes = zone[0], int(zone[1:3]), int(zone[-2:])
                        shift = timedelta(hours=hours, minutes=minutes) * (1 if sign == "+" else -1)
                        instant = datetime.combine(day, hour, UTC) - shift
                        zoned = (
                            pa.array([instant], pa.timestamp(unit, "UTC"))
                            .cast(pa.int64())
                            .cast(pa.timestamp(unit))
                            .view(pa.timestamp(unit, zone))
                        )
                    else:
                        zoned = pc.assume_timezone(naive, zone)
                    found[f"{unit} {day} {hour} {zone}"] = (day, zoned)
    return found


def test_a_birthday_of_every_type_is_the_day_that_it_shows() -> None:
    mapping = resolve_mapping(["id", "dob"], {"id": "EXTERN_ID", "dob": "DOB"})
    for name, (day, array) in birthdays().items():
        prepared = Preparer(mapping).prepare(pa.record_batch({"id": ["a"], "dob": array}))
        parts = {"DOBY": f"{day.year}", "DOBM": f"{day.month:02}", "DOBD": f"{day.day:02}"}
        for key, part in parts.items():
            assert prepared.column(key).to_pylist() == [clean(key, part)], name


@pytest.mark.parametrize("key", TEXTS)
def test_null_columns_and_empty_batches_are_blank(key: str) -> None:
    names = {"id": "EXTERN_ID", "it": key} if key != "EXTERN_ID" else {"id": "MADID", "it": key}
    preparer = Preparer(resolve_mapping(list(names), names))
    prepared = preparer.prepare(pa.record_batch({"id": [str(MADID)], "it": pa.nulls(1)}))
    assert prepared.schema == preparer.schema
    assert prepared.column(key).to_pylist() == [None]
    assert preparer.prepare(pa.record_batch({"id": pa.array([], pa.string()), "it": pa.nulls(0)})).num_rows == 0


UUIDS = pa.ExtensionArray.from_storage(pa.uuid(), pa.array([MADID.bytes, None], pa.binary(16)))


@pytest.mark.parametrize("key", ["MADID", "EXTERN_ID"])
def test_uuids_are_written_as_usual(key: str) -> None:
    assert prepared_cells(key, UUIDS) == [str(MADID), None]


def test_flags_are_words_and_no_genders() -> None:
    assert prepared_cells("EXTERN_ID", pa.array([True, None])) == ["true", None]
    assert prepared_cells("GEN", pa.array([True, None])) == [None, None]


#: Types that hold no identifier.
UNFIT = [
    pa.array([["secret"]]),
    pa.array([["secret"]], pa.large_list(pa.string())),
    pa.array([["secret"]], pa.list_(pa.string(), 1)),
    pa.array([{"secret": "secret"}]),
    pa.array([[("secret", "secret")]], pa.map_(pa.string(), pa.string())),
    pa.array([timedelta(days=1)]),
    pa.array([pa.MonthDayNano([1, 1, 1])]),
    pa.array([time(1, 2, 3)], pa.time32("s")),
    pa.array([time(1, 2, 3)], pa.time32("ms")),
    pa.array([time(1, 2, 3)], pa.time64("us")),
    pa.array([time(1, 2, 3)], pa.time64("ns")),
    pa.UnionArray.from_sparse(pa.array([0], pa.int8()), [pa.array(["secret"])]),
    pa.UnionArray.from_dense(pa.array([0], pa.int8()), pa.array([0], pa.int32()), [pa.array(["secret"])]),
    pa.ListViewArray.from_arrays(pa.array([0], pa.int32()), pa.array([1], pa.int32()), pa.array(["secret"])),
]


@pytest.mark.parametrize("array", UNFIT, ids=lambda array: str(array.type))
@pytest.mark.parametrize("key", [*TEXTS, "LOOKALIKE_VALUE"])
def test_a_type_without_text_is_an_error_with_column_and_type(array: pa.Array, key: str) -> None:
    other = "MADID" if key == "EXTERN_ID" else "EXTERN_ID"
    columns = {"id": other, "it_is_this": key}
    preparer = Preparer(resolve_mapping(list(columns), columns), value_based=key == "LOOKALIKE_VALUE")
    with pytest.raises(UsersError) as caught:
        preparer.prepare(pa.record_batch({"id": ["a"], "it_is_this": array}))
    assert "'it_is_this'" in str(caught.value)
    assert str(array.type) in str(caught.value)
    assert "secret" not in str(caught.value).replace(str(array.type), "")


@pytest.mark.parametrize("key", ["EMAIL", "LN", "CT", "MADID", "PHONE", "ZIP"])
def test_texts_may_begin_in_the_midst_of_their_memory(key: str) -> None:
    """Other systems cut arrays so; of such an array Arrow's ``ascii_lower`` reads past the end."""
    before, text = b"x" * 1000, TEXTS[key].encode()
    offsets = struct.pack("3i", len(before), len(before), len(before) + len(text))
    array = pa.Array.from_buffers(pa.string(), 2, [None, pa.py_buffer(offsets), pa.py_buffer(before + text)])
    array.validate(full=True)
    assert prepared_cells(key, array) == [None, clean(key, TEXTS[key])]
