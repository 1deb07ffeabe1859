"""Keeps drivers from logging what they send and receive: SQL with its parameters, and what servers answer."""

from __future__ import annotations

import logging

#: Loggers of drivers, all of whose children are meant.
_DRIVERS = (
    "adbc_driver_manager",
    "clickhouse_connect",
    "databricks",
    "duckdb",
    "google.cloud.bigquery",
    "google.cloud.bigquery_storage_v1",
    "mysql.connector",
    "oracledb",
    "prestodb",
    "psycopg",
    "redshift_connector",
    "snowflake",
    "trino",
)


def silence_drivers() -> None:
    """Let drivers log what ends the process, and nothing else, from now on and in all of this process.

    What goes wrong is told by our own errors, with the driver's class and code. At DEBUG, and some at INFO, drivers log
    queries, the values bound into them, and servers' answers, which quote rows.
    """
    for name in _DRIVERS:
        family = (child for child in logging.Logger.manager.loggerDict if child.startswith(f"{name}."))
        for each in (name, *family):
            logger = logging.getLogger(each)
            if each == name or logger.level != logging.NOTSET:
                logger.setLevel(logging.CRITICAL)
