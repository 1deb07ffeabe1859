"""Real engines for the warehouse tests: Airflow connections in the environment, and a Postgres out of a wheel."""

from __future__ import annotations

import json
import os
import tempfile
import threading
import time
import traceback
from contextlib import closing

os.environ.setdefault("AIRFLOW_HOME", tempfile.mkdtemp(prefix="fbca-airflow-"))

from typing import TYPE_CHECKING

import pyarrow as pa
import pytest
from servers import free_port, mariadb
from servers import postgres as postgres_server_of_its_own
from servers import redshift as redshift_front_of

from airflow_provider_fbca.identity.cells import read_cells

if TYPE_CHECKING:
    from pathlib import Path


#: Modules that cannot even be imported without the clients of warehouses.
_OF_CLIENTS = {"test_bigquery_route.py", "test_databricks_route.py", "test_snowflake_route.py"}


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    """Leave out the tests of clients where they are deselected; where they are not, a missing client is a skip."""
    deselected = "not clients" in (config.option.markexpr or "")
    return True if deselected and collection_path.name in _OF_CLIENTS else None


@pytest.fixture
def connection(monkeypatch):
    """Defines an Airflow connection, which needs no database of Airflow's own."""

    def define(conn_id: str, **fields: object) -> str:
        monkeypatch.setenv(f"AIRFLOW_CONN_{conn_id.upper()}", json.dumps(fields))
        return conn_id

    return define


@pytest.fixture
def sqlite(connection, tmp_path):
    """A SQLite connection on an empty file."""
    return connection("lite", conn_type="sqlite", host=str(tmp_path / "users.db"))


@pytest.fixture
def duck(connection):
    """A DuckDB connection in memory."""
    return connection("duck", conn_type="duckdb")


@pytest.fixture(scope="session")
def postgres_server():
    """A running Postgres, stopped and deleted at the end."""
    with postgres_server_of_its_own() as server:
        yield server


@pytest.fixture
def admin(postgres_server):
    """Runs SQL on the server beside what is tested, and gives the rows."""
    psycopg = pytest.importorskip("psycopg")
    with closing(psycopg.connect(postgres_server.get_uri(), autocommit=True)) as session:

        def run(sql: str) -> list[tuple]:
            cursor = session.execute(sql)
            return cursor.fetchall() if cursor.description else []

        yield run


@pytest.fixture(params=["psycopg", "psycopg2"])
def postgres(request, postgres_server, connection, monkeypatch):
    """A Postgres connection, with each of the drivers that its hook can use."""
    pytest.importorskip(request.param)
    hook_module = pytest.importorskip("airflow.providers.postgres.hooks.postgres")
    monkeypatch.setattr(hook_module, "USE_PSYCOPG3", request.param == "psycopg")
    info = postgres_server.get_postmaster_info()
    return connection(
        "pg",
        conn_type="postgres",
        host=str(info.socket_dir),
        port=info.port,
        login="postgres",
        schema="postgres",
        extra={"application_name": "fbca-test"},
    )


@pytest.fixture(scope="session")
def mariadb_port():
    """The port of a running MariaDB, stopped and deleted at the end."""
    port = free_port()
    with mariadb(port):
        yield port


@pytest.fixture
def maria_of(mariadb_port, connection):
    """Defines a MariaDB connection with one of the drivers that the provider's hook can use."""

    def define(driver: str) -> str:
        pytest.importorskip("airflow.providers.mysql.hooks.mysql")
        pytest.importorskip({"mysqlclient": "MySQLdb", "mysql-connector-python": "mysql.connector"}[driver])
        fields = {"host": "127.0.0.1", "port": mariadb_port, "login": "root", "schema": "mysql"}
        return connection("maria", conn_type="mysql", **fields, extra={"client": driver})

    return define


@pytest.fixture
def redshift(postgres_server, connection):
    """A Redshift connection, with the driver of its hook, to the Postgres: they speak one protocol."""
    pytest.importorskip("redshift_connector")
    pytest.importorskip("airflow.providers.amazon.aws.hooks.redshift_sql")
    with redshift_front_of(postgres_server) as path:
        extra = {"unix_sock": path, "ssl": False}
        yield connection("rs", conn_type="redshift", login="postgres", password="none", schema="postgres", extra=extra)


def wait_until(true, seconds: float = 3.0) -> bool:
    """Wait until ``true()`` holds, and tell whether it did in time."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if true():
            return True
        time.sleep(0.02)
    return bool(true())


@pytest.fixture
def texts_of():
    """Gives the rows of a batch as texts, as whoever prepares them reads the cells, whatever the columns' types."""

    def read(batch: pa.RecordBatch) -> list[dict[str, str | None]]:
        named = zip(batch.schema.names, batch.columns, strict=True)
        texts = {name: read_cells(column, name=name, first_row=0).texts for name, column in named}
        return pa.table(texts).to_pylist()

    return read


@pytest.fixture
def eventually():
    return wait_until


@pytest.fixture(autouse=True)
def no_thread_left():
    """Every source's thread ends with its test."""
    yield
    assert wait_until(lambda: not [t for t in threading.enumerate() if t.name.startswith("fbca-users")])


@pytest.fixture
def holds_no(caplog):
    """Checks that a value is nowhere to be found from an exception, nor in the log."""
    caplog.set_level("DEBUG")

    def check(error: BaseException, value: str) -> None:
        assert value not in "".join(traceback.format_exception(error))
        assert value not in repr(vars(error)) + repr(error.args)
        assert error.__context__ is None
        assert error.__cause__ is None
        assert value not in caplog.text
        assert all(value not in repr(vars(record)) for record in caplog.records)

    return check
