"""The small immutable JSON files that say what happened to an entry.

``open`` is written before the first request: rows of the entry may be in the audience from then on. ``settled`` is
written after the last: everything the entry stands for is done, and it names the entries that it supersedes. Unknown
fields are ignored when reading, so a later version may add some; a change of meaning raises ``FORMAT``.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from typing import Any, Literal, Self

#: Version of the markers and of the folder's layout.
FORMAT = 1

Kind = Literal["upload", "remove", "refresh", "adopt", "erase", "delete", "forget", "move"]


@dataclass(frozen=True)
class OpenMarker:
    """What is known when an entry is opened.

    :param kind: what the entry does: its rows are added (``upload``, ``refresh``), removed (``remove``) or were added
        by somebody else (``adopt``); ``erase`` and ``delete`` stand for what remains of others, ``forget`` for nobody
        where somebody may be, and ``move`` for the entries that are copied from another place.
    :param strategy: of a refresh; None otherwise.
    :param audience_id: digits.
    :param ad_account_id: digits, as Meta gives it for the audience.
    :param schema: the keys of the snapshot's columns.
    :param rows: how many rows the snapshot holds.
    :param digest: of the snapshot file.
    :param reads: ids of the entries not retired that the plan was made from.
    :param audience_was_empty: whether Meta said that nothing had ever been uploaded (rule L11).
    :param retention_days: of the audience at the time, None for forever (rule L6).
    :param owner: dag, task, run, map index and try that opened it.
    :param opened_at: UTC, ISO 8601.
    :param left_behind: whether a task wrote it that had lost its lease: its requests may have been on their way until
        then (rule L8). Such an entry is never resumed.
    :param fingerprint: names what the task was to do, for a retry to compare (rule L10); None where none may resume.
    :param plan: names the rows that were to be sent, likewise.
    :param again_digest: of the file that names the rows added again; None without one.
    :param batch_size: most rows of a request.
    :param sent_with: what every request says beside the rows: the app or the page that ids in them belong to.
    :param prepared: counts of what became of the source's rows and cells.
    """

    kind: Kind
    strategy: str | None
    audience_id: str
    ad_account_id: str
    schema: tuple[str, ...]
    rows: int
    digest: str
    reads: tuple[str, ...]
    audience_was_empty: bool
    retention_days: int | None
    owner: dict[str, str | int]
    opened_at: str
    left_behind: bool = False
    fingerprint: str | None = None
    plan: str | None = None
    again_digest: str | None = None
    batch_size: int | None = None
    sent_with: dict[str, Any] = field(default_factory=dict)
    prepared: dict[str, Any] = field(default_factory=dict)

    def to_json(self) -> bytes:
        """Return the marker's file content."""
        return _to_json(asdict(self))

    @classmethod
    def from_json(cls, content: bytes) -> Self | None:
        """Read a marker, or return None where it is not a whole one: such an entry counts as open."""
        found = _from_json(content)
        try:
            known = {name: found[name] for name in cls.__dataclass_fields__ if name in found}
            return cls(**known | {"schema": _texts(known["schema"]), "reads": _texts(known["reads"])})
        except (KeyError, TypeError):
            return None


@dataclass(frozen=True)
class SettledMarker:
    """What is known when an entry is done.

    :param supersedes: ids of the entries that are retired by this one (rule L2).
    :param totals: counts of the run, for a person to read.
    :param settled_at: UTC, ISO 8601.
    :param again: of a refresh, how many of its rows share a person with a row that it removed, and so were added again
        (rule S3); None where that is not known, and then none of its rows is surely in (rule L6).
    :param again_digest: of the file that names these rows; None where there are none.
    :param sent_all_at: when a refresh last sent every row, this one or one that it built on; UTC, ISO 8601.
    """

    supersedes: tuple[str, ...]
    settled_at: str
    totals: dict[str, int] = field(default_factory=dict)
    again: int | None = None
    again_digest: str | None = None
    sent_all_at: str | None = None

    def to_json(self) -> bytes:
        """Return the marker's file content."""
        return _to_json(asdict(self))

    @classmethod
    def from_json(cls, content: bytes) -> Self | None:
        """Read a marker, or return None where it is not a whole one: such an entry counts as open."""
        found = _from_json(content)
        try:
            return cls(
                _texts(found["supersedes"]),
                found["settled_at"],
                dict(found["totals"]),
                again=_count_or_none(found.get("again")),
                again_digest=_text_or_none(found.get("again_digest")),
                sent_all_at=_text_or_none(found.get("sent_all_at")),
            )
        except (KeyError, TypeError, ValueError):
            return None


@dataclass(frozen=True)
class SessionNote:
    """A session id at Meta, noted before its first use.

    :param session_id: from 1 to 2**53-1.
    :param kind: of the entry.
    :param replaces: whether it is a session of ``usersreplace``, which Meta applies when it ends, however it ends.
    :param noted_at: UTC, ISO 8601.
    """

    session_id: int
    kind: Kind
    replaces: bool
    noted_at: str

    def to_json(self) -> bytes:
        """Return the note's file content."""
        return _to_json(asdict(self))

    @classmethod
    def from_json(cls, content: bytes) -> Self | None:
        """Read a note, or return None where it is not a whole one."""
        found = _from_json(content)
        try:
            return cls(found["session_id"], found["kind"], found["replaces"] is True, found["noted_at"])
        except KeyError:
            return None


@dataclass(frozen=True)
class ProgressNote:
    """What Meta has acknowledged of an entry that is under way (rule L10).

    :param step: the step of the plan that is under way, or was when the task ended.
    :param acknowledged: step -> ranges ``[first, end)`` of positions among the step's rows.
    :param noted_at: UTC, ISO 8601.
    """

    step: str
    acknowledged: dict[str, list[tuple[int, int]]]
    noted_at: str

    def to_json(self) -> bytes:
        """Return the note's file content."""
        return _to_json(asdict(self))

    @classmethod
    def from_json(cls, content: bytes) -> Self | None:
        """Read a note, or return None where it is not a whole one."""
        found = _from_json(content)
        try:
            ranges = {
                str(step): [(_whole(first), _whole(end)) for first, end in pairs]
                for step, pairs in found["acknowledged"].items()
            }
            return cls(str(found["step"]), ranges, found["noted_at"])
        except (KeyError, TypeError, ValueError, AttributeError):
            return None


def _to_json(content: dict[str, Any]) -> bytes:
    return json.dumps({"format": FORMAT} | content, indent=1).encode() + b"\n"


def _from_json(content: bytes) -> dict[str, Any]:
    """Return the object of a marker of this format, empty where it is anything else."""
    try:
        found = json.loads(content)
    except (ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) and found.get("format") == FORMAT else {}


def _texts(found: object) -> tuple[str, ...]:
    """Return a list of texts; anything else is not what a marker of this format holds."""
    if not isinstance(found, list) or not all(isinstance(each, str) for each in found):
        raise TypeError
    return tuple(found)


def _whole(found: object) -> int:
    if not isinstance(found, int) or isinstance(found, bool) or found < 0:
        raise TypeError
    return found


def _text_or_none(found: object) -> str | None:
    return found if isinstance(found, str) else None


def _count_or_none(found: object) -> int | None:
    return found if isinstance(found, int) and not isinstance(found, bool) and found >= 0 else None
