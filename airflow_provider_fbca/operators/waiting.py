"""Waiting until Meta shows an audience as ready: one look after another, in a worker or in the triggerer."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final

from airflow_provider_fbca.exceptions import FbcaError
from airflow_provider_fbca.graph.readiness import LONGEST_STALE_FAILURE, Wanted

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from airflow_provider_fbca.graph.readiness import Finding
    from airflow_provider_fbca.hooks.custom_audience import FacebookCustomAudienceHook
    from airflow_provider_fbca.operators.base import UsersOperator
    from airflow_provider_fbca.operators.progress import Log

#: Seconds between two looks.
POLL_SECONDS: Final = 60.0
#: Seconds to wait at most. Meta takes up to 24 hours to show a change
#: (https://developers.facebook.com/documentation/ads-commerce/marketing-api/audiences/guides/custom-audiences).
LONGEST_WAIT: Final = 25 * 3600.0
_LOOK_SECONDS = 0.5


@dataclass
class Waiting:
    """Looks at an audience, tells in the log what it waits for whenever that changes, and when to look again.

    :param hook: to Meta.
    :param audience_id: digits.
    :param wanted: what must be so.
    :param poll_seconds: between two looks, unless Meta asks for more.
    :param log: of the task or trigger.
    :param give_up_at: until when to wait, in seconds since 1970; None for as long as the caller will.
    """

    hook: FacebookCustomAudienceHook
    audience_id: str
    wanted: Wanted
    poll_seconds: float
    log: Log
    give_up_at: float | None = None
    _told: str = field(default="", init=False)

    def look(self) -> float | None:
        """Look once.

        :returns: seconds until the next look; None once the audience is ready.
        :raises FbcaError: a permanent one, where waiting does not help, or for longer than was allowed.
        """
        finding = self.hook.look_at(self.audience_id, self.wanted)
        if finding.is_ready:
            if finding.remark:
                self.log.warning("Audience %s: %s", self.audience_id, finding.remark)
            self.log.info("Audience %s is ready.", self.audience_id)
            return None
        return self._seconds_until_next(finding)

    def _seconds_until_next(self, finding: Finding) -> float:
        now = time.time()
        pause = max(self.poll_seconds, finding.pause)
        if self.give_up_at is not None:
            if now >= self.give_up_at:
                raise FbcaError(
                    f"Audience {self.audience_id} did not become ready in time: {finding.waits_for.rstrip('.')}.",
                    remedy="Look at it in Ads Manager, Audiences.",
                )
            pause = min(pause, self.give_up_at - now)
        if finding.waits_for != self._told:
            self.log.info(
                "Audience %s is not ready: %s. The next look is at %s UTC.",
                self.audience_id,
                finding.waits_for.rstrip("."),
                f"{datetime.fromtimestamp(now + pause, UTC):%Y-%m-%d %H:%M:%S}",
            )
            self._told = finding.waits_for
        return pause


def wait_for_meta(operator: UsersOperator, manifest: Mapping[str, Any], *, check_stop: Callable[[], None]) -> None:
    """Wait in the worker, or where the task is deferrable in the triggerer, until the audience is ready.

    :param operator: whose ``finish`` takes in what the trigger has found.
    :param manifest: of what was sent.
    :param check_stop: raises once the task was told to stop.
    :raises TaskDeferred: the triggerer waits from here on.
    :raises FbcaError: a permanent one, where waiting does not help.
    """
    if manifest.get("plan_only"):
        return
    if not manifest["rows"]:
        operator.log.info("Nobody is meant to be in the audience: there is nothing to wait for.")
        return
    now = time.time()
    # Meta shows what it does with a delay: a failed replace that is read now is one of before.
    wanted = Wanted(stale_until=now + LONGEST_STALE_FAILURE)
    waiting = Waiting(
        operator.hook, str(manifest["audience_id"]), wanted, POLL_SECONDS, operator.log, now + LONGEST_WAIT
    )
    while (pause := waiting.look()) is not None:
        if operator.deferrable:
            from airflow_provider_fbca.triggers.custom_audience import CustomAudienceTrigger  # noqa: PLC0415 - heavy

            operator.defer(
                trigger=CustomAudienceTrigger.going_on(waiting, ad_account_id=operator.ad_account_id, pause=pause),
                method_name="finish",
                kwargs={"manifest": dict(manifest)},
            )
        _pause(pause, check_stop)


def _pause(seconds: float, check_stop: Callable[[], None]) -> None:
    """Wait, but no longer once the task was told to stop."""
    end = time.monotonic() + seconds
    while (left := end - time.monotonic()) > 0:
        check_stop()
        time.sleep(min(left, _LOOK_SECONDS))
    check_stop()
