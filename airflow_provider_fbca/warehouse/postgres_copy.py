"""Runs COPY on a thread of its own and hands its text over in portions of whole rows."""

from __future__ import annotations

import queue
import threading
from typing import Any

# Large enough for Arrow's parser to be fast, small enough for a few to be in memory.
_PORTION_BYTES = 8 * 1024 * 1024
_PORTIONS_AHEAD = 2


class CopyOut:
    """The text of one COPY, as it comes.

    A driver's cursor gives it row after row; each portion is of whole rows, however long one is.

    :param cursor: of psycopg 2 or 3; its connection is the thread's until this is over.
    :param sql: ``COPY ... TO STDOUT``.
    """

    def __init__(self, cursor: Any, sql: str) -> None:
        self._cursor = cursor
        self._sql = sql
        self._rows: list[bytes] = []
        self._bytes = 0
        self._stopped = False
        self._portions: queue.SimpleQueue[bytes | BaseException | None] = queue.SimpleQueue()
        self._room = threading.Semaphore(_PORTIONS_AHEAD)
        self._thread = threading.Thread(target=self._copy, name=f"fbca-users-copy-{id(self):x}", daemon=True)
        self._thread.start()

    def read(self) -> bytes | None:
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
        """Want no more rows: who waits for some gets an error, and the thread ends at its next one.

        A thread that waits for the server goes on until that is cancelled.
        """
        self._stopped = True
        self._room.release()
        self._portions.put(StoppedError())

    def is_over(self, seconds: float = 0) -> bool:
        """Tell whether the thread has let go of the connection, or does so within that time."""
        self._thread.join(seconds)
        return not self._thread.is_alive()

    def write(self, row: bytes) -> None:
        """Take a row from the driver, and wait for room where that makes a portion.

        :raises StoppedError: nobody wants it any more.
        """
        if self._stopped:
            raise StoppedError
        self._rows.append(row)
        self._bytes += len(row)
        if self._bytes >= _PORTION_BYTES:
            self._hand_over()

    def _copy(self) -> None:
        end: BaseException | None = None
        try:
            if hasattr(self._cursor, "copy_expert"):
                self._cursor.copy_expert(self._sql, self)
            else:
                with self._cursor.copy(self._sql) as rows:
                    for row in rows:
                        # Python's collector would look through each of the views that these are.
                        self.write(bytes(row))
        except BaseException as error:  # noqa: BLE001  whatever it is, the reader raises it
            end = error
        if self._rows and not self._stopped:
            self._hand_over()
        self._portions.put(end)

    def _hand_over(self) -> None:
        portion, self._rows, self._bytes = b"".join(self._rows), [], 0
        self._room.acquire()
        self._portions.put(portion)


class StoppedError(Exception):
    """The rows of a COPY are not wanted any more."""
