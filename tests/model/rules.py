"""Each rule of the ledger and the sync, and how to switch it off, so that the machine can show what it is for."""

from __future__ import annotations

import sys
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING, Any
from unittest.mock import patch

import numpy as np

from airflow_provider_fbca.graph.upload import UserUploader
from airflow_provider_fbca.hooks.custom_audience import FacebookCustomAudienceHook
from airflow_provider_fbca.ledger import AudienceLedger, History, Lease, OpenEntry, RowSets, doubt_about
from airflow_provider_fbca.ledger.rowid import row_ids
from airflow_provider_fbca.operators.dispatch import Dispatch
from airflow_provider_fbca.operators.journal import EntryJournal
from airflow_provider_fbca.operators.manifest import refuse_unknown
from airflow_provider_fbca.operators.replaces import close_replaces_in_the_air
from airflow_provider_fbca.operators.resume import Fingerprint
from airflow_provider_fbca.operators.run import AudienceRun
from airflow_provider_fbca.sync import Guards, execute, refuse_strangers
from airflow_provider_fbca.sync.plan import Fallback
from tests.model import people
from tests.model.machine import Focus
from tests.model.world import DAY, LATEST

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from contextlib import AbstractContextManager

#: Rules that have no switch, and why.
WITHOUT_SWITCH = {
    "L1": "says where the ledger lies and who may read it: no history depends on it",
    "S8": "says what is not promised: the machine excuses exactly that",
}


def everywhere(original: Any, stand_in: Any) -> AbstractContextManager[None]:
    """Put something in place of a function or class in every module that has it by its name."""
    name = original.__name__

    @contextmanager
    def patched() -> Iterator[None]:
        with ExitStack() as stack:
            for module in list(sys.modules.values()):
                if module.__name__.startswith("airflow_provider_fbca") and vars(module).get(name) is original:
                    stack.enter_context(patch.object(module, name, stand_in))
            yield

    return patched()


def _off_l2() -> AbstractContextManager[Any]:
    settle = OpenEntry.settle

    def supersede_all(self: OpenEntry, marker: Any) -> None:
        ids = {name.partition(".")[0] for name in self._store.names() if name.endswith(".open.json")}
        settle(self, replace(marker, supersedes=tuple(sorted(ids - {self.id}))))

    return patch.object(OpenEntry, "settle", supersede_all)


@contextmanager
def _off_l3() -> Iterator[None]:
    open_, settle = OpenEntry.open, OpenEntry.settle
    markers: dict[str, Any] = {}

    def open_at_the_end(self: OpenEntry, marker: Any) -> None:
        open_(self, markers.pop(self.id))
        settle(self, marker)

    with (
        patch.object(OpenEntry, "open", lambda self, marker: markers.update({self.id: marker})),
        patch.object(OpenEntry, "settle", open_at_the_end),
    ):
        yield


def _off_l4() -> AbstractContextManager[Any]:
    exposure = History.exposure.fget
    return patch.object(History, "exposure", property(lambda self: tuple(e for e in exposure(self) if e.settled)))


def _off_l5() -> AbstractContextManager[Any]:
    def without_removals(history: History, **known: Any) -> str:
        return doubt_about(replace(history, entries=tuple(each for each in history.entries if each.adds)), **known)

    return everywhere(doubt_about, without_removals)


def _off_l6(**changed: Any) -> AbstractContextManager[Any]:
    return everywhere(doubt_about, lambda history, **known: doubt_about(history, **known | changed))


def _off_l6_newest() -> AbstractContextManager[Any]:
    return everywhere(doubt_about, lambda history, **_known: "" if history.exposure else "nothing was sent before")


def _off_l10_replay() -> Callable[..., Any]:
    begin = EntryJournal.begin

    def skip_what_was_begun(self: EntryJournal, step: Any, rows: Any) -> Any:
        left = begin(self, step, rows)
        return left.without([(0, left.count)]) if self.has_begun(step) else left

    return skip_what_was_begun


def _off_l12() -> AbstractContextManager[Any]:
    discard = AudienceLedger.discard_rows

    def discard_all(self: AudienceLedger, _ids: Any) -> None:
        discard(self, [entry.id for entry in self.history().entries])

    return patch.object(AudienceLedger, "discard_rows", discard_all)


def _off_s2() -> AbstractContextManager[Any]:
    return everywhere(row_ids, lambda batch: row_ids(batch.select([n for n in batch.schema.names if n == "EMAIL"])))


def _off_s3() -> AbstractContextManager[Any]:
    return patch.object(RowSets, "connected", lambda _self, _removals, users, _keys: np.zeros(users.rows, dtype=bool))


def _off_s4() -> AbstractContextManager[Any]:
    fetch = AudienceLedger.fetch_again

    def none_again(self: AudienceLedger, entry: Any, workdir: Any) -> Any:
        found = fetch(self, entry, workdir)
        return None if found is None else np.zeros_like(found)

    return patch.object(AudienceLedger, "fetch_again", none_again)


def _off_s5() -> AbstractContextManager[Any]:
    return everywhere(Fallback, lambda before, after: Fallback(before, None))


def _off_s1() -> AbstractContextManager[Any]:
    def additions_first(self: Any) -> Any:
        plan = self.plan
        if plan.replacement:
            return self._replace(plan.replacement)
        return (*self._add("add", plan.additions), *self._remove("remove", plan.removals))

    return patch.object(execute._Carrying, "parts", additions_first)


@contextmanager
def _off_l8() -> Iterator[None]:
    with (
        patch.object(Lease, "__enter__", lambda self: self),
        patch.object(Lease, "__exit__", lambda *_: None),
        patch.object(Lease, "check", lambda _self: None),
        patch.object(Lease, "lost", False),
    ):
        yield


@contextmanager
def _off_l8_check() -> Iterator[None]:
    with patch.object(Lease, "check", lambda _self: None), patch.object(Lease, "lost", False):
        yield


@contextmanager
def _off_s7() -> Iterator[None]:
    with (
        patch.object(Guards, "check_source", lambda *_args, **_named: None),
        patch.object(Guards, "check_plan", lambda *_args, **_named: None),
    ):
        yield


#: Rule -> what is switched off.
SWITCHES: dict[str, Callable[[], AbstractContextManager[Any]]] = {
    "L2": _off_l2,
    "L3": _off_l3,
    "L4": _off_l4,
    "L5": _off_l5,
    "L6": _off_l6_newest,
    "L6 age": lambda: _off_l6(resend_all_days=1e6),
    "L6 retention": lambda: _off_l6(retention_days=None),
    "L7": lambda: everywhere(refuse_unknown, lambda *_args, **_named: None),
    "L8": _off_l8,
    "L8 check": _off_l8_check,
    "L8 copy": lambda: patch.object(Dispatch, "_leave_copy", lambda *_: None),
    "L8 copy's age": lambda: patch.object(AudienceRun, "_wait_for_those_left_behind", lambda _self: None),
    "L9": lambda: patch.object(UserUploader, "wait_out_flights", lambda _self: None),
    "L9 lease": lambda: patch.object(FacebookCustomAudienceHook, "may_still_land", False),
    "L10 fingerprint": lambda: patch.object(Fingerprint, "equals", lambda _self, stored: stored is not None),
    "L10 replay": lambda: patch.object(EntryJournal, "begin", _off_l10_replay()),
    "L11": lambda: everywhere(refuse_strangers, lambda *_args, **_named: None),
    "L12": _off_l12,
    "S1": _off_s1,
    "S2": _off_s2,
    "S3": _off_s3,
    "S4": _off_s4,
    "S5": _off_s5,
    "S6": lambda: everywhere(close_replaces_in_the_air, lambda *_args, **_named: None),
    "S6 done": lambda: patch.object(UserUploader, "wait_until_replaced", lambda *_: None),
    "S7": _off_s7,
}

#: What the search for a rule's hole leans to; anything for the others.
FOCUS: dict[str, Focus] = {
    "L6 age": Focus(wait=8 * DAY, manners={"links": (people.LINK,)}),
    "L6 retention": Focus(drops=True),
    "L8": Focus(how="freeze", seconds=20.0),
    "L8 check": Focus(how="freeze after", seconds=2000.0),
    "L8 copy": Focus(how="freeze", seconds=2000.0),
    "L8 copy's age": Focus(how="freeze late", seconds=2000.0),
    "L9": Focus(how="late", seconds=20.0),
    "L9 lease": Focus(how="late", seconds=LATEST, lasting=True),
    "L10 fingerprint": Focus(how="crash before"),
    "L10 replay": Focus(how="crash before"),
    "S4": Focus(how="lag", seconds=LATEST),
    "S5": Focus(manners={"minimum": 1}),
    "S6": Focus(how="crash after", work="replace", manners={"blocks": False}),
    "S6 done": Focus(work="replace"),
}
