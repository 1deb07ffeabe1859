"""How calls reach the sandbox: versions, tokens, proofs, where parameters stand, and how big a call may be."""

from __future__ import annotations

import hashlib
import hmac
import json

import pytest
import requests
from sandbox_client import Graph, as_set, digest

ROW = [[digest("mary@example.com")]]
PAYLOAD = {"schema": ["EMAIL"], "data": ROW}


@pytest.mark.parametrize("version", ["v26.0", "v22.0", "v1.0"])
def test_any_version_answers(graph: Graph, version: str) -> None:
    assert graph.ok("GET", "me", version=version)["id"]


def test_no_version_no_answer(graph: Graph) -> None:
    answer = requests.get(f"{graph.sandbox.url}/me", headers=graph.headers, timeout=30)
    assert answer.json()["error"]["code"] == 2635


def test_old_versions_end_or_warn(graph: Graph) -> None:
    graph.sandbox.change(ended_versions=["v20.0"], warned_versions=["v21.0"])
    assert graph.error("GET", "me", version="v20.0") == (2635, None)
    assert "x-ad-api-version-warning" in graph.call("GET", "me", version="v21.0").headers
    assert "x-ad-api-version-warning" not in graph.call("GET", "me").headers


def test_token_in_every_place(graph: Graph, audience: str) -> None:
    token = {"access_token": graph.sandbox.token}
    graph.ok("GET", audience, headers={}, params=token)
    graph.ok("POST", audience, headers={}, data=token | {"description": "form"})
    graph.ok("POST", audience, headers={}, json=token | {"description": "json"})
    graph.ok("POST", audience, headers={}, files={"description": (None, "multipart")}, data=token)
    places = [entry["token_place"] for entry in graph.sandbox.requests()]
    assert places == ["header", "query", "body", "body", "body"]
    assert [entry["query_has_access_token"] for entry in graph.sandbox.requests()] == [False, True, False, False, False]
    assert graph.ok("GET", f"{audience}?fields=description")["description"] == "multipart"


def test_missing_unknown_and_expired_tokens(graph: Graph) -> None:
    assert graph.error("GET", "me", headers={}) == (190, None)
    assert graph.error("GET", "me", headers={"Authorization": "Bearer nonsense"}) == (190, None)
    graph.sandbox.put_token("short", [graph.sandbox.ad_account_id], expires_in=60)
    graph.ok("GET", "me", headers={"Authorization": "Bearer short"})
    graph.sandbox.advance(61)
    assert graph.error("GET", "me", headers={"Authorization": "Bearer short"}) == (190, 463)


def test_missing_permission(graph: Graph, audience: str) -> None:
    graph.sandbox.put_token("reader", [graph.sandbox.ad_account_id], scopes=["ads_read"])
    headers = {"Authorization": "Bearer reader"}
    graph.ok("GET", audience, headers=headers)
    assert graph.error("POST", f"{audience}/users", headers=headers, json={"payload": PAYLOAD}) == (200, None)


def test_accounts_of_other_tokens_are_unknown(graph: Graph, audience: str) -> None:
    graph.sandbox.put_token("other", ["act_100000000000002"])
    headers = {"Authorization": "Bearer other"}
    assert graph.error("GET", audience, headers=headers) == (100, 33)
    assert graph.error("GET", f"act_{graph.sandbox.ad_account_id}", headers=headers) == (100, 33)
    assert [one["id"] for one in graph.ok("GET", "me/adaccounts", headers=headers)["data"]] == ["act_100000000000002"]


def proof(secret: str, message: str) -> str:
    return hmac.new(secret.encode(), message.encode(), hashlib.sha256).hexdigest()


def test_proof(graph: Graph) -> None:
    sandbox = graph.sandbox
    good = proof(sandbox.app_secret, sandbox.token)
    timed = proof(sandbox.app_secret, f"{sandbox.token}|1800000000")
    graph.ok("GET", "me", params={"appsecret_proof": good})
    answer = graph.call("GET", "me", params={"appsecret_proof": "0" * 64})
    assert "Invalid appsecret_proof provided" in answer.json()["error"]["message"]
    sandbox.change(require_proof=True)
    answer = graph.call("GET", "me")
    assert "require an appsecret_proof argument" in answer.json()["error"]["message"]
    assert answer.json()["error"]["type"] == "GraphMethodException"
    graph.ok("GET", "me", params={"appsecret_proof": good})
    graph.ok("GET", "me", params={"appsecret_proof": timed, "appsecret_time": "1800000000"})
    assert sandbox.requests()[-1]["query_has_appsecret_proof"] is True


@pytest.mark.parametrize("method", ["delete", "DELETE"])
def test_method_override(graph: Graph, audience: str, method: str) -> None:
    graph.add(audience, ["EMAIL"], ROW)
    graph.ok("POST", f"{audience}/users", json={"payload": PAYLOAD, "method": method})
    assert graph.sandbox.members(audience) == []


@pytest.mark.parametrize("method", ["get", "GET"])
def test_override_to_get(graph: Graph, audience: str, method: str) -> None:
    assert graph.ok("POST", audience, data={"method": method, "fields": "name"})["name"] == "Test audience"


@pytest.mark.parametrize(
    "body",
    [
        {"json": {"payload": PAYLOAD}},
        {"json": {"payload": json.dumps(PAYLOAD)}},
        {"data": {"payload": json.dumps(PAYLOAD)}},
        {"files": {"payload": (None, json.dumps(PAYLOAD))}},
        {"params": {"payload": json.dumps(PAYLOAD)}},
    ],
    ids=["json", "json with a string", "form", "multipart", "query"],
)
@pytest.mark.parametrize("method", ["POST", "DELETE"])
def test_payload_in_every_form(graph: Graph, audience: str, body: dict, method: str) -> None:
    if method == "DELETE":
        graph.add(audience, ["EMAIL"], ROW)
    assert graph.ok(method, f"{audience}/users", **body)["num_received"] == 1
    expected = {frozenset({("EMAIL", ROW[0][0])})} if method == "POST" else set()
    assert as_set(graph.sandbox.members(audience)) == expected


def test_form_survives_odd_characters(graph: Graph, audience: str) -> None:
    odd = 'a%22 "+&=,[]{}: é\\'
    graph.ok("POST", f"{audience}/users", data={"payload": json.dumps({"schema": ["EXTERN_ID"], "data": [[odd]]})})
    assert graph.sandbox.members(audience) == [{"EXTERN_ID": odd}]


@pytest.mark.parametrize(
    "kind", ["application/json", "application/x-www-form-urlencoded", "multipart/form-data; boundary=x"]
)
def test_body_that_is_neither_json_nor_form(graph: Graph, audience: str, kind: str) -> None:
    for body in (b"[1, 2", b"{\xff\xfe", b"\xff\xfe=1", b"--x\r\nnonsense"):
        headers = graph.headers | {"Content-Type": kind}
        assert graph.error("POST", f"{audience}/users", data=body, headers=headers) == (100, None)


@pytest.mark.parametrize("size", [17_000, 60_000, 800_000])
def test_long_url_gets_no_answer(graph: Graph, audience: str, size: int) -> None:
    with pytest.raises(requests.ConnectionError):
        graph.call("DELETE", f"{audience}/users?payload={'x' * size}&access_token=hunter2")
    entry = graph.sandbox.requests()[-1]
    assert entry["url_length"] > size
    assert entry["status"] is None
    assert entry["query_has_access_token"] is True
    assert "hunter2" not in json.dumps(entry)


def test_url_below_the_limit_is_answered(graph: Graph, audience: str) -> None:
    graph.ok("GET", f"{audience}?unused={'x' * 16_000}")


def test_large_body_gets_a_page(graph: Graph, audience: str) -> None:
    graph.sandbox.change(max_body_bytes=1000)
    answer = graph.upload(audience, ["EMAIL"], ROW * 100)
    assert answer.status_code == 413
    assert answer.headers["content-type"].startswith("text/html")


def test_unknown_paths(graph: Graph, audience: str) -> None:
    assert graph.error("GET", f"{audience}/users")[0] == 2500
    assert graph.error("PUT", audience)[0] == 2500
    assert graph.error("GET", "999") == (100, 33)


def test_log_has_no_values(graph: Graph, audience: str) -> None:
    graph.add(audience, ["EMAIL"], ROW, session_id=5, batch_seq=1, last_batch_flag=True)
    entry = graph.sandbox.requests("add_users")[0]
    assert (entry["rows"], entry["session_id"], entry["batch_seq"], entry["last_batch_flag"]) == (1, "5", 1, True)
    assert entry["body_bytes"] > 64
    assert entry["status"] == 200
    text = json.dumps(graph.sandbox.requests())
    assert ROW[0][0] not in text
    assert graph.sandbox.token not in text
