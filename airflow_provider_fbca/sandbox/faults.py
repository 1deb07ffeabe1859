"""Faults: a queue of what shall go wrong on demand, and a share of calls that fail at random."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

from airflow_provider_fbca.sandbox.kinds import BAD_HEADERS, HARMLESS, KINDS, check_kinds

if TYPE_CHECKING:
    from random import Random

    from starlette.responses import Response

    from airflow_provider_fbca.sandbox.settings import Settings

When = Literal["before", "after", "late"]

_MIB = 2**20


@dataclass
class Fault:
    """One thing that shall go wrong.

    :param kind: one of :data:`KINDS`.
    :param when: ``before``: the call is never carried out; ``after``: it is, and only its answer is lost; ``late``: it
        is carried out when the caller has long given up. The harmless kinds let every call be carried out; ``slow``
        waits before it or after it.
    :param lands_after: clock time after which a late call is carried out.
    :param operation: strike calls for this only (``add_users``, ``remove_users``, ``replace_users``, ...).
    :param method: strike calls by this HTTP method only.
    :param path: strike calls whose path holds a match of this regular expression only.
    :param nth: strike the nth matching call first.
    :param count: how many matching calls to strike, one after the other.
    :param status: HTTP status, for the kinds that answer with one.
    :param seconds: real time that ``timeout`` holds the connection (600 by default), and that ``slow`` the call and
        ``trickle`` the answer takes (1).
    :param size: decoded bytes of the answer, for ``huge`` and ``gzip_bomb``.
    :param code: Graph's code, for ``graph`` and ``error_in_200``.
    :param subcode: Graph's subcode, for these.
    :param is_transient: of the error, for these.
    :param wait_minutes: what the usage header of a Graph error asks to wait; calls before that are logged as too early.
    :param retry_after: the same by ``Retry-After``, in seconds.
    :param headers: put on the answer, whatever the kind; they go before the sandbox's own.
    """

    kind: str
    when: When = "before"
    operation: str | None = None
    method: str | None = None
    path: str | None = None
    nth: int = 1
    count: int = 1
    status: int | None = None
    seconds: float | None = None
    lands_after: float = 0.0
    size: int = 48 * _MIB
    code: int = 2
    subcode: int | None = None
    is_transient: bool = True
    headers: dict[str, str] = field(default_factory=dict)
    wait_minutes: int | None = None
    retry_after: int | None = None

    def __post_init__(self) -> None:
        """Refuse what could never strike."""
        check_kinds([self.kind])
        if self.nth < 1 or self.count < 1:
            raise ValueError("nth and count start at 1.")
        if self.when == "late" and self.kind in HARMLESS:
            raise ValueError(f"A call that {self.kind} strikes is answered, so it cannot be late.")
        if self.kind == "bad_headers":
            self.headers = BAD_HEADERS | self.headers

    def concerns(self, operation: str, method: str, path: str) -> bool:
        """Say whether a call is one of those to strike."""
        return (
            self.operation in (None, operation)
            and self.method in (None, method)
            and (self.path is None or re.search(self.path, path) is not None)
        )

    async def strike(self, answer: Response | None) -> Response | None:
        """Answer a call that this fault spoils.

        :param answer: what the call would have been answered; None where it was not carried out.
        :returns: what goes out; None if the call shall go on to be carried out.
        """
        return await KINDS[self.kind](self, answer)


class FaultQueue:
    """Faults still to come; each call takes the first that is due for it."""

    def __init__(self) -> None:
        self._faults: list[Fault] = []

    def add(self, fault: Fault) -> None:
        """Queue a fault behind the others."""
        self._faults.append(fault)

    def take(self, operation: str, method: str, path: str) -> Fault | None:
        """Return the fault that strikes this call, if any; every waiting fault counts the call."""
        struck = None
        for fault in [fault for fault in self._faults if fault.concerns(operation, method, path)]:
            if fault.nth > 1:
                fault.nth -= 1
            elif struck is None:
                struck = fault
                fault.count -= 1
        if struck is not None and not struck.count:
            self._faults.remove(struck)
        return struck

    def clear(self) -> None:
        """Forget all faults."""
        self._faults.clear()

    def __len__(self) -> int:
        return len(self._faults)


def random_fault(settings: Settings, chance: Random) -> Fault | None:
    """Return the fault that chance has for a call, if any.

    :param settings: tells how many calls to strike, and with what.
    :param chance: draws the same for the same seed and order of calls.
    """
    if not settings.fault_ratio or chance.random() >= settings.fault_ratio:
        return None
    return Fault(chance.choice(settings.fault_kinds), when=chance.choice(("before", "after")))
