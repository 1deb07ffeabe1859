"""The replace: 200, then 414 while it works, then 200 or 415; and everything that it refuses."""

from __future__ import annotations

import pytest
from sandbox_client import NOON, Graph, accepted, as_set, digest, refused

A, B, C, D = (digest(letter) for letter in "abcd")


@pytest.fixture
def loaded(graph: Graph, audience: str) -> str:
    graph.sandbox.change(replace_seconds=60)
    graph.add(audience, ["EMAIL"], [[A]])
    return audience


def test_replace_in_several_batches(graph: Graph, loaded: str) -> None:
    answer = accepted(graph.replace(loaded, ["EMAIL"], [[B]], session_id=7, batch_seq=1))
    assert answer["session_id"] == 7
    assert answer["num_received"] == 1
    assert graph.status(loaded) == 414
    assert graph.sandbox.members(loaded) == [{"EMAIL": A}]
    for _ in range(2):
        accepted(graph.replace(loaded, ["EMAIL"], [[C]], session_id=7, batch_seq=3))
    answer = accepted(graph.replace(loaded, ["EMAIL"], [[D]], session_id=7, batch_seq=2, last_batch_flag=True))
    assert answer["num_received"] == 4
    assert graph.status(loaded) == 414
    assert graph.sandbox.members(loaded) == [{"EMAIL": A}]
    before = graph.sandbox.audience(loaded)["time_content_updated"]
    graph.sandbox.advance(60)
    assert graph.status(loaded) == 200
    assert as_set(graph.sandbox.members(loaded)) == as_set([{"EMAIL": B}, {"EMAIL": C}, {"EMAIL": D}])
    assert graph.sandbox.audience(loaded)["time_content_updated"] == before + 60


def test_one_batch_is_first_and_last(graph: Graph, loaded: str) -> None:
    accepted(graph.replace(loaded, ["EMAIL"], [[B]], session_id=7, batch_seq=1, last_batch_flag=True))
    graph.sandbox.advance(60)
    assert graph.sandbox.members(loaded) == [{"EMAIL": B}]


def test_nothing_else_while_it_works(graph: Graph, loaded: str) -> None:
    accepted(graph.replace(loaded, ["EMAIL"], [[B]], session_id=7, batch_seq=1, last_batch_flag=True))
    for method in ("POST", "DELETE"):
        assert refused(graph.upload(loaded, ["EMAIL"], [[C]], method=method)) == (2650, 1870145)
    assert refused(graph.replace(loaded, ["EMAIL"], [[C]], session_id=8, batch_seq=1)) == (2650, 1870145)
    graph.sandbox.advance(60)
    graph.add(loaded, ["EMAIL"], [[C]])
    accepted(graph.replace(loaded, ["EMAIL"], [[C]], session_id=8, batch_seq=1))


def test_first_batch_must_be_first_and_come_once(graph: Graph, loaded: str) -> None:
    assert refused(graph.replace(loaded, ["EMAIL"], [[B]], session_id=7, batch_seq=2)) == (2650, 1870147)
    accepted(graph.replace(loaded, ["EMAIL"], [[B]], session_id=7, batch_seq=1))
    assert refused(graph.replace(loaded, ["EMAIL"], [[B]], session_id=7, batch_seq=1)) == (2650, 1870145)
    assert refused(graph.replace(loaded, ["EMAIL"], [[B]], session_id=8, batch_seq=2)) == (2650, 1870147)


def test_finished_session_takes_no_more(graph: Graph, loaded: str) -> None:
    accepted(graph.replace(loaded, ["EMAIL"], [[B]], session_id=7, batch_seq=1, last_batch_flag=True))
    assert refused(graph.replace(loaded, ["EMAIL"], [[C]], session_id=7, batch_seq=2)) == (2650, 1870159)
    graph.sandbox.advance(60)
    assert refused(graph.replace(loaded, ["EMAIL"], [[C]], session_id=7, batch_seq=2)) == (2650, 1870159)


def test_after_90_minutes_what_came_is_applied(graph: Graph, loaded: str) -> None:
    accepted(graph.replace(loaded, ["EMAIL"], [[B]], session_id=7, batch_seq=1))
    graph.sandbox.advance(90 * 60)
    answer = graph.replace(loaded, ["EMAIL"], [[C]], session_id=7, batch_seq=2, last_batch_flag=True)
    assert refused(answer) == (2650, 1870158)
    assert graph.status(loaded) == 414
    graph.sandbox.advance(60)
    assert graph.status(loaded) == 200
    assert graph.sandbox.members(loaded) == [{"EMAIL": B}]
    assert refused(graph.replace(loaded, ["EMAIL"], [[C]], session_id=7, batch_seq=2)) == (2650, 1870158)


def test_clock_may_pass_the_end_in_one_step(graph: Graph, loaded: str) -> None:
    accepted(graph.replace(loaded, ["EMAIL"], [[B]], session_id=7, batch_seq=1))
    started = graph.sandbox.now()
    graph.sandbox.advance(24 * 3600)
    assert graph.sandbox.members(loaded) == [{"EMAIL": B}]
    assert graph.sandbox.audience(loaded)["time_content_updated"] == started + 90 * 60 + 60
    assert started >= NOON


def test_failed_replace(graph: Graph, loaded: str) -> None:
    graph.sandbox.change(replace_fails=True)
    accepted(graph.replace(loaded, ["EMAIL"], [[B]], session_id=7, batch_seq=1, last_batch_flag=True))
    graph.sandbox.advance(60)
    assert graph.status(loaded) == 415
    assert graph.sandbox.members(loaded) == [{"EMAIL": A}]
    graph.sandbox.change(replace_fails=False)
    accepted(graph.replace(loaded, ["EMAIL"], [[B]], session_id=8, batch_seq=1, last_batch_flag=True))
    graph.sandbox.advance(60)
    assert graph.status(loaded) == 200


def test_schema_must_stay(graph: Graph, loaded: str) -> None:
    accepted(graph.replace(loaded, ["EMAIL"], [[B]], session_id=7, batch_seq=1))
    assert refused(graph.replace(loaded, ["PHONE"], [[B]], session_id=7, batch_seq=2)) == (2650, None)


def test_session_is_required(graph: Graph, loaded: str) -> None:
    assert refused(graph.replace(loaded, ["EMAIL"], [[B]])) == (100, None)
    assert refused(graph.replace(loaded, ["EMAIL"], [[B]], session_id=7)) == (100, None)


def test_malformed_batch_starts_nothing(graph: Graph, loaded: str) -> None:
    assert refused(graph.replace(loaded, ["EMAIL"], [], session_id=7, batch_seq=1)) == (100, None)
    assert graph.status(loaded) == 200
    accepted(graph.replace(loaded, ["EMAIL"], [[B]], session_id=7, batch_seq=1))


def test_too_large(graph: Graph, loaded: str) -> None:
    graph.sandbox.pretend(loaded, is_huge=True)
    assert refused(graph.replace(loaded, ["EMAIL"], [[B]], session_id=7, batch_seq=1)) == (2650, 1870144)


def test_value_based_only_by_value_based(graph: Graph) -> None:
    audience = graph.sandbox.create_audience(is_value_based=True)
    assert refused(graph.replace(audience, ["EMAIL"], [[B]], session_id=7, batch_seq=1)) == (100, None)
    accepted(graph.replace(audience, ["EMAIL", "LOOKALIKE_VALUE"], [[B, 1]], session_id=7, batch_seq=1))


def test_people_of_a_replace_are_people(graph: Graph, loaded: str) -> None:
    accepted(graph.replace(loaded, ["EMAIL", "PHONE"], [[B, C], ["", C]], session_id=7, batch_seq=1))
    accepted(graph.replace(loaded, ["EMAIL", "PHONE"], [[D, ""]], session_id=7, batch_seq=2, last_batch_flag=True))
    graph.sandbox.advance(60)
    assert (graph.sandbox.audience(loaded)["people"], graph.sandbox.audience(loaded)["rows"]) == (2, 3)
    graph.remove(loaded, ["EMAIL"], [[B]])
    assert graph.sandbox.members(loaded) == [{"EMAIL": D}]


def test_replace_may_show_late(graph: Graph, loaded: str) -> None:
    graph.sandbox.change(replace_shows_after_seconds=30)
    accepted(graph.replace(loaded, ["EMAIL"], [[B]], session_id=7, batch_seq=1))
    assert graph.status(loaded) == 200
    graph.add(loaded, ["EMAIL"], [[C]])
    assert refused(graph.replace(loaded, ["EMAIL"], [[D]], session_id=8, batch_seq=1)) == (2650, 1870145)
    graph.sandbox.advance(30)
    assert graph.status(loaded) == 414
    assert refused(graph.upload(loaded, ["EMAIL"], [[C]])) == (2650, 1870145)
    accepted(graph.replace(loaded, ["EMAIL"], [[D]], session_id=7, batch_seq=2, last_batch_flag=True))
    graph.sandbox.advance(60)
    assert as_set(graph.sandbox.members(loaded)) == as_set([{"EMAIL": B}, {"EMAIL": D}])


def test_session_is_finished_once_its_rows_are_applied(graph: Graph, loaded: str) -> None:
    def stage() -> str:
        [session] = graph.ok("GET", f"{loaded}/sessions?session_id=7")["data"]
        return session["stage"]

    accepted(graph.replace(loaded, ["EMAIL"], [[B]], session_id=7, batch_seq=1))
    assert stage() == "uploading"
    accepted(graph.replace(loaded, ["EMAIL"], [[C]], session_id=7, batch_seq=2, last_batch_flag=True))
    assert stage() == "processing"
    graph.sandbox.advance(60)
    assert stage() == "finished"
