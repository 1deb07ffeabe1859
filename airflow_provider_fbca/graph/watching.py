"""Telling when Meta is done with a replace (rule S6).

Meta works on a replace after its last batch, and says nothing when it is done: its audience has to be read until it
tells. A single reading proves nothing, since the status may be from before the replace began to show.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass, field
from enum import Enum
from typing import TYPE_CHECKING, Any, Final

from airflow_provider_fbca.exceptions import GraphFlaggedError, GraphRetryableError
from airflow_provider_fbca.graph.audiences import Audiences, operation_code
from airflow_provider_fbca.graph.readiness import LONGEST_STALE_FAILURE, Standing, content_changed_at, standing_of
from airflow_provider_fbca.graph.sessions import SESSION_SECONDS

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

    from airflow_provider_fbca.graph.options import Options

log = logging.getLogger(__name__)

#: Seconds that Meta may work on a replace once its session has ended, and that clocks may differ.
REPLACE_MARGIN_SECONDS: Final = 30 * 60.0
#: Seconds after the beginning of a session by which Meta has closed and applied it, whatever was sent or lost.
REPLACE_SECONDS: Final = SESSION_SECONDS + REPLACE_MARGIN_SECONDS

_FIRST_PAUSE = 2.0
_LONGEST_PAUSE = 60.0
_MINUTE = 60.0
_FIELDS = ("operation_status", "time_content_updated")


class ReplaceEnd(Enum):
    """How a wait for replaces has ended."""

    DONE = "done"
    #: Meta gave up the replace; the audience may be as it was before, or hold a part.
    FAILED = "failed"
    #: Time ran out, and the audience reads as being replaced, or cannot be read.
    WORKING = "working"
    #: Time ran out, and nothing tells whether it was done before, or has not begun to show.
    UNKNOWN = "unknown"


@dataclass(slots=True)
class _Signs:
    """What the readings of an audience have told so far.

    :param seen_working: whether one showed a replace at work.
    :param failed_since: seconds after the beginning from which on they showed a failed replace; None where the last did
        not.
    :param baseline: ``time_content_updated`` of the first reading, 0 where it gave none; None before it.
    """

    seen_working: bool = False
    failed_since: float | None = None
    baseline: int | None = None

    def take(self, standing: Standing, content: int, passed: float) -> bool:
        """Take in a reading.

        :param standing: of the audience, by its status.
        :param content: when its people changed last, 0 where that is not known.
        :param passed: seconds since the beginning.
        :returns: whether the status is surely about what has come of the replace, and not from before it.
        """
        if self.baseline is None:
            self.baseline = content
        self.seen_working = self.seen_working or standing is Standing.REPLACING
        if standing is not Standing.REPLACE_FAILED:
            self.failed_since = None
        elif self.failed_since is None:
            self.failed_since = passed
        failed_for = 0.0 if self.failed_since is None else passed - self.failed_since
        return self.seen_working or content > self.baseline or failed_for >= LONGEST_STALE_FAILURE


@dataclass(slots=True)
class ReplaceWatch:
    """Reads an audience until its replaces are done.

    :param options: of the uploader.
    :param session_ids: the sessions of the replaces. Meta works on one at a time, so that the audience's status speaks
        for all of them; each has got its last batch already, or was ended by Meta.
    """

    options: Options
    session_ids: Collection[int]
    _signs: _Signs = field(default_factory=_Signs)

    def wait(self, seconds: float) -> ReplaceEnd:
        """Read now and then until the replaces are done or the time is over; the audience is read once at least.

        :param seconds: the longest time to wait.
        """
        options = self.options
        began, slept, told, pause = options.clock(), 0.0, 0.0, _FIRST_PAUSE
        while True:
            # A pause lasts as long as was asked for, or longer: whichever is more has passed.
            passed = max(slept, options.clock() - began)
            end = self._look(passed)
            if end in {ReplaceEnd.DONE, ReplaceEnd.FAILED} or passed >= seconds:
                return end
            if passed >= told + _MINUTE:
                log.info("Meta is at work on the replace; waiting for it since %.0f minutes.", passed / _MINUTE)
                told = passed
            this_pause = min(pause, seconds - passed)
            options.sleep(this_pause)
            slept += this_pause
            pause = min(2 * pause, _LONGEST_PAUSE)

    def _look(self, passed: float) -> ReplaceEnd:
        audiences = Audiences(self.options.api, before_try=self.options.ask_before_request, sleep=self.options.sleep)
        try:
            audience = audiences.get(self.options.audience_id, fields=_FIELDS)
        except GraphRetryableError as error:
            # A replace is too long a work to be begun anew for a reading that failed.
            log.warning("The audience could not be read: %s", error)
            return ReplaceEnd.WORKING
        code = operation_code(audience)
        standing = standing_of(code)
        if standing is Standing.BLOCKED:
            raise GraphFlaggedError(
                f"The audience cannot be replaced: its operation_status is {code}.",
                remedy="Look at the audience and at its ad account in Ads Manager.",
            )
        is_sure = self._signs.take(standing, content_changed_at(audience), passed)
        if standing not in {Standing.REPLACE_FAILED, Standing.AT_REST}:
            return ReplaceEnd.WORKING
        if not (is_sure or self._are_finished(audiences)):
            return ReplaceEnd.UNKNOWN
        return ReplaceEnd.FAILED if standing is Standing.REPLACE_FAILED else ReplaceEnd.DONE

    def _are_finished(self, audiences: Audiences) -> bool:
        try:
            return all(self._is_finished(audiences, session_id) for session_id in self.session_ids)
        except GraphRetryableError as error:
            log.warning("The audience's sessions could not be read: %s", error)
            return False

    def _is_finished(self, audiences: Audiences, session_id: int) -> bool:
        found = audiences.sessions(self.options.audience_id, session_id=session_id)
        return any(_is_finished(each) for each in found if str(each.get("session_id")) == str(session_id))


def _is_finished(session: Mapping[str, Any]) -> bool:
    """Tell whether a session reads as finished. Meta documents that both are text, but not what they say."""
    return str(session.get("progress")) == "100" and str(session.get("stage")).lower() == "finished"
