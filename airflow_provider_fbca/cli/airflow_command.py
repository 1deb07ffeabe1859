"""``airflow fbca``: the same command among Airflow's own, where Airflow lets providers add some (3.2 and up)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from airflow.cli.cli_config import ActionCommand, Arg, lazy_load_command

if TYPE_CHECKING:
    import argparse


def get_commands() -> list[Any]:
    """Return the commands to add (entry ``cli`` of the provider info)."""
    help_text = "What to do; without anything, the commands are listed."
    arguments = Arg(("arguments",), nargs="...", help=help_text)  # type: ignore[no-untyped-call]
    return [
        ActionCommand(
            name="fbca",
            help="Facebook Custom Audiences: login, ledger, sandbox",
            func=lazy_load_command("airflow_provider_fbca.cli.airflow_command.run"),
            args=(arguments,),
        )
    ]


def run(args: argparse.Namespace) -> None:
    """Hand the arguments over to ``fbca``."""
    from airflow_provider_fbca.cli.app import app  # noqa: PLC0415 - only when the command runs

    app(args=args.arguments or ["--help"], prog_name="airflow fbca")
