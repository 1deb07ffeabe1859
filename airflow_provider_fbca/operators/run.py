"""One task's work on one audience: what the operators that send users have in common."""

from __future__ import annotations

import threading
import time
from contextlib import ExitStack, suppress
from dataclasses import replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Self

from airflow_provider_fbca.exceptions import (
    GraphThrottledError,
    GuardError,
    LedgerError,
    LedgerTakenError,
    StoppedError,
)
from airflow_provider_fbca.ledger import AudienceLedger, RowSets, WorkDir, doubt_about
from airflow_provider_fbca.links.ads_manager import LINK_KEY, audience_url
from airflow_provider_fbca.operators.deferral import SKEW_SECONDS, longest_wait, wait_of
from airflow_provider_fbca.operators.dispatch import Dispatch
from airflow_provider_fbca.operators.lineage import report_lineage
from airflow_provider_fbca.operators.manifest import (
    manifest_key,
    manifests_in,
    named_entries,
    plan_report,
    refuse_unknown,
)
from airflow_provider_fbca.operators.place import lease_terms, ledger_root
from airflow_provider_fbca.operators.refresh import Exposure, Sure, delete_insert, delta
from airflow_provider_fbca.operators.refresh import replace as replace_all
from airflow_provider_fbca.operators.resume import Fingerprint, entry_to_resume
from airflow_provider_fbca.operators.users import read_users
from airflow_provider_fbca.sync import refuse_strangers

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import TracebackType

    from airflow.sdk import Context, ObjectStoragePath

    from airflow_provider_fbca.hooks.audience import Audience
    from airflow_provider_fbca.identity import PrepareReport
    from airflow_provider_fbca.ledger import Entry, History, Kind, Lease, Snapshot
    from airflow_provider_fbca.operators.base import UsersOperator
    from airflow_provider_fbca.operators.deferral import Handover
    from airflow_provider_fbca.operators.refresh import AddedAgain
    from airflow_provider_fbca.operators.rejects import RejectsPlace
    from airflow_provider_fbca.sync import Plan, Strategy
    from airflow_provider_fbca.warehouse import UserSource

    Planned = tuple[Plan, AddedAgain | None]

__all__ = ["AudienceRun", "ledger_root"]

#: Between two looks whether the task was told to stop.
_LOOK_SECONDS = 0.5
_PLANS = {"delta": delta, "delete_insert": delete_insert, "replace": replace_all}


class AudienceRun:
    """One try of one task: checks first, then users, plan, guards, and only then the ledger and Meta.

    Entering it finds out, before any query runs, whether the ledger has a place that can be read, the token is good,
    the audience exists and belongs to the account, and the terms are accepted; then it takes the audience's lease, and
    waits for it where another task writes (rule L8). Leaving it gives the lease back, or keeps it for the process that
    goes on with a task that is put off, and removes the task's spill.

    :param operator: whose rendered options say what to do.
    :param context: of the task.
    :param handover: of an earlier process of the same try, which was put off; a new one for the first.
    """

    def __init__(self, operator: UsersOperator, context: Context, handover: Handover) -> None:
        #: What this process leaves to the next, where the task is put off.
        self.handover = handover
        self._operator = operator
        self._context = context
        self._ti = context["ti"]
        self._log = operator.log
        self._cleanup = ExitStack()
        self._workdir = WorkDir()
        self._source: UserSource | None = None
        self._stopped = threading.Event()
        self._owner = owner_of(self._ti)
        self._fingerprint = Fingerprint(operator, of_try=handover.entry)
        self._lease: Lease | None = None
        #: Entries that something names and the ledger lacks.
        self._unknown: set[str] = set()

    def __enter__(self) -> Self:
        root = ledger_root(self._operator.ledger_uri)
        self._rejects: RejectsPlace | None = self._operator.rejects_place(root)
        self._hook = self._operator.hook
        self._hook.wait_at_most(longest_wait(self._operator), sleep=self._pause)
        try:
            self._hook.check_token()
            self.audience: Audience = self._hook.ready_audience(str(self._operator.audience_id))
        except GraphThrottledError as error:
            self._keep_once_more(root, error)
            raise
        self._ti.xcom_push(LINK_KEY, audience_url(self.audience.id, self.audience.account_id))
        self._ledger = AudienceLedger(root, self.audience.id)
        self._log.info(
            "Audience %s of ad account %s; ledger %s.", self.audience.id, self.audience.account_id, self._ledger.uri
        )
        with self._cleanup:
            self._cleanup.enter_context(self._workdir)
            self.sets = RowSets(self._workdir)
            # A plan that is only looked at changes nothing, and need not wait for whoever writes.
            if not self._operator.plan_only:
                self._lease = self._cleanup.enter_context(self._wait_for_lease())
            #: What the ledger knew when the task began; without the entry that it goes on with.
            self.history: History = self._ledger.history()
            if self._lease:
                self._wait_for_those_left_behind()
            # Of all entries: the one that is gone on with may be the first.
            self._accounts_for_all = self.history.accounts_for_all
            self._begun = self._entry_to_resume() if self._lease else None
            self._cleanup = self._cleanup.pop_all()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with self._cleanup:
            wait = wait_of(error, self._operator)
            if self._lease and error is not None and self._hook.may_still_land:
                # Nobody may write before the last request can land no more (rule L9), and who fails should not wait.
                self._lease.abandon()
            if self._lease and wait is not None:
                key = self._lease.keep_for_heir(wait)
                self.handover = replace(self.handover, lease=key, audience_id=self.audience.id)

    def stop(self) -> None:
        """End soon, from a signal handler: the query is cancelled, and no request begins any more."""
        self._stopped.set()
        if self._source is not None:
            self._source.cancel()

    def check_stop(self) -> None:
        """Refuse to go on once the task was told to stop.

        :raises StoppedError: it was.
        """
        if self._stopped.is_set():
            raise StoppedError("The task was told to stop.", remedy="Run it again: the ledger knows what was sent.")

    def check_ledger(self, *, clears_all: bool) -> None:
        """Find out, before any query runs, whether the ledger is whole and knows all who may be in the audience.

        :param clears_all: whether the task is to clear the audience, whoever is in.
        :raises LedgerError: an entry that XCom or another entry names is missing (rule L7), or a snapshot.
        :raises StrangersError: the audience may hold people whom the ledger does not know (rule L11).
        """
        named = self._named_by_xcom()
        self._unknown = {*self.history.missing, *self.history.unknown_of(tuple(named))}
        if clears_all:
            return
        refuse_unknown(self._unknown, named, self._ledger.uri)
        recorded = self._accounts_for_all
        refuse_strangers(
            self.audience.id, accounts_for_all=self.audience.never_filled if recorded is None else recorded
        )
        for entry in self.history.exposure:
            self._ledger.fetch(entry, self._workdir)

    def plan_refresh(self, users: Snapshot, *, strategy: Strategy, resend_all_days: float) -> Planned:
        """Plan to make the audience equal to some users.

        :param users: distinct rows.
        :param resend_all_days: how long a row counts as surely in after all were sent.
        """
        exposure = self._exposure(resend_all_days=resend_all_days, skip_unreadable=strategy == "replace")
        return _PLANS[strategy](self.sets, users, exposure)

    def carry_out(
        self, plan_for: Callable[[Snapshot], Planned], *, kind: Kind, strategy: Strategy | None = None
    ) -> dict[str, Any]:
        """Go on with what an earlier try of the run has begun, or read the users and begin.

        :param plan_for: makes the plan for some users.
        :param kind: of the ledger entry.
        :param strategy: of a refresh.
        :returns: the manifest; with ``plan_only`` a report, and nothing is stored or sent.
        """
        if self._begun:
            users = self._ledger.fetch(self._begun, self._workdir)
            plan, again = plan_for(users)
            if self._is_the_same(self._begun, plan):
                self._log.info("Resuming entry %s of an earlier try: %s.", self._begun.id, plan.describe())
                return self._leave(self._dispatch(kind, strategy).resume(self._begun, plan, users, again))
            # Its rows may be in the audience like those of any other that is open.
            self._log.warning("Entry %s of an earlier try cannot be resumed: its plan was another.", self._begun.id)
            self._begun, self.history = None, self._ledger.history()
        users, report = self._read_users()
        plan, again = plan_for(users)
        self._log.info("Plan: %s.", plan.describe())
        if self._operator.plan_only:
            return self._report_on(plan, report)
        self._operator.guards.check_plan(plan)
        return self._leave(self._dispatch(kind, strategy).begin(plan, users, again, report))

    def _is_the_same(self, begun: Entry, plan: Plan) -> bool:
        """Tell whether a plan would send exactly what an earlier try has begun to."""
        opened = begun.opened
        return bool(opened and plan.digest() == opened.plan and self._hook.payload_extra(plan.keys) == opened.sent_with)

    def _report_on(self, plan: Plan, report: PrepareReport) -> dict[str, Any]:
        """Tell what would be done, and what would stop it."""
        refused = None
        try:
            self._operator.guards.check_plan(plan)
        except GuardError as error:
            refused = str(error)
        requests = plan.requests(self._operator.batch_size)
        minutes = self._hook.minutes_for(requests)
        self._log.info(
            "plan_only: nothing is stored or sent. It would take %s requests at least%s; %s.",
            f"{requests:,}",
            f", and {minutes:.0f} minutes by Meta's rate limit" if minutes else "",
            f"it would be refused: {refused}" if refused else "no guard would refuse it",
        )
        return plan_report(self.audience.id, plan, report, requests=requests, minutes=minutes, refused=refused)

    def _dispatch(self, kind: Kind, strategy: Strategy | None) -> Dispatch:
        supersedes: tuple[str, ...] = ()
        if kind == "refresh":
            # Those that are missing can only be told of when all is cleared: any other refresh has stopped before.
            supersedes = (*(entry.id for entry in self.history.outstanding), *sorted(self._unknown))
        assert self._lease  # noqa: S101 - only a plan that is looked at goes without
        return Dispatch(
            lease=self._lease,
            operator=self._operator,
            hook=self._hook,
            audience=self.audience,
            ledger=self._ledger,
            history=self.history,
            workdir=self._workdir,
            owner=self._owner,
            kind=kind,
            strategy=strategy,
            supersedes=supersedes,
            fingerprint=None if strategy == "replace" else self._fingerprint.stored(),
            go_on=self._go_on,
            pause=self._pause,
        )

    def _read_users(self) -> tuple[Snapshot, PrepareReport]:
        """Read the source, check what it gave, and return its distinct rows."""
        self._source = self._operator.source.open(self._context, stopped=self._stopped)
        self._go_on()
        everyone, report = read_users(
            self._source,
            self._operator.preparation,
            self._workdir,
            value_based=self.audience.is_value_based,
            rejects=self._rejects,
            log=self._log,
        )
        self._operator.guards.check_source(usable=everyone.rows, read=report.rows_in)
        distinct = self.sets.distinct(everyone, "distinct.parquet")
        self._log.info("%s distinct rows.", f"{distinct.rows:,}")
        return distinct, report

    def _exposure(self, *, resend_all_days: float, skip_unreadable: bool) -> Exposure:
        """Fetch the rows that may be in the audience (rule L4), and tell which surely are (rule L6)."""
        entries = self.history.exposure
        unfinished = [entry.id for entry in entries if not entry.settled]
        self._log.info(
            "Ledger: entries %s, with rows that may be in the audience %s%s.",
            len(self.history.entries),
            len(entries),
            f"; runs that did not finish left {', '.join(unfinished)}" if unfinished else "",
        )
        known = []
        for entry in entries:
            try:
                known.append((entry, self._ledger.fetch(entry, self._workdir)))
            except LedgerError as error:
                if not skip_unreadable or not error.permanent:
                    raise
                self._log.warning("It is not known who of an entry leaves: %s", error)
        return Exposure(tuple(known), self._sure(tuple(known), resend_all_days))

    def _sure(self, known: tuple[tuple[Entry, Snapshot], ...], resend_all_days: float) -> Sure | None:
        doubt = doubt_about(
            self.history,
            retention_days=self.audience.retention_days,
            resend_all_days=resend_all_days,
            now=datetime.now(UTC),
        )
        if not doubt and known and known[-1][0].opened:
            newest = known[-1][0].opened
            if newest.sent_with != self._hook.payload_extra(newest.schema):
                doubt = "the app or the page that its ids belong to is another now"
        doubtful = None if doubt or not known else self._ledger.fetch_again(known[-1][0], self._workdir)
        if doubtful is None:
            doubt = doubt or "what the ledger holds of the last refresh is not whole"
            self._log.info("Nobody is surely in the audience: %s.", doubt)
            return None
        entry, snapshot = known[-1]
        return Sure(snapshot, doubtful, entry.settled.sent_all_at if entry.settled else None)

    def _named_by_xcom(self) -> dict[str, str]:
        """Return the entries that earlier runs' manifests name, in whatever order or form XCom gives them."""
        given = self._operator.previous_upload
        if given is None:
            given = self._ti.xcom_pull(
                task_ids=self._ti.task_id, key=manifest_key(self.audience.id), include_prior_dates=True
            )
        return named_entries(manifests_in(given), self.audience.id)

    def _entry_to_resume(self) -> Entry | None:
        """Choose what to go on with, and leave it out of what else may be in the audience (rule L4)."""
        begun = entry_to_resume(
            self.history, self._owner, self._fingerprint, retention_days=self.audience.retention_days
        )
        if begun:
            self.history = self.history.without(begun)
        return begun

    def _wait_for_lease(self) -> Lease:
        return self._lease_of(self._ledger, self._pause)

    def _lease_of(self, ledger: AudienceLedger, pause: Callable[[float], None]) -> Lease:
        terms = lease_terms(self._hook.longest_flight)
        return ledger.lease(self._owner, terms, pause=pause, key=self.handover.lease)

    def _keep_once_more(self, root: ObjectStoragePath, error: GraphThrottledError) -> None:
        """Keep the lease that was left to this process for the next, where it is put off before it could take it."""
        wait, left = wait_of(error, self._operator), self.handover
        if wait is None or left.lease is None or left.audience_id is None:
            return
        lease = self._lease_of(AudienceLedger(root, left.audience_id), _wait_for_nobody)
        # Where it has expired, and another writes, the next process waits for it like anyone.
        with suppress(LedgerError):
            lease.take()
            self.handover = replace(left, lease=lease.keep_for_heir(wait))

    def _wait_for_those_left_behind(self) -> None:
        """Wait until requests of tasks that had lost their lease can land no more (rule L8)."""
        flight = self._hook.longest_flight
        waited: set[str] = set()
        while (
            young := {
                entry.id
                for entry in self.history.outstanding
                if entry.opened
                and entry.opened.left_behind
                and _is_young(entry.opened.opened_at, flight + SKEW_SECONDS)
            }
            - waited
        ):
            self._log.warning(
                "A task that had lost its lease may have sent rows until just now (entry %s); waiting %.0f s.",
                ", ".join(sorted(young)),
                flight,
            )
            self._pause(flight)
            waited |= young
            self.history = self._ledger.history()

    def _go_on(self) -> None:
        """Refuse to, once the task was told to stop, or where another task may be writing."""
        self.check_stop()
        if self._lease:
            self._lease.check()

    def _pause(self, seconds: float) -> None:
        """Wait, but no longer once the task was told to stop.

        Looks now and then instead of waiting for the event: a signal handler that sets it could wait for us in turn.
        """
        end = time.monotonic() + seconds
        while (left := end - time.monotonic()) > 0:
            self._go_on()
            time.sleep(min(left, _LOOK_SECONDS))
        self._go_on()

    def _leave(self, manifest: dict[str, Any]) -> dict[str, Any]:
        """Push the manifest under the audience's own key, also where the operator pushes no return value."""
        self._go_on()
        self._ti.xcom_push(manifest_key(self.audience.id), manifest)
        long = {"schema", "keys", "digest", "outstanding"}
        self._log.info("Manifest: %s", {name: told for name, told in manifest.items() if name not in long})
        report_lineage(self._operator, audience_id=self.audience.id, account_id=self.audience.account_id)
        return manifest


def _wait_for_nobody(_seconds: float) -> None:
    raise LedgerTakenError("Another task has the lease.")


def owner_of(ti: Any) -> dict[str, str | int]:
    """Return who writes, as markers and leases name it."""
    return {
        "dag_id": ti.dag_id,
        "task_id": ti.task_id,
        "run_id": ti.run_id,
        "map_index": -1 if ti.map_index is None else ti.map_index,
        "try_number": ti.try_number,
    }


def _is_young(opened_at: str, seconds: float) -> bool:
    """Tell whether something happened less than some seconds ago; what cannot be told may have."""
    try:
        age = datetime.now(UTC) - datetime.fromisoformat(opened_at)
    except (ValueError, TypeError):
        return True
    return age.total_seconds() < seconds
