"""An embedded warehouse with people as they are found in warehouses."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING, Any

import duckdb
import pyarrow as pa
from faker import Faker

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

#: Country -> Faker's locale and how a mobile number is written there: N is any digit.
MARKETS = {
    "US": ("en_US", ("(415) 55N-NNNN", "+1 212-55N-NNNN", "65055NNNNN", "1.312.55N.NNNN")),
    "GB": ("en_GB", ("+44 (0)7911 NNNNNN", "07911 NNNNNN", "00447911NNNNNN")),
    "DE": ("de_DE", ("0170 NNNNNNN", "+49 170 NNNNNNN", "0049-170-NNNNNNN")),
    "FR": ("fr_FR", ("06 12 NN NN NN", "+33 6 12 NN NN NN")),
    "BR": ("pt_BR", ("(11) 9NNNN-NNNN", "+55 11 9NNNN NNNN")),
    "PL": ("pl_PL", ("601 NNN NNN", "+48 601 NNN NNN")),
}
_NAMES_OF_A_MARKET = 400
_COLUMNS = (
    "customer_id", "email", "phone", "first_name", "last_name", "city", "state", "zip", "country", "date_of_birth",
    "gender",
)  # fmt: skip


class Warehouse:
    """A DuckDB file with the tables that the example DAG asks for.

    :param path: of the file.
    :param people: how many customers it begins with.
    """

    def __init__(self, path: Path, people: int) -> None:
        self.path = path
        self._random = random.Random(20260101)
        self._pools = {country: _Pool(locale) for country, (locale, _) in MARKETS.items()}
        self._last_id = 0
        customers = [self._person() for _ in range(people)]
        repeated = self._random.sample(customers, k=people // 50)
        with duckdb.connect(path) as engine:
            engine.register("customers", _table([*customers, *repeated]))
            engine.execute("CREATE TABLE active_customers AS SELECT * FROM customers")
            engine.register("signups", _table([self._person() for _ in range(500)]))
            engine.execute("CREATE TABLE new_signups AS SELECT * FROM signups")

    def pass_a_day(self) -> str:
        """Change the tables as a day does and return what happened, in words."""
        with duckdb.connect(self.path) as engine:
            (left,) = _one(engine, "SELECT count(*) FROM active_customers WHERE hash(customer_id) % 20 = 0")
            engine.execute("DELETE FROM active_customers WHERE hash(customer_id) % 20 = 0")
            engine.execute("INSERT INTO active_customers SELECT * FROM new_signups")
            (joined,) = _one(engine, "SELECT count(*) FROM new_signups")
            (moved,) = _one(engine, "SELECT count(*) FROM active_customers WHERE hash(customer_id) % 100 = 1")
            engine.execute(
                "UPDATE active_customers SET phone = NULL, city = 'Springfield' WHERE hash(customer_id) % 100 = 1"
            )
            engine.register("signups", _table([self._person() for _ in range(700)]))
            engine.execute("CREATE OR REPLACE TABLE new_signups AS SELECT * FROM signups")
        return f"{left:,} rows left, {joined:,} people joined, {moved:,} rows changed city and lost their phone"

    def query(self, sql: str) -> pa.Table:
        """Return the result of a query."""
        with duckdb.connect(self.path, read_only=True) as engine:
            return engine.sql(sql).to_arrow_table()

    def _person(self) -> dict[str, Any]:
        """Make up a person, with the faults that real rows have."""
        chance, pick = self._random.random, self._random.choice
        country = pick(list(MARKETS))
        pool = self._pools[country]
        self._last_id += 1
        first, last = pick(pool.first_names), pick(pool.last_names)
        if chance() < 0.005:  # too little to find anybody
            return dict.fromkeys(_COLUMNS) | {"customer_id": self._last_id, "zip": pick(pool.zips), "country": country}
        return {
            "customer_id": self._last_id,
            "email": self._email(first),
            "phone": self._digits(pick(MARKETS[country][1])) if chance() < 0.7 else None,
            "first_name": first.upper() if chance() < 0.05 else first,
            "last_name": f" {last} " if chance() < 0.05 else last,
            "city": pick(pool.cities) if chance() < 0.9 else "",
            "state": pick(pool.states) if pool.states else None,
            "zip": pick(pool.zips) if chance() < 0.9 else "N/A",
            "country": country if chance() < 0.97 else pick(("United States", "Germany", "UK")),
            "date_of_birth": f"{self._random.randint(1940, 2006)}-{self._random.randint(1, 12):02d}-"
            f"{self._random.randint(1, 28):02d}",
            "gender": pick(("F", "M", "female", "Male", None)),
        }

    def _email(self, first: str) -> str | None:
        chance = self._random.random()
        name = "".join(letter for letter in first.lower() if letter.isascii() and letter.isalpha()) or "x"
        if chance < 0.08:
            return None
        if chance < 0.09:
            return f"{name}{self._last_id} at example.com"  # somebody typed it so
        address = f"{name}.{self._last_id}@example.com"
        return f"  {address.title()} " if chance < 0.2 else address

    def _digits(self, pattern: str) -> str:
        return "".join(str(self._random.randint(0, 9)) if letter == "N" else letter for letter in pattern)


class _Pool:
    """Names and places of one country."""

    def __init__(self, locale: str) -> None:
        Faker.seed(locale)
        fake = Faker(locale)
        several = range(_NAMES_OF_A_MARKET)
        self.first_names = [fake.first_name() for _ in several]
        self.last_names = [fake.last_name() for _ in several]
        self.cities = [fake.city() for _ in several]
        self.zips = [fake.postcode() for _ in several]
        self.states = [fake.state() for _ in several] if hasattr(fake, "state") else []


def _table(people: list[dict[str, Any]]) -> pa.Table:
    types = [pa.field(name, pa.int64() if name == "customer_id" else pa.string()) for name in _COLUMNS]
    return pa.Table.from_pylist(people, schema=pa.schema(types))


def _one(engine: duckdb.DuckDBPyConnection, sql: str) -> tuple[Any, ...]:
    found = engine.execute(sql).fetchone()
    assert found is not None
    return found


def batches(table: pa.Table) -> Iterator[pa.RecordBatch]:
    """Yield a table in parts."""
    yield from table.to_batches(max_chunksize=10_000)
