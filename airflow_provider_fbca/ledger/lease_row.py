"""The files that a lease consists of: a row of numbers, each created exclusively, the highest of which tells the state.

    0000000012.lease.json

Each change is the creation of the next number, so the row is a log in which only one writer can follow on what it has
read. The highest number is never deleted: it only ever grows, and who creates a number anew that had been deleted finds
a higher one, and holds nothing.
"""

from __future__ import annotations

import json
import logging
import math
import re
from dataclasses import asdict, dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Literal, NamedTuple, Self, get_args

from airflow_provider_fbca.exceptions import LedgerError, LedgerTakenError
from airflow_provider_fbca.ledger.markers import FORMAT

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from airflow_provider_fbca.ledger.store import Store

log = logging.getLogger(__name__)

#: What a holder says of a lease.
State = Literal["held", "released", "kept"]

_FILE = re.compile(r"([0-9]{10,})\.lease\.json")


@dataclass(frozen=True)
class LeaseNote:
    """What one file of the row says.

    :param state: ``held``, ``released``, or ``kept`` for who comes with the key, by a holder that has gone.
    :param owner: who wrote it: dag, task, run, map index and try.
    :param token: random, the same in all notes of one holder.
    :param change: random, of this note alone.
    :param seconds: how long it holds without a further number.
    :param taken_at: when it was written by its writer's clock; UTC, ISO 8601.
    :param key: of a kept lease, which its heir knows; None otherwise.
    """

    state: State
    owner: Mapping[str, str | int]
    token: str
    change: str
    seconds: float
    taken_at: str
    key: str | None = None

    @property
    def is_released(self) -> bool:
        """Whether its writer let go of the lease."""
        return self.state == "released"

    def is_for(self, key: str | None) -> bool:
        """Whether it is kept for who has a key."""
        return key is not None and self.state == "kept" and self.key == key

    def age(self, now: datetime) -> float:
        """Return how many seconds ago it was written, as far as its writer's clock and ours agree."""
        return now.timestamp() - datetime.fromisoformat(self.taken_at).timestamp()

    def describe_owner(self) -> str:
        """Return who wrote it, for a person."""
        return ", ".join(f"{name} {value}" for name, value in self.owner.items())

    def to_json(self) -> bytes:
        """Return the file's content."""
        return json.dumps({"format": FORMAT} | asdict(self), indent=1).encode() + b"\n"

    @classmethod
    def from_json(cls, content: bytes) -> Self | None:
        """Read a file, or return None where it is not a whole one of this format."""
        try:
            found = json.loads(content)
            if found["format"] != FORMAT:
                return None
            note = cls(**{name: found[name] for name in cls.__dataclass_fields__ if name in found})
            return note if note.is_whole() else None
        except (ValueError, TypeError, KeyError, RecursionError):
            return None

    def is_whole(self) -> bool:
        """Whether every field has a value that it may have.

        :raises ValueError, TypeError: likewise where it has not.
        """
        texts = (self.token, self.change, *self.owner)
        return (
            self.state in get_args(State)
            and isinstance(self.key, str | None)
            and all(isinstance(text, str) for text in texts)
            and all(isinstance(value, str | int) for value in dict(self.owner).values())
            and math.isfinite(self.seconds)
            and self.seconds > 0
            and datetime.fromisoformat(self.taken_at).tzinfo is not None
        )


class Seen(NamedTuple):
    """The highest number of a row; 0 where there is none. The note is None where it cannot be understood."""

    number: int
    note: LeaseNote | None


class LeaseRow:
    """The row of one audience.

    :param store: the audience's folder.
    """

    def __init__(self, store: Store) -> None:
        self._store = store

    @property
    def uri(self) -> str:
        """Address of the folder."""
        return self._store.uri

    @property
    def is_known_exclusive(self) -> bool:
        """Whether the store is of a kind that can refuse a second creation."""
        return self._store.creates_exclusively

    def latest(self) -> Seen:
        """Read the highest number.

        :raises LedgerError: where the store cannot be read.
        """
        while True:
            number = max(self._numbers(), default=0)
            if not number:
                return Seen(0, None)
            name = _name(number)
            try:
                return Seen(number, LeaseNote.from_json(self._store.read([name])[name]))
            except LedgerError:
                # Deleted between listing and reading, if a higher number took its place.
                if max(self._numbers(), default=0) == number:
                    raise

    def append(self, number: int, note: LeaseNote) -> bool:
        """Create a number, and delete those below it.

        :returns: whether it is the highest now; if not, someone else was quicker, and it means nothing.
        :raises LedgerError: where the store refuses, or does not answer: it may be there then all the same.
        """
        try:
            self._store.create(_name(number), note.to_json())
        except LedgerTakenError:
            return False
        numbers = self._numbers()
        if max(numbers, default=0) != number:
            return False
        self._discard([each for each in numbers if each < number])
        return True

    def refuses_again(self, number: int, note: LeaseNote) -> bool:
        """Tell whether the store refuses to create a number that is there.

        :param note: what would be written if it did not.
        """
        try:
            self._store.create(_name(number), note.to_json())
        except LedgerTakenError:
            return True
        return False

    def _numbers(self) -> list[int]:
        matches = (_FILE.fullmatch(name) for name in self._store.names())
        return [int(match[1]) for match in matches if match]

    def _discard(self, numbers: Sequence[int]) -> None:
        for number in numbers:
            try:
                self._store.delete(_name(number))
            except LedgerError as error:
                # It means nothing any more; the next number takes it along.
                log.info("An old file of the lease stays for now: %s", error)


def _name(number: int) -> str:
    return f"{number:010d}.lease.json"
