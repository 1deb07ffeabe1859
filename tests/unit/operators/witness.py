"""Who is in an audience, against whom its ledger knows, looked at while the operators run."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pyarrow as pa
import pyarrow.parquet as pq
from operator_tools import sha

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from airflow_provider_fbca.sandbox.audience import Audience

#: A person as a query gives them, and as Meta holds them.
Person = tuple[str, str | None]
Member = frozenset[tuple[str, str]]


def person(name: str, phone: int | None = None) -> Person:
    return f"{name}@example.com", None if phone is None else f"1415555{phone:04}"


def query(people: Iterable[Person]) -> pa.Table:
    rows = list(people)
    columns = {"email": [email for email, _ in rows], "phone": [phone and f"+{phone}" for _, phone in rows]}
    return pa.table(columns, schema=pa.schema([("email", pa.string()), ("phone", pa.string())]))


def as_members(people: Iterable[Person]) -> set[Member]:
    return {
        frozenset({("EMAIL", sha(email))} | ({("PHONE", sha(phone))} if phone else set())) for email, phone in people
    }


class Witness:
    """Looks whether the ledger knows everybody who is in the audience; by its files, not by the package's reading.

    :param folder: of the audience's ledger.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        #: Entry -> its rows, or those that it retires: files of the ledger never change.
        self._rows: dict[str, set[Member]] = {}
        self._retires: dict[str, set[str]] = {}
        self.looks = 0
        self.seen: list[str] = []

    def look(self, audience: Audience, when: str) -> None:
        """Note what is wrong; raising here would only make the sandbox answer with an error."""
        if audience.audience_id != self._folder.name:
            return
        self.looks += 1
        try:
            unknown = {frozenset(row.items()) for rows in audience.members.members() for row in rows} - self.known()
        except Exception as error:  # noqa: BLE001 - whatever it is, the test fails by it
            self.seen.append(f"{when}: {error!r}")
        else:
            self.seen += [f"{when}: {len(unknown)} unknown"] if unknown else []

    def known(self) -> set[Member]:
        """Return all rows of entries that are open or settled, and not retired."""
        names = [path.name for path in self._folder.iterdir()] if self._folder.exists() else []
        opened = {name.removesuffix(".open.json") for name in names if name.endswith(".open.json")}
        for name in names:
            if name.endswith(".settled.json") and name not in self._retires:
                self._retires[name] = set(json.loads((self._folder / name).read_bytes())["supersedes"])
        return set().union(*(self._rows_of(entry) for entry in opened - set().union(*self._retires.values())))

    def _rows_of(self, entry: str) -> set[Member]:
        if entry not in self._rows:
            marker = json.loads((self._folder / f"{entry}.open.json").read_bytes())
            rows = pq.read_table(self._folder / f"{entry}.rows.parquet").select(marker["schema"]).to_pylist()
            adds = marker["kind"] != "remove"
            self._rows[entry] = {
                frozenset((key, cell.hex()) for key, cell in row.items() if cell) for row in rows if adds
            }
        return self._rows[entry]
