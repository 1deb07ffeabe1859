"""What was sent to each audience: snapshots, their markers, and the set difference between them.

Meta cannot be read back, so this is all anyone will ever know of who is in an audience. ``docs/ledger.md`` describes
the files for a person. No module here knows Airflow, Meta's API, or how users become hashes.
"""

from __future__ import annotations

from airflow_provider_fbca.ledger.again import write_again
from airflow_provider_fbca.ledger.entries import AudienceLedger, Entry, History, OpenEntry, utc_now
from airflow_provider_fbca.ledger.inventory import Inventory, LedgerFile, audience_ids, unmarked
from airflow_provider_fbca.ledger.lease import Lease, LeaseTerms
from airflow_provider_fbca.ledger.markers import FORMAT, Kind, OpenMarker, ProgressNote, SessionNote, SettledMarker
from airflow_provider_fbca.ledger.people import People
from airflow_provider_fbca.ledger.rows import FileRows, RowSets
from airflow_provider_fbca.ledger.snapshot import Snapshot, SnapshotWriter
from airflow_provider_fbca.ledger.sure import doubt_about
from airflow_provider_fbca.ledger.workdir import WorkDir

__all__ = [
    "FORMAT",
    "AudienceLedger",
    "Entry",
    "FileRows",
    "History",
    "Inventory",
    "Kind",
    "Lease",
    "LeaseTerms",
    "LedgerFile",
    "OpenEntry",
    "OpenMarker",
    "People",
    "ProgressNote",
    "RowSets",
    "SessionNote",
    "SettledMarker",
    "Snapshot",
    "SnapshotWriter",
    "WorkDir",
    "audience_ids",
    "doubt_about",
    "unmarked",
    "utc_now",
    "write_again",
]
