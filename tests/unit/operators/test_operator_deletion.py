"""Deleting an audience, and what its ledger knows of it (rule L12)."""

from __future__ import annotations

import pytest
from operator_tools import FakeTaskInstance, emails

from airflow_provider_fbca.compat import AirflowFailException
from airflow_provider_fbca.operators.custom_audience import FacebookDeleteCustomAudienceOperator


@pytest.fixture
def delete(audience, ledger_folder):
    def execute(**options):
        options = {"audience_id": audience, "ledger_uri": f"file://{ledger_folder}"} | options
        FacebookDeleteCustomAudienceOperator(task_id="delete", **options).execute({"ti": FakeTaskInstance({})})

    return execute


def test_l12_deleting_an_audience_retires_its_entries_and_deletes_their_rows(run, delete, history, files, sandbox):
    run("refresh", emails("a", "b"))
    run("upload", emails("c"))
    delete()
    assert sandbox.audiences() == []
    (entry,) = history().outstanding
    assert (entry.opened.kind, entry.opened.rows, entry.settled is not None) == ("delete", 0, True)
    assert history().retired == {each.id for each in history().entries[:-1]}
    assert [name for name in files() if name.endswith(".parquet") and not name.startswith(entry.id)] == []


def test_l12_an_audience_that_meta_does_not_find_keeps_its_entries(run, delete, history, sandbox, audience):
    """It may only be hidden from the token, and then people are still in it."""
    run("refresh", emails("a", "b"))
    sandbox.fault("graph", operation="delete_audience", code=100, subcode=33, is_transient=False, status=400)
    delete()
    assert [entry.has_rows for entry in history().outstanding] == [True]


def test_an_audience_that_meta_refuses_to_delete_keeps_its_entries(run, delete, history, sandbox):
    run("refresh", emails("a", "b"))
    sandbox.fault("graph", operation="delete_audience", code=10, is_transient=False, status=400)
    with pytest.raises(AirflowFailException):
        delete()
    assert [entry.has_rows for entry in history().outstanding] == [True]


def test_an_audience_without_a_ledger_is_deleted(delete, sandbox, ledger_folder):
    delete(ledger_uri=None)
    assert sandbox.audiences() == []
    assert not ledger_folder.exists()


def test_an_audience_that_the_ledger_does_not_know_is_deleted(delete, sandbox, history):
    delete()
    assert sandbox.audiences() == []
    assert history().entries == ()
