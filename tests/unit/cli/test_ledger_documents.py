"""The documents name every command, every option, every kind of entry and every field of every file."""

from __future__ import annotations

from dataclasses import fields
from pathlib import Path
from typing import get_args

import pytest
import typer
from typer.testing import CliRunner

from airflow_provider_fbca.cli.app import app as whole_app
from airflow_provider_fbca.cli.ledger import app
from airflow_provider_fbca.ledger import FORMAT, Kind, OpenMarker, ProgressNote, SessionNote, SettledMarker
from airflow_provider_fbca.ledger.lease_row import LeaseNote

DOCS = Path(__file__).parent.parent.parent.parent / "docs"
COMMANDS = typer.main.get_command(app).commands


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_and_option_is_documented(name):
    text = (DOCS / "ledger_tools.md").read_text()
    assert f"## {name}\n" in text
    options = [flag for each in COMMANDS[name].params for flag in each.opts if flag.startswith("--")]
    assert [flag for flag in options if flag not in text and f"--no-{flag[2:]}" not in text] == []


@pytest.mark.parametrize("marker", [OpenMarker, SettledMarker, SessionNote, ProgressNote, LeaseNote])
def test_every_field_of_the_ledgers_files_is_documented(marker):
    text = (DOCS / "ledger.md").read_text()
    assert [field.name for field in fields(marker) if f"`{field.name}`" not in text] == []


def test_every_kind_of_entry_and_the_format_are_documented():
    text = (DOCS / "ledger.md").read_text()
    assert [kind for kind in get_args(Kind) if f"| `{kind}` |" not in text] == []
    assert f"this version writes and reads {FORMAT}." in text


def test_help_names_the_section_of_the_configuration():
    result = CliRunner().invoke(whole_app, ["ledger", "erase", "--help"])
    assert "[fbca] ledger_uri" in " ".join(result.output.split())
