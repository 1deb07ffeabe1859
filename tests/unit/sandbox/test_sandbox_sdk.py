"""The official SDK's own objects, pointed at the sandbox: its shapes go in and the sandbox's come out."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
import requests
from facebook_business.adobjects.adaccount import AdAccount
from facebook_business.adobjects.customaudience import CustomAudience
from facebook_business.adobjects.user import User
from facebook_business.api import FacebookAdsApi
from facebook_business.exceptions import FacebookRequestError
from facebook_business.session import FacebookSession
from sandbox_client import digest

if TYPE_CHECKING:
    from collections.abc import Iterator

    from airflow_provider_fbca.sandbox import Sandbox

Schema = CustomAudience.Schema


@pytest.fixture
def api(sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch) -> Iterator[FacebookAdsApi]:
    monkeypatch.setattr(FacebookSession, "GRAPH", sandbox.url)
    return FacebookAdsApi(FacebookSession(sandbox.app_id, sandbox.app_secret, sandbox.token))


@pytest.fixture
def account(sandbox: Sandbox, api: FacebookAdsApi) -> AdAccount:
    return AdAccount(f"act_{sandbox.ad_account_id}", api=api)


@pytest.fixture
def made(account: AdAccount) -> CustomAudience:
    params = {
        "name": "By the SDK",
        "subtype": CustomAudience.Subtype.custom,
        "customer_file_source": CustomAudience.CustomerFileSource.user_provided_only,
    }
    return account.create_custom_audience(params=params)


def test_proof_and_token_stand_in_the_url(sandbox: Sandbox, api: FacebookAdsApi) -> None:
    sandbox.change(require_proof=True)
    assert User("me", api=api).api_get(fields=["name"])["name"] == "Sandbox user"
    entry = sandbox.requests()[0]
    assert entry["query_has_access_token"] is True
    assert entry["query_has_appsecret_proof"] is True


def test_create_read_update_delete(made: CustomAudience) -> None:
    read = made.api_get(fields=["name", "operation_status", "subtype"])
    assert (read["name"], read["operation_status"]["code"], read["subtype"]) == ("By the SDK", 410, "CUSTOM")
    made.api_update(params={"name": "Renamed"})
    assert made.api_get(fields=["name"])["name"] == "Renamed"
    made.api_delete()
    with pytest.raises(FacebookRequestError) as caught:
        made.api_get()
    assert (caught.value.api_error_code(), caught.value.api_error_subcode()) == (100, 33)
    assert caught.value.http_status() == 400


def test_list_over_pages(account: AdAccount) -> None:
    for number in range(30):
        account.create_custom_audience(params={"name": f"Audience {number}", "subtype": "CUSTOM"})
    found = account.get_custom_audiences(fields=["name"])
    assert [one["name"] for one in found] == [f"Audience {number}" for number in range(30)]
    assert found.total() == 30


def test_add_and_remove_with_one_key(sandbox: Sandbox, made: CustomAudience) -> None:
    answer = made.add_users(Schema.email_hash, ["Mary@example.com ", "joe@example.com"])
    assert answer.json()["num_received"] == 2
    assert answer.json()["num_invalid_entries"] == 0
    assert {row["EMAIL"] for row in sandbox.members(made["id"])} == {
        digest("mary@example.com"),
        digest("joe@example.com"),
    }
    made.remove_users(Schema.email_hash, ["mary@example.com"])
    assert sandbox.members(made["id"]) == [{"EMAIL": digest("joe@example.com")}]


def test_add_with_several_keys(sandbox: Sandbox, made: CustomAudience) -> None:
    schema = [Schema.MultiKeySchema.extern_id, Schema.MultiKeySchema.email]
    made.add_users(schema, [["c1", "mary@example.com"]], is_raw=True)
    assert sandbox.members(made["id"]) == [{"EXTERN_ID": "c1", "EMAIL": digest("mary@example.com")}]


def test_its_unhashed_upload_is_all_invalid(made: CustomAudience) -> None:
    answer = made.add_users("EMAIL", ["mary@example.com"])
    assert answer.json()["num_invalid_entries"] == 1


def test_its_long_removals_break(sandbox: Sandbox, made: CustomAudience) -> None:
    people = [f"person{number}@example.com" for number in range(400)]
    made.add_users(Schema.email_hash, people)
    made.remove_users(Schema.email_hash, people[:150])
    assert len(sandbox.members(made["id"])) == 250
    with pytest.raises(requests.ConnectionError):
        made.remove_users(Schema.email_hash, people)
    assert len(sandbox.members(made["id"])) == 250


def test_replace(sandbox: Sandbox, made: CustomAudience) -> None:
    sandbox.change(replace_seconds=0)
    payload = {"schema": ["EMAIL"], "data": [[digest("mary@example.com")]]}
    made.create_users_replace(
        params={"payload": payload, "session": {"session_id": 3, "batch_seq": 1, "last_batch_flag": True}}
    )
    assert sandbox.members(made["id"]) == [{"EMAIL": digest("mary@example.com")}]
    sessions = made.get_sessions(fields=["session_id", "num_received", "stage"])
    assert [(one["session_id"], one["num_received"]) for one in sessions] == [("3", "1")]


def test_opt_out_of_all_audiences(sandbox: Sandbox, account: AdAccount, made: CustomAudience) -> None:
    made.add_users(Schema.email_hash, ["mary@example.com"])
    account.opt_out_user_from_targeting(Schema.email_hash, ["mary@example.com"])
    assert sandbox.members(made["id"]) == []


def test_share(made: CustomAudience) -> None:
    made.share_audience(["100000000000002"])
    assert [one["account_id"] for one in made.get_ad_accounts()] == ["100000000000002"]
    made.unshare_audience(["100000000000002"])
    assert list(made.get_ad_accounts()) == []


def test_accounts_of_the_token(api: FacebookAdsApi) -> None:
    accounts = User("me", api=api).get_ad_accounts(fields=["account_id", "name"])
    assert [one["account_id"] for one in accounts] == ["100000000000001", "100000000000002"]
