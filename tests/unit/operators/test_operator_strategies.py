"""What holds whatever the strategy: nobody who stays is lost, and nobody who left remains."""

from __future__ import annotations

import pyarrow as pa
import pytest
from operator_tools import digests, emails, sha

from airflow_provider_fbca.compat import AirflowFailException
from airflow_provider_fbca.sync import STRATEGIES

KEYS = ("email", "phone", "first_name", "last_name", "zip")
ANN = {"email": "ann@example.com", "phone": "+14155550101", "first_name": "Ann", "last_name": "Lee", "zip": "94110"}
BOB = {"email": "bob@example.com", "phone": "+14155550102", "first_name": "Bob", "last_name": "Ray", "zip": "94110"}
CYD = {"email": "cyd@example.com", "phone": "+14155550103", "first_name": "Cyd", "last_name": "Orr", "zip": "94110"}
SMALL = {"batch_size": 2, "max_concurrency": 1}


def people(*rows):
    return pa.table({key: pa.array([row.get(key) for row in rows], pa.string()) for key in KEYS})


@pytest.fixture(params=STRATEGIES)
def refresh(request, run):
    return lambda users, **options: run("refresh", users, strategy=request.param, **options)


@pytest.fixture
def names(sandbox, audience):
    """Gives the first names that the audience holds, as digests."""
    return lambda: sorted(row["FN"] for row in sandbox.members(audience))


@pytest.mark.parametrize(
    "change",
    [{"phone": "+14155550199"}, {"last_name": "Smith"}, {"email": "new@example.com"}, {"zip": None}, {"phone": None}],
    ids=str,
)
def test_s1_s2_a_person_who_changed_is_in_with_the_new_row_alone(refresh, sandbox, audience, change):
    refresh(people(ANN, BOB, CYD), **SMALL)
    refresh(people(ANN | change, BOB, CYD), **SMALL)
    rows = sandbox.members(audience)
    assert len(rows) == 3
    changed = {row["FN"]: row for row in rows}[sha("ann")]
    assert changed.get("EMAIL") == sha((ANN | change)["email"])
    assert changed["LN"] == sha((ANN | change)["last_name"].lower())


@pytest.mark.parametrize("shared", ["email", "phone"])
def test_s3_whoever_shares_an_identifier_with_someone_who_leaves_stays(refresh, names, shared):
    partner = CYD | {shared: ANN[shared]}
    refresh(people(ANN, partner, BOB), **SMALL)
    refresh(people(partner, BOB), **SMALL)
    assert names() == sorted([sha("cyd"), sha("bob")])


def test_s3_people_whom_only_meta_links_are_in_after_the_next_full_send(refresh, sandbox, members):
    sandbox.link({"EMAIL": sha("a@example.com")}, {"EMAIL": sha("b@example.com")})
    refresh(emails("a", "b", "c"), **SMALL)
    refresh(emails("b", "c"), **SMALL)
    refresh(emails("b", "c"), resend_all_days=0, **SMALL)
    assert members() == digests("b", "c")


def test_l11_an_audience_that_another_client_filled_ends_equal_or_stops(
    request, refresh, run, sandbox, audience, members
):
    sandbox.seed(audience, [{"EMAIL": sha("stranger@example.com")}])
    if request.node.callspec.params["refresh"] == "replace":
        refresh(emails("a", "b"))
    else:
        with pytest.raises(AirflowFailException, match="had been filled before this ledger began"):
            refresh(emails("a", "b"))
        assert members() == digests("stranger")
        run("refresh", emails("a", "b"), strategy="replace")
        refresh(emails("a", "b"))
    assert members() == digests("a", "b")


def test_one_strategy_goes_on_from_another(run, members):
    everyone = "abcdefgh"
    for number, strategy in enumerate([*STRATEGIES, *reversed(STRATEGIES), *STRATEGIES]):
        run("refresh", emails(*everyone[number % 3 : number % 3 + 4]), strategy=strategy, **SMALL)
        assert members() == digests(*everyone[number % 3 : number % 3 + 4])


def test_delete_insert_adds_nobody_before_the_last_removal_is_acknowledged(run, sandbox, writes):
    run("refresh", emails(*"abcdefgh"))
    before = len(writes())
    run("refresh", emails(*"efghij"), strategy="delete_insert", batch_size=2, max_concurrency=4)
    assert writes()[before:] == ["remove_users"] * 4 + ["add_users"] * 3


def test_replace_sends_its_first_batch_alone_and_its_last_after_all_others(run, sandbox):
    run("refresh", emails(*"abcdefghij"), strategy="replace", batch_size=2, max_concurrency=4)
    sent = [each for each in sandbox.requests() if each["operation"] == "replace_users"]
    sequence = [each["batch_seq"] for each in sent]
    assert sequence[0] == 1
    assert sequence[-1] == 5
    assert sorted(sequence) == [1, 2, 3, 4, 5]
    assert len({each["session_id"] for each in sent}) == 1
