"""All that the sandbox knows: accounts, tokens, audiences, sessions, links, faults and the log of calls."""

from __future__ import annotations

import heapq
from dataclasses import replace
from itertools import count
from random import Random
from typing import TYPE_CHECKING, Any

from airflow_provider_fbca.sandbox import errors
from airflow_provider_fbca.sandbox.audience import Audience
from airflow_provider_fbca.sandbox.faults import Fault, FaultQueue, random_fault
from airflow_provider_fbca.sandbox.identifiers import Aliases
from airflow_provider_fbca.sandbox.membership import Counter, Membership
from airflow_provider_fbca.sandbox.rates import Rates, quota_of
from airflow_provider_fbca.sandbox.request_log import RequestLog

if TYPE_CHECKING:
    from collections.abc import Callable

    from airflow_provider_fbca.sandbox.clock import Clock
    from airflow_provider_fbca.sandbox.oauth import LoginCode
    from airflow_provider_fbca.sandbox.sessions import Session
    from airflow_provider_fbca.sandbox.settings import Settings, Token

_FIRST_AUDIENCE_ID = 120210000000000001
_FIRST_OWN_SESSION_ID = 900000000000000001


class World:
    """The state of one sandbox.

    :param settings: what it starts from, and returns to on :meth:`reset`.
    :param clock: its time.
    """

    def __init__(self, settings: Settings, clock: Clock) -> None:
        self._initial = settings
        self.clock = clock
        self.audiences: dict[str, Audience] = {}
        self._begin()

    def _begin(self) -> None:
        self.settings = self._initial
        self._draw_afresh()
        self.accounts = {account.account_id: account for account in self.settings.accounts}
        self.tokens: dict[str, Token] = dict(self.settings.tokens)
        self.login_codes: dict[str, LoginCode] = {}
        self.sessions: dict[tuple[str, int], Session] = {}
        self.aliases = Aliases()
        self.faults = FaultQueue()
        self.log = RequestLog()
        self.rates = Rates()
        self.answers = count()
        self._later: list[tuple[float, int, Callable[[], object]]] = []
        self._later_numbers = count()
        self._audience_ids = count(_FIRST_AUDIENCE_ID)
        self._session_ids = count(_FIRST_OWN_SESSION_ID)

    def reset(self) -> None:
        """Forget everything but the settings that the sandbox was started with; the clock stays."""
        for audience in self.audiences.values():
            audience.close()
        self.audiences.clear()
        self._begin()

    def change(self, **switches: Any) -> None:
        """Change settings from now on.

        :param switches: names and new values of :class:`Settings`.
        :raises ValueError: for values that make no sense.
        """
        self.settings = replace(self.settings, **switches)
        if "fault_seed" in switches:
            self._draw_afresh()

    def _draw_afresh(self) -> None:
        """Begin the random series again; one each, so that latency does not change who is struck."""
        self._fault_chance = Random(self.settings.fault_seed)
        self._latency_chance = Random(self.settings.fault_seed)

    def next_fault(self, operation: str, method: str, path: str) -> Fault | None:
        """Return the fault that strikes a call: the queue's, else what chance has for it."""
        return self.faults.take(operation, method, path) or random_fault(self.settings, self._fault_chance)

    def next_latency(self) -> float:
        """Return the real seconds that the next call takes on its way."""
        return self.settings.latency_seconds + self._latency_chance.uniform(*self.settings.latency_range)

    def tick(self) -> float:
        """Let everything happen that is due and return the present instant."""
        now = self.clock.now()
        while self._later and self._later[0][0] <= now:
            due, _, action = heapq.heappop(self._later)
            self._tick_audiences(due)
            with self.clock.at(due):
                action()
        self._tick_audiences(now)
        return now

    def do_later(self, due: float, action: Callable[[], object]) -> None:
        """Do something when the clock gets there.

        :param due: when.
        :param action: what.
        """
        heapq.heappush(self._later, (due, next(self._later_numbers), action))

    def _tick_audiences(self, now: float) -> None:
        for audience in list(self.audiences.values()):
            audience.tick(now)
            if audience.delete_at is not None and audience.delete_at <= now:
                self.delete_audience(audience)

    def new_members(self) -> Membership | Counter:
        """Return an empty store of members, or a mere counter in count-only mode."""
        return Counter() if self.settings.count_only else Membership(self.settings.spool_dir)

    def new_audience(self, account_id: str, details: dict[str, Any]) -> Audience:
        """Create an audience.

        :param account_id: its owner.
        :param details: the fields that clients set.
        """
        now = self.clock.now()
        audience = Audience(
            audience_id=str(next(self._audience_ids)),
            account_id=account_id,
            details=details,
            members=self.new_members(),
            created_at=now,
            updated_at=now,
            unknown_calls=self.settings.unknown_calls_after_create,
        )
        self.audiences[audience.audience_id] = audience
        return audience

    def delete_audience(self, audience: Audience) -> None:
        """Delete an audience with all it holds."""
        del self.audiences[audience.audience_id]
        audience.close()

    def own_session_id(self) -> int:
        """Return an id for a session that the client did not name."""
        return next(self._session_ids)

    def link(self, identifiers: list[int]) -> None:
        """Make identifiers one person's, for all audiences, now and later.

        :param identifiers: numbers of the identifiers.
        """
        first, *others = identifiers
        for other in others:
            kept, dropped = self.aliases.link(first, other)
            if kept == dropped:
                continue
            for audience in self.audiences.values():
                audience.members.link(kept, dropped)
                if audience.replace:
                    audience.replace.members.link(kept, dropped)

    def account_of(self, kind: str, node: str) -> str | None:
        """Return the ad account that a call is about, None for one that is about none that exists.

        :param kind: of node, as in a :class:`~airflow_provider_fbca.sandbox.graph.Call`.
        :param node: its id.
        """
        if kind == "audience" and node in self.audiences:
            return self.audiences[node].account_id
        return node if kind == "account" and node in self.accounts else None

    def calls_quota(self, account_id: str) -> int:
        """Return how many calls an ad account may take in a window."""
        return quota_of(self.settings, sum(one.account_id == account_id for one in self.audiences.values()))

    def terms_accepted(self, account_id: str) -> bool:
        """Say whether the Custom Audience terms are accepted for an ad account."""
        return self.settings.tos_accepted and self.accounts[account_id].tos_accepted

    def require_terms(self, account_id: str) -> None:
        """Check that the terms are accepted.

        :raises GraphError: 200/1870090 if not.
        """
        if not self.terms_accepted(account_id):
            raise errors.terms_not_accepted(account_id)
