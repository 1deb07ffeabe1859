"""Which fault of Meta's ends how: what is promised for each fault and operation, as a table.

    python -m tests.fault_matrix

carries it all out against the sandbox (``unit/operators/test_fault_matrix.py``) and prints the matrix of what came of
it. ``docs/faults.md`` holds the same matrix, made from the promises.

The promises come from Meta's error reference, as ``docs/errors.md`` lists it, and from the rules on what may be sent
twice: additions and removals of people always, a batch that begins a replace and the creation of an audience only where
Meta surely did not act on the first (a rate limit).
"""

from __future__ import annotations

import json
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from airflow_provider_fbca.exceptions import (
    GraphAuthError,
    GraphBusyError,
    GraphError,
    GraphFlaggedError,
    GraphNotFoundError,
    GraphPermissionError,
    GraphRemovalRefusedError,
    GraphRequestError,
    GraphRetryableError,
    GraphRowsRefusedError,
    GraphTermsError,
    GraphThrottledError,
    GraphTransientError,
)

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

When = Literal["before", "after", "late"]
Often = Literal["once", "always"]
#: A row of the matrix: the fault, how often it strikes, and when in relation to the call's being carried out.
Row = tuple[str, Often, str]

#: What a fault strikes: the reads at a refresh's start, the creation of an audience, or the requests that carry people.
OPERATIONS = ("checks", "create", "upload", "remove", "delta", "delete_insert", "replace")
SENDING = OPERATIONS[2:]
REMOVING = ("remove", "delta", "delete_insert")
#: Requests with people that a run without faults makes, in the test's small world.
REQUESTS = {"upload": 3, "remove": 3, "delta": 4, "delete_insert": 6, "replace": 3}
#: The most bytes of an answer that the test's client reads.
MAX_ANSWER_BYTES = 2**20
#: A fault's outcome: None where the task succeeds all the same.
Outcome = type[GraphError] | None


@dataclass(frozen=True)
class Case:
    """A fault and its promised outcomes.

    :param name: of the fault, as the matrix shows it.
    :param fault: for :meth:`~airflow_provider_fbca.sandbox.testing.Sandbox.fault`.
    :param once: the outcome where it strikes one request.
    :param always: the outcome where it strikes every request from one on.
    :param unlike: outcomes of operations that end otherwise than the others, struck once.
    :param unlike_always: the same, struck again and again.
    :param whens: whether the struck request is not carried out, or is and only its answer is lost, or is carried out
        when the answer has long been given up.
    :param operations: those that it can strike.
    :param may_last: whether it is tried what becomes of a task that it strikes again and again.
    :param nth: the request that it strikes first, where it matters.
    :param timeout: of the connection, in seconds.
    """

    name: str
    fault: Mapping[str, Any]
    once: Outcome
    always: Outcome
    unlike: Mapping[str, Outcome] = field(default_factory=dict)
    unlike_always: Mapping[str, Outcome] = field(default_factory=dict)
    whens: tuple[When, ...] = ("before", "after")
    operations: tuple[str, ...] = OPERATIONS
    may_last: bool = True
    nth: Literal["first", "last"] | None = None
    timeout: float = 20.0

    def outcome(self, operation: str, often: Often) -> Outcome:
        """Return what is promised for an operation."""
        if often == "once":
            return self.unlike.get(operation, self.once)
        return self.unlike_always.get(operation, self.always)

    @property
    def oftens(self) -> tuple[Often, ...]:
        """How often it strikes: what is an error at once is none the more if it were to last."""
        alike = all(self.outcome(each, "once") is self.outcome(each, "always") for each in self.operations)
        return ("once",) if alike or not self.may_last else ("once", "always")


def _usage(percent: int, *, minutes: int) -> dict[str, str]:
    """Say how much of the limit of calls on an ad account's audiences is used up."""
    usage = {"type": "custom_audience", "call_count": percent, "total_cputime": 1, "total_time": 1}
    usage["estimated_time_to_regain_access"] = minutes
    return {"x-business-use-case-usage": json.dumps({"100000000000001": [usage]})}


def _lost(
    name: str, kind: str, *, timeout: float = 20.0, whens: tuple[When, ...] = ("before", "after"), **fault: Any
) -> Case:
    """No answer, or none of the Graph API's: the request may have been carried out."""
    return Case(
        name,
        {"kind": kind} | fault,
        once=None,
        always=GraphTransientError,
        # Nobody knows whether there is an audience now; the task's retry looks for it.
        unlike={"create": GraphTransientError},
        whens=whens,
        timeout=timeout,
    )


def _on_its_way(name: str, kind: str, **fault: Any) -> Case:
    """No answer, and none from Meta itself: the request may be carried out yet."""
    return _lost(name, kind, whens=("before", "after", "late"), **fault)


def _harmless(name: str, kind: str, **fault: Any) -> Case:
    """An answer that is odd but says what it should."""
    return Case(name, {"kind": kind} | fault, once=None, always=None, whens=("after",))


def _passing(name: str, code: int, subcode: int | None = None, **fault: Any) -> Case:
    """An error of Meta's that passes."""
    told = {"kind": "graph", "code": code, "subcode": subcode, "is_transient": False, "status": 500}
    unlike = {"create": GraphTransientError}
    return Case(name, told | fault, once=None, always=GraphTransientError, unlike=unlike)


def _limit(name: str, code: int, subcode: int | None = None, *, minutes: int = 0, may_last: bool = False) -> Case:
    """A rate limit: Meta has surely not done what it refuses by one.

    :param minutes: for which Meta asks to wait. Tasks with people wait for two hours at most, others for five minutes.
    """
    told = {"kind": "graph", "code": code, "subcode": subcode, "is_transient": False, "status": 400}
    return Case(
        name,
        told | ({"headers": _usage(100, minutes=minutes)} if minutes else {}),
        once=GraphThrottledError if minutes > 2 * 60 else None,
        always=GraphThrottledError,
        unlike={"create": GraphThrottledError} if minutes > 5 else {},
        # A replace is one session, which ends before the task's patience does.
        unlike_always={"replace": GraphRetryableError} if minutes <= 2 * 60 else {},
        whens=("before",),
        may_last=may_last,
    )


def _refusal(
    name: str,
    error: type[GraphError],
    code: int,
    subcode: int | None = None,
    *,
    fault: Mapping[str, Any] | None = None,
    operations: tuple[str, ...] = OPERATIONS,
) -> Case:
    """An error that no other request of the same try could clear."""
    told = {"kind": "graph", "code": code, "subcode": subcode, "is_transient": False, "status": 400}
    return Case(name, told | dict(fault or {}), once=error, always=error, operations=operations)


def _of_a_replace(name: str, error: type[GraphError], subcode: int) -> Case:
    return _refusal(name, error, 2650, subcode, operations=("replace",))


_INVALID = {"kind": "graph", "code": 100, "is_transient": False, "status": 400}

CASES: tuple[Case, ...] = (
    # The way to Meta, and its front door.
    _on_its_way("no answer in time", "timeout", timeout=0.5),
    _on_its_way("connection dropped", "drop"),
    _on_its_way("connection reset", "reset"),
    *(_on_its_way(f"HTML page, status {status}", "server_error", status=status) for status in (502, 504)),
    *(_lost(f"HTML page, status {status}", "server_error", status=status) for status in (500, 503)),
    _lost("answer that is not HTTP", "not_http"),
    _lost("answer cut off", "cut"),
    _lost("answer drop by drop", "trickle", seconds=2.0, timeout=0.5),
    _lost("HTML page, status 200", "html_ok"),
    _lost("empty answer, status 500", "empty", status=500),
    _lost("empty answer, status 200", "empty", status=200),
    _lost("half of a JSON object", "truncated_json"),
    _lost("no JSON", "not_json"),
    _lost("no UTF-8", "not_utf8"),
    _lost("JSON list", "json_list"),
    _lost("JSON text", "json_string"),
    _lost("JSON null", "json_null"),
    _lost("answer too large", "huge", size=2 * MAX_ANSWER_BYTES),
    _lost("gzip that unpacks too large", "gzip_bomb", size=2 * MAX_ANSWER_BYTES),
    _lost("gzip that is none", "wrong_content"),
    _harmless("slow answer", "slow", seconds=0.05),
    _harmless("usage headers without sense", "bad_headers"),
    _harmless("usage headers at 95 percent", "headers", headers=_usage(95, minutes=0)),
    _harmless("usage headers at the limit", "headers", headers=_usage(100, minutes=3)),
    Case("redirect", {"kind": "redirect"}, once=GraphRequestError, always=GraphRequestError),
    Case("success: false", {"kind": "success_false"}, once=GraphRequestError, always=GraphRequestError),
    Case(
        "HTML page, status 413",
        {"kind": "server_error", "status": 413},
        once=GraphRequestError,
        always=GraphRequestError,
        operations=("create", *SENDING),
        whens=("before",),
    ),
    # Errors of Meta's that pass.
    _passing("1 unknown", 1),
    _passing("1/99 unknown", 1, 99),
    _passing("2 unavailable", 2, is_transient=True, status=400),
    _passing("2 with status 200", 2, kind="error_in_200", status=200),
    _passing("960 batch failed", 960, status=400),
    _passing("5000 unknown", 5000),
    _passing("-1 internal", -1),
    _passing("99999 of no known meaning, transient", 99999, is_transient=True, status=400),
    # Rate limits.
    _limit("4 app limit", 4, may_last=True),
    _limit("17/2446079 ad account limit", 17, 2446079),
    _limit("341 app limit", 341),
    _limit("613 abuse limit", 613),
    _limit("613/1487742 ad account limit", 613, 1487742),
    _limit("80003/2446079 audiences limit", 80003, 2446079),
    _limit("the same, for two minutes", 80003, 2446079, minutes=2, may_last=True),
    _limit("the same, for an hour", 80003, 2446079, minutes=60, may_last=True),
    _limit("the same, for three hours", 80003, 2446079, minutes=180, may_last=True),
    # What a person must clear.
    _refusal("3 capability", GraphPermissionError, 3),
    # Meta says so of rows that it does not like: the batch is halved, all others go through, and where there are none
    # such, all do. Where it refuses five rows one by one and takes nothing, it is no matter of rows.
    Case(
        "100 parameter, first request",
        _INVALID,
        once=None,
        always=GraphRequestError,
        unlike={"checks": GraphRequestError, "create": GraphRequestError},
        unlike_always={"delta": GraphRowsRefusedError},
        whens=("before",),
        nth="first",
    ),
    Case(
        "100 parameter, two rows of the last request",
        # The request, and each of its rows.
        _INVALID | {"count": 3},
        once=GraphRowsRefusedError,
        always=GraphRowsRefusedError,
        whens=("before",),
        operations=SENDING,
        nth="last",
    ),
    _refusal("100/33 missing", GraphNotFoundError, 100, 33),
    _refusal("100/1713230 flagged", GraphFlaggedError, 100, 1713230, operations=SENDING),
    _refusal("190 token", GraphAuthError, 190),
    _refusal("190/463 token expired", GraphAuthError, 190, 463),
    _refusal("190 with status 200", GraphAuthError, 190, fault={"kind": "error_in_200", "status": 200}),
    _refusal("200 permission", GraphPermissionError, 200),
    _refusal("200/1870090 terms", GraphTermsError, 200, 1870090),
    _refusal("270 development access", GraphPermissionError, 270),
    _refusal("294 ads_management", GraphPermissionError, 294),
    _refusal("2635 version ended", GraphRequestError, 2635),
    _refusal("2650 update failed", GraphRequestError, 2650, operations=SENDING),
    _refusal("99999 of no known meaning", GraphRequestError, 99999),
    # The audience is new, blocked for a while, or at work.
    Case(
        "803 not known yet",
        {"kind": "graph", "code": 803, "is_transient": False, "status": 400},
        once=None,
        always=GraphNotFoundError,
        # Of an audience that is long there, a read is answered or not; and an ad account is never new.
        unlike={"checks": GraphNotFoundError, "create": GraphNotFoundError},
        whens=("before",),
    ),
    _refusal("368 blocked for a while", GraphRetryableError, 368),
    _refusal("2650/1870145 at work", GraphBusyError, 2650, 1870145, operations=SENDING),
    Case(
        "200/1870047 too few would remain",
        {"kind": "graph", "code": 200, "subcode": 1870047, "is_transient": False, "operation": "remove_users"},
        once=GraphRemovalRefusedError,
        always=GraphRemovalRefusedError,
        # Rule S5: all are added first, then it removes again.
        unlike={"delta": None},
        whens=("before",),
        operations=REMOVING,
    ),
    _of_a_replace("2650/1870144 too large", GraphRequestError, 1870144),
    _of_a_replace("2650/1870147 not begun", GraphRetryableError, 1870147),
    _of_a_replace("2650/1870148 broken", GraphRetryableError, 1870148),
    _of_a_replace("2650/1870158 out of time", GraphRetryableError, 1870158),
    _of_a_replace("2650/1870159 finished", GraphRetryableError, 1870159),
)


@dataclass(frozen=True)
class Cell:
    """One run of the matrix.

    :param case: the fault.
    :param operation: what it strikes.
    :param when: in relation to its being carried out.
    :param often: once, or every time.
    :param nth: which of the requests it strikes first, from 1.
    """

    case: Case
    operation: str
    when: When
    often: Often
    nth: int

    @property
    def name(self) -> str:
        """For the test's id."""
        return "-".join([self.case.name, self.operation, self.when, self.often, str(self.nth)])

    @property
    def promised(self) -> Outcome:
        """How it is to end."""
        return self.case.outcome(self.operation, self.often)

    @property
    def rows(self) -> list[Row]:
        """The rows of the matrix that it speaks for."""
        if self.often == "always":
            return [(self.case.name, self.often, "in turn")]
        # A read changes nothing: whether it was carried out cannot matter.
        whens = self.case.whens if self.operation == "checks" else (self.when,)
        return [(self.case.name, self.often, when) for when in whens]


def cells() -> Iterator[Cell]:
    """Yield all cells.

    The fault strikes the first, a middle and the last request in turn. What strikes again and again is carried out or
    not in turn, too.
    """
    turn = 0
    for case in CASES:
        for operation in case.operations:
            for often in case.oftens:
                turn += 1
                alternate = case.whens[turn % len(case.whens)]
                whens = (alternate,) if often == "always" else case.whens[:1] if operation == "checks" else case.whens
                for when in whens:
                    turn += 1
                    yield Cell(case, operation, when, often, _nth(case, operation, turn))


def _nth(case: Case, operation: str, turn: int) -> int:
    requests = {"checks": 2, "create": 1}.get(operation) or REQUESTS[operation]
    if case.fault.get("operation") == "remove_users" and operation != "remove":
        requests //= 2
    places = {"first": 1, "middle": (requests + 1) // 2, "last": requests}
    return places[case.nth] if case.nth else list(places.values())[turn % 3]


def matrix(outcomes: Mapping[tuple[Row, str], str]) -> str:
    """Return a table, faults by operations; rows of a fault that are alike in all of their cells are one.

    :param outcomes: row and operation -> what came of it, in a word.
    """
    lines: dict[tuple[str, Often, tuple[str, ...]], list[str]] = {}
    for name, often, when in dict.fromkeys(row for row, _ in outcomes):
        line = tuple(outcomes.get(((name, often, when), operation), "") for operation in OPERATIONS)
        lines.setdefault((name, often, line), []).append(when)
    heads = ("fault", "strikes", "being carried out", *OPERATIONS)
    table = [(name, often, ", ".join(whens), *line) for (name, often, line), whens in lines.items()]
    widths = [max(len(row[column]) for row in (heads, *table)) for column in range(len(heads))]
    rows = [heads, tuple("-" * width for width in widths), *table]
    return "".join("| " + " | ".join(map(str.ljust, row, widths)) + " |\n" for row in rows)


def word(outcome: Outcome) -> str:
    """Return an outcome as the matrix shows it."""
    return outcome.__name__.removeprefix("Graph").removesuffix("Error") if outcome else "ok"


def promised() -> str:
    """Return the matrix of what is promised."""
    return matrix({(row, cell.operation): word(cell.promised) for cell in cells() for row in cell.rows})


class _Collector:
    """Takes from each test what came of its cell."""

    def __init__(self) -> None:
        self.outcomes: dict[tuple[Row, str], str] = {}
        self._cells = {cell.name: cell for cell in cells()}

    def pytest_runtest_logreport(self, report: Any) -> None:
        if report.when == "call":
            for name, told in report.user_properties:
                if name == "cell":
                    cell, outcome = self._cells[told[0]], told[1]
                    for row in cell.rows:
                        self.outcomes[row, cell.operation] = outcome if report.passed else f"WRONG: {outcome}"


def main() -> int:
    """Carry the whole matrix out, print it, and return 0 where all came out as promised."""
    import pytest

    collector = _Collector()
    file = Path(__file__).parent / "unit" / "operators" / "test_fault_matrix.py"
    code = pytest.main([str(file), "-q", *sys.argv[1:]], plugins=[collector])
    print(matrix(collector.outcomes))
    return int(code)


if __name__ == "__main__":
    sys.exit(main())
