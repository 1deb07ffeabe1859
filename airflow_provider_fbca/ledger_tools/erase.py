"""Erases given people from every audience and every snapshot (rule L12).

For each audience that the ledger knows them in, an entry of kind ``erase`` takes the place of all others: it holds
their rows without these people's, is opened before the removals are sent, and retires the others once Meta has
acknowledged them. So at no instant is anybody forgotten who may be in the audience, and a run that dies is simply run
again. Audiences that the ledger does not know are reached through ``usersofanyaudience``.
"""

from __future__ import annotations

import logging
import time
from dataclasses import replace
from typing import TYPE_CHECKING

from airflow_provider_fbca.exceptions import FbcaError, GraphNotFoundError, GraphRemovalRefusedError, LedgerError
from airflow_provider_fbca.graph.audiences import Audiences
from airflow_provider_fbca.hooks.custom_audience import FacebookCustomAudienceHook
from airflow_provider_fbca.identity import COMBINATIONS
from airflow_provider_fbca.ledger import AudienceLedger, Inventory, People, RowSets, utc_now
from airflow_provider_fbca.ledger_tools.erase_audience import AudienceErasure
from airflow_provider_fbca.ledger_tools.pending import PendingErasures
from airflow_provider_fbca.ledger_tools.receipt import Erased, Receipt
from airflow_provider_fbca.ledger_tools.search import Search, copied, left_overs
from airflow_provider_fbca.ledger_tools.writer import sole_writer

if TYPE_CHECKING:
    from collections.abc import Callable

    from airflow_provider_fbca.ledger import Lease, Snapshot, WorkDir
    from airflow_provider_fbca.ledger.store import StorePath
    from airflow_provider_fbca.ledger_tools.search import Found

log = logging.getLogger(__name__)

_TERMS = "Meta does nothing, and says nothing, where the Custom Audience terms are not accepted"


class Erasure:
    """One erasure, from the people given to the receipt.

    :param root: folder of the whole ledger.
    :param conn_id: the Airflow connection to Meta.
    :param workdir: for snapshots and the rows found.
    :param given: distinct rows of the people to erase, as identifiers only.
    :param unusable: rows given that no person can be found by.
    :param connected: whether rows that share an identifier with a row found are erased, too.
    :param pause: waits some seconds.
    """

    def __init__(
        self,
        root: StorePath,
        conn_id: str,
        workdir: WorkDir,
        given: Snapshot,
        *,
        unusable: int,
        connected: bool,
        pause: Callable[[float], None] = time.sleep,
    ) -> None:
        self._root = root
        self._conn_id = conn_id
        self._workdir = workdir
        self._given = given
        self._unusable = unusable
        self._connected = connected
        self._pause = pause
        self._pending = PendingErasures(root)
        self._people = People(COMBINATIONS)
        self._search = Search(root, workdir, self._people, connected=connected)
        self._found: list[Found] = []
        self._rows: Snapshot = given
        #: How many combinations the stored rows tell.
        self._remembered = 0

    def look(self) -> list[str]:
        """Find out what is to be erased, and return it for a person to read."""
        earlier = self._pending.fetch(self._workdir)
        for known in (self._given, *earlier):
            self._people.learn(known)
        self._found, found = self._search.everywhere()
        self._rows = copied(
            RowSets(self._workdir).union((self._given, *earlier, *found)), self._workdir, "to-erase.parquet"
        )
        return [
            f"{self._given.rows:,} rows of people given; {self._unusable:,} more name nobody who can be found.",
            *([f"{len(earlier):,} erasures did not finish, and are carried on."] if earlier else []),
            *(_told(each) for each in self._found if each.is_touched),
            f"{sum(each.rows for each in self._found):,} rows in {len(self._found):,} audiences' snapshots are theirs"
            + (", those that share an identifier with them included." if self._connected else "."),
            f"They are also removed from every audience of ad account {', '.join(self._accounts())}.",
        ]

    def carry_out(self) -> Receipt:
        """Erase what :meth:`look` has found. Whatever fails is told in the receipt, and the rest is done.

        :returns: the receipt, in counts.
        """
        self._remember(self._rows)
        accounts, failures = self._from_accounts()
        erased = tuple(self._from_audience(each) for each in self._found if each.is_touched)
        left, _ = self._search.everywhere()
        receipt = Receipt(
            given=self._given.rows,
            unusable=self._unusable,
            found=sum(each.rows for each in self._found),
            audiences=len(self._found),
            erased=erased,
            accounts=accounts,
            failures=failures,
            rows_left=sum(each.rows for each in left),
            erased_at=utc_now(),
        )
        if receipt.is_complete:
            self._pending.clear()
        return receipt

    def _accounts(self) -> list[str]:
        """Return the ad accounts of all audiences in the ledger, and the connection's own."""
        own = FacebookCustomAudienceHook(self._conn_id).credentials.ad_account_id
        named = {each.ad_account_id for each in self._found if each.ad_account_id}
        return sorted(named | ({own} if own else set()))

    def _from_accounts(self) -> tuple[dict[str, int], dict[str, str]]:
        """Remove them from every audience of each ad account, also those that the ledger does not know."""
        done, failures = {}, {}
        for account in self._accounts():
            try:
                done[account] = self._from_account(account)
            except FbcaError as error:
                failures[account] = str(error)
        return done, failures

    def _from_account(self, account: str) -> int:
        hook = FacebookCustomAudienceHook(self._conn_id, ad_account_id=account)
        if Audiences(hook.get_conn()).terms_accepted(account) is False:
            raise LedgerError(f"{_TERMS}.", remedy="A person of its business must accept them first.")
        rows = RowSets(self._workdir).identities_of(self._rows)
        # No audience plays a part in this edge; its uploader wants an id all the same.
        sender = hook.sender(account, payload_extra=hook.payload_extra(rows.keys), sleep=self._pause)
        requests = sender.erase(rows.batches(), account_id=account)
        sender.wait_out_flights()
        log.info("Ad account %s: %s requests to remove them from every audience.", account, f"{requests:,}")
        return requests

    def _from_audience(self, found: Found) -> Erased:
        done = Erased(found.audience_id, found.ad_account_id)
        try:
            if not found.rows and not found.unreadable:
                return self._clean(done)
            return self._erase(done)
        except GraphNotFoundError as error:
            remedy = f"If it was deleted, run `fbca ledger forget {found.audience_id}`, and this again."
            return replace(done, failure=f"{error} {remedy}")
        except GraphRemovalRefusedError as error:
            remedy = 'Refresh it once by strategy="replace" from a source without these people, and run this again.'
            return replace(done, failure=f"{error} {remedy}")
        except FbcaError as error:
            return replace(done, failure=str(error))

    def _clean(self, done: Erased) -> Erased:
        """Delete rows that nothing needs: whose they are need not be known."""
        ledger = AudienceLedger(self._root, done.audience_id)
        with sole_writer(ledger, "erase") as lease:
            return replace(done, left_overs=self._discard(ledger, lease))

    def _erase(self, done: Erased) -> Erased:
        hook = FacebookCustomAudienceHook(self._conn_id, ad_account_id=done.ad_account_id)
        audience = hook.ready_audience(done.audience_id)
        ledger = AudienceLedger(self._root, audience.id)
        with sole_writer(ledger, "erase", hook=hook) as lease:
            task = AudienceErasure(
                hook, audience, ledger, lease, self._workdir, self._search, self._remember, self._pause
            )
            rows, requests, unreadable = task.run()
            left = self._discard(ledger, lease)
        failure = " ".join(unreadable)
        return replace(done, rows=rows, requests=requests, left_overs=left, failure=failure)

    def _remember(self, rows: Snapshot) -> None:
        """Keep rows found under a lease that tell more of these people than was known before."""
        if self._connected and self._people.known != self._remembered:
            self._pending.add(rows)
            self._remembered = self._people.known

    def _discard(self, ledger: AudienceLedger, lease: Lease) -> int:
        inventory = Inventory(self._root, ledger.audience_id)
        # Nobody else writes now, so what has no marker will never get one; half-written files may be theirs.
        files = (*left_overs(inventory, ledger.history()), *inventory.abandoned())
        for file in files:
            lease.check()
            inventory.delete([file])
        return len(files)


def _told(found: Found) -> str:
    left = f"; {found.left_overs:,} files of rows that nothing needs are deleted" if found.left_overs else ""
    unreadable = f"; CANNOT BE SEARCHED: {' '.join(found.unreadable)}" if found.unreadable else ""
    return f"Audience {found.audience_id}: {found.rows:,} rows{left}{unreadable}"
