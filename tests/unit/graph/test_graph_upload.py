from __future__ import annotations

import itertools
import json
import random
import threading
import time
import tracemalloc
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pytest
from graph_wire import AUDIENCE, OddServer, Reply, Seen, digest, people, refused

from airflow_provider_fbca.exceptions import (
    GraphBusyError,
    GraphError,
    GraphPermissionError,
    GraphRemovalRefusedError,
    GraphRetryableError,
    OptionsError,
    UsersError,
)
from airflow_provider_fbca.graph.upload import BatchAck, ReplaceState, UserUploader

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from airflow_provider_fbca.graph.api import GraphApi


class Clock:
    """Time that a test moves."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now

    def move(self, seconds: float) -> None:
        self.now += seconds


def uploader(api: GraphApi, audience_id: str = AUDIENCE, **options: Any) -> UserUploader:
    ids = itertools.count(11)
    return UserUploader(api, audience_id, **{"new_session": lambda: next(ids), "batch_size": 100} | options)


def accepts(seen: Seen) -> Reply:
    """Count as Meta does, per session."""
    return Reply(200, {"num_received": len(seen.json["payload"]["data"]), "num_invalid_entries": 0})


def sessions_of(odd: OddServer) -> list[dict[str, Any]]:
    return [seen.json["session"] for seen in odd.seen]


def names(seen: Seen) -> list[str]:
    return [row[0] for row in seen.json["payload"]["data"]]


class TestAgainstTheSandbox:
    def test_people_are_added_and_removed(self, sandbox: Any, api: GraphApi) -> None:
        audience_id = sandbox.create_audience()
        upload = uploader(api, audience_id)
        added = upload.add(people(1234), total=1234)
        assert (added.requests, added.rows, added.received, added.invalid) == (13, 1234, 1234, 0)
        removed = upload.remove(people(234), total=234)
        assert (removed.requests, removed.received, removed.session_ids) == (3, 234, (12,))
        assert {row["EXTERN_ID"] for row in sandbox.members(audience_id)} == {f"c{n}" for n in range(234, 1234)}

    @pytest.mark.parametrize(("rows", "requests"), [(1, 1), (99, 1), (100, 1), (101, 2), (200, 2), (300, 3)])
    def test_exactly_the_last_batch_closes_the_session(
        self, sandbox: Any, api: GraphApi, rows: int, requests: int
    ) -> None:
        uploader(api, sandbox.create_audience()).add(people(rows, step=7), total=rows)
        calls = sorted(sandbox.requests("add_users"), key=lambda call: call["batch_seq"])
        assert [call["batch_seq"] for call in calls] == list(range(1, requests + 1))
        assert [call["last_batch_flag"] for call in calls] == [False] * (requests - 1) + [True]
        assert sum(call["rows"] for call in calls) == rows

    def test_ten_thousand_removals_are_one_request_with_a_short_address(self, sandbox: Any, api: GraphApi) -> None:
        audience_id = sandbox.create_audience()
        upload = uploader(api, audience_id, batch_size=10_000)
        upload.add(people(10_000), total=10_000)
        totals = upload.remove(people(10_000), total=10_000)
        [call] = sandbox.requests("remove_users")
        assert (totals.requests, call["rows"], call["method"]) == (1, 10_000, "DELETE")
        assert call["url_length"] < 2_000
        assert call["content_type"] == "application/json"
        assert call["token_place"] == "header"
        assert sandbox.audience(audience_id)["rows"] == 0

    def test_people_are_replaced(self, sandbox: Any, api: GraphApi) -> None:
        audience_id = sandbox.create_audience()
        upload = uploader(api, audience_id)
        upload.add(people(500), total=500)
        totals = upload.replace(people(650, start=300), total=650)
        assert (totals.requests, totals.received) == (7, 650)
        calls = sandbox.requests("replace_users")
        assert calls[0]["batch_seq"] == 1
        assert calls[-1]["last_batch_flag"] is True
        assert [call["last_batch_flag"] for call in calls[:-1]] == [False] * 6
        sandbox.advance(10)
        assert {row["EXTERN_ID"] for row in sandbox.members(audience_id)} == {f"c{n}" for n in range(300, 950)}

    def test_a_replace_of_one_batch(self, sandbox: Any, api: GraphApi) -> None:
        audience_id = sandbox.create_audience()
        uploader(api, audience_id).replace(people(100), total=100)
        sandbox.advance(10)
        assert sandbox.audience(audience_id)["rows"] == 100

    def test_a_busy_audience_is_told(self, sandbox: Any, api: GraphApi) -> None:
        audience_id = sandbox.create_audience()
        sandbox.stop_clock()
        try:
            upload = uploader(api, audience_id)
            upload.replace(people(50), total=50)
            with pytest.raises(GraphBusyError):
                upload.add(people(1), total=1)
        finally:
            sandbox.start_clock()

    @pytest.mark.parametrize("kind", ["drop", "server_error", "empty"])
    @pytest.mark.parametrize("when", ["before", "after"])
    def test_batches_are_sent_again(self, sandbox: Any, api: GraphApi, kind: str, when: str) -> None:
        audience_id = sandbox.create_audience()
        sandbox.fault(kind, when=when, operation="add_users", nth=2, count=2)
        totals = uploader(api, audience_id).add(people(450), total=450)
        assert (totals.requests, totals.rows) == (5, 450)
        assert sandbox.audience(audience_id)["rows"] == 450

    def test_a_removal_that_meta_refuses(self, sandbox: Any, api: GraphApi) -> None:
        audience_id = sandbox.create_audience()
        upload = uploader(api, audience_id)
        upload.add(people(100), total=100)
        sandbox.change(minimum_people=50)
        try:
            with pytest.raises(GraphRemovalRefusedError):
                upload.remove(people(90), total=90)
        finally:
            sandbox.change(minimum_people=0)

    def test_a_replace_whose_last_answer_was_lost_is_done(self, sandbox: Any, api: GraphApi) -> None:
        audience_id = sandbox.create_audience()
        sandbox.fault("drop", when="after", operation="replace_users", nth=3)
        totals = uploader(api, audience_id).replace(people(300), total=300)
        assert totals.requests == 3
        sandbox.advance(10)
        assert sandbox.audience(audience_id)["rows"] == 300

    def test_an_unfinished_replace_is_closed(self, sandbox: Any, api: GraphApi) -> None:
        audience_id = sandbox.create_audience()
        upload = uploader(api, audience_id)
        sandbox.fault("graph", operation="replace_users", nth=3, code=200, is_transient=False)
        with pytest.raises(GraphPermissionError):
            upload.replace(people(300), total=300)
        [last] = people(1, start=299)
        assert upload.close_replace(11, last, batch_seq=3, total=300) is ReplaceState.CLOSED
        assert upload.close_replace(11, last, batch_seq=3, total=300) is ReplaceState.CLOSED_BEFORE
        sandbox.advance(10)
        assert sandbox.audience(audience_id)["rows"] == 201
        assert upload.close_replace(999, last, batch_seq=2, total=1) is ReplaceState.NEVER_BEGUN

    def test_people_are_erased_from_every_list(self, sandbox: Any, api: GraphApi) -> None:
        audience_ids = [sandbox.create_audience(name) for name in ("a", "b")]
        for session_id, audience_id in enumerate(audience_ids, 1):
            uploader(api, audience_id, new_session=lambda own=session_id: own).add(people(150), total=150)
        sent = uploader(api, audience_ids[0]).erase(people(120), account_id=f"act_{sandbox.ad_account_id}")
        assert sent == 2
        assert [sandbox.audience(audience_id)["rows"] for audience_id in audience_ids] == [30, 30]


class TestOrder:
    def test_nothing_to_send_means_nothing_begun(self, odd: OddServer, odd_api: GraphApi) -> None:
        begun: list[int] = []
        upload = uploader(odd_api, new_session=lambda: begun.append(1) or 1)
        empty = pa.record_batch({"EXTERN_ID": pa.array([], pa.string())})
        for verb in (upload.add, upload.remove):
            totals = verb([empty], total=0)
            assert (totals.requests, totals.session_ids) == (0, ())
        with pytest.raises(UsersError, match="replaced by nobody"):
            upload.replace([empty], total=0)
        assert (begun, odd.seen) == ([], [])

    def test_the_session_says_what_meta_wants(self, odd: OddServer, odd_api: GraphApi) -> None:
        odd.answer = accepts
        uploader(odd_api).add(people(150), total=150)
        assert sessions_of(odd) == [
            {"session_id": 11, "batch_seq": 1, "last_batch_flag": False, "estimated_num_total": 150},
            {"session_id": 11, "batch_seq": 2, "last_batch_flag": True, "estimated_num_total": 150},
        ]
        assert odd.seen[0].json["payload"]["schema"] == ["EXTERN_ID", "EMAIL"]
        assert odd.seen[0].json["payload"]["data"][7] == ["c7", digest(7).hex()]

    @pytest.mark.parametrize("verb", ["add", "remove", "replace"])
    def test_the_last_batch_waits_for_the_others(self, odd: OddServer, odd_api: GraphApi, verb: str) -> None:
        lock, flying, most, at_last = threading.Lock(), 0, 0, []

        def answer(seen: Seen) -> Reply:
            nonlocal flying, most
            with lock:
                flying += 1
                most = max(most, flying)
                if seen.json["session"]["last_batch_flag"] or (verb, seen.json["session"]["batch_seq"]) == (
                    "replace",
                    1,
                ):
                    at_last.append(flying)
            time.sleep(0.02)
            with lock:
                flying -= 1
            return accepts(seen)

        odd.answer = answer
        getattr(uploader(odd_api, max_concurrency=3), verb)(people(1200), total=1200)
        assert at_last == [1] * (2 if verb == "replace" else 1)
        assert most == 3
        assert odd.seen[-1].json["session"]["last_batch_flag"] is True
        assert sorted(itertools.chain.from_iterable(map(names, odd.seen))) == sorted(f"c{n}" for n in range(1200))

    def test_rows_are_read_no_faster_than_they_are_sent(self, odd: OddServer, odd_api: GraphApi) -> None:
        ahead: list[int] = []
        taken = 0

        def rows() -> Iterator[pa.RecordBatch]:
            nonlocal taken
            for batch in people(3000, step=100):
                taken += 1
                ahead.append(taken - len(odd.seen))
                yield batch

        def slow(seen: Seen) -> Reply:
            time.sleep(0.01)
            return accepts(seen)

        odd.answer = slow
        uploader(odd_api, max_concurrency=2).add(rows(), total=3000)
        # Two in flight that the server may not have counted yet, one prepared, one looked ahead, one being read.
        assert max(ahead) <= 5

    def test_large_bodies_are_split(self, odd: OddServer, odd_api: GraphApi) -> None:
        odd.answer = accepts
        totals = uploader(odd_api, max_body_bytes=4096).add(people(250), total=250)
        assert all(len(seen.body) <= 4096 for seen in odd.seen)
        assert totals.requests == len(odd.seen) > 3
        flags = {session["batch_seq"]: session["last_batch_flag"] for session in sessions_of(odd)}
        assert sorted(flags) == list(range(1, totals.requests + 1))
        assert [seq for seq, last in flags.items() if last] == [totals.requests]
        assert sorted(itertools.chain.from_iterable(map(names, odd.seen))) == sorted(f"c{n}" for n in range(250))

    def test_acknowledgements_say_which_rows(self, odd: OddServer, odd_api: GraphApi) -> None:
        odd.answer = accepts
        acks: list[BatchAck] = []
        caller = threading.current_thread()
        threads: set[threading.Thread] = set()

        def on_batch(ack: BatchAck) -> None:
            acks.append(ack)
            threads.add(threading.current_thread())

        uploader(odd_api, on_batch=on_batch).add(people(250), total=250)
        acks.sort(key=lambda ack: ack.batch_seq)
        assert [(ack.first_row, ack.rows, ack.last) for ack in acks] == [
            (0, 100, False),
            (100, 100, False),
            (200, 50, True),
        ]
        assert threads == {caller}

    @pytest.mark.parametrize(
        ("counts", "received"),
        [([100, 200, 250], 250), (["100", "250", "200"], 250), ([None, "x", 250], 250), ([None, True, -5], 0)],
    )
    def test_counts_are_cumulative_and_of_any_form(
        self, odd: OddServer, odd_api: GraphApi, counts: list[Any], received: int
    ) -> None:
        odd.say(
            *(
                Reply(200, {} if count is None else {"num_received": count, "num_invalid_entries": "2"})
                for count in counts
            )
        )
        totals = uploader(odd_api, max_concurrency=1).add(people(250), total=250)
        assert totals.received == received
        assert totals.invalid == 2 * sum(count is not None for count in counts)


class TestSessions:
    def test_an_old_session_is_closed_and_another_begun(self, odd: OddServer, odd_api: GraphApi) -> None:
        clock = Clock()
        odd.answer = accepts
        totals = uploader(odd_api, clock=clock, max_concurrency=1, on_batch=lambda _ack: clock.move(25 * 60)).add(
            people(700), total=700
        )
        assert [(one["session_id"], one["batch_seq"], one["last_batch_flag"]) for one in sessions_of(odd)] == [
            (11, 1, False),
            (11, 2, False),
            (11, 3, False),
            (11, 4, False),
            (12, 1, False),
            (12, 2, False),
            (12, 3, True),
        ]
        assert totals.session_ids == (11, 12)
        assert totals.received == 200

    def test_a_session_between_80_and_88_minutes_takes_one_last_batch(self, odd: OddServer, odd_api: GraphApi) -> None:
        clock, steps = Clock(), iter([0, 81 * 60, 0, 0])
        odd.answer = accepts
        uploader(odd_api, clock=clock, max_concurrency=1, on_batch=lambda _ack: clock.move(next(steps))).add(
            people(400), total=400
        )
        closed = [(one["session_id"], one["batch_seq"]) for one in sessions_of(odd) if one["last_batch_flag"]]
        assert closed == [(11, 3), (12, 1)]

    def test_a_session_that_meta_has_closed_by_itself_takes_nothing(self, odd: OddServer, odd_api: GraphApi) -> None:
        clock, steps = Clock(), iter([0, 100 * 60, 0])
        odd.answer = accepts
        uploader(odd_api, clock=clock, max_concurrency=1, on_batch=lambda _ack: clock.move(next(steps))).add(
            people(300), total=300
        )
        assert [one["session_id"] for one in sessions_of(odd)] == [11, 11, 12]

    def test_a_replace_that_gets_too_old_stops(self, odd: OddServer, odd_api: GraphApi) -> None:
        clock = Clock()

        def answer(seen: Seen) -> Reply:
            clock.now += 41 * 60
            return accepts(seen)

        odd.answer = answer
        with pytest.raises(GraphRetryableError, match="80 minutes"):
            uploader(odd_api, clock=clock, max_concurrency=1).replace(people(500), total=500)
        assert len(odd.seen) == 2
        assert not any(one["last_batch_flag"] for one in sessions_of(odd))

    def test_a_line_on_which_no_session_is_long_enough_is_told(self, odd: OddServer, odd_api: GraphApi) -> None:
        clock = Clock()

        def answer(seen: Seen) -> Reply:
            clock.move(89 * 60)
            return Reply(502, b"<html>")

        odd.answer = answer
        with pytest.raises(GraphRetryableError, match="near its 90 minutes"):
            uploader(odd_api, clock=clock).add(people(10), total=10)
        assert [one["session_id"] for one in sessions_of(odd)] == [11, 12, 13, 14]

    @pytest.mark.parametrize("bad", [0, -1, 2**53, True, "7", None])
    def test_session_ids_are_checked(self, odd: OddServer, odd_api: GraphApi, bad: Any) -> None:
        with pytest.raises(OptionsError, match="session id"):
            uploader(odd_api, new_session=lambda: bad).add(people(1), total=1)
        assert odd.seen == []

    def test_the_caller_has_written_the_session_down_before_it_is_used(self, odd: OddServer, odd_api: GraphApi) -> None:
        seen_at_begin: list[int] = []
        odd.answer = accepts
        uploader(odd_api, new_session=lambda: seen_at_begin.append(len(odd.seen)) or 5).add(people(250), total=250)
        assert seen_at_begin == [0]


class TestFailure:
    def test_the_first_error_stops_the_rest_and_what_was_acknowledged_is_told(
        self, odd: OddServer, odd_api: GraphApi
    ) -> None:
        acks: list[int] = []

        def answer(seen: Seen) -> Reply:
            if seen.json["session"]["batch_seq"] == 3:
                return refused(200)
            time.sleep(0.05)
            return accepts(seen)

        odd.answer = answer
        upload = uploader(odd_api, max_concurrency=3, on_batch=lambda ack: acks.append(ack.batch_seq))
        with pytest.raises(GraphPermissionError):
            upload.add(people(5000), total=5000)
        assert len(odd.seen) <= 6
        answered = {seen.json["session"]["batch_seq"] for seen in odd.seen} - {3}
        assert set(acks) == answered
        assert not any(one["last_batch_flag"] for one in sessions_of(odd))

    def test_an_error_is_noticed_before_the_next_batch_also_when_there_is_room(
        self, odd: OddServer, odd_api: GraphApi
    ) -> None:
        def rows() -> Iterator[pa.RecordBatch]:
            for batch in people(1000, step=100):
                yield batch
                time.sleep(0.05)

        odd.answer = lambda _seen: refused(200)
        with pytest.raises(GraphPermissionError):
            uploader(odd_api, max_concurrency=8).add(rows(), total=1000)
        assert len(odd.seen) <= 2

    def test_a_pause_of_another_batch_is_cut_short(self, odd: OddServer, odd_api: GraphApi) -> None:
        object.__setattr__(odd_api.retry, "sleep", None)

        # The limit holds up what is not on its way yet, so both are.
        together = threading.Barrier(2)

        def answer(seen: Seen) -> Reply:
            together.wait(20)
            if seen.json["session"]["batch_seq"] == 1:
                return Reply(400, refused(4).body, {"Retry-After": "200"})
            time.sleep(0.1)
            return refused(200)

        odd.answer = answer
        began = time.monotonic()
        with pytest.raises(GraphPermissionError):
            uploader(odd_api).add(people(300), total=300)
        assert time.monotonic() - began < 10

    def test_the_check_before_a_request_runs_for_every_try_one_at_a_time(
        self, odd: OddServer, odd_api: GraphApi
    ) -> None:
        checks, inside = 0, threading.Lock()

        def check() -> None:
            nonlocal checks
            assert inside.acquire(blocking=False)
            checks += 1
            time.sleep(0.001)
            inside.release()

        odd.answer = accepts
        odd.say(Reply(502, b"<html>"))
        uploader(odd_api, before_request=check).add(people(900), total=900)
        assert checks == len(odd.seen) == 10

    def test_a_check_that_fails_stops_everything(self, odd: OddServer, odd_api: GraphApi) -> None:
        class LeaseGoneError(Exception):
            pass

        def check() -> None:
            if len(odd.seen) >= 2:
                raise LeaseGoneError

        odd.answer = accepts
        with pytest.raises(LeaseGoneError):
            uploader(odd_api, before_request=check, max_concurrency=1).add(people(900), total=900)
        assert len(odd.seen) == 2

    @pytest.mark.parametrize("where", ["rows", "on_batch", "new_session"])
    def test_the_callers_own_errors_come_through(self, odd: OddServer, odd_api: GraphApi, where: str) -> None:
        def fails(*_args: Any) -> Any:
            raise LookupError(where)

        def rows() -> Iterator[pa.RecordBatch]:
            yield from people(500, step=100)
            if where == "rows":
                fails()

        odd.answer = accepts
        options: dict[str, Callable[..., Any]] = {} if where == "rows" else {where: fails}
        with pytest.raises(LookupError, match=where):
            uploader(odd_api, **options).add(rows(), total=500)
        assert not any(one["last_batch_flag"] for one in sessions_of(odd))

    def test_the_first_batch_of_a_replace_is_sent_again_after_a_rate_limit(
        self, odd: OddServer, odd_api: GraphApi
    ) -> None:
        odd.answer = accepts
        odd.say(Reply(400, refused(17).body, {"Retry-After": "1"}))
        assert uploader(odd_api).replace(people(300), total=300).requests == 3

    def test_middle_batches_of_a_replace_are_sent_again(self, odd: OddServer, odd_api: GraphApi) -> None:
        odd.answer = accepts
        odd.say(accepts_now(100), Reply(drop=True))
        totals = uploader(odd_api, max_concurrency=1).replace(people(300), total=300)
        assert (totals.requests, len(odd.seen)) == (3, 4)

    def test_a_finished_session_is_success_only_for_our_own_second_try(self, odd: OddServer, odd_api: GraphApi) -> None:
        odd.say(accepts_now(100), accepts_now(200), refused(2650, 1870159))
        with pytest.raises(GraphRetryableError):
            uploader(odd_api).replace(people(300), total=300)
        odd.say(accepts_now(100), accepts_now(200), Reply(502, b"<html>"), refused(2650, 1870159))
        totals = uploader(odd_api).replace(people(300), total=300)
        assert (totals.requests, totals.received) == (3, 200)

    @pytest.mark.parametrize("verb", ["add", "remove"])
    def test_a_last_batch_that_had_closed_its_session_is_done(
        self, odd: OddServer, odd_api: GraphApi, verb: str
    ) -> None:
        odd.say(accepts_now(100), Reply(drop=True), refused(2650, 1870159))
        totals = getattr(uploader(odd_api), verb)(people(200), total=200)
        assert (totals.requests, totals.rows) == (2, 200)
        odd.say(accepts_now(100), refused(2650, 1870159))
        with pytest.raises(GraphRetryableError):
            getattr(uploader(odd_api), verb)(people(200), total=200)

    def test_a_finished_session_after_a_mere_rate_limit_was_closed_by_someone_else(
        self, odd: OddServer, odd_api: GraphApi
    ) -> None:
        limit = Reply(400, refused(17).body, {"Retry-After": "1"})
        odd.say(accepts_now(100), limit, refused(2650, 1870159))
        with pytest.raises(GraphRetryableError):
            uploader(odd_api).replace(people(200), total=200)

    def test_an_audience_that_meta_does_not_know_yet(self, odd: OddServer, odd_api: GraphApi) -> None:
        odd.answer = accepts
        odd.say(refused(803), refused(803))
        assert uploader(odd_api).add(people(10), total=10).requests == 1


@pytest.mark.parametrize(
    "options",
    [{"batch_size": 0}, {"batch_size": 10_001}, {"max_concurrency": 0}, {"max_body_bytes": 10}, {"audience_id": "x"}],
)
def test_impossible_options_are_refused(odd_api: GraphApi, options: dict[str, Any]) -> None:
    with pytest.raises(OptionsError):
        uploader(odd_api, **options)


def test_memory_does_not_grow_with_the_rows(odd: OddServer, odd_api: GraphApi) -> None:
    def light(seen: Seen) -> Reply:
        odd.seen.clear()
        return Reply(200, {"num_received": 1})

    odd.answer = light
    peaks = []
    for count in (20_000, 80_000):
        tracemalloc.start()
        totals = uploader(odd_api, batch_size=2_000, max_concurrency=2).add(people(count), total=count)
        body = totals.bytes / totals.requests
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    # Three times the rows more: were their bodies kept, these would be 30.
    assert peaks[1] - peaks[0] < 6 * body


def accepts_now(received: int) -> Reply:
    return Reply(200, {"num_received": received})


def test_the_body_is_json_that_a_plain_reader_understands(odd: OddServer, odd_api: GraphApi) -> None:
    rows = pa.record_batch({"EXTERN_ID": ['"\\\n\u2028é😀'], "LOOKALIKE_VALUE": [44.5]})
    uploader(odd_api).add([rows], total=1)
    assert json.loads(odd.seen[0].body)["payload"] == {
        "schema": ["EXTERN_ID", "LOOKALIKE_VALUE"],
        "data": [['"\\\n\u2028é😀', 44.5]],
    }


@pytest.mark.parametrize("seed", range(12))
def test_whatever_the_line_does_a_success_means_that_exactly_the_rows_are_in(
    sandbox: Any, api: GraphApi, seed: int
) -> None:
    chance = random.Random(seed)
    audience_id = sandbox.create_audience()
    for _ in range(chance.randint(0, 4)):
        sandbox.fault(
            chance.choice(["drop", "server_error", "empty"]),
            when=chance.choice(["before", "after"]),
            operation=chance.choice(["add_users", "remove_users", "replace_users"]),
            nth=chance.randint(1, 6),
        )
    options = {
        "batch_size": chance.choice([50, 100, 333]),
        "max_concurrency": chance.randint(1, 5),
        "sleep": sandbox.advance,
    }
    upload = uploader(api, audience_id, **options)
    added, removed, replaced = chance.randint(1, 900), chance.randint(0, 900), chance.randint(1, 700)
    upload.add(people(added, step=chance.randint(1, 300)), total=added)
    upload.remove(people(removed), total=removed)
    assert sandbox.audience(audience_id)["rows"] == max(0, added - removed)
    upload.replace(people(replaced, start=5000), total=replaced)
    sandbox.advance(10)
    in_audience = {row["EXTERN_ID"] for row in sandbox.members(audience_id)}
    assert in_audience == {f"c{number}" for number in range(5000, 5000 + replaced)}


class TestFlights:
    """Rule L9: what comes next waits for requests without an answer."""

    def test_nobody_waits_where_all_was_answered(self, sandbox: Any, api: GraphApi) -> None:
        slept: list[float] = []
        upload = uploader(api, sandbox.create_audience(), sleep=slept.append)
        upload.add(people(10), total=10)
        upload.wait_out_flights()
        assert slept == []

    @pytest.mark.parametrize("later", [0.0, 15.0, 39.0])
    def test_the_longest_flight_counts_from_when_the_answer_was_given_up(
        self, sandbox: Any, api: GraphApi, later: float
    ) -> None:
        slept: list[float] = []
        past = Clock()
        upload = uploader(api, sandbox.create_audience(), sleep=slept.append, clock=past)
        sandbox.fault("drop", operation="add_users", when="after")
        upload.add(people(10), total=10)
        assert api.longest_flight == 40
        assert api.unknown_since is not None
        past.now = api.unknown_since + later
        upload.wait_out_flights()
        assert slept == pytest.approx([40 - later])
        past.now = api.unknown_since + 40
        upload.wait_out_flights()
        assert len(slept) == 1

    def test_a_wait_may_be_ended(self, sandbox: Any, api: GraphApi) -> None:
        def stop(_seconds: float) -> None:
            raise InterruptedError

        upload = uploader(api, sandbox.create_audience(), sleep=stop)
        sandbox.fault("drop", operation="remove_users", when="after")
        upload.remove(people(10), total=10)
        with pytest.raises(InterruptedError):
            upload.wait_out_flights()


def test_an_error_tells_how_many_rows_were_acknowledged_before(sandbox: Any, api: GraphApi) -> None:
    audience_id = sandbox.create_audience()
    sandbox.fault("graph", operation="add_users", nth=3, code=200, is_transient=False, status=400)
    with pytest.raises(GraphError) as caught:
        uploader(api, audience_id, max_concurrency=1).add(people(450), total=450)
    assert caught.value.acknowledged == 200
