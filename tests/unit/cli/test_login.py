"""``fbca login`` against the sandbox's own dialog, with a person who presses its buttons."""

from __future__ import annotations

import json
import logging
import os
import shlex
import socket
import sqlite3
import stat
import subprocess
import sys
import threading
import urllib.request
from contextlib import closing
from typing import TYPE_CHECKING, Any
from urllib.error import HTTPError
from urllib.parse import parse_qs, urlencode, urlsplit

import pytest
from typer.testing import CliRunner

from airflow_provider_fbca.cli import dialog, storing
from airflow_provider_fbca.cli.app import app
from airflow_provider_fbca.exceptions import FbcaError
from airflow_provider_fbca.hooks.custom_audience import FacebookCustomAudienceHook

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

#: Whatever the person types, and the tokens that Meta grants, begin like this.
GRANTED = "sandbox-login-"


class _Stays(urllib.request.HTTPRedirectHandler):
    def redirect_request(self, *_args: Any) -> None:
        return None


def browse(address: str, form: dict[str, str] | None = None) -> Any:
    """Ask for an address, follow nothing, and give the answer whatever its status. No library logs it."""
    opener = urllib.request.build_opener(_Stays(), urllib.request.ProxyHandler({}))
    try:
        return opener.open(address, urlencode(form).encode() if form else None, timeout=30)
    except HTTPError as error:
        return error


class Person:
    """Opens the dialog in a browser and presses a button; the browser goes where it is sent."""

    def __init__(self) -> None:
        self.presses: dict[str, Any] = {"sandbox_answer": "allow"}
        self.before_answer: Callable[[str], object] = lambda _back: None
        self.opened: list[str] = []
        self.answers: list[Any] = []
        self.ended_at = ""
        self._browsers: list[threading.Thread] = []

    def open(self, address: str) -> bool:
        self.opened.append(address)
        self._browsers.append(threading.Thread(target=self._log_in, args=(address,)))
        self._browsers[-1].start()
        return True

    def log_in(self, address: str) -> str:
        """Give the address that the dialog sends the browser to."""
        answer = browse(f"{address}&{urlencode(self.presses)}")
        assert answer.status == 302, answer.read()
        self.ended_at = answer.headers["Location"]
        return self.ended_at

    def _log_in(self, address: str) -> None:
        back = self.log_in(address)
        self.before_answer(back)
        self.answers.append(browse(back))

    def close(self) -> None:
        for browser in self._browsers:
            browser.join(30)
            assert not browser.is_alive()


@pytest.fixture
def person(monkeypatch: pytest.MonkeyPatch) -> Iterator[Person]:
    somebody = Person()
    monkeypatch.setattr("webbrowser.open", somebody.open)
    yield somebody
    somebody.close()


@pytest.fixture
def log_in(
    sandbox: Any, person: Person, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> Callable[..., Any]:
    """Runs ``fbca login`` and checks its exit code, and that no secret is in what it prints, logs, or asks for."""
    monkeypatch.delenv("AIRFLOW_CONN_FBCA_DEFAULT")
    monkeypatch.setenv("FB_APP_SECRET", sandbox.app_secret)
    caplog.set_level(logging.DEBUG)

    def run(*arguments: str, code: int = 0, typed: str = "") -> Any:
        options = ["--host", sandbox.url, "--app-id", sandbox.app_id, "--port", "0", *arguments]
        result = CliRunner().invoke(app, ["login", *options], input=typed)
        assert result.exit_code == code, result.output
        told = result.stderr + caplog.text + ("" if "--print" in arguments else result.stdout)
        asked = [request["path"] for request in sandbox.requests()]
        for text in (told, *person.opened, *asked):
            assert sandbox.app_secret not in text
            assert GRANTED not in text
        assert all(request["url_length"] == len(request["path"]) for request in sandbox.requests("exchange_token"))
        assert not any("code=" in line for line in told.splitlines())
        return result

    return run


@pytest.fixture
def printed(log_in: Any, sandbox: Any) -> Callable[..., dict[str, Any]]:
    """Runs it with ``--print`` and gives the connection, as a shell would read it."""

    def run(*arguments: str, **more: Any) -> dict[str, Any]:
        account = ("--ad-account-id", f"act_{sandbox.ad_account_id}")
        words = shlex.split(log_in("--print", *account, *arguments, **more).stdout)
        assert words[0] == "export"
        name, _, value = words[1].partition("=")
        assert name == "AIRFLOW_CONN_FBCA_DEFAULT"
        return json.loads(value)

    return run


def test_login_ends_with_a_connection_that_works(
    printed: Any, sandbox: Any, person: Person, monkeypatch: pytest.MonkeyPatch
) -> None:
    connection = printed()
    assert connection["password"].startswith(GRANTED)
    asked = {name: values[0] for name, values in parse_qs(urlsplit(person.opened[0]).query).items()}
    assert asked["scope"] == "ads_management"
    assert asked["response_type"] == "code"
    assert urlsplit(asked["redirect_uri"]).hostname == "localhost"
    [answer] = person.answers
    assert b"Go back to the terminal" in answer.read()
    assert answer.headers["Referrer-Policy"] == "no-referrer"
    monkeypatch.setenv("AIRFLOW_CONN_FBCA_DEFAULT", json.dumps(connection))
    hook = FacebookCustomAudienceHook()
    good, told = hook.test_connection()
    assert good, told
    assert hook.account_id == sandbox.ad_account_id
    # About 60 days: the short-lived token of the code was exchanged.
    assert len(sandbox.requests("exchange_token")) == 2


def test_findings_are_told(log_in: Any, sandbox: Any) -> None:
    told = log_in("--print", "--ad-account-id", sandbox.ad_account_id).stderr
    for part in ("ads_management is granted", "The token ends", "terms are accepted", sandbox.ad_account_id, "***"):
        assert part in told


def test_account_is_chosen_from_those_that_the_token_sees(log_in: Any) -> None:
    result = log_in("--print", typed="7\n2\n")
    assert "Second sandbox ad account" in result.stderr
    assert "act_100000000000002" in result.stdout


def test_account_that_the_token_does_not_see_ends_the_login(log_in: Any) -> None:
    result = log_in("--print", "--ad-account-id", "act_4711", code=1)
    assert "does not see ad account 4711" in result.stderr
    assert result.stdout == ""


def test_names_of_accounts_cannot_play_with_the_terminal() -> None:
    from airflow_provider_fbca.cli.login import _printable

    assert _printable("\x1b[2JName\r\n") == "[2JName"


def test_refusal_ends_the_login(log_in: Any, person: Person) -> None:
    person.presses = {"sandbox_answer": "deny"}
    result = log_in("--print", code=1)
    assert "access_denied, user_denied" in result.stderr
    assert result.stdout == ""


def test_login_without_the_permission_is_of_no_use(log_in: Any, sandbox: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dialog, "SCOPE", "ads_read")
    assert "ads_management is missing" in log_in("--print", code=1).stderr


def test_terms_that_are_not_accepted_are_left_to_do(log_in: Any, sandbox: Any) -> None:
    sandbox.change(tos_accepted=False)
    result = log_in("--print", "--ad-account-id", sandbox.ad_account_id, code=1)
    assert "to do  Custom Audience terms are not accepted" in result.stderr
    assert "AIRFLOW_CONN_FBCA_DEFAULT" in result.stdout


def test_answers_to_another_login_are_turned_away_and_the_right_one_is_waited_for(printed: Any, person: Person) -> None:
    stray: list[Any] = []

    def come_first(back: str) -> None:
        here = f"{urlsplit(back).scheme}://{urlsplit(back).netloc}/"
        asked = ("?code=theirs&state=theirs", "?code=theirs", "?error=access_denied", "favicon.ico", "?state=%ff")
        stray.extend(browse(here + part) for part in asked)

    person.before_answer = come_first
    assert printed()["password"].startswith(GRANTED)
    assert [answer.status for answer in stray] == [400, 400, 400, 404, 400]
    assert all(b"Go back" not in answer.read() for answer in stray)


def test_a_connection_on_which_nothing_comes_holds_nobody_up(printed: Any, person: Person) -> None:
    silent: list[socket.socket] = []

    def connect(back: str) -> None:
        silent.append(socket.create_connection(("127.0.0.1", urlsplit(back).port or 0)))

    person.before_answer = connect
    assert printed()["password"].startswith(GRANTED)
    silent[0].close()


def test_no_answer_ends_the_login() -> None:
    with dialog.Receiver(0, "state") as receiver, pytest.raises(FbcaError, match="No answer came"):
        receiver.wait(0.01)


def test_port_that_is_taken_is_told(log_in: Any) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        result = log_in("--print", "--port", str(taken.getsockname()[1]), code=1)
    assert "--port" in result.stderr


def test_pasted_address_is_taken(log_in: Any, sandbox: Any, person: Person, monkeypatch: pytest.MonkeyPatch) -> None:
    """On a machine without a browser; the address is opened on another one."""
    back = "https://login.example.com/back"

    def paste(text: str, **options: Any) -> str:
        assert options["hide_input"]
        return f"  {person.log_in(shown[0])}\n"

    shown = _addresses_shown(monkeypatch)
    monkeypatch.setattr("airflow_provider_fbca.cli.login.typer.prompt", paste)
    account = ("--ad-account-id", sandbox.ad_account_id)
    result = log_in("--print", "--paste", "--redirect-uri", back, *account)
    assert GRANTED in result.stdout
    assert person.ended_at.startswith(back)
    assert not person.opened


@pytest.mark.parametrize(
    "change", [lambda at: at.replace("state=", "state=x"), lambda _at: "no address", lambda _at: "http://["]
)
def test_pasted_answer_to_another_login_is_refused(
    log_in: Any, sandbox: Any, person: Person, monkeypatch: pytest.MonkeyPatch, change: Callable[[str], str]
) -> None:
    shown = _addresses_shown(monkeypatch)
    monkeypatch.setattr(
        "airflow_provider_fbca.cli.login.typer.prompt", lambda *_args, **_options: change(person.log_in(shown[0]))
    )
    assert "state differs" in log_in("--print", "--paste", code=1).stderr
    assert not sandbox.requests("exchange_token")


def test_code_that_was_used_is_refused(log_in: Any, sandbox: Any, person: Person) -> None:
    def use(back: str) -> None:
        code = parse_qs(urlsplit(back).query)["code"][0]
        stolen = {"client_id": sandbox.app_id, "client_secret": sandbox.app_secret, "code": code}
        stolen["redirect_uri"] = back.partition("?")[0]
        assert browse(f"{sandbox.url}/v26.0/oauth/access_token", stolen).status == 200

    person.before_answer = use
    result = log_in("--print", code=1)
    assert "does not take the code" in result.stderr
    assert "36009" in result.stderr


@pytest.mark.parametrize("given", [(), ("--token-stdin",)], ids=["login", "given token"])
def test_wrong_app_secret_is_told_without_it(
    log_in: Any, sandbox: Any, monkeypatch: pytest.MonkeyPatch, given: tuple[str, ...]
) -> None:
    monkeypatch.setenv("FB_APP_SECRET", "another0secret0of0nobody01234567")
    result = log_in("--print", *given, code=1, typed=f"{sandbox.token}\n")
    assert "knows no app" in result.stderr
    assert "another0secret" not in result.output
    assert sandbox.token not in result.output


def test_app_and_secret_are_asked_for(sandbox: Any, person: Person, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("FB_APP_SECRET", raising=False)
    options = ["login", "--print", "--host", sandbox.url, "--port", "0"]
    result = CliRunner().invoke(app, options, input=f"{sandbox.app_id}\n{sandbox.app_secret}\n1\n")
    assert result.exit_code == 0, result.output
    assert GRANTED in result.stdout
    assert sandbox.app_secret not in result.stderr


def test_given_token_is_made_to_last(printed: Any, sandbox: Any, person: Person) -> None:
    sandbox.put_token("short", [sandbox.ad_account_id], expires_in=3600)
    connection = printed("--token-stdin", typed="short\n")
    assert connection["password"].startswith("short-")
    assert not person.opened


def test_given_token_without_an_end_is_kept(printed: Any, sandbox: Any) -> None:
    connection = printed("--token-stdin", typed=f"{sandbox.token}\n")
    assert connection["password"] == sandbox.token
    assert not sandbox.requests("exchange_token")


@pytest.mark.parametrize(
    ("token", "told"),
    [("ended", "has expired"), ("nonsense", "not valid"), ("blind", "sees no ad account"), ("reader", "is missing")],
)
def test_given_token_that_is_of_no_use_is_refused(log_in: Any, sandbox: Any, token: str, told: str) -> None:
    sandbox.put_token("ended", [sandbox.ad_account_id], expires_in=-1)
    sandbox.put_token("blind", [])
    sandbox.put_token("reader", [sandbox.ad_account_id], scopes=["ads_read"])
    result = log_in("--print", "--token-stdin", code=1, typed=f"{token}\n")
    assert told in result.stderr
    assert result.stdout == ""


def test_file_is_for_its_owner_alone_and_replaces_nothing(log_in: Any, sandbox: Any, tmp_path: Path) -> None:
    file = tmp_path / "connection.json"
    options = ("--file", str(file), "--conn-id", "meta", "--ad-account-id", sandbox.ad_account_id)
    log_in(*options)
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert json.loads(file.read_text())["meta"]["password"].startswith(GRANTED)
    before = file.read_bytes()
    log_in(*options, code=2)
    assert file.read_bytes() == before


def test_file_that_comes_up_meanwhile_gets_no_secret(tmp_path: Path) -> None:
    theirs = tmp_path / "theirs.json"
    theirs.touch(0o644)
    (tmp_path / "connection.json").symlink_to(theirs)
    for path in (theirs, tmp_path / "connection.json"):
        with pytest.raises(FbcaError, match="FileExistsError"):
            storing.write_file(path, "meta", {"password": "secret"})
    assert theirs.read_bytes() == b""


@pytest.mark.parametrize(
    "options",
    [
        (),
        ("--print", "--store"),
        ("--file", "connection.yaml"),
        ("--print", "--conn-id", "x; rm"),
        ("--print", "--redirect-uri", "https://login.example.com/"),
        ("--print", "--app-id", "my app"),
    ],
    ids=["nowhere", "two places", "no JSON", "odd name", "address that nobody listens at", "no app id"],
)
def test_what_cannot_end_well_is_refused_before_anybody_logs_in(
    log_in: Any, sandbox: Any, person: Person, options: tuple[str, ...]
) -> None:
    log_in(*options, code=2)
    assert not person.opened
    assert not sandbox.requests()


def test_metas_dialog_is_at_its_own_host() -> None:
    asked = {"app_id": "1", "redirect_uri": "http://localhost:1/", "state": "s"}
    address = dialog.dialog_address("https://graph.facebook.com", "v26.0", **asked)
    assert address.startswith("https://www.facebook.com/v26.0/dialog/oauth?client_id=1&")


def test_stored_connection_is_read_by_airflow_and_replaced_on_request(
    log_in: Any, sandbox: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    database = tmp_path / "airflow.db"
    monkeypatch.setenv("AIRFLOW__DATABASE__SQL_ALCHEMY_CONN", f"sqlite:///{database}")
    monkeypatch.setenv("AIRFLOW__CORE__FERNET_KEY", "")
    options = ("--store", "--conn-id", "meta", "--ad-account-id", sandbox.ad_account_id)
    failed = log_in(*options, code=1)
    assert "airflow db check" in failed.stderr
    _airflow("db", "migrate")
    log_in(*options)
    first = _stored(database)
    assert (first["conn_type"], first["login"], first["host"]) == ("fbca", sandbox.app_id, sandbox.url)
    assert first["password"].startswith(GRANTED)
    assert json.loads(first["extra"])["app_secret"] == sandbox.app_secret
    log_in(*options, code=1, typed="n\n")
    assert _stored(database) == first
    log_in(*options, "--yes")
    second = _stored(database)
    assert second["password"].startswith(GRANTED)
    assert second["password"] != first["password"]


def _airflow(*arguments: str) -> None:
    command = [sys.executable, "-m", "airflow", *arguments]
    done = subprocess.run(command, capture_output=True, text=True, timeout=180, check=False, env=os.environ)
    assert done.returncode == 0, done.stderr


def _stored(database: Path) -> dict[str, Any]:
    """Read the connection that is in Airflow's database, which encrypts nothing here."""
    with closing(sqlite3.connect(database)) as opened:
        opened.row_factory = sqlite3.Row
        [found] = opened.execute("SELECT * FROM connection WHERE conn_id = 'meta'")
        return dict(found)


def _addresses_shown(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Collect the addresses that the command shows, as the person reads them from the terminal."""
    from airflow_provider_fbca.cli import login as module

    shown: list[str] = []
    show = module.dialog_address

    def note(*args: Any, **options: Any) -> str:
        shown.append(show(*args, **options))
        return shown[-1]

    monkeypatch.setattr(module, "dialog_address", note)
    return shown
