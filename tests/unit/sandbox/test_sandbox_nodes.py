"""Audiences and ad accounts as objects: create, read, list, change, delete, share; tokens; lookalikes."""

from __future__ import annotations

from typing import Any

import pytest
from sandbox_client import NOON, Graph, digest

ACCOUNT = "act_100000000000001"
LOOKALIKE_SPEC = {"type": "similarity", "country": "US", "ratio": 0.01}


def create(graph: Graph, **details: Any) -> str:
    return graph.ok("POST", f"{ACCOUNT}/customaudiences", json={"name": "Buyers", "subtype": "CUSTOM"} | details)["id"]


def fill(graph: Graph, audience: str, count: int) -> None:
    graph.add(audience, ["EMAIL"], [[digest(str(number))] for number in range(count)])


def test_create_and_read(graph: Graph) -> None:
    audience = create(graph, description="d", customer_file_source="USER_PROVIDED_ONLY", retention_days=30)
    assert audience.isdecimal()
    assert int(audience) > 2**53
    assert graph.ok("GET", audience) == {"id": audience}
    fields = "name,description,subtype,account_id,customer_file_source,is_value_based,retention_days,time_created"
    assert graph.ok("GET", audience, params={"fields": fields}) == {
        "id": audience,
        "name": "Buyers",
        "description": "d",
        "subtype": "CUSTOM",
        "account_id": "100000000000001",
        "customer_file_source": "USER_PROVIDED_ONLY",
        "is_value_based": False,
        "retention_days": 30,
        "time_created": int(NOON) if graph.sandbox.now() == NOON else int(graph.sandbox.now()),
    }


def test_names_need_not_differ(graph: Graph) -> None:
    assert create(graph) != create(graph)


@pytest.mark.parametrize(
    "details",
    [
        {"name": ""},
        {"name": "  "},
        {"subtype": "WEBSITE"},
        {"customer_file_source": "FRIENDS"},
        {"retention_days": 181},
        {"retention_days": "x"},
        {"is_value_based": "perhaps"},
    ],
)
def test_bad_details(graph: Graph, details: dict[str, Any]) -> None:
    body = {"name": "Buyers", "subtype": "CUSTOM"} | details
    assert graph.error("POST", f"{ACCOUNT}/customaudiences", json=body) == (100, None)


def test_most_audiences_of_an_account(graph: Graph) -> None:
    for _ in range(500):
        create(graph)
    assert graph.error("POST", f"{ACCOUNT}/customaudiences", json={"name": "One more"}) == (2654, None)


def test_unknown_field(graph: Graph, audience: str) -> None:
    assert graph.error("GET", f"{audience}?fields=approximate_count") == (100, None)


def test_update(graph: Graph, audience: str) -> None:
    graph.sandbox.advance(10)
    assert graph.ok("POST", audience, json={"name": "New", "retention_days": 5}) == {"success": True}
    read = graph.ok("GET", f"{audience}?fields=name,retention_days,time_created,time_updated")
    assert (read["name"], read["retention_days"]) == ("New", 5)
    assert read["time_updated"] == read["time_created"] + 10
    assert graph.error("POST", audience, json={"name": " "}) == (100, None)


def test_delete(graph: Graph, audience: str) -> None:
    assert graph.ok("DELETE", audience) == {"success": True}
    assert graph.error("DELETE", audience) == (100, 33)
    assert graph.error("GET", audience) == (100, 33)
    assert graph.error("POST", f"{audience}/users", json={}) == (100, 33)


def test_counts_are_coarse(graph: Graph, audience: str) -> None:
    fields = "approximate_count_lower_bound,approximate_count_upper_bound,delivery_status"

    def bounds() -> tuple[int, int, int]:
        read = graph.ok("GET", audience, params={"fields": fields})
        lower, upper = read["approximate_count_lower_bound"], read["approximate_count_upper_bound"]
        return lower, upper, read["delivery_status"]["code"]

    assert bounds() == (-1, -1, 300)
    fill(graph, audience, 99)
    assert bounds() == (1000, 1000, 300)
    fill(graph, audience, 1234)
    assert bounds() == (1200, 1300, 200)


def test_paging(graph: Graph) -> None:
    made = [create(graph) for _ in range(60)]
    first = graph.ok("GET", f"{ACCOUNT}/customaudiences")
    assert [one["id"] for one in first["data"]] == made[:25]
    assert f"access_token={graph.sandbox.token}" in first["paging"]["next"]
    seen, after = [], None
    while True:
        params = {"limit": 20, "fields": "name"} | ({"after": after} if after else {})
        page = graph.ok("GET", f"{ACCOUNT}/customaudiences", params=params)
        seen += [one["id"] for one in page["data"]]
        if "next" not in page["paging"]:
            break
        after = page["paging"]["cursors"]["after"]
    assert seen == made
    assert graph.error("GET", f"{ACCOUNT}/customaudiences?after=nonsense") == (100, None)
    assert graph.error("GET", f"{ACCOUNT}/customaudiences?limit=-1") == (100, None)


def test_next_can_be_followed(graph: Graph) -> None:
    made = [create(graph) for _ in range(5)]
    page = graph.ok("GET", f"{ACCOUNT}/customaudiences?limit=3")
    followed = graph.http.get(page["paging"]["next"], timeout=30).json()
    assert [one["id"] for one in page["data"] + followed["data"]] == made


def test_empty_page_with_a_next(graph: Graph) -> None:
    made = [create(graph) for _ in range(3)]
    graph.sandbox.change(empty_pages=True)
    first = graph.ok("GET", f"{ACCOUNT}/customaudiences?limit=2")
    assert first["data"] == []
    seen, page, pages = [], first, 1
    while "next" in page["paging"]:
        page = graph.http.get(page["paging"]["next"], timeout=30).json()
        seen += [one["id"] for one in page["data"]]
        pages += 1
    assert (seen, pages) == (made, 4)


def test_filtering(graph: Graph) -> None:
    empty, flagged = create(graph), create(graph)
    graph.sandbox.pretend(flagged, operation_status=471)

    def found(field: str, operator: str, value: Any) -> list[str]:
        rule = f'[{{"field":"{field}","operator":"{operator}","value":{value}}}]'
        return [one["id"] for one in graph.ok("GET", f"{ACCOUNT}/customaudiences", params={"filtering": rule})["data"]]

    assert found("operation_status.code", "EQUAL", 471) == [flagged]
    assert found("operation_status.code", "NOT_IN", "[471]") == [empty]
    assert graph.error(
        "GET", f"{ACCOUNT}/customaudiences", params={"filtering": '[{"field":"name","operator":"EQUAL","value":"x"}]'}
    ) == (100, None)


@pytest.mark.parametrize("code", [0, 100, 400, 411, 412, 441, 450, 470, 471, 500])
def test_statuses_that_a_test_sets(graph: Graph, audience: str, code: int) -> None:
    """Those of the reference that no upload brings about; each has words of its own."""
    fields = "operation_status,delivery_status,fields_violating_integrity_policy,delete_time"
    true = graph.ok("GET", audience, params={"fields": fields})
    graph.sandbox.pretend(audience, operation_status=code)
    shown = graph.ok("GET", audience, params={"fields": fields})
    assert shown["operation_status"]["code"] == code
    assert shown["operation_status"]["description"] not in ("Unknown", true["operation_status"]["description"])
    assert shown["fields_violating_integrity_policy"] == (["name"] if code == 471 else [])
    assert shown["delivery_status"]["code"] == (400 if code == 471 else 300)
    assert bool(shown["delete_time"]) == (code == 100)
    graph.sandbox.pretend(audience)
    assert graph.ok("GET", audience, params={"fields": fields}) == true


@pytest.mark.parametrize("code", [100, 400, 411, 450, 470, 500])
def test_only_a_flagged_audience_refuses_people(graph: Graph, audience: str, code: int) -> None:
    graph.sandbox.pretend(audience, operation_status=code)
    fill(graph, audience, 1)
    assert graph.ok("POST", audience, json={"name": "New"}) == {"success": True}


def test_an_expiring_audience_is_deleted_after_90_days(graph: Graph, audience: str) -> None:
    graph.sandbox.pretend(audience, operation_status=100)
    delete_time = graph.ok("GET", f"{audience}?fields=delete_time")["delete_time"]
    rule = f'[{{"field":"delete_time","operator":"GREATER_THAN","value":{delete_time - 1}}}]'
    expiring = graph.ok("GET", f"{ACCOUNT}/customaudiences", params={"filtering": rule})["data"]
    assert [one["id"] for one in expiring] == [audience]
    assert delete_time == int(graph.sandbox.now()) + 90 * 24 * 3600
    graph.sandbox.set_clock(delete_time - 1)
    graph.ok("GET", audience)
    graph.sandbox.advance(2)
    assert graph.error("GET", audience) == (100, 33)


@pytest.mark.parametrize("code", [200, 300, 400, 433])
def test_delivery_status_that_a_test_sets(graph: Graph, audience: str, code: int) -> None:
    fill(graph, audience, 100)
    graph.sandbox.pretend(audience, delivery_status=code)
    assert graph.ok("GET", f"{audience}?fields=delivery_status")["delivery_status"]["code"] == code
    graph.sandbox.pretend(audience)
    assert graph.ok("GET", f"{audience}?fields=delivery_status")["delivery_status"]["code"] == 200


def test_me_and_accounts(graph: Graph) -> None:
    assert set(graph.ok("GET", "me?fields=id,name")) == {"id", "name"}
    accounts = graph.ok("GET", "me/adaccounts?fields=id,account_id,name,account_status")["data"]
    assert [one["id"] for one in accounts] == ["act_100000000000001", "act_100000000000002"]
    assert accounts[0]["account_status"] == 1
    assert len(graph.ok("GET", "me/adaccounts?limit=1")["data"]) == 1


def test_debug_token(graph: Graph) -> None:
    sandbox = graph.sandbox
    params = {"input_token": sandbox.token, "access_token": f"{sandbox.app_id}|{sandbox.app_secret}"}
    data = graph.ok("GET", "debug_token", params=params, headers={})["data"]
    assert (data["is_valid"], data["expires_at"], data["app_id"]) == (True, 0, sandbox.app_id)
    assert "ads_management" in data["scopes"]
    assert graph.ok("GET", "debug_token?input_token=nonsense")["data"]["is_valid"] is False
    assert graph.error("GET", "debug_token") == (100, None)


def test_sharing(graph: Graph, audience: str) -> None:
    other = "100000000000002"
    graph.sandbox.put_token("other", [other])
    theirs = {"Authorization": "Bearer other"}
    shared = graph.ok("POST", f"{audience}/ad_accounts", json={"adaccounts": [other], "permissions": "targeting"})
    assert shared["success"] is True
    assert shared["sharing_data"][0]["ad_acct_id"] == other
    assert [one["account_id"] for one in graph.ok("GET", f"{audience}/adaccounts")["data"]] == [other]
    assert graph.ok("GET", f"{audience}/adaccounts?permissions=targeting_and_insights")["data"] == []
    assert graph.ok("GET", audience, headers=theirs)["id"] == audience
    assert graph.error("POST", audience, headers=theirs, json={"name": "Mine"}) == (200, None)
    assert graph.ok("DELETE", f"{audience}/ad_accounts", json={"adaccounts": [f"act_{other}"]}) == {"success": True}
    assert graph.error("GET", audience, headers=theirs) == (100, 33)
    assert graph.error("POST", f"{audience}/ad_accounts", json={}) == (100, None)
    assert graph.error("POST", f"{audience}/ad_accounts", json={"adaccounts": ["1"]}) == (100, 33)


def test_lookalike(graph: Graph, audience: str) -> None:
    body = {"name": "Alike", "subtype": "LOOKALIKE", "origin_audience_id": audience, "lookalike_spec": LOOKALIKE_SPEC}
    path = f"{ACCOUNT}/customaudiences"
    assert graph.error("POST", path, json=body) == (2654, None)
    fill(graph, audience, 100)
    lookalike = graph.ok("POST", path, json=body)["id"]
    read = graph.ok("GET", f"{lookalike}?fields=subtype,lookalike_spec,operation_status")
    assert (read["subtype"], read["operation_status"]["code"]) == ("LOOKALIKE", 200)
    assert graph.ok("GET", f"{audience}?fields=lookalike_audience_ids")["lookalike_audience_ids"] == [lookalike]
    assert graph.error("DELETE", audience) == (2656, None)
    users = {"payload": {"schema": ["EMAIL"], "data": [[digest("a")]]}, "session": {"session_id": 1, "batch_seq": 1}}
    assert graph.error("POST", f"{lookalike}/users", json=users) == (2650, None)
    assert graph.error("POST", f"{lookalike}/usersreplace", json=users) == (2650, None)
    graph.ok("DELETE", lookalike)
    graph.ok("DELETE", audience)


@pytest.mark.parametrize(
    "spec", [None, {}, {"country": 1}, {"country": "US", "ratio": "0.01"}, {"country": "US", "ratio": 1}]
)
def test_lookalike_spec_is_typed(graph: Graph, audience: str, spec: Any) -> None:
    fill(graph, audience, 100)
    body = {"name": "Alike", "subtype": "LOOKALIKE", "origin_audience_id": audience, "lookalike_spec": spec}
    assert graph.error("POST", f"{ACCOUNT}/customaudiences", json=body) == (100, None)


def test_lookalike_of_a_flagged_seed(graph: Graph, audience: str) -> None:
    fill(graph, audience, 100)
    graph.sandbox.pretend(audience, operation_status=471)
    body = {"name": "Alike", "subtype": "LOOKALIKE", "origin_audience_id": audience, "lookalike_spec": LOOKALIKE_SPEC}
    assert graph.error("POST", f"{ACCOUNT}/customaudiences", json=body) == (100, 1713232)


def test_lists_may_be_forms(graph: Graph) -> None:
    form = {"name": "Form", "audience_labels": '["APP_USERS"]', "is_value_based": "1"}
    audience = graph.ok("POST", f"{ACCOUNT}/customaudiences", data=form)["id"]
    read = graph.ok("GET", audience, params={"fields": '["audience_labels","is_value_based"]'})
    assert (read["audience_labels"], read["is_value_based"]) == (["APP_USERS"], True)
