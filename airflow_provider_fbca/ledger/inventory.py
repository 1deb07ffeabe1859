"""Every file of an audience's folder, whatever it is: for the tools that show, check and clean a ledger.

What the files add up to is ``entries``; this module knows names, sizes and ages only.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from airflow_provider_fbca.ledger.lease_row import LeaseRow
from airflow_provider_fbca.ledger.store import Store, listed

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from datetime import datetime
    from pathlib import Path

    from airflow_provider_fbca.ledger.lease_row import Seen
    from airflow_provider_fbca.ledger.store import StorePath

_OF_ENTRY = re.compile(r"(?P<id>[0-9]{10,}-[0-9a-f]+)\.(?P<part>.+)")
_LEASE = re.compile(r"[0-9]+\.lease\.json")
_AUDIENCE = re.compile(r"[0-9]+")
#: People's rows are in Parquet; what is not Parquet is a marker and tells that the entry was opened.
_PARQUET = ".parquet"


@dataclass(frozen=True)
class LedgerFile:
    """One file of an audience's folder.

    :param name: in the folder.
    :param size: in bytes.
    """

    name: str
    size: int

    @property
    def entry_id(self) -> str | None:
        """Id of the entry it belongs to; None where it is no entry's."""
        found = _OF_ENTRY.fullmatch(self.name)
        return found["id"] if found else None

    @property
    def part(self) -> str:
        """Which file of its entry it is: ``rows.parquet``, ``open.json``...; empty where it is no entry's."""
        found = _OF_ENTRY.fullmatch(self.name)
        return found["part"] if found else ""

    @property
    def holds_people(self) -> bool:
        """Whether it holds rows of people, or positions of such rows."""
        return self.part.endswith(_PARQUET)

    @property
    def is_temporary(self) -> bool:
        """Whether it is being written, or its writer was killed."""
        return self.name.startswith(".")

    @property
    def is_lease(self) -> bool:
        """Whether it tells who may write."""
        return _LEASE.fullmatch(self.name) is not None


class Inventory:
    """The folder of one audience, file by file.

    :param root: folder of the whole ledger, a path object with universal_pathlib's interface.
    :param audience_id: digits; names the folder below.
    """

    def __init__(self, root: StorePath, audience_id: str) -> None:
        self._store = Store(root.joinpath(audience_id))

    @property
    def uri(self) -> str:
        """Address of the folder."""
        return self._store.uri

    def files(self) -> tuple[LedgerFile, ...]:
        """List every file, those being written included, in the order of their names.

        :raises LedgerError: where the store cannot be read.
        """
        return tuple(LedgerFile(name, size) for name, size in sorted(self._store.sizes().items()))

    def modified(self, file: LedgerFile) -> datetime:
        """Return when a file was written, with a time zone."""
        return self._store.modified(file.name)

    def abandoned(self) -> tuple[LedgerFile, ...]:
        """List temporary files of writers that were killed; object stores have none."""
        left = set(self._store.abandoned())
        return tuple(file for file in self.files() if file.name in left)

    def lease(self) -> Seen:
        """Read the last note of who may write."""
        return LeaseRow(self._store).latest()

    def read(self, files: Sequence[LedgerFile]) -> dict[str, bytes]:
        """Return the content of small files by name."""
        return self._store.read([file.name for file in files])

    def fetch(self, file: LedgerFile, target: Path) -> Path:
        """Copy a file to a local one.

        :param target: must not exist yet.
        """
        self._store.fetch(file.name, target)
        return target

    def put(self, name: str, source: Path) -> None:
        """Store a local file under a new name, whole or not at all."""
        self._store.put(name, source)

    def create(self, name: str, content: bytes) -> None:
        """Store a new small file, whole or not at all.

        :raises LedgerError: where the name is taken.
        """
        self._store.create(name, content)

    def delete(self, files: Iterable[LedgerFile]) -> int:
        """Delete files; returns how many."""
        count = 0
        for file in files:
            self._store.delete(file.name)
            count += 1
        return count


def unmarked(files: Iterable[LedgerFile]) -> tuple[LedgerFile, ...]:
    """Return the rows without any marker: they were never sent (rule L2).

    :param files: of one folder.
    """
    files = tuple(files)
    marked = {file.entry_id for file in files if file.entry_id and not file.holds_people}
    return tuple(file for file in files if file.holds_people and file.entry_id not in marked)


def audience_ids(root: StorePath) -> tuple[str, ...]:
    """Return the ids of the audiences that have a folder in the ledger, sorted; none where there is no ledger yet.

    :raises LedgerError: where the store cannot be read.
    """
    return tuple(
        sorted((name for name in listed(root) if _AUDIENCE.fullmatch(name)), key=lambda each: (len(each), each))
    )
