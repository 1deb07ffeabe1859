"""Where each driver leaves the code of an error, and what its codes mean for another try."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

_SQLSTATE = re.compile(r"[0-9A-Z]{5}")
# SQLSTATE classes and codes that the same query meets again: unsupported feature, cardinality, data, syntax or name,
# missing database or schema, and a write in a read-only transaction.
_PERMANENT_SQLSTATES = ("0A", "21", "22", "3D", "3F", "42", "25006")

_PERMANENT_SQLITE = {
    "SQLITE_AUTH",
    "SQLITE_ERROR",
    "SQLITE_MISMATCH",
    "SQLITE_NOTADB",
    "SQLITE_RANGE",
    "SQLITE_READONLY",
    "SQLITE_TOOBIG",
}
# What sqlite3 raises by itself, without SQLite's name for it, and with the text of the cell.
_SQLITE_NOT_UTF8 = "Could not decode to UTF-8"

_MYSQL_DRIVERS = {"MySQLdb", "mysql", "pymysql"}
# Errors that the query meets again, and that MySQL's drivers call operational, as they do a lost connection: ambiguous
# or unknown names, rights, grouping, cardinality, numbers out of range, a write in a read-only transaction.
_PERMANENT_MYSQL = {
    *(1044, 1049, 1052, 1054, 1055, 1060, 1066, 1109, 1140, 1142, 1143, 1193, 1222, 1227, 1241, 1242, 1247, 1248),
    *(1264, 1290, 1292, 1305, 1318, 1365, 1366, 1370, 1411, 1582, 1690, 1792, 3141, 3143),
}
# Too many connections or queries of one user, which have the SQLSTATE of a syntax error.
_PASSING_MYSQL = {1203, 1226}

# Errors that Trino counts to the user's, though they are what became of the query, not what it is.
_TRINO_ENDED = {"ABANDONED_QUERY", "ADMINISTRATIVELY_KILLED", "TRANSACTION_CONFLICT", "USER_CANCELED"}

# ClickHouse's numbers: what cannot be parsed, converted or divided; what is unknown or wrong in the SQL; what this user
# may not do.
_PERMANENT_CLICKHOUSE = {
    *(6, 27, 38, 41, 53, 69, 70, 72, 131, 153, 349, 376, 386, 395, 407),
    *(36, 42, 43, 44, 46, 47, 48, 50, 60, 62, 63, 81, 115, 179, 184, 215, 456, 457),
    *(164, 452, 497),
}

# Snowflake's, of one class with nearly all others: an incident, a cancel, a lock, a time limit, a session or token that
# has ended. The rest are of the SQL, the data or the rights.
_PASSING_SNOWFLAKE = {603, 604, 625, 630, 390111, 390112, 390114}
# From here on up to the next, they are failures of the service or the network.
_PASSING_SNOWFLAKE_RANGES = (range(250001, 260000), range(300000, 300100), range(370000, 371000))

# What Google answers to requests that nothing is wrong with: too many, too slow, or stopped by somebody.
_PASSING_HTTP = {408, 429}
_PASSING_REASONS = {"jobRateLimitExceeded", "quotaExceeded", "rateLimitExceeded", "resourceInUse", "tableUnavailable"}

# Databricks begins the text of an error with its condition, of its own list, and ends it with the SQLSTATE.
_DATABRICKS_CONDITION = re.compile(r"\[([A-Z][A-Z0-9_]{1,39})[\].]")
_DATABRICKS_SQLSTATE = re.compile(r"SQLSTATE: ([0-9A-Z]{5})\W*\Z")

# DuckDB's errors come through Arrow as a plain OSError, whose text begins with one of these.
_DUCKDB_KINDS = {
    "Binder Error": True,
    "Catalog Error": True,
    "Constraint Error": True,
    "Conversion Error": True,
    "HTTP Error": False,
    "INTERNAL Error": False,
    "INTERRUPT Error": False,
    "IO Error": False,
    "Invalid Error": True,
    "Invalid Input Error": True,
    "Invalid type Error": True,
    "Not implemented Error": True,
    "Out of Memory Error": False,
    "Out of Range Error": True,
    "Parser Error": True,
    "Permission Error": True,
    # The transaction is a reading one: what it refuses is a write.
    "TransactionContext Error": True,
}


# -- codes --------------------------------------------------------------------------------------------------------


def _sqlstate(error: BaseException) -> str | None:
    """Give the SQLSTATE that a driver attached; Redshift's leaves it in what the server said, under ``C``."""
    first = error.args[0] if error.args else None
    said = first.get("C") if isinstance(first, dict) else None
    named = (getattr(error, name, None) for name in ("sqlstate", "pgcode"))
    return next((code for code in (*named, said) if isinstance(code, str)), None)


def _sqlite_name(error: BaseException) -> object:
    return "not-UTF-8" if _is_sqlite_text(error) else getattr(error, "sqlite_errorname", None)


def _number(error: BaseException) -> object:
    return getattr(error, "errno", None)


def _trino_name(error: BaseException) -> object:
    return getattr(error, "error_name", None)


def _adbc_status(error: BaseException) -> object:
    return getattr(getattr(error, "status_code", None), "name", None)


def _clickhouse_number(error: BaseException) -> int | None:
    """Give the number of an error of the server: one that answers a request, or one in the middle of a result."""
    code = getattr(error, "code", None)
    return code if isinstance(code, int) and "clickhouse" in type(error).__module__ else None


def _google_reason(error: BaseException) -> str | None:
    """Give the reason that BigQuery names, such as ``invalidQuery``, or else the HTTP status."""
    if _package(error) != "google":
        return None
    first = next(iter(getattr(error, "errors", None) or ()), None)
    reason = first.get("reason") if isinstance(first, dict) else None
    status = getattr(error, "code", None)
    return str(reason or (int(status) if isinstance(status, int) else "")) or None


def _databricks_condition(error: BaseException) -> str | None:
    """Give the condition that Databricks names, such as ``TABLE_OR_VIEW_NOT_FOUND``, or else the HTTP status."""
    if _package(error) != "databricks":
        return None
    match = _DATABRICKS_CONDITION.match(str(error))
    status = (getattr(error, "context", None) or {}).get("http-code")
    return match[1] if match else str(status) if isinstance(status, int) else None


def _first_argument(error: BaseException) -> object:
    """Give the number that MySQL and SQL Server drivers, or the SQLSTATE that ODBC's, put first in ``args``."""
    first = error.args[0] if error.args else None
    package = _package(error)
    if package in {"MySQLdb", "pymysql", "pymssql"} and isinstance(first, int):
        return first
    if package == "pyodbc" and isinstance(first, str) and len(first) == len("42S02"):
        return first
    # Oracle's driver gives an object that knows its own code, "ORA-00942".
    return getattr(first, "full_code", None)


def duckdb_kind(error: BaseException) -> str | None:
    """Give how DuckDB calls an error, such as ``Binder Error``, None for one that is not DuckDB's."""
    is_duckdb = any(kind.__module__.partition(".")[0] in {"duckdb", "_duckdb"} for kind in type(error).__mro__)
    if not is_duckdb and not isinstance(error, OSError):
        return None
    start = str(error).partition(":")[0]
    return start if start in _DUCKDB_KINDS else None


#: Each gives what one kind of driver calls its error, None where it is not that driver's.
CODES: tuple[Callable[[BaseException], object], ...] = (
    _sqlstate,
    _sqlite_name,
    _number,
    _trino_name,
    _adbc_status,
    _clickhouse_number,
    _google_reason,
    _databricks_condition,
    _first_argument,
)


# -- verdicts -----------------------------------------------------------------------------------------------------


def _by_mysql_number(error: BaseException) -> bool | None:
    if _package(error) not in _MYSQL_DRIVERS:
        return None
    number = getattr(error, "errno", None) or (error.args[0] if error.args else None)
    if number in _PASSING_MYSQL:
        return False
    return True if number in _PERMANENT_MYSQL else None


def _by_sqlstate(error: BaseException) -> bool | None:
    sqlstate = _sqlstate(error) or _databricks_sqlstate(error)
    return sqlstate.startswith(_PERMANENT_SQLSTATES) if sqlstate and _SQLSTATE.fullmatch(sqlstate) else None


def _by_snowflake_number(error: BaseException) -> bool | None:
    if _package(error) != "snowflake":
        return None
    number = getattr(error, "errno", None)
    if not isinstance(number, int) or number < 0 or number in _PASSING_SNOWFLAKE:
        return False
    return not any(number in numbers for numbers in _PASSING_SNOWFLAKE_RANGES)


def _by_google_status(error: BaseException) -> bool | None:
    if _package(error) != "google":
        return None
    status = getattr(error, "code", None)
    if not isinstance(status, int) or status in _PASSING_HTTP or _google_reason(error) in _PASSING_REASONS:
        return False
    return 400 <= status < 500  # noqa: PLR2004  HTTP's range of what the client got wrong


def _by_sqlite_name(error: BaseException) -> bool | None:
    name = getattr(error, "sqlite_errorname", None)
    if isinstance(name, str):
        return name in _PERMANENT_SQLITE
    return True if _is_sqlite_text(error) else None


def _by_trino_name(error: BaseException) -> bool | None:
    name = getattr(error, "error_name", None)
    if not isinstance(name, str):
        return None
    return getattr(error, "error_type", None) == "USER_ERROR" and name not in _TRINO_ENDED


def _by_clickhouse_number(error: BaseException) -> bool | None:
    number = _clickhouse_number(error)
    return None if number is None else number in _PERMANENT_CLICKHOUSE


def _by_duckdb_kind(error: BaseException) -> bool | None:
    kind = duckdb_kind(error)
    return None if kind is None else _DUCKDB_KINDS[kind]


#: Each tells by a driver's own codes whether the same query would fail again, None where it is not that driver's.
VERDICTS: tuple[Callable[[BaseException], bool | None], ...] = (
    _by_mysql_number,
    _by_sqlstate,
    _by_snowflake_number,
    _by_google_status,
    _by_sqlite_name,
    _by_trino_name,
    _by_clickhouse_number,
    _by_duckdb_kind,
)


def _package(error: BaseException) -> str:
    return type(error).__module__.partition(".")[0]


def _is_sqlite_text(error: BaseException) -> bool:
    return _package(error) == "sqlite3" and str(error).startswith(_SQLITE_NOT_UTF8)


def _databricks_sqlstate(error: BaseException) -> str | None:
    match = _DATABRICKS_SQLSTATE.search(str(error)) if _package(error) == "databricks" else None
    return match[1] if match else None
