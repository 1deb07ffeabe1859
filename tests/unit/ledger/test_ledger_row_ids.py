"""Rows have equal ids exactly when they say the same of who a person is (rule S2)."""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from ledger_rows import batch_of, digest

from airflow_provider_fbca.ledger.rowid import NOT_IDENTITY, ROW_ID, row_ids

KEYS = ["EMAIL", "PHONE", "FN", "LN", "ZIP", "EXTERN_ID", "MADID", "LOOKALIKE_VALUE"]

texts = st.sampled_from(["ann", "lee", "ann lee", "", "0", "null", "ann\x00", "Ünal", "🎈", "a" * 200]) | st.text(
    max_size=8
)
rows = st.fixed_dictionaries(
    {key: st.none() | (st.floats(0, 9) if key == "LOOKALIKE_VALUE" else texts) for key in KEYS}
)


def identity(row):
    return frozenset((key, cell) for key, cell in row.items() if cell is not None and key not in NOT_IDENTITY)


def ids_of(rows, keys):
    return row_ids(batch_of(rows, keys)).to_pylist()


@settings(max_examples=100)
@given(st.lists(rows, min_size=2, max_size=12))
def test_ids_are_equal_exactly_when_the_identities_are(people):
    found = ids_of(people, KEYS)
    for one, id_of_one in zip(people, found, strict=True):
        for other, id_of_other in zip(people, found, strict=True):
            assert (id_of_one == id_of_other) == (identity(one) == identity(other))


@given(st.lists(rows, min_size=1, max_size=6), st.permutations(KEYS), st.sets(st.sampled_from(KEYS), max_size=4))
def test_the_order_of_columns_and_columns_of_blanks_change_nothing(people, order, blank):
    people = [{key: None if key in blank else cell for key, cell in row.items()} for row in people]
    expected = ids_of(people, KEYS)
    assert ids_of(people, order) == expected
    assert ids_of(people, [key for key in order if key not in blank]) == expected


@given(st.lists(rows, min_size=1, max_size=20), st.integers(0, 19), st.integers(1, 20))
def test_slices_have_the_ids_of_the_whole(people, start, length):
    whole = batch_of(people, KEYS)
    piece = whole.slice(start, length)
    assert row_ids(piece).to_pylist() == row_ids(whole).to_pylist()[start : start + length]


def test_a_filtered_batch_has_the_ids_of_its_rows():
    whole = batch_of([{"EMAIL": str(n), "EXTERN_ID": None if n % 2 else str(n)} for n in range(10)], KEYS)
    mask = pa.array([n in {1, 4, 7} for n in range(10)])
    assert row_ids(whole.filter(mask)).to_pylist() == row_ids(whole).filter(mask).to_pylist()


def test_a_change_of_worth_or_of_data_processing_is_no_change_of_identity():
    keys = ["EMAIL", *sorted(NOT_IDENTITY)]
    plain = pa.record_batch({"EMAIL": pa.array([digest("ann")], pa.binary(32))})
    described = pa.record_batch(
        [pa.array([digest("ann")], pa.binary(32)), *(pa.array(["7"]) for _ in NOT_IDENTITY)], names=keys
    )
    assert row_ids(plain).to_pylist() == row_ids(described).to_pylist()


def test_the_same_cell_under_another_key_is_another_identity():
    found = [ids_of([{key: "ann"}], [key])[0] for key in ("EMAIL", "FN", "LN", "EXTERN_ID", "MADID")]
    assert len(set(found)) == len(found)
    assert ids_of([{"FN": "ann", "LN": "lee"}], KEYS) != ids_of([{"FN": "lee", "LN": "ann"}], KEYS)


@pytest.mark.parametrize("type_of", [pa.large_string(), pa.dictionary(pa.int8(), pa.string()), pa.string_view()])
def test_the_arrow_type_of_a_plain_key_does_not_matter(type_of):
    cells = pa.array(["a", None, "a", "b"])
    typed = cells.dictionary_encode() if pa.types.is_dictionary(type_of) else cells.cast(type_of)
    assert row_ids(pa.record_batch({"EXTERN_ID": typed})) == row_ids(pa.record_batch({"EXTERN_ID": cells}))


def test_a_batch_without_rows_has_no_ids():
    empty = row_ids(batch_of([], KEYS))
    assert empty.type == ROW_ID
    assert len(empty) == 0


def plainly(row):
    """The id by its definition, in Python's own integers."""
    lanes = [0, 0]
    for key, cell in row.items():
        constants = hashlib.sha256(f"fbca row id: {key}".encode()).digest()
        for lane in range(2):
            part = slice(8 * lane, 8 * lane + 8)
            constant = int.from_bytes(constants[part], "little") | 1
            lanes[lane] += int.from_bytes(digest(cell)[part], "little") * constant
    return b"".join((lane % 2**64).to_bytes(8, "little") for lane in lanes)


@given(rows)
def test_ids_are_a_format_that_no_later_version_may_change(row):
    assert ids_of([row], KEYS) == [plainly(dict(identity(row)))]


def test_ids_do_not_depend_on_the_process():
    code = (
        "import json, hashlib, pyarrow as pa\n"
        "from airflow_provider_fbca.ledger.rowid import row_ids\n"
        "cells = pa.array([hashlib.sha256(b'ann').digest()], pa.binary(32))\n"
        "print(json.dumps([i.hex() for i in row_ids(pa.record_batch({'EMAIL': cells})).to_pylist()]))\n"
    )
    told = subprocess.run([sys.executable, "-c", code], capture_output=True, check=True, text=True)
    assert json.loads(told.stdout) == [each.hex() for each in ids_of([{"EMAIL": "ann"}], ["EMAIL"])]
