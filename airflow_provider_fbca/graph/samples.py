"""Which rows of a batch Meta means by its samples of invalid entries.

A sample is the row as it was sent, written as JSON text, so it may quote a person: it is compared here and goes no
further; what comes out are positions. Meta's reference shows a map of rows to sentences and its guide a list.

.. seealso:: https://developers.facebook.com/documentation/ads-commerce/marketing-api/reference/custom-audience/users
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterable

    from airflow_provider_fbca.graph.payload import Payload


def sampled_rows(samples: object, payload: bytes | Payload) -> tuple[int, ...]:
    """Find the rows that samples show.

    :param samples: ``invalid_entry_samples`` of an answer, whatever it holds.
    :param payload: the batch as it was sent.
    :returns: positions in the batch, from 0, in order; without those that cannot be told.
    """
    if not samples or not isinstance(samples, Mapping | list):
        return ()
    try:
        shown = {_written(row) for sample in samples for row in _readings(sample)}
        rows = json.loads(bytes(payload))["data"]
        return tuple(position for position, row in enumerate(rows) if _written(row) in shown)
    except (ValueError, KeyError, TypeError, RecursionError):
        return ()


def _readings(sample: Any) -> Iterable[list[Any]]:
    """Give the rows that one sample may stand for: a row, its JSON, or the only cell of a row of one key."""
    if isinstance(sample, list):
        yield sample
    elif isinstance(sample, Mapping):
        for row in sample:
            yield from _readings(row)
    elif isinstance(sample, str):
        yield [sample]
        try:
            told = json.loads(sample)
        except (ValueError, RecursionError):
            return
        yield told if isinstance(told, list) else [told]


def _written(row: Any) -> str:
    """Write a row in the one way in which equal rows look equal, however Meta writes numbers and marks."""
    return json.dumps(row, default=str) if not isinstance(row, list) else json.dumps([_plain(cell) for cell in row])


def _plain(cell: Any) -> Any:
    return int(cell) if isinstance(cell, float) and cell.is_integer() else cell
