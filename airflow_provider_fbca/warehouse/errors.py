"""Tells what a driver raised without its text, since databases, Arrow and file systems quote values in theirs."""

from __future__ import annotations

import re

from airflow_provider_fbca.exceptions import FbcaError, SourceError
from airflow_provider_fbca.warehouse.error_codes import CODES, VERDICTS, duckdb_kind

# An error code is short and plain; anything else might be a value.
_CODE = re.compile(r"[A-Za-z0-9_-]{1,40}")

_PERMANENT_DBAPI = {"ProgrammingError", "DataError", "NotSupportedError"}
# Errors of Python and Arrow that speak of the query, its parameters or the data, never of the way to them.
_PERMANENT_TYPES = (
    TypeError,
    ValueError,
    LookupError,
    AttributeError,
    NotImplementedError,
    ImportError,
    PermissionError,
    AssertionError,
)


def told(error: BaseException, *, doing: str, remedy: str, install: str = "") -> FbcaError:
    """Turn an exception into one of ours that holds no value, whatever the first one quoted.

    An error of ours passes as it is, only freed of its traceback and context: their frames hold rows.

    :param error: what was raised.
    :param doing: what failed, as the start of a sentence: ``Reading users from connection 'pg'``.
    :param remedy: what the reader should do next.
    :param install: what to do instead where a module could not be imported.
    :return: the error to raise, outside of the ``except`` block of the first one, so that it keeps no context.
    """
    if isinstance(error, FbcaError):
        error.__cause__ = error.__context__ = None
        return error.with_traceback(None)
    missing = _missing_module(error)
    if missing is not None:
        return SourceError(
            f"{doing} failed, since {missing} is not installed.", remedy=install or remedy, permanent=True
        )
    kind = f"{type(error).__module__}.{type(error).__qualname__}".removeprefix("builtins.")
    code = code_of(error)
    shown = f"{kind} ({code})" if code else kind
    return SourceError(f"{doing} failed with {shown}.", remedy=remedy, permanent=is_permanent(error))


def code_of(error: BaseException) -> str | None:
    """Give the code that a driver attached: SQLSTATE, a name of its own list, a number, or DuckDB's kind of error.

    :return: the code, None where there is none that is surely not a value.
    """
    for find in CODES:
        code = find(error)
        if code is not None and _CODE.fullmatch(str(code)):
            return str(code)
    return duckdb_kind(error)


def is_permanent(error: BaseException) -> bool:
    """Tell whether the same query would fail the same way: its SQL or data are at fault, not the way to them."""
    for judge in VERDICTS:
        verdict = judge(error)
        if verdict is not None:
            return verdict
    if any(kind.__name__ in _PERMANENT_DBAPI for kind in type(error).__mro__):
        return True
    return isinstance(error, _PERMANENT_TYPES)


def _missing_module(error: BaseException) -> str | None:
    """Give the module that could not be imported; some hooks tell it by an error of another class."""
    for each in (error, error.__context__):
        if isinstance(each, ModuleNotFoundError) and each.name:
            return each.name
    return None
