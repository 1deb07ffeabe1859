from __future__ import annotations

from typing import Any

import pytest
from graph_wire import ACCOUNT, AUDIENCE, SECRET, TOKEN, OddServer, Reply, refused

from airflow_provider_fbca.exceptions import (
    GraphNotFoundError,
    GraphRequestError,
    GraphTransientError,
    OptionsError,
)
from airflow_provider_fbca.graph.api import GraphApi
from airflow_provider_fbca.graph.audiences import Audiences, operation_code
from airflow_provider_fbca.graph.ids import account_number, audience_number


@pytest.fixture
def audiences(api: GraphApi) -> Audiences:
    return Audiences(api)


@pytest.fixture
def odd_audiences(odd_api: GraphApi) -> Audiences:
    return Audiences(odd_api)


def page(*names: str, after: str | None = None, **more: Any) -> Reply:
    data = [{"id": str(number + 1), "name": name, "subtype": "CUSTOM"} for number, name in enumerate(names)]
    link = f"https://graph.facebook.com/v26.0/act_1/customaudiences?access_token={TOKEN}&after={after}"
    paging = {"cursors": {"before": "b", "after": after}, "next": link} if after else {"cursors": {"after": "end"}}
    return Reply(200, {"data": data, "paging": paging} | more)


def test_a_life(sandbox: Any, audiences: Audiences) -> None:
    account = f"act_{sandbox.ad_account_id}"
    assert audiences.find(account, "Ours") is None
    audience_id = audiences.create(account, name="Ours", description="words", is_value_based=True, retention_days=30)
    found = audiences.find(sandbox.ad_account_id, "Ours")
    assert found is not None
    assert found["id"] == audience_id
    read = audiences.get(audience_id)
    assert (read["description"], read["is_value_based"], read["retention_days"]) == ("words", True, 30)
    assert operation_code(read) == 410
    assert audiences.account_of(audience_id) == sandbox.ad_account_id
    audiences.update(audience_id, name="Ours now")
    assert audiences.get(audience_id, fields=["name"]) == {"id": audience_id, "name": "Ours now"}
    audiences.delete(audience_id)
    with pytest.raises(GraphNotFoundError):
        audiences.get(audience_id)
    with pytest.raises(GraphNotFoundError):
        audiences.delete(audience_id)


def test_what_is_not_set_is_not_sent(odd: OddServer, odd_audiences: Audiences) -> None:
    odd.say(Reply(200, {"id": AUDIENCE}))
    assert odd_audiences.create(f"act_{ACCOUNT}", name="Ours") == AUDIENCE
    [seen] = odd.seen
    assert seen.target == f"/v26.0/act_{ACCOUNT}/customaudiences"
    assert seen.json == {"name": "Ours", "subtype": "CUSTOM", "customer_file_source": "USER_PROVIDED_ONLY"}


def test_an_audience_just_created_may_be_unknown_for_a_moment(sandbox: Any, audiences: Audiences) -> None:
    sandbox.change(unknown_calls_after_create=2)
    try:
        audience_id = audiences.create(sandbox.ad_account_id, name="Fresh")
        assert audiences.get(audience_id, fields=["name"])["name"] == "Fresh"
    finally:
        sandbox.change(unknown_calls_after_create=0)


def test_a_lost_creation_is_not_made_twice(sandbox: Any, audiences: Audiences) -> None:
    sandbox.fault("drop", when="after", operation="create_audience")
    with pytest.raises(GraphTransientError) as caught:
        audiences.create(sandbox.ad_account_id, name="Lost")
    assert caught.value.outcome_unknown
    assert audiences.find(sandbox.ad_account_id, "Lost") is not None


@pytest.mark.parametrize("answer", [{}, {"id": None}, {"id": "act_1"}, {"id": ["1"]}])
def test_a_creation_without_an_id_is_of_unknown_outcome(
    odd: OddServer, odd_audiences: Audiences, answer: dict[str, Any]
) -> None:
    odd.say(Reply(200, answer))
    with pytest.raises(GraphTransientError) as caught:
        odd_audiences.create(ACCOUNT, name="x")
    assert caught.value.outcome_unknown


def test_finding_reads_all_pages_empty_ones_too(odd: OddServer, odd_audiences: Audiences) -> None:
    odd.say(page("a", after="1"), page(after="2"), page("Wanted"))
    found = odd_audiences.find("1", "Wanted")
    assert found is not None
    assert [seen.query.get("after") for seen in odd.seen] == [None, "1", "2"]
    assert all(TOKEN not in seen.target for seen in odd.seen)


def test_finding_compares_exactly_and_customer_lists_only(odd: OddServer, odd_audiences: Audiences) -> None:
    lookalike = {"id": "9", "name": "Wanted", "subtype": "LOOKALIKE"}
    odd.say(Reply(200, {"data": [lookalike, *page("wanted", " Wanted", "Wanted ").body["data"]]}))
    assert odd_audiences.find("1", "Wanted") is None


def test_several_of_one_name_are_not_chosen_from(sandbox: Any, audiences: Audiences) -> None:
    ids = [sandbox.create_audience("Twin") for _ in range(2)]
    with pytest.raises(GraphRequestError, match=f"{ids[0]}, {ids[1]}"):
        audiences.find(sandbox.ad_account_id, "Twin")


def test_pages_that_are_too_large_are_halved(odd: OddServer, odd_audiences: Audiences) -> None:
    odd.say(refused(1, status=500), refused(1, status=500), page("a", after="1"), page("Wanted"))
    assert odd_audiences.find("1", "Wanted") is not None
    assert [seen.query["limit"] for seen in odd.seen] == ["100", "50", "25", "25"]


def test_pages_that_lead_to_themselves_end(odd: OddServer, odd_audiences: Audiences) -> None:
    odd.answer = lambda _seen: page("a", after="1")
    with pytest.raises(GraphRequestError, match="does not end"):
        odd_audiences.find("1", "Wanted")


def test_a_cursor_may_stand_in_the_link_only(odd: OddServer, odd_audiences: Audiences) -> None:
    link = f"https://graph.facebook.com/v26.0/1/x?access_token={TOKEN}&after=c%3D"
    odd.say(Reply(200, {"data": [], "paging": {"next": link}}), page("Wanted"))
    assert odd_audiences.find("1", "Wanted") is not None
    assert odd.seen[1].query["after"] == "c="


def test_a_lost_deletion_counts_as_done_when_nothing_is_left(sandbox: Any, audiences: Audiences) -> None:
    audience_id = sandbox.create_audience()
    sandbox.fault("drop", when="after", operation="delete_audience")
    audiences.delete(audience_id)
    assert len(sandbox.requests("delete_audience")) == 2


def test_the_token_is_described_without_itself(sandbox: Any, api: GraphApi, audiences: Audiences) -> None:
    info = audiences.token_info()
    assert info["is_valid"] is True
    assert sandbox.token not in repr(info)
    plain = GraphApi(access_token=sandbox.token, base_url=sandbox.url)
    assert Audiences(plain).token_info()["is_valid"] is True
    assert all(request["url_length"] < 40 for request in sandbox.requests("debug_token"))


def test_the_app_asks_about_the_token(odd: OddServer) -> None:
    api = GraphApi(access_token=TOKEN, app_id="77", app_secret=SECRET, base_url=odd.url)
    odd.say(Reply(200, {"data": {"is_valid": True, "error": {"message": TOKEN}, "scopes": ["a"]}}))
    assert Audiences(api).token_info() == {"is_valid": True, "scopes": ["a"]}
    [seen] = odd.seen
    assert seen.headers["Authorization"] == f"Bearer 77|{SECRET}"
    assert seen.form == {"input_token": TOKEN, "method": "get"}


def test_terms(sandbox: Any, audiences: Audiences) -> None:
    assert audiences.terms_accepted(f"act_{sandbox.ad_account_id}") is True
    sandbox.change(tos_accepted=False)
    try:
        assert audiences.terms_accepted(sandbox.ad_account_id) is False
    finally:
        sandbox.change(tos_accepted=True)


def test_accounts(sandbox: Any, audiences: Audiences) -> None:
    assert sandbox.ad_account_id in {account["account_id"] for account in audiences.ad_accounts()}


@pytest.mark.parametrize("bad", ["", "12a", "act_12", "1/../2", "12\n3", "١٢", "-1", "1.5", "1" * 31])
def test_ids_are_digits_before_they_reach_a_path(odd: OddServer, odd_audiences: Audiences, bad: str) -> None:
    with pytest.raises(OptionsError):
        odd_audiences.get(bad)
    with pytest.raises(OptionsError):
        account_number("act_" + bad if bad.startswith("act_") else bad)
    assert odd.seen == []


def test_ids_in_any_usual_spelling() -> None:
    assert account_number(" act_12 ") == account_number("12") == account_number(12) == "12"  # type: ignore[arg-type]
    assert audience_number(120210000000000001) == AUDIENCE  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("field", "code"),
    [
        ({"code": 414}, 414),
        ({"status": "200"}, 200),
        ({"code": "x"}, None),
        ({}, None),
        (None, None),
        ("200", None),
    ],
)
def test_statuses_in_either_form(field: Any, code: int | None) -> None:
    assert operation_code({"operation_status": field}) == code
    assert operation_code({}) is None
    assert operation_code({"delivery_status": {"code": 300}}, "delivery_status") == 300
