"""Runs COPY on a thread of its own and hands its text over in portions of whole rows."""

from __future__ import annotations

import queue
import select
import threading
from contextlib import suppress
from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable

# Large enough for Arrow's parser to be fast, small enough for a few to be in memory.
_PORTION_BYTES = 4 * 1024 * 1024
_PORTIONS_AHEAD = 2
# A wait for the server is cut into pieces so that a stop is seen meanwhile.
_WAIT_MILLISECONDS = 200


class CopyOut:
    """The text of one COPY, as it comes.

    A driver's cursor gives it row after row; each portion is of whole rows, however long one is.

    :param cursor: of psycopg 2 or 3; its connection is the thread's until this is over.
    :param sql: ``COPY ... TO STDOUT``.
    """

    def __init__(self, cursor: Any, sql: str) -> None:
        self._cursor = cursor
        self._sql = sql
        self._rows = bytearray()
        self._stopped = False
        self._portions: queue.SimpleQueue[bytearray | BaseException | None] = queue.SimpleQueue()
        self._room = threading.Semaphore(_PORTIONS_AHEAD)
        self._thread = threading.Thread(target=self._copy, name=f"fbca-users-copy-{id(self):x}", daemon=True)
        self._thread.start()

    def read(self) -> bytearray | None:
        """Give the next rows, None after the last.

        :raises Exception: what the driver raised, after the rows that came before that.
        :raises StoppedError: it was stopped.
        """
        portion = self._portions.get()
        if isinstance(portion, BaseException):
            raise portion
        self._room.release()
        return portion

    def stop(self) -> None:
        """Want no more rows: who waits for some gets an error, and the thread ends at its next portion.

        A thread that waits for the server goes on until that is cancelled.
        """
        self._stopped = True
        self._room.release()
        self._portions.put(StoppedError())

    def is_over(self, seconds: float = 0) -> bool:
        """Tell whether the thread has let go of the connection, or does so within that time."""
        self._thread.join(seconds)
        return not self._thread.is_alive()

    def write(self, row: bytes | memoryview) -> None:
        """Take a row from the driver, and wait for room where that makes a portion.

        :raises StoppedError: nobody wants it any more.
        """
        self._rows += row
        if len(self._rows) >= _PORTION_BYTES:
            self._hand_over()

    def _copy(self) -> None:
        end: BaseException | None = None
        try:
            if hasattr(self._cursor, "copy_expert"):
                self._cursor.copy_expert(self._sql, self)
            else:
                with self._cursor.copy(self._sql):
                    self._drain(self._cursor.connection.pgconn)
        except BaseException as error:  # noqa: BLE001  whatever it is, the reader raises it
            end = error
        with suppress(StoppedError):
            if self._rows:
                self._hand_over()
        self._portions.put(end)

    def _drain(self, pgconn: Any) -> None:
        """Take all rows from libpq itself: psycopg's own iterator costs more than all else that is done to a row."""
        while not self._take_what_came(pgconn.get_copy_data):
            self._wait_for(pgconn)
        while (result := self._result_of(pgconn)) is not None:
            if result.status != import_module("psycopg.pq").ExecStatus.COMMAND_OK:
                raise import_module("psycopg.errors").error_from_result(result)

    def _take_what_came(self, next_row: Callable[[int], tuple[int, memoryview]]) -> bool:
        """Take the rows that libpq has, in a loop that does no more than it must; tell whether the last was there."""
        rows = self._rows
        while True:
            size, row = next_row(1)
            if size <= 0:
                return size < 0
            rows += row
            if len(rows) >= _PORTION_BYTES:
                self._hand_over()
                rows = self._rows

    def _result_of(self, pgconn: Any) -> Any:
        while pgconn.is_busy():
            self._wait_for(pgconn)
        return pgconn.get_result()

    def _wait_for(self, pgconn: Any) -> None:
        """Wait until the server has sent more. libpq would do so too, but would hold up all threads meanwhile."""
        if self._stopped:
            raise StoppedError
        poll = select.poll()
        poll.register(pgconn.socket, select.POLLIN)
        if poll.poll(_WAIT_MILLISECONDS):
            pgconn.consume_input()

    def _hand_over(self) -> None:
        """Put the rows so far where the reader finds them, once it has room for more."""
        portion, self._rows = self._rows, bytearray()
        self._room.acquire()
        if self._stopped:
            raise StoppedError
        self._portions.put(portion)


class StoppedError(Exception):
    """The rows of a COPY are not wanted any more."""
