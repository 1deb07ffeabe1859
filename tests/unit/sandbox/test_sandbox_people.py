"""A removal takes out people with every row connected to them: examples, and a search against a naive model."""

from __future__ import annotations

from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st
from sandbox_client import Graph, as_set, digest

from airflow_provider_fbca.sandbox.admin import _batch_of
from airflow_provider_fbca.sandbox.clock import Clock
from airflow_provider_fbca.sandbox.identifiers import row_identifiers
from airflow_provider_fbca.sandbox.settings import Settings
from airflow_provider_fbca.sandbox.world import World

E1, E2, E3, P1, P2, X = (digest(name) for name in ("e1", "e2", "e3", "p1", "p2", "x"))
KEYS = ["EMAIL", "PHONE", "EXTERN_ID"]


def test_a_row_that_stays_goes_with_its_person(graph: Graph, audience: str) -> None:
    graph.add(audience, KEYS, [[E1, P1, ""], [E2, P1, ""], [E3, P2, ""]])
    assert graph.sandbox.audience(audience)["people"] == 2
    graph.remove(audience, ["EMAIL"], [[E1]])
    assert graph.sandbox.members(audience) == [{"EMAIL": E3, "PHONE": P2}]


def test_connections_reach_further_than_one_step(graph: Graph, audience: str) -> None:
    graph.add(audience, KEYS, [[E1, P1, ""], ["", P1, "ext"], [E2, "", "ext"], [E3, "", ""]])
    graph.remove(audience, ["EMAIL"], [[E1]])
    assert graph.sandbox.members(audience) == [{"EMAIL": E3}]


def test_removed_row_hits_every_person_that_it_names(graph: Graph, audience: str) -> None:
    graph.add(audience, KEYS, [[E1, "", ""], ["", P1, ""], [E3, P2, ""]])
    graph.remove(audience, KEYS, [[E1, P1, "never seen"]])
    assert graph.sandbox.members(audience) == [{"EMAIL": E3, "PHONE": P2}]


def test_the_same_digest_under_another_key_is_another_identifier(graph: Graph, audience: str) -> None:
    graph.add(audience, KEYS, [[E1, "", ""], ["", E1, ""]])
    graph.remove(audience, ["PHONE"], [[E1]])
    assert graph.sandbox.members(audience) == [{"EMAIL": E1}]


def test_names_alone_connect_nobody(graph: Graph, audience: str) -> None:
    schema = ["EMAIL", "FN", "LN", "ZIP"]
    graph.add(audience, schema, [[E1, X, X, P1], [E2, X, X, P2], [E3, X, X, ""]])
    assert graph.sandbox.audience(audience)["people"] == 3
    graph.remove(audience, ["FN", "LN", "ZIP"], [[X, X, P1]])
    assert graph.sandbox.audience(audience)["people"] == 2


def test_who_left_is_a_stranger_on_return(graph: Graph, audience: str) -> None:
    graph.add(audience, KEYS, [[E1, P1, ""], [E2, P1, ""]])
    graph.remove(audience, ["EMAIL"], [[E1]])
    graph.add(audience, KEYS, [[E1, "", ""], [E2, "", ""]])
    assert graph.sandbox.audience(audience)["people"] == 2
    graph.remove(audience, ["EMAIL"], [[E1]])
    assert graph.sandbox.members(audience) == [{"EMAIL": E2}]


def test_hidden_link_between_members(graph: Graph, audience: str) -> None:
    graph.add(audience, KEYS, [[E1, "", ""], ["", P2, ""], [E3, "", ""]])
    graph.sandbox.link({"EMAIL": E1}, {"PHONE": P2})
    assert graph.sandbox.audience(audience)["people"] == 2
    graph.remove(audience, ["EMAIL"], [[E1]])
    assert graph.sandbox.members(audience) == [{"EMAIL": E3}]


def test_hidden_link_to_an_identifier_that_no_row_has(graph: Graph, audience: str) -> None:
    graph.sandbox.link({"EMAIL": E1}, {"PHONE": P2})
    graph.sandbox.link({"PHONE": P2}, {"EXTERN_ID": "ext"})
    graph.add(audience, KEYS, [["", "", "ext"], [E3, "", ""]])
    graph.remove(audience, ["EMAIL"], [[E1]])
    assert graph.sandbox.members(audience) == [{"EMAIL": E3}]


def test_hidden_link_reaches_a_replace_at_work(graph: Graph, audience: str) -> None:
    session = {"session_id": 1, "batch_seq": 1, "last_batch_flag": True}
    graph.replace(audience, KEYS, [[E1, "", ""], ["", P2, ""]], **session)
    graph.sandbox.link({"EMAIL": E1}, {"PHONE": P2})
    graph.sandbox.advance(1)
    assert graph.sandbox.audience(audience)["people"] == 1


# --- a search against the plainest model that could be right -------------------------------------------------------

ROW_KEYS = ("EMAIL", "PHONE", "EXTERN_ID", "FN", "LN", "ZIP")
CELLS = {key: [digest(f"{key}{number}") for number in range(4)] for key in ROW_KEYS}


Row = dict[str, Any]


class Model:
    """Rows in a list; who goes is found by walking from row to row until nothing new turns up."""

    def __init__(self) -> None:
        self.rows: list[Row] = []
        self.links: list[set[int]] = []

    def add(self, rows: list[Row]) -> None:
        for row in rows:
            same = [held for held in self.rows if identity(held) == identity(row)]
            if not same:
                self.rows.append(dict(row))
            elif row != identity(row):
                same[0].update(row)

    def remove(self, rows: list[Row]) -> None:
        reached = self.reach(set().union(*map(identifiers_of, rows)))
        self.rows = [row for row in self.rows if not identifiers_of(row) & reached]

    def reach(self, reached: set[int]) -> set[int]:
        while True:
            groups = [identifiers_of(row) for row in self.rows] + self.links
            wider = reached.union(*(group for group in groups if group & reached))
            if wider == reached:
                return reached
            reached = wider

    def people(self) -> int:
        return len({frozenset(self.reach(identifiers_of(row))) for row in self.rows})


def identity(row: Row) -> Row:
    return {key: cell for key, cell in row.items() if key != "LOOKALIKE_VALUE"}


def identifiers_of(row: Row) -> set[int]:
    return set(row_identifiers({key: [cell] for key, cell in identity(row).items()}, 1)[0])


def unique(rows: list[Row]) -> list[Row]:
    return [row for place, row in enumerate(rows) if row not in rows[:place]]


rows_of_people = (
    st.fixed_dictionaries({}, optional={key: st.sampled_from(CELLS[key]) for key in ROW_KEYS})
    .filter(identifiers_of)
    .map(lambda row: {key: row[key] for key in ROW_KEYS if key in row})
)
some_rows = st.lists(rows_of_people, min_size=1, max_size=5).map(unique)
# All rows of a request say what they are worth, or none does.
valued_rows = st.tuples(some_rows, st.none() | st.integers(0, 3)).map(
    lambda drawn: [row | ({} if drawn[1] is None else {"LOOKALIKE_VALUE": drawn[1]}) for row in drawn[0]]
)
pairs = st.tuples(
    st.sampled_from(["EMAIL", "PHONE"]).flatmap(lambda key: st.sampled_from(CELLS[key]).map(lambda cell: {key: cell})),
    st.sampled_from(CELLS["EXTERN_ID"]).map(lambda cell: {"EXTERN_ID": cell}),
)
steps = st.one_of(
    st.tuples(st.just("add"), valued_rows),
    st.tuples(st.just("remove"), some_rows),
    st.tuples(st.just("link"), pairs),
)


@settings(max_examples=150, deadline=None)
@given(st.lists(steps, max_size=14))
def test_people_against_the_model(history: list[tuple[str, Any]]) -> None:
    world, model = World(Settings(), Clock(0.0)), Model()
    members = world.new_audience("1", {}).members
    for step, what in history:
        if step == "add":
            members.add(_batch_of(what, world))
            model.add(what)
        elif step == "remove":
            members.remove(members.matching(_batch_of(what, world)))
            model.remove(what)
        else:
            group = set().union(*map(identifiers_of, what))
            world.link(sorted(group))
            model.links.append(group)
        held = [row for block in members.members() for row in block]
        assert as_set(held) == as_set(model.rows)
        assert (members.rows, members.people) == (len(model.rows), model.people())
    members.close()
