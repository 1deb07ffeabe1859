"""``fbca login``: walks a person through getting a token, and makes an Airflow connection of it."""

from __future__ import annotations

import os
import re
import secrets
import sys
import webbrowser
from dataclasses import dataclass, field
from pathlib import Path  # noqa: TC003 - typer reads the annotations
from typing import TYPE_CHECKING, Annotated, Any

import typer

from airflow_provider_fbca.cli import storing
from airflow_provider_fbca.cli.console import told
from airflow_provider_fbca.cli.dialog import Receiver, code_in, dialog_address
from airflow_provider_fbca.exceptions import FbcaError, GraphAuthError

if TYPE_CHECKING:
    from airflow_provider_fbca.graph.api import GraphApi

_SECRET_VARIABLE = "FB_APP_SECRET"  # noqa: S105 - a name
_CONN_ID = re.compile(r"[A-Za-z0-9_.-]{1,200}")
#: The longest wait for the person at the dialog.
_WAIT_SECONDS = 600.0


@dataclass(frozen=True)
class _App:
    """Who logs in where: an app at a Graph API; its ``repr`` hides the secret."""

    app_id: str
    app_secret: str = field(repr=False)
    host: str | None

    def client(self, token: str | None = None) -> GraphApi:
        """Return a client that calls with a token, or as the app itself."""
        from airflow_provider_fbca.graph.api import GraphApi  # noqa: PLC0415 - loads Meta's SDK

        own = f"{self.app_id}|{self.app_secret}"
        return GraphApi(access_token=token or own, app_id=self.app_id, app_secret=self.app_secret, base_url=self.host)


def login(
    *,
    store: Annotated[bool, typer.Option("--store", help="Store the connection in this Airflow's database.")] = False,
    file: Annotated[
        Path | None, typer.Option(help="Write it to this new file, for `airflow connections import`.")
    ] = None,
    show: Annotated[bool, typer.Option("--print", help="Print it, token and secret included.")] = False,
    conn_id: Annotated[str, typer.Option(help="Name of the connection.")] = "fbca_default",
    app_id: Annotated[str | None, typer.Option(envvar="FB_APP_ID", help="The app's id; asked for if missing.")] = None,
    ad_account_id: Annotated[str | None, typer.Option(help="The ad account; asked for if there are several.")] = None,
    token_stdin: Annotated[
        bool, typer.Option("--token-stdin", help="Take a token from standard input in place of a login.")
    ] = False,
    paste: Annotated[
        bool, typer.Option("--paste", help="Paste the address that the browser ends at, if it is not on this machine.")
    ] = False,
    redirect_uri: Annotated[
        str | None, typer.Option(help="With --paste: an address that the app's login settings name.")
    ] = None,
    port: Annotated[int, typer.Option(help="Port of this machine that the browser is sent back to.")] = 8096,
    host: Annotated[str | None, typer.Option(help="Base address of the Graph API, if it is not Meta's.")] = None,
    yes: Annotated[bool, typer.Option("--yes", help="Replace a stored connection without asking.")] = False,
) -> None:
    """Log in to get an access token of about 60 days, and make an Airflow connection of it.

    Give one of --store, --file and --print. The app's secret is taken from FB_APP_SECRET, or asked for. Exit code 1
    where something is left to do.
    """
    with told("login"):
        _check_options(store=store, file=file, show=show, conn_id=conn_id, paste=paste, redirect_uri=redirect_uri)
        token = _given_token() if token_stdin else None
        app = _ask_for_app(app_id, host)
        if token is None:
            token = _log_in(app, port, paste=paste, redirect_uri=redirect_uri)
        api = app.client(_made_to_last(app, token))
        account_id = _choose_account(api, ad_account_id)
        is_ready = _show_findings(api, account_id)
        connection = _connection(app, api.token, account_id)
        typer.echo(f"Connection '{conn_id}': {storing.without_secrets(connection)}", err=True)
        if show:
            typer.echo(storing.shell_line(conn_id, connection))
        elif file is not None:
            storing.write_file(file, conn_id, connection)
            typer.echo(
                f"Written to {file}. Store it with `airflow connections import {file}`, then delete it.", err=True
            )
        else:
            _store(conn_id, connection, yes=yes)
    if not is_ready:
        raise typer.Exit(1)


def _check_options(
    *, store: bool, file: Path | None, show: bool, conn_id: str, paste: bool, redirect_uri: str | None
) -> None:
    """Refuse what cannot end well before anybody logs in.

    :raises BadParameter: names the option.
    """
    if sum((store, file is not None, show)) != 1:
        raise typer.BadParameter("Say where the connection goes: give one of --store, --file and --print.")
    if file is not None and (file.suffix != ".json" or file.exists()):
        raise typer.BadParameter("--file must name a new file that ends in .json.")
    if not _CONN_ID.fullmatch(conn_id):
        raise typer.BadParameter("--conn-id must be of letters, digits, '_', '-' and '.'.")
    if redirect_uri is not None and not paste:
        raise typer.BadParameter("--redirect-uri goes with --paste: only this machine's own address is listened at.")


def _given_token() -> str:
    typed = typer.prompt("Access token", hide_input=True, err=True) if sys.stdin.isatty() else sys.stdin.readline()
    token = str(typed).strip()
    if not token:
        raise typer.BadParameter("There is no token on standard input.")
    return token


def _ask_for_app(app_id: str | None, host: str | None) -> _App:
    found = (app_id or str(typer.prompt("App id", err=True))).strip()
    if not (found.isascii() and found.isdecimal()):
        raise typer.BadParameter("The app id is a number: App settings > Basic in the app's dashboard.")
    secret = os.environ.get(_SECRET_VARIABLE) or str(typer.prompt("App secret", hide_input=True, err=True))
    return _App(found, secret.strip(), host)


def _log_in(app: _App, port: int, *, paste: bool, redirect_uri: str | None) -> str:
    """Let the person log in at the dialog, and return the token that its code is good for."""
    from airflow_provider_fbca.hooks.tokens import from_code  # noqa: PLC0415 - loads Meta's SDK

    state = secrets.token_urlsafe(32)
    api = app.client()

    def address(back: str) -> str:
        return dialog_address(api.base_url, api.api_version, app_id=app.app_id, redirect_uri=back, state=state)

    if paste:
        back = redirect_uri or f"http://localhost:{port}/"
        typer.echo(f"Open this address in a browser and log in:\n\n{address(back)}\n", err=True)
        typer.echo(f"The browser ends at {back}, which may show an error: its whole address counts.", err=True)
        answer = str(typer.prompt("That address (not shown here)", hide_input=True, err=True))
    else:
        with Receiver(port, state) as receiver:
            back = receiver.redirect_uri
            typer.echo(f"Log in in the browser. If none opens, open this address:\n\n{address(back)}\n", err=True)
            webbrowser.open(address(back))
            answer = receiver.wait(_WAIT_SECONDS)
    return from_code(api, app.app_id, app.app_secret, code=code_in(answer, state), redirect_uri=back).value


def _made_to_last(app: _App, token: str) -> str:
    """Return the longest-lived token that can be had for one, after seeing that it is of use.

    :raises GraphAuthError: where it has expired, or is none.
    :raises GraphPermissionError: where it lacks ads_management.
    """
    from airflow_provider_fbca.graph.audiences import Audiences  # noqa: PLC0415 - loads Meta's SDK
    from airflow_provider_fbca.hooks.tokens import exchange, raise_failures, wrong_app  # noqa: PLC0415 - as above

    api = app.client(token)
    try:
        info = Audiences(api).token_info()
    except GraphAuthError as refusal:
        # The app asks about the token, so that it is the app that was refused.
        raise wrong_app(app.app_id, refusal) from None
    raise_failures(info)
    if info.get("expires_at") == 0:
        return token
    if info.get("type") == "SYSTEM_USER":
        typer.echo("A system user's token is taken as it is: it is renewed in Business settings.", err=True)
        return token
    return exchange(api, app.app_id, app.app_secret).value


def _choose_account(api: GraphApi, wanted: str | None) -> str:
    """Return the digits of the ad account that is named, the only one, or the one that the person chooses."""
    from airflow_provider_fbca.graph.audiences import Audiences  # noqa: PLC0415 - loads Meta's SDK
    from airflow_provider_fbca.graph.ids import account_number  # noqa: PLC0415 - only here

    accounts = {str(account["account_id"]): account for account in Audiences(api).ad_accounts()}
    if not accounts:
        raise FbcaError(
            "The token sees no ad account.",
            remedy="Give its person a role on the ad account that may manage campaigns (Business settings).",
        )
    if wanted is not None:
        account_id = account_number(wanted)
        if account_id not in accounts:
            raise FbcaError(f"The token does not see ad account {account_id}; it sees {', '.join(accounts)}.")
        return account_id
    account_ids = list(accounts)
    if len(account_ids) == 1:
        return account_ids[0]
    for number, account_id in enumerate(account_ids, 1):
        typer.echo(f"{number:>4}  {account_id}  {_printable(accounts[account_id].get('name'))}", err=True)
    chosen = 0
    while not 1 <= chosen <= len(account_ids):
        chosen = typer.prompt(f"Which ad account (1 to {len(account_ids)})", type=int, err=True)
    return account_ids[chosen - 1]


def _show_findings(api: GraphApi, account_id: str) -> bool:
    """Print what a test of the connection finds out, and return whether all of it is good."""
    from airflow_provider_fbca.graph.audiences import Audiences  # noqa: PLC0415 - loads Meta's SDK
    from airflow_provider_fbca.hooks.findings import findings  # noqa: PLC0415 - as above

    found = list(findings(api, Audiences(api), account_id))
    for is_good, words in found:
        typer.echo(f"{'ok   ' if is_good else 'to do'}  {_printable(words)}", err=True)
    return all(is_good for is_good, _ in found)


def _connection(app: _App, token: str, account_id: str) -> dict[str, Any]:
    connection = {"conn_type": "fbca", "login": app.app_id, "password": token}
    extra = {"app_secret": app.app_secret, "ad_account_id": f"act_{account_id}"}
    return connection | ({"host": app.host} if app.host else {}) | {"extra": extra}


def _store(conn_id: str, connection: dict[str, Any], *, yes: bool) -> None:
    if not storing.store(conn_id, connection, replace=yes):
        typer.confirm(f"Airflow has a connection '{conn_id}'. Replace it?", abort=True, err=True)
        storing.store(conn_id, connection, replace=True)
    typer.echo(f"Stored. `airflow connections test {conn_id}` tests it from here on.", err=True)
    if storing.variable_name(conn_id) in os.environ:
        typer.echo(f"{storing.variable_name(conn_id)} is set here, and goes before what is stored.", err=True)


def _printable(text: object) -> str:
    """Return a text of Meta's without what could move the terminal's cursor."""
    return "".join(character for character in str(text or "unnamed") if character.isprintable())
