"""Replacing everybody: the first batch (rule L9), and when Meta is done (rule S6), by a clock that the test moves."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

import pytest
from graph_meta import FLIGHT, Meta, names
from graph_wire import AUDIENCE, TOKEN, OddServer, Reply, Seen, people, refused
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from airflow_provider_fbca.exceptions import (
    GraphBusyError,
    GraphFlaggedError,
    GraphPermissionError,
    GraphReplaceFailedError,
    GraphRetryableError,
    GraphTransientError,
)
from airflow_provider_fbca.graph.api import GraphApi
from airflow_provider_fbca.graph.retry import RetryPolicy
from airflow_provider_fbca.graph.upload import ReplaceEnd, ReplaceState, UserUploader

if TYPE_CHECKING:
    from collections.abc import Callable


def replace_and_wait(meta: Meta, rows: int, *, start: int = 0, **options: Any) -> Any:
    upload = meta.uploader(**options)
    totals = upload.replace(people(rows, start=start), total=rows)
    upload.wait_until_replaced(totals.session_ids[-1])
    return totals


#: Faults after which nobody knows whether the call was carried out.
LOST = ["drop", "reset", "cut", "server_error", "html_ok", "empty", "truncated_json", "json_list", "not_http", "graph"]


@pytest.mark.parametrize("rows", [80, 100, 350])
class TestFirstBatchWithoutAnAnswer:
    """Rule L9."""

    @pytest.mark.parametrize("kind", LOST)
    def test_l9_it_did_not_arrive_so_another_session_begins(self, meta: Meta, kind: str, rows: int) -> None:
        meta.sandbox.fault(kind, when="before", operation="replace_users")
        totals = replace_and_wait(meta, rows)
        assert meta.names() == names(0, rows)
        assert totals.session_ids == (1, 2)
        assert totals.rows == rows
        calls = meta.sandbox.requests("replace_users")
        assert [(call["session_id"], call["batch_seq"], call["error"]) for call in calls[1:3]] == [
            ("1", 2, "2650/1870147"),
            ("2", 1, None),
        ]

    @pytest.mark.parametrize("kind", LOST)
    def test_l9_it_arrived_so_its_session_goes_on(self, meta: Meta, kind: str, rows: int) -> None:
        meta.sandbox.fault(kind, when="after", operation="replace_users")
        totals = replace_and_wait(meta, rows)
        assert meta.names() == names(0, rows)
        assert totals.session_ids == (1,)
        assert totals.rows == rows
        assert meta.firsts() == [1]

    @pytest.mark.parametrize("lands_after", [0, 1, FLIGHT - 1])
    def test_l9_it_lands_late_and_is_waited_for(self, meta: Meta, lands_after: float, rows: int) -> None:
        meta.sandbox.fault("drop", when="late", lands_after=lands_after, operation="replace_users")
        before = meta.clock.now()
        upload = meta.uploader()
        totals = upload.replace(people(rows), total=rows)
        assert meta.clock.now() >= before + FLIGHT
        upload.wait_until_replaced(totals.session_ids[-1])
        assert meta.names() == names(0, rows)
        assert meta.firsts() == [1]

    def test_l9_its_answer_is_lost_and_so_is_that_of_the_question(self, meta: Meta, rows: int) -> None:
        meta.sandbox.fault("drop", when="after", operation="replace_users", count=2)
        totals = replace_and_wait(meta, rows)
        assert meta.names() == names(0, rows)
        assert (totals.session_ids, meta.firsts()) == ((1,), [1])

    def test_l9_no_session_has_two_first_batches_however_many_are_lost(self, meta: Meta, rows: int) -> None:
        meta.sandbox.fault("drop", operation="replace_users", nth=1)
        meta.sandbox.fault("drop", operation="replace_users", nth=3)
        meta.sandbox.fault("drop", operation="replace_users", nth=5)
        with pytest.raises(GraphTransientError) as caught:
            meta.uploader().replace(people(rows), total=rows)
        assert caught.value.outcome_unknown
        assert meta.firsts() == meta.begun == [1, 2, 3]

    def test_l9_a_session_is_noted_before_it_is_used(self, meta: Meta, rows: int) -> None:
        used: list[list[int]] = []

        def note() -> int:
            used.append(meta.firsts())
            return meta.new_session()

        meta.sandbox.fault("drop", operation="replace_users")
        replace_and_wait(meta, rows, new_session=note)
        assert used == [[], [1]]


@pytest.mark.parametrize("kind", LOST)
@pytest.mark.parametrize("when", ["before", "after"])
@pytest.mark.parametrize("count", [1, 3])
class TestLastBatchWithoutAnAnswer:
    """It closes the session once, however often it is sent."""

    def test_of_a_replace(self, meta: Meta, kind: str, when: str, count: int) -> None:
        meta.sandbox.fault(kind, when=when, count=count, nth=4, operation="replace_users")
        totals = replace_and_wait(meta, 350)
        assert meta.names() == names(0, 350)
        assert (totals.rows, totals.session_ids) == (350, (1,))

    def test_of_a_removal(self, meta: Meta, kind: str, when: str, count: int) -> None:
        meta.uploader().add(people(400), total=400)
        meta.sandbox.fault(kind, when=when, count=count, nth=4, operation="remove_users")
        totals = meta.uploader().remove(people(350), total=350)
        assert meta.names() == names(350, 400)
        assert (totals.rows, totals.session_ids) == (350, (2,))


def test_l9_the_flight_is_waited_out_before_the_first_batch_is_asked_for(meta: Meta) -> None:
    meta.sandbox.fault("drop", operation="replace_users")
    sent_at: list[float] = []
    meta.uploader(before_request=lambda: sent_at.append(meta.clock.now())).replace(people(50), total=50)
    first, question, again = sent_at
    assert question - first == pytest.approx(FLIGHT)
    assert again == question


def test_l9_an_answer_that_never_comes(clocked: Any) -> None:
    sandbox, clock = clocked
    sandbox.reset()
    meta = Meta(sandbox, clock)
    meta.connect(timeout=1)
    sandbox.fault("timeout", when="late", lands_after=1.5, seconds=20, operation="replace_users")
    replace_and_wait(meta, 250)
    assert meta.names() == names(0, 250)
    assert meta.firsts() == [1]
    assert meta.slept[0] == pytest.approx(2, abs=0.01)


def test_l9_the_wait_for_the_flight_may_be_ended(meta: Meta) -> None:
    def stop(_seconds: float) -> None:
        raise InterruptedError

    meta.sandbox.fault("drop", operation="replace_users")
    with pytest.raises(InterruptedError):
        meta.uploader(sleep=stop).replace(people(50), total=50)
    assert len(meta.sandbox.requests("replace_users")) == 1


def test_l9_what_surely_was_not_sent_needs_no_question(meta: Meta) -> None:
    gone = OddServer()
    gone.close()
    api = GraphApi(access_token=TOKEN, base_url=gone.url, timeout=5, retry=RetryPolicy(sleep=lambda _seconds: None))
    tries: list[int] = []
    upload = UserUploader(
        api, AUDIENCE, new_session=meta.new_session, sleep=meta.sleep, before_request=lambda: tries.append(1)
    )
    with pytest.raises(GraphTransientError) as caught:
        upload.replace(people(10), total=10)
    assert not caught.value.outcome_unknown
    assert (meta.begun, meta.slept, len(tries)) == ([1], [], api.retry.attempts)


def test_l9_a_question_that_is_refused_for_another_reason_is_told(odd: OddServer, odd_api: GraphApi) -> None:
    odd.say(Reply(drop=True), refused(200))
    upload = UserUploader(odd_api, AUDIENCE, new_session=lambda: 7, sleep=lambda _seconds: None)
    with pytest.raises(GraphPermissionError):
        upload.replace(people(10), total=10)
    assert len(odd.seen) == 2


def test_l9_a_replace_of_someone_else_is_not_taken_for_ours(meta: Meta) -> None:
    theirs = meta.uploader(new_session=lambda: 999)
    meta.sandbox.fault("graph", operation="replace_users", nth=2, code=200, is_transient=False, status=400)
    with pytest.raises(GraphPermissionError):
        theirs.replace(people(300, start=1000), total=300)
    meta.sandbox.fault("drop", operation="replace_users")
    with pytest.raises(GraphBusyError):
        meta.uploader().replace(people(50), total=50)
    meta.clock.advance(3 * 3600)
    assert meta.names().isdisjoint(names(0, 50))


def test_a_last_batch_that_met_the_end_of_its_90_minutes_did_not_get_through(meta: Meta) -> None:
    sent = 0

    def pass_time() -> None:
        nonlocal sent
        sent += 1
        if sent == 4:
            # Meta's clock may be ahead of ours: its 90 minutes end between the two tries of the last batch.
            meta.sandbox.advance(90 * 60)

    meta.sandbox.fault("drop", when="before", operation="replace_users", nth=3)
    upload = meta.uploader(clock=lambda: 0.0, before_request=pass_time)
    with pytest.raises(GraphRetryableError) as caught:
        upload.replace(people(300), total=300)
    assert caught.value.subcode == 1870158
    meta.clock.advance(60)
    assert meta.names() == names(0, 200)


class TestWaiting:
    """Rule S6: when a replace is done."""

    @pytest.mark.parametrize("seconds", [0, 1, 59, 60, 3600])
    @pytest.mark.parametrize("shows_after", [0, 45, 100_000])
    def test_s6_done_is_not_before_the_people_are_in(self, meta: Meta, seconds: float, shows_after: float) -> None:
        meta.uploader().add(people(50, start=5000), total=50)
        meta.sandbox.change(replace_seconds=seconds, replace_shows_after_seconds=shows_after)
        before = meta.clock.now()
        replace_and_wait(meta, 250)
        assert meta.names() == names(0, 250)
        assert meta.clock.now() - before <= seconds + 61

    def test_s6_normal_counts_once_the_replace_was_seen(self, meta: Meta) -> None:
        statuses = iter([200, 200, 414, 414, 200])
        end, reads = watched(meta, lambda: {"operation_status": {"code": next(statuses)}, "time_content_updated": 5})
        assert (end, reads) == (ReplaceEnd.DONE, 5)

    @pytest.mark.parametrize("status", [{"code": 200}, {"status": 200}, {"code": "200"}, {"code": 411}, {"code": 412}])
    def test_s6_a_later_change_counts(self, meta: Meta, status: dict[str, Any]) -> None:
        changed = iter([5, 5, "6"])
        end, reads = watched(meta, lambda: {"operation_status": status, "time_content_updated": next(changed)})
        assert (end, reads) == (ReplaceEnd.DONE, 3)

    def test_s6_the_first_content_of_an_audience_is_a_change(self, meta: Meta) -> None:
        answers = iter(
            [{"operation_status": {"code": 410}}, {"operation_status": {"code": 200}, "time_content_updated": 9}]
        )
        assert watched(meta, lambda: next(answers)) == (ReplaceEnd.DONE, 2)

    def test_s6_a_session_that_reads_as_finished_counts(self, meta: Meta) -> None:
        done = iter([False, True])

        def sessions() -> list[dict[str, str]]:
            finished = next(done)
            stage = {"progress": "100", "stage": "finished"} if finished else {"progress": "100", "stage": "uploading"}
            return [{"session_id": "8", "progress": "100", "stage": "finished"}, {"session_id": "7", **stage}]

        assert watched(meta, lambda: {"operation_status": {"code": 200}}, sessions)[0] is ReplaceEnd.DONE
        assert list(done) == []

    @pytest.mark.parametrize("code", [0, 410, 414, 441, None, "?"])
    def test_s6_anything_else_is_not_done(self, meta: Meta, code: Any) -> None:
        finished = [{"session_id": "7", "progress": "100", "stage": "finished"}]
        end, _ = watched(
            meta, lambda: {"operation_status": {"code": code}, "time_content_updated": 5}, lambda: finished
        )
        assert end is ReplaceEnd.WORKING
        assert sum(meta.slept) == pytest.approx(600)

    def test_s6_meta_that_tells_nothing_is_waited_for_so_long_as_it_can_take(self, meta: Meta) -> None:
        end, reads = watched(meta, lambda: {"operation_status": {"code": 200}, "time_content_updated": 5})
        assert end is ReplaceEnd.UNKNOWN
        assert sum(meta.slept) == pytest.approx(600)
        assert reads < 20

    def test_s6_two_hours_without_an_end_are_an_error_that_passes(self, meta: Meta) -> None:
        meta.sandbox.change(replace_seconds=1e6)
        with pytest.raises(GraphBusyError, match="120 minutes") as caught:
            replace_and_wait(meta, 150)
        assert not caught.value.permanent

    def test_s6_a_failed_replace_is_told(self, meta: Meta) -> None:
        meta.uploader().add(people(10, start=5000), total=10)
        meta.sandbox.change(replace_seconds=600, replace_fails=True)
        with pytest.raises(GraphReplaceFailedError, match="415") as caught:
            replace_and_wait(meta, 150)
        assert not caught.value.permanent
        assert meta.names() == names(5000, 5010)

    @pytest.mark.parametrize("shows_after", [1, 30, 290])
    def test_s6_a_status_from_an_earlier_failure_is_not_about_this_replace(
        self, meta: Meta, shows_after: float
    ) -> None:
        meta.sandbox.change(replace_fails=True)
        with pytest.raises(GraphReplaceFailedError):
            replace_and_wait(meta, 150)
        meta.sandbox.change(replace_fails=False, replace_seconds=600, replace_shows_after_seconds=shows_after)
        replace_and_wait(meta, 150)
        assert meta.names() == names(0, 150)

    def test_s6_a_failure_that_stays_is_about_this_replace_though_no_session_tells(self, meta: Meta) -> None:
        end, _ = watched(meta, lambda: {"operation_status": {"code": 415}})
        assert end is ReplaceEnd.FAILED
        assert 300 <= sum(meta.slept) < 420

    @pytest.mark.parametrize("code", [470, 471, 500])
    def test_s6_an_audience_that_needs_a_person_ends_the_wait(self, meta: Meta, code: int) -> None:
        upload = meta.uploader()
        totals = upload.replace(people(50), total=50)
        meta.sandbox.pretend(meta.audience, operation_status=code)
        with pytest.raises(GraphFlaggedError, match=str(code)) as caught:
            upload.wait_until_replaced(totals.session_ids[-1])
        assert caught.value.permanent

    def test_s6_a_reading_that_fails_does_not_end_the_wait(self, meta: Meta) -> None:
        meta.sandbox.change(replace_seconds=300)
        meta.sandbox.fault("server_error", operation="read_audience", nth=2, count=12)
        replace_and_wait(meta, 150)
        assert meta.names() == names(0, 150)

    def test_s6_an_error_of_the_connection_ends_the_wait(self, meta: Meta) -> None:
        meta.sandbox.fault("graph", operation="read_audience", code=200, is_transient=False, status=403)
        with pytest.raises(GraphPermissionError):
            replace_and_wait(meta, 150)

    def test_s6_the_check_runs_before_each_reading_and_may_end_the_wait(self, meta: Meta) -> None:
        class LeaseGoneError(Exception):
            pass

        meta.sandbox.change(replace_seconds=600)
        upload = meta.uploader(before_request=lambda: checks.append(1))
        checks: list[int] = []
        totals = upload.replace(people(50), total=50)
        upload.wait_until_replaced(totals.session_ids[-1])
        assert len(checks) == len(meta.sandbox.requests()) - 1  # the audience was created without

        def gone() -> None:
            if len(meta.sandbox.requests("replace_users")) == 2:
                raise LeaseGoneError

        with pytest.raises(LeaseGoneError):
            replace_and_wait(meta, 50, before_request=gone)

    def test_s6_the_wait_may_be_ended(self, meta: Meta) -> None:
        def stop(_seconds: float) -> None:
            raise InterruptedError

        with pytest.raises(InterruptedError):
            replace_and_wait(meta, 150, sleep=stop)

    def test_s6_the_log_tells_each_minute(self, meta: Meta, caplog: Any) -> None:
        caplog.set_level(logging.INFO, "airflow_provider_fbca.graph.watching")
        meta.sandbox.change(replace_seconds=600)
        replace_and_wait(meta, 150)
        assert 8 <= sum("Meta is at work" in text for text in caplog.messages) <= 10


def watched(
    meta: Meta, audience: Callable[[], dict[str, Any]], sessions: Callable[[], list[dict[str, str]]] = list
) -> tuple[ReplaceEnd, int]:
    """Watch session 7 of an audience that says whatever a test wants; gives the end and how often it was read."""
    odd = OddServer()
    reads = 0

    def answer(seen: Seen) -> Reply:
        nonlocal reads
        if seen.path.endswith("/sessions"):
            return Reply(200, {"data": sessions()})
        reads += 1
        return Reply(200, {"id": AUDIENCE, **audience()})

    odd.answer = answer
    try:
        api = GraphApi(access_token=TOKEN, base_url=odd.url, timeout=5)
        upload = UserUploader(api, AUDIENCE, new_session=meta.new_session, clock=meta.clock.now, sleep=meta.sleep)
        return upload.watch_replaces([7], 600), reads
    finally:
        odd.close()


def test_closing_while_meta_is_at_work_on_another_replace(odd: OddServer, odd_api: GraphApi) -> None:
    odd.say(refused(2650, 1870145))
    [rows] = people(10)
    upload = UserUploader(odd_api, AUDIENCE, new_session=lambda: 7)
    assert upload.close_replace(7, rows, batch_seq=2, total=10) is ReplaceState.BUSY


def test_closing_sends_so_many_rows_as_a_body_holds(meta: Meta) -> None:
    meta.sandbox.fault("graph", operation="replace_users", nth=2, code=200, is_transient=False, status=400)
    with pytest.raises(GraphPermissionError):
        meta.uploader().replace(people(300), total=300)
    [rows] = people(100, start=200)
    small = meta.uploader(max_body_bytes=4096)
    assert small.close_replace(1, rows, batch_seq=3, total=300) is ReplaceState.CLOSED
    last = meta.sandbox.requests("replace_users")[-1]
    assert 0 < last["rows"] < 100
    assert last["body_bytes"] <= 4096


faults = st.lists(
    st.tuples(
        st.sampled_from(["drop", "server_error", "empty"]),
        st.sampled_from(["before", "after", "late"]),
        st.integers(1, 6),
        st.integers(0, FLIGHT - 1),
    ),
    max_size=3,
)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    rows=st.integers(1, 500),
    lost=faults,
    seconds=st.sampled_from([0, 30, 1000]),
    shows_after=st.sampled_from([0, 20, 100_000]),
)
def test_l9_s6_a_replace_that_returns_has_replaced_everybody(
    clocked: Any, rows: int, lost: list[tuple[str, str, int, int]], seconds: float, shows_after: float
) -> None:
    sandbox, clock = clocked
    sandbox.reset()
    meta = Meta(sandbox, clock)
    meta.uploader().add(people(30, start=5000), total=30)
    sandbox.change(replace_seconds=seconds, replace_shows_after_seconds=shows_after)
    for kind, when, nth, lands_after in lost:
        sandbox.fault(kind, when=when, nth=nth, lands_after=lands_after, operation="replace_users")
    try:
        replace_and_wait(meta, rows)
    except GraphTransientError:
        # Three first batches were lost, one after the other.
        assert len(meta.firsts()) == 3
        return
    assert meta.names() == names(0, rows)
    assert len(set(meta.firsts())) == len(meta.firsts())
    clock.advance(4 * 3600)
    assert meta.names() == names(0, rows)
