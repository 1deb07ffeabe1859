"""One table of nasty columns gives the same bytes through every route."""

from __future__ import annotations

import nasty
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from airflow_provider_fbca.warehouse import open_arrow, open_sql, open_uri

POSTGRES = {
    "text": "CAST({q} AS text)",
    "int": "CAST({v} AS integer)",
    "bigint": "CAST({v} AS bigint)",
    "decimal": "CAST({v} AS numeric)",
    "scaled": "CAST({v} AS numeric(38,9))",
    "huge": "CAST({v} AS numeric)",
    "money": "CAST({v} AS numeric(18,4))",
    "float": "CAST({v} AS float8)",
    "nan": "CAST('NaN' AS float8)",
    "bool": "CAST({v} AS boolean)",
    "date": "CAST({q} AS date)",
    "timestamp": "CAST({q} AS timestamp)",
    "zoned": "CAST({q} AS timestamptz)",
    "uuid": "CAST({q} AS uuid)",
    "json": "CAST({q} AS json)",
    "enum": "CAST({q} AS color)",
    "inet": "CAST({q} AS inet)",
    "bytes": "decode({x}, 'hex')",
    "digest": "decode({x}, 'hex')",
    "char": "CAST({q} AS char(8))",
}
# Redshift has none of the other types, and SHA2 there gives text.
_OF_POSTGRES_ALONE = {"json", "enum", "inet", "uuid", "bytes", "digest"}
REDSHIFT = {name: cast for name, cast in POSTGRES.items() if name not in _OF_POSTGRES_ALONE}
DUCKDB = {
    **POSTGRES,
    "decimal": "CAST({v} AS DECIMAL(20,0))",
    "scaled": "CAST({v} AS DECIMAL(38,9))",
    "huge": "CAST({v} AS HUGEINT)",
    "json": "CAST({q} AS JSON)",
    "enum": "CAST({q} AS ENUM('red', 'blue'))",
    "inet": "CAST({q} AS VARCHAR)",
    "bytes": "unhex({x})",
    "digest": "unhex({x})",
}
SQLITE = {
    "text": "CAST({q} AS TEXT)",
    "int": "CAST({v} AS INTEGER)",
    "bigint": "CAST({v} AS INTEGER)",
    "decimal": "CAST({v} AS NUMERIC)",
    "scaled": "CAST({v} AS NUMERIC)",
    "money": "CAST({v} AS REAL)",
    "float": "CAST({v} AS REAL)",
    "nan": "CAST(NULL AS REAL)",
    "bytes": "{b}",
    "digest": "{b}",
}
MARIADB = {
    "text": "CAST({q} AS CHAR)",
    "backslash": "\\\\",
    "int": "CAST({v} AS SIGNED)",
    "bigint": "CAST({v} AS SIGNED)",
    "decimal": "CAST({v} AS DECIMAL(20,0))",
    "scaled": "CAST({v} AS DECIMAL(38,9))",
    "huge": "CAST({v} AS DECIMAL(38,0))",
    "money": "CAST({v} AS DECIMAL(18,4))",
    "float": "CAST({v} AS DOUBLE)",
    "nan": "CAST(NULL AS DOUBLE)",
    "date": "CAST({q} AS DATE)",
    "timestamp": "CAST({q} AS DATETIME(6))",
    "zoned": "FROM_UNIXTIME(UNIX_TIMESTAMP({q}))",
    "json": "JSON_QUERY({q}, '$')",
    "inet": "CAST({q} AS INET4)",
    "bytes": "{b}",
    "digest": "{b}",
    "char": "CAST({q} AS CHAR(8))",
}
TOKYO = "SET TIME ZONE 'Asia/Tokyo'"


def test_the_table_has_thirty_nasty_columns():
    assert len(nasty.TABLE) >= 30
    assert len(set(nasty.NAMES)) == len(nasty.TABLE)


def test_every_column_of_the_table_with_a_value_is_compared():
    assert [column.name for column in nasty.TABLE if any(column.texts) and not nasty.is_sent(column)] == []


def test_arrow_objects():
    with open_arrow(nasty.arrow()) as source:
        nasty.check(source.batches())


@pytest.mark.parametrize("kind", [pa.large_string(), pa.string_view(), pa.dictionary(pa.int32(), pa.string())])
def test_arrow_objects_in_other_kinds_of_text(kind):
    table = nasty.arrow()
    with open_arrow(table.cast(pa.schema([(name, kind) for name in table.schema.names]))) as source:
        nasty.check(source.batches())


def test_parquet(tmp_path):
    pq.write_table(nasty.arrow(), tmp_path / "users.parquet")
    with open_uri(str(tmp_path / "users.parquet")) as source:
        nasty.check(source.batches())


@pytest.mark.parametrize("rows", [1, 10_000])
def test_duckdb(duck, rows):
    tokyo = "SET TimeZone = 'Asia/Tokyo'"
    with open_sql(nasty.query(DUCKDB), sql_conn_id=duck, session_sql=tokyo, batch_rows=rows) as source:
        nasty.check(source.batches())


@pytest.mark.parametrize("rows", [1, 10_000])
def test_sqlite(sqlite, rows):
    with open_sql(nasty.query(SQLITE), sql_conn_id=sqlite, batch_rows=rows) as source:
        nasty.check(source.batches())


@pytest.mark.parametrize("rows", [1, 10_000])
@pytest.mark.parametrize("route", ["auto", "dbapi"])
def test_postgres(postgres, admin, route, rows):
    admin("DO $$ BEGIN CREATE TYPE color AS ENUM ('red', 'blue'); EXCEPTION WHEN duplicate_object THEN NULL; END $$")
    sql = nasty.query(POSTGRES)
    with open_sql(sql, sql_conn_id=postgres, session_sql=TOKYO, sql_route=route, batch_rows=rows) as source:
        nasty.check(source.batches())


@pytest.mark.clients
@pytest.mark.parametrize("rows", [1, 10_000])
@pytest.mark.parametrize("driver", ["mysqlclient", "mysql-connector-python"])
def test_mariadb(maria_of, driver, rows):
    tokyo = "SET time_zone = '+09:00'"
    with open_sql(nasty.query(MARIADB), sql_conn_id=maria_of(driver), session_sql=tokyo, batch_rows=rows) as source:
        nasty.check(source.batches())


@pytest.mark.clients
@pytest.mark.parametrize("rows", [1, 10_000])
def test_redshift(redshift, rows):
    with open_sql(nasty.query(REDSHIFT), sql_conn_id=redshift, session_sql=TOKYO, batch_rows=rows) as source:
        nasty.check(source.batches())
