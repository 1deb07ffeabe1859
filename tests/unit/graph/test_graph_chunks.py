from __future__ import annotations

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from airflow_provider_fbca.exceptions import UsersError
from airflow_provider_fbca.graph.chunks import rechunk


@given(st.lists(st.integers(0, 12), max_size=10), st.integers(1, 10))
def test_chunks_are_exact_and_in_order_and_the_last_is_marked(sizes: list[int], size: int) -> None:
    total = sum(sizes)
    numbers = iter(range(total))
    batches = [pa.record_batch({"N": pa.array([next(numbers) for _ in range(count)], pa.int64())}) for count in sizes]
    chunks = list(rechunk(batches, size))
    assert [value for chunk, _ in chunks for value in chunk["N"].to_pylist()] == list(range(total))
    assert all(chunk.num_rows == size for chunk, _ in chunks[:-1])
    assert [last for _, last in chunks] == [False] * (len(chunks) - 1) + [True] * bool(chunks)
    assert len(chunks) == -(-total // size)


def test_one_batch_ahead_is_read_and_no_more() -> None:
    read = 0

    def rows() -> object:
        nonlocal read
        for _ in range(10):
            read += 1
            yield pa.record_batch({"N": [1, 2]})

    chunks = rechunk(rows(), 2)  # type: ignore[arg-type]
    next(chunks)
    assert read == 2


def test_dictionaries_that_differ_are_joined() -> None:
    batches = [pa.record_batch({"N": pa.array(values).dictionary_encode()}) for values in (["a", "b"], ["c", "a"])]
    [(chunk, _)] = rechunk(batches, 10)
    assert chunk["N"].to_pylist() == ["a", "b", "c", "a"]


def test_a_schema_that_changes_is_refused() -> None:
    with pytest.raises(UsersError, match="change between two batches"):
        list(rechunk([pa.record_batch({"N": [1]}), pa.record_batch({"M": [1]})], 10))
