"""``fbca ledger erase``: people are gone from every audience and snapshot, and nobody else is forgotten."""

from __future__ import annotations

import json
import threading
from dataclasses import replace

import pyarrow as pa
import pytest
from airflow.sdk import ObjectStoragePath
from operator_tools import digests, emails, killed, sha, traces_of

from airflow_provider_fbca.graph.api import GraphApi
from airflow_provider_fbca.ledger import AudienceLedger, LeaseTerms, RowSets, WorkDir, utc_now
from airflow_provider_fbca.ledger.lease import boot_clock
from airflow_provider_fbca.ledger_tools.erase import Erasure
from airflow_provider_fbca.ledger_tools.users import UsersFile

PHONES = {"a": "+14155550101", "b": "+14155550102", "c": "+14155550103"}


def rows(*people: str) -> pa.Table:
    return pa.table({"email": [f"{one}@example.com" for one in people], "phone": [PHONES[one] for one in people]})


def phones(*people: str) -> pa.Table:
    return pa.table({"phone": [PHONES[one] for one in people]})


def phone_digest(person: str) -> str:
    return sha(PHONES[person].removeprefix("+"))


def test_l12_erased_people_are_gone_from_every_audience_and_every_snapshot(
    run, cli, sandbox, people_file, members, exposure, bytes_of
):
    one, two, other = (sandbox.create_audience(name) for name in ("One", "Two", "Other"))
    run("refresh", one, emails(*"abc"))
    run("refresh", two, emails(*"bcd"))
    run("upload", other, emails(*"cd"))
    cli("erase", "--users", people_file(email=["B@example.com "]), "--yes")
    assert [members(each) for each in (one, two, other)] == [digests(*"ac"), digests(*"cd"), digests(*"cd")]
    assert [exposure(each) for each in (one, two, other)] == [
        set(digests(*"ac")),
        set(digests(*"cd")),
        set(digests(*"cd")),
    ]
    assert not [trace for trace in traces_of("b@example.com")[2:] if trace.encode() in bytes_of()]


def test_l12_the_receipt_counts_and_names_nobody(run, cli, sandbox, people_file, audience):
    run("refresh", audience, emails(*"abc"))
    result = cli("erase", "--users", people_file(email=["b@example.com", None]), "--yes", "--json")
    receipt = json.loads(result.stdout)
    assert receipt["is_complete"]
    assert (receipt["given"], receipt["unusable"], receipt["found"], receipt["rows_left"]) == (1, 1, 1, 0)
    assert receipt["accounts"] == {sandbox.ad_account_id: 1}
    (erased,) = receipt["erased"]
    assert (erased["audience_id"], erased["rows"], erased["requests"]) == (audience, 1, 1)
    assert not [trace for trace in traces_of("b@example.com")[:1] + digests("b") if trace in result.output]


def test_l12_people_are_erased_from_audiences_that_the_ledger_does_not_know(cli, sandbox, people_file, members, root):
    audience = sandbox.create_audience()
    sandbox.seed(audience, [{"EMAIL": digest} for digest in digests(*"ab")])
    cli("erase", "--users", people_file(email=["a@example.com"]), "--yes")
    assert members(audience) == digests("b")


def test_l12_a_person_is_followed_through_identifiers_into_other_audiences(
    run, cli, sandbox, people_file, members, exposure
):
    both, only_phones = sandbox.create_audience("Both"), sandbox.create_audience("Phones")
    run("refresh", only_phones, phones(*"ab"))
    run("refresh", both, rows(*"ab"))
    cli("erase", "--users", people_file(email=["a@example.com"]), "--yes")
    assert members(both) == digests("b")
    assert members(only_phones) == [phone_digest("b")]
    assert exposure(only_phones) == {phone_digest("b")}


def test_rows_that_only_share_an_identifier_stay_where_that_is_asked_for(
    run, cli, sandbox, people_file, exposure, audience
):
    household = pa.table(
        {"email": ["a@example.com", "b@example.com", "c@example.com"], "phone": [PHONES["a"], PHONES["a"], PHONES["c"]]}
    )
    run("refresh", audience, household)
    cli("erase", "--users", people_file(email=["a@example.com"]), "--no-connected", "--yes")
    assert exposure(audience) == {*digests("b", "c"), phone_digest("a"), phone_digest("c")}


def test_l4_whoever_stays_is_still_removed_by_the_next_refresh(run, cli, people_file, members, audience):
    run("refresh", audience, emails(*"abc"))
    run("upload", audience, emails(*"de"))
    cli("erase", "--users", people_file(email=["b@example.com"]), "--yes")
    run("refresh", audience, emails(*"ex"))
    assert members(audience) == digests(*"ex")


def test_l6_after_an_erasure_nobody_counts_as_surely_in(run, cli, people_file, members, audience):
    run("refresh", audience, emails(*"abc"), strategy="delta")
    cli("erase", "--users", people_file(email=["b@example.com"]), "--yes")
    manifest = run("refresh", audience, emails(*"ac"), strategy="delta")
    assert (manifest["added"], manifest["removed"]) == (2, 0)
    assert members(audience) == digests(*"ac")


def test_people_of_a_removal_and_of_rows_that_nothing_needs_are_erased_too(
    run, cli, people_file, audience, root, bytes_of, files
):
    run("upload", audience, emails(*"abc"))
    run("remove", audience, emails("b"))
    (root / audience / "0000000009-0123abcd.rows.parquet").write_bytes(b"never sent")
    cli("erase", "--users", people_file(email=["b@example.com"]), "--yes")
    assert len(files(".rows.parquet")) == 1
    assert not [trace for trace in traces_of("b@example.com")[2:] if trace.encode() in bytes_of()]


def test_an_audience_in_which_nobody_is_found_is_left_as_it_is(run, cli, people_file, audience, files):
    run("refresh", audience, emails(*"abc"))
    before = files()
    receipt = json.loads(cli("erase", "--users", people_file(email=["z@example.com"]), "--yes", "--json").stdout)
    assert (receipt["found"], receipt["audiences"], receipt["erased"], receipt["is_complete"]) == (0, 1, [], True)
    assert files() == before


def test_nothing_is_done_before_a_person_has_agreed(run, cli, people_file, audience, members, files):
    run("refresh", audience, emails(*"ab"))
    before = files()
    result = cli("erase", "--users", people_file(email=["b@example.com"]), typed="n\n", code=1)
    assert "1 rows in 1 audiences' snapshots are theirs" in result.output
    assert (members(audience), files()) == (digests(*"ab"), before)


def test_a_damaged_snapshot_is_told_and_the_rest_is_erased(run, cli, people_file, audience, root, members, exposure):
    run("upload", audience, emails(*"ab"))
    (damaged,) = (root / audience).glob("*.rows.parquet")
    run("upload", audience, emails(*"bc"))
    damaged.write_bytes(damaged.read_bytes()[:-1])
    result = cli("erase", "--users", people_file(email=["b@example.com"]), "--yes", code=1)
    assert "NOT COMPLETE" in result.output
    assert damaged.name.partition(".")[0] in result.output
    assert members(audience) == digests(*"ac")


def test_an_audience_that_meta_does_not_have_stays_known_and_is_told(run, cli, people_file, sandbox, root, files):
    one, two = sandbox.create_audience("One"), sandbox.create_audience("Two")
    run("refresh", one, emails(*"ab"))
    run("refresh", two, emails(*"ab"))
    (root / one).rename(root / "999")
    result = cli("erase", "--users", people_file(email=["b@example.com"]), "--yes", code=1)
    assert "fbca ledger forget 999" in result.output
    assert "unfinished" not in result.output
    assert "An erasure did not finish" in cli("show").output
    cli("forget", "999", "--confirm", "999")
    cli("erase", "--users", people_file(email=["b@example.com"]), "--yes")
    assert "An erasure did not finish" not in cli("show").output


def test_a_file_without_a_usable_person_erases_nobody(run, cli, people_file, audience, sandbox):
    run("refresh", audience, emails("a"))
    cli("erase", "--users", people_file(email=["nobody", None]), "--yes", code=2)
    assert sandbox.requests("remove_from_all") == []


def test_removals_that_meta_refuses_are_told_and_nobody_is_forgotten(
    run, cli, people_file, audience, sandbox, exposure, members
):
    run("refresh", audience, emails(*"ab"))
    sandbox.fault("graph", operation="remove_users", code=200, subcode=1870047, is_transient=False, status=400)
    result = cli("erase", "--users", people_file(email=["b@example.com"]), "--yes", code=1)
    assert 'Refresh it once by strategy="replace"' in result.output
    assert exposure(audience) == set(digests(*"ab"))
    cli("erase", "--users", people_file(email=["b@example.com"]), "--yes")
    assert (members(audience), exposure(audience)) == (digests("a"), set(digests("a")))


def test_an_account_without_the_terms_is_told_since_meta_would_say_nothing(cli, people_file, sandbox, root):
    audience = sandbox.create_audience()
    sandbox.seed(audience, [{"EMAIL": digest} for digest in digests(*"ab")])
    sandbox.change(tos_accepted=False)
    result = cli("erase", "--users", people_file(email=["b@example.com"]), "--yes", code=1)
    assert "terms are not accepted" in result.output
    sandbox.change(tos_accepted=True)


def test_a_file_that_cannot_be_read_is_told_in_one_line(cli, sandbox, tmp_path):
    output = cli("erase", "--users", str(tmp_path / "no.parquet"), "--yes", code=1).output
    assert "There are no files at" in output
    assert "Traceback" not in output


# -- other writers ---------------------------------------------------------------------------------------------------


@pytest.fixture
def erase(root, people_file, sandbox):
    """Erases people by their e-mails with waits that pass at once; gives the receipt."""

    def erase(*names, pause=sandbox.advance):
        place = ObjectStoragePath(f"file://{root}")
        with WorkDir() as workdir:
            file = UsersFile(people_file(email=[f"{name}@example.com" for name in names]))
            given, _ = file.read(workdir, RowSets(workdir))
            erasure = Erasure(place, "fbca_default", workdir, given, unusable=0, connected=True, pause=pause)
            erasure.look()
            return erasure.carry_out()

    return erase


def test_l8_an_erasure_waits_for_the_task_that_writes(run, cli, people_file, audience, root, exposure):
    run("refresh", audience, emails(*"ab"))
    users = people_file(email=["b@example.com"])
    ledger = AudienceLedger(ObjectStoragePath(f"file://{root}"), audience)
    waiting = threading.Thread(target=lambda: cli("erase", "--users", users, "--yes"))
    with ledger.lease({"task": "other"}, LeaseTerms(seconds=200, longest_flight=1)) as lease:
        waiting.start()
        waiting.join(3)
        lease.check()
        assert waiting.is_alive()
        assert exposure(audience) == set(digests(*"ab"))
    waiting.join(60)
    assert exposure(audience) == set(digests("a"))


def test_l8_whoever_lost_the_lease_meanwhile_may_have_sent_until_just_now(run, erase, audience, root, sandbox, members):
    run("upload", audience, emails("a"))
    ledger = AudienceLedger(ObjectStoragePath(f"file://{root}"), audience)
    (entry,) = ledger.history().entries
    with WorkDir() as workdir:
        copy = ledger.begin(ledger.fetch(entry, workdir))
    copy.open(replace(entry.opened, left_behind=True, opened_at=utc_now()))
    waited = []

    def pause(seconds):
        waited.append(seconds)
        sandbox.seed(audience, [{"EMAIL": sha("a@example.com")}])

    assert erase("a", pause=pause).is_complete
    assert waited == [90.0]
    assert members(audience) == []


def test_l8_an_erasure_that_loses_its_lease_tells_the_next_writer(
    run, erase, audience, history, monkeypatch, exposure, members
):
    run("refresh", audience, emails(*"ab"))
    passed, take, send = [0.0], AudienceLedger.lease, GraphApi.send
    clock = {"clock": lambda: boot_clock() + passed[0]}
    monkeypatch.setattr(AudienceLedger, "lease", lambda *args, **options: take(*args, **options | clock))

    def send_slowly(*args, **options):
        answer = send(*args, **options)
        passed[0] += 1000 * ("users" in args[2][1])
        return answer

    monkeypatch.setattr(GraphApi, "send", send_slowly)
    receipt = erase("b")
    assert not receipt.is_complete
    assert "lease" in receipt.erased[0].failure
    assert [entry.opened.left_behind for entry in history(audience).outstanding] == [False, False, True]
    assert exposure(audience) == set(digests(*"ab"))
    monkeypatch.undo()


def test_s6_a_replace_in_the_air_does_not_bring_erased_people_back(
    run, erase, audience, root, sandbox, members, exposure
):
    run("refresh", audience, emails(*"abcd"))
    sent = {"strategy": "replace", "batch_size": 1, "max_concurrency": 1}
    assert killed("request after", 2, lambda: run("refresh", audience, emails(*"abcd"), **sent))
    for lease in root.rglob("*.lease.json"):
        lease.unlink()
    assert erase("b").is_complete
    sandbox.advance(3 * 3600)
    assert not set(digests("b")) & set(members(audience))
    assert exposure(audience) == set(digests(*"acd"))


@pytest.mark.kills
@pytest.mark.parametrize("place", ["write after", "request before", "request after"])
def test_l3_after_a_kill_anywhere_a_second_run_finishes_and_nobody_was_forgotten(
    run, cli, sandbox, people_file, members, exposure, bytes_of, kills, place
):
    both, only_phones = sandbox.create_audience("Both"), sandbox.create_audience("Phones")
    run("refresh", both, rows(*"ab"))
    run("upload", both, rows("c"))
    run("refresh", only_phones, phones(*"abc"))
    users = people_file(email=["a@example.com"])
    for _ in kills(place, lambda: cli("erase", "--users", users, "--yes")):
        for one in (both, only_phones):
            assert {digest for row in sandbox.members(one) for digest in row.values()} <= exposure(one)
        cli("erase", "--users", users, "--yes")
        assert members(both) == digests(*"bc")
        assert members(only_phones) == sorted([phone_digest("b"), phone_digest("c")])
        assert exposure(only_phones) == {phone_digest("b"), phone_digest("c")}
        assert exposure(both) == {*digests(*"bc"), phone_digest("b"), phone_digest("c")}
        everything = bytes_of()
        assert not [trace for trace in traces_of("a@example.com")[2:] if trace.encode() in everything]
        assert repr(bytes.fromhex(phone_digest("a")))[2:-1].encode() not in everything
