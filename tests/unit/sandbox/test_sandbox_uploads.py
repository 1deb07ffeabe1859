"""Adding and removing: what is refused, what is counted as invalid, what is held, sessions and their 90 minutes."""

from __future__ import annotations

import json
from typing import Any

import pytest
from sandbox_client import NOON, Graph, accepted, as_set, digest, refused

A, B, C = digest("a@example.com"), digest("b@example.com"), digest("c@example.com")
PHONE = digest("15559876543")


def test_new_audience_is_empty(graph: Graph, audience: str) -> None:
    fields = graph.ok("GET", f"{audience}?fields=operation_status,time_content_updated")
    assert fields["operation_status"]["code"] == 410
    assert "time_content_updated" not in fields


def test_add_and_remove(graph: Graph, audience: str) -> None:
    answer = graph.add(audience, ["EMAIL", "PHONE"], [[A, PHONE], [B, ""]], session_id=4211, batch_seq=1)
    assert answer["audience_id"] == audience
    assert answer["session_id"] == "4211"
    assert (answer["num_received"], answer["num_invalid_entries"]) == (2, 0)
    assert graph.sandbox.members(audience) == [{"EMAIL": A, "PHONE": PHONE}, {"EMAIL": B}]
    assert graph.status(audience) == 200
    assert graph.ok("GET", f"{audience}?fields=time_content_updated")["time_content_updated"] >= NOON
    graph.remove(audience, ["EMAIL"], [[A], [C]])
    assert graph.sandbox.members(audience) == [{"EMAIL": B}]


def test_adding_twice_and_removing_strangers_changes_nothing(graph: Graph, audience: str) -> None:
    for _ in range(2):
        graph.add(audience, ["EMAIL"], [[A], [A]])
    assert graph.remove(audience, ["EMAIL"], [[C]])["num_received"] == 1
    assert graph.sandbox.members(audience) == [{"EMAIL": A}]


def test_another_schema_is_the_same_row(graph: Graph, audience: str) -> None:
    graph.add(audience, ["EMAIL", "PHONE"], [[A, ""]])
    graph.add(audience, ["PHONE", "EMAIL"], [["", A]])
    graph.add(audience, ["EMAIL"], [[A]])
    assert graph.sandbox.audience(audience)["rows"] == 1


def test_newest_value_holds(graph: Graph) -> None:
    audience = graph.sandbox.create_audience(is_value_based=True)
    graph.add(audience, ["EMAIL", "LOOKALIKE_VALUE"], [[A, 1], [B, 44.5]])
    graph.add(audience, ["EMAIL", "LOOKALIKE_VALUE"], [[A, 2]])
    graph.add(audience, ["EMAIL", "LOOKALIKE_VALUE"], [[A, 3]])
    assert graph.sandbox.members(audience) == [
        {"EMAIL": B, "LOOKALIKE_VALUE": 44.5},
        {"EMAIL": A, "LOOKALIKE_VALUE": 3},
    ]
    assert (graph.sandbox.audience(audience)["rows"], graph.sandbox.audience(audience)["people"]) == (2, 2)
    graph.remove(audience, ["EMAIL"], [[A]])
    assert graph.sandbox.audience(audience)["rows"] == 1


def test_value_only_where_it_belongs(graph: Graph, audience: str) -> None:
    valued = graph.sandbox.create_audience(is_value_based=1)
    answer = graph.upload(valued, ["EMAIL"], [[A]])
    assert refused(answer) == (100, None)
    assert "LOOKALIKE_VALUE" in answer.json()["error"]["message"]
    assert refused(graph.upload(audience, ["EMAIL", "LOOKALIKE_VALUE"], [[A, 1]])) == (100, None)
    graph.add(valued, ["EMAIL", "LOOKALIKE_VALUE"], [[A, "0.9"], [B, 0]])
    graph.remove(valued, ["EMAIL"], [[A]])


@pytest.mark.parametrize(
    ("schema", "data"),
    [
        (["EMAIL"], []),
        (["EMAIL"], None),
        (["EMAIL"], {"a": 1}),
        (["EMAIL"], [[A]] * 10_001),
        (["EMAIL", "PHONE"], [[A]]),
        (["EMAIL", "PHONE"], [[A, PHONE], [B, "", ""]]),
        (["EMAIL", "PHONE"], [A, B]),
        (["EMAIL", "SHOE_SIZE"], [[A, "43"]]),
        (["EMAIL", "EMAIL"], [[A, B]]),
        ([], [[]]),
        (None, [[A]]),
        ("SHOE_SIZE", ["43"]),
        ({"EMAIL": 1}, [[A]]),
        (["APPUID"], [["1"]]),
        (["PAGEUID"], [["1"]]),
    ],
)
@pytest.mark.parametrize("method", ["POST", "DELETE"])
def test_malformed_payloads(graph: Graph, audience: str, schema: Any, data: Any, method: str) -> None:
    assert refused(graph.upload(audience, schema, data, method=method)) == (100, None)
    assert graph.status(audience) == 410


def test_missing_payload(graph: Graph, audience: str) -> None:
    assert graph.error("POST", f"{audience}/users", json={}) == (100, None)
    assert graph.error("POST", f"{audience}/users", json={"payload": "{nonsense"}) == (100, None)


def test_full_request_is_accepted(graph: Graph, audience: str) -> None:
    data = [[digest(str(number))] for number in range(10_000)]
    assert graph.add(audience, ["EMAIL"], data)["num_received"] == 10_000
    assert as_set(graph.sandbox.members(audience)) == as_set([{"EMAIL": cell} for [cell] in data])


@pytest.mark.parametrize(
    ("key", "cell"),
    [
        ("EMAIL", "mary@example.com"),
        ("EMAIL", A.upper()),
        ("EMAIL", A[:-1]),
        ("EMAIL", A[:-1] + "g"),
        ("EMAIL", A[:32] + " " + A[32:-1]),
        ("EMAIL", None),
        ("EMAIL", 7),
        ("GEN", "m"),
        ("EXTERN_ID", None),
        ("EXTERN_ID", 10**400),
        ("MADID", ["x"]),
        ("DATA_PROCESSING_OPTIONS", "LDU"),
        ("DATA_PROCESSING_OPTIONS_COUNTRY", "1"),
        ("DATA_PROCESSING_OPTIONS_STATE", True),
    ],
)
def test_invalid_cells_are_counted_and_sampled(graph: Graph, audience: str, key: str, cell: Any) -> None:
    rows = [[PHONE, cell], [digest("1"), {"EMAIL": A, "GEN": B}.get(key, cell)]]
    answer = graph.add(audience, ["PHONE", key], rows[:1])
    assert answer["num_received"] == 1
    assert answer["num_invalid_entries"] == 1
    assert answer["invalid_entry_samples"] == {json.dumps(rows[0], separators=(",", ":")): f"Invalid {key}"}
    assert graph.sandbox.members(audience) == []


@pytest.mark.parametrize("value", [-1, "x", True, None, "nan", "", 10**400])
def test_invalid_values(graph: Graph, value: Any) -> None:
    audience = graph.sandbox.create_audience(is_value_based=True)
    answer = graph.add(audience, ["EMAIL", "LOOKALIKE_VALUE"], [[A, value], [B, 1]])
    assert answer["num_invalid_entries"] == 1
    assert graph.sandbox.members(audience) == [{"EMAIL": B, "LOOKALIKE_VALUE": 1}]


def test_rows_that_find_nobody_are_invalid(graph: Graph, audience: str) -> None:
    schema = ["FN", "LN", "ZIP", "CT", "DOBY", "DOBM", "DOBD", "GEN"]
    x = digest("x")
    usable = [[x, x, x, "", "", "", "", ""], [x, x, "", x, "", "", "", ""], [x, x, "", "", x, x, x, ""]]
    useless = [[x, x, "", "", x, x, "", x], [x, "", x, x, x, x, x, x], ["", "", "", "", "", "", "", x], [""] * 8]
    answer = graph.add(audience, schema, usable + useless)
    assert answer["num_invalid_entries"] == len(useless)
    assert len(graph.sandbox.members(audience)) == len(usable)


def test_at_most_a_hundred_samples(graph: Graph, audience: str) -> None:
    answer = graph.add(audience, ["EMAIL"], [[f"person {number}"] for number in range(150)])
    assert answer["num_invalid_entries"] == 150
    assert len(answer["invalid_entry_samples"]) == 100


def test_empty_samples_are_an_object_or_an_array(graph: Graph, audience: str) -> None:
    forms = [graph.add(audience, ["EMAIL"], [[A]])["invalid_entry_samples"] for _ in range(4)]
    assert {} in forms
    assert [] in forms


def test_upper_case_can_be_allowed(graph: Graph, audience: str) -> None:
    graph.sandbox.change(accept_upper_case_hashes=True)
    graph.add(audience, ["EMAIL"], [[A.upper()]])
    assert graph.sandbox.members(audience) == [{"EMAIL": A}]


def test_cells_read_back_exactly(graph: Graph, audience: str) -> None:
    schema = ["EXTERN_ID", "MADID", "APPUID", "EMAIL", "DATA_PROCESSING_OPTIONS", "DATA_PROCESSING_OPTIONS_COUNTRY"]
    rows = [
        [" Cust-É\U0001f600\n", "6d92078a-8246-4ba4-ae5b-76104861e7dc", "12", "0" * 64, ["LDU"], 1],
        ["007", "", "", "", [], 0],
        [42, "", "", "", [], 0],
    ]
    payload = {"schema": schema, "data": rows, "app_ids": ["1"]}
    graph.ok("POST", f"{audience}/users", json={"payload": payload})
    expected = [{key: cell for key, cell in zip(schema, row, strict=True) if cell != ""} for row in rows]
    assert graph.sandbox.members(audience) == expected


@pytest.mark.parametrize(
    ("schema", "data", "key"),
    [
        ("EMAIL_SHA256", [A, B], "EMAIL"),
        ("PHONE_SHA256", [[A], [B]], "PHONE"),
        ("MOBILE_ADVERTISER_ID", ["x", "y"], "MADID"),
        (["EMAIL"], [A, B], "EMAIL"),
    ],
)
def test_one_key_may_be_flat(graph: Graph, audience: str, schema: Any, data: Any, key: str) -> None:
    graph.add(audience, schema, data)
    assert {next(iter(row)) for row in graph.sandbox.members(audience)} == {key}
    assert graph.sandbox.audience(audience)["rows"] == 2


def test_first_upload_fixes_the_data_source(graph: Graph, audience: str) -> None:
    graph.add(audience, ["EMAIL"], [[A]])
    for method in ("POST", "DELETE"):
        answer = graph.upload(audience, "EMAIL_SHA256", [A], method=method)
        assert refused(answer) == (2650, None)
        assert "HASHES_OR_USER_IDS" in answer.json()["error"]["error_user_msg"]
    other = graph.sandbox.create_audience()
    graph.add(other, "EMAIL_SHA256", [A])
    assert refused(graph.upload(other, ["EMAIL"], [[A]])) == (2650, None)


def test_received_is_cumulative_in_a_session(graph: Graph, audience: str) -> None:
    assert graph.add(audience, ["EMAIL"], [[A]], session_id=9, batch_seq=1)["num_received"] == 1
    assert graph.add(audience, ["EMAIL"], [[B], ["x"]], session_id=9, batch_seq=2)["num_received"] == 3
    assert graph.add(audience, ["EMAIL"], [[B], ["x"]], session_id=9, batch_seq=2)["num_received"] == 5
    [session] = graph.ok("GET", f"{audience}/sessions")["data"]
    assert (session["num_received"], session["num_invalid_entries"], session["stage"]) == ("5", "2", "uploading")
    graph.add(audience, ["EMAIL"], [[C]], session_id=9, batch_seq=3, last_batch_flag=True)
    [session] = graph.ok("GET", f"{audience}/sessions?session_id=9&fields=stage,num_received")["data"]
    assert session == {"num_received": "6", "stage": "finished"}


def test_closed_session_takes_no_more(graph: Graph, audience: str) -> None:
    graph.add(audience, ["EMAIL"], [[A]], session_id=9, batch_seq=1, last_batch_flag=True)
    answer = graph.upload(audience, ["EMAIL"], [[B]], session_id=9, batch_seq=2)
    assert refused(answer) == (2650, 1870159)
    assert graph.sandbox.members(audience) == [{"EMAIL": A}]


def test_sessions_belong_to_an_account(graph: Graph, audience: str) -> None:
    graph.add(audience, ["EMAIL"], [[A]], session_id=9, batch_seq=1)
    same_account = graph.sandbox.create_audience()
    assert refused(graph.upload(same_account, ["EMAIL"], [[A]], session_id=9, batch_seq=1)) == (100, None)
    body = {"name": "Elsewhere", "subtype": "CUSTOM"}
    other_account = graph.ok("POST", "act_100000000000002/customaudiences", json=body)["id"]
    graph.add(other_account, ["EMAIL"], [[A]], session_id=9, batch_seq=1)


@pytest.mark.parametrize(
    "session",
    [
        {"session_id": 0},
        {"session_id": -1},
        {"session_id": 2**63},
        {"session_id": "x"},
        {"session_id": "9" * 5000},
        {"session_id": 1.5},
        {"session_id": True},
        {"batch_seq": 1},
        {"session_id": 1, "batch_seq": 0},
        {"session_id": 1, "last_batch_flag": "perhaps"},
    ],
)
def test_malformed_sessions(graph: Graph, audience: str, session: dict[str, Any]) -> None:
    assert refused(graph.upload(audience, ["EMAIL"], [[A]], **session)) == (100, None)


def test_late_batches_vanish_without_a_word(graph: Graph, audience: str) -> None:
    graph.add(audience, ["EMAIL"], [[A]], session_id=9, batch_seq=1)
    graph.sandbox.advance(90 * 60 - 1)
    graph.add(audience, ["EMAIL"], [[B]], session_id=9, batch_seq=2)
    graph.sandbox.advance(1)
    answer = graph.add(audience, ["EMAIL"], [[C]], session_id=9, batch_seq=3, last_batch_flag=True)
    assert (answer["num_received"], answer["num_invalid_entries"]) == (3, 0)
    graph.remove(audience, ["EMAIL"], [[A]], session_id=9, batch_seq=4)
    assert as_set(graph.sandbox.members(audience)) == as_set([{"EMAIL": A}, {"EMAIL": B}])
    [session] = graph.sandbox.audience(audience)["sessions"]
    assert (session["num_received"], session["discarded"], session["stage"]) == ("2", 2, "finished")


def test_apply_delay(graph: Graph, audience: str) -> None:
    graph.sandbox.change(apply_delay_seconds=60)
    graph.add(audience, ["EMAIL"], [[A], [B]])
    graph.sandbox.advance(30)
    graph.remove(audience, ["EMAIL"], [[A]])
    assert graph.sandbox.members(audience) == []
    assert graph.sandbox.audience(audience)["pending_changes"] == 2
    graph.sandbox.advance(30)
    assert len(graph.sandbox.members(audience)) == 2
    graph.sandbox.advance(30)
    assert graph.sandbox.members(audience) == [{"EMAIL": B}]


def test_removal_that_leaves_too_few_is_refused(graph: Graph, audience: str) -> None:
    graph.add(audience, ["EMAIL"], [[A], [B]])
    graph.sandbox.change(minimum_people=2)
    assert refused(graph.upload(audience, ["EMAIL"], [[A]], method="DELETE")) == (200, 1870047)
    graph.remove(audience, ["EMAIL"], [[C]])
    graph.add(audience, ["EMAIL"], [[C]])
    graph.remove(audience, ["EMAIL"], [[A]])
    assert len(graph.sandbox.members(audience)) == 2


def test_terms(graph: Graph, audience: str) -> None:
    account = f"act_{graph.sandbox.ad_account_id}"
    assert graph.ok("GET", f"{account}?fields=tos_accepted")["tos_accepted"]["custom_audience_tos"] == 1
    graph.sandbox.change(tos_accepted=False)
    for method in ("POST", "DELETE"):
        answer = graph.upload(audience, ["EMAIL"], [[A]], method=method)
        assert refused(answer) == (200, 1870090)
        assert account.removeprefix("act_") in answer.json()["error"]["error_user_msg"]
    assert graph.error("POST", f"{account}/customaudiences", json={"name": "x"}) == (200, 1870090)
    assert graph.ok("GET", f"{account}?fields=tos_accepted")["tos_accepted"]["custom_audience_tos"] == 0


def test_flagged_audience(graph: Graph, audience: str) -> None:
    graph.add(audience, ["EMAIL"], [[A]])
    graph.sandbox.pretend(audience, operation_status=471)
    assert graph.status(audience) == 471
    for method in ("POST", "DELETE"):
        assert refused(graph.upload(audience, ["EMAIL"], [[B]], method=method)) == (100, 1713230)
    assert refused(graph.replace(audience, ["EMAIL"], [[B]], session_id=1, batch_seq=1)) == (100, 1713230)
    assert graph.error("POST", audience, json={"name": "New"}) == (100, 1713228)
    graph.sandbox.pretend(audience)
    assert graph.status(audience) == 200


def test_remove_from_all_audiences_of_an_account(graph: Graph, audience: str) -> None:
    second = graph.sandbox.create_audience()
    elsewhere = graph.ok("POST", "act_100000000000002/customaudiences", json={"name": "Elsewhere"})["id"]
    for one in (audience, second, elsewhere):
        graph.add(one, ["EMAIL"], [[A], [B]])
    body = {"payload": {"schema": ["EMAIL"], "data": [[A]]}}
    account = f"act_{graph.sandbox.ad_account_id}"
    assert graph.ok("DELETE", f"{account}/usersofanyaudience", json=body)["num_received"] == 1
    assert [len(graph.sandbox.members(one)) for one in (audience, second, elsewhere)] == [1, 1, 2]
    graph.sandbox.change(tos_accepted=False)
    graph.ok("DELETE", f"{account}/usersofanyaudience", json={"payload": {"schema": ["EMAIL"], "data": [[B]]}})
    assert len(graph.sandbox.members(audience)) == 1


def test_new_audience_may_be_unknown_at_first(graph: Graph) -> None:
    graph.sandbox.change(unknown_calls_after_create=2)
    audience = graph.sandbox.create_audience()
    for _ in range(2):
        assert refused(graph.upload(audience, ["EMAIL"], [[A]])) == (803, None)
    accepted(graph.upload(audience, ["EMAIL"], [[A]]))
