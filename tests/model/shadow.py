"""What the ledger says, read from the files as they are written, by nothing of the package."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any

import pyarrow.parquet as pq

if TYPE_CHECKING:
    from pathlib import Path

    from tests.model.meta import Row

_NAME = re.compile(r"(?P<id>[0-9]{10,}-[0-9a-f]+)\.(?P<what>rows\.parquet|open\.json|settled\.json)")
_ATTRIBUTES = {"row_id", "LOOKALIKE_VALUE"}


@dataclass
class Entry:
    """An entry as its files tell.

    :param rows: of its snapshot; None where it is not there.
    :param opened: its open marker.
    :param settled: its settled marker.
    """

    rows: frozenset[Row] | None = None
    opened: dict[str, Any] | None = None
    settled: dict[str, Any] | None = None

    @property
    def adds(self) -> bool:
        """Whether its rows may be in the audience."""
        return self.opened is not None and self.opened["kind"] not in {"remove", "erase", "delete"}


@dataclass
class Shadow:
    """All entries of an audience."""

    entries: dict[str, Entry] = field(default_factory=dict)

    def written(self, name: str, content: bytes | Path) -> None:
        """Take in a file that is there now."""
        match = _NAME.fullmatch(name)
        if match is None:
            return
        self.__dict__.pop("known", None)
        entry = self.entries.setdefault(match["id"], Entry())
        if match["what"] == "rows.parquet":
            entry.rows = rows_in(content)
        elif match["what"] == "open.json":
            entry.opened = json.loads(content)
        else:
            entry.settled = json.loads(content)

    def deleted(self, name: str) -> str:
        """Take in that a file is gone, and return what is wrong with that."""
        match = _NAME.fullmatch(name)
        if match is None:
            return ""
        needed = match["id"] in self.outstanding and match["what"] == "rows.parquet"
        self.__dict__.pop("known", None)
        if match["what"] == "rows.parquet":
            self.entries[match["id"]].rows = None
        return f"rows of {match['id']}, which is not retired, are deleted" if needed else ""

    def lose(self, entry_id: str) -> None:
        """Forget an entry whose files someone has deleted."""
        del self.entries[entry_id]
        self.__dict__.pop("known", None)

    @property
    def outstanding(self) -> dict[str, Entry]:
        """Entries that were opened and not retired."""
        retired = {each for entry in self.entries.values() if entry.settled for each in entry.settled["supersedes"]}
        return {name: entry for name, entry in self.entries.items() if entry.opened and name not in retired}

    @cached_property
    def known(self) -> frozenset[Row]:
        """Every row that may be in the audience as far as the ledger tells."""
        return frozenset(row for entry in self.outstanding.values() if entry.adds for row in entry.rows or ())


def rows_in(path: Path) -> frozenset[Row]:
    """Return the rows of a snapshot, digests as Meta gets them."""
    found = pq.ParquetFile(path).read(use_threads=False).to_pylist()
    return frozenset(
        frozenset(
            (key, cell.hex() if isinstance(cell, bytes) else cell)
            for key, cell in row.items()
            if key not in _ATTRIBUTES and cell is not None
        )
        for row in found
    )
