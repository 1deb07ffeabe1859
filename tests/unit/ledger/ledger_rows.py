"""Small prepared rows, and markers."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from airflow_provider_fbca.ledger import OpenMarker, utc_now

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

AUDIENCE = "120210000000000001"
PLAIN = {"EXTERN_ID", "MADID"}


def digest(text: str) -> bytes:
    return hashlib.sha256(text.encode()).digest()


def batch_of(rows: list[dict[str, Any]], keys: list[str]) -> pa.RecordBatch:
    """Prepared rows: texts are hashed, as the keys that are sent hashed would be."""

    def column(key: str) -> pa.Array:
        cells = [row.get(key) for row in rows]
        if key == "LOOKALIKE_VALUE":
            return pa.array(cells, pa.float64())
        if key in PLAIN:
            return pa.array(cells, pa.string())
        return pa.array([None if cell is None else digest(cell) for cell in cells], pa.binary(32))

    columns = [column(key) for key in keys]
    return pa.RecordBatch.from_arrays(columns, names=keys)


def table_of(batches: Iterator[pa.RecordBatch]) -> list[dict[str, Any]]:
    return [row for batch in batches for row in batch.to_pylist()]


def stored_keys(batches: Iterable[pa.RecordBatch]) -> list[str]:
    """Rows in no order, for comparison."""
    return sorted(repr(sorted(row.items())) for batch in batches for row in batch.to_pylist())


def marker_of(**changes: Any) -> OpenMarker:
    fields: dict[str, Any] = {
        "kind": "refresh",
        "strategy": "delete_insert",
        "audience_id": AUDIENCE,
        "ad_account_id": "100000000000001",
        "schema": ("EMAIL",),
        "rows": 1,
        "digest": "sha256:00",
        "reads": (),
        "audience_was_empty": True,
        "retention_days": None,
        "owner": {"dag_id": "d", "task_id": "t", "run_id": "r", "map_index": -1, "try_number": 1},
        "opened_at": utc_now(),
    }
    return OpenMarker(**fields | changes)
