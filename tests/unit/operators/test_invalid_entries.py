"""What the log says of entries that Meta calls invalid."""

from __future__ import annotations

import json

import pytest
from operator_tools import emails, sha, traces_of

from airflow_provider_fbca.graph.api import GraphApi


@pytest.fixture
def meta_refuses(monkeypatch):
    """Lets Meta call the rows of some people invalid, each with a sample of the row as it was sent."""

    def refuse(*names):
        digests = {sha(f"{name}@example.com") for name in names}
        send = GraphApi.send

        def answer(self, method, path, members, **options):
            told = send(self, method, path, members, **options)
            rows = [row for row in json.loads(bytes(members["payload"]))["data"] if digests & set(row)]
            return told | {
                "num_invalid_entries": len(rows),
                "invalid_entry_samples": {json.dumps(row): "Invalid EMAIL" for row in rows},
            }

        monkeypatch.setattr(GraphApi, "send", answer)

    return refuse


def test_sampled_rows_are_told_by_their_numbers_in_the_snapshot_and_nothing_else(run, meta_refuses, everything_told):
    meta_refuses("c", "f")
    manifest = run("upload", emails(*"aabcdef"), batch_size=2)
    assert manifest["invalid"] == 2
    told = everything_told(None)
    place = f"the snapshot of ledger entry {manifest['entry']['id']} (numbers from 1): 3, 6."
    assert f"Meta calls 2 entries invalid; they are in nobody's audience; sampled rows added from {place}" in told
    for name in "cf":
        assert not [trace for trace in traces_of(f"{name}@example.com")[2:] if trace in told]


def test_sampled_removals_are_told_by_the_entry_that_had_added_them(run, meta_refuses, everything_told):
    first = run("upload", emails("a", "b"))["entry"]["id"]
    second = run("upload", emails("c", "b", "d"))["entry"]["id"]
    meta_refuses("b", "d", "new")
    third = run("refresh", emails("new"))["entry"]["id"]
    told = everything_told(None)
    assert f"sampled rows added from the snapshot of ledger entry {third} (numbers from 1): 1" in told
    assert f"sampled rows removed from the snapshot of ledger entry {first} (numbers from 1): 2" in told
    assert f"sampled rows removed from the snapshot of ledger entry {second} (numbers from 1): 3" in told


def test_twenty_rows_are_enough(run, meta_refuses, everything_told):
    names = [f"p{number}" for number in range(30)]
    meta_refuses(*names)
    run("upload", emails(*names))
    told = everything_told(None)
    assert f"(numbers from 1): {', '.join(map(str, range(1, 21)))}; 10 more were sampled." in told


def test_without_samples_the_count_alone_is_told(run, sandbox, monkeypatch, everything_told):
    send = GraphApi.send
    monkeypatch.setattr(GraphApi, "send", lambda *args, **options: send(*args, **options) | {"num_invalid_entries": 1})
    run("upload", emails("a"))
    assert "Meta calls 1 entries invalid; they are in nobody's audience." in everything_told(None)
