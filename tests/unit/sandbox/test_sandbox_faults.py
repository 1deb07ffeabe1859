"""Faults on demand: what the caller sees, and whether the call was carried out."""

from __future__ import annotations

import time

import pytest
import requests
from sandbox_client import Graph, digest

from airflow_provider_fbca.sandbox import serve

A, B = digest("a"), digest("b")
BODY = {"payload": {"schema": ["EMAIL"], "data": [[A]]}}


@pytest.mark.parametrize(("when", "held"), [("before", 0), ("after", 1)])
@pytest.mark.parametrize("kind", ["drop", "timeout", "server_error", "empty", "graph"])
def test_each_fault_before_and_after(graph: Graph, audience: str, kind: str, when: str, held: int) -> None:
    graph.sandbox.fault(kind, when=when, operation="add_users")
    if kind == "drop":
        with pytest.raises(requests.ConnectionError):
            graph.upload(audience, ["EMAIL"], [[A]])
    elif kind == "timeout":
        with pytest.raises(requests.ReadTimeout):
            graph.call("POST", f"{audience}/users", json=BODY, timeout=0.3)
    else:
        answer = graph.upload(audience, ["EMAIL"], [[A]])
        assert answer.status_code >= 500
        if kind == "server_error":
            assert answer.headers["content-type"].startswith("text/html")
        if kind == "graph":
            assert answer.json()["error"]["is_transient"] is True
    assert len(graph.sandbox.members(audience)) == held
    entry = graph.sandbox.requests("add_users")[0]
    assert (entry["fault"], entry["applied"]) == (kind, bool(held))
    assert (entry["status"] is None) == (kind in ("drop", "timeout"))
    graph.add(audience, ["EMAIL"], [[B]])


def test_timeout_ends_in_a_dropped_connection(graph: Graph) -> None:
    graph.sandbox.fault("timeout", seconds=0.2)
    started = time.monotonic()
    with pytest.raises(requests.ConnectionError):
        graph.call("GET", "me")
    assert time.monotonic() - started >= 0.2


def test_late_call_lands_when_the_caller_has_given_up(graph: Graph, audience: str) -> None:
    graph.sandbox.fault("drop", when="late", lands_after=30, operation="add_users")
    with pytest.raises(requests.ConnectionError):
        graph.upload(audience, ["EMAIL"], [[A]])
    graph.remove(audience, ["EMAIL"], [[A]])
    graph.sandbox.advance(29)
    assert graph.sandbox.members(audience) == []
    graph.sandbox.advance(1)
    assert graph.sandbox.members(audience) == [{"EMAIL": A}]
    assert graph.sandbox.requests("add_users")[0]["applied"] is True


def test_nth_and_count(graph: Graph) -> None:
    graph.sandbox.fault("graph", nth=2, count=2, code=80003, subcode=2446079, status=429, is_transient=False)
    answers = [graph.call("GET", "me") for _ in range(4)]
    assert [answer.status_code for answer in answers] == [200, 429, 429, 200]
    assert answers[1].json()["error"]["error_subcode"] == 2446079


def test_filters(graph: Graph, audience: str) -> None:
    graph.sandbox.fault("server_error", method="DELETE", status=503)
    graph.sandbox.fault("server_error", path="adaccounts$", status=504)
    graph.sandbox.fault("server_error", operation="remove_users", status=500, nth=2)
    assert graph.call("GET", "me").status_code == 200
    assert graph.call("GET", "me/adaccounts").status_code == 504
    # An override of the method counts as that method.
    override = {"payload": BODY["payload"], "method": "delete"}
    assert graph.call("POST", f"{audience}/users", json=override).status_code == 503
    assert graph.upload(audience, ["EMAIL"], [[A]], method="DELETE").status_code == 500


def test_cleared_faults_do_not_strike(graph: Graph) -> None:
    graph.sandbox.fault("drop", count=5)
    graph.sandbox.clear_faults()
    graph.ok("GET", "me")


@pytest.mark.parametrize(
    "options", [{"kind": "earthquake"}, {"kind": "drop", "when": "never"}, {"kind": "drop", "nth": 0}]
)
def test_impossible_faults_are_refused(graph: Graph, options: dict) -> None:
    with pytest.raises(ValueError, match="refused"):
        graph.sandbox.fault(**options)


def test_server_stops_while_calls_wait() -> None:
    with serve() as sandbox:
        sandbox.fault("timeout")
        with pytest.raises(requests.ReadTimeout):
            requests.get(f"{sandbox.url}/v26.0/me", timeout=0.2)
        started = time.monotonic()
    assert time.monotonic() - started < 5
