"""The errors of this package: each says what happened and what to do next.

They are plain Python and know no Airflow. ``permanent`` tells the rim whether a retry could help: operators turn a
permanent error into ``AirflowFailException`` and let any other reach Airflow's retries. No message ever holds a
person's value, a hash, a token or a secret, and none quotes the text of a database, Arrow or HTTP exception, which may.
"""

from __future__ import annotations


class FbcaError(Exception):
    """Root of all errors of this package.

    :param message: what happened, with names and counts only.
    :param remedy: what the reader should do next; appended to the message.
    """

    #: Whether trying again without a change by a person is useless.
    permanent: bool = True

    def __init__(self, message: str, *, remedy: str = "") -> None:
        self.message = message
        self.remedy = remedy
        super().__init__(f"{message} {remedy}".rstrip())


class ConnectionFieldsError(FbcaError, ValueError):
    """The connection lacks fields, or fields have a form that Meta would refuse.

    :param message: names the connection and every field at fault at once.
    :param fields: the names of those fields.
    """

    def __init__(self, message: str, *, fields: tuple[str, ...] = (), remedy: str = "") -> None:
        self.fields = fields
        super().__init__(message, remedy=remedy)


class OptionsError(FbcaError, ValueError):
    """An operator's options contradict each other or have an impossible value."""


class MappingError(FbcaError, ValueError):
    """The columns of the users cannot be mapped to identifier keys."""


class UsersError(FbcaError, ValueError):
    """The users' rows have a type or a value that stops the upload (too many invalid ones, say)."""


class SourceError(FbcaError):
    """The source of the users could not be opened or read to its end.

    :param permanent: False where another try may work (a lost connection), True for a malformed query.
    """

    def __init__(self, message: str, *, remedy: str = "", permanent: bool = False) -> None:
        self.permanent = permanent
        super().__init__(message, remedy=remedy)


class ReportError(FbcaError):
    """The report of rejects could not be written."""

    permanent = False


class StoppedError(FbcaError):
    """The task was told to stop, and did."""

    permanent = False


class GuardError(FbcaError):
    """A guard refused the plan before anything was sent."""


class LedgerError(FbcaError):
    """The ledger cannot be used as it is."""


class LedgerPlaceError(LedgerError):
    """No place for the ledger is set, or the place cannot keep its promises."""


class LedgerTakenError(LedgerError):
    """A file that only one writer can create was created by another."""

    permanent = False


class LeaseLostError(LedgerError):
    """Another run may write to the audience by now, so that this one must not (rule L8)."""

    permanent = False


class StrangersError(LedgerError):
    """The audience may hold people whom this ledger never sent (rule L11)."""


class GraphError(FbcaError):
    """Meta refused a call, or did not answer it as the API does.

    :param message: what was being done and Meta's own short reason.
    :param code: Meta's error code, None where there was no Graph error object.
    :param subcode: Meta's ``error_subcode``.
    :param fbtrace_id: what Meta's support asks for.
    :param http_status: status of the answer, None where there was no answer.
    :param remedy: what to do next.
    :param outcome_unknown: True where the request may have been applied all the same (no answer, or an answer
        that is not Graph's), so that it counts as possibly sent.
    """

    def __init__(
        self,
        message: str,
        *,
        code: int | None = None,
        subcode: int | None = None,
        fbtrace_id: str | None = None,
        http_status: int | None = None,
        remedy: str = "",
        outcome_unknown: bool = False,
    ) -> None:
        self.code = code
        self.subcode = subcode
        self.fbtrace_id = fbtrace_id
        self.http_status = http_status
        self.outcome_unknown = outcome_unknown
        #: Rows of the same sending that Meta had acknowledged before.
        self.acknowledged = 0
        known = {"code": code, "subcode": subcode, "fbtrace_id": fbtrace_id, "HTTP status": http_status}
        facts = ", ".join(f"{name} {value}" for name, value in known.items() if value is not None)
        super().__init__(f"{message} ({facts})." if facts else message, remedy=remedy)


class GraphAuthError(GraphError):
    """The access token is not valid any more, or never was."""


class GraphPermissionError(GraphError):
    """The token is valid but may not do this: a permission, a role or the app's access level is missing."""


class GraphTermsError(GraphPermissionError):
    """The Custom Audience terms of service are not accepted for the ad account."""


class GraphNotFoundError(GraphError):
    """The object does not exist, or the token may not see it; Meta does not tell which."""


class GraphRequestError(GraphError, ValueError):
    """Meta refused the request itself: a parameter, the schema, the data, the state of the audience."""


class GraphRemovalRefusedError(GraphRequestError):
    """Meta refused a removal since too few people would remain in the audience."""


class GraphRowsRefusedError(GraphRequestError):
    """Meta refused some rows, each by itself, and took the others.

    :param refusal: Meta's refusal of one of them.
    :param rows: positions of the refused rows among all rows of the call, from 0, in order.
    :param all_found: False where the search ended before all other rows had gone through.
    :param where: names the rows for a reader, in place of their positions.
    """

    #: Row numbers that a message shows.
    MOST_SHOWN = 20

    def __init__(
        self, refusal: GraphError, rows: tuple[int, ...], *, all_found: bool = True, where: str | None = None
    ) -> None:
        self.refusal = refusal
        self.rows = rows
        self.all_found = all_found
        #: For each of the rows the file that keeps it, and its number there, from 1; empty until they are looked up.
        self.places: tuple[tuple[str, int], ...] = ()
        shown = ", ".join(f"{row:,}" for row in rows[: self.MOST_SHOWN])
        more = f" and {len(rows) - self.MOST_SHOWN:,} more" if len(rows) > self.MOST_SHOWN else ""
        others = "took all others" if all_found else "may refuse more: not all others were sent"
        super().__init__(
            f"Meta refused {len(rows):,} of the rows by themselves and {others}; "
            f"{where or f'rows (numbers from 0): {shown}{more}'}. {refusal.message}",
            remedy="Look at all cells of these rows, and run the task again without them or with them mended. What an "
            'earlier run has sent and Meta will not remove leaves with one refresh by strategy="replace".',
        )
        self.code, self.subcode = refusal.code, refusal.subcode
        self.fbtrace_id, self.http_status = refusal.fbtrace_id, refusal.http_status


class GraphFlaggedError(GraphError):
    """Meta has flagged or blocked the audience or the account; only a person can clear that."""


class GraphRetryableError(GraphError):
    """The call failed for a reason that passes."""

    permanent = False


class GraphTransientError(GraphRetryableError):
    """Meta, or the way to it, has a passing fault."""


class GraphThrottledError(GraphRetryableError):
    """A rate limit is reached, or so near that no request goes before some of it has come back.

    :param wait_seconds: seconds from now before which no request to the ad account should be made. What Meta asks for,
        or the least that it documents for the limit; a minute by default, the shortest of these.
    """

    def __init__(
        self,
        message: str,
        *,
        code: int | None = None,
        subcode: int | None = None,
        fbtrace_id: str | None = None,
        http_status: int | None = None,
        remedy: str = "",
        outcome_unknown: bool = False,
        wait_seconds: float = 60.0,
    ) -> None:
        self.wait_seconds = wait_seconds
        super().__init__(
            message,
            code=code,
            subcode=subcode,
            fbtrace_id=fbtrace_id,
            http_status=http_status,
            remedy=remedy,
            outcome_unknown=outcome_unknown,
        )


class GraphBusyError(GraphRetryableError):
    """The audience is being replaced or updated by Meta, which takes no other change meanwhile."""


class GraphReplaceFailedError(GraphRetryableError):
    """Meta took all batches of a replace and then could not complete it."""
