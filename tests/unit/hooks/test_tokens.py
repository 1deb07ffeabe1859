"""What the hook finds out about its token before long work, and the exchange for a longer-lived one."""

from __future__ import annotations

import json
import logging
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import pytest
from hook_world import ACCOUNT, OTHER_ACCOUNT, SECRET, TOKEN
from hypothesis import given
from hypothesis import strategies as st

from airflow_provider_fbca.exceptions import (
    ConnectionFieldsError,
    GraphAuthError,
    GraphNotFoundError,
    GraphPermissionError,
)
from airflow_provider_fbca.graph.retry import RetryPolicy
from airflow_provider_fbca.hooks.custom_audience import FacebookCustomAudienceHook
from airflow_provider_fbca.hooks.tokens import NewToken, verdicts
from airflow_provider_fbca.sandbox import Settings
from airflow_provider_fbca.sandbox.settings import Token
from airflow_provider_fbca.sandbox.testing import Sandbox, serve

if TYPE_CHECKING:
    from collections.abc import Mapping

DAY = 86_400
NOW = datetime(2026, 11, 22, 8, tzinfo=UTC)


@pytest.fixture(autouse=True)
def everything_is_logged(caplog: pytest.LogCaptureFixture) -> Any:
    """Down to the HTTP library's debugging, and no secret is in it."""
    caplog.set_level(logging.DEBUG)
    yield
    assert not any(secret in caplog.text for secret in (TOKEN, SECRET))


def warnings(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING]


def test_good_token_is_asked_about_once_and_nothing_is_said(
    connect: Any, sandbox: Sandbox, caplog: pytest.LogCaptureFixture
) -> None:
    connect()
    hook = FacebookCustomAudienceHook()
    hook.check_token()
    hook.check_token()
    assert len(sandbox.requests("debug_token")) == 1
    assert not warnings(caplog)


@pytest.mark.parametrize("end", ["expires_in", "data_access_expires_in"])
def test_days_before_an_end_the_log_warns_and_names_the_remedy(
    connect: Any, sandbox: Sandbox, caplog: pytest.LogCaptureFixture, end: str
) -> None:
    connect()
    sandbox.put_token(TOKEN, [ACCOUNT], **{end: 8 * DAY})
    FacebookCustomAudienceHook().check_token()
    assert not warnings(caplog)
    sandbox.put_token(TOKEN, [ACCOUNT], **{end: 6 * DAY})
    FacebookCustomAudienceHook().check_token()
    [told] = warnings(caplog)
    assert " ends " in told
    assert "fbca login" in told


def test_end_of_data_access_does_not_stop_work(
    connect: Any, sandbox: Sandbox, caplog: pytest.LogCaptureFixture
) -> None:
    connect()
    sandbox.put_token(TOKEN, [ACCOUNT], data_access_expires_in=-DAY)
    FacebookCustomAudienceHook().check_token()
    [told] = warnings(caplog)
    assert " ended " in told


@pytest.mark.parametrize("secret", [SECRET, None], ids=["the app asks", "the token asks"])
def test_expired_token_stops_work_for_good(connect: Any, sandbox: Sandbox, secret: str | None) -> None:
    sandbox.change(require_proof=False)
    connect(extra={"app_secret": secret})
    sandbox.put_token(TOKEN, [ACCOUNT], expires_in=-60)
    with pytest.raises(GraphAuthError, match="expired") as failure:
        FacebookCustomAudienceHook().check_token()
    assert failure.value.permanent
    assert (failure.value.code, failure.value.subcode) == (190, 463)
    assert failure.value.remedy


def test_unknown_token_stops_work_for_good(connect: Any) -> None:
    connect(password="EAABwrongTokenOfNobody")
    with pytest.raises(GraphAuthError) as failure:
        FacebookCustomAudienceHook().check_token()
    assert failure.value.permanent
    assert "EAABwrongTokenOfNobody" not in str(failure.value)


def test_token_without_the_permission_stops_work_for_good(connect: Any, sandbox: Sandbox) -> None:
    sandbox.put_token(TOKEN, [ACCOUNT], scopes=["ads_read"])
    connect()
    with pytest.raises(GraphPermissionError, match="ads_management is missing") as failure:
        FacebookCustomAudienceHook().check_token()
    assert failure.value.permanent


def test_a_failed_check_fails_again(connect: Any, sandbox: Sandbox) -> None:
    connect()
    sandbox.put_token(TOKEN, [ACCOUNT], expires_in=-60)
    hook = FacebookCustomAudienceHook()
    for _ in range(2):
        with pytest.raises(GraphAuthError):
            hook.check_token()


@pytest.mark.parametrize(
    "fault",
    [
        {"code": 100, "status": 400},
        {"code": 190, "status": 400},
        {"code": 2, "status": 500},
        {"code": 4, "status": 400},
    ],
    ids=["not to be asked", "app refused", "outage", "rate limit"],
)
def test_where_meta_does_not_tell_nothing_is_said(
    connect: Any, sandbox: Sandbox, caplog: pytest.LogCaptureFixture, fault: dict[str, int]
) -> None:
    connect()
    sandbox.fault("graph", operation="debug_token", is_transient=False, **fault)
    hook = FacebookCustomAudienceHook()
    hook.get_conn().retry = RetryPolicy(attempts=1, throttle_pause=0)
    hook.check_token()
    assert not warnings(caplog)
    assert any("not known" in record.getMessage() for record in caplog.records)


@given(seconds=st.integers(1, 4_000_000_000), permitted=st.booleans())
def test_only_meta_says_that_a_token_has_ended(seconds: int, permitted: bool) -> None:
    scopes = ["ads_management"] if permitted else ["ads_read"]
    found = list(verdicts({"is_valid": True, "expires_at": seconds, "scopes": scopes}, NOW))
    assert any(verdict.failure for verdict in found) is not permitted
    is_near = datetime.fromtimestamp(seconds, UTC) - NOW <= timedelta(days=7)
    assert any(verdict.is_warning for verdict in found) is is_near


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=9),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=9), inner, max_size=3),
    max_leaves=5,
)


@given(
    info=st.fixed_dictionaries(
        {},
        optional=dict.fromkeys(("is_valid", "expires_at", "data_access_expires_at", "scopes"), JSON),
    )
)
def test_odd_descriptions_break_nothing(info: Mapping[str, Any]) -> None:
    found = list(verdicts(info, NOW))
    failures = [verdict.failure for verdict in found if verdict.failure]
    assert all(isinstance(failure, GraphAuthError | GraphPermissionError) for failure in failures)
    if info.get("is_valid") is not False and "scopes" not in info:
        assert not failures


def test_exchanged_token_works_and_shows_itself_nowhere(connect: Any, sandbox: Sandbox, masked: list[str]) -> None:
    connect()
    sandbox.put_token(TOKEN, [ACCOUNT], expires_in=3600)
    token = FacebookCustomAudienceHook().exchange_token()
    assert token.value in masked
    assert token.value not in f"{token} {token!r}"
    assert token.ends is not None
    assert timedelta(days=59) < token.ends - datetime.now(UTC) <= timedelta(days=60)
    connect(password=token.value)
    assert [account["account_id"] for account in FacebookCustomAudienceHook().list_ad_accounts()] == [ACCOUNT]
    [asked] = sandbox.requests("exchange_token")
    # Nothing at all is in the address: no secret either.
    assert asked["url_length"] == len(asked["path"])


def test_exchange_names_all_fields_that_it_lacks(connect: Any, sandbox: Sandbox) -> None:
    connect(login=None, extra={"app_secret": None})
    with pytest.raises(ConnectionFieldsError, match="login and app_secret of connection 'fbca_default'") as failure:
        FacebookCustomAudienceHook().exchange_token()
    assert failure.value.fields == ("login", "app_secret")
    assert not sandbox.requests()


def test_expired_token_cannot_be_exchanged(connect: Any, sandbox: Sandbox) -> None:
    connect()
    sandbox.put_token(TOKEN, [ACCOUNT], expires_in=-60)
    with pytest.raises(GraphAuthError, match="expired"):
        FacebookCustomAudienceHook().exchange_token()


@pytest.mark.parametrize(
    "wrong", [{"login": "9"}, {"extra": {"app_secret": "another0secret0of0nobody01234567"}}], ids=["app", "secret"]
)
def test_exchange_with_a_wrong_app_is_tried_once_and_tells_no_secret(
    connect: Any, sandbox: Sandbox, wrong: dict[str, Any]
) -> None:
    connect(**wrong)
    with pytest.raises(GraphAuthError, match="App settings > Basic") as failure:
        FacebookCustomAudienceHook().exchange_token()
    assert "another0secret" not in repr(vars(failure.value))
    assert len(sandbox.requests("exchange_token")) == 1


def test_exchange_outlives_a_passing_fault(connect: Any, sandbox: Sandbox) -> None:
    connect()
    sandbox.fault("graph", operation="exchange_token", code=2, status=500)
    hook = FacebookCustomAudienceHook()
    hook.get_conn().retry = RetryPolicy(sleep=lambda _seconds: None)
    assert isinstance(hook.exchange_token(), NewToken)


def test_connections_of_one_process_do_not_mix(connect: Any, sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch) -> None:
    """Three tokens of two apps, each of which sees one ad account only, at work at once in many threads."""
    mine, theirs = TOKEN + "mine", TOKEN + "theirs"
    sandbox.put_token(mine, [ACCOUNT])
    sandbox.put_token(theirs, [OTHER_ACCOUNT])
    connect("mine", password=mine, extra={"ad_account_id": ACCOUNT})
    connect("theirs", password=theirs, extra={"ad_account_id": OTHER_ACCOUNT})
    away_token, away_secret = TOKEN + "away", "0" * 32
    settings = Settings(tokens={away_token: Token((ACCOUNT,))}, app_id="7", app_secret=away_secret, require_proof=True)
    with serve(settings) as away:
        monkeypatch.setenv("AIRFLOW_CONN_AWAY", json.dumps(json.loads(away.connection_json)))
        accounts = {"mine": ACCOUNT, "theirs": OTHER_ACCOUNT, "away": ACCOUNT}
        hooks = {name: FacebookCustomAudienceHook(name) for name in accounts}

        def work(number: int) -> tuple[str, list[str], str]:
            name = list(accounts)[number % 3]
            seen = [account["account_id"] for account in hooks[name].list_ad_accounts()]
            hooks[name].check_token()
            return name, seen, hooks[name].create_audience(f"Audience {number}")

        with ThreadPoolExecutor(9) as pool:
            done = list(pool.map(work, range(90)))
        for name, seen, audience_id in done:
            assert seen == [accounts[name]]
            assert hooks[name].get_audience(audience_id)["account_id"] == accounts[name]
        assert {audience["account_id"] for audience in away.audiences()} == {ACCOUNT}
        assert len(away.audiences()) == 30
    created = sandbox.requests("create_audience")
    assert len(created) == 60
    assert {request["error"] for request in sandbox.requests()} == {None}
    with pytest.raises(GraphNotFoundError):
        hooks["mine"].get_audience(next(audience for name, _, audience in done if name == "theirs"))
