"""Users from Arrow objects, and the callables that give them."""

from __future__ import annotations

import functools
import threading
import time

import pyarrow as pa
import pytest

from airflow_provider_fbca.exceptions import OptionsError, SourceError
from airflow_provider_fbca.warehouse import call_with_context, open_arrow

USERS = pa.table({"email": ["a", "", None], "n": [1, 2, 3]})


class Stream:
    """A frame of any library: all that one may count on."""

    def __init__(self, table):
        self._table = table

    def __arrow_c_stream__(self, requested_schema=None):
        return self._table.__arrow_c_stream__(requested_schema)


class Array:
    def __init__(self, batch):
        self._batch = batch

    def __arrow_c_array__(self, requested_schema=None):
        return self._batch.__arrow_c_array__(requested_schema)


def rows_of(source) -> list[dict]:
    return [row for batch in source.batches() for row in batch.to_pylist()]


@pytest.mark.parametrize(
    "make",
    [
        lambda: USERS,
        lambda: USERS.to_batches()[0],
        USERS.to_reader,
        lambda: Stream(USERS),
        lambda: Array(USERS.to_batches()[0]),
    ],
    ids=["table", "batch", "reader", "stream", "array"],
)
def test_whatever_speaks_arrow_is_read(make):
    with open_arrow(make(), batch_rows=2) as source:
        assert source.names == ("email", "n")
        assert source.route == "callable"
        batches = list(source.batches())
    assert max(batch.num_rows for batch in batches) <= 2
    assert [row for batch in batches for row in batch.to_pylist()] == USERS.to_pylist()


def test_a_relation_of_duckdb_streams():
    duckdb = pytest.importorskip("duckdb")
    with duckdb.connect() as session:
        relation = session.sql("SELECT i, md5(i::VARCHAR) AS a FROM range(100000000) t(i)")
        with open_arrow(relation, batch_rows=1000) as source:
            first = next(source.batches())
    assert source.names == ("i", "a")
    assert 0 < first.num_rows <= 1000


@pytest.mark.parametrize("library", ["polars", "pandas"])
def test_data_frames_are_read(library):
    frames = pytest.importorskip(library)
    frame = frames.DataFrame({"email": ["a", "b", "c"], "n": [1, 2, 3]})
    with open_arrow(frame) as source:
        assert [row["n"] for row in rows_of(source)] == [1, 2, 3]


def test_the_index_that_pandas_adds_is_no_column():
    table = pa.table({"email": ["a"], "__index_level_0__": [7]}).replace_schema_metadata({"pandas": "{}"})
    with open_arrow(table) as source:
        assert source.names == ("email",)
        assert rows_of(source) == [{"email": "a"}]


def test_a_one_shot_stream_is_read_once_and_lazily():
    made = []

    def generate():
        for number in range(100):
            made.append(number)
            yield pa.record_batch({"n": [number]})

    reader = pa.RecordBatchReader.from_batches(pa.schema({"n": pa.int64()}), generate())
    with open_arrow(reader) as source:
        batches = source.batches()
        assert next(batches)["n"].to_pylist() == [0]
        time.sleep(0.1)
        assert len(made) <= 4
        assert [batch["n"][0].as_py() for batch in batches] == list(range(1, 100))
        with pytest.raises(SourceError, match="read once"):
            source.batches()
    assert made == list(range(100))


def test_an_empty_table_has_names_and_no_batches():
    with open_arrow(USERS.slice(0, 0)) as source:
        assert source.names == ("email", "n")
        assert list(source.batches()) == []


def test_duplicate_and_missing_names_are_refused():
    for names, match in ((["a", "a"], "'a'"), (["a", ""], "place 2")):
        with open_arrow(pa.table([[1], [2]], names=names)) as source, pytest.raises(SourceError, match=match):
            source.names  # noqa: B018
    with open_arrow(pa.table({})) as source, pytest.raises(SourceError, match="no columns"):
        source.names  # noqa: B018


@pytest.mark.parametrize(
    ("value", "named"),
    [(None, "None"), ([{"email": "zoe.secret"}], "list"), ("zoe.secret", "str"), (iter(()), "tuple_iterator")],
)
def test_anything_else_is_named_by_its_type_alone(value, named, holds_no):
    with pytest.raises(SourceError, match=f"given as {named}, .*__arrow_c_stream__") as caught:
        open_arrow(value)
    assert caught.value.permanent
    holds_no(caught.value, "zoe.secret")


@pytest.mark.parametrize("value", [pa.array(["zoe.secret"]), pa.chunked_array([["zoe.secret"]])])
def test_one_column_is_no_table(value, holds_no):
    with open_arrow(value) as source, pytest.raises(SourceError, match="Array") as caught:
        source.names  # noqa: B018
    assert caught.value.permanent
    holds_no(caught.value, "zoe.secret")


def test_a_stream_that_fails_is_told_without_its_words(holds_no):
    def generate():
        yield pa.record_batch({"n": [1]})
        raise ValueError("zoe.secret")

    reader = pa.RecordBatchReader.from_batches(pa.schema({"n": pa.int64()}), generate())
    with open_arrow(reader) as source, pytest.raises(SourceError, match="after 1 rows") as caught:
        rows_of(source)
    holds_no(caught.value, "zoe.secret")


def test_a_stream_that_blocks_can_be_left():
    go_on = threading.Event()

    def generate():
        go_on.wait(20)
        yield pa.record_batch({"n": [1]})

    source = open_arrow(pa.RecordBatchReader.from_batches(pa.schema({"n": pa.int64()}), generate()))
    threading.Timer(0.1, source.cancel).start()
    threading.Timer(0.3, go_on.set).start()
    started = time.monotonic()
    with pytest.raises(SourceError, match="cancelled"):
        list(source.batches())
    assert time.monotonic() - started < 2
    source.close()


def test_context_variables_reach_a_lazy_stream():
    import contextvars

    where = contextvars.ContextVar("where")
    where.set("task")

    def generate():
        yield pa.record_batch({"place": [where.get()]})

    reader = pa.RecordBatchReader.from_batches(pa.schema({"place": pa.string()}), generate())
    with open_arrow(reader) as source:
        assert rows_of(source) == [{"place": "task"}]


# -- calling the user's function --------------------------------------------------------------------------------------

CONTEXT = {"ds": "2026-11-22", "params": {"n": 1}, "ti": object()}


def test_a_function_gets_the_keys_that_it_names():
    assert call_with_context(lambda: "none", CONTEXT) == "none"
    assert call_with_context(lambda ds: ds, CONTEXT) == "2026-11-22"
    assert call_with_context(lambda *, params, other=5: (params, other), CONTEXT) == ({"n": 1}, 5)
    assert call_with_context(lambda *args, ds=None: (args, ds), CONTEXT) == ((), "2026-11-22")


def test_a_function_with_open_keywords_gets_the_whole_context():
    assert call_with_context(lambda **context: context, CONTEXT) == CONTEXT
    assert call_with_context(lambda ds, **rest: sorted(rest), CONTEXT) == ["params", "ti"]


def test_bound_arguments_methods_and_objects_are_called_too():
    class Users:
        def read(self, ds):
            return ds

        def __call__(self, params):
            return params

    assert call_with_context(functools.partial(lambda table, ds: (table, ds), "users"), CONTEXT) == (
        "users",
        "2026-11-22",
    )
    assert call_with_context(functools.partial(lambda table, ds: (table, ds), table="u"), CONTEXT) == (
        "u",
        "2026-11-22",
    )
    assert call_with_context(functools.partial(lambda ds: ds, ds="mine"), CONTEXT) == "2026-11-22"
    assert call_with_context(Users().read, CONTEXT) == "2026-11-22"
    assert call_with_context(Users(), CONTEXT) == {"n": 1}
    assert call_with_context(dict, CONTEXT) == {}


def test_arguments_that_the_context_lacks_are_named():
    def users(table, ds, where):
        raise AssertionError

    with pytest.raises(OptionsError, match="users wants table, where,"):
        call_with_context(users, CONTEXT)
    with pytest.raises(OptionsError, match="wants ds,"):
        call_with_context(lambda ds, /: ds, CONTEXT)


def test_what_the_function_raises_passes_as_it_is():
    def users():
        raise KeyError("mine")

    with pytest.raises(KeyError, match="mine"):
        call_with_context(users, CONTEXT)
