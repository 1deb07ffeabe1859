"""Limited Data Use is read from cells of any kind, and never guessed."""

from __future__ import annotations

import json

import pyarrow as pa
import pytest

from airflow_provider_fbca.exceptions import MappingError, OptionsError, UsersError
from airflow_provider_fbca.identity import KEYS, Blank, Context, Preparer, identify, resolve_mapping

OPTIONS = "DATA_PROCESSING_OPTIONS"


@pytest.mark.parametrize(
    "text", ["LDU", " ldu ", "true", "T", "yes", "y", "1", "1.0", '["LDU"]', "['ldu']", "{LDU}", "LDU,LDU"]
)
def test_on_is_on(text: str) -> None:
    assert identify(KEYS[OPTIONS], text, Context()) == "LDU"


@pytest.mark.parametrize("text", [None, "", " ", "null", "N/A", "false", "F", "no", "n", "0", "0.0", "[]", "{}", "[ ]"])
def test_off_is_nothing(text: str | None) -> None:
    assert identify(KEYS[OPTIONS], text, Context()) is Blank.EMPTY


@pytest.mark.parametrize("text", ["CCPA", "2", "LDU!", "true,false", '["LDU","CCPA"]', "L D U", "-1", "off limits"])
def test_what_is_neither_is_not_guessed(text: str) -> None:
    assert identify(KEYS[OPTIONS], text, Context()) is Blank.NOT_OPTIONS


@pytest.mark.parametrize(("end", "known"), [("_COUNTRY", {"0", "1"}), ("_STATE", {"0", "1000"})])
def test_places_are_metas_own_numbers(end: str, known: set[str]) -> None:
    for text in ("0", "1", "1000", "1.0", "1000.0", "01", "us", "CA", "-1", "2"):
        number = text.removesuffix(".0")
        expected = number if number in known else Blank.NOT_A_PLACE
        assert identify(KEYS[OPTIONS + end], text, Context()) == expected


def prepared(columns: dict[str, object], told: dict[str, str] | None = None, **options: object) -> pa.RecordBatch:
    batch = pa.record_batch(columns)
    preparer = Preparer(resolve_mapping(batch.schema.names, told), **options)  # type: ignore[arg-type]
    got = preparer.prepare(batch)
    assert got.schema == preparer.schema
    return got


def test_columns_and_constants_look_the_same_in_arrow() -> None:
    columns = {"email": ["a@b.co"], OPTIONS: [True], f"{OPTIONS}_COUNTRY": [1], f"{OPTIONS}_STATE": [1000]}
    by_column = prepared(columns)
    by_option = prepared({"email": ["a@b.co"]}, limited_data_use={"country": 1, "state": 1000})
    assert by_column == by_option
    assert by_column.schema.types[1:] == [pa.list_(pa.string()), pa.int32(), pa.int32()]


@pytest.mark.parametrize("rows", [0, 1, 3])
def test_constants_stand_in_every_row_that_is_kept(rows: int) -> None:
    batch = prepared({"email": pa.array(["a@b.co"] * rows + ["bad"], pa.string())}, limited_data_use=True)
    assert batch.column(OPTIONS).to_pylist() == [["LDU"]] * rows


def test_it_finds_nobody_by_itself() -> None:
    with pytest.raises(MappingError, match="do not find a person"):
        resolve_mapping([OPTIONS])
    preparer = Preparer(resolve_mapping(["email", OPTIONS]))
    preparer.prepare(pa.record_batch({"email": [None, None], OPTIONS: [True, False]}))
    assert preparer.report.rejected == {"empty": 2}


def test_the_first_of_several_columns_that_says_on_wins() -> None:
    told = {"email": "EMAIL", "one": OPTIONS, "two": OPTIONS}
    columns = {"email": ["a@b.co", "c@d.co", "e@f.co"], "one": [None, "LDU", "no"], "two": [[True], [], [False]]}
    got = prepared(columns, told)
    assert got.column(OPTIONS).to_pylist() == [["LDU"], ["LDU"], None]


@pytest.mark.parametrize("key", ["EMAIL", "FN", "LOOKALIKE_VALUE", "DATA_PROCESSING_OPTIONS_STATE"])
def test_lists_are_read_for_nothing_else(key: str) -> None:
    told = {"id": "EXTERN_ID", "on": OPTIONS, "on2": "DATA_PROCESSING_OPTIONS_COUNTRY", "list": key}
    if key.startswith(OPTIONS):
        told["list"] = key
    else:
        del told["on"], told["on2"]
    columns = {"id": ["1"], "on": [True], "on2": [1], "list": [["LDU"]]}
    with pytest.raises(UsersError, match="holds no identifier"):
        prepared(columns, told, value_based=key == "LOOKALIKE_VALUE")


def test_it_has_no_digests() -> None:
    with pytest.raises(OptionsError, match="is not hashed"):
        prepared({"email": ["a@b.co"], OPTIONS: [True]}, hashed={OPTIONS: True})


def test_rejects_tell_the_row_and_the_cell() -> None:
    preparer = Preparer(resolve_mapping(["email", OPTIONS]))
    _, rejects = preparer.prepare_with_rejects(pa.record_batch({"email": ["a@b.co"], OPTIONS: ["who knows"]}))
    assert rejects.to_pylist() == [
        {"row": 1, "key": None, "reason": "unreadable_data_processing_options"},
        {"row": 1, "key": OPTIONS, "reason": "not_data_processing_options"},
    ]
    assert json.loads(json.dumps(preparer.report.as_dict()))["keys"][OPTIONS]["invalid"] == {
        "not_data_processing_options": 1
    }


@pytest.mark.parametrize(
    ("filled", "rows", "share"),
    [(0, 3, "0.0"), (1, 1_000_000, "0.1"), (999_999, 1_000_000, "99.9"), (2, 3, "66.6"), (3, 3, "100.0")],
)
def test_only_all_is_a_hundred_percent_and_only_nothing_is_none(filled: int, rows: int, share: str) -> None:
    preparer = Preparer(resolve_mapping(["email"]))
    preparer.report.rows_in = rows
    preparer.report.keys["EMAIL"].filled = filled
    assert f"EMAIL: {filled:,} filled ({share} %), 0 blank" in preparer.report.lines()
