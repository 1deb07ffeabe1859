"""Whole runs, made to fail in every way, and all that they leave: no credential in it, and nobody.

Airflow's masking of secrets is switched off here: what must not be told is not told, rather than made unreadable.
"""

from __future__ import annotations

import base64
import dataclasses
import gc
import hashlib
import hmac
import importlib
import json
import pkgutil
import re
import socket
import sqlite3
import sys
import threading
import warnings
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

import pyarrow as pa
import pytest
from airflow.sdk.exceptions import AirflowException
from operator_tools import OPERATORS, FakeTaskInstance, TaskDeferred
from starlette.responses import HTMLResponse, JSONResponse, Response

import airflow_provider_fbca
from airflow_provider_fbca.exceptions import FbcaError
from airflow_provider_fbca.graph.retry import RetryPolicy
from airflow_provider_fbca.operators.custom_audience import (
    FacebookCreateCustomAudienceOperator,
    FacebookDeleteCustomAudienceOperator,
)
from airflow_provider_fbca.sandbox import gateway
from airflow_provider_fbca.sandbox.kinds import HARMLESS
from airflow_provider_fbca.sandbox.kinds import KINDS as KINDS_OF_FAULT

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator, Mapping
    from pathlib import Path

TOKEN = "EAABwzLixnjYBO-zaphods-token-0123456789"
PROXY_PASSWORD = "marvin-the-paranoid"
#: A person as the source has them, and as Meta gets them.
PERSON = {
    "email": "zaphod.beeblebrox@example.com",
    "phone": "+442079460987",
    "first_name": "zaphodius",
    "last_name": "beeblebroxson",
    "extern_id": "Heart-of-Gold-4711",
}
HASHED = (PERSON["email"], PERSON["phone"].lstrip("+"), PERSON["first_name"], PERSON["last_name"])
USERS = pa.table({name: [value, f"other-{value}" if name == "extern_id" else None] for name, value in PERSON.items()})
#: Types of fields that hold what people or Meta have sent.
HOLDING = re.compile(r"\bbytes\b|memoryview|pa\.(Array|ChunkedArray|RecordBatch|Table)")
KINDS: dict[str, tuple[str, dict[str, Any]]] = {
    "upload": ("upload", {}),
    "remove": ("remove", {}),
    **{each: ("refresh", {"strategy": each}) for each in ("delta", "delete_insert", "replace")},
}


def forms_of(secret: str) -> set[str]:
    """A text in the forms that it takes in addresses, headers, bodies and representations."""
    raw = secret.encode()
    encoded = {base64.b64encode(raw).decode(), base64.urlsafe_b64encode(raw).decode(), raw.hex()}
    return {secret, quote(secret), quote(secret, safe=""), *(each.rstrip("=") for each in encoded)}


def forms_of_digest(value: str) -> set[str]:
    """The digest of a value in all forms that could be told."""
    digest = hashlib.sha256(value.encode()).digest()
    encoded = {base64.b64encode(digest).decode(), base64.urlsafe_b64encode(digest).decode()}
    halves = {digest.hex()[:32], digest.hex()[32:]}
    return {*halves, *(each.upper() for each in halves), repr(digest)[2:-1], *(each.rstrip("=") for each in encoded)}


def private(app_secret: str) -> set[str]:
    """All that must be nowhere."""
    proof = hmac.new(app_secret.encode(), TOKEN.encode(), "sha256").hexdigest()
    told: set[str] = set()
    for secret in (TOKEN, app_secret, proof, PROXY_PASSWORD, *PERSON.values(), PERSON["email"].partition("@")[0]):
        told |= forms_of(secret)
    return told.union(*(forms_of_digest(value) for value in HASHED), {PERSON["phone"].lstrip("+")})


def all_of_ours() -> str:
    """The representations of everything of this package that a test has made and that is alive, the sandbox's apart."""
    told = []
    for each in gc.get_objects():
        home = getattr(type(each), "__module__", None)
        if isinstance(home, str) and home.startswith("airflow_provider_fbca.") and ".sandbox" not in home:
            told.append(repr(each))
    return "\n".join(told)


@dataclasses.dataclass
class Attempt:
    """A run of an operator, and what it left.

    :param operator: as it was after the run.
    :param error: that it failed with.
    :param told: everything that it told anybody.
    """

    operator: Any
    error: BaseException | None
    told: str


@pytest.fixture
def secrets_of(sandbox: Any) -> set[str]:
    return private(sandbox.app_secret)


@pytest.fixture
def connection(sandbox: Any, monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Sets fields of the default connection."""
    sandbox.put_token(TOKEN, [sandbox.ad_account_id])

    def change(**fields: Any) -> None:
        content = json.loads(sandbox.connection_json) | {"password": TOKEN}
        content["extra"] |= {"timeout": 1.0} | fields.pop("extra", {})
        monkeypatch.setenv("AIRFLOW_CONN_FBCA_DEFAULT", json.dumps(content | fields))

    change()
    return change


@pytest.fixture
def attempt(
    sandbox: Any,
    audience: str,
    connection: Any,
    ledger_folder: Path,
    scratch: Path,
    everything_told: Any,
    monkeypatch: pytest.MonkeyPatch,
) -> Iterator[Callable[..., Attempt]]:
    """Runs an operator and gives all that it has told, to anybody, in any way."""
    monkeypatch.setattr("airflow_provider_fbca.hooks.custom_audience.mask_secret", lambda _secret: None)
    unseen: list[str] = []
    monkeypatch.setattr(sys, "unraisablehook", lambda args: unseen.append(repr(args)))
    monkeypatch.setattr(threading, "excepthook", lambda args: unseen.append(repr(args)))
    policy = partial(RetryPolicy, attempts=2, sleep=lambda _seconds: None)
    monkeypatch.setattr("airflow_provider_fbca.graph.api.RetryPolicy", policy)
    everything_told(None)
    # What was there before is none of the run's, and there is much of it.
    gc.freeze()

    def run(operator: Any, shown: Collection[str] = ()) -> Attempt:
        error = None
        store: dict[str, Any] = {}
        with warnings.catch_warnings(record=True) as warned:
            warnings.simplefilter("always")
            try:
                operator.execute({"ti": FakeTaskInstance(store)})
            except (FbcaError, AirflowException, TaskDeferred) as raised:
                error = raised
            told = [everything_told(error), all_of_ours(), repr(store), json.dumps(store)]
            hook = operator.hook
            told += [repr(each) for each in (operator, hook)]
            with suppress(FbcaError):
                told += [repr(each) for each in (hook.credentials, hook.get_conn(), vars(hook.get_conn()))]
                told.append(repr(hook.sender(audience, new_session=lambda: 7)))
            told += [repr(getattr(operator, name)) for name in operator.template_fields if name not in shown]
            told += [repr(each) for each in sandbox.requests()]
            gc.collect()
        told += [*map(str, warned), *unseen]
        assert not list(scratch.rglob("task-*"))
        told += [f"{path.name} {path.read_bytes()!r}" for path in scratch.rglob("*") if path.is_file()]
        for path in ledger_folder.rglob("*"):
            if path.is_file() and path.suffix != ".parquet":
                told.append(f"{path.name} {path.read_bytes()!r}")
        return Attempt(operator, error, "\n".join(told))

    def send(kind: str, *, shown: Collection[str] = (), **options: Any) -> Attempt:
        kind, more = KINDS[kind]
        source = {} if {"sql", "users_uri", "users_callable"} & options.keys() else {"users_callable": lambda: USERS}
        place = {"audience_id": audience, "ledger_uri": f"file://{ledger_folder}"}
        return run(OPERATORS[kind](task_id="send", **place, **source, **more, **options), shown)

    send.run = run  # type: ignore[attr-defined]
    yield send
    gc.unfreeze()


@pytest.fixture
def nothing_private(secrets_of: set[str]) -> Callable[[str], None]:
    """Checks that a text holds nothing that must be nowhere; tells where it does without a flood of text."""

    def check(told: str) -> None:
        found = {each: told.index(each) for each in secrets_of if each in told}
        assert {each: told[max(0, at - 100) : at + 100] for each, at in found.items()} == {}

    return check


# -- whatever Meta says ----------------------------------------------------------------------------------------------


def _error(echo: str, code: int, **more: Any) -> dict[str, Any]:
    told = {"message": echo, "error_user_title": echo, "error_user_msg": echo, "error_data": {"rows": echo}}
    return {"error": {"code": code, "type": echo, "fbtrace_id": echo, **told, **more}}


def _headers(echo: str) -> dict[str, str]:
    line = " ".join(echo.split()).encode("ascii", "replace").decode()[:4000]
    names = ("x-business-use-case-usage", "x-app-usage", "retry-after", "x-ad-api-version-warning", "www-authenticate")
    return dict.fromkeys(names, line) | {"location": f"http://127.0.0.1:9/?{quote(line[:1000])}"}


ANSWERS: dict[str, Callable[[str], Response]] = {
    "refused": lambda echo: JSONResponse(_error(echo, 100), 400),
    "refused with a code that is none": lambda echo: JSONResponse(_error(echo, echo, error_subcode=echo), 400),  # type: ignore[arg-type]
    "token": lambda echo: JSONResponse(_error(echo, 190, error_subcode=463), 401),
    "passing": lambda echo: JSONResponse(_error(echo, 2, is_transient=True), 500),
    "rate limit": lambda echo: JSONResponse(_error(echo, 80003), 400, headers=_headers(echo)),
    "error in 200": lambda echo: JSONResponse(_error(echo, 368)),
    "error that is text": lambda echo: JSONResponse({"error": echo}, 400),
    "unsuccessful": lambda echo: JSONResponse({"success": False, "reason": echo}),
    "page": lambda echo: HTMLResponse(f"<html>{echo}</html>", 500),
    "page in 200": lambda echo: HTMLResponse(f"<html>{echo}</html>"),
    "too large": lambda echo: HTMLResponse(f"<html>{echo}</html>", 413),
    "half": lambda echo: Response(json.dumps({"success": echo})[:-9], media_type="application/json"),
    "list": lambda echo: JSONResponse([echo]),
    "redirect": lambda echo: Response(b"", 302, headers=_headers(echo)),
    "bad gzip": lambda echo: Response(echo.encode(), headers={"content-encoding": "gzip"}),
    "not UTF-8": lambda echo: Response(b'{"success": "\xff' + echo.encode() + b'"}', media_type="application/json"),
    "success": lambda echo: JSONResponse(
        {
            "audience_id": echo,
            "session_id": echo,
            "num_received": echo,
            "num_invalid_entries": 1,
            "invalid_entry_samples": {echo: echo, "rows": [echo]},
            echo: echo,
        },
        headers=_headers(echo),
    ),
}


@pytest.fixture
def echoes(monkeypatch: pytest.MonkeyPatch) -> Callable[..., list[str]]:
    """Lets the sandbox answer what carries people with all that it was sent, and looks at what is alive just then."""

    def install(answer: Callable[[str], Response]) -> list[str]:
        original, seen = gateway._answer_or_fail, []

        async def echoing(world: Any, call: Any, request: Any, params: Any, entry: Any) -> Response:
            if not call.operation.endswith("_users"):
                return await original(world, call, request, params, entry)
            if not seen:
                seen.append(all_of_ours())
            body = (await request.body()).decode()
            first, *_ = json.loads(body)["payload"]["data"]
            return answer(f"{' '.join(map(str, first))} {first} {request.headers['authorization']} {body}")

        monkeypatch.setattr(gateway, "_answer_or_fail", echoing)
        return seen

    return install


def in_turn(scenarios: Mapping[str, Any]) -> Iterator[Any]:
    """Two kinds of run for each scenario: a replace goes ways of its own."""
    others = [kind for kind in KINDS if kind != "replace"]
    for number, (name, scenario) in enumerate(scenarios.items()):
        for kind in (others[number % len(others)], "replace"):
            yield pytest.param(kind, scenario, id=f"{name}-{kind}")


@pytest.mark.parametrize(("kind", "answer"), list(in_turn(ANSWERS)))
def test_whatever_meta_answers_nobody_is_told_of(attempt, echoes, nothing_private, kind, answer):
    assert attempt("upload").error is None
    in_flight = echoes(answer)
    left = attempt(kind)
    # The request itself was among what was looked at.
    assert "graph.transport.Request" in in_flight[0]
    nothing_private(in_flight[0])
    nothing_private(left.told)


# -- whatever else goes wrong ----------------------------------------------------------------------------------------


FAULTS = [kind for kind in KINDS_OF_FAULT if kind not in HARMLESS]


@pytest.mark.parametrize(("kind", "fault"), list(in_turn({fault: fault for fault in FAULTS})))
def test_however_the_line_breaks_nobody_is_told_of(attempt, sandbox, nothing_private, kind, fault):
    assert attempt("upload").error is None
    sandbox.fault(fault, path="/users", when="after", count=100, seconds=1.5)
    left = attempt(kind)
    assert left.error is not None
    nothing_private(left.told)


def closed_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])


#: Fields of the connection that make every call fail.
CONNECTIONS: dict[str, Callable[[], dict[str, Any]]] = {
    "expired token": lambda: {"password": f"{TOKEN}-expired"},
    "unknown token": lambda: {"password": f"{TOKEN}-unknown"},
    "token that may only read": lambda: {"password": f"{TOKEN}-reads"},
    "token with a line break": lambda: {"password": f"{TOKEN}\n"},
    "token beyond latin": lambda: {"password": f"{TOKEN}\N{SNOWMAN}"},
    "secret of another app": lambda: {"extra": {"app_secret": f"{TOKEN}-secret"}},
    "nobody listens": lambda: {"host": f"http://127.0.0.1:{closed_port()}"},
    "no such host": lambda: {"host": "https://graph.example"},
    "token in the host": lambda: {"host": f"http://127.0.0.1:{closed_port()}/?access_token={TOKEN}"},
    "password of the host": lambda: {"host": f"http://user:{PROXY_PASSWORD}@127.0.0.1:{closed_port()}"},
    "proxy": lambda: {
        "host": "https://graph.example",
        "extra": {"proxies": {"https": f"http://user:{PROXY_PASSWORD}@127.0.0.1:{closed_port()}"}},
    },
    "proxy that is no address": lambda: {
        "host": "https://graph.example",
        "extra": {"proxies": {"https": f"user:{PROXY_PASSWORD}:x@@[1"}},
    },
    "proxies that are none": lambda: {"extra": {"proxies": [PROXY_PASSWORD]}},
    "account id": lambda: {"extra": {"ad_account_id": f"{TOKEN}"}},
    "version": lambda: {"extra": {"api_version": f"{TOKEN}"}},
    "timeout": lambda: {"extra": {"timeout": f"{TOKEN}"}},
}


@pytest.mark.parametrize("fields", CONNECTIONS.values(), ids=CONNECTIONS)
@pytest.mark.parametrize("kind", ["delta", "create", "delete"])
def test_whatever_is_wrong_with_the_connection_it_is_not_told(
    attempt, sandbox, connection, nothing_private, audience, kind, fields
):
    accounts = [sandbox.ad_account_id]
    sandbox.put_token(f"{TOKEN}-expired", accounts, expires_in=-1)
    sandbox.put_token(f"{TOKEN}-reads", accounts, scopes=["ads_read"])
    connection(**fields())
    if kind == "create":
        left = attempt.run(FacebookCreateCustomAudienceOperator(task_id="create", name="Everybody"))
    elif kind == "delete":
        left = attempt.run(FacebookDeleteCustomAudienceOperator(task_id="delete", audience_id=audience))
    else:
        left = attempt(kind)
    assert left.error is not None
    nothing_private(left.told)


def test_an_account_without_the_terms_is_told_without_the_token(attempt, sandbox, nothing_private):
    sandbox.change(tos_accepted=False)
    left = attempt("upload")
    assert "terms" in str(left.error)
    nothing_private(left.told)


def raising() -> pa.Table:
    raise ValueError(f"cannot read {PERSON}")


def broken_stream() -> pa.RecordBatchReader:
    def batches() -> Iterator[pa.RecordBatch]:
        yield USERS.to_batches()[0]
        raise RuntimeError(f"lost the connection behind {PERSON}")

    return pa.RecordBatchReader.from_batches(USERS.schema, batches())


def bad_cell() -> pa.Table:
    return USERS.cast(pa.schema([(name, pa.int64()) for name in USERS.schema.names]))


def not_utf8() -> pa.Table:
    value = b"\xff" + PERSON["email"].encode()
    offsets = pa.py_buffer(b"\0\0\0\0" + len(value).to_bytes(4, "little"))
    return pa.table({"email": pa.Array.from_buffers(pa.string(), 1, [None, offsets, pa.py_buffer(value)])})


def unusable() -> pa.Table:
    return pa.table({"email": [PERSON["email"].replace("@", " at "), PERSON["email"]]})


def nested() -> pa.Table:
    return pa.table({"email": [[PERSON["email"]]]})


SOURCES: dict[str, dict[str, Any]] = {
    "function that raises": {"users_callable": raising},
    "stream that breaks": {"users_callable": broken_stream},
    "cell that cannot be cast": {"users_callable": bad_cell},
    "text that is none": {"users_callable": not_utf8},
    "list": {"users_callable": nested},
    "rows that are refused": {"users_callable": unusable, "max_invalid_ratio": 0.1},
    "too few rows": {"min_rows": 1000},
    "function that gives no Arrow": {"users_callable": lambda: PERSON},
    "value that the database quotes": {"sql": "SELECT json(email) AS email FROM users", "sql_conn_id": "lite"},
    "column that is none": {"sql": f"SELECT {PERSON['first_name']} FROM users", "sql_conn_id": "lite"},
    "parameter that does not fit": {
        "sql": "SELECT json(?) AS email FROM users",
        "sql_conn_id": "lite",
        "parameters": [PERSON["email"]],
    },
    "file that is none": {"users_uri": "file:///nowhere/users.parquet"},
}
#: What Airflow itself stores and shows of a task, so that nobody's value has a place there.
SHOWN_BY_AIRFLOW = ("sql", "parameters")


@pytest.mark.parametrize("name", SOURCES)
def test_whatever_is_wrong_with_the_users_they_are_not_told(
    attempt, nothing_private, scratch, tmp_path, monkeypatch, name
):
    with sqlite3.connect(tmp_path / "users.db") as database:
        database.execute("CREATE TABLE users (email TEXT)")
        database.execute("INSERT INTO users VALUES (?)", [PERSON["email"]])
    monkeypatch.setenv("AIRFLOW_CONN_LITE", json.dumps({"conn_type": "sqlite", "host": str(tmp_path / "users.db")}))
    left = attempt("delta", rejects_uri=str(scratch / "rejects.parquet"), shown=SHOWN_BY_AIRFLOW, **SOURCES[name])
    assert left.error is not None
    nothing_private(left.told)


@pytest.mark.parametrize("failing", ["put", "create"])
def test_a_ledger_that_cannot_be_written_tells_nobody(attempt, nothing_private, monkeypatch, failing):
    from airflow_provider_fbca.ledger import store

    def refuse(*_: Any, **__: Any) -> None:
        raise OSError(f"{PERSON} {TOKEN}")

    assert attempt("upload").error is None
    target = {"put": (store.shutil, "copyfileobj"), "create": (store.os, "link")}
    with monkeypatch.context() as patch:
        patch.setattr(*target[failing], refuse)
        left = attempt("delta")
    assert left.error is not None
    nothing_private(left.told)


def test_a_task_that_is_put_off_tells_nobody(attempt, sandbox, nothing_private):
    sandbox.fault("graph", path="/users", code=80003, status=400, is_transient=False, headers={"retry-after": "10800"})
    left = attempt("upload", deferrable=True)
    assert isinstance(left.error, TaskDeferred)
    nothing_private(left.told)
    nothing_private(repr((left.error.trigger.serialize(), left.error.kwargs)))


@pytest.mark.parametrize("kind", KINDS)
def test_a_run_that_succeeds_tells_nobody_either(attempt, nothing_private, kind):
    assert attempt("upload").error is None
    left = attempt(kind)
    assert left.error is None
    nothing_private(left.told)


def our_classes() -> list[type]:
    modules = [
        importlib.import_module(each.name)
        for each in pkgutil.walk_packages(airflow_provider_fbca.__path__, "airflow_provider_fbca.")
        if not each.name.startswith("airflow_provider_fbca.sandbox")
    ]
    named = [(module.__name__, each) for module in modules for each in vars(module).values()]
    return [each for home, each in named if isinstance(each, type) and each.__module__ == home]


def test_no_class_that_holds_cells_bodies_or_parameters_shows_them() -> None:
    showing = [
        f"{each.__module__}.{each.__name__}.{field.name}: {field.type}"
        for each in our_classes()
        # What a dataclass writes itself is a wrapped function; a class of its own mind is seen in the runs above.
        if dataclasses.is_dataclass(each) and hasattr(each.__repr__, "__wrapped__")
        for field in dataclasses.fields(each)
        if field.repr and (HOLDING.search(str(field.type)) or field.name in {"parameters", "proxies", "base_url"})
    ]
    assert showing == []


# -- the tests themselves --------------------------------------------------------------------------------------------


def test_what_is_looked_for_is_found(attempt, secrets_of, monkeypatch, echoes):
    def shown(self: Any) -> str:
        return f"{self.access_token} {self.app_secret}"

    monkeypatch.setattr("airflow_provider_fbca.hooks.credentials.Credentials.__repr__", shown)
    monkeypatch.setattr("airflow_provider_fbca.graph.errors.safe_text", str)
    echoes(ANSWERS["refused"])
    told = attempt("upload").told
    digests = {each for value in HASHED for each in forms_of_digest(value)}
    assert TOKEN in told
    assert PERSON["extern_id"] in told
    assert {each for each in digests if each in told}
