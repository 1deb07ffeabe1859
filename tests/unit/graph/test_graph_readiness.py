"""What Meta's status codes mean for whoever waits: every documented code, and whatever else Meta may answer."""

from __future__ import annotations

import json
import time
from contextlib import suppress
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from airflow_provider_fbca.exceptions import GraphFlaggedError, GraphRequestError, GraphThrottledError
from airflow_provider_fbca.graph.readiness import (
    OPERATION_STATUSES,
    UPDATE_SLACK,
    Wanted,
    content_changed_at,
    read_status,
)

READY = {100, 200, 400, 411, 412, 441, 450}
WAIT = {0, 410, 414, 421, 422, 423, 431, 432, 433, 434, 442}
FAIL = {415: GraphRequestError, 470: GraphFlaggedError, 471: GraphFlaggedError, 500: GraphFlaggedError}

AT_EASE = {"operation_status": {"code": 200}, "delivery_status": {"code": 200}}

json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=6,
)
statuses = json_values | st.fixed_dictionaries({"code": json_values | st.sampled_from(sorted(OPERATION_STATUSES))})


def shown(code: int | None, **fields: Any) -> dict[str, Any]:
    return {**AT_EASE, "operation_status": {"code": code}, **fields}


def test_every_documented_code_is_judged() -> None:
    assert set(OPERATION_STATUSES) == READY | WAIT | set(FAIL)


@pytest.mark.parametrize("code", sorted(READY))
def test_an_audience_that_can_be_used_is_ready(code: int) -> None:
    finding = Wanted().judge("1", shown(code))
    assert finding.is_ready
    assert bool(finding.remark) == (code in {100, 400, 411, 412})


@pytest.mark.parametrize("code", [*sorted(WAIT), 414.0, "414", 460, -1, None])
def test_what_passes_or_does_not_tell_is_waited_for(code: Any) -> None:
    finding = Wanted().judge("1", shown(code))
    assert f"operation_status is {'missing' if code is None else int(code)}: " in finding.waits_for


@pytest.mark.parametrize("code", sorted(FAIL))
def test_what_only_a_person_can_clear_fails_with_what_to_do(code: int) -> None:
    with pytest.raises(FAIL[code], match=rf"Audience 77 will not become ready: operation_status is {code}: ") as caught:
        Wanted().judge("77", shown(code))
    assert caught.value.permanent
    assert caught.value.remedy


def test_the_code_may_have_another_name() -> None:
    assert "414" in Wanted().judge("1", {**AT_EASE, "operation_status": {"status": 414}}).waits_for


def test_a_failed_replace_may_be_one_of_before() -> None:
    assert not Wanted(stale_until=time.time() + 60).judge("1", shown(415)).is_ready
    with pytest.raises(GraphRequestError):
        Wanted(stale_until=time.time() - 60).judge("1", shown(415))


@pytest.mark.parametrize(
    ("code", "told"), [(300, "too few people"), (0, "is 0"), (250, "is 250"), (None, "is missing")]
)
def test_delivery_is_waited_for_unless_it_does_not_matter(code: int | None, told: str) -> None:
    audience = shown(200, delivery_status={"code": code})
    assert told in Wanted().judge("1", audience).waits_for
    assert Wanted(delivery=False).judge("1", audience).is_ready


@pytest.mark.parametrize("code", [400, 450, 500])
def test_an_audience_that_no_ad_can_use_fails_where_that_matters(code: int) -> None:
    audience = shown(200, delivery_status={"code": code})
    with pytest.raises(GraphFlaggedError, match=f"delivery_status is {code}"):
        Wanted().judge("1", audience)
    assert Wanted(delivery=False).judge("1", audience).is_ready


def test_delivery_says_nothing_while_meta_works_on_the_audience() -> None:
    assert "414" in Wanted().judge("1", shown(414, delivery_status={"code": 400})).waits_for


@pytest.mark.parametrize("field", ["operation_status", "delivery_status"])
def test_an_error_quotes_metas_description_without_what_may_be_a_value(field: str) -> None:
    told = f"Blocked for policy, see {'ab' * 32} or jane@example.com"
    with pytest.raises(GraphFlaggedError, match="Blocked for policy") as caught:
        Wanted().judge("1", {**AT_EASE, field: {"code": 500, "description": told}})
    assert "abab" not in str(caught.value)
    assert "jane" not in str(caught.value)


@given(after=st.floats(min_value=0, max_value=4e9), changed=st.integers(min_value=0, max_value=4 * 10**9))
def test_people_must_have_changed_since_but_for_what_an_answer_takes(after: float, changed: int) -> None:
    finding = Wanted(updated_after=after).judge("1", shown(200, time_content_updated=changed))
    assert finding.is_ready == (changed >= after - UPDATE_SLACK)


@pytest.mark.parametrize("changed", [None, "", "soon", {}])
def test_people_that_never_changed_are_waited_for(changed: Any) -> None:
    finding = Wanted(updated_after=1e9).judge("1", shown(200, time_content_updated=changed))
    assert "never changed" in finding.waits_for


def test_the_instant_may_come_as_text() -> None:
    assert content_changed_at({"time_content_updated": "1755083943"}) == 1755083943
    assert Wanted(updated_after=1e9).judge("1", shown(200, time_content_updated=10**400)).is_ready


@given(operation=statuses, delivery=statuses, changed=json_values)
def test_whatever_meta_answers_is_a_finding_or_an_error_of_ours(operation: Any, delivery: Any, changed: Any) -> None:
    # As it comes over the wire: JSON knows no other numbers.
    audience = json.loads(
        json.dumps({"operation_status": operation, "delivery_status": delivery, "time_content_updated": changed})
    )
    with suppress(GraphFlaggedError, GraphRequestError):
        finding = Wanted(updated_after=1e9).judge("1", audience)
        assert not finding.is_ready or content_changed_at(audience) >= 1e9 - UPDATE_SLACK


def test_a_reading_is_one_request_that_is_not_repeated(sandbox: Any, api: Any, pauses: list[float]) -> None:
    audience = sandbox.create_audience()
    before = len(sandbox.requests())
    sandbox.fault("graph", code=17)
    with pytest.raises(GraphThrottledError) as caught:
        read_status(api, audience)
    assert caught.value.wait_seconds
    assert (len(sandbox.requests()) - before, pauses) == (1, [])
    assert read_status(api, audience)["operation_status"]["code"] == 410
