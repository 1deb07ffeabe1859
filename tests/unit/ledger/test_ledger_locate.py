"""Where rows of a set stand in the snapshots that they come from."""

from __future__ import annotations

import random

from airflow_provider_fbca.ledger import RowSets


def test_every_row_of_a_union_is_found_again_in_its_snapshot(workdir, snapshot_of):
    drawn = random.Random(7)
    snapshots = []
    for _ in range(4):
        rows = [{"EMAIL": str(number)} for number in drawn.sample(range(60), 25)]
        snapshots.append(snapshot_of(rows, ["EMAIL"]))
    kept = {
        each.path.name: [row for batch in each.batches() for row in batch["EMAIL"].to_pylist()] for each in snapshots
    }
    union = RowSets(workdir).union(snapshots)
    sent = [cell for batch in union.batches() for cell in batch["EMAIL"].to_pylist()]
    assert union.count == len(sent) < 100
    places = union.locate(range(union.count))
    assert [kept[file][row - 1] for file, row in places] == sent
    assert union.locate([union.count - 1, 0]) == [places[-1], places[0]]


def test_rows_of_one_snapshot_are_where_they_are(workdir, snapshot_of):
    whole = RowSets(workdir).all_of(snapshot := snapshot_of([{"EMAIL": str(number)} for number in range(3)], ["EMAIL"]))
    assert whole.locate([2, 0]) == [(snapshot.path.name, 3), (snapshot.path.name, 1)]
    assert whole.locate([]) == []
