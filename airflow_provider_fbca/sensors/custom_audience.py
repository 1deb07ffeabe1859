"""The sensor that waits until Meta shows an audience as ready."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from functools import cached_property
from typing import TYPE_CHECKING, Any

from airflow.sdk import BaseSensorOperator

from airflow_provider_fbca.compat import conf
from airflow_provider_fbca.exceptions import OptionsError
from airflow_provider_fbca.operators.base import AudienceOperator
from airflow_provider_fbca.operators.rim import fails_fast

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from airflow.sdk import Context

    from airflow_provider_fbca.operators.waiting import Waiting


class FacebookCustomAudienceSensor(AudienceOperator, BaseSensorOperator):
    """Waits until a custom audience can be used: Meta is at rest with it, and ads can be delivered to it.

    Meta takes up to a day to show what was sent to it. Each look is one small request. What only a person can clear (a
    flagged audience, an inactive ad account, a failed replace) fails the task without a retry; rate limits and passing
    faults are waited out. ``docs/sensor.md`` tells what becomes of each code.

    :param audience_id: id of the audience.
    :param updated_after: that its people must have changed since, by Meta's ``time_content_updated``: an ISO 8601 text
        or a ``datetime`` (UTC unless it says otherwise), usually ``uploaded_at`` of the manifest of a task before. By
        default, and where a manifest has none since nothing was sent, any time will do.
    :param require_delivery: wait until ``delivery_status`` is 200 too, which takes people enough for ads; on by
        default. Turn it off for an audience that is small, or is there to exclude people.
    :param deferrable: wait in the triggerer and not in a worker; by default ``[operators] default_deferrable``. It then
        looks every ``poke_interval`` and ends after ``timeout``, as in the other modes.

    .. seealso:: https://developers.facebook.com/documentation/ads-commerce/marketing-api/reference/custom-audience
    """

    template_fields: Sequence[str] = (*AudienceOperator.template_fields, "audience_id", "updated_after")
    operator_extra_links = ()

    def __init__(
        self,
        *,
        audience_id: str,
        updated_after: str | datetime | None = None,
        require_delivery: bool = True,
        deferrable: bool = conf.getboolean("operators", "default_deferrable", fallback=False),
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.audience_id = audience_id
        self.updated_after = updated_after
        self.require_delivery = require_delivery
        self.deferrable = deferrable
        self._pause = 0.0

    @fails_fast
    def poke(self, context: Context) -> bool:  # noqa: ARG002 - Airflow's signature
        """Look once. A deferrable sensor then leaves the waiting to the triggerer."""
        pause = self._waiting.look()
        if pause is None:
            return True
        if self.deferrable:
            from airflow_provider_fbca.triggers.custom_audience import CustomAudienceTrigger  # noqa: PLC0415 - heavy

            # From here, soft_fail and the like are cared for by Airflow just as in the other modes.
            self.defer(
                trigger=CustomAudienceTrigger.going_on(self._waiting, ad_account_id=self.ad_account_id, pause=pause),
                method_name="finish",
                timeout=timedelta(seconds=self.timeout),
            )
        self._pause = pause
        return False

    @fails_fast
    def finish(self, context: Context, event: Mapping[str, Any]) -> None:  # noqa: ARG002 - Airflow's signature
        """Take in what the trigger has found.

        :param context: of the task.
        :param event: of the trigger.
        """
        from airflow_provider_fbca.triggers.custom_audience import refuse_failure  # noqa: PLC0415 - heavy

        refuse_failure(event)
        self.log.info("Audience %s is ready.", self.audience_id)

    @cached_property
    def _waiting(self) -> Waiting:
        from airflow_provider_fbca.graph.readiness import Wanted  # noqa: PLC0415 - heavy
        from airflow_provider_fbca.operators.waiting import Waiting  # noqa: PLC0415 - heavy

        wanted = Wanted(self.require_delivery, _instant(self.updated_after))
        return Waiting(self.hook, str(self.audience_id), wanted, self.poke_interval, self.log)

    def _get_next_poke_interval(
        self, started_at: datetime | float, run_duration: Callable[[], float], poke_count: int
    ) -> float:
        """Return Airflow's pause, or what Meta asks for if that is longer, though not beyond the timeout."""
        left = max(0.0, self.timeout - run_duration())
        usual: float = super()._get_next_poke_interval(started_at, run_duration, poke_count)
        return max(usual, min(self._pause, left))


def _instant(given: object) -> float | None:
    """Seconds since 1970; None for nothing, which templates render as text."""
    if given is None or given in {"", "None"}:
        return None
    try:
        moment = given if isinstance(given, datetime) else datetime.fromisoformat(str(given))
    except ValueError:
        raise OptionsError(
            f"updated_after is {given!r}, which is no instant.",
            remedy="Give an ISO 8601 text, such as uploaded_at of a manifest, or a datetime.",
        ) from None
    return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()
