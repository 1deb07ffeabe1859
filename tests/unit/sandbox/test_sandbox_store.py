"""The stores under the members: the index at sizes where it grows, and rows read back from disk."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING

from sandbox_client import digest

from airflow_provider_fbca.sandbox.index import Index
from airflow_provider_fbca.sandbox.membership import Membership
from airflow_provider_fbca.sandbox.rowfile import RowFile

if TYPE_CHECKING:
    from pathlib import Path


def test_index_against_a_dict() -> None:
    index, model = Index(lambda row: True), {}
    chance = random.Random(7)
    for row in range(60_000):
        number = chance.randrange(-(2**63), 2**63) if row % 3 else chance.randrange(1, 500)
        if number == 0:
            continue
        if row % 7:
            assert index.claim(number, row) == model.setdefault(number, row)
        else:
            index.put(number, row)
            model[number] = row
    assert all(index.get(number) == row for number, row in model.items())
    assert index.get(10**15) is None


def test_index_forgets_dead_rows_as_it_grows() -> None:
    index = Index(lambda row: row >= 5_000)
    index.has_dead = True
    for row in range(100_000):
        index.claim(row + 1, row)
    assert all(index.get(row + 1) == row for row in range(5_000, 100_000))
    assert any(index.get(row + 1) is None for row in range(5_000))


def test_rows_read_back_from_disk(tmp_path: Path) -> None:
    """Repeating and unique columns, blanks, text and structured cells; enough for the file to leave memory."""
    rows, expected = RowFile(tmp_path), []
    for block in range(40):
        first = block * 1000
        columns = {
            "EMAIL": [digest(f"{first + place}") for place in range(1000)],
            "PHONE": [digest(f"{place}") if place % 2 else "" for place in range(1000)],
            "GEN": [digest("m"), ""] * 500,
            "ST": [digest(str(place % 300)) for place in range(1000)],
            "EXTERN_ID": [f"É {place}" for place in range(1000)],
            "DATA_PROCESSING_OPTIONS": [["LDU"], []] * 500,
            "LOOKALIKE_VALUE": [place / 7 for place in range(1000)],
        }
        rows.append(first, 1000, columns)
        expected.append((first, {key: list(cells) for key, cells in columns.items()}))
    assert list(rows.blocks()) == expected
    assert list(tmp_path.iterdir()) == []
    rows.close()


def test_empty_membership() -> None:
    members = Membership()
    assert list(members.members()) == []
    assert (members.people, members.rows) == (0, 0)
    members.close()
