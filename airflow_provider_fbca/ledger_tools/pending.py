"""Erasures that have begun and are not done, so that a second run knows whom the first had found.

A person is found in one audience by what another one tells of them. Once their rows are gone from the first, nothing
would lead to the second any more; so all rows that were found are stored before any is erased, and deleted at the end.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from airflow_provider_fbca.exceptions import LedgerError, LedgerTakenError
from airflow_provider_fbca.ledger import Inventory, Snapshot

if TYPE_CHECKING:
    from airflow_provider_fbca.ledger import LedgerFile, WorkDir
    from airflow_provider_fbca.ledger.store import StorePath

#: Beside the audiences' folders, whose names are digits.
FOLDER = "erasures"
_ENDING = ".parquet"


class PendingErasures:
    """The rows of erasures that are not done.

    :param root: folder of the whole ledger.
    """

    def __init__(self, root: StorePath) -> None:
        self._inventory = Inventory(root, FOLDER)

    def __len__(self) -> int:
        return len(self._files())

    def add(self, rows: Snapshot) -> None:
        """Store rows; that they are there already is fine."""
        try:
            self._inventory.put(_name_of(rows), rows.path)
        except LedgerTakenError:
            return

    def fetch(self, workdir: WorkDir) -> tuple[Snapshot, ...]:
        """Return all rows that are stored.

        :raises LedgerError: where a file is not the one that was written.
        """
        found = []
        for file in self._files():
            snapshot = Snapshot.read(self._inventory.fetch(file, workdir.file(f"pending-{file.name}")))
            if _name_of(snapshot) != file.name:
                raise LedgerError(
                    f"The file {file.name} in {self._inventory.uri} is not what an erasure had stored.",
                    remedy="Restore it from a backup; or delete it, and erase these people again, from every source "
                    "that names them.",
                )
            found.append(snapshot)
        return tuple(found)

    def clear(self) -> None:
        """Delete them: every one of these people is erased."""
        self._inventory.delete(self._files())
        self._inventory.delete(self._inventory.abandoned())

    def _files(self) -> list[LedgerFile]:
        return [file for file in self._inventory.files() if file.name.endswith(_ENDING) and not file.is_temporary]


def _name_of(rows: Snapshot) -> str:
    return f"{rows.digest().removeprefix('sha256:')}{_ENDING}"
