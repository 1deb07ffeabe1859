"""What was decided before: names, cities and dates recur in every batch."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from airflow_provider_fbca.identity.rule import Outcome

# Outcomes kept between two batches: some 15 MB. More are dropped together.
_MOST = 1 << 16
# Texts that recur less than once in so many are not worth remembering: phones, say.
_WORTH = 4


class Memo:
    """The outcomes of one key, for each context by itself; its size is bounded."""

    def __init__(self) -> None:
        self._known: dict[int, dict[str, Outcome]] = {}
        self._asked = 0
        self._kept = 0
        self._worth_it = True

    def __len__(self) -> int:
        return self._kept

    def outcomes(self, texts: Iterable[str], context: int, decide: Callable[[str], Outcome]) -> list[Outcome]:
        """Give the outcome of each text.

        :param texts: distinct texts.
        :param context: the number of the context that they are in.
        :param decide: gives the outcome of a text in that context.
        """
        if not self._worth_it:
            return [decide(text) for text in texts]
        known = self._known.setdefault(context, {})
        outcomes = []
        kept = len(known)
        for text in texts:
            outcome = known.get(text)
            if outcome is None:
                outcome = known[text] = decide(text)
            outcomes.append(outcome)
        self._asked += len(outcomes)
        self._kept += len(known) - kept
        self._forget_too_much()
        return outcomes

    def _forget_too_much(self) -> None:
        if self._kept > _MOST:
            self._worth_it = (self._asked - self._kept) * _WORTH > self._asked
            self._known.clear()
            self._asked = self._kept = 0
