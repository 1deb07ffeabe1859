"""What ``fbca`` can do."""

from __future__ import annotations

from typing import Annotated

import typer

from airflow_provider_fbca import __version__
from airflow_provider_fbca.cli import ledger
from airflow_provider_fbca.cli.login import login

app = typer.Typer(
    help="Facebook Custom Audiences: tools around the Airflow provider.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    # It would take "[fbca]" for markup.
    rich_markup_mode=None,
)


app.add_typer(ledger.app, name="ledger")
app.command()(login)


def _print_version(wanted: bool) -> None:
    if wanted:
        typer.echo(__version__)
        raise typer.Exit


@app.callback()
def options(
    version: Annotated[
        bool, typer.Option("--version", help="Print the version.", callback=_print_version, is_eager=True)
    ] = False,
) -> None:
    """Facebook Custom Audiences: tools around the Airflow provider."""


@app.command()
def sandbox(
    host: Annotated[str, typer.Option(help="Address to listen at.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(help="Port to listen at; 0 takes a free one.")] = 8095,
    allow_remote: Annotated[bool, typer.Option(help="Listen at an address that other machines reach.")] = False,
    count_only: Annotated[bool, typer.Option(help="Check and count uploads but hold nobody.")] = False,
) -> None:
    """Run a local Graph API that holds audiences as Meta would, to try DAGs on."""
    from airflow_provider_fbca.sandbox import Settings, run  # noqa: PLC0415 - a server is slow to import
    from airflow_provider_fbca.sandbox.server import PlaceError  # noqa: PLC0415 - as above

    try:
        run(host, port, settings=Settings(count_only=count_only), allow_remote=allow_remote)
    except (OSError, PlaceError) as error:
        typer.echo(f"fbca sandbox: {error}", err=True)
        raise typer.Exit(1) from None
