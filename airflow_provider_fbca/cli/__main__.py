"""``python -m airflow_provider_fbca.cli``: the command where its script is not on the path."""

from __future__ import annotations

from airflow_provider_fbca.cli import main

if __name__ == "__main__":
    main()
