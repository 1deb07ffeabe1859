"""The route that any DB-API hook can take: rows in bounded portions, every cell as text."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from airflow_provider_fbca.exceptions import SourceError
from airflow_provider_fbca.warehouse.collector import rarely_collecting
from airflow_provider_fbca.warehouse.cursors import cancel_query, driver_of, roll_back, set_arraysize
from airflow_provider_fbca.warehouse.mysql import kill_query
from airflow_provider_fbca.warehouse.source import Query, checked_names
from airflow_provider_fbca.warehouse.text import text_batch

if TYPE_CHECKING:
    from collections.abc import Sequence

    import pyarrow as pa

    from airflow_provider_fbca.warehouse.mysql import Session

log = logging.getLogger(__name__)


class DbApiReader:
    """Reads a query through the hook's own connection, so that all of the hook's authentication holds.

    The hook's ``run`` is not used: it logs parameters, and its result is the whole one.

    :param hook: any hook whose ``get_conn`` gives a DB-API connection.
    :param query: what to run.
    """

    route = "dbapi"

    def __init__(self, hook: Any, query: Query) -> None:
        self.origin = query.origin
        self._hook = hook
        self._query = query
        self._connection: Any = None
        self._cursor: Any = None
        self._session: Session | None = None
        self._names: tuple[str, ...] = ()
        self._rows_ahead: Sequence[Any] | None = None
        self._exhausted = False

    def connect(self) -> None:
        """Connect and tell the driver.

        :raises SourceError: the hook is of no database.
        """
        connect = getattr(self._hook, "get_conn", None)
        try:
            connection = connect() if connect else None
        except NotImplementedError:
            connection = None
        if not callable(getattr(connection, "cursor", None)):
            raise _not_a_database(self._hook, self.origin)
        self._driver = driver_of(connection)
        self._connection = connection
        self.route = f"dbapi ({self._driver.label})"
        if not self._driver.is_bounded:
            log.warning("The driver of %s reads whole results; a large one needs as much memory.", self.origin)

    def start(self) -> tuple[str, ...]:
        """Run the query.

        :return: its columns.
        :raises SourceError: it gives no rows, or its columns cannot be told apart.
        """
        if self._driver.session_of is not None:
            self._session = self._driver.session_of(self._connection)
        self._cursor = self._driver.open_cursor(self._connection, self._query)
        set_arraysize(self._cursor, self._query.batch_rows)
        if self._query.parameters:
            self._cursor.execute(self._query.sql, self._query.parameters)
        else:
            # Without parameters a driver leaves percent signs and the like alone.
            self._cursor.execute(self._query.sql)
        if self._driver.names_late:
            self._rows_ahead = self._cursor.fetchmany(self._query.batch_rows)
        if self._cursor.description is None:
            raise SourceError(
                f"The statement run on {self.origin} gives no rows.",
                remedy="Give a query; what this one changed was rolled back.",
                permanent=True,
            )
        self._names = checked_names([str(column[0]) for column in self._cursor.description], self.origin)
        return self._names

    def read(self) -> pa.RecordBatch | None:
        """Give the next rows as text, None after the last.

        :raises UsersError: a cell has a type that has no one text.
        """
        with rarely_collecting():
            rows, self._rows_ahead = self._rows_ahead, None
            if rows is None:
                rows = self._cursor.fetchmany(self._query.batch_rows)
            if not rows:
                self._check_for_more_results()
                self._exhausted = True
                return None
            if isinstance(rows[0], Mapping):
                rows = [tuple(row.values()) for row in rows]
            return text_batch(self._names, rows)

    def _check_for_more_results(self) -> None:
        """Make sure that the rows were all: MySQL's procedures may give more of them, or fail, after a first result."""
        # Older drivers that know no next result give anything but True.
        if self._driver.session_of is None or self._cursor.nextset() != 1 or self._cursor.description is None:
            return
        raise SourceError(
            f"The statement run on {self.origin} gives more than one result, and only the first was read.",
            remedy="Give a query, or a procedure that selects once.",
            permanent=True,
        )

    def cancel(self) -> None:
        """End a call that blocks on another thread."""
        if self._connection is None:
            return
        if self._driver.session_of is None:
            cancel_query(self._connection, self._cursor)
        elif self._session is not None:
            kill_query(self._hook, self._session, self.origin)

    def close(self) -> None:
        """Roll back and close the connection; the cursor goes with it, since closing some reads all the rest."""
        if self._connection is None:
            return
        try:
            if self._driver.outlives_connection and self._cursor is not None and not self._exhausted:
                self.cancel()
        finally:
            connection, self._connection = self._connection, None
            if self._driver.rolls_back:
                roll_back(connection, self.origin)
            connection.close()


def _not_a_database(hook: object, origin: str) -> SourceError:
    kind = type(hook)
    return SourceError(
        f"The hook of {origin} is {kind.__module__}.{kind.__qualname__}, of connection type "
        f"{getattr(kind, 'conn_type', 'unknown')!r}, and gives no DB-API cursor to run SQL with.",
        remedy="Use a connection of a SQL database, or users_callable with a client of your own.",
        permanent=True,
    )
