"""What became of the rows: counts by key and reason, never a value."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from enum import Enum
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterable

    from airflow_provider_fbca.identity.outcome import Blank


class Reject(Enum):
    """Why a whole row is left out."""

    EMPTY = "empty"
    UNUSABLE = "unusable"
    INCOMPLETE = "incomplete"
    NO_VALUE = "no_lookalike_value"
    NO_OPTIONS = "unreadable_data_processing_options"

    @property
    def meaning(self) -> str:
        """The reason in words."""
        return _MEANINGS[self]


_MEANINGS = {
    Reject.EMPTY: "no identifier is filled in",
    Reject.UNUSABLE: "what is filled in cannot be used, or not enough of it",
    Reject.INCOMPLETE: "what is filled in does not find a person by itself",
    Reject.NO_VALUE: "a value-based audience needs LOOKALIKE_VALUE in every row",
    Reject.NO_OPTIONS: "what DATA_PROCESSING_OPTIONS says is not understood, and may limit the use of the row",
}


@dataclass(slots=True)
class KeyCounts:
    """What became of the cells of one key.

    :param filled: cells that are sent.
    :param blank: cells that held nothing.
    :param invalid: reason to cells that held something unusable.
    """

    filled: int = 0
    blank: int = 0
    invalid: Counter[Blank] = field(default_factory=Counter)


class PrepareReport:
    """Running counts of one :class:`~airflow_provider_fbca.identity.prepare.Preparer`.

    ``rows_in`` equals ``rows_out`` plus the sum of ``rejected`` at any time between two batches.

    :param keys: the keys that are prepared, in their order.
    """

    def __init__(self, keys: Iterable[str]) -> None:
        self.rows_in: int = 0
        self.rows_out: int = 0
        self._rejected: Counter[Reject] = Counter()
        self.keys: dict[str, KeyCounts] = {key: KeyCounts() for key in keys}

    @property
    def rejected(self) -> dict[str, int]:
        """Reason to the count of rows left out."""
        return {reason.value: count for reason, count in self._rejected.items()}

    @property
    def invalid_ratio(self) -> float:
        """Share of the rows received that were left out; 0.0 before any row."""
        return self._rejected.total() / self.rows_in if self.rows_in else 0.0

    def count_rejected(self, reason: Reject, rows: int) -> None:
        """Add rows to those left out."""
        if rows:
            self._rejected[reason] += rows

    def lines(self) -> list[str]:
        """Give lines for a log: the rows, then a line for each key with the share of rows that it is filled in."""
        lines = [f"{self.rows_in:,} rows received, {self.rows_out:,} prepared, {self._rejected.total():,} rejected"]
        lines += [f"rejected {count:,}: {reason.meaning}" for reason, count in self._rejected.most_common()]
        for key, counts in self.keys.items():
            invalid = "".join(f", {count:,} {reason.value}" for reason, count in counts.invalid.most_common())
            share = f" ({_percent(counts.filled, self.rows_in)})" if self.rows_in else ""
            lines.append(f"{key}: {counts.filled:,} filled{share}, {counts.blank:,} blank{invalid}")
        return lines

    def as_dict(self) -> dict[str, Any]:
        """Give all counts as a dict of strings, numbers and dicts, fit for JSON."""
        return {
            "rows_in": self.rows_in,
            "rows_out": self.rows_out,
            "rejected": self.rejected,
            "keys": {
                key: {
                    "filled": counts.filled,
                    "blank": counts.blank,
                    "invalid": {reason.value: count for reason, count in counts.invalid.items()},
                }
                for key, counts in self.keys.items()
            },
        }


def _percent(part: int, whole: int) -> str:
    """Write a share with one decimal, such that only all is 100 and only nothing is 0."""
    tenths = part * 1000 // whole
    return f"{max(tenths, 1 if part else 0) / 10:.1f} %"
