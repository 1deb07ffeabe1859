"""The few people of the model: rows that share identifiers in every way, and the digests that Meta must get."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

import pyarrow as pa

if TYPE_CHECKING:
    from collections.abc import Iterable

    from tests.model.meta import Row

KEYS = ("EMAIL", "PHONE", "EXTERN_ID")
#: Name -> letter of an e-mail, digit of a phone, an id. Each but ``x`` and ``c`` shares something with another.
PEOPLE: dict[str, tuple[str | None, str | None, str | None]] = {
    "a": ("a", None, None),
    "a1": ("a", "1", None),
    "a2": ("a", "2", None),
    "b": ("b", None, None),
    "b1": ("b", "1", None),
    "c": ("c", None, None),
    "2": (None, "2", None),
    "x": (None, None, "x"),
    "b2x": ("b", "2", "x"),
}
#: Rows that another client had put in before the ledger began.
STRANGERS = {"s": ("s", None, None), "sx": ("s", None, "y")}


def digest(key: str, letter: str) -> str:
    """Return what is sent for a cell."""
    return letter if key == "EXTERN_ID" else hashlib.sha256(f"{key} {letter}".encode()).hexdigest()


#: Identifiers of one person, as only Meta knows.
LINK = (("EMAIL", digest("EMAIL", "c")), ("PHONE", digest("PHONE", "2")))


def row(name: str) -> Row:
    """Return the row of a name as Meta gets it."""
    cells = (PEOPLE | STRANGERS)[name]
    return frozenset((key, digest(key, letter)) for key, letter in zip(KEYS, cells, strict=True) if letter)


def rows(names: Iterable[str]) -> frozenset[Row]:
    """Return the rows of some names."""
    return frozenset(map(row, names))


def named(found: Iterable[Row]) -> list[str]:
    """Return the names of rows."""
    names = {row(name): name for name in PEOPLE | STRANGERS}
    return sorted(names.get(each, "?") for each in found)


def table(names: Iterable[str]) -> pa.Table:
    """Return rows as a query gives them: digests, so that no phone number is parsed a million times."""
    cells = [PEOPLE[name] for name in sorted(names)]
    return pa.table(
        {
            key.lower(): pa.array([each[n] and digest(key, each[n]) for each in cells], pa.string())
            for n, key in enumerate(KEYS)
        }
    )
