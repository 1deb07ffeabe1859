"""Tells the ledger who is in an audience that somebody else had filled (rule L11), or brings its ledger along."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from airflow_provider_fbca.exceptions import LedgerError
from airflow_provider_fbca.ledger import AudienceLedger, Inventory, OpenMarker, SettledMarker, utc_now
from airflow_provider_fbca.ledger.retire import nobody
from airflow_provider_fbca.ledger_tools.verify import findings_in
from airflow_provider_fbca.ledger_tools.writer import owner_of, sole_writer

if TYPE_CHECKING:
    from collections.abc import Sequence

    from airflow_provider_fbca.hooks.audience import Audience
    from airflow_provider_fbca.ledger import Kind, Lease, LedgerFile, OpenEntry, Snapshot, WorkDir
    from airflow_provider_fbca.ledger.store import StorePath


def adopt_users(root: StorePath, audience: Audience, users: Snapshot) -> str:
    """State that these people may be in the audience beside those whom the ledger knows, and nobody else.

    :param root: folder of the whole ledger.
    :param audience: as Meta has it.
    :param users: distinct rows, as identifiers only.
    :returns: the id of the entry that holds them.
    :raises LedgerError: where the store refuses; then the audience is not adopted, or a second time does no harm.
    """
    ledger = AudienceLedger(root, audience.id)
    with sole_writer(ledger, "adopt") as lease:
        reads = tuple(entry.id for entry in ledger.history().outstanding)
        entry = _open(ledger, lease, _marker(audience, "adopt", reads), users)
        _settle(entry, lease, users.rows)
    return entry.id


def adopt_ledger(root: StorePath, old_root: StorePath, audience: Audience, workdir: WorkDir) -> tuple[str, int]:
    """Copy an audience's ledger that was elsewhere.

    Until all is copied, an entry that names what is to come makes every task refuse to go on; a run that dies is simply
    run again. The old folder stays as it is.

    :param root: folder of the whole ledger, as tasks use it from now on.
    :param old_root: folder that it was in before.
    :param audience: as Meta has it.
    :returns: the address of the audience's folder, and how many files were copied.
    :raises LedgerError: where the old one is not whole.
    """
    ledger, old = AudienceLedger(root, audience.id), AudienceLedger(old_root, audience.id)
    if ledger.uri == old.uri:
        raise LedgerError(f"The ledger is in {ledger.uri} already.", remedy="Give --ledger the place where it was.")
    with sole_writer(old, "adopt") as old_lease, sole_writer(ledger, "adopt") as lease:
        outstanding = _whole(old_root, old, workdir)
        entry = _open(ledger, lease, _marker(audience, "move", outstanding), nobody(workdir))
        copied = _copy(Inventory(old_root, audience.id), Inventory(root, audience.id), (old_lease, lease), workdir)
        missing = ledger.history().missing
        if missing:
            raise LedgerError(
                f"The copy in {ledger.uri} lacks entries {', '.join(sorted(missing))}.", remedy="Run this again."
            )
        _settle(entry, lease, 0)
    return ledger.uri, copied


def _whole(old_root: StorePath, old: AudienceLedger, workdir: WorkDir) -> tuple[str, ...]:
    """Make sure that a ledger is whole, and return the ids of its entries that are not retired."""
    faults = [each.line() for each in findings_in(old_root, old.audience_id, workdir) if each.is_fault]
    if faults:
        raise LedgerError(
            f"The ledger in {old.uri} is not whole: {' '.join(faults)}", remedy="Restore it, then run this again."
        )
    history = old.history()
    if not history.entries:
        raise LedgerError(f"There is no ledger of this audience in {old.uri}.", remedy="Correct --ledger.")
    return tuple(entry.id for entry in history.outstanding)


def _copy(old: Inventory, new: Inventory, leases: Sequence[Lease], workdir: WorkDir) -> int:
    here = {file.name for file in new.files()}
    files = sorted((file for file in old.files() if file.entry_id and file.name not in here), key=_order)
    for file in files:
        for lease in leases:
            lease.check()
        if file.holds_people:
            local = old.fetch(file, workdir.file(f"copy-{file.name}"))
            new.put(file.name, local)
            local.unlink()
        else:
            new.create(file.name, old.read([file])[file.name])
    return len(files)


def _order(file: LedgerFile) -> tuple[bool, bool, str]:
    """Rows before any marker, and what retires others at the end: an entry that can be seen has its rows."""
    return not file.holds_people, file.part == "settled.json", file.name


def _open(ledger: AudienceLedger, lease: Lease, marker: OpenMarker, users: Snapshot) -> OpenEntry:
    lease.check()
    entry = ledger.begin(users)
    lease.check()
    entry.open(replace(marker, schema=tuple(users.schema.names), rows=users.rows, digest=entry.digest))
    return entry


def _settle(entry: OpenEntry, lease: Lease, rows: int) -> None:
    lease.check()
    entry.settle(SettledMarker((), utc_now(), {"members": rows}))


def _marker(audience: Audience, kind: Kind, reads: tuple[str, ...]) -> OpenMarker:
    """Return the marker of an entry that nothing is sent for, without what its rows will tell."""
    return OpenMarker(
        kind=kind,
        strategy=None,
        audience_id=audience.id,
        ad_account_id=audience.account_id,
        schema=(),
        rows=0,
        digest="",
        reads=reads,
        audience_was_empty=audience.never_filled,
        retention_days=audience.retention_days,
        owner=owner_of("adopt"),
        opened_at=utc_now(),
    )
