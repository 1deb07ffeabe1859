"""``fbca ledger``: look at a ledger, check it, clean it, adopt, erase, forget.

What does the work is imported when a command runs: Airflow may load this with every command of its own.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Annotated, Any

import typer

from airflow_provider_fbca.cli.console import told

if TYPE_CHECKING:
    from collections.abc import Iterable

app = typer.Typer(
    help="What was sent to each audience: look at it, check it, clean it, adopt, erase, forget.",
    no_args_is_help=True,
    rich_markup_mode=None,
)

_LedgerUri = Annotated[
    str | None, typer.Option("--ledger-uri", help="Where the ledger is; by default [fbca] ledger_uri.")
]
_ConnId = Annotated[str, typer.Option("--conn-id", help="Airflow connection to Meta.")]
_Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]
_Yes = Annotated[bool, typer.Option("--yes", help="Do it without asking.")]
_Audience = Annotated[str, typer.Argument(help="Id of the audience.")]
_SomeAudience = Annotated[str | None, typer.Argument(help="Id of one audience; by default all.")]
_Columns = Annotated[
    list[str] | None,
    typer.Option("--column", help="NAME=KEY of a column of the file, as `columns` of the tasks; may be repeated."),
]
_Country = Annotated[
    str | None, typer.Option("--default-country", help="Country of rows that name none, as for the tasks.")
]
_Transliterate = Annotated[bool, typer.Option("--transliterate", help="Spell names in a-z, where the tasks do.")]
_Hashed = Annotated[
    list[str] | None, typer.Option("--hashed", help="KEY whose cells are digests already; may be repeated.")
]


@app.command()
def show(audience_id: _SomeAudience = None, ledger_uri: _LedgerUri = None, as_json: _Json = False) -> None:
    """Show what may be in each audience, why, since when, and who writes to it now. No row is read."""
    from airflow_provider_fbca.ledger_tools.pending import PendingErasures  # noqa: PLC0415 - loads Airflow
    from airflow_provider_fbca.ledger_tools.show import state_of  # noqa: PLC0415 - as above

    with told("ledger"):
        root = _root(ledger_uri)
        states = [state_of(root, each) for each in _audiences(root, audience_id)]
        pending = len(PendingErasures(root))
        if as_json:
            _print_json({"audiences": [each.as_dict() for each in states], "unfinished_erasures": pending})
            return
        for state in states:
            _print(state.lines())
        if not states:
            typer.echo("The ledger is empty.")
        _print_pending(pending)


@app.command()
def verify(audience_id: _SomeAudience = None, ledger_uri: _LedgerUri = None, as_json: _Json = False) -> None:
    """Read every marker and every row; exit code 1 where anything is not what was written."""
    from airflow_provider_fbca.ledger import WorkDir  # noqa: PLC0415 - loads Arrow
    from airflow_provider_fbca.ledger_tools.pending import PendingErasures  # noqa: PLC0415 - loads Airflow
    from airflow_provider_fbca.ledger_tools.verify import findings_in  # noqa: PLC0415 - as above

    with told("ledger"):
        root = _root(ledger_uri)
        audiences = _audiences(root, audience_id)
        with WorkDir() as workdir:
            found = [finding for each in audiences for finding in findings_in(root, each, workdir)]
            pending = len(PendingErasures(root).fetch(workdir))
        faults = sum(finding.is_fault for finding in found)
        if as_json:
            _print_json({"audiences": len(audiences), "faults": faults, "findings": [each.as_dict() for each in found]})
        else:
            _print(each.line() for each in found)
            typer.echo(f"{len(audiences):,} audiences read: {faults:,} faults, {len(found) - faults:,} notes.")
            _print_pending(pending)
    if faults:
        raise typer.Exit(1)


@app.command()
def repair(audience_id: _SomeAudience = None, ledger_uri: _LedgerUri = None, yes: _Yes = False) -> None:
    """Delete what nothing needs; name what no tool can repair, and the way out. Exit code 1 where something is."""
    from airflow_provider_fbca.ledger import WorkDir  # noqa: PLC0415 - loads Arrow
    from airflow_provider_fbca.ledger_tools.repair import repair as carry_out  # noqa: PLC0415 - loads Airflow
    from airflow_provider_fbca.ledger_tools.repair import repair_of  # noqa: PLC0415 - as above
    from airflow_provider_fbca.ledger_tools.verify import findings_in  # noqa: PLC0415 - as above

    with told("ledger"):
        root = _root(ledger_uri)
        audiences = _audiences(root, audience_id)
        with WorkDir() as workdir:
            faults = [each for audience in audiences for each in findings_in(root, audience, workdir) if each.is_fault]
        _print(f"cannot be repaired here: {each.line()}" for each in faults)
        plans = [plan for plan in (repair_of(root, each) for each in audiences) if plan.files]
        for plan in plans:
            _print(plan.lines())
        if plans:
            _confirm("Delete these files?", yes=yes)
            deleted = sum(len(carry_out(root, plan.audience_id).files) for plan in plans)
            typer.echo(f"{deleted:,} files deleted.")
        else:
            typer.echo("Nothing to delete.")
    if faults:
        raise typer.Exit(1)


@app.command()
def adopt(
    audience_id: _Audience,
    *,
    users: Annotated[
        str | None, typer.Option(help="Parquet or Arrow file of those who may be in the audience, as they were sent.")
    ] = None,
    empty: Annotated[bool, typer.Option("--empty", help="State that nobody is in the audience.")] = False,
    ledger: Annotated[str | None, typer.Option(help="Where the audience's ledger was, to bring it along.")] = None,
    column: _Columns = None,
    default_country: _Country = None,
    transliterate: _Transliterate = False,
    hashed: _Hashed = None,
    ledger_uri: _LedgerUri = None,
    conn_id: _ConnId = "fbca_default",
    yes: _Yes = False,
) -> None:
    """Tell the ledger who is in an audience that somebody else had filled, so that a refresh can take it over."""
    with told("ledger"):
        if sum((users is not None, empty, ledger is not None)) != 1:
            raise typer.BadParameter("Give one of --users, --empty and --ledger.")
        root = _root(ledger_uri)
        if ledger is not None:
            _adopt_ledger(root, _root(ledger), audience_id, conn_id)
            return
        file = _users_file(users, column, default_country, transliterate, hashed) if users else None
        _adopt_users(root, audience_id, file, conn_id, yes=yes)


@app.command()
def erase(
    *,
    users: Annotated[str, typer.Option(help="Parquet or Arrow file of the people to erase.")],
    connected: Annotated[
        bool, typer.Option(help="Also erase rows that share an identifier with a row found, and so on.")
    ] = True,
    column: _Columns = None,
    default_country: _Country = None,
    transliterate: _Transliterate = False,
    hashed: _Hashed = None,
    ledger_uri: _LedgerUri = None,
    conn_id: _ConnId = "fbca_default",
    as_json: _Json = False,
    yes: _Yes = False,
) -> None:
    """Erase people from every audience, at Meta and in the ledger, and print a receipt of counts.

    A run that died is simply run again. Exit code 1 where something is left to do.
    """
    from airflow_provider_fbca.ledger import RowSets, WorkDir  # noqa: PLC0415 - loads Arrow
    from airflow_provider_fbca.ledger_tools.erase import Erasure  # noqa: PLC0415 - loads Airflow

    with told("ledger"):
        root = _root(ledger_uri)
        file = _users_file(users, column, default_country, transliterate, hashed)
        with WorkDir() as workdir:
            given, report = file.read(workdir, RowSets(workdir))
            if not given.rows:
                raise typer.BadParameter(f"Of {report.rows_in:,} rows none names a person who can be found.")
            unusable = report.rows_in - report.rows_out
            erasure = Erasure(root, conn_id, workdir, given, unusable=unusable, connected=connected)
            _print(erasure.look(), err=True)
            _confirm("Erase them? It cannot be undone.", yes=yes)
            receipt = erasure.carry_out()
        if as_json:
            _print_json(receipt.as_dict())
        else:
            _print(receipt.lines())
    if not receipt.is_complete:
        raise typer.Exit(1)


@app.command()
def forget(
    audience_id: _Audience,
    confirm: Annotated[
        str | None, typer.Option(help="The audience's id once more, in place of typing it when asked.")
    ] = None,
    ledger_uri: _LedgerUri = None,
) -> None:
    """Forget who was sent to an audience: delete all rows. Nothing is sent to Meta."""
    from airflow_provider_fbca.ledger import WorkDir  # noqa: PLC0415 - loads Arrow
    from airflow_provider_fbca.ledger_tools.forget import forget as carry_out  # noqa: PLC0415 - loads Airflow
    from airflow_provider_fbca.ledger_tools.show import state_of  # noqa: PLC0415 - as above

    with told("ledger"):
        root = _root(ledger_uri)
        (audience,) = _audiences(root, audience_id)
        _print(state_of(root, audience).lines())
        typer.echo(
            "To forget means: whoever is in this audience at Meta stays there, and no refresh can ever remove them one "
            'by one. A refresh will refuse to run until one with strategy="replace" has cleared the audience. The '
            "markers stay as history; all rows are deleted.",
        )
        typed = confirm or typer.prompt("Type the audience's id to go on")
        if typed.strip() != audience:
            raise typer.BadParameter("That is not the audience's id. Nothing was done.")
        with WorkDir() as workdir:
            deleted = carry_out(root, audience, workdir)
        typer.echo(f"Forgotten: {deleted:,} files of rows deleted.")


def _adopt_users(root: Any, audience_id: str, file: Any, conn_id: str, *, yes: bool) -> None:
    from airflow_provider_fbca.hooks.custom_audience import (  # noqa: PLC0415 - loads Airflow
        FacebookCustomAudienceHook,
    )
    from airflow_provider_fbca.ledger import RowSets, WorkDir  # noqa: PLC0415 - loads Arrow
    from airflow_provider_fbca.ledger.retire import nobody  # noqa: PLC0415 - as above
    from airflow_provider_fbca.ledger_tools.adopt import adopt_users  # noqa: PLC0415 - as above

    audience = FacebookCustomAudienceHook(conn_id).ready_audience(audience_id)
    with WorkDir() as workdir:
        if file is None:
            users, unusable = nobody(workdir), 0
        else:
            users, report = file.read(workdir, RowSets(workdir))
            unusable = report.rows_in - report.rows_out
            if not users.rows:
                raise typer.BadParameter("The file has no usable row; --empty states that nobody is in the audience.")
        typer.echo(
            f"Audience {audience.id} of ad account {audience.account_id}: {users.rows:,} rows are stated to be all who "
            "may be in it, beside those whom the ledger knows. Whoever else is in stays in: no refresh removes them."
        )
        if unusable:
            typer.echo(f"{unusable:,} rows of the file name nobody who can be found: if they are in, they stay in.")
        _confirm("Adopt the audience?", yes=yes)
        entry_id = adopt_users(root, audience, users)
    typer.echo(f"Adopted: entry {entry_id}.")


def _adopt_ledger(root: Any, old_root: Any, audience_id: str, conn_id: str) -> None:
    from airflow_provider_fbca.hooks.custom_audience import (  # noqa: PLC0415 - loads Airflow
        FacebookCustomAudienceHook,
    )
    from airflow_provider_fbca.ledger import WorkDir  # noqa: PLC0415 - loads Arrow
    from airflow_provider_fbca.ledger_tools.adopt import adopt_ledger  # noqa: PLC0415 - as above

    audience = FacebookCustomAudienceHook(conn_id).ready_audience(audience_id)
    with WorkDir() as workdir:
        uri, copied = adopt_ledger(root, old_root, audience, workdir)
    typer.echo(
        f"Adopted: {copied:,} files copied to {uri}. The old folder still holds people's hashes: delete it once every "
        "task uses the new place."
    )


def _users_file(
    uri: str, columns: list[str] | None, country: str | None, transliterate: bool, hashed: list[str] | None
) -> Any:
    from airflow_provider_fbca.ledger_tools.users import UsersFile  # noqa: PLC0415 - loads Airflow

    mapping: dict[str, list[str]] = {}
    for pair in columns or ():
        name, equals, key = pair.rpartition("=")
        if not equals or not name or not key:
            raise typer.BadParameter(f"--column is {pair!r}: give NAME=KEY.")
        mapping.setdefault(name, []).append(key)
    return UsersFile(uri, mapping or None, country, transliterate, tuple(hashed or ()))


def _root(ledger_uri: str | None) -> Any:
    from airflow_provider_fbca.operators.place import ledger_root  # noqa: PLC0415 - loads Airflow

    return ledger_root(ledger_uri)


def _audiences(root: Any, audience_id: str | None) -> tuple[str, ...]:
    """Return the audiences to look at.

    :raises BadParameter: where the one that is named has no folder.
    """
    from airflow_provider_fbca.ledger import audience_ids  # noqa: PLC0415 - loads Arrow

    here = audience_ids(root)
    if audience_id is None:
        return here
    if audience_id.strip() not in here:
        raise typer.BadParameter(f"The ledger has no audience {audience_id}.")
    return (audience_id.strip(),)


def _confirm(question: str, *, yes: bool) -> None:
    if not yes:
        typer.confirm(question, abort=True, err=True)


def _print(lines: Iterable[str], *, err: bool = False) -> None:
    for line in lines:
        typer.echo(line, err=err)


def _print_json(content: Any) -> None:
    typer.echo(json.dumps(content, indent=1))


def _print_pending(pending: int) -> None:
    if pending:
        typer.echo("An erasure did not finish: run `fbca ledger erase` again with the same file.")
