"""A cursor made by SQL, where the driver has none that reads as it goes, or the server wants small portions."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from airflow_provider_fbca.exceptions import SourceError
from airflow_provider_fbca.warehouse.postgres_session import set_timeout

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from airflow_provider_fbca.warehouse.source import Query

_NAME = "fbca_users"
# A Redshift of a single node refuses to give more at a time.
_FETCH_ROWS = 1000
# The number of the type timestamptz.
_TIMESTAMPTZ = 1184


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


class RedshiftCursor(DeclaredCursor):
    """One that gives timestamps in the session's zone, as the server would write them; ``redshift_connector``, in UTC.

    :param connection: of ``redshift_connector``.
    :param query: its ``session_sql`` is run, its ``timeout`` set.
    """

    def __init__(self, connection: Any, query: Query) -> None:
        # A cursor lives in a transaction, which is never committed.
        connection.autocommit = False
        cursor = connection.cursor()
        for statement in query.session_sql:
            cursor.execute(statement)
        set_timeout(cursor, query)
        cursor.execute("SHOW timezone")
        self._zone = str(cursor.fetchall()[0][0])
        self._origin = query.origin
        super().__init__(cursor)

    def fetchmany(self, rows: int) -> list[Any]:
        """Give the next rows, fewer only at the end.

        :raises SourceError: there are timestamps with a zone, and Python does not know the session's.
        """
        found = super().fetchmany(rows)
        places = [place for place, column in enumerate(self.description or ()) if column[1] == _TIMESTAMPTZ]
        if places:
            zone = self._known_zone()
            for row in found:
                for place in places:
                    row[place] = row[place] and row[place].astimezone(zone)
        return found

    def _known_zone(self) -> ZoneInfo:
        try:
            return ZoneInfo(self._zone)
        except (ZoneInfoNotFoundError, ValueError):
            pass
        raise SourceError(
            f"The time zone of the session of {self._origin} is {self._zone!r}, which Python does not know.",
            remedy="Set another in session_sql, or cast the timestamps to ones without a zone.",
            permanent=True,
        )
