"""Faults on demand: what the caller sees, and whether the call was carried out."""

from __future__ import annotations

import json
import socket
import time
from collections import Counter
from typing import TYPE_CHECKING

import pytest
import requests
from sandbox_client import Graph, digest

from airflow_provider_fbca.sandbox import serve
from airflow_provider_fbca.sandbox.kinds import HARMLESS, KINDS

if TYPE_CHECKING:
    from collections.abc import Callable

A, B = digest("a"), digest("b")
BODY = {"payload": {"schema": ["EMAIL"], "data": [[A]]}}


#: Kind -> the exception of the HTTP library, where no whole answer comes.
LOST = {
    "timeout": requests.ReadTimeout,
    "drop": requests.ConnectionError,
    "reset": requests.ConnectionError,
    "not_http": requests.ConnectionError,
    "cut": requests.exceptions.ChunkedEncodingError,
    "wrong_content": requests.exceptions.ContentDecodingError,
}
#: Kind -> status, and what the body is, where one comes in place of the answer.
SPOILT: dict[str, tuple[int, Callable[[requests.Response], bool]]] = {
    "server_error": (502, lambda answer: answer.headers["content-type"].startswith("text/html")),
    "html_ok": (200, lambda answer: answer.headers["content-type"].startswith("text/html")),
    "empty": (500, lambda answer: answer.content == b""),
    "truncated_json": (200, lambda answer: answer.text.startswith('{"') and not answer.text.endswith("}")),
    "not_json": (200, lambda answer: answer.content == b"success"),
    "not_utf8": (200, lambda answer: not is_utf8(answer.content)),
    "json_list": (200, lambda answer: isinstance(answer.json(), list)),
    "json_string": (200, lambda answer: isinstance(answer.json(), str)),
    "json_null": (200, lambda answer: answer.json() is None),
    "success_false": (200, lambda answer: answer.json() == {"success": False}),
    "graph": (500, lambda answer: answer.json()["error"]["is_transient"] is True),
    "error_in_200": (200, lambda answer: answer.json()["error"]["code"] == 2),
    "redirect": (302, lambda answer: answer.headers["location"].startswith("https://login.example/")),
    "huge": (200, lambda answer: len(answer.content) == 48 * 2**20 and isinstance(answer.json(), dict)),
    "gzip_bomb": (200, lambda answer: len(answer.content) == 48 * 2**20 and isinstance(answer.json(), dict)),
    "trickle": (200, lambda answer: isinstance(answer.json(), dict)),
}


def is_utf8(body: bytes) -> bool:
    try:
        body.decode()
    except UnicodeDecodeError:
        return False
    return True


def test_every_kind_is_tried() -> None:
    assert {*LOST, *SPOILT, *HARMLESS} == set(KINDS)


@pytest.mark.parametrize(("when", "held"), [("before", 0), ("after", 1)])
@pytest.mark.parametrize("kind", [*LOST, *SPOILT])
def test_each_fault_before_and_after(graph: Graph, audience: str, kind: str, when: str, held: int) -> None:
    graph.sandbox.fault(kind, when=when, operation="add_users")
    path, options = f"{audience}/users", {"json": BODY, "allow_redirects": False}
    if kind in LOST:
        with pytest.raises(LOST[kind]):
            graph.call("POST", path, **options, timeout=0.5 if kind == "timeout" else 30)
    else:
        status, looks_right = SPOILT[kind]
        answer = graph.call("POST", path, **options)
        assert answer.status_code == status
        assert looks_right(answer)
    assert len(graph.sandbox.members(audience)) == held
    entry = graph.sandbox.requests("add_users")[0]
    assert (entry["fault"], entry["applied"]) == (kind, bool(held))
    assert (entry["status"] is None) == (kind in {"timeout", "drop", "reset", "not_http"})
    graph.add(audience, ["EMAIL"], [[B]])


@pytest.mark.parametrize("when", ["before", "after"])
@pytest.mark.parametrize("kind", sorted(HARMLESS))
def test_harmless_faults_let_the_call_through(graph: Graph, audience: str, kind: str, when: str) -> None:
    graph.sandbox.fault(kind, when=when, seconds=0.1, operation="add_users", headers={"X-App-Usage": "none"})
    answer = graph.upload(audience, ["EMAIL"], [[A]])
    assert answer.json()["num_received"] == 1
    assert answer.headers["x-app-usage"] == "none"
    assert len(graph.sandbox.members(audience)) == 1
    assert graph.sandbox.requests("add_users")[0]["fault"] == kind


def test_bad_headers_are_no_json(graph: Graph) -> None:
    graph.sandbox.fault("bad_headers")
    headers = graph.call("GET", "me").headers
    for name in ("x-business-use-case-usage", "retry-after"):
        with pytest.raises(ValueError, match="Expecting"):
            json.loads(headers[name])


@pytest.mark.parametrize(("when", "held"), [("before", 0), ("after", 1)])
def test_a_slow_call_waits_before_it_is_carried_out_or_after(graph: Graph, audience: str, when: str, held: int) -> None:
    graph.sandbox.fault("slow", when=when, seconds=2, operation="add_users")
    with pytest.raises(requests.ReadTimeout):
        graph.call("POST", f"{audience}/users", json=BODY, timeout=0.5)
    assert len(graph.sandbox.members(audience)) == held


def test_a_slow_call_is_carried_out_when_the_caller_has_hung_up(graph: Graph, audience: str) -> None:
    graph.sandbox.fault("slow", seconds=0.5, operation="add_users")
    with pytest.raises(requests.ReadTimeout):
        graph.call("POST", f"{audience}/users", json=BODY, timeout=0.1)
    deadline = time.monotonic() + 30
    while not graph.sandbox.members(audience) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert graph.sandbox.members(audience) == [{"EMAIL": A}]


def test_a_slow_call_is_forgotten_by_a_reset(graph: Graph, audience: str) -> None:
    """Ids begin again, so what was held back would reach another audience than it was for."""
    graph.sandbox.fault("slow", seconds=0.5, operation="add_users")
    with pytest.raises(requests.ReadTimeout):
        graph.call("POST", f"{audience}/users", json=BODY, timeout=0.1)
    graph.sandbox.reset()
    assert graph.sandbox.create_audience() == audience
    graph.sandbox.fault("slow", seconds=0.7, operation="read_user")
    graph.ok("GET", "me")
    assert graph.sandbox.members(audience) == []


def test_a_connection_reset_is_one(graph: Graph) -> None:
    """Not an orderly end, which a bare socket would read as no bytes."""
    for kind in ("drop", "reset"):
        graph.sandbox.fault(kind)
        host, port = graph.sandbox.url.removeprefix("http://").split(":")
        with socket.create_connection((host, int(port)), timeout=30) as connection:
            connection.sendall(b"GET /v26.0/me HTTP/1.1\r\nHost: sandbox\r\n\r\n")
            if kind == "drop":
                assert connection.recv(1) == b""
            else:
                with pytest.raises(ConnectionResetError):
                    connection.recv(1)


def test_size_and_status_can_be_chosen(graph: Graph) -> None:
    graph.sandbox.fault("huge", size=5000, status=503)
    answer = graph.call("GET", "me")
    assert (answer.status_code, len(answer.content)) == (503, 5000)
    graph.sandbox.fault("empty", status=200)
    answer = graph.call("GET", "me")
    assert (answer.status_code, answer.content) == (200, b"")


def test_spoilt_answers_are_the_call_s_own(graph: Graph, audience: str) -> None:
    graph.sandbox.fault("trickle", when="after", seconds=0.1)
    assert graph.ok("GET", f"{audience}?fields=name") == {"name": "Test audience", "id": audience}


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


@pytest.mark.parametrize(
    ("code", "subcode"), [(803, None), (1487301, None), (100, 1487366), (2656, None), (100, 1713228), (17, 2446079)]
)
def test_any_code_on_demand(graph: Graph, audience: str, code: int, subcode: int | None) -> None:
    graph.sandbox.fault("graph", operation="read_audience", code=code, subcode=subcode, status=400, is_transient=False)
    assert graph.error("GET", audience) == (code, subcode)
    graph.ok("GET", audience)


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
    "options",
    [
        {"kind": "earthquake"},
        {"kind": "drop", "when": "never"},
        {"kind": "drop", "nth": 0},
        {"kind": "slow", "when": "late"},
    ],
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


def struck(graph: Graph, calls: int) -> list[tuple[str | None, bool]]:
    """Call and return which fault struck each call, and whether it was carried out all the same."""
    first = len(graph.sandbox.requests())
    for _ in range(calls):
        try:
            graph.call("GET", "me")
        except requests.RequestException:
            continue
    return [(entry["fault"], entry["applied"]) for entry in graph.sandbox.requests()[first:]]


def test_random_faults_strike_a_share_of_the_calls(graph: Graph) -> None:
    graph.sandbox.change(fault_ratio=0.3, fault_kinds=["drop", "graph"], fault_seed=7)
    calls = struck(graph, 200)
    kinds = Counter(fault for fault, _ in calls)
    assert 30 <= kinds["drop"] + kinds["graph"] <= 90
    assert set(calls) == {(None, True), ("drop", False), ("drop", True), ("graph", False), ("graph", True)}
    graph.sandbox.change(fault_seed=7)
    assert struck(graph, 200) == calls
    graph.sandbox.change(fault_seed=8)
    assert struck(graph, 200) != calls


def test_a_queued_fault_comes_before_a_random_one(graph: Graph) -> None:
    graph.sandbox.change(fault_ratio=1, fault_kinds=["empty"])
    graph.sandbox.fault("server_error", nth=2)
    assert [fault for fault, _ in struck(graph, 3)] == ["empty", "server_error", "empty"]


@pytest.mark.parametrize(
    "switches", [{"fault_ratio": 2}, {"fault_kinds": ["earthquake"]}, {"fault_kinds": []}, {"latency_range": [2, 1]}]
)
def test_impossible_chances_are_refused(graph: Graph, switches: dict) -> None:
    with pytest.raises(ValueError, match="refused"):
        graph.sandbox.change(**switches)
