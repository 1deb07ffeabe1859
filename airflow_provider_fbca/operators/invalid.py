"""Tells which rows Meta means by the entries that it calls invalid: by number, never by what is in them."""

from __future__ import annotations

from itertools import groupby
from operator import itemgetter
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from airflow_provider_fbca.sync import Plan, Sent

_MOST = 20
_ENTRY_FILE = ".rows.parquet"


def invalid_rows(plan: Plan, sent: Sent, entry_id: str) -> list[str]:
    """Give a phrase for each snapshot that has rows among Meta's samples; none where Meta shows no sample.

    :param plan: that was carried out.
    :param sent: what came of it.
    :param entry_id: of the ledger entry that it wrote.
    :returns: phrases of row numbers, counted from 1, 20 at most.
    """
    halves = (("added", plan.additions, sent.added), ("removed", plan.removals, sent.removed))
    found = [
        (f"{done} from the snapshot of ledger entry {_entry_of(file, entry_id)}", row)
        for done, rows, totals in halves
        if rows and totals
        for file, row in rows.locate(totals.invalid_rows)
    ]
    phrases = [
        f"sampled rows {done} (numbers from 1): {', '.join(f'{row:,}' for _, row in group)}"
        for done, group in groupby(found[:_MOST], key=itemgetter(0))
    ]
    return [*phrases, f"{len(found) - _MOST:,} more were sampled"] if len(found) > _MOST else phrases


def _entry_of(file: str, entry_id: str) -> str:
    """Give the entry whose rows a file holds: one that was fetched bears its name, the other is being written."""
    return file.removesuffix(_ENTRY_FILE) if file.endswith(_ENTRY_FILE) else entry_id
