"""Users from Python: a callable returns an Arrow table, inside the task that uploads it.

Anything with ``__arrow_c_stream__`` will do: a pyarrow table or reader, a polars or pandas data frame, a DuckDB
relation. The rows never pass through XCom.

Needs a connection ``fbca_default``, the Airflow variable ``fbca_audience_id``, and ``[fbca] ledger_uri``.
"""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

from airflow.sdk import DAG

from airflow_provider_fbca.operators.custom_audience import FacebookUploadUsersOperator

if TYPE_CHECKING:
    import pyarrow as pa


def newsletter_readers(params: dict[str, Any]) -> pa.Table:
    """Return who opened the newsletter; it gets those parts of the task's context that it names."""
    import pyarrow as pa  # noqa: PLC0415 - heavy imports belong into the task, not into DAG parsing

    return pa.table(
        {
            "contact": [f"reader{number}@{params['domain']}" for number in range(1, 51)],
            "customer_no": list(range(1, 51)),
            "mobile": [f"0170 12345{number:02d}" for number in range(1, 51)],
        }
    )


with DAG(
    "fbca_users_from_python",
    schedule=None,
    start_date=datetime(2026, 1, 1),  # noqa: DTZ001 - Airflow takes it as its own default time zone
    max_active_runs=1,  # one writer per audience at a time
    params={"domain": "example.com"},
    default_args={"owner": "marketing", "retries": 3, "retry_delay": timedelta(minutes=5)},
    tags=["facebook", "example"],
    doc_md=__doc__,
):
    FacebookUploadUsersOperator(
        task_id="upload",
        audience_id="{{ var.value.fbca_audience_id }}",
        users_callable=newsletter_readers,
        columns={"contact": "EMAIL", "customer_no": "EXTERN_ID", "mobile": "PHONE"},
        default_country="DE",
    )
