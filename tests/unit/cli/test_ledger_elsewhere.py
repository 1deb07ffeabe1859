"""The tools on a store that is no local disk."""

from __future__ import annotations

import json
import secrets

import pytest
from operator_tools import digests, emails


@pytest.fixture
def place():
    from airflow.sdk.io import attach
    from fsspec.implementations.memory import MemoryFileSystem

    attach(protocol="memory", fs=MemoryFileSystem())
    return f"memory://bucket/{secrets.token_hex(8)}"


def test_the_tools_work_on_any_store(run, cli, audience, people_file, members, place):
    at = ["--ledger-uri", place]
    run("refresh", audience, emails(*"abc"), ledger_uri=place)
    run("upload", audience, emails("d"), ledger_uri=place)
    (shown,) = json.loads(cli("show", "--json", *at).stdout)["audiences"]
    assert (shown["audience_id"], shown["rows_at_most"], shown["lease"]) == (audience, 4, None)
    cli("verify", *at)
    assert "Nothing to delete" in cli("repair", *at).output
    cli("erase", "--users", people_file(email=["b@example.com"]), "--yes", *at)
    assert members(audience) == digests(*"acd")
    cli("adopt", audience, "--users", people_file(email=["e@example.com"]), "--yes", *at)
    run("refresh", audience, emails("a"), ledger_uri=place)
    assert members(audience) == digests("a")
    moved = ["--ledger-uri", f"{place}-new"]
    cli("adopt", audience, "--ledger", place, *moved)
    cli("verify", *moved)
    run("refresh", audience, emails("x"), ledger_uri=f"{place}-new")
    assert members(audience) == digests("x")
    cli("forget", audience, "--confirm", audience, *moved)
    cli("verify", *moved)
