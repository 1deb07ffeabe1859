"""Tells which rows Meta means by the entries that it calls invalid: by number, never by what is in them."""

from __future__ import annotations

from itertools import groupby
from operator import attrgetter, itemgetter
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from airflow_provider_fbca.sync import Sent

_MOST = 20
_ENTRY_FILE = ".rows.parquet"


def invalid_rows(sent: Sent, entry_id: str) -> list[str]:
    """Give a phrase for each snapshot that has rows among Meta's samples; none where Meta shows no sample.

    :param sent: what came of a plan.
    :param entry_id: of the ledger entry that it wrote.
    :returns: phrases of row numbers, counted from 1, 20 at most.
    """
    found = [
        (f"{part.done} from the snapshot of ledger entry {_entry_of(file, entry_id)}", row)
        for part in sorted(sent.parts, key=attrgetter("done"))
        for file, row in part.rows.locate(part.totals.invalid_rows)
    ]
    phrases = [
        f"sampled rows {done} (numbers from 1): {', '.join(f'{row:,}' for _, row in group)}"
        for done, group in groupby(found[:_MOST], key=itemgetter(0))
    ]
    return [*phrases, f"{len(found) - _MOST:,} more were sampled"] if len(found) > _MOST else phrases


def _entry_of(file: str, entry_id: str) -> str:
    """Give the entry whose rows a file holds: one that was fetched bears its name, the other is being written."""
    return file.removesuffix(_ENTRY_FILE) if file.endswith(_ENTRY_FILE) else entry_id
