"""From a connection or the environment to a call: what is read, what is masked, what a test of it says."""

from __future__ import annotations

import hashlib
import hmac
import json
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

import pyarrow as pa
import pytest
from airflow.sdk import Connection
from hook_world import ACCOUNT, OTHER_ACCOUNT, SECRET, TOKEN

from airflow_provider_fbca.exceptions import ConnectionFieldsError, GraphNotFoundError
from airflow_provider_fbca.hooks.custom_audience import FacebookCustomAudienceHook

if TYPE_CHECKING:
    from airflow_provider_fbca.sandbox import Sandbox


def test_json_connection_is_read_and_works(connect: Any) -> None:
    connect(extra={"api_version": "v25.0", "timeout": 12, "proxies": {}})
    hook = FacebookCustomAudienceHook()
    found = hook.credentials
    assert (found.access_token, found.app_secret, found.ad_account_id) == (TOKEN, SECRET, ACCOUNT)
    assert (found.api_version, found.timeout, found.proxies) == ("v25.0", 12.0, {})
    assert {account["account_id"] for account in hook.list_ad_accounts()} == {ACCOUNT, OTHER_ACCOUNT}


def test_what_the_connection_form_stores_is_read(connect: Any) -> None:
    """The form stores text where JSON might hold a number or an object."""
    connect(extra={"timeout": "12", "proxies": '{"https": "http://proxy.example.com:3128"}', "api_version": ""})
    found = FacebookCustomAudienceHook().credentials
    assert found.timeout == 12.0
    assert found.proxies == {"https": "http://proxy.example.com:3128"}
    assert found.api_version is None


def test_uri_connection_is_read_and_works(monkeypatch: pytest.MonkeyPatch, sandbox: Sandbox) -> None:
    host = quote(sandbox.url, safe="")
    uri = f"fbca://{sandbox.app_id}:{TOKEN}@{host}/?app_secret={SECRET}&ad_account_id=act_{ACCOUNT}&timeout=12"
    monkeypatch.setenv("AIRFLOW_CONN_FBCA_DEFAULT", uri)
    hook = FacebookCustomAudienceHook()
    assert hook.credentials.ad_account_id == ACCOUNT
    assert hook.credentials.timeout == 12.0
    assert hook.test_connection()[0]


def test_uri_that_airflow_writes_of_a_connection_is_read_again(
    monkeypatch: pytest.MonkeyPatch, sandbox: Sandbox
) -> None:
    stored = Connection.from_json(sandbox.connection_json, conn_id="fbca_default")
    monkeypatch.setenv("AIRFLOW_CONN_FBCA_DEFAULT", stored.get_uri())
    hook = FacebookCustomAudienceHook()
    assert hook.credentials.secrets == (TOKEN, SECRET)
    assert hook.test_connection()[0]


def test_connection_of_the_apache_provider_works_unchanged(monkeypatch: pytest.MonkeyPatch, sandbox: Sandbox) -> None:
    extra = {"app_id": sandbox.app_id, "app_secret": SECRET, "access_token": TOKEN, "account_id": f"act_{ACCOUNT}"}
    connection = {"conn_type": "facebook_social", "host": sandbox.url, "extra": extra}
    monkeypatch.setenv("AIRFLOW_CONN_FACEBOOK_DEFAULT", json.dumps(connection))
    hook = FacebookCustomAudienceHook("facebook_default")
    assert hook.account_id == ACCOUNT
    assert hook.test_connection()[0]


def test_environment_stands_in_for_a_default_connection_that_does_not_exist(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FB_ACCESS_TOKEN", "environment-token")
    monkeypatch.setenv("FB_APP_SECRET", "environment-secret")
    monkeypatch.setenv("FB_AD_ACCOUNT_ID", "act_7")
    found = FacebookCustomAudienceHook().credentials
    assert (found.access_token, found.app_secret, found.ad_account_id) == (
        "environment-token",
        "environment-secret",
        "7",
    )


def test_environment_is_not_looked_at_where_the_default_connection_exists(
    monkeypatch: pytest.MonkeyPatch, connect: Any
) -> None:
    monkeypatch.setenv("FB_ACCESS_TOKEN", "environment-token")
    monkeypatch.setenv("FB_AD_ACCOUNT_ID", "act_7")
    connect()
    found = FacebookCustomAudienceHook().credentials
    assert (found.access_token, found.ad_account_id) == (TOKEN, ACCOUNT)


def test_environment_does_not_fill_gaps_of_a_connection(monkeypatch: pytest.MonkeyPatch, connect: Any) -> None:
    monkeypatch.setenv("FB_ACCESS_TOKEN", "environment-token")
    connect(password=None)
    with pytest.raises(ConnectionFieldsError) as failure:
        _ = FacebookCustomAudienceHook().credentials
    assert failure.value.fields == ("access_token",)


def test_environment_is_not_looked_at_for_another_connection(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FB_ACCESS_TOKEN", "environment-token")
    with pytest.raises(ConnectionFieldsError, match="AIRFLOW_CONN_OTHER"):
        _ = FacebookCustomAudienceHook("other").credentials


def test_every_field_at_fault_is_named_at_once_and_no_value_is_told(connect: Any) -> None:
    connect(password=None, extra={"ad_account_id": "my account", "timeout": "soon", "api_version": "latest"})
    with pytest.raises(ConnectionFieldsError) as failure:
        _ = FacebookCustomAudienceHook().credentials
    assert set(failure.value.fields) == {"access_token", "ad_account_id", "timeout", "api_version"}
    assert not {"my account", "soon", "latest", SECRET} & set(str(failure.value).split("'"))
    assert SECRET not in str(failure.value)


def test_removals_go_as_post_where_the_connection_says_so(connect: Any, sandbox: Sandbox) -> None:
    connect(extra={"delete_style": "method_override"})
    audience_id = sandbox.create_audience()
    users = pa.table({"email": ["a@example.com", "b@example.com"]})
    hook = FacebookCustomAudienceHook()
    hook.add_users(audience_id, users)
    hook.remove_users(audience_id, users.slice(0, 1))
    assert sandbox.audience(audience_id)["rows"] == 1
    assert [call["method"] for call in sandbox.requests("remove_users")] == ["POST"]
    connect(extra={"delete_style": "query"})
    with pytest.raises(ConnectionFieldsError, match="delete_style is neither body nor method_override"):
        FacebookCustomAudienceHook().get_conn()


def test_token_secret_and_proof_are_masked_before_any_call(connect: Any, masked: list[str]) -> None:
    connect()
    FacebookCustomAudienceHook().get_conn()
    proof = hmac.new(SECRET.encode(), TOKEN.encode(), hashlib.sha256).hexdigest()
    assert set(masked) >= {TOKEN, SECRET, proof}


def test_airflows_masker_hides_token_secret_and_proof_in_text(connect: Any) -> None:
    from airflow.sdk.log import redact

    connect()
    FacebookCustomAudienceHook().get_conn()
    proof = hmac.new(SECRET.encode(), TOKEN.encode(), hashlib.sha256).hexdigest()
    hidden = redact(f"{TOKEN} and {SECRET} and {proof}")
    assert hidden == "*** and *** and ***"


def test_nothing_shows_a_secret(connect: Any) -> None:
    connect()
    hook = FacebookCustomAudienceHook()
    for shown in (repr(hook.credentials), repr(hook.get_conn()), repr(hook), str(vars(hook.credentials).keys())):
        assert TOKEN not in shown
        assert SECRET not in shown


def test_good_token_passes_the_test(connect: Any) -> None:
    connect()
    good, told = FacebookCustomAudienceHook().test_connection()
    assert good
    for part in ("300000000000001", "ads_management is granted", "never expires", ACCOUNT, "terms are accepted"):
        assert part in told
    assert TOKEN not in told


def test_connection_without_an_account_passes_the_test_and_says_so(connect: Any) -> None:
    connect(extra={"ad_account_id": None})
    good, told = FacebookCustomAudienceHook().test_connection()
    assert good
    assert "No ad account" in told


def test_wrong_token_fails_the_test(connect: Any) -> None:
    connect(password="EAABwrongTokenOfNobody", extra={"app_secret": None})
    good, told = FacebookCustomAudienceHook().test_connection()
    assert not good
    assert "EAABwrongTokenOfNobody" not in told
    assert "token" in told.lower()


def test_wrong_app_secret_fails_the_test(connect: Any) -> None:
    connect(extra={"app_secret": "another0secret0of0nobody01234567"})
    good, told = FacebookCustomAudienceHook().test_connection()
    assert not good
    assert "another0secret" not in told


def test_missing_permission_fails_the_test(connect: Any, sandbox: Sandbox) -> None:
    sandbox.put_token(TOKEN, [ACCOUNT], scopes=["ads_read"])
    connect()
    good, told = FacebookCustomAudienceHook().test_connection()
    assert not good
    assert "ads_management is missing" in told


def test_terms_not_accepted_fail_the_test(connect: Any, sandbox: Sandbox) -> None:
    sandbox.change(tos_accepted=False)
    connect()
    good, told = FacebookCustomAudienceHook().test_connection()
    assert not good
    assert "terms are not accepted" in told
    assert f"act={ACCOUNT}" in told


def test_expired_token_fails_the_test(connect: Any, sandbox: Sandbox) -> None:
    sandbox.put_token(TOKEN, [ACCOUNT], expires_in=-60)
    connect()
    good, told = FacebookCustomAudienceHook().test_connection()
    assert not good
    assert "expired" in told.lower() or "ended" in told.lower()


def test_token_that_will_end_passes_the_test_and_its_end_is_told(connect: Any, sandbox: Sandbox) -> None:
    sandbox.put_token(TOKEN, [ACCOUNT], expires_in=86_400)
    connect()
    good, told = FacebookCustomAudienceHook().test_connection()
    assert good
    assert "The token ends" in told


def test_account_that_the_token_does_not_see_fails_the_test(connect: Any, sandbox: Sandbox) -> None:
    sandbox.put_token(TOKEN, [OTHER_ACCOUNT])
    connect()
    good, _ = FacebookCustomAudienceHook().test_connection()
    assert not good


@pytest.mark.parametrize(
    "fields",
    [
        {"password": None},
        {"host": "http://graph.example.com"},
        {"host": "http://127.0.0.1:9"},
        {"extra": {"proxies": "no json"}},
        {"extra": {"ad_account_id": "nobody"}},
    ],
    ids=["no token", "plain http abroad", "nobody listens", "proxies no json", "account no number"],
)
def test_unusable_connection_fails_the_test_without_raising(connect: Any, fields: dict[str, Any]) -> None:
    connect(**fields)
    good, told = FacebookCustomAudienceHook().test_connection()
    assert not good
    assert told
    assert TOKEN not in told


def test_hook_is_what_airflow_makes_of_the_connection(connect: Any) -> None:
    connect("meta")
    assert isinstance(Connection.get("meta").get_hook(), FacebookCustomAudienceHook)


def test_account_of_the_hook_goes_before_that_of_the_connection(connect: Any) -> None:
    connect()
    assert FacebookCustomAudienceHook(ad_account_id=f"act_{OTHER_ACCOUNT}").account_id == OTHER_ACCOUNT


def test_audience_of_another_account_is_refused(connect: Any, sandbox: Sandbox) -> None:
    sandbox.change(require_proof=False)
    audience_id = sandbox.create_audience()
    connect(extra={"ad_account_id": OTHER_ACCOUNT})
    with pytest.raises(ConnectionFieldsError, match=f"belongs to ad account {ACCOUNT}"):
        FacebookCustomAudienceHook().ready_audience(audience_id)
    assert FacebookCustomAudienceHook(ad_account_id=ACCOUNT).ready_audience(audience_id).account_id == ACCOUNT
    with pytest.raises(GraphNotFoundError):
        FacebookCustomAudienceHook(ad_account_id=ACCOUNT).ready_audience("120219999999999999")
