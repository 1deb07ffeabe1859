"""Waits for Meta's rate limits that are too long to hold a worker: the task is put off, and another process goes on."""

from __future__ import annotations

import random
import secrets
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Final

from airflow_provider_fbca.compat import conf
from airflow_provider_fbca.exceptions import GraphThrottledError
from airflow_provider_fbca.graph.throttle import in_words

if TYPE_CHECKING:
    from collections.abc import Iterator

    from airflow_provider_fbca.operators.base import UsersOperator
    from airflow_provider_fbca.operators.run import AudienceRun

#: Seconds that a task which is not put off waits in its worker: longer than any block that Meta documents.
LONGEST_WAIT: Final = 2 * 3600.0
_PUT_OFF_AFTER = 300.0
#: How far the clocks of two machines may be apart.
SKEW_SECONDS: Final = 300.0
#: Most seconds by which a task wakes later than it may, which the lease that is kept for it outlasts.
_MOST_SPREAD = 30.0
_KEY_BYTES = 16


@dataclass(frozen=True)
class Handover:
    """What a task that is put off leaves to the process that goes on with it.

    :param lease: the key to the audience's lease, which is kept for it; None where it had not been taken yet.
    :param audience_id: whose lease it is.
    :param entry: by which a ledger entry of users from a function is known to be of this very try.
    """

    lease: str | None = None
    audience_id: str | None = None
    entry: str = field(default_factory=lambda: secrets.token_hex(_KEY_BYTES))


def longest_wait(operator: UsersOperator) -> float:
    """Return the seconds that a task waits for a rate limit before it is put off, or fails.

    :param operator: rendered.
    """
    if not operator.may_be_put_off:
        return LONGEST_WAIT
    return conf.getfloat("fbca", "defer_after_seconds", fallback=_PUT_OFF_AFTER)


def wait_of(error: BaseException | None, operator: UsersOperator) -> float | None:
    """Return for how many seconds a task is put off after an error; None where it is not.

    :param error: that ended the task's work for now.
    """
    if not isinstance(error, GraphThrottledError) or not operator.may_be_put_off:
        return None
    if not operator.hook.may_still_land:
        return error.wait_seconds
    # The next process knows nothing of requests that may still land (rule L9), and is woken by another machine's clock.
    return max(error.wait_seconds, operator.hook.longest_flight + SKEW_SECONDS)


@contextmanager
def putting_off(operator: UsersOperator, run: AudienceRun) -> Iterator[None]:
    """Give the worker back where Meta asks for a long wait, and let the task go on after it.

    :param run: which has kept its lease, where it had one.
    :raises TaskDeferred: the task is put off; ``operator.resume`` goes on.
    """
    try:
        yield
    except GraphThrottledError as error:
        wait, told = wait_of(error, operator), str(error)
        if wait is None:
            raise
    else:
        return
    from airflow.providers.standard.triggers.temporal import DateTimeTrigger  # noqa: PLC0415 - heavy

    # Tasks that one limit has put off shall not all come back in the same second.
    wait += random.uniform(0, min(wait / 10, _MOST_SPREAD))
    operator.log.warning("%s The task goes on in %s, and holds no worker until then.", told, in_words(wait))
    operator.defer(
        trigger=DateTimeTrigger(moment=datetime.now(UTC) + timedelta(seconds=wait)),
        method_name="resume",
        kwargs={"handover": asdict(run.handover)},
    )
