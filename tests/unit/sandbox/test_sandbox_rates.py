"""Rate limits: what the headers tell, when calls are refused, who called too early."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest
from sandbox_client import NOON, Graph, refused

from airflow_provider_fbca.sandbox import Settings
from airflow_provider_fbca.sandbox.rates import Meter

if TYPE_CHECKING:
    import requests

ACCOUNT, OTHER = "100000000000001", "100000000000002"


def read(graph: Graph, account: str = ACCOUNT) -> requests.Response:
    return graph.call("GET", f"act_{account}")


def reads(graph: Graph, count: int) -> list[int]:
    """Read the ad account so many times and return the statuses."""
    return [read(graph).status_code for _ in range(count)]


def audience_usage(answer: requests.Response) -> dict[str, Any]:
    (account_id, (usage,)) = next(iter(json.loads(answer.headers["x-business-use-case-usage"]).items()))
    assert account_id in (ACCOUNT, OTHER)
    assert usage["type"] == "custom_audience"
    return usage


def account_usage(answer: requests.Response) -> dict[str, Any]:
    return json.loads(answer.headers["x-ad-account-usage"])


def app_usage(answer: requests.Response) -> dict[str, Any]:
    return json.loads(answer.headers["x-app-usage"])


class TestHeaders:
    def test_every_answer_about_an_account_tells_its_usage(self, graph: Graph, audience: str) -> None:
        graph.sandbox.fault("server_error", path="sessions")
        answers = [
            read(graph),
            graph.call("GET", audience),
            graph.call("POST", f"{audience}/users", json={}),
            graph.call("GET", f"{audience}/sessions"),
            graph.call("DELETE", audience),
        ]
        assert [answer.status_code for answer in answers] == [200, 200, 400, 502, 200]
        for answer in answers:
            assert audience_usage(answer)["ads_api_access_tier"] == "standard_access"
            assert account_usage(answer)["ads_api_access_tier"] == "standard_access"
            assert app_usage(answer) == {"call_count": 0, "total_cputime": 0, "total_time": 0}

    def test_calls_about_no_account_tell_the_app_s_only(self, graph: Graph) -> None:
        for path in ("me", "999"):
            headers = graph.call("GET", path).headers
            assert "x-app-usage" in headers
            assert "x-business-use-case-usage" not in headers
            assert "x-ad-account-usage" not in headers

    def test_usage_is_a_percentage_of_calls_in_a_rolling_window(self, graph: Graph) -> None:
        graph.sandbox.change(calls_per_hour=20, rate_window_seconds=100)
        shown = []
        for _ in range(4):
            shown.append(audience_usage(read(graph))["call_count"])
            graph.sandbox.advance(40)
        assert shown == [5, 10, 15, 15]

    def test_nothing_is_refused_unless_that_is_switched_on(self, graph: Graph) -> None:
        graph.sandbox.change(calls_per_hour=2, access_tier="limited")
        assert reads(graph, 70) == [200] * 70
        usage = audience_usage(read(graph))
        assert usage["call_count"] > 100
        assert usage["estimated_time_to_regain_access"] == 0

    def test_accounts_are_counted_apart(self, graph: Graph) -> None:
        reads(graph, 3)
        read(graph, OTHER)
        assert graph.sandbox.usage()["calls"] == 3
        assert graph.sandbox.usage(f"act_{OTHER}")["calls"] == 1
        with pytest.raises(ValueError, match="no ad account"):
            graph.sandbox.usage("7")


@pytest.mark.parametrize(
    ("tier", "calls", "score", "shown"),
    [("limited", 5_000, 60, "development_access"), ("full", 190_000, 9_000, "standard_access")],
)
def test_the_documented_tiers(graph: Graph, tier: str, calls: int, score: int, shown: str) -> None:
    graph.sandbox.change(access_tier=tier)
    usage = graph.sandbox.usage()
    assert (usage["quota"], usage["most_score"]) == (calls, score)
    graph.sandbox.create_audience()
    graph.sandbox.create_audience()
    assert graph.sandbox.usage()["quota"] == calls + 2 * 40
    assert audience_usage(read(graph))["ads_api_access_tier"] == shown


class TestCalls:
    def test_the_call_over_the_limit_is_refused_and_told_how_long(self, graph: Graph) -> None:
        graph.sandbox.change(rate_limits=True, calls_per_hour=3)
        assert reads(graph, 3) == [200, 200, 200]
        answer = read(graph)
        assert answer.status_code == 400
        assert refused(answer) == (80003, 2446079)
        usage = audience_usage(answer)
        assert (usage["call_count"] >= 100, usage["estimated_time_to_regain_access"]) == (True, 60)
        assert "retry-after" not in answer.headers
        graph.sandbox.advance(3599)
        assert audience_usage(read(graph))["estimated_time_to_regain_access"] == 1

    def test_who_waits_as_told_goes_on(self, graph: Graph) -> None:
        graph.sandbox.change(rate_limits=True, calls_per_hour=3, rate_window_seconds=90)
        read(graph)
        graph.sandbox.advance(40)
        assert reads(graph, 3) == [200, 200, 400]
        graph.sandbox.advance(119)
        assert read(graph).status_code == 400
        graph.sandbox.advance(120)
        assert read(graph).status_code == 200

    def test_hammering_prolongs_the_wait(self, graph: Graph) -> None:
        graph.sandbox.change(rate_limits=True, calls_per_hour=3)
        assert reads(graph, 4)[-1] == 400
        graph.sandbox.advance(1800)
        reads(graph, 3)
        graph.sandbox.advance(1800)
        answer = read(graph)
        assert answer.status_code == 400
        assert audience_usage(answer)["estimated_time_to_regain_access"] == 30

    def test_the_other_account_goes_on(self, graph: Graph) -> None:
        graph.sandbox.change(rate_limits=True, calls_per_hour=1)
        assert reads(graph, 2) == [200, 400]
        assert read(graph, OTHER).status_code == 200
        graph.ok("GET", "me")

    def test_refused_calls_change_nothing(self, graph: Graph, audience: str) -> None:
        graph.sandbox.change(rate_limits=True, calls_per_hour=1)
        assert refused(graph.upload(audience, ["EXTERN_ID"], [["a"]])) == (80003, 2446079)
        assert graph.sandbox.members(audience) == []
        entry = graph.sandbox.requests("add_users")[0]
        assert (entry["error"], entry["applied"], entry["account_id"]) == ("80003/2446079", False, ACCOUNT)

    @pytest.mark.parametrize("status", [403, 429])
    def test_status_and_retry_after_can_be_chosen(self, graph: Graph, status: int) -> None:
        graph.sandbox.change(rate_limits=True, calls_per_hour=1, throttle_status=status, retry_after=True)
        read(graph)
        answer = read(graph)
        assert (answer.status_code, answer.headers["retry-after"]) == (status, "3600")


class TestScore:
    def test_calls_are_blocked_when_it_is_full(self, graph: Graph) -> None:
        graph.sandbox.change(access_tier="limited", score_limits=True)
        for _ in range(20):
            answer = graph.call("POST", "act_100000000000001/customaudiences", json={})
            assert refused(answer) == (100, None)
        assert account_usage(answer) == {
            "acc_id_util_pct": 100,
            "reset_time_duration": 300,
            "ads_api_access_tier": "development_access",
        }
        assert refused(read(graph)) == (17, 2446079)
        assert read(graph, OTHER).status_code == 200
        graph.sandbox.advance(299)
        assert refused(read(graph)) == (17, 2446079)
        graph.sandbox.advance(1)
        assert read(graph).status_code == 200
        early = [entry["too_early"] for entry in graph.sandbox.requests()]
        assert early == [False] * 22 + [True, False]

    @pytest.mark.parametrize(("tier", "writes", "block"), [("limited", 20, 300), ("full", 3000, 60)])
    def test_the_documented_scores_and_blocks(self, tier: str, writes: int, block: int) -> None:
        settings, meter = Settings(access_tier=tier, score_limits=True), Meter()
        for _ in range(writes):
            meter.count(settings, 10**6, NOON, writes=True)
        assert meter.refusal(settings, NOON) is None
        meter.count(settings, 10**6, NOON, writes=False)
        assert meter.refusal(settings, NOON + block - 1) is not None
        assert meter.refusal(settings, NOON + block) is None

    def test_reads_weigh_a_third_of_writes_and_all_decays(self, graph: Graph, audience: str) -> None:
        graph.sandbox.change(access_tier="limited")
        graph.sandbox.advance(300)
        assert account_usage(read(graph))["acc_id_util_pct"] == round(100 / 60, 2)
        assert account_usage(graph.call("DELETE", audience))["acc_id_util_pct"] == round(400 / 60, 2)
        assert account_usage(read(graph))["reset_time_duration"] == 25
        graph.sandbox.advance(10)
        assert graph.sandbox.usage()["score"] == pytest.approx(3)
        graph.sandbox.advance(15)
        assert graph.sandbox.usage()["score"] == pytest.approx(0)

    def test_an_override_of_the_method_counts_as_that_method(self, graph: Graph, audience: str) -> None:
        graph.sandbox.advance(300)
        graph.call("POST", audience, json={"method": "GET"})
        assert graph.sandbox.usage()["score"] == 1


class TestTooEarly:
    def early(self, graph: Graph) -> list[bool]:
        return [entry["too_early"] for entry in graph.sandbox.requests()]

    def test_calls_before_the_end_of_a_limit_that_was_told(self, graph: Graph) -> None:
        graph.sandbox.change(rate_limits=True, calls_per_hour=1, rate_window_seconds=60)
        assert reads(graph, 3) == [200, 400, 400]
        graph.sandbox.advance(60)
        assert read(graph).status_code == 200
        assert self.early(graph) == [False, False, True, False]
        assert graph.sandbox.usage()["too_early"] == 1

    @pytest.mark.parametrize(
        ("told", "minutes"), [({"wait_minutes": 7}, 7), ({"retry_after": 420}, 0), ({"wait_minutes": 6}, 6)]
    )
    def test_limits_that_a_fault_tells(self, graph: Graph, told: dict[str, int], minutes: int) -> None:
        """Such a limit refuses nothing; the log says who did not heed it."""
        graph.sandbox.fault("graph", code=613, subcode=1487742, status=400, is_transient=False, **told)
        answer = read(graph)
        assert refused(answer) == (613, 1487742)
        usage = audience_usage(answer)
        assert usage["estimated_time_to_regain_access"] == minutes
        assert (usage["call_count"] == 100) == bool(minutes)
        assert answer.headers.get("retry-after") == ("420" if "retry_after" in told else None)
        graph.sandbox.advance(359)
        assert read(graph).status_code == 200
        assert read(graph, OTHER).status_code == 200
        graph.sandbox.advance(61)
        assert read(graph).status_code == 200
        assert self.early(graph) == [False, True, False, False]

    def test_a_limit_of_the_app_holds_for_all_accounts(self, graph: Graph) -> None:
        graph.sandbox.fault("graph", code=4, status=400, wait_minutes=5)
        answer = read(graph)
        assert app_usage(answer)["call_count"] == 100
        read(graph, OTHER)
        graph.ok("GET", "me")
        graph.sandbox.advance(300)
        read(graph)
        assert self.early(graph) == [False, True, True, False]

    def test_a_limit_whose_answer_is_lost_was_not_told(self, graph: Graph) -> None:
        graph.sandbox.change(rate_limits=True, calls_per_hour=1)
        graph.sandbox.fault("drop", when="after", nth=2)
        read(graph)
        with pytest.raises(OSError, match="Connection"):
            read(graph)
        assert reads(graph, 2) == [400, 400]
        assert self.early(graph) == [False, False, False, True]

    def test_calls_in_flight_as_the_limit_is_told_are_forgiven(self, graph: Graph) -> None:
        graph.sandbox.change(rate_limits=True, calls_per_hour=1, told_grace_seconds=600)
        assert reads(graph, 3) == [200, 400, 400]
        assert self.early(graph) == [False, False, False]

    def test_a_fault_s_own_headers_stand(self, graph: Graph) -> None:
        full = json.dumps({"acc_id_util_pct": 95.5})
        graph.sandbox.fault("headers", headers={"X-Ad-Account-Usage": full})
        assert account_usage(read(graph)) == {"acc_id_util_pct": 95.5}


@pytest.mark.parametrize("switches", [{"access_tier": "gold"}, {"calls_per_hour": 0}, {"throttle_status": 200}])
def test_impossible_limits_are_refused(graph: Graph, switches: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="refused"):
        graph.sandbox.change(**switches)
