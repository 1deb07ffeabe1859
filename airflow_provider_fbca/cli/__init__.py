"""The ``fbca`` command; light to import, since Airflow may load it with every command of its own."""

from __future__ import annotations


def main() -> None:
    """Run the command line (the console script ``fbca``)."""
    from airflow_provider_fbca.cli.app import app  # noqa: PLC0415 - keeps the import of this package light

    app(prog_name="fbca")
