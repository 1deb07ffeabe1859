"""What an erasure has done, in counts: nobody's value or hash is in it."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator


@dataclass(frozen=True)
class Erased:
    """What was done for one audience.

    :param audience_id: digits.
    :param ad_account_id: that owns it, as the ledger has it.
    :param rows: taken out of its snapshots.
    :param requests: that removed them at Meta.
    :param left_overs: files of rows deleted that nothing needed.
    :param failure: why it is not done; empty where it is.
    """

    audience_id: str
    ad_account_id: str | None
    rows: int = 0
    requests: int = 0
    left_overs: int = 0
    failure: str = ""


@dataclass(frozen=True)
class Receipt:
    """What an erasure has done, in counts.

    :param given: distinct rows of people that were given.
    :param unusable: rows given that no person can be found by.
    :param found: rows of theirs in the ledger, over all audiences and entries.
    :param audiences: how many audiences the ledger has; every one was looked at.
    :param erased: those in which there was something to do.
    :param accounts: ad account -> requests to remove them from all of its audiences.
    :param failures: ad account -> why its audiences could not be reached.
    :param rows_left: of theirs in the ledger at the end: not 0 where a task has sent them anew meanwhile.
    :param erased_at: UTC, ISO 8601.
    """

    given: int
    unusable: int
    found: int
    audiences: int
    erased: tuple[Erased, ...]
    accounts: dict[str, int]
    failures: dict[str, str]
    rows_left: int
    erased_at: str

    @property
    def is_complete(self) -> bool:
        """Whether nothing is left to do."""
        return not (self.failures or self.rows_left or any(each.failure for each in self.erased))

    def as_dict(self) -> dict[str, Any]:
        """Return all of it for JSON."""
        return {"is_complete": self.is_complete} | asdict(self)

    def lines(self) -> Iterator[str]:
        """Yield it for a person to read."""
        yield f"{'Complete' if self.is_complete else 'NOT COMPLETE'} at {self.erased_at}."
        yield f"People given: {self.given:,} rows; {self.unusable:,} more name nobody who can be found."
        yield f"Audiences in the ledger: {self.audiences:,}, all looked at; {self.found:,} rows of theirs found."
        for each in self.erased:
            done = f"{each.rows:,} rows erased, {each.requests:,} requests to Meta"
            yield f"  audience {each.audience_id}: {f'NOT DONE: {each.failure}' if each.failure else done}"
        for account, requests in self.accounts.items():
            yield f"  ad account {account}: {requests:,} requests to remove them from every audience"
        for account, failure in self.failures.items():
            yield f"  ad account {account}: NOT DONE: {failure}"
        yield f"Rows of theirs left in the ledger: {self.rows_left:,}."
