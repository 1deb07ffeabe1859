"""Who is out by a removal: found in files of names, and equal to a union-find in Python."""

from __future__ import annotations

import stat

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from ledger_rows import batch_of, stored_keys

from airflow_provider_fbca.ledger import RowSets, buckets, links, snapshot
from airflow_provider_fbca.ledger.rowid import combination_ids, row_ids, whole_ids

KEYS = ["EMAIL", "PHONE", "FN", "LN", "EXTERN_ID"]
COMBINATIONS = (("EMAIL",), ("PHONE",), ("EXTERN_ID",), ("FN", "LN"), ("MADID",))
quietly = settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])

people = st.fixed_dictionaries({key: st.sampled_from([None, "a", "b", "c"]) for key in KEYS})
lists = st.lists(people, max_size=12)


def names_of(row, keys=KEYS):
    usable = [each for each in COMBINATIONS if set(each) <= set(keys)]
    return {(each, *(row[key] for key in each)) for each in usable if all(row[key] for key in each)}


def connected(everyone, seeds):
    """Positions of the rows that a seed reaches, by a union-find over rows and names."""
    parents = {}

    def find(node):
        while parents.setdefault(node, node) != node:
            node = parents[node]
        return node

    for place, names in enumerate(everyone):
        for name in names:
            parents[find(place)] = find(name)
    roots = {find(place) for place in seeds}
    return {place for place in range(len(everyone)) if find(place) in roots}


@pytest.fixture
def small_scans(monkeypatch):
    """Scans, sieves and chunks of a few rows and names, so that little data crosses many and collides."""
    monkeypatch.setattr(links, "_SCAN_ROWS", 5)
    monkeypatch.setattr(links, "_SIEVE_BITS", 2)
    monkeypatch.setattr(buckets, "_CHUNK", 4)
    monkeypatch.setattr(snapshot, "_GROUP_ROWS", 3)


def cells_of(row, keys=KEYS):
    return frozenset((key, row[key]) for key in keys if row[key])


@pytest.mark.parametrize("scans", [0, 1, 8])
@quietly
@given(
    st.lists(lists, min_size=1, max_size=3),
    lists,
    st.randoms(use_true_random=False),
    st.permutations(KEYS),
    st.integers(1, 9),
)
def test_connected_agrees_with_union_find(
    snapshot_of, small_scans, workdir, monkeypatch, scans, before, new, random, order, cut
):
    """The users' schema may lack keys that the others have, and whatever scans leave over, the index finds."""
    monkeypatch.setattr(links, "_MOST_SCANS", scans)
    sets = RowSets(workdir)
    narrow = order[: random.randint(1, len(order))]
    users = [row for rows in before for row in rows if random.random() < 0.7] + new
    removals = sets.difference(
        [snapshot_of(rows, KEYS, batch=cut) for rows in before],
        written := snapshot_of([{key: row[key] for key in narrow} for row in users], narrow, batch=cut),
    )
    found = sets.connected(removals, written, COMBINATIONS)
    staying = {cells_of(row, narrow) for row in users}
    old = [row for rows in before for row in rows]
    everyone = [names_of(row) for row in old] + [names_of(row, narrow) for row in users]
    leaving = [place for place, row in enumerate(old) if cells_of(row) not in staying]
    assert {len(old) + place for place in np.flatnonzero(found)} == {
        place for place in connected(everyone, leaving) if place >= len(old)
    }
    assert not [path for path in workdir.path.iterdir() if path.name.startswith("names")]


@pytest.mark.parametrize("links_of_chain", [60, 3000])
def test_a_chain_is_followed_to_its_end_in_few_scans(snapshot_of, workdir, monkeypatch, links_of_chain):
    scans = []
    scan = links._Search._scan
    monkeypatch.setattr(links._Search, "_scan", lambda self, frontier: scans.append(1) or scan(self, frontier))
    sets = RowSets(workdir)
    chain = [{"EMAIL": f"e{n // 2}", "PHONE": f"p{(n + 1) // 2}"} for n in range(links_of_chain)]
    strangers = [{"EMAIL": f"s{n}", "PHONE": None} for n in range(60)]
    users = snapshot_of(chain[1:] + strangers, ["EMAIL", "PHONE"])
    before = snapshot_of(chain + strangers, ["EMAIL", "PHONE"])
    removals = sets.difference((before,), users)
    assert removals.count == 1
    found = sets.connected(removals, users, (("EMAIL",), ("PHONE",)))
    assert found.tolist() == [True] * (links_of_chain - 1) + [False] * 60
    assert len(scans) == links._MOST_SCANS


def test_a_name_that_many_share_reaches_them_all_through_the_index(snapshot_of, workdir, monkeypatch):
    monkeypatch.setattr(links, "_MOST_SCANS", 1)
    first, last = {"EMAIL": "gone", "PHONE": "p"}, {"EMAIL": "stranger", "PHONE": None}
    household = [{"EMAIL": None, "PHONE": "p"}, *({"EMAIL": f"e{n}", "PHONE": "q"} for n in range(500))]
    bridge = {"EMAIL": "e7", "PHONE": "p"}
    users = snapshot_of([*household, bridge, last], ["EMAIL", "PHONE"])
    sets = RowSets(workdir)
    removals = sets.difference((snapshot_of([first], ["EMAIL", "PHONE"]),), users)
    assert sets.connected(removals, users, (("EMAIL",), ("PHONE",))).tolist() == [True] * 502 + [False]


def test_a_combination_needs_all_of_its_cells_and_names_its_keys(snapshot_of, workdir):
    sets = RowSets(workdir)
    before = snapshot_of([{"FN": "ann", "LN": "lee"}, {"FN": "ann", "LN": None}], ["FN", "LN"])
    users = snapshot_of(
        [{"FN": "lee", "LN": "ann"}, {"FN": "ann", "LN": None}, {"FN": None, "LN": "lee"}, {"FN": "ann", "LN": "lee"}],
        ["FN", "LN"],
    )
    assert sets.connected(sets.union((before,)), users, (("FN", "LN"),)).tolist() == [False, False, False, True]
    assert not sets.connected(sets.union((before,)), users, (("EMAIL",),)).any()


def test_nobody_is_connected_where_there_is_nobody(snapshot_of, workdir, monkeypatch):
    monkeypatch.setattr(links, "_MOST_SCANS", 0)
    sets, nobody = RowSets(workdir), snapshot_of([], ["EMAIL"])
    removals = sets.difference((snapshot_of([{"EMAIL": "a"}], ["EMAIL"]),), nobody)
    assert sets.connected(removals, nobody, (("EMAIL",),)).tolist() == []


def test_scratch_files_are_private_while_they_are_there(snapshot_of, workdir, monkeypatch):
    modes = {}

    def look(self, frontier):
        modes.update({path.name: stat.S_IMODE(path.stat().st_mode) for path in workdir.path.glob("names*")})
        return rows_with(self, frontier)

    rows_with = links._Index.rows_with
    monkeypatch.setattr(links._Index, "rows_with", look)
    monkeypatch.setattr(links, "_MOST_SCANS", 0)
    users = snapshot_of([{"EMAIL": "a"}] * 3, ["EMAIL"])
    sets = RowSets(workdir)
    assert sets.connected(sets.all_of(users), users, (("EMAIL",), ("PHONE",))).all()
    assert list(modes.values()) == [0o600] * 3
    assert not list(workdir.path.glob("names*"))


# -- difference and what is missing ----------------------------------------------------------------------------------

VALUED = ["EMAIL", "EXTERN_ID", "LOOKALIKE_VALUE"]
valued = st.fixed_dictionaries(
    {
        "EMAIL": st.sampled_from([None, "a", "b"]),
        "EXTERN_ID": st.sampled_from([None, "1", "2"]),
        "LOOKALIKE_VALUE": st.sampled_from([None, 1.0, 2.0]),
    }
)
distinct = st.lists(valued, max_size=9, unique_by=lambda row: (row["EMAIL"], row["EXTERN_ID"]))


def who(row):
    return row.get("EMAIL"), row.get("EXTERN_ID")


@quietly
@given(st.lists(st.lists(valued, max_size=9), min_size=1, max_size=4), st.lists(valued, max_size=9), st.integers(1, 10))
def test_difference_agrees_with_sets(snapshot_of, small_scans, workdir, before, users, cut):
    """Rows may be repeated within a snapshot and between them."""
    found = RowSets(workdir).difference(
        [snapshot_of(rows, VALUED, batch=cut) for rows in before], snapshot_of(users, VALUED, batch=cut)
    )
    expected = {who(row) for rows in before for row in rows} - {who(row) for row in users}
    assert found.count == len(expected)
    assert found.keys == ("EMAIL", "EXTERN_ID")
    assert stored_keys(found.batches()) == stored_keys(
        [batch_of([dict(zip(found.keys, row, strict=True)) for row in expected], list(found.keys))]
    )


@quietly
@given(distinct, distinct, st.randoms(use_true_random=False), st.booleans(), st.booleans())
def test_missing_agrees_with_dictionaries(
    snapshot_of, small_scans, workdir, users, sure, random, users_valued, sure_valued
):
    """A column of worth that only one of the two has counts as one of blanks in the other."""
    doubtful = np.array([random.random() < 0.3 for _ in sure], dtype=bool)

    def written(rows, valued):
        keys = VALUED if valued else VALUED[:2]
        return snapshot_of([{key: row[key] for key in keys} for row in rows], keys)

    found = RowSets(workdir).missing_in(written(users, users_valued), written(sure, sure_valued), doubtful=doubtful)
    there = {
        who(row): row["LOOKALIKE_VALUE"] if sure_valued else None
        for row, doubt in zip(sure, doubtful, strict=True)
        if not doubt
    }
    expected = [
        who(row) not in there or there[who(row)] != (row["LOOKALIKE_VALUE"] if users_valued else None) for row in users
    ]
    assert found.tolist() == expected


def test_nothing_lies_before_the_first_refresh(snapshot_of, workdir):
    users = snapshot_of([{"EMAIL": "a"}], ["EMAIL"])
    found = RowSets(workdir).difference((), users)
    assert (found.count, list(found.batches())) == (0, [])


def test_some_rows_of_a_snapshot_keep_all_their_columns(snapshot_of, workdir):
    rows = [{"EMAIL": name, "EXTERN_ID": name, "LOOKALIKE_VALUE": 1.0} for name in "abc"]
    found = RowSets(workdir).some_of(snapshot_of(rows, VALUED), np.array([True, False, True]))
    assert found.keys == tuple(VALUED)
    assert [row["EXTERN_ID"] for batch in found.batches() for row in batch.to_pylist()] == ["a", "c"]


def test_content_tells_what_identity_does_not():
    rows = [{"EMAIL": name, "LOOKALIKE_VALUE": value} for name, value in [("a", 1.0), ("a", 2.0), ("b", 1.0)]]
    batch = batch_of(rows, ["EMAIL", "LOOKALIKE_VALUE"])
    identity = row_ids(batch)
    whole = [bytes(each) for each in whole_ids(identity, batch)]
    assert identity[0] == identity[1] != identity[2]
    assert len(set(whole)) == 3
    assert [bytes(each) for each in whole_ids(identity, batch.select(["EMAIL"]))] == identity.to_pylist()
    assert [bytes(each) for each in whole_ids(identity.slice(1), batch.slice(1))] == whole[1:]
    assert (combination_ids(batch, ("EMAIL",)) != 0).all()
