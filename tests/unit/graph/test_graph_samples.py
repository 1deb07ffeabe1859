"""Meta's samples of invalid entries become positions of rows, and nothing else of them is kept."""

from __future__ import annotations

import itertools
import json
import logging
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pytest
from graph_wire import AUDIENCE, OddServer, Reply, digest

from airflow_provider_fbca.graph.payload import payload_json
from airflow_provider_fbca.graph.samples import sampled_rows
from airflow_provider_fbca.graph.upload import BatchAck, UserUploader

if TYPE_CHECKING:
    from airflow_provider_fbca.graph.api import GraphApi

ROWS = pa.record_batch(
    {
        "EXTERN_ID": ["a", "b/ü", 'c"', "d"],
        "EMAIL": pa.array([digest(number) for number in range(4)], pa.binary(32)),
        "LOOKALIKE_VALUE": [1.0, 44.5, 0.0, 1e20],
        "DATA_PROCESSING_OPTIONS": pa.array([["LDU"], None, [], ["LDU"]], pa.list_(pa.string())),
    }
)
PAYLOAD = payload_json(ROWS)
SENT = json.loads(PAYLOAD)["data"]


def uploader(api: GraphApi, audience_id: str = AUDIENCE, **options: Any) -> UserUploader:
    ids = itertools.count(11)
    return UserUploader(api, audience_id, **{"new_session": lambda: next(ids), "batch_size": 3} | options)


@pytest.mark.parametrize(
    "write",
    [
        json.dumps,
        lambda row: json.dumps(row, separators=(",", ":")),
        lambda row: json.dumps(row, ensure_ascii=False).replace("/", "\\/"),
        lambda row: json.dumps([int(cell) if isinstance(cell, float) and cell % 1 == 0 else cell for cell in row]),
    ],
    ids=["spaces", "no spaces", "escaped as PHP does", "whole numbers"],
)
@pytest.mark.parametrize("form", ["map", "list", "list of maps"])
def test_rows_are_found_however_meta_writes_them(write: Any, form: str) -> None:
    texts = [write(SENT[1]), write(SENT[3])]
    samples = {
        "map": dict.fromkeys(texts, "Invalid"),
        "list": texts,
        "list of maps": [{text: "Invalid"} for text in texts],
    }
    assert sampled_rows(samples[form], PAYLOAD) == (1, 3)


def test_a_list_of_rows_is_understood_too() -> None:
    assert sampled_rows([SENT[0], SENT[2]], PAYLOAD) == (0, 2)


@pytest.mark.parametrize("samples", [["abc", "ghi"], {'["abc"]': "x", '["ghi"]': "x"}, {"abc": "x", '"ghi"': "x"}])
def test_rows_of_one_key_are_found_with_and_without_their_brackets(samples: Any) -> None:
    assert sampled_rows(samples, payload_json(pa.record_batch({"EXTERN_ID": ["abc", "def", "ghi"]}))) == (0, 2)


def test_rows_that_are_the_same_are_all_found() -> None:
    payload = payload_json(pa.record_batch({"EXTERN_ID": ["abc", "def", "abc"]}))
    assert sampled_rows({'["abc"]': "x"}, payload) == (0, 2)


@pytest.mark.parametrize(
    "samples",
    [None, {}, [], "", 7, True, "abc", [None, 7, True, {}, []], {"": "x"}, {"[": "x"}, ["[" * 100_000], {"other": "x"}],
    ids=lambda each: str(each)[:20],
)
def test_what_cannot_be_told_is_nobody(samples: Any) -> None:
    assert sampled_rows(samples, PAYLOAD) == ()


def test_a_sample_nested_deeper_than_anybody_reads_is_nobody() -> None:
    nested: list[Any] = []
    for _ in range(5000):
        nested = [nested]
    assert sampled_rows([nested], PAYLOAD) == ()


def test_positions_count_over_all_batches_whatever_their_order(odd: OddServer, odd_api: GraphApi) -> None:
    def answer(seen: Any) -> Reply:
        bad = [row for row in seen.json["payload"]["data"] if int(row[0]) % 4 == 1]
        samples: Any = {json.dumps(row): "Invalid" for row in bad} if seen.json["session"]["batch_seq"] % 2 else bad
        return Reply(200, {"num_received": 3, "num_invalid_entries": len(bad), "invalid_entry_samples": samples})

    odd.answer = answer
    acks: list[BatchAck] = []
    rows = pa.record_batch({"EXTERN_ID": [str(number) for number in range(14)]})
    totals = uploader(odd_api, on_batch=acks.append).add([rows], total=14)
    assert (totals.invalid, totals.invalid_rows) == (4, (1, 5, 9, 13))
    assert {ack.first_row: ack.invalid_rows for ack in acks} == {0: (1,), 3: (5,), 6: (), 9: (9,), 12: (13,)}


def test_a_hundred_positions_are_kept_at_most(odd: OddServer, odd_api: GraphApi) -> None:
    odd.answer = lambda seen: Reply(
        200, {"num_invalid_entries": 80, "invalid_entry_samples": seen.json["payload"]["data"]}
    )
    rows = pa.record_batch({"EXTERN_ID": [str(number) for number in range(240)]})
    totals = uploader(odd_api, batch_size=80).add([rows], total=240)
    assert (totals.invalid, len(totals.invalid_rows)) == (240, 100)


def test_the_sandbox_samples_what_is_wrong_and_empties_in_both_forms(sandbox: Any, api: GraphApi, caplog: Any) -> None:
    caplog.set_level(logging.DEBUG)
    good, bad = digest(1).hex(), "ZEPHYRINE@example.com"
    rows = pa.record_batch({"EMAIL": [good, bad, digest(2).hex(), digest(3).hex(), bad + "2", digest(4).hex(), good]})
    upload = uploader(api, sandbox.create_audience())
    for kind in (upload.add, upload.remove, upload.replace):
        totals = kind([rows], total=7)
        assert (totals.invalid, totals.invalid_rows) == (2, (1, 4))
        assert "ZEPHYRINE" not in repr(totals)
        sandbox.advance(10)
    assert "ZEPHYRINE" not in caplog.text
