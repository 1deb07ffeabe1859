"""``fbca ledger adopt`` and ``forget``: who the ledger answers for, stated by a person (rule L11)."""

from __future__ import annotations

import subprocess
import sys

import pytest
from operator_tools import digests, emails, traces_of

from airflow_provider_fbca.compat import AirflowFailException


@pytest.fixture
def filled(sandbox):
    """An audience that another tool has filled with a, b and c."""
    audience = sandbox.create_audience("Filled")
    sandbox.seed(audience, [{"EMAIL": digest} for digest in digests(*"abc")])
    return audience


def test_l11_an_adopted_audience_is_refreshed_and_everybody_adopted_can_leave(
    run, cli, filled, people_file, members, exposure
):
    with pytest.raises(AirflowFailException, match="filled before"):
        run("refresh", filled, emails(*"cd"))
    cli("adopt", filled, "--users", people_file(email=["a@example.com", " B@EXAMPLE.com", "c@example.com"]), "--yes")
    assert exposure(filled) == set(digests(*"abc"))
    run("refresh", filled, emails(*"cd"), strategy="delta")
    assert members(filled) == digests(*"cd")


def test_l11_an_adoption_sends_nothing(cli, filled, people_file, sandbox, members):
    cli("adopt", filled, "--users", people_file(email=["a@example.com"]), "--yes")
    assert [each for each in sandbox.requests() if each["rows"]] == []
    assert members(filled) == digests(*"abc")


def test_l11_hashes_and_columns_may_be_given_as_to_a_task(run, cli, filled, people_file, members):
    file = people_file(what=digests(*"abc"))
    cli("adopt", filled, "--users", file, "--column", "what=EMAIL", "--hashed", "EMAIL", "--yes")
    run("refresh", filled, emails("d"))
    assert members(filled) == digests("d")


def test_l11_an_audience_may_be_stated_to_be_empty(run, cli, sandbox, members):
    audience = sandbox.create_audience("Emptied")
    sandbox.pretend(audience, operation_status=200)
    with pytest.raises(AirflowFailException, match="filled before"):
        run("refresh", audience, emails("a"))
    cli("adopt", audience, "--empty", "--yes")
    run("refresh", audience, emails("a"), strategy="delta")
    assert members(audience) == digests("a")


def test_l6_after_an_adoption_nobody_counts_as_surely_in(run, cli, audience, people_file):
    run("refresh", audience, emails(*"ab"), strategy="delta")
    cli("adopt", audience, "--users", people_file(email=["c@example.com"]), "--yes")
    manifest = run("refresh", audience, emails(*"ab"), strategy="delta")
    assert (manifest["added"], manifest["removed"]) == (2, 1)


def test_nothing_is_adopted_before_a_person_has_agreed(cli, filled, people_file, files):
    output = cli("adopt", filled, "--users", people_file(email=["a@example.com", "x"]), typed="n\n", code=1).output
    assert "1 rows are stated to be all" in output
    assert "1 rows of the file name nobody" in output
    assert files() == []


@pytest.mark.parametrize(
    "options", [[], ["--empty", "--users", "x.parquet"], ["--empty", "--ledger", "file:///x"], ["--column", "x"]]
)
def test_options_that_do_not_fit_are_refused(cli, filled, options, files):
    cli("adopt", filled, *options, "--yes", code=2)
    assert files() == []


def test_a_file_without_a_usable_row_states_nothing(cli, filled, people_file, files):
    cli("adopt", filled, "--users", people_file(email=["nobody"]), "--yes", code=2)
    assert files() == []


@pytest.mark.kills
def test_l3_an_adoption_that_is_killed_is_run_again(run, cli, audience, people_file, exposure, kills):
    run("upload", audience, emails("z"))
    users = people_file(email=["a@example.com", "b@example.com"])
    for _ in kills("write after", lambda: cli("adopt", audience, "--users", users, "--yes")):
        assert exposure(audience) in (set(digests("z")), set(digests(*"abz")))
        cli("adopt", audience, "--users", users, "--yes")
        assert exposure(audience) == set(digests(*"abz"))
        cli("verify")


# -- adopt --ledger --------------------------------------------------------------------------------------------------


@pytest.fixture
def moved(run, root, audience):
    """A ledger with all kinds of entries that has moved: tasks look for it where it is not."""
    run("refresh", audience, emails(*"abc"), strategy="delta")
    run("refresh", audience, emails(*"bcd"), strategy="delta")
    run("upload", audience, emails("e"))
    run("remove", audience, emails("b"))
    old = root.with_name("old")
    root.rename(old)
    return old


def test_l7_a_ledger_that_moved_is_brought_along(run, cli, audience, moved, members, exposure):
    with pytest.raises(AirflowFailException, match="lacks"):
        run("refresh", audience, emails("e"))
    cli("adopt", audience, "--ledger", f"file://{moved}")
    assert exposure(audience) == set(digests(*"bcde"))
    cli("verify")
    run("refresh", audience, emails(*"ex"), strategy="delta")
    assert members(audience) == digests(*"ex")


def test_l7_a_damaged_ledger_is_not_brought_along(cli, audience, moved, files):
    rows = max((moved / audience).glob("*.rows.parquet"))
    rows.write_bytes(rows.read_bytes()[:-1])
    output = cli("adopt", audience, "--ledger", f"file://{moved}", code=1).output
    assert rows.name in output
    assert files() == []


def test_l11_a_ledger_brought_along_states_nothing_of_strangers(run, cli, filled, root):
    run("upload", filled, emails("x"))
    root.rename(root.with_name("old"))
    cli("adopt", filled, "--ledger", f"file://{root.with_name('old')}")
    with pytest.raises(AirflowFailException, match="filled before"):
        run("refresh", filled, emails("x"))


def test_a_place_without_the_ledger_is_told(cli, audience, tmp_path, run):
    run("upload", audience, emails("a"))
    assert "no ledger of this audience" in cli("adopt", audience, "--ledger", f"file://{tmp_path}/no", code=1).output


@pytest.mark.kills
def test_l7_while_a_ledger_is_half_copied_no_refresh_goes_on_and_a_second_run_finishes(
    run, cli, audience, root, exposure, kills, history
):
    run("refresh", audience, emails(*"ab"))
    run("refresh", audience, emails("b"), strategy="delta")
    run("upload", audience, emails("c"))
    moved = root.with_name("old")
    root.rename(moved)
    root.mkdir()
    whole = set(digests(*"bc"))
    for _ in kills("write after", lambda: cli("adopt", audience, "--ledger", f"file://{moved}")):
        for lease in moved.rglob("*.lease.json"):
            lease.unlink()
        known = history(audience)
        lost = [entry for entry in known.exposure if not entry.has_rows]
        assert not known.entries or known.missing or lost or exposure(audience) == whole
        cli("adopt", audience, "--ledger", f"file://{moved}")
        assert exposure(audience) == whole
        assert not history(audience).missing


# -- forget ----------------------------------------------------------------------------------------------------------


def test_forget_deletes_all_rows_and_keeps_the_history(run, cli, audience, files, history, members):
    run("refresh", audience, emails(*"abc"))
    run("upload", audience, emails("d"))
    output = cli("forget", audience, typed=f"{audience}\n").output
    assert "no refresh can ever remove them" in output
    assert 'strategy="replace"' in output
    assert len(history(audience).entries) == 3
    assert sum(entry.opened.rows for entry in history(audience).exposure) == 0
    assert members(audience) == digests(*"abcd")
    cli("verify")


def test_l11_after_forgetting_a_refresh_refuses_until_somebody_answers_for_the_audience(
    run, cli, audience, people_file, members
):
    run("refresh", audience, emails(*"ab"))
    cli("forget", audience, "--confirm", audience)
    with pytest.raises(AirflowFailException):
        run("refresh", audience, emails(*"bc"))
    cli("adopt", audience, "--users", people_file(email=["a@example.com", "b@example.com"]), "--yes")
    run("refresh", audience, emails(*"bc"))
    assert members(audience) == digests(*"bc")


@pytest.mark.parametrize("typed", ["", "yes\n", "1\n"])
def test_nothing_is_forgotten_unless_the_id_is_typed(run, cli, audience, typed, files):
    run("upload", audience, emails("a"))
    before = files()
    assert cli("forget", audience, typed=typed, code=1 if not typed else 2)
    assert files() == before


def test_a_ledger_with_entries_missing_is_whole_once_it_has_forgotten_them(run, cli, audience, root):
    run("upload", audience, emails("a"))
    lost = list((root / audience).glob("0000000001-*"))
    run("upload", audience, emails("b"))
    for path in lost:
        path.unlink()
    cli("verify", code=1)
    cli("forget", audience, "--confirm", audience)
    cli("verify")


@pytest.mark.kills
def test_l2_forgetting_that_is_killed_forgets_all_or_nothing_and_is_run_again(
    run, cli, audience, exposure, kills, history, files
):
    run("refresh", audience, emails(*"ab"))
    run("upload", audience, emails("c"))
    for _ in kills("write after", lambda: cli("forget", audience, "--confirm", audience)):
        assert exposure(audience) in (set(digests(*"abc")), set())
        cli("forget", audience, "--confirm", audience)
        assert history(audience).accounts_for_all is False
        assert exposure(audience) == set()
        assert len(files(".rows.parquet")) <= 1


# -- as a person runs it ---------------------------------------------------------------------------------------------


def test_the_command_works_as_a_process_and_shows_no_person(run, audience, root, people_file):
    run("refresh", audience, emails("ann", "bob"))
    users = people_file(email=["ann@example.com"])
    result = subprocess.run(
        [sys.executable, "-m", "airflow_provider_fbca.cli", "ledger", "erase", "--users", users, "--yes"],
        capture_output=True,
        text=True,
        check=True,
    )
    assert "Complete at" in result.stdout
    assert not [trace for trace in traces_of("ann@example.com") if trace in result.stdout + result.stderr]


def test_help_loads_neither_airflow_nor_arrow():
    code = (
        "import sys; from airflow_provider_fbca.cli.app import app\n"
        "try: app(['ledger', '--help'])\n"
        "except SystemExit: pass\n"
        "sys.exit(bool({'airflow', 'pyarrow', 'numpy', 'requests'} & sys.modules.keys()))"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, check=False).returncode == 0
