"""Distinct and difference of a handful of rows in plain Python, in place of the package's engine.

The engine has property tests of its own; what the model searches is what is done with its answers.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from airflow_provider_fbca.ledger.rowid import content_ids
from airflow_provider_fbca.ledger.snapshot import ROW_ID_COLUMN

if TYPE_CHECKING:
    from collections.abc import Sequence

    from airflow_provider_fbca.ledger import RowSets, Snapshot
    from airflow_provider_fbca.ledger.rows import Flags


def _ids(snapshot: Snapshot) -> list[bytes]:
    return [each for batch in snapshot.batches() for each in batch.column(ROW_ID_COLUMN).to_pylist()]


def _contents(snapshot: Snapshot) -> list[bytes]:
    return [each for batch in snapshot.batches() for each in content_ids(batch).to_pylist()]


def _first_of_each(_self: RowSets, snapshots: Sequence[Snapshot], seen: frozenset[bytes] = frozenset()) -> tuple[Flags, ...]:
    known, flags = set(seen), []
    for snapshot in snapshots:
        kept = []
        for each in _ids(snapshot):
            kept.append(each not in known)
            known.add(each)
        flags.append(np.array(kept, dtype=bool))
    return tuple(flags)


def _first_of_each_but(self: RowSets, snapshots: Sequence[Snapshot], unwanted: Snapshot) -> tuple[Flags, ...]:
    return _first_of_each(self, snapshots, frozenset(_ids(unwanted)))


def _missing_in(_self: RowSets, users: Snapshot, sure: Snapshot, *, doubtful: Flags) -> Flags:
    there = {pair for pair, doubt in zip(_pairs(sure), doubtful, strict=True) if not doubt}
    return np.array([pair not in there for pair in _pairs(users)], dtype=bool)


def _pairs(snapshot: Snapshot) -> list[tuple[bytes, bytes]]:
    return list(zip(_ids(snapshot), _contents(snapshot), strict=True))


METHODS = {"_first_of_each": _first_of_each, "_first_of_each_but": _first_of_each_but, "missing_in": _missing_in}
