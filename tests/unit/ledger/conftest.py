"""Ledgers on disk and in memory, snapshots of small rows, and markers."""

from __future__ import annotations

import secrets
from typing import TYPE_CHECKING, Any

import pytest
from ledger_rows import AUDIENCE, batch_of, marker_of
from object_stores import file_system, root_at

from airflow_provider_fbca.ledger import AudienceLedger, SettledMarker, SnapshotWriter, WorkDir, utc_now

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from airflow_provider_fbca.ledger import OpenEntry, Snapshot


@pytest.fixture
def workdir(tmp_path: Path) -> Iterator[WorkDir]:
    with WorkDir(tmp_path / "scratch") as folder:
        yield folder


@pytest.fixture
def snapshot_of(workdir: WorkDir) -> Callable[..., Snapshot]:
    """Writes a snapshot of rows, in batches of a given size."""

    def write(rows: list[dict[str, Any]], keys: list[str], *, batch: int = 1000) -> Snapshot:
        whole = batch_of(rows, keys)
        with SnapshotWriter(workdir.file(f"{secrets.token_hex(4)}.parquet"), whole.schema) as writer:
            for start in range(0, whole.num_rows, batch):
                writer.write(whole.slice(start, batch))
            return writer.finish()

    return write


@pytest.fixture
def root(tmp_path: Path) -> Any:
    from airflow.sdk import ObjectStoragePath

    return ObjectStoragePath(f"file://{tmp_path}/deep/er/ledger")


@pytest.fixture(params=["memory", "s3", "gs"])
def remote_root(request: pytest.FixtureRequest) -> Any:
    """A root in a store that is no local disk, empty at first."""
    return _root_in(request.param, request)


@pytest.fixture(params=["disk", "memory", "s3", "gs"])
def any_root(request: pytest.FixtureRequest) -> Any:
    """A root in each kind of store, empty at first."""
    return _root_in(request.param, request)


def _root_in(kind: str, request: pytest.FixtureRequest) -> Any:
    return request.getfixturevalue("root") if kind == "disk" else root_at(kind, _file_system(kind, request))


def _file_system(kind: str, request: pytest.FixtureRequest) -> Any:
    if kind == "memory":
        from fsspec.implementations.memory import MemoryFileSystem

        return MemoryFileSystem()
    options = request.getfixturevalue(f"{kind}_options")
    # A new one for each test: some tests change theirs.
    return file_system(kind, options, skip_instance_cache=True)


@pytest.fixture
def ledger(root: Any) -> AudienceLedger:
    return AudienceLedger(root, AUDIENCE)


@pytest.fixture
def write_entry(snapshot_of: Callable[..., Snapshot]) -> Callable[..., OpenEntry]:
    """Writes an entry as a run would: rows, then marker, then, where asked for, the settled one."""

    def write(
        ledger: AudienceLedger,
        people: list[str],
        *,
        supersedes: tuple[str, ...] | None = None,
        opened: bool = True,
        **changes: Any,
    ) -> OpenEntry:
        entry = ledger.begin(snapshot_of([{"EMAIL": person} for person in people], ["EMAIL"]))
        if opened:
            entry.open(marker_of(digest=entry.digest, rows=len(people), **changes))
        if supersedes is not None:
            entry.settle(SettledMarker(supersedes, utc_now(), {"added": len(people)}))
        return entry

    return write
