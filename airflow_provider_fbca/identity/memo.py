"""What was decided before: names, cities and dates recur in every batch."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pyarrow as pa

from airflow_provider_fbca.identity.columns import RECORD_BYTES, KeyColumn

if TYPE_CHECKING:
    from collections.abc import Callable

# Outcomes kept between two batches: some 15 MB. More are dropped together.
_MOST = 1 << 16
# Texts that recur less than once in so many are not worth remembering.
_WORTH = 4


class Memo:
    """The outcomes of one hashed key, for each context by itself; its size is bounded.

    What is kept of a text is the record that :meth:`KeyColumn.records` gives of its outcome, so that a column of known
    texts is one look-up each, and their records joined.
    """

    def __init__(self) -> None:
        self._known: dict[int, dict[str, bytes]] = {}
        self._asked = 0
        self._kept = 0
        self._worth_it = True

    def __len__(self) -> int:
        return self._kept

    def outcomes(self, texts: pa.Array, context: int, decide: Callable[[pa.Array], KeyColumn]) -> KeyColumn:
        """Give the outcome of each text.

        :param texts: distinct texts.
        :param context: the number of the context that they are in.
        :param decide: gives the outcomes of texts in that context.
        """
        if not self._worth_it:
            return decide(texts)
        known = self._known.setdefault(context, {})
        asked = texts.to_pylist()
        try:
            records = b"".join(map(known.__getitem__, asked))
        except KeyError:
            self._learn([text for text in asked if text not in known], known, decide)
            records = b"".join(map(known.__getitem__, asked))
        self._asked += len(asked)
        self._forget_too_much()
        return KeyColumn.of_records(records)

    def _learn(self, new: list[str], known: dict[str, bytes], decide: Callable[[pa.Array], KeyColumn]) -> None:
        records = decide(pa.array(new, pa.string())).records()
        cuts = range(0, len(records), RECORD_BYTES)
        known.update(zip(new, (records[cut : cut + RECORD_BYTES] for cut in cuts), strict=True))
        self._kept += len(new)

    def _forget_too_much(self) -> None:
        if self._kept > _MOST:
            self._worth_it = (self._asked - self._kept) * _WORTH > self._asked
            self._known.clear()
            self._asked = self._kept = 0
