"""How fast a query's rows get from a database into Arrow, and what memory that takes, by each route.

    python benchmarks/warehouse.py
    python benchmarks/warehouse.py --rows 200000 --engines postgres sqlite --rounds 3

A table of made-up people, 13 columns of text, is read whole from each engine: through every route that fits it, and
through what its hook offers for the purpose, ``get_records`` and ``get_df``. The first gives Python tuples, which a
task would still have to turn into Arrow: "by rows" does so with ``Table.from_pylist``, which Arrow offers for rows, "by
columns" with a list for each column, the quickest of what we tried. The second gives a data frame of pandas. Postgres
is also read from a table of the same people with types ("typed"): a bigint, a date, a uuid, a numeric, a boolean, a
timestamp with time zone, and seven columns of text.

Postgres and MariaDB are servers of their own on this machine, without a network between, so what is measured is the
client's work and the server's, who share its cores. MariaDB is left out where it is not installed.

Every measure is a process of its own. Memory is the peak above what the process held with all imported and nothing
done. With more than one round the measures take turns and the middle one is shown; the last columns tell how many times
the rows a second of what the hook offers each has.
"""

from __future__ import annotations

import argparse
import gc
import json
import os
import shutil
import statistics
import sys
import tempfile
import time
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq
from prepare import people
from stand_in import resident, run_apart

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

ROWS = 2_000_000
SQL = "SELECT * FROM people"
FIRST = f"{SQL} LIMIT 1"
HEADER = f"{'engine':<11}{'way':<34}{'seconds':>9}{'krows/s':>9}{'peak MB':>9}"
#: The same people with the types of a warehouse, 13 columns too; ``people`` is made of text.
TYPED = """
    SELECT row_number() OVER () AS customer_id, email, phone, fn, ln,
           date '1940-01-01' + (hashtext(email) & 16383) AS dob, ct, zip, country, md5(extern_id)::uuid AS madid,
           ((hashtext(email) & 16383) / 100.0)::numeric(10, 2) AS value, (hashtext(email) & 1) = 1 AS consent,
           timestamptz '2020-01-01' + make_interval(secs => hashtext(extern_id) & 134217727) AS updated_at
    FROM texts
"""


@dataclass(frozen=True)
class Cost:
    """What reading all rows took: seconds, and megabytes above idle."""

    seconds: float
    megabytes: float


def main() -> None:
    arguments = _arguments()
    os.environ.setdefault("AIRFLOW_HOME", tempfile.mkdtemp(prefix="fbca-benchmark-"))
    with tempfile.TemporaryDirectory(prefix="fbca-benchmark-") as folder:
        spill = Path(folder)
        spill.chmod(0o755)
        _write_files(spill, arguments.rows)
        times = "".join(f"  x {name}" for name in OFFERED)
        print(f"{arguments.rows:,} rows of 13 columns\n\n{HEADER}{times}")
        for engine in arguments.engines:
            with ENGINES[engine](spill) as ways:
                if ways:
                    _compare(engine, ways, arguments.rows, arguments.rounds)
                else:
                    print(f"{engine:<11}is not installed")


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=ROWS)
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--engines", nargs="+", choices=list(ENGINES), default=list(ENGINES))
    return parser.parse_args()


def _compare(engine: str, ways: dict[str, tuple[Callable[[str, str], int], str]], rows: int, rounds: int) -> None:
    costs: dict[str, list[Cost]] = {name: [] for name in ways}
    for _ in range(rounds):
        for name, (read, where) in ways.items():
            costs[name].append(run_apart(measure, read, where, rows))
    seconds = {name: statistics.median(cost.seconds for cost in found) for name, found in costs.items()}
    for name, found in costs.items():
        peak = max(cost.megabytes for cost in found)
        times = "".join(_times(seconds.get(base), seconds[name], base) for base in OFFERED)
        line = f"{engine:<11}{name:<34}{seconds[name]:>9.2f}{rows / seconds[name] / 1000:>9,.0f}{peak:>9,.0f}{times}"
        print(line.rstrip(), flush=True)


def _times(base: float | None, seconds: float, name: str) -> str:
    return f"{base / seconds:>{len(name) + 3}.1f}x" if base else ""


def measure(read: Callable[[str, str], int], where: str, rows: int) -> Cost:
    """Read all rows in this process, once everything is imported.

    :param read: reads from ``where`` and counts the rows.
    :raises SystemExit: rows are missing, or too many.
    """
    # A first row brings all imports, which some make only when they are used.
    read(where, FIRST)
    gc.collect()
    idle = resident("VmRSS")
    # Begins the peak anew: imports have had one of their own.
    Path("/proc/self/clear_refs").write_text("5")
    began = time.perf_counter()
    count = read(where, SQL)
    seconds = time.perf_counter() - began
    if count != rows:
        sys.exit(f"{count:,} rows were read instead of {rows:,}.")
    return Cost(seconds, resident("VmHWM") - idle)


def _hook(conn_id: str) -> Any:
    from airflow.sdk import BaseHook

    return BaseHook.get_connection(conn_id).get_hook()


# -- ways ---------------------------------------------------------------------------------------------------------


def by_route(conn_id: str, sql: str, route: str = "auto") -> int:
    from airflow_provider_fbca.warehouse import open_sql

    with open_sql(sql, sql_conn_id=conn_id, sql_route=route) as source:
        return sum(batch.num_rows for batch in source.batches())


def by_dbapi(conn_id: str, sql: str) -> int:
    return by_route(conn_id, sql, "dbapi")


def by_uri(uri: str, sql: str) -> int:
    from airflow_provider_fbca.warehouse import open_uri

    with open_uri(uri) as source:
        if sql == FIRST:
            return len(source.names)
        return sum(batch.num_rows for batch in source.batches())


def by_get_records(conn_id: str, sql: str) -> int:
    return len(_hook(conn_id).get_records(sql))


def by_get_records_to_arrow_by_rows(conn_id: str, sql: str) -> int:
    records = _hook(conn_id).get_records(sql)
    names = [str(place) for place in range(len(records[0]))]
    return pa.Table.from_pylist([dict(zip(names, record, strict=True)) for record in records]).num_rows


def by_get_records_to_arrow_by_columns(conn_id: str, sql: str) -> int:
    records = _hook(conn_id).get_records(sql)
    return pa.table({str(place): [record[place] for record in records] for place in range(len(records[0]))}).num_rows


def by_get_df(conn_id: str, sql: str) -> int:
    return len(_hook(conn_id).get_df(sql, df_type="pandas"))


#: What a hook of common-sql offers by itself.
OFFERED = {
    "get_records": by_get_records,
    "to Arrow by rows": by_get_records_to_arrow_by_rows,
    "by columns": by_get_records_to_arrow_by_columns,
    "get_df": by_get_df,
}


def _offered(conn_id: str) -> dict[str, Any]:
    return {name: (read, conn_id) for name, read in OFFERED.items()}


# -- engines ------------------------------------------------------------------------------------------------------


def _write_files(folder: Path, rows: int) -> None:
    table = pa.table(people(rows))
    pq.write_table(table, folder / "people.parquet")
    pa.csv.write_csv(table, folder / "people.csv")
    with pa.OSFile(str(folder / "people.arrow"), "wb") as file, pa.ipc.new_file(file, table.schema) as writer:
        writer.write_table(table, max_chunksize=65_536)
    for path in folder.iterdir():
        path.chmod(0o644)


def _columns(kind: str) -> str:
    return ", ".join(f"{name} {kind}" for name in people(1))


def _define(conn_id: str, **fields: Any) -> str:
    os.environ[f"AIRFLOW_CONN_{conn_id.upper()}"] = json.dumps(fields)
    return conn_id


def _servers() -> Any:
    sys.path.insert(0, str(Path(__file__).parent.parent / "tests"))
    import servers

    return servers


@contextmanager
def _filled_postgres(folder: Path) -> Iterator[Any]:
    import psycopg

    with _servers().postgres() as server:
        with psycopg.connect(server.get_uri(), autocommit=True) as admin:
            admin.execute(f"CREATE TABLE people ({_columns('text')})")
            load = "COPY people FROM STDIN (FORMAT csv, HEADER)"
            with admin.cursor().copy(load) as copy, (folder / "people.csv").open("rb") as file:
                while part := file.read(1 << 20):
                    copy.write(part)
            admin.execute("VACUUM ANALYZE people")
        yield server


@contextmanager
def postgres(folder: Path) -> Iterator[dict[str, Any]]:
    with _filled_postgres(folder) as server:
        yield _ways_of_postgres(server, "postgres")


@contextmanager
def typed(folder: Path) -> Iterator[dict[str, Any]]:
    import psycopg

    with _filled_postgres(folder) as server:
        with psycopg.connect(server.get_uri(), autocommit=True) as admin:
            admin.execute("CREATE DATABASE typed TEMPLATE postgres")
        with psycopg.connect(server.get_uri("typed"), autocommit=True) as admin:
            admin.execute("ALTER TABLE people RENAME TO texts")
            admin.execute(f"CREATE TABLE people AS {TYPED}")
            admin.execute("VACUUM ANALYZE people")
        yield _ways_of_postgres(server, "typed")


def _ways_of_postgres(server: Any, database: str) -> dict[str, Any]:
    host = str(server.get_postmaster_info().socket_dir)
    where = _define("pg", conn_type="postgres", host=host, login="postgres", schema=database)
    ways = {"postgres-copy": (by_route, where), "dbapi (named cursor)": (by_dbapi, where)}
    if find_spec("adbc_driver_postgresql"):
        fields = {
            "driver": "adbc_driver_postgresql",
            "dialect": "postgresql",
            "db_kwargs": {"uri": server.get_uri(database)},
        }
        ways["adbc"] = (by_route, _define("adbc_pg", conn_type="adbc", extra=fields))
    return ways | _offered(where)


@contextmanager
def mariadb(folder: Path) -> Iterator[dict[str, Any]]:
    if not shutil.which("mariadbd"):
        yield {}
        return
    import pymysql

    with _servers().mariadb() as socket:
        options = {"unix_socket": str(socket), "user": "root", "local_infile": True, "autocommit": True}
        with pymysql.connect(**options) as admin, admin.cursor() as cursor:
            cursor.execute("CREATE DATABASE benchmark CHARACTER SET utf8mb4")
            cursor.execute("SET GLOBAL local_infile = 1")
            cursor.execute(f"CREATE TABLE benchmark.people ({_columns('varchar(200)')})")
            cursor.execute(
                f"LOAD DATA LOCAL INFILE '{folder / 'people.csv'}' INTO TABLE benchmark.people CHARACTER SET utf8mb4 "
                "FIELDS TERMINATED BY ',' OPTIONALLY ENCLOSED BY '\"' IGNORE 1 LINES"
            )
        extra = {"unix_socket": str(socket), "charset": "utf8mb4"}
        where = _define("maria", conn_type="mysql", login="root", schema="benchmark", extra=extra)
        yield {"dbapi (server-side cursor)": (by_dbapi, where)} | _offered(where)


@contextmanager
def sqlite(folder: Path) -> Iterator[dict[str, Any]]:
    import sqlite3

    path = folder / "people.db"
    with sqlite3.connect(path) as database:
        database.execute(f"CREATE TABLE people ({_columns('TEXT')})")
        reader = pa.ipc.open_file(pa.OSFile(str(folder / "people.arrow")))
        for position in range(reader.num_record_batches):
            batch = reader.get_batch(position)
            places = ", ".join("?" * batch.num_columns)
            rows = zip(*(column.to_pylist() for column in batch.columns), strict=True)
            database.executemany(f"INSERT INTO people VALUES ({places})", rows)
    database.close()
    where = _define("lite", conn_type="sqlite", host=str(path))
    yield {"dbapi (sqlite3)": (by_dbapi, where)} | _offered(where)


@contextmanager
def duckdb(folder: Path) -> Iterator[dict[str, Any]]:
    import duckdb as engine

    path = folder / "people.duckdb"
    with engine.connect(str(path)) as database:
        database.execute(f"CREATE TABLE people AS FROM read_parquet('{folder / 'people.parquet'}')")
    where = _define("duck", conn_type="duckdb", host=str(path))
    yield {"duckdb": (by_route, where)} | _offered(where)


@contextmanager
def files(folder: Path) -> Iterator[dict[str, Any]]:
    yield {name: (by_uri, str(folder / f"people.{name}")) for name in ("parquet", "arrow", "csv")}


ENGINES: dict[str, Callable[[Path], Any]] = {
    "postgres": postgres,
    "typed": typed,
    "mariadb": mariadb,
    "sqlite": sqlite,
    "duckdb": duckdb,
    "files": files,
}


if __name__ == "__main__":
    main()
