"""What a source of users is to its consumer, and what a route has to offer to become one."""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Any, Protocol

from airflow_provider_fbca.exceptions import OptionsError, SourceError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from types import TracebackType
    from typing import Self

    import pyarrow as pa

#: Rows of a batch of what is Arrow already: whoever prepares them does best with some 50,000.
BATCH_ROWS = 65_536
#: Rows of a batch of Python tuples. Drivers that hand these over are fastest, and smallest, at about this size.
TUPLE_BATCH_ROWS = 10_000


class UserSource(Protocol):
    """A stream of users as the operators see it.

    Each batch carries its own schema: the names and their order never change, types may.
    """

    @property
    def names(self) -> tuple[str, ...]:
        """The columns, known before the first batch; waits for the query where it has to.

        :raises SourceError: the source could not be opened, or was cancelled or closed.
        """

    @property
    def route(self) -> str:
        """How the rows come, for logs: ``duckdb``, ``dbapi (psycopg2 named cursor)``, ``parquet``."""

    def batches(self) -> Iterator[pa.RecordBatch]:
        """Give every row once, in batches that are never empty.

        The source is closed when the iterator ends, fails or is dropped.

        :raises SourceError: the source failed, was cancelled or closed, or was read before.
        :raises UsersError: a cell has a type that no identifier can have.
        """

    def cancel(self) -> None:
        """End the read from any thread, also from a signal handler; the consumer then gets a SourceError."""

    def close(self) -> None:
        """Let go of connection, files and thread. Calling it again does nothing."""

    def __enter__(self) -> Self:
        """Give the source itself."""

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close the source."""


class Reader(Protocol):
    """What a route implements. A pump calls all of it on one thread, save ``cancel``, which any thread may call.

    Exceptions may be whatever the driver raises: the pump tells them without their text.
    """

    #: How the rows come; final once ``connect`` has returned.
    route: str
    #: Where the rows come from, as error messages say it: ``connection 'pg'``.
    origin: str

    def connect(self) -> None:
        """Reach the source, without running the query."""

    def start(self) -> tuple[str, ...]:
        """Run the query and give its columns."""

    def read(self) -> pa.RecordBatch | None:
        """Give the next batch, None after the last one."""

    def cancel(self) -> None:
        """Make a call that blocks on another thread end soon. Harmless before ``connect`` and after ``close``."""

    def close(self) -> None:
        """Let go of everything, also after a failed ``connect``."""


@dataclass(frozen=True, slots=True, repr=False)
class Query:
    """A query as the routes get it.

    :param sql: one statement, without a trailing semicolon.
    :param parameters: values for the driver to bind, in the driver's own style.
    :param conn_id: id of the Airflow connection, for messages.
    :param batch_rows: most rows of a batch.
    :param session_sql: statements for the same session, one each, to be run before the query.
    :param timeout: seconds from the query's start to its last row, for engines that end a query by themselves; None for
        as long as it takes.
    """

    sql: str
    parameters: Sequence[Any] | Mapping[str, Any] | None
    conn_id: str
    batch_rows: int = BATCH_ROWS
    session_sql: tuple[str, ...] = ()
    timeout: float | None = None

    @property
    def origin(self) -> str:
        """The connection as error messages name it."""
        return f"connection {self.conn_id!r}"


def checked_names(names: Sequence[str], origin: str) -> tuple[str, ...]:
    """Give the columns of a source, once it is sure that each can be told by its name.

    :param names: the columns in order.
    :param origin: where they come from, for the message.
    :raises SourceError: there are none, or some share a name or have none.
    """
    remedy = "Give every column of the query a name of its own with AS."
    if not names:
        raise SourceError(f"The users of {origin} have no columns.", permanent=True)
    unnamed = [str(place) for place, name in enumerate(names, start=1) if not name]
    if unnamed:
        raise SourceError(
            f"The users of {origin} have columns without a name, at place {', '.join(unnamed)}.",
            remedy=remedy,
            permanent=True,
        )
    shared = [name for name, count in Counter(names).items() if count > 1]
    if shared:
        raise SourceError(
            f"The users of {origin} have more than one column named {', '.join(map(repr, shared))}.",
            remedy=remedy,
            permanent=True,
        )
    return tuple(names)


def checked_batch_rows(batch_rows: int) -> int:
    """Give ``batch_rows``, once it is sure that it is a number of rows.

    :raises OptionsError: it is below 1.
    """
    if batch_rows < 1:
        raise OptionsError(f"batch_rows is {batch_rows}, but a batch needs at least 1 row.")
    return batch_rows


def checked_timeout(timeout: float | timedelta | None) -> float | None:
    """Give the ``statement_timeout`` of a query in seconds, None for as long as it takes.

    :raises OptionsError: it is no time, or one that is over before the query begins.
    """
    if timeout is None:
        return None
    seconds = timeout.total_seconds() if isinstance(timeout, timedelta) else timeout
    if isinstance(seconds, bool) or not isinstance(seconds, (int, float)) or not 0 < seconds < math.inf:
        raise OptionsError(
            f"statement_timeout is {timeout!r}.", remedy="Give a number of seconds above 0, or a timedelta."
        )
    return float(seconds)
