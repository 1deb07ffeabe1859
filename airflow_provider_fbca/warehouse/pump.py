"""Runs a reader on a thread of its own and hands its batches over, so that the caller stays free for signals."""

from __future__ import annotations

import contextvars
import enum
import logging
import math
import queue
import threading
import time
from typing import TYPE_CHECKING

from airflow_provider_fbca.exceptions import FbcaError, SourceError
from airflow_provider_fbca.warehouse.errors import told

if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import TracebackType
    from typing import Self

    import pyarrow as pa

    from airflow_provider_fbca.warehouse.source import Reader

log = logging.getLogger(__name__)

_BATCHES_AHEAD = 2
# A wait is cut into pieces so that a flag set meanwhile is seen, whatever the platform does with signals.
_WAIT_SECONDS = 0.2
_CANCEL_SECONDS = 2.0
_CLOSE_SECONDS = 2.0


class _Mark(enum.Enum):
    """What the pump's thread, or who cancels, says besides names and batches."""

    CONNECTED = enum.auto()
    WOKEN = enum.auto()
    ENDED = enum.auto()


class PumpedSource:
    """A source of users whose reader runs ahead by at most two batches on its own thread.

    Creating it starts the thread and waits until the reader has connected: look-ups of Airflow connections then never
    overlap with the caller's own. The query's run is waited for by ``names`` and ``batches``, which ``cancel`` ends.

    :param reader: the route's side; owned by this source from now on.
    :param remedy: what the reader of an error message should do next.
    :param install: what to do instead where the reader lacks a module.
    :param timeout: seconds from the query's start to its last row, after which it is cancelled, whether its engine
        would do so by itself or not; None for as long as it takes.
    :param stopped: cancels the source once it is set, also before this source is there to be cancelled.
    :raises FbcaError: the reader could not connect.
    """

    def __init__(
        self,
        reader: Reader,
        *,
        remedy: str,
        install: str = "",
        timeout: float | None = None,
        stopped: threading.Event | None = None,
    ) -> None:
        self._reader = reader
        self._remedy = remedy
        self._install = install
        self._timeout = timeout
        self._stop_asked = stopped
        self._deadline = math.inf
        self._rows = 0
        self._names: tuple[str, ...] | None = None
        self._failure: FbcaError | None = None
        self._begun = False
        # Plain flags, and a queue that is safe to enter again: a signal handler may cancel in the middle of a wait.
        self._stopped = self._cancelled = self._closed = self._ended = False
        self._outbox: queue.SimpleQueue[_Mark | tuple[str, ...] | pa.RecordBatch] = queue.SimpleQueue()
        self._room = threading.Semaphore(_BATCHES_AHEAD)
        context = contextvars.copy_context()
        self._thread = threading.Thread(
            target=context.run, args=(self._work,), name=f"fbca-users-{id(self):x}", daemon=True
        )
        self._thread.start()
        try:
            self._wait_until_connected()
        except BaseException:
            # A signal's exception, say: nobody will have this source to close it.
            self.close()
            raise

    @property
    def names(self) -> tuple[str, ...]:
        """The columns, known before the first batch; waits for the query.

        :raises FbcaError: the query failed, or the source was cancelled or closed first.
        """
        while self._names is None:
            message = self._receive()
            if isinstance(message, tuple):
                self._names = message
        return self._names

    @property
    def route(self) -> str:
        """How the rows come, for logs."""
        return self._reader.route

    def batches(self) -> Iterator[pa.RecordBatch]:
        """Give every row once, in batches that are never empty; close the source after the last.

        :raises FbcaError: the source failed, was cancelled or closed, or was read before.
        """
        if self._begun:
            raise SourceError(
                f"The users of {self._reader.origin} were read before, and a source is read once.",
                remedy="Open it again to read it again.",
                permanent=True,
            )
        self._begun = True
        return self._drain()

    def cancel(self) -> None:
        """End the read: the consumer, wherever it waits, gets a SourceError. Any thread may call it, at any time."""
        if self._ended or self._closed:
            return
        self._cancelled = self._stopped = True
        self._outbox.put(_Mark.WOKEN)
        self._interrupt_reader()

    def close(self) -> None:
        """Stop the thread, which lets go of connection and files. Calling it again does nothing."""
        if self._closed:
            return
        self._closed = self._stopped = True
        self._room.release()
        deadline = time.monotonic() + _CLOSE_SECONDS
        self._thread.join(_WAIT_SECONDS)
        # A cancel that came just before the driver's call began was lost on it: it is repeated until the thread ends.
        while self._thread.is_alive() and time.monotonic() < deadline:
            self._interrupt_reader()
            self._thread.join(_WAIT_SECONDS)
        if self._thread.is_alive():
            log.warning(
                "Reading users from %s does not react to being cancelled; its thread is left to end by itself.",
                self._reader.origin,
            )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    # -- the consumer's side ------------------------------------------------------------------------------------

    def _wait_until_connected(self) -> None:
        message = None
        while message is not _Mark.CONNECTED:
            message = self._receive()
        if self._timeout is not None:
            self._deadline = time.monotonic() + self._timeout

    def _drain(self) -> Iterator[pa.RecordBatch]:
        try:
            if not self.names:
                return
            while True:
                message = self._receive()
                if message is _Mark.ENDED:
                    return
                if not isinstance(message, (_Mark, tuple)):
                    self._room.release()
                    yield message
        finally:
            self.close()

    def _receive(self) -> _Mark | tuple[str, ...] | pa.RecordBatch:
        """Wait for the thread's next message; its failure, a cancel or a close end the wait with an error."""
        message: _Mark | tuple[str, ...] | pa.RecordBatch | None = None
        while message is None:
            self._raise_if_over()
            try:
                message = self._outbox.get(timeout=_WAIT_SECONDS)
            except queue.Empty:
                continue
        if message is _Mark.ENDED:
            self._ended = True
        self._raise_if_over()
        return message

    def _raise_if_over(self) -> None:
        if self._stop_asked is not None and self._stop_asked.is_set():
            self.cancel()
        if self._cancelled:
            raise SourceError(
                f"Reading users from {self._reader.origin} was cancelled after {self._rows} rows.",
                remedy="Nothing is wrong with the source.",
            )
        if self._ended and self._failure is not None:
            raise self._failure.with_traceback(None)
        if not self._ended and not self._closed and time.monotonic() > self._deadline:
            self.close()
            raise SourceError(
                f"The query of users on {self._reader.origin} was cancelled after {self._rows} rows, since it took "
                f"longer than its statement_timeout of {self._timeout:g} seconds.",
                remedy="Give it more time, or make it faster.",
            )
        if self._closed:
            raise SourceError(
                f"The source of users, {self._reader.origin}, is closed.",
                remedy="Read it inside its with block.",
                permanent=True,
            )

    def _interrupt_reader(self) -> None:
        """Let the driver cancel its call. On a thread: a cancel over a dead network may block like anything else."""
        helper = threading.Thread(target=self._cancel_reader, name=f"{self._thread.name}-cancel", daemon=True)
        helper.start()
        helper.join(_CANCEL_SECONDS)

    def _cancel_reader(self) -> None:
        try:
            self._reader.cancel()
        except Exception as error:  # noqa: BLE001  the consumer is told by its flag; a driver may refuse, or be done
            log.debug("The driver of %s refused to cancel (%s).", self._reader.origin, type(error).__qualname__)

    # -- the thread's side --------------------------------------------------------------------------------------

    def _work(self) -> None:
        doing = "Reaching {origin}"
        try:
            self._reader.connect()
            self._outbox.put(_Mark.CONNECTED)
            doing = "Running the query of users on {origin}"
            if not self._stopped:
                self._outbox.put(self._reader.start())
            doing = "Reading users from {origin}, after {rows} rows,"
            while not self._stopped:
                batch = self._reader.read()
                if batch is None:
                    break
                self._hand_over(batch)
        except BaseException as error:  # noqa: BLE001  some drivers panic with a BaseException; the consumer gets it
            # Told of where the reader is now: a source of many files has come to another one meanwhile.
            done = doing.format(origin=self._reader.origin, rows=self._rows)
            self._failure = told(error, doing=done, remedy=self._remedy, install=self._install)
        finally:
            self._close_reader()
            self._outbox.put(_Mark.ENDED)

    def _hand_over(self, batch: pa.RecordBatch) -> None:
        """Pass a batch on as soon as the consumer has room for it, or drop it if nobody wants it any more."""
        if batch.num_rows == 0:
            return
        while not self._room.acquire(timeout=_WAIT_SECONDS):
            if self._stopped:
                return
        self._rows += batch.num_rows
        self._outbox.put(batch)

    def _close_reader(self) -> None:
        try:
            self._reader.close()
        except BaseException as error:  # noqa: BLE001  all rows are read, or a first failure is told already
            log.debug("Closing %s failed (%s).", self._reader.origin, type(error).__qualname__)
