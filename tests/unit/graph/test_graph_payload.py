from __future__ import annotations

import json
import math
from decimal import Decimal
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from airflow_provider_fbca.exceptions import UsersError
from airflow_provider_fbca.graph.payload import json_bytes, payload_json, payloads_within, request_body

TEXT = st.text(alphabet=st.characters(exclude_categories=["Cs"]), max_size=12)
HOSTILE = st.sampled_from(['"', "\\", '\\"', "\u2028\u2029", "\x00\x1f\x7f", "é😀", "</script>", "\n\r\t", '"],["', ""])
CELLS: dict[str, tuple[pa.DataType, st.SearchStrategy[Any]]] = {
    "EMAIL": (pa.binary(32), st.none() | st.binary(min_size=32, max_size=32)),
    "PHONE": (pa.binary(32), st.none() | st.binary(min_size=32, max_size=32)),
    "EXTERN_ID": (pa.string(), st.none() | TEXT | HOSTILE),
    "MADID": (pa.large_string(), st.none() | TEXT | HOSTILE),
    "LOOKALIKE_VALUE": (pa.float64(), st.none() | st.floats()),
    "DATA_PROCESSING_OPTIONS": (pa.list_(pa.string()), st.none() | st.lists(TEXT | HOSTILE, max_size=2)),
    "DATA_PROCESSING_OPTIONS_COUNTRY": (pa.int32(), st.none() | st.integers(0, 1)),
    "DATA_PROCESSING_OPTIONS_STATE": (pa.int64(), st.none() | st.integers(-(2**63), 2**63 - 1)),
}


def naive_cell(name: str, value: Any) -> Any:
    if name == "DATA_PROCESSING_OPTIONS":
        return value or []
    if value is None or (isinstance(value, float) and not math.isfinite(value)):
        return 0 if name.startswith("DATA_PROCESSING_OPTIONS_") else ""
    return value.hex() if isinstance(value, bytes) else value


def naive(batch: pa.RecordBatch) -> dict[str, Any]:
    names = batch.schema.names
    rows = zip(*(column.to_pylist() for column in batch.columns), strict=True)
    return {
        "schema": names,
        "data": [[naive_cell(name, value) for name, value in zip(names, row, strict=True)] for row in rows],
    }


@st.composite
def batches(draw: st.DrawFn) -> pa.RecordBatch:
    names = draw(st.lists(st.sampled_from(sorted(CELLS)), min_size=1, max_size=8))
    count = draw(st.integers(0, 9))
    columns = []
    for name in names:
        kind, cells = CELLS[name]
        column = pa.array(draw(st.lists(cells, min_size=count, max_size=count)), kind)
        if draw(st.booleans()) and not pa.types.is_nested(kind):
            column = column.dictionary_encode()
        columns.append(column)
    batch = pa.RecordBatch.from_arrays(columns, names)
    first = draw(st.integers(0, count))
    return batch.slice(first, draw(st.integers(0, count - first)))


@settings(max_examples=300, deadline=None)
@given(batches())
def test_the_body_is_what_a_plain_loop_would_write(batch: pa.RecordBatch) -> None:
    written = payload_json(batch)
    assert json.loads(written) == naive(batch)
    assert b"\n" not in written


@settings(max_examples=100, deadline=None)
@given(batches(), st.integers(1, 400))
def test_parts_within_a_limit_hold_every_row_once_and_in_order(batch: pa.RecordBatch, limit: int) -> None:
    parts = list(payloads_within(batch, limit))
    assert [row for payload, _ in parts for row in json.loads(bytes(payload))["data"]] == naive(batch)["data"]
    assert all(len(json.loads(bytes(payload))["data"]) == count for payload, count in parts)
    assert all(request_body({"payload": payload}) == request_body({"payload": bytes(payload)}) for payload, _ in parts)
    assert all(len(payload) == len(bytes(payload)) for payload, _ in parts)
    assert all(len(payload) <= limit or count <= 1 for payload, count in parts if count)


def test_rows_stay_whole_beyond_one_buffer() -> None:
    count = 25_000
    batch = pa.record_batch(
        {
            "EXTERN_ID": pa.array([f"c{number}" for number in range(count)]),
            "EMAIL": pa.array([None if n % 3 else n.to_bytes(32, "big") for n in range(count)], pa.binary(32)),
            "LOOKALIKE_VALUE": pa.array([n / 4 for n in range(count)]),
        }
    )
    data = json.loads(payload_json(batch.slice(5)))["data"]
    for number in range(5, count):
        assert data[number - 5] == [
            f"c{number}",
            "" if number % 3 else number.to_bytes(32, "big").hex(),
            number / 4,
        ]


def test_hashes_are_lower_case_and_a_missing_one_is_blank() -> None:
    batch = pa.record_batch({"EMAIL": pa.array([b"\xab" * 32, None], pa.binary(32))})
    assert payload_json(batch) == b'{"schema":["EMAIL"],"data":[["' + b"ab" * 32 + b'"],[""]]}'


@pytest.mark.parametrize(
    ("column", "cells"),
    [
        (pa.array([44.0, 44.5, 1e300, None, math.nan, math.inf]), ["44", "44.5", "1e+300", '""', '""', '""']),
        (pa.array([0.1, None], pa.float32()), ["0.1", '""']),
        (pa.array([Decimal("44.50"), None]), ["44.50", '""']),
        (pa.array([True, None]), ["true", '""']),
        (pa.array([None, None]), ['""', '""']),
        (pa.array([7, None], pa.uint8()), ["7", '""']),
    ],
)
def test_numbers_are_written_shortest_and_unquoted(column: pa.Array, cells: list[str]) -> None:
    expected = ",".join(f"[{cell}]" for cell in cells)
    assert payload_json(pa.record_batch({"V": column})).decode() == f'{{"schema":["V"],"data":[{expected}]}}'


def test_limited_data_use() -> None:
    batch = pa.record_batch(
        {
            "DATA_PROCESSING_OPTIONS": pa.array([["LDU"], [], None]),
            "DATA_PROCESSING_OPTIONS_COUNTRY": pa.array([1, 0, None]),
            "DATA_PROCESSING_OPTIONS_STATE": pa.array([1000, None, None]),
        }
    )
    assert json.loads(payload_json(batch))["data"] == [[["LDU"], 1, 1000], [[], 0, 0], [[], 0, 0]]


def test_further_members_of_the_payload() -> None:
    batch = pa.record_batch({"APPUID": ["1"]})
    written = json.loads(payload_json(batch, extra={"is_raw": True, "app_ids": ["12"]}))
    assert written == {"schema": ["APPUID"], "data": [["1"]], "is_raw": True, "app_ids": ["12"]}


def test_a_key_may_occur_twice() -> None:
    batch = pa.RecordBatch.from_arrays([pa.array(["a"]), pa.array(["b"])], ["EXTERN_ID", "EXTERN_ID"])
    assert json.loads(payload_json(batch)) == {"schema": ["EXTERN_ID", "EXTERN_ID"], "data": [["a", "b"]]}


@pytest.mark.parametrize("kind", [pa.binary(), pa.binary(16), pa.timestamp("s"), pa.date32()])
def test_a_type_without_a_form_is_refused_without_its_values(kind: pa.DataType) -> None:
    batch = pa.record_batch({"EMAIL": pa.nulls(2, kind)})
    with pytest.raises(UsersError, match="Column EMAIL has the type"):
        payload_json(batch)


def test_a_request_body_is_put_together_from_bytes() -> None:
    body = request_body({"payload": b'{"a":1}', "session": json_bytes({"é": "\u2028"})})
    assert json.loads(body) == {"payload": {"a": 1}, "session": {"é": "\u2028"}}
    assert request_body({}) == b"{}"
