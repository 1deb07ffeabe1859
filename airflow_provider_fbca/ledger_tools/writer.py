"""How the tools become the one writer of an audience (rule L8)."""

from __future__ import annotations

import os
import socket
from contextlib import contextmanager
from typing import TYPE_CHECKING

from airflow_provider_fbca.operators.place import lease_terms

if TYPE_CHECKING:
    from collections.abc import Iterator

    from airflow_provider_fbca.hooks.custom_audience import FacebookCustomAudienceHook
    from airflow_provider_fbca.ledger import AudienceLedger, Lease

#: For a tool that sends nothing: how long a write to the store may be on its way.
_STORE_SECONDS = 10.0


@contextmanager
def sole_writer(
    ledger: AudienceLedger, tool: str, *, hook: FacebookCustomAudienceHook | None = None
) -> Iterator[Lease]:
    """Hold the lease of an audience; waits while a task has it.

    :param ledger: of the audience.
    :param tool: the command's name, for others to see who writes.
    :param hook: of a tool that sends; None for one that only writes to the ledger.
    :raises LeaseLostError: from ``check()`` of the lease, once it is gone.
    """
    terms = lease_terms(hook.longest_flight if hook else _STORE_SECONDS)
    with ledger.lease(owner_of(tool), terms) as lease:
        try:
            yield lease
        except BaseException:
            # Nobody may write before the last request can land no more (rule L9).
            if hook and hook.may_still_land:
                lease.abandon()
            raise


def owner_of(tool: str) -> dict[str, str | int]:
    """Return who writes, as markers and leases name it."""
    return {"tool": f"fbca ledger {tool}", "host": socket.gethostname(), "process": os.getpid()}
