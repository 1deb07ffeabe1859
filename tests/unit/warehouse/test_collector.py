"""How often Python's collector runs while rows are fetched."""

from __future__ import annotations

import gc
import threading

import pytest

from airflow_provider_fbca.warehouse import dbapi, open_sql
from airflow_provider_fbca.warehouse.collector import rarely_collecting


@pytest.fixture(autouse=True)
def usual():
    """Thresholds of the test's own, put back at its end."""
    before = gc.get_threshold()
    gc.set_threshold(700, 11, 12)
    yield (700, 11, 12)
    gc.set_threshold(*before)


def test_it_runs_rarely_only_inside(usual):
    with rarely_collecting():
        assert gc.isenabled()
        assert gc.get_threshold() == (200_000, 11, 12)
    assert gc.get_threshold() == usual


def test_an_error_leaves_it_as_it_was(usual):
    with pytest.raises(ValueError, match="x"), rarely_collecting():
        raise ValueError("x")
    assert gc.get_threshold() == usual


def test_the_last_of_many_threads_puts_it_back(usual):
    inside, leave = threading.Barrier(2), threading.Event()

    def read():
        with rarely_collecting():
            inside.wait(10)
            leave.wait(10)

    thread = threading.Thread(target=read)
    with rarely_collecting():
        thread.start()
        inside.wait(10)
    assert gc.get_threshold()[0] == 200_000
    leave.set()
    thread.join()
    assert gc.get_threshold() == usual


@pytest.mark.parametrize("threshold", [0, 500_000])
def test_one_that_runs_more_rarely_or_never_is_left_alone(threshold):
    gc.set_threshold(threshold, 11, 12)
    with rarely_collecting():
        assert gc.get_threshold()[0] == threshold
    assert gc.get_threshold()[0] == threshold


def test_it_is_so_while_rows_are_converted(sqlite, usual, monkeypatch):
    convert, seen = dbapi.text_batch, []

    def watched(*arguments):
        seen.append(gc.get_threshold()[0])
        return convert(*arguments)

    monkeypatch.setattr(dbapi, "text_batch", watched)
    with open_sql("SELECT 1 AS id", sql_conn_id=sqlite) as source:
        assert [batch.num_rows for batch in source.batches()] == [1]
    assert seen == [200_000]
    assert gc.get_threshold() == usual
