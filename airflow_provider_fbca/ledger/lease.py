"""One writer at a time per audience (rule L8).

A holder counts from before it began to write a number, an observer from when it first saw it, each by a clock of its
own that only runs forward. So a holder stops before anybody takes over, whatever the clocks on the wall say; and what
it sent last has landed by then, since it stops earlier by the longest flight of a request.
"""

from __future__ import annotations

import logging
import math
import os
import secrets
import threading
import time
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Self

from airflow_provider_fbca.exceptions import LeaseLostError, LedgerError, LedgerPlaceError, OptionsError
from airflow_provider_fbca.ledger.lease_row import LeaseNote, LeaseRow

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from types import TracebackType

    from airflow_provider_fbca.ledger.lease_row import Seen, State
    from airflow_provider_fbca.ledger.store import Store

log = logging.getLogger(__name__)

#: Longest pause between two looks at a lease that another holds.
_LOOK_SECONDS = 2.0
_TELL_SECONDS = 60.0
#: How far two clocks on the wall may differ at most; an expiry that is longer ago by them is believed at once.
_SKEW_SECONDS = 3600.0
#: How often in all a store may refuse us the number that we try to take.
_REFUSALS = 3
#: Parts of the lease's seconds after which it is renewed, and tried again where the store did not let us.
_RENEW, _RENEW_AGAIN = 1 / 3, 1 / 30


def boot_clock() -> float:
    """Return seconds of a clock that only runs forward, and also while the machine is suspended."""
    # On macOS the monotonic clock does so itself.
    return time.clock_gettime(getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC))


def wall_clock() -> datetime:
    """Return the time as people have it."""
    return datetime.now(UTC)


@dataclass(frozen=True)
class LeaseTerms:
    """How long a lease holds.

    :param seconds: after its last renewal; ``[fbca] lease_seconds``.
    :param longest_flight: seconds after which a request that was sent can no more be applied, whether answered or not.
    :param single_writer: that a person vouches for only one run at a time writing to an audience
        (``[fbca] single_writer``), so that the store need not be able to tell.
    :raises OptionsError: where the lease is shorter than two of the longest flights: it could hardly be used.
    """

    seconds: float
    longest_flight: float
    single_writer: bool = False

    def __post_init__(self) -> None:
        if not (math.isfinite(self.seconds) and self.seconds >= 2 * self.longest_flight):
            raise OptionsError(
                f"A lease of {self.seconds:g} s is too short for requests that may be on their way for "
                f"{self.longest_flight:g} s.",
                remedy=(
                    f"Raise [fbca] lease_seconds to at least {2 * self.longest_flight:g}, or lower the timeout of the "
                    "connection."
                ),
            )


class Lease:
    """The right to write to one audience, for as long as the context lasts and renewals get through.

    :param store: the audience's folder.
    :param owner: who takes it, for those who wait: dag, task, run, map index and try.
    :param terms: how long it holds.
    :param pause: waits some seconds between two looks; what it raises ends the wait.
    :param clock: gives seconds, only ever runs forward, and runs on while the machine is suspended.
    :param wall: gives the time that is written down for others; may be wrong by an hour.
    :param key: to a lease that an earlier process has :meth:`kept <keep_for_heir>` for this one.
    """

    def __init__(
        self,
        store: Store,
        owner: Mapping[str, str | int],
        terms: LeaseTerms,
        *,
        pause: Callable[[float], None] = time.sleep,
        clock: Callable[[], float] = boot_clock,
        wall: Callable[[], datetime] = wall_clock,
        key: str | None = None,
    ) -> None:
        self._row = LeaseRow(store)
        self._key = key
        self._owner = dict(owner)
        self._terms = terms
        self._pause = pause
        self._clock = clock
        self._wall = wall
        self._token = secrets.token_hex(8)
        self._number = 0
        self._valid_until = -math.inf
        self._lost_since = ""
        self._abandoned = False
        self._process = os.getpid()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._keep, name="fbca-lease", daemon=True)

    def __enter__(self) -> Self:
        self.take()
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        # A forked child that leaves the context must not end what its parent holds.
        if os.getpid() != self._process:
            return
        self._end_renewing()
        if not self._lost_since and not self._abandoned:
            self.release()

    @property
    def lost(self) -> bool:
        """Whether nothing may be sent or written any more."""
        return bool(self._lost_since) or self._clock() >= self._valid_until - self._terms.longest_flight

    def check(self) -> None:
        """Make sure that a request sent now lands before anybody else may write; asks only our own clock.

        :raises LeaseLostError: where it may not; from then on always.
        """
        if self.lost:
            self._lose("it was not renewed in time")
            raise LeaseLostError(
                f"The lease of {self._row.uri} is lost: {self._lost_since}.",
                remedy="Run the task again: it waits until the audience is free, and the ledger knows what was sent.",
            )

    def abandon(self) -> None:
        """Stop renewing, and let it expire by itself: nobody else starts before."""
        self._abandoned = True
        self._stop.set()

    def keep_for_heir(self, seconds: float) -> str:
        """Let go of it, for nobody but a later process that shall go on: a task that waits without its worker.

        Where that does not come in time, the lease expires like that of a dead holder.

        :param seconds: until the heir is expected; as long as any lease holds comes on top.
        :returns: the key, to give to the heir.
        :raises LeaseLostError: where it is lost already.
        :raises LedgerError: where the store refuses.
        """
        self._end_renewing()
        self.check()
        key = secrets.token_hex(8)
        if not self._advance("kept", seconds=seconds + self._terms.seconds, key=key):
            self.check()
        self._abandoned = True
        return key

    def _end_renewing(self) -> None:
        self._stop.set()
        if self._thread.is_alive():
            self._thread.join()

    def take(self) -> None:
        """Wait until it is ours, however long that takes.

        :raises LedgerError: where the store cannot be used.
        :raises LedgerPlaceError: where it lets two writers create one file.
        """
        if not (self._row.is_known_exclusive or self._terms.single_writer):
            raise self._not_exclusive("is not known to refuse")
        watch = _Watch(self._terms, self._clock, self._wall)
        refusals = 0
        while True:
            seen = self._row.latest()
            # A try of ours that was refused may have landed all the same.
            if not (watch.is_free(seen) or self._may_follow(seen.note)):
                watch.tell(self._row.uri)
                self._pause(min(_LOOK_SECONDS, watch.left))
                continue
            try:
                if self._follow(seen):
                    break
            except LedgerPlaceError as error:
                # Stores also refuse where two writers meet.
                refusals += 1
                if error.permanent or refusals == _REFUSALS:
                    raise
            self._pause(_LOOK_SECONDS)
        log.info("The lease of %s is ours (number %s).", self._row.uri, self._number)

    def renew(self) -> None:
        """Write the next number; finds out here that someone else did.

        :raises LedgerError: where the store refuses; to be tried again.
        """
        began = self._clock()
        if began >= self._valid_until:
            self._lose("it was not renewed in time")
        elif self._advance("held"):
            self._valid_until = began + self._terms.seconds

    def release(self) -> None:
        """Let the next one in. A store that refuses is no reason to fail: the lease expires."""
        try:
            self._advance("released")
        except LedgerError as error:
            log.warning(
                "The lease of %s could not be released, the next run waits up to %.0f s: %s",
                self._row.uri,
                self._terms.seconds,
                error,
            )

    def _keep(self) -> None:
        """Renew it until told to stop; in a thread of its own."""
        wait = self._terms.seconds * _RENEW
        while not self._stop.wait(wait):
            wait = self._terms.seconds * _RENEW
            try:
                self.renew()
            except LedgerError as error:
                log.warning("The lease of %s was not renewed, trying again: %s", self._row.uri, error)
                wait = self._terms.seconds * _RENEW_AGAIN

    def _follow(self, seen: Seen) -> bool:
        """Take it over from what was seen; False where someone else did."""
        began = self._clock()
        if not self._row.append(seen.number + 1, self._note("held")):
            return False
        self._number = seen.number + 1
        self._valid_until = began + self._terms.seconds
        if not self._terms.single_writer:
            self._prove_exclusive()
        if seen.note and not seen.note.is_released and not self._may_follow(seen.note):
            log.warning("The lease of %s had expired; it was held by %s.", self._row.uri, seen.note.describe_owner())
        return True

    def _prove_exclusive(self) -> None:
        if not self._row.refuses_again(self._number, self._note("released")):
            raise self._not_exclusive("does not refuse")

    def _not_exclusive(self, how: str) -> LedgerPlaceError:
        return LedgerPlaceError(
            f"The store of {self._row.uri} {how} to create a file that is there already: two runs could write to one "
            "audience at the same time.",
            remedy=(
                "Keep the ledger on a local disk, S3, Google Cloud Storage or Azure Blob Storage; or set [fbca] "
                "single_writer = True if you make sure yourself that one run at a time writes to an audience."
            ),
        )

    def _may_follow(self, note: LeaseNote | None) -> bool:
        """Whether we wrote a note ourselves, or it was kept for us."""
        return self._wrote(note) or (note is not None and note.is_for(self._key))

    def _wrote(self, note: LeaseNote | None) -> bool:
        return note is not None and note.token == self._token

    def _advance(self, state: State, *, seconds: float | None = None, key: str | None = None) -> bool:
        """Write the number after ours; False where someone else did, and then it is lost."""
        while not self._row.append(self._number + 1, self._note(state, seconds, key)):
            seen = self._row.latest()
            if not self._wrote(seen.note):
                self._lose(f"it was taken over by {seen.note.describe_owner() if seen.note else 'another'}")
                return False
            # A try of ours that was given up has landed after all. When is not known, so it extends nothing.
            self._number = seen.number
        self._number += 1
        return True

    def _lose(self, how: str) -> None:
        if not self._lost_since:
            self._lost_since = how
            log.warning("The lease of %s is lost: %s.", self._row.uri, how)
        self._stop.set()

    def _note(self, state: State, seconds: float | None = None, key: str | None = None) -> LeaseNote:
        return LeaseNote(
            state=state,
            owner=self._owner,
            token=self._token,
            change=secrets.token_hex(8),
            seconds=self._terms.seconds if seconds is None else seconds,
            taken_at=self._wall().isoformat(timespec="microseconds"),
            key=key,
        )


class _Watch:
    """What one who waits has seen of the row so far.

    :param terms: ours, which count where a holder's cannot be read.
    """

    def __init__(self, terms: LeaseTerms, clock: Callable[[], float], wall: Callable[[], datetime]) -> None:
        self._terms = terms
        self._clock = clock
        self._wall = wall
        self._number = -1
        self._since = 0.0
        self._told = -math.inf
        self._note: LeaseNote | None = None
        #: Seconds until it expires, if it is not renewed.
        self.left = 0.0

    def is_free(self, seen: Seen) -> bool:
        """Tell whether the next number may be written after what was just seen."""
        # After the look: by then the number was there, so its holder counts from earlier.
        now = self._clock()
        if seen.number != self._number:
            self._number, self._note, self._since = seen.number, seen.note, now
        if not seen.number:
            return True
        seconds = self._terms.seconds
        if seen.note:
            seconds = seen.note.seconds
            if seen.note.is_released or seen.note.age(self._wall()) > seconds + _SKEW_SECONDS:
                return True
        self.left = self._since + seconds - now
        return self.left <= 0

    def tell(self, uri: str) -> None:
        """Log who holds it, at once and then each minute."""
        now = self._clock()
        if now - self._told < _TELL_SECONDS:
            return
        self._told = now
        owner = self._note.describe_owner() if self._note else "another, whose note cannot be read"
        log.info("Waiting for the lease of %s, held by %s; free in %.0f s if not renewed.", uri, owner, self.left)
