"""The trigger that waits until an audience is ready."""

from __future__ import annotations

import time
from asyncio import sleep
from contextlib import closing
from functools import cached_property
from typing import TYPE_CHECKING, Any

from airflow.triggers.base import BaseTrigger, TriggerEvent
from asgiref.sync import sync_to_async

from airflow_provider_fbca.exceptions import ConnectionFieldsError, FbcaError
from airflow_provider_fbca.graph.readiness import Wanted
from airflow_provider_fbca.hooks.custom_audience import FacebookCustomAudienceHook
from airflow_provider_fbca.operators.rim import without_values
from airflow_provider_fbca.operators.waiting import Waiting

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping

_FAILED = "failed"


class CustomAudienceTrigger(BaseTrigger):
    """Reads an audience now and then until it is ready, or will not become so.

    Each look is one small request, made in a thread and on a connection that is closed after it: it holds up neither
    the triggerer's event loop nor its file handles. Rate limits and passing faults are waited out. Only ids and numbers
    are kept in Airflow's database; whichever triggerer takes over goes on with the next look.

    :param audience_id: digits.
    :param fbca_conn_id: the Airflow connection to Meta.
    :param ad_account_id: the ad account, with or without ``act_``; None for the connection's.
    :param require_delivery: whether ads must be able to reach the audience.
    :param updated_after: that its people must have changed since, in seconds since 1970; None for any time.
    :param stale_until: until when a failed replace that is read may be one of before, in seconds since 1970.
    :param poll_seconds: between two looks, unless Meta asks for more.
    :param next_look_at: when the first look is due, in seconds since 1970.
    :param give_up_at: until when to wait, in seconds since 1970; None to leave that to the task's own timeout.
    """

    def __init__(
        self,
        *,
        audience_id: str,
        fbca_conn_id: str,
        ad_account_id: str | None = None,
        require_delivery: bool = True,
        updated_after: float | None = None,
        stale_until: float = 0.0,
        poll_seconds: float = 60.0,
        next_look_at: float = 0.0,
        give_up_at: float | None = None,
    ) -> None:
        super().__init__()  # type: ignore[no-untyped-call]  # Airflow's
        self.audience_id = audience_id
        self.fbca_conn_id = fbca_conn_id
        self.ad_account_id = ad_account_id
        self.require_delivery = require_delivery
        self.updated_after = updated_after
        self.stale_until = stale_until
        self.poll_seconds = poll_seconds
        self.next_look_at = next_look_at
        self.give_up_at = give_up_at

    @classmethod
    def going_on(cls, waiting: Waiting, *, ad_account_id: str | None, pause: float) -> CustomAudienceTrigger:
        """Return the trigger that goes on with a wait that a task began.

        :param waiting: of the task.
        :param ad_account_id: of the task.
        :param pause: seconds until the next look.
        """
        return cls(
            audience_id=waiting.audience_id,
            fbca_conn_id=waiting.hook.fbca_conn_id,
            ad_account_id=ad_account_id,
            require_delivery=waiting.wanted.delivery,
            updated_after=waiting.wanted.updated_after,
            stale_until=waiting.wanted.stale_until,
            poll_seconds=waiting.poll_seconds,
            next_look_at=time.time() + pause,
            give_up_at=waiting.give_up_at,
        )

    def serialize(self) -> tuple[str, dict[str, Any]]:
        """Return the class path, and the arguments that make the same trigger."""
        return (
            f"{type(self).__module__}.{type(self).__qualname__}",
            {
                "audience_id": self.audience_id,
                "fbca_conn_id": self.fbca_conn_id,
                "ad_account_id": self.ad_account_id,
                "require_delivery": self.require_delivery,
                "updated_after": self.updated_after,
                "stale_until": self.stale_until,
                "poll_seconds": self.poll_seconds,
                "next_look_at": self.next_look_at,
                "give_up_at": self.give_up_at,
            },
        )

    async def run(self) -> AsyncIterator[TriggerEvent]:
        """Wait; the one event tells ``status`` ``ready`` or ``failed``, the latter with a ``message``.

        :raises ConnectionFieldsError: the connection cannot be read, which the task's retries are for.
        """
        # A look asks the triggerer for the connection and tells it the secrets to mask. Both have to get back from the
        # thread to the event loop, which on Airflow 3.1 they do from such a thread only.
        look = sync_to_async(self._look, thread_sensitive=False)
        pause: float | None = self.next_look_at - time.time()
        failure = None
        with without_values("The trigger"):
            while pause is not None and failure is None:
                await sleep(max(0.0, pause))
                try:
                    pause = await look()
                except ConnectionFieldsError:
                    # The task could read it. Airflow also says that there is none where it cannot look it up just now.
                    raise
                except FbcaError as error:
                    failure = str(error)
            event = {"status": "ready"} if failure is None else {"status": _FAILED, "message": failure}
            yield TriggerEvent(event)  # type: ignore[no-untyped-call]  # Airflow's

    def _look(self) -> float | None:
        """Look once, in a thread."""
        with closing(self._waiting.hook.get_conn()):
            return self._waiting.look()

    @cached_property
    def _waiting(self) -> Waiting:
        return Waiting(
            FacebookCustomAudienceHook(self.fbca_conn_id, ad_account_id=self.ad_account_id),
            self.audience_id,
            Wanted(self.require_delivery, self.updated_after, self.stale_until),
            self.poll_seconds,
            self.log,
            self.give_up_at,
        )


def refuse_failure(event: Mapping[str, Any]) -> None:
    """Fail where the trigger has found that the audience will not become ready.

    :param event: of the trigger.
    :raises FbcaError: a permanent one, with what the trigger was told.
    """
    if event["status"] == _FAILED:
        raise FbcaError(str(event["message"]))
