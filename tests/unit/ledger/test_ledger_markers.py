"""Markers: what is not a whole marker of this format counts as open (rule L2)."""

from __future__ import annotations

import dataclasses
import json
from dataclasses import replace

import pytest
from ledger_rows import marker_of

from airflow_provider_fbca.ledger import OpenMarker, ProgressNote, SettledMarker


def _is_required(field):
    return field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING


SETTLED = SettledMarker(("0000000001-aa", "0000000002-bb"), "2026-01-01T00:00:00+00:00", {"added": 3})


def changed(marker, **fields):
    return json.dumps(json.loads(marker.to_json()) | fields).encode()


def without(marker, field):
    content = json.loads(marker.to_json())
    del content[field]
    return json.dumps(content).encode()


@pytest.mark.parametrize(
    "fields", [{}, {"kind": "remove", "strategy": None, "reads": ("0000000001-aa",)}, {"retention_days": 30}]
)
def test_an_open_marker_comes_back_as_it_was(fields):
    marker = marker_of(**fields)
    assert OpenMarker.from_json(marker.to_json()) == marker


def test_a_settled_marker_comes_back_as_it_was():
    assert SettledMarker.from_json(SETTLED.to_json()) == SETTLED
    whole = replace(SETTLED, again=2, again_digest="sha256:00", sent_all_at="2026-01-01T00:00:00+00:00")
    assert SettledMarker.from_json(whole.to_json()) == whole


@pytest.mark.parametrize("field", ["again", "again_digest", "sent_all_at"])
@pytest.mark.parametrize("value", [None, -1, True, [], 1.5])
def test_a_settled_marker_may_not_tell_who_is_surely_in(field, value):
    assert getattr(SettledMarker.from_json(changed(SETTLED, **{field: value})), field) is None
    assert getattr(SettledMarker.from_json(without(SETTLED, field)), field) is None


def test_fields_that_a_later_version_adds_are_ignored():
    assert OpenMarker.from_json(changed(marker_of(), lease=7)).__dict__.keys() == marker_of().__dict__.keys()
    assert SettledMarker.from_json(changed(SETTLED, lease=7)) == SETTLED


@pytest.mark.parametrize("kind", [OpenMarker, SettledMarker])
@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"{",
        b"null",
        b"[]",
        b"7",
        b'"open"',
        b"{}",
        b"\xff\xfe",
        b"{" * 3,
        b"[" * 100_000,
        b'{"format": 1}',
        bytes(300),
    ],
    ids=repr,
)
def test_what_is_no_marker_is_none(kind, content):
    assert kind.from_json(content) is None


@pytest.mark.parametrize("marker", [marker_of(), SETTLED], ids=["open", "settled"])
def test_no_half_of_a_marker_is_taken_for_a_whole(marker):
    content = marker.to_json()
    for end in range(len(content.rstrip())):
        assert type(marker).from_json(content[:end]) is None


@pytest.mark.parametrize("other", [0, 2, "1", None])
@pytest.mark.parametrize("marker", [marker_of(), SETTLED], ids=["open", "settled"])
def test_a_marker_of_another_format_is_none(marker, other):
    assert type(marker).from_json(changed(marker, format=other)) is None


ALWAYS = {field.name for field in dataclasses.fields(OpenMarker) if _is_required(field)}


@pytest.mark.parametrize("field", sorted(ALWAYS))
def test_an_open_marker_without_a_field_is_none(field):
    assert OpenMarker.from_json(without(marker_of(), field)) is None


def test_what_only_helps_a_retry_may_be_missing_in_an_open_marker():
    content = json.loads(marker_of(fingerprint="x", left_behind=True).to_json())
    kept = {name: value for name, value in content.items() if name in ALWAYS | {"format"}}
    opened = OpenMarker.from_json(json.dumps(kept).encode())
    assert (opened.fingerprint, opened.plan, opened.left_behind) == (None, None, False)


@pytest.mark.parametrize(
    "acknowledged", [[1], {"add": [[1]]}, {"add": [["0", "1"]]}, {"add": [[-1, 2]]}, {"add": 3}, None]
)
def test_a_progress_note_of_anything_but_ranges_is_none(acknowledged):
    whole = ProgressNote("add", {"add": [(0, 2)]}, "2026-01-01T00:00:00+00:00")
    assert ProgressNote.from_json(whole.to_json()) == whole
    assert ProgressNote.from_json(changed(whole, acknowledged=acknowledged)) is None


@pytest.mark.parametrize("wrong", [None, 5, "0000000001-aa", {"a": 1}, [["0000000001-aa"]], [1]])
def test_lists_of_entries_that_are_none_make_no_marker(wrong):
    assert OpenMarker.from_json(changed(marker_of(), reads=wrong)) is None
    assert OpenMarker.from_json(changed(marker_of(), schema=wrong)) is None
    assert SettledMarker.from_json(changed(SETTLED, supersedes=wrong)) is None


def test_totals_that_are_no_table_make_no_settled_marker():
    assert SettledMarker.from_json(changed(SETTLED, totals=[1])) is None
    assert SettledMarker.from_json(changed(SETTLED, totals=["abc"])) is None
