"""Tells which rows Meta calls invalid, or refuses: by number, never by what is in them."""

from __future__ import annotations

from itertools import groupby
from operator import attrgetter, itemgetter
from typing import TYPE_CHECKING

from airflow_provider_fbca.exceptions import GraphRowsRefusedError

if TYPE_CHECKING:
    from airflow_provider_fbca.sync import Sent

_MOST = GraphRowsRefusedError.MOST_SHOWN
_ENTRY_FILE = ".rows.parquet"


def invalid_rows(sent: Sent, entry_id: str) -> list[str]:
    """Give a phrase for each snapshot that has rows among Meta's samples; none where Meta shows no sample.

    :param sent: what came of a plan.
    :param entry_id: of the ledger entry that it wrote.
    :returns: phrases of row numbers, counted from 1, 20 at most.
    """
    found = [
        (f"sampled rows {part.done} from the snapshot of ledger entry {_entry_of(file, entry_id)}", row)
        for part in sorted(sent.parts, key=attrgetter("done"))
        for file, row in part.rows.locate(part.totals.invalid_rows)
    ]
    return _phrases(found, f"{len(found) - _MOST:,} more were sampled")


def naming_the_snapshot(error: GraphRowsRefusedError, entry_id: str) -> GraphRowsRefusedError:
    """Return the error of refused rows in the words of the ledger, which a person can look them up in.

    :param error: as the sync left it.
    :param entry_id: of the ledger entry that is being carried out.
    """
    found = [(f"rows of the snapshot of ledger entry {_entry_of(file, entry_id)}", row) for file, row in error.places]
    where = "; ".join(_phrases(found, f"{len(found) - _MOST:,} more"))
    told = GraphRowsRefusedError(error.refusal, error.rows, all_found=error.all_found, where=where)
    told.places, told.acknowledged = error.places, error.acknowledged
    return told


def _phrases(found: list[tuple[str, int]], more: str) -> list[str]:
    phrases = [
        f"{of} (numbers from 1): {', '.join(f'{row:,}' for _, row in group)}"
        for of, group in groupby(found[:_MOST], key=itemgetter(0))
    ]
    return [*phrases, more] if len(found) > _MOST else phrases


def _entry_of(file: str, entry_id: str) -> str:
    """Give the entry whose rows a file holds: one that was fetched bears its name, the other is being written."""
    return file.removesuffix(_ENTRY_FILE) if file.endswith(_ENTRY_FILE) else entry_id
