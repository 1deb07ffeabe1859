"""Which rows of an entry were added again, since they share a person with a row that it removed (rules S3, L6).

Meta promises no order between a removal and an addition, so the next refresh sends these rows once more. They are kept
as positions in the entry's snapshot, in a small Parquet file beside it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

if TYPE_CHECKING:
    from pathlib import Path

    Flags = np.ndarray[tuple[int], np.dtype[np.bool_]]

_PLACE = "place"


def write_again(path: Path, again: Flags) -> Path | None:
    """Write the positions of the flagged rows.

    :param path: must not exist yet.
    :param again: a flag per row of the snapshot.
    :returns: the path; None, and no file, where no row is flagged.
    """
    places = np.flatnonzero(again)
    if not len(places):
        return None
    path.touch(mode=0o600, exist_ok=False)
    pq.write_table(pa.table({_PLACE: pa.array(places, pa.int64())}), path, compression="zstd")
    return path


def read_again(path: Path, *, rows: int, count: int) -> Flags | None:
    """Return a flag per row of the snapshot, or None where the file is not what was written.

    :param rows: of the snapshot.
    :param count: how many must be flagged.
    """
    again = np.zeros(rows, dtype=bool)
    try:
        places = pq.read_table(path).column(_PLACE).to_numpy()
        again[places] = True
    except Exception:  # noqa: BLE001 - damaged bytes make Arrow raise anything
        return None
    return again if np.count_nonzero(again) == count else None
