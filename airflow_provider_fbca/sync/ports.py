"""What the sync needs from its neighbours, as protocols."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol, Self

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

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

    def without(self, ranges: Sequence[tuple[int, int]]) -> Self:
        """Return them but those at some positions.

        :param ranges: of positions, from 0, each without its end.
        """

    def digest(self) -> str:
        """Name exactly these rows, in this order."""

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
    def seconds(self) -> float:
        """How long it took."""

    @property
    def session_ids(self) -> tuple[int, ...]:
        """The sessions they went in."""


class Sender(Protocol):
    """Sends rows to one audience; returns only when Meta has acknowledged every one.

    What adds, removes or replaces raises GraphRowsRefusedError where Meta refused some rows and took all others.
    """

    def add(self, rows: Iterable[pa.RecordBatch], *, total: int) -> Totals:
        """Add people."""

    def remove(self, rows: Iterable[pa.RecordBatch], *, total: int) -> Totals:
        """Remove people.

        :raises GraphRemovalRefusedError: too few would remain; tells how many rows were acknowledged before.
        """

    def replace(self, rows: Iterable[pa.RecordBatch], *, total: int) -> Totals:
        """Hand Meta the list of all people who shall be in the audience."""

    def wait_until_replaced(self, session_id: int) -> None:
        """Wait until Meta has applied such a list.

        :param session_id: the session that carried it.
        """

    def wait_out_flights(self) -> None:
        """Wait until no request whose outcome is unknown can still land."""


class Journal(Protocol):
    """Where a plan is written down before and after it is carried out."""

    def open(self) -> None:
        """Record that rows may be on their way; no request may precede this."""

    def begin(self, step: Step, rows: Rows) -> Rows:
        """Record that a step begins.

        :param rows: of the step.
        :returns: those of them that no earlier try has had acknowledged.
        """

    def has_begun(self, step: Step) -> bool:
        """Tell whether an earlier try has come to a step."""

    def settle(self, sent: Sent) -> None:
        """Record that everything is done; no request may follow this."""


if TYPE_CHECKING:
    from airflow_provider_fbca.sync.execute import Sent, Step
