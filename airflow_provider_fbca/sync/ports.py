"""What the sync needs from its neighbours, as protocols."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    import pyarrow as pa


class Rows(Protocol):
    """A known number of hashed rows that can be streamed, more than once."""

    @property
    def count(self) -> int:
        """How many rows there are."""

    @property
    def keys(self) -> tuple[str, ...]:
        """The identifier keys of their columns."""

    def batches(self) -> Iterator[pa.RecordBatch]:
        """Yield them, columns named by identifier key, null for blank."""

    def locate(self, positions: Iterable[int]) -> list[tuple[str, int]]:
        """Tell in which file, and as which row of it (from 1), rows at some positions (from 0) are kept."""


class Totals(Protocol):
    """What came of sending rows."""

    @property
    def requests(self) -> int:
        """How many requests carried them."""

    @property
    def received(self) -> int:
        """How many rows Meta says it received."""

    @property
    def invalid(self) -> int:
        """How many entries Meta says are malformed; documented as approximate."""

    @property
    def invalid_rows(self) -> tuple[int, ...]:
        """Positions, from 0, of rows that Meta showed as malformed; only some, where there are many."""

    @property
    def session_ids(self) -> tuple[int, ...]:
        """The sessions they went in."""


class Sender(Protocol):
    """Sends rows to one audience; returns only when Meta has acknowledged every one."""

    def add(self, rows: Iterable[pa.RecordBatch], *, total: int) -> Totals:
        """Add people."""

    def remove(self, rows: Iterable[pa.RecordBatch], *, total: int) -> Totals:
        """Remove people.

        :raises GraphRemovalRefusedError: too few would remain; tells how many rows were acknowledged before.
        """

    def wait_out_flights(self) -> None:
        """Wait until no request whose outcome is unknown can still land."""


class Journal(Protocol):
    """Where a plan is written down before and after it is carried out."""

    def open(self) -> None:
        """Record that rows may be on their way; no request may precede this."""

    def settle(self, sent: Sent) -> None:
        """Record that everything is done; no request may follow this."""


if TYPE_CHECKING:
    from airflow_provider_fbca.sync.execute import Sent
