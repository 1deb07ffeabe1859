"""One task's work on one audience: what the operators that send users have in common."""

from __future__ import annotations

import threading
import time
from contextlib import ExitStack
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Self

from airflow.sdk import ObjectStoragePath

from airflow_provider_fbca.compat import conf
from airflow_provider_fbca.exceptions import LedgerError, LedgerPlaceError, StoppedError
from airflow_provider_fbca.ledger import (
    AudienceLedger,
    OpenMarker,
    RowSets,
    Snapshot,
    WorkDir,
    doubt_about,
    utc_now,
    write_again,
)
from airflow_provider_fbca.links.ads_manager import LINK_KEY, audience_url
from airflow_provider_fbca.operators.invalid import invalid_rows
from airflow_provider_fbca.operators.journal import EntryJournal
from airflow_provider_fbca.operators.manifest import (
    manifest_key,
    manifest_of,
    manifests_in,
    named_entries,
    plan_report,
    refuse_unknown,
)
from airflow_provider_fbca.operators.progress import Progress
from airflow_provider_fbca.operators.refresh import Exposure, Sure, delete_insert, delta
from airflow_provider_fbca.operators.users import read_users
from airflow_provider_fbca.sync import carry_out

if TYPE_CHECKING:
    from types import TracebackType

    from airflow.sdk import Context

    from airflow_provider_fbca.hooks.custom_audience import Audience
    from airflow_provider_fbca.identity import PrepareReport
    from airflow_provider_fbca.ledger import Entry, History, Kind
    from airflow_provider_fbca.operators.base import UsersOperator
    from airflow_provider_fbca.operators.refresh import AddedAgain
    from airflow_provider_fbca.operators.rejects import RejectsPlace
    from airflow_provider_fbca.sync import Plan, Strategy
    from airflow_provider_fbca.warehouse import UserSource


_LOCAL = {"", "file", "local"}
#: Between two looks whether the task was told to stop.
_LOOK_SECONDS = 0.5
_PLANS = {"delta": delta, "delete_insert": delete_insert}


class AudienceRun:
    """One try of one task: checks first, then users, plan, guards, and only then the ledger and Meta.

    Entering it finds out, before any query runs, whether the ledger has a place that can be read, the connection works,
    the audience exists and belongs to the account, and the terms are accepted. Leaving it removes the task's spill.

    :param operator: whose rendered options say what to do.
    :param context: of the task.
    """

    def __init__(self, operator: UsersOperator, context: Context) -> None:
        self._operator = operator
        self._context = context
        self._ti = context["ti"]
        self._log = operator.log
        self._cleanup = ExitStack()
        self._workdir = WorkDir()
        self._report: PrepareReport | None = None
        self._source: UserSource | None = None
        self._stopped = threading.Event()

    def __enter__(self) -> Self:
        root = ledger_root(self._operator.ledger_uri)
        self._rejects: RejectsPlace | None = self._operator.rejects_place(root)
        self._hook = self._operator.hook
        self.audience: Audience = self._hook.ready_audience(str(self._operator.audience_id))
        self._ti.xcom_push(LINK_KEY, audience_url(self.audience.id, self.audience.account_id))
        self._ledger = AudienceLedger(root, self.audience.id)
        self._log.info(
            "Audience %s of ad account %s; ledger %s.", self.audience.id, self.audience.account_id, self._ledger.uri
        )
        #: What the ledger knew when the task began.
        self.history: History = self._ledger.history()
        self._cleanup.enter_context(self._workdir)
        self.sets = RowSets(self._workdir)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._cleanup.close()

    def stop(self) -> None:
        """End soon, from a signal handler: the query is cancelled, and no request begins any more."""
        self._stopped.set()
        if self._source is not None:
            self._source.cancel()

    @property
    def began_empty(self) -> bool:
        """Whether nothing had ever been uploaded to the audience when its ledger began, or now if it begins now."""
        recorded = self.history.began_empty
        return self.audience.never_filled if recorded is None else recorded

    @property
    def outstanding_ids(self) -> tuple[str, ...]:
        """Ids of the entries that the plan was made from: those not retired, removals among them."""
        return tuple(entry.id for entry in self.history.outstanding)

    def read_users(self) -> Snapshot:
        """Read the source, check what it gave, and return its distinct rows."""
        self._source = self._operator.source.open(self._context)
        self._go_on()
        everyone, self._report = read_users(
            self._source,
            self._operator.preparation,
            self._workdir,
            value_based=self.audience.is_value_based,
            rejects=self._rejects,
            log=self._log,
        )
        self._operator.guards.check_source(usable=everyone.rows, read=self._report.rows_in)
        distinct = self.sets.distinct(everyone, "distinct.parquet")
        self._log.info("%s distinct rows.", f"{distinct.rows:,}")
        return distinct

    def refuse_unknown_entries(self) -> None:
        """Make sure that the ledger has every entry that XCom, or another entry, names (rule L7).

        :raises LedgerError: where it lacks one.
        """
        named = self._named_by_xcom()
        unknown = {*self.history.missing, *self.history.unknown_of(tuple(named))}
        refuse_unknown(unknown, named, self._ledger.uri)

    def exposure(self, *, resend_all_days: float) -> Exposure:
        """Fetch the rows that may be in the audience (rule L4), and tell which surely are (rule L6).

        :param resend_all_days: how long a row counts as surely in after all were sent.
        """
        entries = self.history.exposure
        unfinished = [entry.id for entry in entries if not entry.settled]
        self._log.info(
            "Ledger: entries %s, with rows that may be in the audience %s%s.",
            len(self.history.entries),
            len(entries),
            f"; runs that did not finish left {', '.join(unfinished)}" if unfinished else "",
        )
        known = tuple((entry, self._ledger.fetch(entry, self._workdir)) for entry in entries)
        return Exposure(known, self._sure(known, resend_all_days))

    def plan_refresh(
        self, users: Snapshot, exposure: Exposure, *, strategy: Strategy
    ) -> tuple[Plan, AddedAgain | None]:
        """Plan to make the audience equal to some users.

        :param users: distinct rows.
        :returns: the plan, and what the next refresh must know of it; None where nobody will count as surely in.
        """
        return _PLANS[strategy](self.sets, users, exposure)

    def carry_out(
        self,
        plan: Plan,
        users: Snapshot,
        *,
        kind: Kind,
        strategy: str | None = None,
        supersedes: tuple[str, ...] = (),
        again: AddedAgain | None = None,
    ) -> dict[str, Any]:
        """Guard the plan, write it down, send it, and leave the manifest.

        :param plan: from the users and, for a refresh, the exposure.
        :param users: the snapshot to store as the entry's.
        :param supersedes: ids of the entries that are retired when the plan is done.
        :param again: of a refresh, what the next one must know to tell who is surely in.
        :returns: the manifest; with ``plan_only`` a report, and nothing is stored or sent.
        """
        assert self._report is not None  # noqa: S101 - read_users came first
        self._log.info("Plan: %s.", plan.describe())
        self._operator.guards.check_plan(plan)
        if self._operator.plan_only:
            self._log.info("plan_only: nothing is stored or sent.")
            return plan_report(self.audience.id, plan, self._report)
        payload_extra = self._hook.payload_extra(plan.keys)
        places = write_again(self._workdir.file("again.parquet"), again.rows) if again else None
        entry = self._ledger.begin(users, places)
        marker = self._marker(users, entry.digest, kind, strategy)
        journal = EntryJournal(entry, marker, plan, supersedes, again)
        progress = Progress(self._log, plan.removed + plan.added)
        sender = self._hook.sender(
            self.audience.id,
            batch_size=self._operator.batch_size,
            max_concurrency=self._operator.max_concurrency,
            new_session=lambda: entry.new_session(kind),
            on_batch=lambda ack: progress.batch(ack.rows),
            before_request=self._go_on,
            payload_extra=payload_extra,
            sleep=self._pause,
        )
        sent = carry_out(plan, journal=journal, sender=sender)
        self._log.info(
            "Meta acknowledged %s requests in %.0f s: %s rows received, %s entries invalid.",
            f"{sent.requests:,}",
            progress.seconds,
            f"{sent.received:,}",
            f"{sent.invalid:,}",
        )
        if sent.invalid:
            rows = "; ".join(invalid_rows(sent, entry.id))
            self._log.warning(
                "Meta calls %s entries invalid; they are in nobody's audience%s.",
                f"{sent.invalid:,}",
                f"; {rows}" if rows else "",
            )
        self._discard_retired(supersedes)
        return self._leave(
            manifest_of(
                entry,
                marker,
                plan=plan,
                sent=sent,
                report=self._report,
                outstanding=self._outstanding_without(supersedes) | {entry.id: entry.digest},
                uploaded_at=journal.settled_at,
            )
        )

    def _discard_retired(self, superseded: tuple[str, ...]) -> None:
        """Delete the rows of retired entries, also those that a run killed just here has left.

        The audience is as it should be by now: a store that refuses is no reason to send everything again.
        """
        try:
            self._ledger.discard_rows((*superseded, *self.history.retired))
        except LedgerError as error:
            self._log.warning("Rows that are not needed any more stay in the ledger until the next run: %s", error)

    def _go_on(self) -> None:
        """Refuse to, once the task was told to stop."""
        if self._stopped.is_set():
            raise StoppedError("The task was told to stop.", remedy="Run it again: the ledger knows what was sent.")

    def _pause(self, seconds: float) -> None:
        """Wait, but no longer once the task was told to stop.

        Looks now and then instead of waiting for the event: a signal handler that sets it could wait for us in turn.
        """
        end = time.monotonic() + seconds
        while (left := end - time.monotonic()) > 0:
            self._go_on()
            time.sleep(min(left, _LOOK_SECONDS))
        self._go_on()

    def _sure(self, known: tuple[tuple[Entry, Snapshot], ...], resend_all_days: float) -> Sure | None:
        doubt = doubt_about(
            self.history,
            retention_days=self.audience.retention_days,
            resend_all_days=resend_all_days,
            now=datetime.now(UTC),
        )
        doubtful = None if doubt else self._ledger.fetch_again(known[-1][0], self._workdir)
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

    def _marker(self, users: Snapshot, digest: str, kind: Kind, strategy: str | None) -> OpenMarker:
        return OpenMarker(
            kind=kind,
            strategy=strategy,
            audience_id=self.audience.id,
            ad_account_id=self.audience.account_id,
            schema=tuple(users.schema.names),
            rows=users.rows,
            digest=digest,
            reads=self.outstanding_ids,
            audience_was_empty=self.audience.never_filled,
            retention_days=self.audience.retention_days,
            owner={
                "dag_id": self._ti.dag_id,
                "task_id": self._ti.task_id,
                "run_id": self._ti.run_id,
                "map_index": -1 if self._ti.map_index is None else self._ti.map_index,
                "try_number": self._ti.try_number,
            },
            opened_at=utc_now(),
        )

    def _outstanding_without(self, superseded: tuple[str, ...]) -> dict[str, str | None]:
        return {entry.id: entry.digest for entry in self.history.outstanding if entry.id not in superseded}

    def _leave(self, manifest: dict[str, Any]) -> dict[str, Any]:
        """Push the manifest under the audience's own key, also where the operator pushes no return value."""
        self._ti.xcom_push(manifest_key(self.audience.id), manifest)
        long = {"schema", "keys", "digest"}
        self._log.info("Manifest: %s", {name: told for name, told in manifest.items() if name not in long})
        return manifest


def ledger_root(ledger_uri: str | None) -> ObjectStoragePath:
    """Return the folder of the ledger.

    :param ledger_uri: of the operator; without it ``[fbca] ledger_uri`` decides.
    :raises LedgerPlaceError: where neither is set, or it is a path that depends on where the task runs.
    """
    uri = (ledger_uri or conf.get("fbca", "ledger_uri", fallback=None) or "").strip()
    if not uri:
        raise LedgerPlaceError(
            "No place for the ledger is set, and there is no default: people's hashes go where someone chose.",
            remedy=(
                "Set [fbca] ledger_uri in airflow.cfg, or AIRFLOW__FBCA__LEDGER_URI="
                "s3://aws_default@bucket/fbca-ledger in the environment, or ledger_uri of the task "
                "(file:///path is fine on one machine)."
            ),
        )
    try:
        root = ObjectStoragePath(uri)
    except ValueError:
        root = None
    if root is None or not _has_file_system(root):
        raise LedgerPlaceError(
            f"ledger_uri {uri} is of a kind of storage that is not known here.",
            remedy="Correct it, or install the Airflow provider of that storage.",
        )
    # Looked at as it was written: for file:// the path object has made a relative one absolute already.
    if root.protocol in _LOCAL and not uri.removeprefix(f"{root.protocol}:").removeprefix("//").startswith("/"):
        raise LedgerPlaceError(
            f"ledger_uri {uri} is a relative path, which means another folder on every worker.",
            remedy="Give an absolute path (file:///srv/fbca-ledger) or an object-storage URI.",
        )
    return root


def _has_file_system(root: ObjectStoragePath) -> bool:
    """Tell whether Airflow knows a file system for a path; some of its minors ask for one only here."""
    try:
        root.fs  # noqa: B018 - looked up on first use
    except ValueError:
        return False
    except Exception:  # noqa: BLE001 - whatever else is wrong, the ledger's first reading tells it
        return True
    return True
