"""What keeps two writers apart on object stores: the condition that goes over the wire, and what the answers mean."""

from __future__ import annotations

import secrets
import traceback

import pytest
from ledger_rows import AUDIENCE, marker_of
from object_stores import endpoint, files_at, root_at
from wire import forward_to, wire

from airflow_provider_fbca.exceptions import LedgerPlaceError, LedgerTakenError
from airflow_provider_fbca.ledger import AudienceLedger, LeaseTerms
from airflow_provider_fbca.ledger.store import Store

TERMS = LeaseTerms(seconds=180, longest_flight=90)
OWNER = {"dag_id": "crm"}
SECRET = "s3cr3t"
BLOB = {"ETag": '"0x1"', "Last-Modified": "Mon, 04 May 2026 00:00:00 GMT", "x-ms-version": "2021-12-02"}


def store_at(kind, url):
    return Store(root_at(kind, files_at(kind, url, secret=SECRET)).joinpath(AUDIENCE))


def created(request):
    """The answer of each store to a creation that succeeded."""
    if "upload" in request.path:
        return 200, {"Content-Type": "application/json"}, b'{"name": "x", "size": "1", "md5Hash": "", "crc32c": ""}'
    return 201 if "account" in request.path else 200, BLOB, b""


@pytest.mark.parametrize("kind", ["s3", "gs", "abfs"])
def test_a_creation_is_one_request_on_the_condition_that_nothing_is_there(kind):
    with wire(created) as (url, seen):
        store_at(kind, url).create("0000000001.lease.json", b"held")
    (request,) = seen
    assert b"held" in request.body
    if kind == "gs":
        assert (request.method, request.query["ifGenerationMatch"]) == ("POST", ["0"])
    else:
        assert (request.method, request.headers["if-none-match"]) == ("PUT", "*")


def s3_error(status, code, more=""):
    body = f"<?xml version='1.0'?><Error><Code>{code}</Code><Message>{SECRET}</Message>{more}</Error>"
    return status, {"Content-Type": "application/xml"}, body.encode()


def azure_error(status, code):
    return status, {"x-ms-error-code": code, "Content-Type": "application/xml"}, b"<Error/>"


REFUSALS = {
    "S3": ("s3", s3_error(412, "PreconditionFailed", "<Condition>If-None-Match</Condition>")),
    "another S3, which names no condition": ("s3", s3_error(412, "PreconditionFailed")),
    "S3, where two meet": ("s3", s3_error(409, "ConditionalRequestConflict")),
    "Google": ("gs", (412, {"Content-Type": "application/json"}, b'{"error": {"code": 412, "message": "s3cr3t"}}')),
    "Azure": ("abfs", azure_error(409, "BlobAlreadyExists")),
    "Azure, by the condition": ("abfs", azure_error(412, "ConditionNotMet")),
}


@pytest.mark.parametrize("refusal", REFUSALS.values(), ids=REFUSALS)
def test_a_refused_creation_means_taken_where_another_file_is_there(refusal):
    kind, refused = refusal

    def answer(request):
        if request.method in {"PUT", "POST"}:
            return refused
        # What adlfs asks for is a range of it.
        partial = {"Content-Range": "bytes 0-6/7"} if "x-ms-range" in request.headers else {}
        return 206 if partial else 200, BLOB | partial | {"Content-Type": "text/plain"}, b"another"

    with wire(answer) as (url, _), pytest.raises(LedgerTakenError) as caught:
        store_at(kind, url).create("0000000001.lease.json", b"held")
    assert not caught.value.permanent
    assert SECRET not in "".join(traceback.format_exception(caught.value))


@pytest.mark.parametrize("kind", ["s3", "abfs"])
def test_a_refused_creation_is_an_error_where_nothing_is_there(kind):
    conflict = {"s3": s3_error(409, "ConditionalRequestConflict"), "abfs": azure_error(403, "AuthorizationFailure")}
    gone = {"s3": s3_error(404, "NoSuchKey"), "abfs": azure_error(404, "BlobNotFound")}

    def answer(request):
        return conflict[kind] if request.method == "PUT" else gone[kind]

    with wire(answer) as (url, _), pytest.raises(LedgerPlaceError) as caught:
        store_at(kind, url).create("0000000001.lease.json", b"held")
    assert not caught.value.permanent
    assert SECRET not in "".join(traceback.format_exception(caught.value))


@pytest.mark.parametrize("kind", ["s3", "gs"])
def test_a_creation_whose_answer_was_lost_is_known_for_our_own(kind, request):
    forward = forward_to(endpoint(kind, request.getfixturevalue(f"{kind}_options")))
    lost = []

    def answer(request):
        answered = forward(request)
        if request.method in {"PUT", "POST"} and not lost:
            lost.append(answered[0])
            return None
        return answered

    with wire(answer) as (url, seen):
        store = store_at(kind, url)
        store.create("0000000001.lease.json", b"held")
        with pytest.raises(LedgerTakenError):
            store.create("0000000001.lease.json", b"other")
        assert store.read(["0000000001.lease.json"]) == {"0000000001.lease.json": b"held"}
    assert lost == [200]
    assert sum(request.method in {"PUT", "POST"} for request in seen) > 2


def no_wait(_seconds):
    raise TimeoutError


def test_l8_a_server_that_ignores_the_condition_is_refused_and_the_way_out_is_named(s3_options):
    def ignore(request):
        request.headers.pop("if-none-match", None)

    with wire(forward_to(endpoint("s3", s3_options), ignore)) as (url, _):
        ledger = AudienceLedger(root_at("s3", files_at("s3", url, secret=SECRET)), AUDIENCE)
        for _ in range(2):
            with (
                pytest.raises(LedgerPlaceError, match=r"does not refuse to create.*\[fbca\] single_writer") as caught,
                ledger.lease(OWNER, TERMS, pause=no_wait),
            ):
                pass
            assert caught.value.permanent
        vouched = LeaseTerms(180, 90, single_writer=True)
        with ledger.lease(OWNER, vouched, pause=no_wait) as lease:
            lease.check()
            with pytest.raises(TimeoutError), ledger.lease(OWNER, vouched, pause=no_wait):
                pass


@pytest.fixture
def unknown_root():
    import fsspec
    from fsspec.implementations.memory import MemoryFileSystem
    from upath import UPath

    class OtherFileSystem(MemoryFileSystem):
        protocol = "other"
        store = {}  # noqa: RUF012 - the base class's way to keep files
        pseudo_dirs = [""]  # noqa: RUF012

    fsspec.register_implementation("other", OtherFileSystem, clobber=True)
    return UPath(f"other:///bucket/{secrets.token_hex(8)}")


def test_l8_a_store_that_is_not_known_to_create_exclusively_is_refused_before_it_is_asked(unknown_root):
    ledger = AudienceLedger(unknown_root, AUDIENCE)
    with (
        pytest.raises(LedgerPlaceError, match=r"is not known to refuse.*\[fbca\] single_writer = True") as caught,
        ledger.lease(OWNER, TERMS, pause=no_wait),
    ):
        pass
    assert caught.value.permanent
    assert ledger._store.names() == []


def test_l8_a_person_may_vouch_for_a_single_writer(unknown_root, write_entry):
    ledger = AudienceLedger(unknown_root, AUDIENCE)
    terms = LeaseTerms(180, 90, single_writer=True)
    for _ in range(2):
        with ledger.lease(OWNER, terms, pause=no_wait) as lease:
            lease.renew()
            lease.check()
            entry = write_entry(ledger, ["a"])
            with pytest.raises(LedgerTakenError):
                entry.open(marker_of())
    assert len(ledger.history().entries) == 2
    assert [name for name in ledger._store.names() if name.endswith(".lease.json")] == ["0000000006.lease.json"]
