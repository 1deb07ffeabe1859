"""From a plan that has passed its guards to people at Meta: written down first, then sent, then reported."""

from __future__ import annotations

from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from airflow_provider_fbca.exceptions import FbcaError, GraphRowsRefusedError, LedgerError
from airflow_provider_fbca.ledger import OpenMarker, utc_now, write_again
from airflow_provider_fbca.operators.invalid import invalid_rows, naming_the_snapshot
from airflow_provider_fbca.operators.journal import EntryJournal
from airflow_provider_fbca.operators.manifest import manifest_of
from airflow_provider_fbca.operators.progress import Progress
from airflow_provider_fbca.operators.replaces import close_replaces_in_the_air
from airflow_provider_fbca.sync import carry_out

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator

    from airflow_provider_fbca.graph.upload import BatchAck, UserUploader
    from airflow_provider_fbca.hooks.audience import Audience
    from airflow_provider_fbca.hooks.custom_audience import FacebookCustomAudienceHook
    from airflow_provider_fbca.identity import PrepareReport
    from airflow_provider_fbca.ledger import AudienceLedger, Entry, History, Kind, Lease, Snapshot, WorkDir
    from airflow_provider_fbca.operators.base import UsersOperator
    from airflow_provider_fbca.operators.refresh import AddedAgain
    from airflow_provider_fbca.sync import Plan, Sent, Strategy


@dataclass(frozen=True)
class Dispatch:
    """The sending part of one task.

    :param operator: whose options say how to send.
    :param lease: of the audience.
    :param hook: to Meta.
    :param audience: that is written to.
    :param ledger: of the audience.
    :param history: what the plan was made from.
    :param workdir: of the task.
    :param owner: dag, task, run, map index and try.
    :param kind: of the ledger entry.
    :param strategy: of a refresh.
    :param supersedes: ids of the entries that are retired when the plan is done.
    :param fingerprint: by which a retry knows its own entry; None where it may not resume.
    :param go_on: called before every request and every write to the ledger; what it raises stops the task.
    :param pause: waits some seconds, and raises where the task is to stop.
    """

    operator: UsersOperator
    lease: Lease
    hook: FacebookCustomAudienceHook
    audience: Audience
    ledger: AudienceLedger
    history: History
    workdir: WorkDir
    owner: dict[str, str | int]
    kind: Kind
    strategy: Strategy | None
    supersedes: tuple[str, ...]
    fingerprint: str | None
    go_on: Callable[[], None]
    pause: Callable[[float], None]

    def begin(self, plan: Plan, users: Snapshot, again: AddedAgain | None, report: PrepareReport) -> dict[str, Any]:
        """Carry out a plan under a new entry; without anything to send there is none.

        :param users: the snapshot to store as the entry's.
        :param again: of a refresh, what the next one must know to tell who is surely in.
        :param report: what became of the source's rows.
        :returns: the manifest.
        """
        marker = self._marker(plan, users, report)
        if not plan.removed and not plan.added:
            self.operator.log.info("There is nothing to send.")
            return manifest_of(marker, None, plan=plan, outstanding=self._outstanding(()))
        sender_for = self._sender_for(plan)
        places = write_again(self.workdir.file("again.parquet"), again.rows) if again else None
        self.go_on()
        entry = self.ledger.begin(users, places)
        marker = replace(marker, digest=entry.digest, again_digest=entry.again_digest)
        journal = EntryJournal(entry, marker, plan, self.supersedes, self.go_on, again)
        return self._carry_out(journal, users, sender_for)

    def resume(self, begun: Entry, plan: Plan, users: Snapshot, again: AddedAgain | None) -> dict[str, Any]:
        """Go on with the entry that an earlier try has left open; what Meta has acknowledged is not sent again.

        :param begun: whose plan is the same.
        :returns: the manifest.
        """
        assert begun.opened  # noqa: S101 - an entry without its marker is not resumed
        journal = EntryJournal(
            self.ledger.go_on_with(begun),
            begun.opened,
            plan,
            self.supersedes,
            self.go_on,
            again,
            progress=self.ledger.progress_of(begun),
            is_open=True,
        )
        return self._carry_out(journal, users, self._sender_for(plan))

    def _carry_out(
        self, journal: EntryJournal, users: Snapshot, sender_for: Callable[[EntryJournal], UserUploader]
    ) -> dict[str, Any]:
        sender = sender_for(journal)
        with self._leaving_notes(journal, users):
            sent = carry_out(
                journal.plan, journal=journal, sender=sender, clear_the_air=lambda: self._clear_the_air(sender)
            )
            self._tell(sent, journal.entry.id)
            self.go_on()
            self._discard_retired()
            self.go_on()
        return manifest_of(
            journal.marker,
            journal.entry,
            plan=journal.plan,
            outstanding=self._outstanding(self.supersedes) | {journal.entry.id: journal.entry.digest},
            sent=sent,
            uploaded_at=journal.settled_at,
        )

    def _sender_for(self, plan: Plan) -> Callable[[EntryJournal], UserUploader]:
        """Return what makes the sender of a plan, after everything that can be wrong with it was looked at."""
        extra = self.hook.payload_extra(plan.keys)
        progress = Progress(self.operator.log, plan.removed + plan.added)
        replaces = plan.replacement is not None

        def sender_for(journal: EntryJournal) -> UserUploader:
            def new_session() -> int:
                self.go_on()
                return journal.entry.new_session(self.kind, replaces=replaces)

            def on_batch(ack: BatchAck) -> None:
                journal.acknowledge(ack.first_row, ack.rows)
                progress.batch(ack.rows)

            return self.hook.sender(
                self.audience.id,
                batch_size=self.operator.batch_size,
                max_concurrency=self.operator.max_concurrency,
                new_session=new_session,
                on_batch=on_batch,
                before_request=self.go_on,
                payload_extra=extra,
                sleep=self.pause,
            )

        return sender_for

    def _clear_the_air(self, sender: UserUploader) -> None:
        """End what replaces of earlier tasks may have left at Meta (rule S6)."""
        close_replaces_in_the_air(
            self.ledger, self.history.outstanding, sender, self.workdir, log=self.operator.log, pause=self.pause
        )

    @contextmanager
    def _leaving_notes(self, journal: EntryJournal, users: Snapshot) -> Iterator[None]:
        """Write down what others must know of a sending that came to no end."""
        try:
            yield
        except BaseException as error:
            if not journal.is_open:
                # Without a marker nobody would ever know them for something to delete.
                with suppress(FbcaError):
                    self.ledger.discard_rows((journal.entry.id,))
            elif self.lease.lost:
                self._leave_copy(journal, users)
            else:
                # It saves a retry some requests, no more.
                with suppress(FbcaError):
                    journal.leave()
            if isinstance(error, GraphRowsRefusedError):
                raise naming_the_snapshot(error, journal.entry.id) from None
            raise

    def _leave_copy(self, journal: EntryJournal, users: Snapshot) -> None:
        """Write the rows down once more, since the lease was lost while they were being sent (rule L8).

        Whoever has taken the lease may have retired their entry before our last request landed.
        """
        try:
            copy = self.ledger.begin(users)
            copy.open(replace(journal.marker, opened_at=utc_now(), left_behind=True, fingerprint=None, plan=None))
            for note in self.ledger.sessions_of(journal.entry.id):
                copy.note_session(note)
        except (LedgerError, OSError) as error:
            told = error if isinstance(error, LedgerError) else type(error).__name__
            self.operator.log.warning("The lease was lost, and the ledger takes no note of what was sent: %s", told)
        else:
            self.operator.log.warning("The lease was lost; entry %s tells that rows may have been sent.", copy.id)

    def _tell(self, sent: Sent, entry_id: str) -> None:
        log = self.operator.log
        log.info(
            "Meta acknowledged %s requests in %.0f s: %s rows received, %s entries invalid.",
            f"{sent.requests:,}",
            sent.seconds,
            f"{sent.received:,}",
            f"{sent.invalid:,}",
        )
        if sent.invalid:
            rows = "; ".join(invalid_rows(sent, entry_id))
            log.warning(
                "Meta calls %s entries invalid; they are in nobody's audience%s.",
                f"{sent.invalid:,}",
                f"; {rows}" if rows else "",
            )

    def _discard_retired(self) -> None:
        """Delete the rows of retired entries, also those that a run killed just here has left.

        The audience is as it should be by now: a store that refuses is no reason to send everything again.
        """
        try:
            self.ledger.discard_rows((*self.supersedes, *self.history.retired))
        except LedgerError as error:
            self.operator.log.warning(
                "Rows that are not needed any more stay in the ledger until the next run: %s", error
            )

    def _marker(self, plan: Plan, users: Snapshot, report: PrepareReport) -> OpenMarker:
        return OpenMarker(
            kind=self.kind,
            strategy=self.strategy,
            audience_id=self.audience.id,
            ad_account_id=self.audience.account_id,
            schema=tuple(users.schema.names),
            rows=users.rows,
            digest="",
            reads=tuple(entry.id for entry in self.history.outstanding),
            audience_was_empty=self.audience.never_filled,
            retention_days=self.audience.retention_days,
            owner=self.owner,
            opened_at=utc_now(),
            fingerprint=self.fingerprint,
            plan=plan.digest(),
            batch_size=self.operator.batch_size,
            sent_with=self.hook.payload_extra(plan.keys),
            prepared=report.as_dict(),
        )

    def _outstanding(self, superseded: Collection[str]) -> dict[str, str | None]:
        return {entry.id: entry.digest for entry in self.history.outstanding if entry.id not in superseded}
