"""Retires everything that an audience's ledger holds, in one write."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pyarrow as pa

from airflow_provider_fbca.ledger.entries import utc_now
from airflow_provider_fbca.ledger.markers import OpenMarker, SettledMarker
from airflow_provider_fbca.ledger.snapshot import SnapshotWriter

if TYPE_CHECKING:
    from airflow_provider_fbca.ledger.entries import AudienceLedger
    from airflow_provider_fbca.ledger.lease import Lease
    from airflow_provider_fbca.ledger.markers import Kind
    from airflow_provider_fbca.ledger.snapshot import Snapshot
    from airflow_provider_fbca.ledger.workdir import WorkDir


def nobody(workdir: WorkDir) -> Snapshot:
    """Return a snapshot without rows."""
    with SnapshotWriter(workdir.file("nobody.parquet"), pa.schema([])) as writer:
        return writer.finish()


def retire_all(
    ledger: AudienceLedger, lease: Lease, workdir: WorkDir, *, kind: Kind, owner: dict[str, str | int]
) -> None:
    """Write an entry without rows that supersedes all that are not retired, and those that are missing.

    Nothing is written where there is nothing to retire. The rows of what is retired are left to the caller.

    :param ledger: of the audience.
    :param lease: held on it.
    :param workdir: for the snapshot.
    :param kind: why.
    :param owner: who writes.
    :raises LeaseLostError: where the lease is gone.
    """
    history = ledger.history()
    retired = (*(each.id for each in history.outstanding), *sorted(history.missing))
    if not retired:
        return
    accounts = [entry.opened.ad_account_id for entry in history.entries if entry.opened]
    lease.check()
    entry = ledger.begin(nobody(workdir))
    lease.check()
    entry.open(
        OpenMarker(
            kind=kind,
            strategy=None,
            audience_id=ledger.audience_id,
            ad_account_id=accounts[-1] if accounts else "",
            schema=(),
            rows=0,
            digest=entry.digest,
            reads=tuple(each.id for each in history.outstanding),
            audience_was_empty=False,
            retention_days=None,
            owner=owner,
            opened_at=utc_now(),
        )
    )
    lease.check()
    entry.settle(SettledMarker(retired, utc_now(), {"members": 0}))
