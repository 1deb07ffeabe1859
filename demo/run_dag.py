"""Runs an example DAG once, as ``airflow dags test`` does, and prints the manifest of its refresh as the last line."""

from __future__ import annotations

import json
import sys

from airflow.dag_processing.dagbag import DagBag
from airflow.utils.db import initdb


def main(folder: str, dag_id: str) -> int:
    """Run the DAG.

    :param folder: of the DAG files.
    :returns: 0 where the run succeeded.
    """
    initdb()
    dag = DagBag(dag_folder=folder).dags[dag_id]
    run = dag.test()
    if run.state != "success":
        return 1
    manifest = run.get_task_instance("refresh").xcom_pull(task_ids="refresh")
    print(json.dumps(manifest), flush=True)  # noqa: T201 - the demo reads it
    return 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
