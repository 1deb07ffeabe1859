"""Logging in to the sandbox: the dialog, its codes, and what tokens are exchanged for."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs, urlsplit

import pytest

if TYPE_CHECKING:
    import requests
    from sandbox_client import Graph

BACK = "http://localhost:8096/"
LONG_LIVED = 60 * 24 * 3600


@pytest.fixture
def app(graph: Graph) -> dict[str, str]:
    return {"client_id": graph.sandbox.app_id, "client_secret": graph.sandbox.app_secret}


def dialog(graph: Graph, answer: str | None = "allow", **changed: Any) -> requests.Response:
    """Open the dialog without a token, as a browser does, and press a button of it."""
    asked = {"client_id": graph.sandbox.app_id, "redirect_uri": BACK, "state": "s", "scope": "ads_management,ads_read"}
    params = asked | {"sandbox_answer": answer} | changed
    return graph.call("GET", "dialog/oauth", headers={}, params=params, allow_redirects=False)


def sent_back(answer: requests.Response) -> dict[str, str]:
    assert answer.status_code == 302
    address = answer.headers["Location"]
    assert address.startswith(BACK)
    assert address.endswith("#_=_")
    return {name: values[0] for name, values in parse_qs(urlsplit(address).query).items()}


def code_of(graph: Graph, **changed: Any) -> dict[str, str]:
    return {"code": sent_back(dialog(graph, **changed))["code"], "redirect_uri": changed.get("redirect_uri", BACK)}


def as_user(token: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {token}"}


def test_a_person_is_shown_what_the_app_asks_for(graph: Graph) -> None:
    page = dialog(graph, None)
    assert page.status_code == 200
    for part in ("ads_management", "ads_read", 'value="allow"', 'value="deny"'):
        assert part in page.text


def test_code_is_exchanged_for_a_short_lived_token(graph: Graph, app: dict[str, str]) -> None:
    answer = sent_back(dialog(graph, return_scopes="true"))
    assert (answer["state"], answer["granted_scopes"]) == ("s", "ads_management,ads_read")
    code = {"code": answer["code"], "redirect_uri": BACK}
    given = graph.ok("POST", "oauth/access_token", headers={}, data=app | code)
    assert given["expires_in"] < LONG_LIVED
    accounts = graph.ok("GET", "me/adaccounts", headers=as_user(given["access_token"]))["data"]
    assert graph.sandbox.ad_account_id in {account["account_id"] for account in accounts}
    graph.sandbox.advance(given["expires_in"])
    assert graph.error("GET", "me", headers=as_user(given["access_token"])) == (190, 463)


def test_a_code_is_good_once(graph: Graph, app: dict[str, str]) -> None:
    code = code_of(graph)
    graph.ok("POST", "oauth/access_token", headers={}, data=app | code)
    assert graph.error("POST", "oauth/access_token", headers={}, data=app | code) == (100, 36009)


def test_a_code_is_good_for_its_address_only(graph: Graph, app: dict[str, str]) -> None:
    code = code_of(graph) | {"redirect_uri": BACK + "other"}
    assert graph.error("POST", "oauth/access_token", headers={}, data=app | code) == (100, 36008)


def test_a_code_ends(graph: Graph, app: dict[str, str]) -> None:
    code = code_of(graph)
    graph.sandbox.advance(3600)
    assert graph.error("POST", "oauth/access_token", headers={}, data=app | code) == (100, 36007)


def test_a_made_up_code_is_refused(graph: Graph, app: dict[str, str]) -> None:
    code = {"code": "nonsense", "redirect_uri": BACK}
    assert graph.error("POST", "oauth/access_token", headers={}, data=app | code) == (100, None)


def test_a_person_may_say_no(graph: Graph) -> None:
    answer = sent_back(dialog(graph, "deny"))
    assert (answer["error"], answer["error_reason"], answer["state"]) == ("access_denied", "user_denied", "s")
    assert "code" not in answer


def test_a_person_may_withhold_a_permission(graph: Graph, app: dict[str, str]) -> None:
    answer = sent_back(dialog(graph, sandbox_grant="ads_read", return_scopes="true"))
    assert (answer["granted_scopes"], answer["denied_scopes"]) == ("ads_read", "ads_management")
    code = {"code": answer["code"], "redirect_uri": BACK}
    given = graph.ok("POST", "oauth/access_token", headers={}, data=app | code)
    told = graph.ok("GET", "debug_token", params={"input_token": given["access_token"]})["data"]
    assert told["scopes"] == ["ads_read"]


@pytest.mark.parametrize(
    "changed",
    [
        {"client_id": "1"},
        {"redirect_uri": "http://127.0.0.1:8096/"},
        {"redirect_uri": "http://example.com/"},
        {"redirect_uri": ""},
        {"scope": "ads_management,<everything>"},
    ],
    ids=["app", "plain http by number", "plain http abroad", "no address", "permission"],
)
def test_a_wrong_request_is_told_to_the_person_and_sent_nowhere(graph: Graph, changed: dict[str, str]) -> None:
    answer = dialog(graph, **changed)
    assert answer.status_code == 400
    assert "Location" not in answer.headers
    assert "<everything>" not in answer.text


def test_codes_are_gone_after_a_reset(graph: Graph, app: dict[str, str]) -> None:
    code = code_of(graph)
    graph.sandbox.reset()
    assert graph.error("POST", "oauth/access_token", headers={}, data=app | code) == (100, None)


def test_exchange_token(graph: Graph, app: dict[str, str]) -> None:
    sandbox = graph.sandbox
    exchange = app | {"grant_type": "fb_exchange_token", "fb_exchange_token": sandbox.token}
    for method in ("GET", "POST"):
        given = graph.ok(method, "oauth/access_token", headers={}, params=exchange)
        assert given["expires_in"] == LONG_LIVED
        graph.ok("GET", "me", headers=as_user(given["access_token"]))
    sandbox.advance(LONG_LIVED)
    assert graph.error("GET", "me", headers=as_user(given["access_token"])) == (190, 463)
    ended = exchange | {"fb_exchange_token": given["access_token"]}
    assert graph.error("GET", "oauth/access_token", params=ended) == (190, 463)
    app_token = graph.ok("GET", "oauth/access_token", params=app | {"grant_type": "client_credentials"})["access_token"]
    assert app_token == f"{sandbox.app_id}|{sandbox.app_secret}"


def test_a_wrong_app_or_secret_gets_no_token(graph: Graph, app: dict[str, str]) -> None:
    exchange = app | {"grant_type": "fb_exchange_token", "fb_exchange_token": graph.sandbox.token}
    assert graph.error("GET", "oauth/access_token", params=exchange | {"client_id": "1"}) == (101, None)
    assert graph.error("GET", "oauth/access_token", params=exchange | {"client_secret": "x"}) == (1, None)
