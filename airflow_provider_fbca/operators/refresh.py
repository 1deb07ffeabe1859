"""From a query's users and the rows that may be in the audience to the plan of a refresh."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from airflow_provider_fbca.identity import COMBINATIONS
from airflow_provider_fbca.sync import plan_delete_insert, plan_delta, plan_replace

if TYPE_CHECKING:
    from airflow_provider_fbca.ledger import Entry, RowSets, Snapshot
    from airflow_provider_fbca.sync import Plan

    Flags = np.ndarray[tuple[int], np.dtype[np.bool_]]


@dataclass(frozen=True)
class Sure:
    """The rows that are in the audience for certain (rule L6).

    :param rows: of the last refresh.
    :param doubtful: a flag per row that does not count, since it shares a person with one which that refresh removed.
    :param sent_all_at: when a refresh last sent all rows; UTC, ISO 8601.
    """

    rows: Snapshot
    doubtful: Flags
    sent_all_at: str | None


@dataclass(frozen=True)
class Exposure:
    """The rows that may be in the audience.

    :param known: the entries that hold them, each with its snapshot.
    :param sure: those of them that surely are; None where none is.
    """

    known: tuple[tuple[Entry, Snapshot], ...]
    sure: Sure | None

    @property
    def snapshots(self) -> tuple[Snapshot, ...]:
        """The rows of every entry."""
        return tuple(snapshot for _, snapshot in self.known)

    @property
    def finished(self) -> tuple[Snapshot, ...]:
        """The rows of the entries whose runs came to their end."""
        return tuple(snapshot for entry, snapshot in self.known if entry.settled)

    @property
    def is_unfinished(self) -> bool:
        """Whether a run that died, or is still at work, has left some."""
        return len(self.finished) < len(self.known)

    def leaving_unfinished(self, sets: RowSets, users: Snapshot, leaving: int) -> int:
        """Count who leaves and was only sent by runs that did not finish.

        :param leaving: how many rows leave in all.
        """
        return leaving - sets.count_leaving(self.finished, users) if self.is_unfinished else 0


@dataclass(frozen=True)
class AddedAgain:
    """What the next refresh must know of this one to tell who is surely in.

    :param rows: a flag per row that is added after a removal which may take its person out.
    :param sent_all_at: when all rows were last sent; None where this refresh sends them all.
    """

    rows: Flags
    sent_all_at: str | None


def delete_insert(sets: RowSets, users: Snapshot, exposure: Exposure) -> tuple[Plan, AddedAgain | None]:
    """Plan to remove all that may be in the audience and to add all users.

    :returns: the plan; and what to remember, None since all who stay were removed, unless nobody was.
    """
    leaving = sets.count_leaving(exposure.snapshots, users)
    plan = plan_delete_insert(
        sets.all_of(users),
        exposure=sets.union(exposure.snapshots),
        leaving=leaving,
        leaving_unfinished=exposure.leaving_unfinished(sets, users, leaving),
    )
    return plan, None if plan.removals else AddedAgain(np.zeros(users.rows, dtype=bool), None)


def delta(sets: RowSets, users: Snapshot, exposure: Exposure) -> tuple[Plan, AddedAgain | None]:
    """Plan to remove who leaves, and to add who is not surely in or may be taken out by that.

    :returns: the plan, and what to remember.
    """
    removals = sets.difference(exposure.snapshots, users)
    again = np.zeros(users.rows, dtype=bool)
    if removals.count:
        again = sets.connected(removals, users, COMBINATIONS)
    additions, sure = np.ones(users.rows, dtype=bool), exposure.sure
    if sure:
        additions = sets.missing_in(users, sure.rows, doubtful=sure.doubtful) | again
    plan = plan_delta(
        sets.all_of(users),
        removals=removals,
        additions=sets.some_of(users, additions),
        again=sets.some_of(users, again),
        present=sets.union(exposure.snapshots).count,
        leaving_unfinished=exposure.leaving_unfinished(sets, users, removals.count),
    )
    return plan, AddedAgain(again, sure.sent_all_at if sure and not additions.all() else None)


def replace(sets: RowSets, users: Snapshot, exposure: Exposure) -> tuple[Plan, AddedAgain | None]:
    """Plan to put all users in the place of whoever is in the audience.

    :returns: the plan, and what to remember: all are sent, and nobody is removed by an identifier.
    """
    leaving = sets.count_leaving(exposure.snapshots, users) if exposure.known else 0
    plan = plan_replace(
        sets.all_of(users),
        present=sets.union(exposure.snapshots).count if exposure.known else 0,
        leaving=leaving,
        leaving_unfinished=exposure.leaving_unfinished(sets, users, leaving),
    )
    return plan, AddedAgain(np.zeros(users.rows, dtype=bool), None)
