"""Running it: the helper for tests, the process of its own, the page, the switches."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest
import requests
from sandbox_client import Graph, digest

from airflow_provider_fbca.sandbox import Account, Clock, Settings, Token, create_app, serve
from airflow_provider_fbca.sandbox.server import DEFAULT_PORT, PlaceError, listen, run

A = digest("a")


def test_two_sandboxes_know_nothing_of_each_other() -> None:
    with serve() as one, serve() as other:
        one.create_audience()
        assert len(one.audiences()) == 1
        assert other.audiences() == []


def test_own_accounts_and_tokens() -> None:
    settings = Settings(accounts=(Account("77", tos_accepted=False),), tokens={"mine": Token(accounts=("77",))})
    with serve(settings) as sandbox:
        assert (sandbox.token, sandbox.ad_account_id) == ("mine", "77")
        assert Graph(sandbox).error("POST", "act_77/customaudiences", json={"name": "x"}) == (200, 1870090)
        assert Graph(sandbox).error("GET", "me", headers={"Authorization": "Bearer fbca-sandbox-token"}) == (190, None)


def test_injected_clock() -> None:
    clock = Clock(1000.0)
    with serve(clock=clock) as sandbox:
        assert sandbox.now() == 1000
        clock.advance(5)
        assert sandbox.now() == 1005
        assert sandbox.set_clock(2000) == 2000
        with pytest.raises(ValueError, match="forward"):
            sandbox.set_clock(1999)
        with pytest.raises(ValueError, match="refused"):
            sandbox.advance(-1)


def test_running_clock() -> None:
    with serve() as sandbox:
        sandbox.advance(3600)
        stopped = sandbox.stop_clock()
        assert sandbox.now() == stopped
        sandbox.advance(10)
        assert sandbox.start_clock() >= stopped + 10


def test_reset(graph: Graph, audience: str) -> None:
    graph.add(audience, ["EMAIL"], [[A]])
    graph.sandbox.change(tos_accepted=False)
    graph.sandbox.put_token("t", [graph.sandbox.ad_account_id])
    graph.sandbox.fault("drop")
    graph.sandbox.reset()
    assert graph.sandbox.audiences() == []
    assert graph.sandbox.requests() == []
    assert graph.error("GET", "me", headers={"Authorization": "Bearer t"}) == (190, None)
    assert graph.sandbox.create_audience()


def test_seed(graph: Graph, audience: str) -> None:
    rows = [{"EMAIL": A, "PHONE": digest("p")}, {"EXTERN_ID": "x"}]
    graph.sandbox.seed(audience, rows)
    assert graph.sandbox.members(audience) == rows
    assert graph.status(audience) == 200
    assert graph.sandbox.requests("add_users") == []
    for bad in ([{"EMAIL": "no digest"}], [{"SHOE_SIZE": "43"}], [{"GEN": A}]):
        with pytest.raises(ValueError, match="refused"):
            graph.sandbox.seed(audience, bad)


def test_links_must_single_out_people(graph: Graph) -> None:
    for bad in ({"GEN": A}, {"FN": A, "LN": A}, {"SHOE_SIZE": "43"}):
        with pytest.raises(ValueError, match="refused"):
            graph.sandbox.link({"EMAIL": A}, bad)


def test_unknown_switch_is_refused(graph: Graph) -> None:
    with pytest.raises(ValueError, match="refused"):
        graph.sandbox.change(gravity=False)
    with pytest.raises(ValueError, match="refused"):
        graph.sandbox.audience("1")


def test_page_shows_numbers_and_no_values(graph: Graph) -> None:
    audience = graph.sandbox.create_audience("<b>Buyers</b>")
    graph.add(audience, ["EMAIL"], [[A]], session_id=77, batch_seq=1)
    page = requests.get(graph.sandbox.url, timeout=30)
    assert page.headers["content-type"].startswith("text/html")
    for text in (audience, "&lt;b&gt;Buyers&lt;/b&gt;", "200 Normal", "77", "add_users"):
        assert text in page.text
    for secret in (A, graph.sandbox.token, "<b>", "<script", "http://", "https://"):
        assert secret not in page.text


def test_count_only() -> None:
    with serve(Settings(count_only=True)) as sandbox:
        graph, audience = Graph(sandbox), sandbox.create_audience()
        assert graph.add(audience, ["EMAIL", "EXTERN_ID"], [["anything", "a,b"], ["", ""]])["num_received"] == 2
        assert graph.upload(audience, ["EMAIL", "PHONE"], [["x"], ["x", "y", "z"], ["x"]]).status_code == 400
        assert graph.upload(audience, ["EMAIL"], [["x"]] * 10_001).status_code == 400
        assert graph.upload(audience, ["EMAIL"], []).status_code == 400
        assert graph.upload(audience, ["EMAIL"], "x").status_code == 400
        graph.remove(audience, ["EMAIL"], [["x"]])
        assert sandbox.members(audience) == []
        assert sandbox.audience(audience)["rows"] == 2


def test_latency() -> None:
    with serve(Settings(latency_seconds=0.2)) as sandbox:
        assert Graph(sandbox).call("GET", "me").elapsed.total_seconds() >= 0.2


def test_latency_by_chance() -> None:
    with serve(Settings(latency_range=(0.05, 0.15))) as sandbox:
        took = [Graph(sandbox).call("GET", "me").elapsed.total_seconds() for _ in range(5)]
    assert min(took) >= 0.05


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.0.2.1", "example.com", ""])
def test_other_machines_are_kept_out(host: str) -> None:
    with pytest.raises(PlaceError, match="this machine only"):
        run(host, 0)


def test_other_machines_are_let_in_on_request() -> None:
    listen("0.0.0.0", 0, allow_remote=True).close()
    listen("localhost", 0).close()


def test_a_process_of_its_own() -> None:
    """Its greeting tells all that is needed to reach it, and its output never shows a token of a call."""
    code = "from airflow_provider_fbca.sandbox import run; run(port=0)"
    with subprocess.Popen(
        [sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        try:
            lines = [process.stdout.readline() for _ in range(6)]
            connection = json.loads(lines[-1].split("=", 1)[1].strip().strip("'"))
            url = f"{connection['host']}/v26.0/{connection['extra']['ad_account_id']}"
            answer = requests.get(url, params={"access_token": connection["password"]}, timeout=30)
            assert answer.status_code == 200
            assert connection["conn_type"] == "fbca"
            requests.get(url, params={"access_token": "hunter2"}, timeout=30)
        finally:
            process.terminate()
        output = "".join(process.communicate(timeout=30))
    assert "hunter2" not in output


def test_import_is_light() -> None:
    code = "import sys, airflow_provider_fbca.sandbox; print('fastapi' in sys.modules, 'airflow' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env=os.environ)
    assert done.stdout.split() == ["False", "False"]


def test_app_factory() -> None:
    assert create_app() is not create_app(Settings(), Clock())
    assert DEFAULT_PORT > 1024
