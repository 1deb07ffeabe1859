"""Test people: clean values, and what Meta must be sent for them, worked out without the package."""

from __future__ import annotations

import hashlib
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterable

#: Column -> Meta's key; those of example (a).
KEYS = {
    "email": "EMAIL",
    "phone": "PHONE",
    "first_name": "FN",
    "last_name": "LN",
    "city": "CT",
    "zip": "ZIP",
    "country": "COUNTRY",
}

Row = tuple[tuple[str, str], ...]


@dataclass(frozen=True)
class Person:
    """A row of ``active_customers``: values that need little normalising, and are found nowhere else by chance."""

    email: str
    phone: str
    first_name: str
    last_name: str
    city: str
    zip: str
    country: str

    def hashed(self) -> Row:
        """The row as Meta must hold it: sorted (key, cell) pairs."""
        clean = {
            "email": self.email.lower(),
            "phone": self.phone.removeprefix("+"),
            "first_name": self.first_name.lower(),
            "last_name": self.last_name.lower(),
            "city": self.city.lower().replace(" ", ""),
            "zip": self.zip,
            "country": self.country.lower(),
        }
        return tuple(sorted((KEYS[column], sha256(value)) for column, value in clean.items()))

    def traces(self) -> set[str]:
        """What must be found nowhere: the telling values in clear, as stored and as normalised, and their hashes."""
        clear = {self.email, self.email.lower(), self.phone, self.phone.removeprefix("+"), self.last_name}
        return clear | {self.last_name.lower()} | {digest for _, digest in self.hashed()}

    def moved_to(self, **changes: str) -> Person:
        """The same person with other values."""
        return replace(self, **changes)

    def values(self) -> tuple[str, ...]:
        """The values in the order of :data:`KEYS`."""
        return tuple(asdict(self).values())


def person(number: int, country: str = "US") -> Person:
    """Make the person of a number, below 10,000."""
    word = "".join(chr(ord("a") + int(digit)) for digit in f"{number:04d}")
    prefix = {"US": "+1650555", "DE": "+493022", "BR": "+551132"}[country]
    return Person(
        email=f"Zephyrine.{word}.{country}@Example.com",
        phone=f"{prefix}{number:04d}" if country == "US" else f"{prefix}{number:06d}",
        first_name=f"Zephyrine{word}",
        last_name=f"Quillfeather{word}",
        city="Springfield",
        zip="94103" if country == "US" else "10115" if country == "DE" else "01310100",
        country=country,
    )


def hashed_rows(people: Iterable[Person]) -> list[Row]:
    """The rows that an audience of these people must hold, sorted."""
    return sorted(one.hashed() for one in people)


def held_rows(members: Iterable[dict[str, Any]]) -> list[Row]:
    """The rows that a sandbox says an audience holds, sorted, in the same form."""
    return sorted(tuple(sorted(member.items())) for member in members)


def sha256(value: str) -> str:
    """What Meta calls the hash of a value."""
    return hashlib.sha256(value.encode()).hexdigest()
