"""Meta as the model knows it: people, sessions, replaces, and answers in the form of its API.

It is as unhelpful as its documentation lets it be. A row that comes in joins the people whose identifiers it shares,
and so do links that only Meta knows; a removal takes out whole people. Where the documentation promises nothing it may
do either: take other changes while a replace is going on and then overwrite them, or show a replace late.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs, urlsplit

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from tests.model.kernel import Kernel

#: The identifiers of one row: pairs of key and cell.
Row = frozenset[tuple[str, str]]

SESSION_SECONDS = 90 * 60.0
TOO_FEW = (200, 1870047)
BUSY = (2650, 1870145)
NOT_BEGUN = (2650, 1870147)
TIMED_OUT = (2650, 1870158)
FINISHED = (2650, 1870159)


class RefusedError(Exception):
    """Meta's answer is an error.

    :param codes: code and subcode.
    """

    def __init__(self, codes: tuple[int, int]) -> None:
        self.code, self.subcode = codes
        super().__init__(f"{self.code}/{self.subcode}")


@dataclass
class Replace:
    """A replace: what came for it, and when it was closed.

    :param session_id: of its session.
    :param began: when its first batch came.
    :param rows: that came.
    :param closed: whether no more will.
    :param applied: whether they are the audience now, or the replace has failed.
    """

    session_id: int
    began: float
    rows: set[Row] = field(default_factory=set)
    closed: bool = False
    applied: bool = False
    timed_out: bool = False


@dataclass(frozen=True)
class Manners:
    """What Meta may do one way or the other.

    :param links: pairs of identifiers that only Meta knows to be one person's.
    :param minimum: fewest people that a removal may leave.
    :param blocks: whether it refuses other changes while a replace goes on.
    :param replace_seconds: from the last batch of a replace until it is applied.
    :param late_status: seconds until the audience's status shows a replace.
    """

    links: tuple[tuple[tuple[str, str], tuple[str, str]], ...] = ()
    minimum: int = 0
    blocks: bool = True
    replace_seconds: float = 20.0
    late_status: float = 0.0


class Meta:
    """One audience at Meta.

    :param kernel: the clock.
    :param manners: see there.
    :param strangers: rows that another client put in before.
    :param changed: called after each change of who is in.
    """

    def __init__(self, kernel: Kernel, manners: Manners, strangers: Iterable[Row], changed: Callable[[], None]) -> None:
        self.audience_id, self.account_id = "1234", "77"
        self.manners = manners
        self.rows: set[Row] = set(strangers)
        self.ever_filled = bool(self.rows)
        self.updated: float | None = 0.0 if self.rows else None
        self.failed = False
        self.fail_next = False
        self.retention_days: int | None = None
        self.replaces: dict[int, Replace] = {}
        #: Rows that left only since a link that nobody else knows joins them to a removed one.
        self.lost_by_links: set[Row] = set()
        self._kernel = kernel
        self._changed = changed

    @property
    def replacing(self) -> Replace | None:
        """The replace that goes on, if any."""
        return next((each for each in self.replaces.values() if not each.applied), None)

    @property
    def coming(self) -> set[Row]:
        """The rows that replaces have brought and that are not in the audience yet."""
        return {row for each in self.replaces.values() if not each.applied for row in each.rows}

    def answer(self, method: str, url: str, body: bytes | None) -> tuple[int, dict[str, Any]]:
        """Do what a request asks for and return the status and the object of the answer."""
        try:
            return 200, self._do(method, url, body)
        except RefusedError as error:
            told = {"message": "refused", "code": error.code, "error_subcode": error.subcode, "fbtrace_id": "A"}
            return 400, {"error": told}

    def _do(self, method: str, url: str, body: bytes | None) -> dict[str, Any]:
        parts = urlsplit(url)
        path = parts.path.strip("/").split("/")[1:]
        if method == "GET":
            asked = {name: values[-1] for name, values in parse_qs(parts.query).items()}
            return self._read(path, asked)
        content = json.loads(body or b"{}")
        rows = rows_of(content["payload"])
        session = content["session"]
        match method, path[1]:
            case "POST", "users":
                self.take_change()
                self.add(rows)
            case "DELETE", "users":
                self.take_change()
                self.refuse_removal(rows)
                self.remove(rows)
            case "POST", "usersreplace":
                self._replace(rows, int(session["session_id"]), int(session["batch_seq"]), session["last_batch_flag"])
        return {
            "audience_id": self.audience_id,
            "session_id": str(session["session_id"]),
            "num_received": len(rows),
            "num_invalid_entries": 0,
            "invalid_entry_samples": {},
        }

    # -- people ------------------------------------------------------------------------------------------------------

    def add(self, rows: Iterable[Row]) -> None:
        """Put rows in."""
        self._fill()
        self.rows.update(rows)
        self.lost_by_links -= self.rows
        self._changed()

    def remove(self, rows: Iterable[Row]) -> None:
        """Take out whoever is connected to the rows."""
        gone = self.matching(rows)
        self.lost_by_links |= gone - connected(rows, self.rows)
        self.rows -= gone
        self._fill()
        self._changed()

    def refuse_removal(self, rows: Iterable[Row]) -> None:
        """Refuse a removal that leaves too few.

        :raises RefusedError: if so.
        """
        gone = self.matching(rows)
        if gone and len(self.rows) - len(gone) < self.manners.minimum:
            raise RefusedError(TOO_FEW)

    def matching(self, rows: Iterable[Row]) -> set[Row]:
        """Return the rows in the audience that go when these are removed."""
        return connected(rows, self.rows, self.manners.links)

    def take_change(self) -> None:
        """Refuse a change while a replace goes on, where that is Meta's manner.

        :raises RefusedError: if so.
        """
        if self.replacing and self.manners.blocks:
            raise RefusedError(BUSY)

    def _fill(self) -> None:
        self.ever_filled = True
        self.updated = self._kernel.wall

    # -- replaces ----------------------------------------------------------------------------------------------------

    def _replace(self, rows: set[Row], session_id: int, seq: int, last: bool) -> None:
        replace = self.replaces.get(session_id)
        if replace is None and seq != 1:
            raise RefusedError(NOT_BEGUN)
        if replace is None:
            if self.replacing:
                raise RefusedError(BUSY)
            replace = self.replaces[session_id] = Replace(session_id, self._kernel.now)
            self.ever_filled = True
            self._kernel.after(SESSION_SECONDS, lambda: self._time_out(replace))
        elif replace.timed_out:
            raise RefusedError(TIMED_OUT)
        elif replace.closed:
            raise RefusedError(FINISHED)
        elif seq == 1:
            raise RefusedError(BUSY)
        replace.rows |= rows
        if last:
            self._close(replace)

    def _time_out(self, replace: Replace) -> None:
        if not replace.closed:
            replace.timed_out = True
            self._close(replace)

    def _close(self, replace: Replace) -> None:
        replace.closed = True
        self._kernel.after(self.manners.replace_seconds, lambda: self._apply(replace))

    def _apply(self, replace: Replace) -> None:
        replace.applied = True
        self.failed, self.fail_next = self.fail_next, False
        if not self.failed:
            self.rows = set(replace.rows)
            self.lost_by_links.clear()
            self.updated = self._kernel.wall
        self._changed()

    # -- reading -----------------------------------------------------------------------------------------------------

    def _read(self, path: list[str], asked: dict[str, str]) -> dict[str, Any]:
        match path:
            case [self.audience_id]:
                return self._audience()
            case [self.audience_id, "sessions"]:
                wanted = asked.get("session_id")
                found = [self._session(each) for each in self.replaces.values()]
                return {"data": [each for each in found if wanted in {None, each["session_id"]}]}
            case [account] if account == f"act_{self.account_id}":
                return {"tos_accepted": {"custom_audience_tos": 1}}
        raise AssertionError(f"the model's Meta knows no {'/'.join(path)}")

    def _audience(self) -> dict[str, Any]:
        found: dict[str, Any] = {
            "id": self.audience_id,
            "account_id": self.account_id,
            "name": "Model",
            "subtype": "CUSTOM",
            "operation_status": {"code": self._status(), "description": ""},
        }
        if self.retention_days:
            found["retention_days"] = self.retention_days
        if self.updated is not None:
            found["time_content_updated"] = int(self.updated)
        return found

    def _status(self) -> int:
        replace = self.replacing
        if replace and self._kernel.now - replace.began >= self.manners.late_status:
            return 414
        if self.failed:
            return 415
        return 200 if self.ever_filled else 410

    def _session(self, replace: Replace) -> dict[str, str]:
        done = replace.applied
        return {
            "session_id": str(replace.session_id),
            "start_time": str(int(replace.began)),
            "end_time": str(int(self._kernel.wall)) if done else "0",
            "num_received": str(len(replace.rows)),
            "num_matched": str(len(replace.rows)) if done else "-1",
            "num_invalid_entries": "0",
            "progress": "100" if done else "0",
            "stage": "finished" if done else "uploading",
        }


def connected(
    seeds: Iterable[Row], rows: Iterable[Row], links: Iterable[tuple[tuple[str, str], tuple[str, str]]] = ()
) -> set[Row]:
    """Return those of some rows that are connected to the seeds by shared identifiers, through however many others."""
    reached = {identifier for row in seeds for identifier in row}
    left, found = set(rows), set()
    while True:
        reached |= {side for pair in links if not reached.isdisjoint(pair) for side in pair}
        near = {row for row in left if not reached.isdisjoint(row)}
        if not near:
            return found
        found |= near
        left -= near
        reached |= {identifier for row in near for identifier in row}


def rows_of(payload: dict[str, Any]) -> set[Row]:
    """Return the rows of a payload, without their blanks."""
    schema = payload["schema"]
    return {frozenset(pair for pair in zip(schema, cells, strict=True) if pair[1] != "") for cells in payload["data"]}
