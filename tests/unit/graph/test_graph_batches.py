"""Batches that Meta, or the way to it, does not take as they are: too large, or with rows that it refuses."""

from __future__ import annotations

import gc
import json
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import pytest
from graph_meta import Meta, Reports, names
from graph_wire import error_body, people
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from airflow_provider_fbca.exceptions import (
    GraphAuthError,
    GraphBusyError,
    GraphRequestError,
    GraphRowsRefusedError,
    GraphTransientError,
)
from airflow_provider_fbca.graph.chunks import Piece
from airflow_provider_fbca.graph.payload import Payload
from airflow_provider_fbca.graph.refusals import Refusals
from airflow_provider_fbca.graph.sizes import Sizes
from airflow_provider_fbca.graph.transport import Answer, Request
from airflow_provider_fbca.graph.upload import ReplaceState

if TYPE_CHECKING:
    from collections.abc import Callable, Collection

OPERATIONS = {"add": "add_users", "remove": "remove_users", "replace": "replace_users"}
LOST = GraphTransientError("no answer", outcome_unknown=True)


def says(code: int, subcode: int | None = None, *, status: int = 400, **more: Any) -> Answer:
    return Answer(status, {}, json.dumps(error_body(code, subcode, **more)).encode())


COMPLAINTS: dict[str, Answer | GraphTransientError] = {
    "413": Answer(413, {}, b"<html>Request Entity Too Large</html>"),
    "105": says(105),
    "1": says(1, status=500),
    "1/99": says(1, 99, status=500),
    "html": Answer(502, {}, b"<html>"),
    "broken": LOST,
}
BAD_DATA = says(100)


class Door:
    """Stands before the sandbox and turns away what it does not like; what it lets through is really carried out."""

    def __init__(self, meta: Meta, answer: Callable[[list[str]], Answer | GraphTransientError | None]) -> None:
        self.turned_away: list[int] = []
        self.let_through: list[int] = []
        exchange = meta.api._transport.exchange

        def guarded(request: Any) -> Answer:
            body = json.loads(request.body or b"{}")
            if "payload" not in body:
                return exchange(request)
            rows = [row[0] for row in body["payload"]["data"]]
            reply = answer(rows)
            (self.turned_away if reply else self.let_through).append(len(rows))
            if isinstance(reply, GraphTransientError):
                raise reply
            return reply or exchange(request)

        meta.api._transport.exchange = guarded  # type: ignore[method-assign]


def larger_than(most: int, complaint: str) -> Callable[[list[str]], Answer | GraphTransientError | None]:
    return lambda rows: COMPLAINTS[complaint] if len(rows) > most else None


def with_any_of(bad: Collection[int]) -> Callable[[list[str]], Answer | None]:
    refused = {f"c{row}" for row in bad}
    return lambda rows: BAD_DATA if not refused.isdisjoint(rows) else None


def send(meta: Meta, verb: str, rows: int, *, bad: Collection[int] = (), **options: Any) -> Reports:
    """Send people of whom Meta refuses some, and check who is in and what was told."""
    told = Reports()
    if verb == "remove":
        meta.sandbox.seed(meta.audience, [{"EXTERN_ID": f"c{number}"} for number in range(rows)])
    upload = meta.uploader(on_batch=told, **{"batch_size": 2000} | options)
    if bad:
        with pytest.raises(GraphRowsRefusedError) as caught:
            getattr(upload, verb)(people(rows), total=rows)
        assert caught.value.rows == tuple(sorted(bad))
        assert caught.value.acknowledged == rows - len(bad)
        assert caught.value.permanent
    else:
        assert getattr(upload, verb)(people(rows), total=rows).rows == rows
    meta.clock.advance(60)
    left_out = {f"c{row}" for row in bad}
    assert meta.names() == (left_out if verb == "remove" else names(0, rows) - left_out)
    assert sorted(told.rows) == sorted(set(range(rows)) - set(bad))
    return told


def close_unfinished(meta: Meta, answer: Callable[[list[str]], Answer | GraphTransientError | None]) -> ReplaceState:
    """Let a replace break off after its first batch, and close it at a door of that kind."""
    meta.sandbox.fault("drop", when="before", operation="replace_users", nth=2, count=20)
    upload = meta.uploader(batch_size=500)
    with pytest.raises(GraphTransientError):
        upload.replace(people(2500), total=2500)
    meta.sandbox.clear_faults()
    Door(meta, answer)
    [last] = people(2000, start=500, step=2000)
    return upload.close_replace(meta.begun[-1], last, batch_seq=2, total=2500)


def closings(meta: Meta, verb: str) -> list[bool]:
    """Whether each batch that was taken closed its session, in order."""
    return [call["last_batch_flag"] for call in meta.sandbox.requests(OPERATIONS[verb]) if not call["error"]]


@pytest.mark.parametrize("verb", ["add", "remove", "replace"])
class TestSize:
    @pytest.mark.parametrize("complaint", COMPLAINTS)
    def test_what_is_too_large_goes_in_parts(self, meta: Meta, verb: str, complaint: str) -> None:
        door = Door(meta, larger_than(600, complaint))
        send(meta, verb, 5000)
        assert max(door.let_through) <= 600
        assert closings(meta, verb).count(True) == 1
        assert closings(meta, verb)[-1]

    def test_later_batches_are_small_from_the_start(self, meta: Meta, verb: str) -> None:
        door = Door(meta, larger_than(500, "413"))
        send(meta, verb, 4000, max_concurrency=1)
        assert door.turned_away == [2000, 1000]
        assert door.let_through == [500] * 8

    def test_five_hundred_rows_are_not_cut(self, meta: Meta, verb: str) -> None:
        door = Door(meta, larger_than(499, "413"))
        with pytest.raises(GraphRequestError, match="too large"):
            meta.uploader(batch_size=2000).add(people(2000), total=2000)
        assert door.turned_away[-1] == 500
        assert min(door.turned_away) == 500


class TestSizeOnABadLine:
    @pytest.mark.parametrize("complaint", ["1", "html", "broken"])
    def test_one_lost_answer_is_no_matter_of_size(self, meta: Meta, complaint: str) -> None:
        replies = iter([COMPLAINTS[complaint]])
        door = Door(meta, lambda _rows: next(replies, None))
        send(meta, "add", 2000)
        assert (door.turned_away, door.let_through) == ([2000], [2000])

    @pytest.mark.parametrize("verb", ["add", "remove", "replace"])
    def test_a_last_batch_that_had_got_through_may_be_cut(self, meta: Meta, verb: str) -> None:
        meta.sandbox.fault("drop", when="after", operation=OPERATIONS[verb], nth=2, count=2)
        send(meta, verb, 4000)
        assert min(call["rows"] for call in meta.sandbox.requests(OPERATIONS[verb])) < 2000

    def test_later_batches_of_a_replace_are_cut(self, meta: Meta) -> None:
        begun: list[int] = []

        def answer(rows: list[str]) -> Answer | None:
            begun.append(1)
            return COMPLAINTS["1"] if len(begun) > 1 and len(rows) > 1000 else None  # type: ignore[return-value]

        Door(meta, answer)
        send(meta, "replace", 8000)
        assert closings(meta, "replace")[-1]

    @pytest.mark.parametrize("rows", [600, 2000, 2001])
    @pytest.mark.parametrize("when", ["before", "after", "late"])
    @pytest.mark.parametrize("count", [1, 2])
    def test_a_large_first_batch_of_a_replace_may_be_lost(self, meta: Meta, rows: int, when: str, count: int) -> None:
        meta.sandbox.fault("drop", when=when, lands_after=3, operation="replace_users", count=count)
        send(meta, "replace", rows)
        assert len(set(meta.firsts())) == len(meta.firsts())

    @pytest.mark.parametrize("complaint", COMPLAINTS)
    def test_a_replace_that_was_left_unfinished_is_closed_all_the_same(self, meta: Meta, complaint: str) -> None:
        assert close_unfinished(meta, larger_than(500, complaint)) is ReplaceState.CLOSED

    @pytest.mark.parametrize("bad", [[501], [502, 700], [999]])
    def test_a_replace_that_was_left_unfinished_is_closed_around_bad_rows(self, meta: Meta, bad: list[int]) -> None:
        assert close_unfinished(meta, with_any_of(bad)) is ReplaceState.CLOSED

    def test_a_replace_whose_closing_row_is_refused_is_left_to_meta(self, meta: Meta) -> None:
        with pytest.raises(GraphRequestError):
            close_unfinished(meta, with_any_of([500]))

    def test_what_no_size_helps_against_is_told_as_it_is(self, meta: Meta) -> None:
        door = Door(meta, larger_than(0, "broken"))
        with pytest.raises(GraphTransientError):
            meta.uploader(batch_size=2000, max_concurrency=1).add(people(6000), total=6000)
        assert door.turned_away == [2000] * 2 + [1000] * 2 + [500] * 5


class TestSizes:
    def test_they_grow_back(self) -> None:
        sizes = Sizes(10_000)
        assert sizes.complain(10_000) == 5000
        assert sizes.complain(10_000) == 5000
        assert sizes.complain(5000) == 2500
        for _ in range(16):
            sizes.acknowledge(2500)
        assert sizes.rows == 5000
        for _ in range(16):
            sizes.acknowledge(5000)
        assert sizes.rows == 10_000

    def test_small_batches_and_those_before_a_complaint_prove_nothing(self) -> None:
        sizes = Sizes(10_000)
        sizes.complain(10_000)
        for _ in range(7):
            sizes.acknowledge(5000)
        sizes.complain(5001)
        for _ in range(15):
            sizes.acknowledge(400)
            sizes.acknowledge(5000)
        assert sizes.rows < 10_000

    def test_a_limit_that_stays_is_tried_ever_more_seldom(self) -> None:
        sizes, complaints = Sizes(10_000), 0
        for _ in range(20_000):
            if sizes.rows > 1000:
                sizes.complain(sizes.rows)
                complaints += 1
            else:
                sizes.acknowledge(sizes.rows)
        assert complaints < 60

    @pytest.mark.parametrize("most", [1, 499, 500])
    def test_what_is_small_stays_as_it_is(self, most: int) -> None:
        sizes = Sizes(most)
        for _ in range(100):
            sizes.acknowledge(most)
        assert sizes.rows == most


@pytest.mark.parametrize("verb", ["add", "remove", "replace"])
class TestRows:
    @pytest.mark.parametrize("bad", [[0], [999], [1000], [2999], [0, 1, 2999], [998, 1001]])
    def test_the_others_go_through_and_the_refused_are_told(self, meta: Meta, verb: str, bad: list[int]) -> None:
        Door(meta, with_any_of(bad))
        send(meta, verb, 3000, bad=bad, batch_size=1000)
        assert closings(meta, verb).count(True) == 1
        assert closings(meta, verb)[-1]

    def test_no_session_has_two_first_batches(self, meta: Meta, verb: str) -> None:
        Door(meta, with_any_of([0]))
        send(meta, verb, 100, bad=[0])
        if verb == "replace":
            assert len(set(meta.firsts())) == len(meta.firsts())

    def test_a_single_row_that_is_refused_is_all_there_is(self, meta: Meta, verb: str) -> None:
        Door(meta, with_any_of([0]))
        with pytest.raises(GraphRowsRefusedError) as caught:
            getattr(meta.uploader(), verb)(people(1), total=1)
        assert (caught.value.rows, caught.value.acknowledged) == ((0,), 0)

    @pytest.mark.parametrize("concurrency", [1, 4])
    def test_where_nothing_passes_meta_s_error_is_told_after_few_requests(
        self, meta: Meta, verb: str, concurrency: int
    ) -> None:
        door = Door(meta, lambda _rows: BAD_DATA)
        with pytest.raises(GraphRequestError) as caught:
            getattr(meta.uploader(batch_size=10_000, max_concurrency=concurrency), verb)(people(50_000), total=50_000)
        assert not isinstance(caught.value, GraphRowsRefusedError)
        assert len(door.turned_away) <= 64 + concurrency

    def test_what_only_passes_when_sent_again_was_no_matter_of_rows(self, meta: Meta, verb: str) -> None:
        replies = iter([None, BAD_DATA])
        Door(meta, lambda _rows: next(replies, None))
        send(meta, verb, 300, batch_size=100, max_concurrency=1)


class TestManyRows:
    def test_the_search_has_a_bound_and_tells_what_it_has_found(self, meta: Meta) -> None:
        door = Door(meta, with_any_of(range(0, 20_000, 100)))
        with pytest.raises(GraphRowsRefusedError, match="may refuse more") as caught:
            meta.uploader(batch_size=1000, max_concurrency=1).add(people(20_000), total=20_000)
        assert len(door.turned_away) == 64
        assert caught.value.rows
        assert all(row % 100 == 0 for row in caught.value.rows)
        assert not caught.value.all_found

    def test_twenty_numbers_are_shown(self) -> None:
        error = GraphRowsRefusedError(GraphRequestError("Meta refused it"), tuple(range(1000, 1030)))
        assert "1,019 and 10 more" in str(error)
        assert "1,020" not in str(error)
        assert "30 of the rows" in str(error)

    def test_meta_s_codes_and_reason_are_kept(self, meta: Meta) -> None:
        Door(meta, with_any_of([5]))
        with pytest.raises(GraphRowsRefusedError, match=r"parameter is not valid.*fbtrace_id AbC123_-") as caught:
            meta.uploader().add(people(10), total=10)
        assert (caught.value.code, caught.value.fbtrace_id, caught.value.http_status) == (100, "AbC123_-", 400)

    def test_refusals_between_which_others_pass_are_a_matter_of_rows(self) -> None:
        [rows] = people(1)
        refusals = Refusals()
        for first_row in range(20):
            assert refusals.take(Piece(rows, first_row), GraphRequestError("no", code=100)) is None
            refusals.acknowledge()
        assert refusals.error().rows == tuple(range(20))  # type: ignore[union-attr]


@pytest.mark.parametrize(
    ("answer", "error"),
    [
        (says(100, message="Invalid appsecret_proof provided in the API argument"), GraphAuthError),
        (says(100, 1713230), Exception),
        (says(2650, 1870145), GraphBusyError),
        (says(190), GraphAuthError),
        (says(2650), GraphRequestError),
    ],
)
def test_refusals_that_are_about_something_else_end_the_upload_at_once(
    meta: Meta, answer: Answer, error: type[Exception]
) -> None:
    door = Door(meta, lambda _rows: answer)
    with pytest.raises(error):
        meta.uploader(max_concurrency=1).add(people(300), total=300)
    assert door.turned_away == [100]


@pytest.mark.parametrize(
    ("fault", "answer"),
    [
        ("drop", lambda _rows: None),
        ("graph", lambda _rows: None),
        ("drop", with_any_of([5, 2500, 7000])),
        ("graph", larger_than(600, "413")),
    ],
)
def test_bodies_are_let_go_when_their_requests_are_over_without_a_garbage_collection(
    meta: Meta, fault: str, answer: Callable[[list[str]], Answer | GraphTransientError | None]
) -> None:
    Door(meta, answer)
    for nth in range(3, 30, 3):
        meta.sandbox.fault(fault, operation="add_users", nth=nth)
    exchange, held = meta.api._transport.exchange, [0]

    def count() -> int:
        return sum(type(each) in (Payload, Request) for each in gc.get_objects())

    def counted(request: Any) -> Answer:
        held[0] = max(held[0], count())
        return exchange(request)

    meta.api._transport.exchange = counted  # type: ignore[method-assign]
    gc.collect()
    before = count()
    gc.disable()
    try:
        with suppress(GraphRowsRefusedError):
            meta.uploader(batch_size=1000, max_concurrency=1).add(people(12_000), total=12_000)
    finally:
        gc.enable()
    assert len(meta.names()) >= 12_000 - 3
    # The request, its payload, one that was prepared, one that came back, and what the thread has not yet let go; of
    # twelve batches at least.
    assert held[0] - before <= 8


@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    verb=st.sampled_from(["add", "remove", "replace"]),
    rows=st.integers(1, 4000),
    batch_size=st.sampled_from([70, 700, 2000]),
    concurrency=st.integers(1, 4),
    bad=st.sets(st.integers(0, 3999), max_size=3),
    most=st.sampled_from([500, 900, 10_000]),
    complaint=st.sampled_from(["413", "105", "broken", "1"]),
    lost=st.lists(
        st.tuples(
            st.sampled_from(["drop", "server_error", "empty"]),
            st.sampled_from(["before", "after", "late"]),
            st.integers(1, 12),
        ),
        max_size=4,
    ),
    waits=st.lists(st.sampled_from([0, 0, 60, 2000, 4900]), max_size=6),
)
def test_whatever_happens_to_batches_every_row_is_in_or_told(
    clocked: Any,
    verb: str,
    rows: int,
    batch_size: int,
    concurrency: int,
    bad: set[int],
    most: int,
    complaint: str,
    lost: list[tuple[str, str, int]],
    waits: list[float],
) -> None:
    sandbox, clock = clocked
    sandbox.reset()
    meta = Meta(sandbox, clock)
    if verb == "replace":
        waits = []
    for kind, when, nth in lost:
        sandbox.fault(kind, when=when, nth=nth, lands_after=3, operation=OPERATIONS[verb])
    bad = {row for row in bad if row < rows - 3}
    too_large, refused = larger_than(most, complaint), with_any_of(bad)
    Door(meta, lambda sent: too_large(sent) or refused(sent))
    left = iter(waits)
    options = {"before_request": lambda: clock.advance(next(left, 0))}
    try:
        send(meta, verb, rows, bad=bad, batch_size=batch_size, max_concurrency=concurrency, **options)
    except GraphTransientError:
        # The first batch of a replace was lost three times.
        assert verb == "replace"
        assert len(lost) >= 3
