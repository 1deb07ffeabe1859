"""How many requests are on their way at once: fewer after faults, more again when all is well."""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING

import pytest
from graph_wire import AUDIENCE, OddServer, Reply, Seen, people, refused
from hypothesis import given
from hypothesis import strategies as st

from airflow_provider_fbca.graph.upload import UserUploader
from airflow_provider_fbca.graph.window import Window

if TYPE_CHECKING:
    from airflow_provider_fbca.graph.api import GraphApi


def test_faults_of_requests_that_were_on_their_way_together_count_once() -> None:
    window = Window(8)
    for began in (0.0, 1.0, 2.0):
        window.fail(began, 3.0)
    assert window.size == 4
    window.fail(3.0, 5.0)
    assert window.size == 2


def test_it_grows_by_one_for_as_many_answers_as_it_is_large() -> None:
    window = Window(4)
    window.fail(0.0, 1.0)
    window.fail(1.0, 2.0)
    sizes = []
    for _ in range(12):
        sizes.append(window.size)
        window.succeed()
    assert sizes == [1, 2, 2, 2, 3, 3, 3, 4, 4, 4, 4, 4]


@given(st.integers(1, 20), st.lists(st.booleans(), max_size=200))
def test_it_is_never_less_than_one_or_more_than_it_may(most: int, answers: list[bool]) -> None:
    window = Window(most)
    for instant, is_well in enumerate(answers):
        if is_well:
            window.succeed()
        else:
            window.fail(instant, instant)
        assert 1 <= window.size <= most


class Line:
    """A server on which some requests wait for each other, and which counts how many are there at once."""

    def __init__(self, odd: OddServer, *, fail: int, reply: Reply) -> None:
        self.most_after = 0
        self._lock, self._here, self._seen = threading.Lock(), 0, 0
        self._together = threading.Barrier(fail)
        self._fail, self._reply = fail, reply
        odd.answer = self.answer

    def answer(self, seen: Seen) -> Reply:
        with self._lock:
            self._seen += 1
            number = self._seen
            self._here += 1
            # The tries that failed are made again where they are; those after them are new, until all has grown again.
            if self._fail < seen.json["session"]["batch_seq"] <= 2 * self._fail:
                self.most_after = max(self.most_after, self._here)
        if number <= self._fail:
            self._together.wait(20)
        else:
            # Long enough for all that may come at once.
            time.sleep(0.1)
        with self._lock:
            self._here -= 1
        return self._reply if number <= self._fail else Reply(200, {"num_received": 1})


@pytest.mark.parametrize(
    "reply",
    [Reply(502, b"<html>"), Reply(drop=True), Reply(400, refused(17).body, {"Retry-After": "1"})],
    ids=["html", "drop", "limit"],
)
def test_after_faults_fewer_requests_are_made_at_once(odd: OddServer, odd_api: GraphApi, reply: Reply) -> None:
    line = Line(odd, fail=8, reply=reply)
    upload = UserUploader(odd_api, AUDIENCE, new_session=lambda: 7, batch_size=10, max_concurrency=8)
    upload.add(people(400), total=400)
    # Half of eight, and by then the first answers have let it grow by less than three.
    assert 1 <= line.most_after <= 6


def test_without_faults_all_places_are_used(odd: OddServer, odd_api: GraphApi) -> None:
    together = threading.Barrier(5)

    def answer(seen: Seen) -> Reply:
        if not seen.json["session"]["last_batch_flag"]:
            together.wait(20)
        return Reply(200, {"num_received": 1})

    odd.answer = answer
    upload = UserUploader(odd_api, AUDIENCE, new_session=lambda: 7, batch_size=10, max_concurrency=5)
    assert upload.add(people(110), total=110).requests == 11
