"""The pace of requests: against quotas as Meta documents them, on a clock that only waiting moves, and over HTTP."""

from __future__ import annotations

import json
import logging
import re
import threading
import time
from collections import deque
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

import pytest
from graph_wire import ACCOUNT, AUDIENCE, TOKEN, OddServer, Reply, people, refused
from hypothesis import given
from hypothesis import strategies as st

from airflow_provider_fbca.exceptions import GraphPermissionError, GraphThrottledError, StoppedError
from airflow_provider_fbca.graph.api import GraphApi
from airflow_provider_fbca.graph.audiences import Audiences
from airflow_provider_fbca.graph.retry import RetryPolicy
from airflow_provider_fbca.graph.throttle import Budget, in_words
from airflow_provider_fbca.graph.upload import UserUploader
from airflow_provider_fbca.graph.usage import Quota, Usage
from airflow_provider_fbca.sandbox import Clock as SandboxClock
from airflow_provider_fbca.sandbox import Settings, serve

BUC = "X-Business-Use-Case-Usage"
SCORE = "X-Ad-Account-Usage"
OTHER_AUDIENCE = "120210000000000002"


class Clock:
    """Time that only waiting moves."""

    def __init__(self) -> None:
        self.now = 5000.0
        self.slept: list[float] = []

    def __call__(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self.now += seconds


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def budget(clock: Clock) -> Budget:
    return Budget("ad account 123", clock)


def used(percent: float, **quota: Any) -> Usage:
    return Usage(quotas=(Quota("calls", percent, **quota),))


def go(budget: Budget, clock: Clock, *, at_most: float = 1e9) -> float:
    """Make a request and return the seconds that it had to wait."""
    before = clock.now
    with budget.turn(sleep=clock.sleep, at_most=at_most):
        return clock.now - before


def buc(percent: float, *, regain: int = 0, **more: Any) -> str:
    entry = {"type": "custom_audience", "call_count": percent, "total_cputime": 1, "total_time": 1}
    return json.dumps({"7": [entry | {"estimated_time_to_regain_access": regain} | more]})


@dataclass
class RollingHour:
    """A quota of calls by business use case, as Meta documents it: whole percents of a rolling hour."""

    clock: Clock
    calls: int
    tier: str
    cost: int = 1
    made: deque[float] = field(default_factory=deque)

    def call(self, *, write: bool) -> dict[str, str]:
        now = self.clock.now
        while self.made and self.made[0] <= now - 3600:
            self.made.popleft()
        self.made.extend([now] * self.cost)
        assert len(self.made) <= self.calls, "over the limit"
        return {BUC: buc(100 * len(self.made) // self.calls, ads_api_access_tier=self.tier)}


@dataclass
class Score:
    """An ad account's score, as Meta documents it: a read costs 1, a write 3, all decays within 300 seconds."""

    clock: Clock
    most: int
    tier: str
    points: float = 0.0
    at: float = 0.0

    def call(self, *, write: bool) -> dict[str, str]:
        now = self.clock.now
        self.points = max(0.0, self.points - (now - self.at) * self.most / 300) + (3 if write else 1)
        self.at = now
        assert self.points <= self.most, "over the limit"
        usage = {"acc_id_util_pct": round(100 * self.points / self.most, 2), "reset_time_duration": 300}
        return {SCORE: json.dumps(usage | {"ads_api_access_tier": self.tier})}


def spend(budget: Budget, clock: Clock, meta: RollingHour | Score, requests: int, *, reads: int = 0) -> float:
    """Make requests that take 10 ms each, every so many of them a read, and return the seconds of all."""
    began = clock.now
    for number in range(requests):
        with budget.turn(sleep=clock.sleep, at_most=1e9):
            clock.now += 0.01
            budget.learn(Usage.from_headers(meta.call(write=not reads or number % reads != 0)))
    return clock.now - began


class TestDocumentedTiers:
    """No limit is ever reached, and what can be had of it is had."""

    def test_calls_of_the_limited_tier(self, budget: Budget, clock: Clock) -> None:
        meta = RollingHour(clock, 5_000, "limited_access")
        assert spend(budget, clock, meta, 3_700) < 60
        # Hour by hour, most of the quota can be had.
        assert spend(budget, clock, meta, 20_000) < 20_000 / (0.7 * 5_000) * 3600

    def test_calls_of_the_full_tier(self, budget: Budget, clock: Clock) -> None:
        # The quota is 190,000; a call counts for a hundred, which only makes the test shorter.
        meta = RollingHour(clock, 190_000, "full_access", cost=100)
        assert spend(budget, clock, meta, 1_400) < 60
        assert spend(budget, clock, meta, 7_600) < 7_600 / (0.7 * 1_900) * 3600

    def test_calls_that_cost_far_more_than_their_number_tells(self, budget: Budget, clock: Clock) -> None:
        """Processor time counts too; here a call takes 1.2 percent."""
        spend(budget, clock, RollingHour(clock, 5_000, "limited_access", cost=60), 400)

    @pytest.mark.parametrize(("most", "tier"), [(60, "limited_access"), (9_000, "full_access")])
    @pytest.mark.parametrize("reads", [0, 2, 5])
    def test_scores(self, budget: Budget, clock: Clock, most: int, tier: str, reads: int) -> None:
        meta = Score(clock, most, tier)
        requests = most // 2
        seconds = spend(budget, clock, meta, requests, reads=reads)
        points = 3 * requests - (2 * requests // reads if reads else 0)
        assert seconds < max(60, 1.4 * (points - 0.75 * most) / most * 300 + 60)

    def test_an_account_that_others_use_up(self, budget: Budget, clock: Clock) -> None:
        """Another process makes as many calls: together they stay under the limit."""
        meta = RollingHour(clock, 5_000, "limited_access")
        for _ in range(6_000):
            meta.call(write=True)
            with budget.turn(sleep=clock.sleep, at_most=1e9):
                clock.now += 0.01
                budget.learn(Usage.from_headers(meta.call(write=True)))


class TestRules:
    def test_below_three_quarters_nothing_waits(self, budget: Budget, clock: Clock) -> None:
        for percent in (0, 30, 60, 74):
            budget.learn(used(percent, least_share=0.02))
            assert go(budget, clock) == 0
        assert clock.slept == []

    @given(percent=st.floats(75, 90, exclude_max=True), share=st.floats(0.001, 10), window=st.floats(60, 3600))
    def test_from_three_quarters_on_requests_wait_until_their_share_came_back(
        self, percent: float, share: float, window: float
    ) -> None:
        clock = Clock()
        budget = Budget("x", clock)
        quota = {"least_share": share, "window": window}
        budget.learn(used(percent, **quota))
        assert go(budget, clock) == 0
        budget.learn(used(percent, **quota))
        needed = share * window / 100
        assert budget.due_in() == pytest.approx(needed, abs=1e-5)
        assert needed - 1e-5 <= go(budget, clock) <= 1.1 * needed + 1e-5

    def test_a_request_takes_what_the_percentage_grew_by(self, budget: Budget, clock: Clock) -> None:
        for percent in (60, 64, 68, 72, 76):
            assert go(budget, clock) == 0
            budget.learn(used(percent, least_share=0.02))
        # Four percent of an hour.
        assert budget.due_in() == pytest.approx(144)

    def test_the_quota_that_needs_the_longest_pause_decides(self, budget: Budget, clock: Clock) -> None:
        go(budget, clock)
        quotas = (Quota("a", 80, least_share=1), Quota("b", 85, window=300, least_share=5), Quota("c", 10))
        budget.learn(Usage(quotas=quotas))
        assert budget.due_in() == pytest.approx(36)

    @given(percents=st.lists(st.floats(0, 100), min_size=2, max_size=6), window=st.floats(60, 3600))
    def test_no_wait_is_longer_than_a_quota_takes_to_come_back(self, percents: list[float], window: float) -> None:
        """Others use it too: what it grows by between two of our answers may not be ours."""
        clock = Clock()
        budget = Budget("x", clock)
        for percent in percents:
            budget.learn(used(percent, least_share=0.02, window=window))
            assert go(budget, clock) <= 1.1 * window + 1e-5

    def test_a_time_that_meta_names_counts_for_the_pace_too(self, budget: Budget, clock: Clock) -> None:
        budget.learn(used(10))
        go(budget, clock)
        budget.learn(Usage(quotas=(Quota("calls", 100),), regain_seconds=180))
        assert 180 <= go(budget, clock) <= 1.1 * 180

    def test_from_nine_tenths_on_it_has_to_come_down_first(self, budget: Budget, clock: Clock) -> None:
        budget.learn(used(97))
        # Seven percent of an hour.
        assert budget.due_in() == pytest.approx(252)
        assert 252 <= go(budget, clock) <= 1.1 * 252
        budget.learn(used(60))
        assert go(budget, clock) == 0

    def test_near_the_limit_requests_go_one_at_a_time(self, clock: Clock) -> None:
        budget = Budget("x", time.monotonic)
        budget.learn(used(91, window=3))
        inside, most, landed = 0, 0, []
        lock = threading.Lock()

        def request(_number: int) -> None:
            nonlocal inside, most
            with budget.turn(sleep=time.sleep, at_most=60):
                with lock:
                    inside += 1
                    most = max(most, inside)
                time.sleep(0.02)
                # The answers say that it is as full as ever.
                budget.learn(used(91, window=3))
                with lock:
                    inside -= 1
                    landed.append(1)

        with ThreadPoolExecutor(4) as pool:
            list(pool.map(request, range(8)))
        assert (most, len(landed)) == (1, 8)

    def test_what_is_flying_counts_before_its_answer_does(self, budget: Budget, clock: Clock) -> None:
        budget.learn(used(60, least_share=10))
        wait = {"sleep": _stop, "at_most": 1e9}
        with budget.turn(**wait), budget.turn(**wait):
            # Eighty percent by now: a tenth of an hour for the next.
            assert budget.due_in() == pytest.approx(360)
            clock.now += 360
            with pytest.raises(StoppedError), budget.turn(**wait), budget.turn(**wait):
                pytest.fail("it may be ninety by now, which only the answers can tell")
        assert budget.due_in() == 0

    def test_what_was_told_long_ago_counts_no_more(self, budget: Budget, clock: Clock) -> None:
        budget.learn(used(100))
        clock.now += 3700
        assert budget.due_in() == 0

    def test_after_a_limit_nothing_goes_until_metas_time_is_over(self, budget: Budget, clock: Clock) -> None:
        budget.refuse_for(720)
        # Calls that were flying are answered as if nothing had been.
        budget.learn(used(40))
        assert budget.due_in() == 720
        assert 720 <= go(budget, clock) <= 792
        assert go(budget, clock) == 0

    def test_a_shorter_limit_does_not_shorten_a_longer_one(self, budget: Budget, clock: Clock) -> None:
        budget.refuse_for(720)
        budget.refuse_for(60)
        assert budget.due_in() == 720

    def test_minutes_to_regain_access_hold_without_an_error_too(self, budget: Budget, clock: Clock) -> None:
        budget.learn(Usage.from_headers({BUC: buc(100, regain=19)}))
        assert budget.due_in() == 19 * 60

    def test_a_longer_wait_than_allowed_is_told_and_not_begun(self, budget: Budget, clock: Clock) -> None:
        budget.refuse_for(720)
        with pytest.raises(GraphThrottledError, match=r"ad account 123.*12 minutes, until \d\d:\d\d UTC") as caught:
            go(budget, clock, at_most=300)
        assert caught.value.wait_seconds == pytest.approx(720)
        assert not caught.value.permanent
        assert clock.slept == []
        # Nothing is taken for flying that never flew.
        clock.now += 720
        assert go(budget, clock, at_most=300) == 0

    def test_a_request_that_fails_makes_room_for_the_next(self, budget: Budget, clock: Clock) -> None:
        with pytest.raises(StoppedError), budget.turn(sleep=clock.sleep, at_most=1):
            raise StoppedError("no")
        budget.learn(used(90, window=0.001))
        assert go(budget, clock) < 1

    def test_answers_come_in_while_others_wait(self) -> None:
        budget = Budget("x", time.monotonic)
        budget.refuse_for(30)
        waiting, release = threading.Event(), threading.Event()

        def sleep(_seconds: float) -> None:
            waiting.set()
            release.wait(20)

        def wait() -> None:
            with budget.turn(sleep=sleep, at_most=60):
                pass

        thread = threading.Thread(target=wait)
        thread.start()
        assert waiting.wait(10)
        budget.learn(used(50))
        assert 20 < budget.due_in() <= 30
        release.set()
        thread.join(10)
        assert not thread.is_alive()

    def test_what_waiting_raises_ends_it(self, budget: Budget) -> None:
        def stopped(_seconds: float) -> None:
            raise StoppedError("told to stop")

        budget.refuse_for(60)
        with pytest.raises(StoppedError), budget.turn(sleep=stopped, at_most=300):
            pytest.fail("nothing may go")

    def test_a_wait_is_logged_once_for_all_who_wait(
        self, budget: Budget, clock: Clock, caplog: pytest.LogCaptureFixture
    ) -> None:
        budget.refuse_for(240)
        for _ in range(3):
            with pytest.raises(StoppedError), budget.turn(sleep=_stop, at_most=300):
                pass
        [record] = caplog.records
        assert record.levelno == logging.WARNING
        told = r"Meta's rate limit of ad account 123: waiting 4 minutes, until \d\d:\d\d UTC\."
        assert re.fullmatch(told, record.getMessage())

    def test_short_waits_are_not_logged(self, budget: Budget, clock: Clock, caplog: pytest.LogCaptureFixture) -> None:
        budget.refuse_for(3)
        go(budget, clock)
        assert caplog.records == []


def _stop(_seconds: float) -> None:
    raise StoppedError("enough seen")


@pytest.mark.parametrize("seconds", [0.2, 59, 99, 101, 240, 3600, 90_000, 24 * 3600 * 9])
def test_a_wait_in_words_never_ends_before_it_is_over(seconds: float) -> None:
    before = datetime.now(UTC)
    words = in_words(seconds)
    number, unit, end = re.fullmatch(r"(\d+) (seconds|minutes), until (.*) UTC", words).groups()  # type: ignore[union-attr]
    assert int(number) * (60 if unit == "minutes" else 1) >= seconds
    form = ("%Y-%m-%d " if "-" in end else "") + ("%H:%M:%S" if end.count(":") == 2 else "%H:%M")
    told = datetime.strptime(end, form).replace(tzinfo=UTC)
    if "-" in end:
        assert 0 <= (told - before).total_seconds() - seconds < 120
    else:
        passed = (told - datetime(1900, 1, 1, before.hour, before.minute, before.second, tzinfo=UTC)).total_seconds()
        # The first second is cut off above; the day may end in between.
        assert 0 <= passed % 86_400 - seconds + 1 < 125


def limited(minutes: int, **headers: str) -> Reply:
    return Reply(400, refused(80003, 2446079).body, {BUC: buc(100, regain=minutes)} | headers)


def client(odd: OddServer, clock: Clock, **options: Any) -> GraphApi:
    return GraphApi(
        **{"access_token": TOKEN, "base_url": odd.url, "timeout": 5, "clock": clock}
        | {"retry": RetryPolicy(sleep=clock.sleep)}
        | options
    )


class TestOverHttp:
    def test_all_clients_of_an_app_share_the_budget_of_an_account(self, odd: OddServer, clock: Clock) -> None:
        one, two = client(odd, clock, app_id="7"), client(odd, clock, app_id="7", access_token="another")
        one.wait_at_most(0)
        odd.say(limited(12))
        with pytest.raises(GraphThrottledError):
            one.call("GET", (f"act_{ACCOUNT}",))
        two.remember(AUDIENCE, ACCOUNT)
        assert two.throttle_of(AUDIENCE) is one.throttle_of(f"act_{ACCOUNT}")
        assert two.throttle_of(AUDIENCE).due_in() == 720
        assert two.throttle_of("act_999").due_in() == 0
        assert client(odd, clock, app_id="8").throttle_of(f"act_{ACCOUNT}").due_in() == 0
        assert client(odd, clock, access_token="x").throttle_of(f"act_{ACCOUNT}").due_in() == 0

    def test_nothing_is_sent_before_metas_time_is_over(self, odd: OddServer, clock: Clock) -> None:
        api = client(odd, clock)
        sent: list[float] = []

        def answer(_seen: Any) -> Reply:
            sent.append(clock.now)
            return limited(4) if len(sent) == 1 else Reply(200, {"id": "1"})

        odd.answer = answer
        assert api.call("POST", (f"act_{ACCOUNT}", "customaudiences")).json() == {"id": "1"}
        api.call("GET", (f"act_{ACCOUNT}",))
        assert sent[1] - sent[0] >= 240
        assert len(sent) == 3

    def test_a_long_limit_is_raised_with_its_end_and_stands_for_later_calls(self, odd: OddServer, clock: Clock) -> None:
        api = client(odd, clock)
        api.wait_at_most(60)
        odd.say(limited(12))
        with pytest.raises(GraphThrottledError, match=r"12 minutes, until \d\d:\d\d UTC") as first:
            api.call("GET", (f"act_{ACCOUNT}",))
        assert (first.value.wait_seconds, first.value.code) == (720, 80003)
        clock.now += 300
        with pytest.raises(GraphThrottledError, match=f"ad account {ACCOUNT}.*7 minutes") as second:
            api.call("DELETE", (f"act_{ACCOUNT}",))
        assert second.value.wait_seconds == pytest.approx(420)
        assert not second.value.outcome_unknown
        assert len(odd.seen) == 1
        clock.now += 420
        api.call("GET", (f"act_{ACCOUNT}",))
        assert len(odd.seen) == 2

    def test_the_check_before_a_request_runs_after_the_wait(self, odd: OddServer, clock: Clock) -> None:
        api = client(odd, clock)
        checked: list[float] = []
        odd.say(limited(2))
        api.request("GET", (f"act_{ACCOUNT}",), before_try=lambda: checked.append(clock.now))
        assert checked[1] - checked[0] >= 120
        assert clock.now == checked[1]

    def test_the_calls_own_sleep_waits(self, odd: OddServer, clock: Clock) -> None:
        api = client(odd, clock, retry=RetryPolicy())
        odd.say(limited(2))
        with pytest.raises(StoppedError):
            api.request("GET", (f"act_{ACCOUNT}",), sleep=_stop)
        assert len(odd.seen) == 1

    def test_reading_an_audience_teaches_its_account(self, odd: OddServer, clock: Clock) -> None:
        api = client(odd, clock)
        assert api.throttle_of(AUDIENCE) is not api.throttle_of(OTHER_AUDIENCE)
        odd.say(Reply(200, {"id": AUDIENCE, "account_id": ACCOUNT}, {BUC: buc(100, regain=3)}))
        Audiences(api).get(AUDIENCE)
        assert api.throttle_of(AUDIENCE) is api.throttle_of(f"act_{ACCOUNT}")
        # The very answer that named the account counts for it.
        assert api.throttle_of(f"act_{ACCOUNT}").due_in() == 180

    @pytest.mark.parametrize("answer", [{"id": AUDIENCE, "account_id": 5}, {"id": "1", "account_id": "5"}, {}])
    def test_other_answers_teach_no_account(self, odd: OddServer, clock: Clock, answer: dict[str, Any]) -> None:
        api = client(odd, clock)
        odd.say(Reply(200, answer), Reply(200, {"id": AUDIENCE, "account_id": AUDIENCE}))
        api.call("GET", (AUDIENCE,))
        # Meta's guide calls the audience's id so in the answer to a replace.
        api.call("POST", (AUDIENCE, "usersreplace"))
        assert api.throttle_of(AUDIENCE) is not api.throttle_of("act_5")
        assert api.throttle_of(AUDIENCE) is not api.throttle_of(f"act_{AUDIENCE}")

    def test_a_limit_that_one_batch_meets_holds_all(self, odd: OddServer) -> None:
        """Four threads, of which one is refused: no request begins before Meta's time is over."""
        clock = time.monotonic
        api = GraphApi(access_token=TOKEN, base_url=odd.url, timeout=5, clock=clock)
        api.remember(AUDIENCE, ACCOUNT)
        told = threading.Event()
        early: list[float] = []
        lock = threading.Lock()
        over = [0.0]

        def answer(seen: Any) -> Reply:
            if seen.json["session"]["batch_seq"] == 1 and not told.is_set():
                with lock:
                    over[0] = clock() + 1
                told.set()
                return Reply(400, refused(80003, 2446079).body, {"Retry-After": "1"})
            if told.is_set() and clock() < over[0]:
                early.append(clock())
            return Reply(200, {"num_received": 1})

        odd.answer = answer
        flying = 4
        totals = UserUploader(api, AUDIENCE, batch_size=10, max_concurrency=flying, new_session=lambda: 7).add(
            people(200), total=200
        )
        assert totals.rows == 200
        assert len(odd.seen) == 21
        # Those that were on their way already could not know.
        assert len(early) < flying

    def test_a_batch_that_is_given_up_while_it_waits_takes_no_turn(
        self, odd: OddServer, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """What comes next in the process does not wait for a request that was never made."""
        monkeypatch.setattr("airflow_provider_fbca.graph.throttle.random.random", lambda: 1.0)
        api = GraphApi(access_token=TOKEN, base_url=odd.url, timeout=9)
        both_here = threading.Barrier(2, timeout=9)

        def answer(seen: Any) -> Reply:
            both_here.wait()
            if seen.json["session"]["batch_seq"] == 1:
                return limited(4)
            return Reply(400, refused(200).body, hold=0.5)

        odd.answer = answer
        upload = UserUploader(api, AUDIENCE, batch_size=10, max_concurrency=2, new_session=lambda: 7)
        with pytest.raises(GraphPermissionError):
            upload.add(people(30), total=30)
        assert len(odd.seen) == 2
        assert api.throttle_of(AUDIENCE).due_in() <= 240

    def test_a_task_that_waits_at_the_limit_sees_that_it_shall_stop(self, odd: OddServer) -> None:
        api = GraphApi(access_token=TOKEN, base_url=odd.url, timeout=5)
        odd.answer = lambda _seen: limited(4)
        looks: list[int] = []

        def lease_is_gone() -> None:
            looks.append(1)
            if len(looks) > 1:
                raise StoppedError("the lease is gone")

        with pytest.raises(StoppedError):
            UserUploader(api, AUDIENCE, new_session=lambda: 7, before_request=lease_is_gone).add(people(1), total=1)
        assert len(odd.seen) == 1


@pytest.mark.parametrize(
    ("limits", "batches"),
    [
        # One call takes half a percent, then five; one has the score of the smallest tier.
        ({"rate_limits": True, "calls_per_hour": 200}, 300),
        ({"rate_limits": True, "calls_per_hour": 20}, 40),
        ({"score_limits": True, "access_tier": "limited"}, 60),
        ({"score_limits": True, "rate_limits": True, "access_tier": "limited", "calls_per_hour": 40}, 60),
    ],
)
def test_uploads_over_any_limit_end_exactly_without_meeting_it(limits: dict[str, Any], batches: int) -> None:
    noon = SandboxClock(1_800_000_000.0)
    with serve(Settings(**limits), clock=noon) as sandbox:
        api = GraphApi(
            access_token=sandbox.token,
            base_url=sandbox.url,
            timeout=20,
            retry=RetryPolicy(sleep=noon.advance, throttle_pause=3600),
            clock=noon.now,
        )
        audience_id = sandbox.create_audience()
        Audiences(api).get(audience_id)
        ids = iter(range(1, 9999))
        upload = UserUploader(
            api, audience_id, batch_size=5, new_session=lambda: next(ids), clock=noon.now, sleep=noon.advance
        )
        totals = upload.add(people(5 * batches), total=5 * batches)
        assert (totals.rows, sandbox.audience(audience_id)["rows"]) == (5 * batches, 5 * batches)
        calls = sandbox.requests()
        assert not any(call["too_early"] for call in calls)
        assert [call["error"] for call in calls if call["error"]] == []


def test_a_budget_tells_no_token() -> None:
    api = GraphApi(access_token=TOKEN)
    shown = repr(api.throttle_of(AUDIENCE)) + repr(api.throttle_of(AUDIENCE)._readings)
    assert TOKEN not in shown
    assert AUDIENCE in shown


def test_fixtures_forget_limits(request: pytest.FixtureRequest) -> None:
    """What one test's server told must not hold up the next test."""
    from airflow_provider_fbca.graph import throttle

    assert throttle._budgets == {}
