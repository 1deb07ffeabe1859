"""Tells what a driver raised without its text, since databases, Arrow and file systems quote values in theirs."""

from __future__ import annotations

import re

from airflow_provider_fbca.exceptions import FbcaError, SourceError

# An error code is short and plain; anything else might be a value.
_CODE = re.compile(r"[A-Za-z0-9_-]{1,40}")

# SQLSTATE classes and codes that the same query meets again: unsupported feature, cardinality, data, syntax or name,
# missing database or schema, and a write in a read-only transaction.
_PERMANENT_SQLSTATES = ("0A", "21", "22", "3D", "3F", "42", "25006")
_PERMANENT_SQLITE = {"SQLITE_ERROR", "SQLITE_MISMATCH", "SQLITE_NOTADB", "SQLITE_RANGE", "SQLITE_TOOBIG"}
_PERMANENT_DBAPI = {"ProgrammingError", "DataError", "NotSupportedError"}
# ClickHouse's numbers: what cannot be parsed, converted or divided; what is unknown or wrong in the SQL; what this user
# may not do.
_PERMANENT_CLICKHOUSE = {
    *(6, 27, 38, 41, 53, 69, 70, 72, 131, 153, 349, 376, 386, 395, 407),
    *(36, 42, 43, 44, 46, 47, 48, 50, 60, 62, 63, 81, 115, 179, 184, 215, 456, 457),
    *(164, 452, 497),
}
# Errors of Python and Arrow that speak of the query, its parameters or the data, never of the way to them.
_PERMANENT_TYPES = (
    TypeError,
    ValueError,
    LookupError,
    AttributeError,
    NotImplementedError,
    ImportError,
    PermissionError,
)

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


def told(error: BaseException, *, doing: str, remedy: str) -> FbcaError:
    """Turn an exception into one of ours that holds no value, whatever the first one quoted.

    An error of ours passes as it is, only freed of its traceback and context: their frames hold rows.

    :param error: what was raised.
    :param doing: what failed, as the start of a sentence: ``Reading users from connection 'pg'``.
    :param remedy: what the reader should do next.
    :return: the error to raise, outside of the ``except`` block of the first one, so that it keeps no context.
    """
    if isinstance(error, FbcaError):
        error.__cause__ = error.__context__ = None
        return error.with_traceback(None)
    kind = f"{type(error).__module__}.{type(error).__qualname__}".removeprefix("builtins.")
    code = code_of(error)
    shown = f"{kind} ({code})" if code else kind
    return SourceError(f"{doing} failed with {shown}.", remedy=remedy, permanent=is_permanent(error))


def code_of(error: BaseException) -> str | None:
    """Give the code that a driver attached: SQLSTATE, a name of SQLite's or ADBC's, a number, DuckDB's kind of error.

    :return: the code, None where there is none that is surely not a value.
    """
    named = (getattr(error, name, None) for name in ("sqlstate", "pgcode", "sqlite_errorname", "errno"))
    adbc_status = getattr(getattr(error, "status_code", None), "name", None)
    for code in (*named, adbc_status, _clickhouse_code(error), _first_argument_code(error)):
        if code is not None and _CODE.fullmatch(str(code)):
            return str(code)
    return _duckdb_kind(error)


def is_permanent(error: BaseException) -> bool:
    """Tell whether the same query would fail the same way: its SQL or data are at fault, not the way to them."""
    sqlstate = getattr(error, "sqlstate", None) or getattr(error, "pgcode", None)
    if isinstance(sqlstate, str):
        return sqlstate.startswith(_PERMANENT_SQLSTATES)
    sqlite_name = getattr(error, "sqlite_errorname", None)
    if isinstance(sqlite_name, str):
        return sqlite_name in _PERMANENT_SQLITE
    clickhouse_code = _clickhouse_code(error)
    if clickhouse_code is not None:
        return clickhouse_code in _PERMANENT_CLICKHOUSE
    duckdb_kind = _duckdb_kind(error)
    if duckdb_kind is not None:
        return _DUCKDB_KINDS[duckdb_kind]
    if any(kind.__name__ in _PERMANENT_DBAPI for kind in type(error).__mro__):
        return True
    return isinstance(error, _PERMANENT_TYPES)


def _first_argument_code(error: BaseException) -> object:
    """Give the number that MySQL and SQL Server drivers, or the SQLSTATE that ODBC's, put first in ``args``."""
    first = error.args[0] if error.args else None
    package = type(error).__module__.partition(".")[0]
    if package in {"MySQLdb", "pymysql", "pymssql"} and isinstance(first, int):
        return first
    if package == "pyodbc" and isinstance(first, str) and len(first) == len("42S02"):
        return first
    # Oracle's driver gives an object that knows its own code, "ORA-00942".
    return getattr(first, "full_code", None)


def _clickhouse_code(error: BaseException) -> int | None:
    """Give the number of an error of the server: one that answers a request, or one in the middle of a result."""
    code = getattr(error, "code", None)
    return code if isinstance(code, int) and "clickhouse" in type(error).__module__ else None


def _duckdb_kind(error: BaseException) -> str | None:
    is_duckdb = any(kind.__module__.partition(".")[0] in {"duckdb", "_duckdb"} for kind in type(error).__mro__)
    if not is_duckdb and not isinstance(error, OSError):
        return None
    start = str(error).partition(":")[0]
    return start if start in _DUCKDB_KINDS else None
