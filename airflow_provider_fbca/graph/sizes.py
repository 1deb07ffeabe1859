"""How many rows a request takes: fewer after complaints, and more again once all is well."""

from __future__ import annotations

from typing import Final

#: Batches of so many rows or fewer are never cut for their size.
FLOOR_ROWS: Final = 500
#: Acknowledged batches in a row after which the size grows; twice as many after each further complaint, since a proxy's
#: limit is the same all day.
_FIRST_PATIENCE: Final = 8
_LONGEST_PATIENCE: Final = 512


class Sizes:
    """The rows of the next request. For one thread.

    :param most: rows in a request, whatever Meta takes.
    """

    def __init__(self, most: int) -> None:
        #: Rows of the next request.
        self.rows = most
        self._most = most
        self._patience = _FIRST_PATIENCE // 2
        self._well = 0

    def complain(self, rows: int) -> int:
        """Take in that a batch was too large.

        :param rows: of that batch.
        :returns: rows of each part that it should go in.
        """
        half = max(FLOOR_ROWS, -(-rows // 2))
        if half < self.rows:
            self.rows = half
            self._patience = min(2 * self._patience, _LONGEST_PATIENCE)
        self._well = 0
        return self.rows

    def acknowledge(self, rows: int) -> None:
        """Take in that a batch was acknowledged.

        :param rows: of that batch.
        """
        if rows < self.rows or self.rows == self._most:
            return
        self._well += 1
        if self._well == self._patience:
            self.rows, self._well = min(2 * self.rows, self._most), 0
