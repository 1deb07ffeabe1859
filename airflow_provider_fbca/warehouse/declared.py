"""A cursor made by SQL, where the driver has none that reads as it goes, or the server wants small portions."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

_NAME = "fbca_users"
# A Redshift of a single node refuses to give more at a time.
_FETCH_ROWS = 1000


class DeclaredCursor:
    """Reads a query by ``DECLARE`` and ``FETCH`` inside the transaction of another cursor.

    :param cursor: a cursor of the driver's that holds all rows of each of its statements.
    """

    def __init__(self, cursor: Any) -> None:
        self._cursor = cursor
        self._ahead: list[Any] = []

    @property
    def description(self) -> Sequence[Sequence[Any]] | None:
        """The columns, as DB-API describes them; known once the query runs."""
        columns: Sequence[Sequence[Any]] | None = self._cursor.description
        return columns

    def execute(self, sql: str, parameters: Sequence[Any] | Mapping[str, Any] | None = None) -> None:
        """Run a query up to its first rows, which also tell its columns."""
        declare = f"DECLARE {_NAME} CURSOR FOR {sql}"
        if parameters:
            self._cursor.execute(declare, parameters)
        else:
            self._cursor.execute(declare)
        self._ahead = self._fetch(_FETCH_ROWS)

    def fetchmany(self, rows: int) -> list[Any]:
        """Give the next rows, fewer only at the end."""
        found, self._ahead = self._ahead[:rows], self._ahead[rows:]
        while len(found) < rows:
            wanted = min(rows - len(found), _FETCH_ROWS)
            some = self._fetch(wanted)
            found += some
            if len(some) < wanted:
                break
        return found

    def _fetch(self, rows: int) -> list[Any]:
        self._cursor.execute(f"FETCH FORWARD {rows} FROM {_NAME}")
        return list(self._cursor.fetchall())
