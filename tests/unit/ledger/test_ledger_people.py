"""Whose rows are whose: found by any combination, through any number of rows, in any cut of batches."""

from __future__ import annotations

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from airflow_provider_fbca.ledger import People

KEYS = ["EMAIL", "PHONE", "FN", "LN", "ZIP"]
COMBINATIONS = (("EMAIL",), ("PHONE",), ("EXTERN_ID",), ("FN", "LN", "ZIP"))
CELL = st.sampled_from([None, "1", "2", "3", "4"])
ROWS = st.lists(st.fixed_dictionaries(dict.fromkeys(KEYS, CELL)), max_size=8)


def names(row):
    return {
        (combination, tuple(row.get(key) for key in combination))
        for combination in COMBINATIONS
        if all(row.get(key) is not None for key in combination)
    }


def closure(known, rows):
    while met := set().union(*(names(row) for row in rows if names(row) & known)) - known:
        known = known | met
    return known


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=150)
@given(given_rows=ROWS, rows=ROWS, size=st.integers(1, 9), keys=st.sets(st.sampled_from(KEYS), min_size=1))
def test_l12_a_persons_rows_are_found_as_in_plain_python(snapshot_of, given_rows, rows, size, keys):
    held = [{key: row[key] for key in keys} for row in rows]
    known = set().union(*(names(row) for row in given_rows))
    people, followed = People(COMBINATIONS), People(COMBINATIONS)
    for each in (people, followed):
        each.learn(snapshot_of(given_rows, KEYS))
    snapshot = snapshot_of(held, sorted(keys), batch=size)
    assert people.rows_in(snapshot).tolist() == [bool(names(row) & known) for row in held]
    whole = closure(known, held)
    assert followed.connected_in(snapshot).tolist() == [bool(names(row) & whole) for row in held]
    assert followed.known == len(whole)


def test_nobody_is_found_where_nobody_is_known(snapshot_of):
    people = People(COMBINATIONS)
    assert people.rows_in(snapshot_of([{"EMAIL": "1"}, {"EMAIL": None}], ["EMAIL"])).tolist() == [False, False]
    assert people.rows_in(snapshot_of([], [])).tolist() == []
