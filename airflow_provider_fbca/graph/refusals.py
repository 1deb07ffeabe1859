"""Rows that Meta refuses, found by halving the batches that it refused for what is in them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from airflow_provider_fbca.exceptions import GraphRowsRefusedError

if TYPE_CHECKING:
    from airflow_provider_fbca.exceptions import GraphError
    from airflow_provider_fbca.graph.chunks import Piece

#: Refusals in one call after which no more rows are looked for: about as many as four or five rows cost.
_MOST_REFUSALS: Final = 64
#: Rows refused one by one, with nothing acknowledged between them, after which it is no matter of rows.
_HOPELESS_ROWS: Final = 5


class Refusals:
    """What one call has had refused. For one thread."""

    def __init__(self) -> None:
        self._rows: list[int] = []
        self._refusals = 0
        self._hopeless = 0
        self._any_acknowledged = False
        self._of_a_row: GraphError | None = None

    def take(self, piece: Piece, error: GraphError) -> GraphError | None:
        """Take in a refusal.

        :param piece: that was refused.
        :param error: Meta's refusal of it.
        :returns: the error that ends the call; None where its halves are worth a try, or it was a single row.
        """
        self._refusals += 1
        if len(piece) == 1:
            self._of_a_row = self._of_a_row or error
            self._rows.append(piece.first_row)
            self._hopeless += 1
        if self._hopeless >= _HOPELESS_ROWS:
            return error
        if self._refusals >= _MOST_REFUSALS:
            return (self._any_acknowledged and self._told(all_found=False)) or error
        return None

    def acknowledge(self) -> None:
        """Take in that a batch was acknowledged, so that Meta takes batches of this kind."""
        self._any_acknowledged = True
        self._hopeless = 0

    def error(self) -> GraphError | None:
        """Return the error that tells of the refused rows, once all others have gone through; None without any."""
        return self._told(all_found=True)

    def _told(self, *, all_found: bool) -> GraphError | None:
        if self._of_a_row is None:
            return None
        return GraphRowsRefusedError(self._of_a_row, tuple(sorted(self._rows)), all_found=all_found)
