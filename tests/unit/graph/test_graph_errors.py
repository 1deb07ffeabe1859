from __future__ import annotations

import json
import re
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from pathlib import Path
from typing import Any

import fuzz_answers
import pytest
from graph_wire import error_body

from airflow_provider_fbca.exceptions import (
    GraphAuthError,
    GraphBusyError,
    GraphError,
    GraphFlaggedError,
    GraphNotFoundError,
    GraphPermissionError,
    GraphRemovalRefusedError,
    GraphRequestError,
    GraphRetryableError,
    GraphTermsError,
    GraphThrottledError,
    GraphTransientError,
)
from airflow_provider_fbca.graph.errors import RULES, Place, Rule, error_from_response, rule_for
from airflow_provider_fbca.graph.redact import safe_text
from airflow_provider_fbca.graph.usage import Usage

PLACE = Place(doing="POST 120/users", write=True, account="42", version="v26.0")

# Every row of Meta's documentation that concerns audiences.
TABLE: list[tuple[int, int | None, type[GraphError]]] = [
    (1, None, GraphTransientError),
    (1, 99, GraphTransientError),
    (2, None, GraphTransientError),
    (3, None, GraphPermissionError),
    (4, None, GraphThrottledError),
    (10, None, GraphPermissionError),
    (17, None, GraphThrottledError),
    (17, 2446079, GraphThrottledError),
    (32, None, GraphThrottledError),
    (100, None, GraphRequestError),
    (100, 33, GraphNotFoundError),
    (100, 1713098, GraphRequestError),
    (100, 1713228, GraphFlaggedError),
    (100, 1713230, GraphFlaggedError),
    (100, 1713231, GraphFlaggedError),
    (100, 1713232, GraphFlaggedError),
    (102, None, GraphAuthError),
    (104, None, GraphAuthError),
    (105, None, GraphRequestError),
    (190, None, GraphAuthError),
    *((190, subcode, GraphAuthError) for subcode in (458, 459, 460, 463, 464, 467, 492)),
    (194, None, GraphRequestError),
    (200, None, GraphPermissionError),
    (200, 1870034, GraphTermsError),
    (200, 1870090, GraphTermsError),
    (200, 1870092, GraphTermsError),
    (200, 1870047, GraphRemovalRefusedError),
    (200, 1870050, GraphPermissionError),
    (270, None, GraphPermissionError),
    (294, None, GraphPermissionError),
    (341, None, GraphThrottledError),
    (368, None, GraphRetryableError),
    (506, None, GraphRequestError),
    (613, None, GraphThrottledError),
    (613, 1487742, GraphThrottledError),
    (613, 1996, GraphThrottledError),
    (613, 5044001, GraphThrottledError),
    (803, None, GraphNotFoundError),
    (960, None, GraphTransientError),
    (2500, None, GraphRequestError),
    (2635, None, GraphRequestError),
    (2650, None, GraphRequestError),
    (2650, 1870144, GraphRequestError),
    (2650, 1870145, GraphBusyError),
    (2650, 1870147, GraphRetryableError),
    (2650, 1870148, GraphRetryableError),
    (2650, 1870158, GraphRetryableError),
    (2650, 1870159, GraphRetryableError),
    (2654, None, GraphRequestError),
    (2654, 1713092, GraphPermissionError),
    (2656, None, GraphRequestError),
    (2655, None, GraphTermsError),
    (2663, None, GraphTermsError),
    (2664, None, GraphTermsError),
    (5000, None, GraphTransientError),
    (21009, None, GraphTransientError),
    (80003, 2446079, GraphThrottledError),
    *((code, None, GraphThrottledError) for code in range(80000, 80015)),
    (1487301, None, GraphNotFoundError),
    (100, 1487301, GraphNotFoundError),
    (1487366, None, GraphNotFoundError),
    (100, 1487366, GraphNotFoundError),
    *((code, None, GraphFlaggedError) for code in (1404078, 2859015, 3910001)),
    (-3, None, GraphTransientError),
    (299, None, GraphPermissionError),
    (4242, None, GraphRequestError),
]


def made(
    code: int, subcode: int | None = None, *, status: int = 400, place: Place = PLACE, headers: Any = None, **more: Any
) -> GraphError:
    return error_from_response(status, headers or {}, json.dumps(error_body(code, subcode, **more)).encode(), place)


@pytest.mark.parametrize(("code", "subcode", "kind"), TABLE)
def test_every_row_of_the_table(code: int, subcode: int | None, kind: type[GraphError]) -> None:
    error = made(code, subcode)
    assert type(error) is kind
    assert (error.code, error.subcode, error.http_status, error.fbtrace_id) == (code, subcode, 400, "AbC123_-")
    assert error.remedy
    assert "{" not in str(error)
    assert not error.outcome_unknown


def test_every_rule_is_in_the_table() -> None:
    rows = {(code, subcode) for code, subcode, _ in TABLE}
    for rule in RULES:
        assert (rule.code if rule.code is not None else 200, rule.subcode) in rows
        assert rule.meaning
        assert rule.remedy


def test_a_subcode_says_more_than_its_code() -> None:
    assert rule_for(200, 1870090) is not rule_for(200, None)
    assert rule_for(100, 1870090) is rule_for(200, 1870090)
    assert rule_for(200, 777) is rule_for(200, None)
    assert rule_for(777, None) is None


@pytest.mark.parametrize("code", [100, 200, 190, 2650, 4242])
def test_what_meta_calls_transient_is_worth_another_try(code: int) -> None:
    assert type(made(code, is_transient=True)) is GraphTransientError
    assert type(made(4, is_transient=True)) is GraphThrottledError
    assert type(made(2650, 1870145, is_transient=True)) is GraphBusyError


def test_remedies_name_what_the_reader_needs() -> None:
    assert "customaudiences/tos/?act=42" in made(200, 1870090).remedy
    assert "act_42" in made(100, 33).remedy
    assert "ads_management" in made(200).remedy
    assert "v26.0" in made(2635).remedy
    assert "api_version" in made(2635).remedy
    unknown = Place(doing="POST 120/users", write=True)
    assert "of the audience" in made(100, 33, place=unknown).remedy


def test_remedies_name_the_page_to_open_and_the_account() -> None:
    assert "https://business.facebook.com/settings/ad-accounts" in made(200).remedy
    assert "act_42" in made(200).remedy
    assert "https://adsmanager.facebook.com/audiences?act=42" in made(100, 1713230).remedy
    assert "https://business.facebook.com/accountquality" in made(368).remedy


@pytest.mark.parametrize("code", [4, 17, 80003, 613])
def test_limits_tell_how_long_and_until_what_time_of_day(code: int) -> None:
    audience = {"type": "custom_audience", "call_count": 100, "estimated_time_to_regain_access": 12}
    assert re.search(r"12 minutes, until \d\d:\d\d UTC", str(made(code, headers=usage(audience))))
    assert re.search(r"12 minutes, until", str(error_from_response(429, usage(audience), b"<html>", PLACE)))


def row_of(rules: list[Rule]) -> str:
    """A line of the table in docs/errors.md, for rules that differ in nothing but their codes."""
    rule = rules[0]
    if issubclass(rule.error, GraphThrottledError | GraphTransientError):
        retried = "yes"
    else:
        retried = "no" if rule.error.permanent else "by Airflow"
    codes = "any" if rule.code is None else str(rule.code)
    if len(rules) > 1:
        numbers = sorted(each.code or 0 for each in rules)
        consecutive = numbers[-1] == numbers[0] + len(numbers) - 1
        codes = f"{numbers[0]} to {numbers[-1]}" if consecutive else ", ".join(map(str, numbers))
    facts = {"account": "act_<account>", "account_number": "<account>", "version": "<version>", "wait": "<time>"}
    remedy = rule.remedy.format(**facts).replace("<", "&lt;").replace(">", "&gt;")
    return f"| {codes} | {rule.subcode or ''} | {rule.meaning} | `{rule.error.__name__}` | {retried} | {remedy} |"


def documented_table() -> list[str]:
    alike: dict[object, list[Rule]] = {}
    for rule in RULES:
        alike.setdefault((rule.subcode, rule.error, rule.meaning, rule.remedy), []).append(rule)
    order = sorted(alike.values(), key=lambda rules: (rules[0].code or 0, rules[0].subcode or 0))
    return [row_of(rules) for rules in order]


def test_the_document_has_exactly_the_rules() -> None:
    document = (Path(__file__).parents[3] / "docs" / "errors.md").read_text()
    table = document.split("| code | subcode |")[1].split("\n\n")[0]
    assert table.splitlines()[2:] == documented_table()


def test_a_missing_proof_is_told_by_the_name_of_the_parameter() -> None:
    error = made(100, message="API calls from the server require an appsecret_proof argument")
    assert type(error) is GraphAuthError
    assert "app_secret" in error.remedy


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"<html>Sorry, something went wrong.</html>",
        b'{"data": [',
        b"true",
        b"[]",
        b'"ok"',
        b"{}",
        b"\xff\xfe",
        b"[" * 99999,
    ],
)
@pytest.mark.parametrize("status", [200, 400, 404, 500, 502])
def test_what_is_not_graphs_is_transient_and_of_unknown_outcome(body: bytes, status: int) -> None:
    error = error_from_response(status, {}, body, PLACE)
    assert type(error) is GraphTransientError
    assert error.outcome_unknown
    read = Place(doing="GET 120", write=False)
    assert not error_from_response(status, {}, body, read).outcome_unknown


def test_statuses_that_say_something_themselves() -> None:
    assert type(error_from_response(429, {}, b"<html>", PLACE)) is GraphThrottledError
    assert type(error_from_response(413, {}, b"<html>", PLACE)) is GraphRequestError
    assert type(error_from_response(302, {"Location": "https://evil"}, b"", PLACE)) is GraphRequestError
    assert type(error_from_response(200, {}, b'{"success": false}', PLACE)) is GraphRequestError


@pytest.mark.parametrize(
    "strange", [{"code": "abc"}, {"code": True}, {"code": [1]}, {"error_subcode": {}}, {"fbtrace_id": 5}]
)
def test_malformed_errors_do_no_harm(strange: dict[str, Any]) -> None:
    assert isinstance(error_from_response(400, {}, json.dumps({"error": strange}).encode(), PLACE), GraphError)
    assert isinstance(error_from_response(400, {}, b'{"error": "text"}', PLACE), GraphTransientError)


BUC = "X-Business-Use-Case-Usage"


def usage(*entries: dict[str, Any]) -> dict[str, str]:
    return {BUC: json.dumps({"123": list(entries)})}


def test_waits_come_from_the_headers() -> None:
    audience = {"type": "custom_audience", "call_count": 100, "estimated_time_to_regain_access": 12}
    insights = {"type": "ads_insights", "call_count": 3, "estimated_time_to_regain_access": 99}
    error = made(80003, 2446079, headers=usage(insights, audience))
    assert isinstance(error, GraphThrottledError)
    assert error.wait_seconds == 720
    assert made(4, headers=usage(audience | {"estimated_time_to_regain_access": 0})).wait_seconds == 300  # type: ignore[attr-defined]
    assert made(4, headers={"Retry-After": "7"}).wait_seconds == 7  # type: ignore[attr-defined]


def test_the_access_tier_decides_on_the_ad_account_limit() -> None:
    tier = {"X-Ad-Account-Usage": json.dumps({"acc_id_util_pct": 100, "ads_api_access_tier": "limited_access"})}
    assert made(17, 2446079, headers=tier).wait_seconds == 300  # type: ignore[attr-defined]
    assert made(17, 2446079).wait_seconds == 60  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("tier", "limited"),
    [("development_access", True), ("standard_access", False), ("limited_access", True), ("full_access", False)],
)
def test_the_access_tier_by_its_name_in_the_headers(tier: str, limited: bool) -> None:
    """Meta's table of quotas: development access has the limited tier, standard access the full one."""
    assert Usage.from_headers({"X-Ad-Account-Usage": json.dumps({"ads_api_access_tier": tier})}).limited is limited


def test_usage_reads_all_headers_in_any_case() -> None:
    read = Usage.from_headers(
        {
            "x-app-usage": '{"call_count": 20, "total_time": 71, "total_cputime": 3}',
            "X-AD-ACCOUNT-USAGE": '{"acc_id_util_pct": 9.67, "reset_time_duration": 100}',
        }
    )
    assert (read.percent, read.regain_seconds, read.retry_after, read.limited) == (71, 0, None, None)
    # Its time to reset is on every answer, and asks to wait only where the score is full.
    full = Usage.from_headers({"X-Ad-Account-Usage": '{"acc_id_util_pct": 100, "reset_time_duration": 100}'})
    assert full.regain_seconds == 100


@pytest.mark.parametrize(
    "text", ["", "nonsense", "[]", '{"a": 1}', '{"a": [1]}', '{"a": [{"call_count": "x"}]}', "null"]
)
def test_malformed_usage_counts_as_none(text: str) -> None:
    assert Usage.from_headers({BUC: text, "x-app-usage": text, "Retry-After": text}) == Usage()


def test_retry_after_may_be_a_date() -> None:
    later = format_datetime(datetime.now(UTC) + timedelta(seconds=90), usegmt=True)
    assert 80 < (Usage.from_headers({"Retry-After": later}).retry_after or 0) <= 90


@pytest.mark.parametrize("told", ["0", "Sun, 06 Nov 1994 08:49:37 GMT"])
def test_a_wait_that_is_over_already_is_not_believed_after_a_refusal(told: str) -> None:
    assert made(80003, 2446079, headers={"Retry-After": told}).wait_seconds == 60  # type: ignore[attr-defined]
    audience = {"type": "custom_audience", "call_count": 100, "estimated_time_to_regain_access": 12}
    assert made(80003, headers=usage(audience) | {"Retry-After": told}).wait_seconds == 720  # type: ignore[attr-defined]


PRIVATE = [
    "ab" * 32,
    "AB" * 16,
    "mary@example.com",
    "EAABsbCS1iHgBAKZCqk3ZBzZCtoken",
    "+1 (555) 987-6543",
    "15559876543",
    "120210000000000001",
    "Cust-0042",
    "c7",
]


@pytest.mark.parametrize("value", PRIVATE)
@pytest.mark.parametrize(
    "form", ["{}", 'Invalid value "{}"', "row [{}]", "value={}, sorry", "https://x.y/?access_token={}"]
)
def test_values_are_hidden_from_metas_texts(value: str, form: str) -> None:
    assert value not in safe_text(form.replace("{}", value))


def test_quoted_words_are_hidden_unless_they_name_a_parameter() -> None:
    assert "Mary" not in safe_text("Invalid value 'Mary' for key 'FN'")
    assert "LOOKALIKE_VALUE" in safe_text('Audience requires "LOOKALIKE_VALUE" attribute.')
    assert "operation_status" in safe_text("field 'operation_status'")
    kept = "(#100) Version v26.0 takes EMAIL_SHA256 in 10000 rows."
    assert safe_text(kept) == kept


def test_safe_text_is_one_short_line() -> None:
    assert safe_text("a\nb\t\x00 c") == "a b c"
    assert len(safe_text("word " * 5000)) == 300
    assert safe_text(None) == ""
    assert safe_text({"a": 1}) == ""


def test_an_error_quotes_title_and_message_cleaned() -> None:
    error = made(
        100, error_user_title="Bad row", message=f"Value {'ab' * 32} of mary@example.com", error_user_msg="never shown"
    )
    assert "Bad row" in str(error)
    assert "ab" * 32 not in str(error)
    assert "mary" not in str(error)
    assert "never shown" not in str(error)


def test_random_answers_end_in_a_result_or_in_a_documented_error() -> None:
    """A few of the hundred thousand that ``python -m tests.fuzz_answers`` runs."""
    tally = fuzz_answers.run_cases(range(1500), seed=2026)
    outcomes = {outcome for _, outcome in tally}
    assert {"success", "GraphTransientError", "GraphThrottledError", "GraphRequestError", "GraphAuthError"} <= outcomes
    assert {operation for operation, outcome in tally if outcome == "success"} == {operation for operation, _ in tally}
