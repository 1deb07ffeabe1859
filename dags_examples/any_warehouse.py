"""Users from a warehouse with all that a query may need, and from files in an object store.

Customers of the last year come from SQL: its session is set up first, its date is bound by the driver, and it is
cancelled after half an hour. Who opted out comes from the exports of another system, one audience to exclude from ads.
The files may be Parquet, Arrow IPC or CSV; the URI is a file, a folder or a glob.

Needs connections ``fbca_default`` (with an ad account) and ``warehouse`` (here one whose driver takes ``$1`` for a
parameter, such as DuckDB), the Airflow variable ``fbca_opt_outs_uri`` (say
``s3://aws_default@my-bucket/opt-outs/*.csv.gz``), and ``[fbca] ledger_uri``.
"""

from __future__ import annotations

from datetime import datetime, timedelta

from airflow.sdk import DAG

from airflow_provider_fbca.operators.custom_audience import (
    FacebookCreateCustomAudienceOperator,
    FacebookRefreshAudienceOperator,
)

with DAG(
    "fbca_any_warehouse",
    schedule="@daily",
    start_date=datetime(2026, 1, 1),  # noqa: DTZ001 - Airflow takes it as its own default time zone
    catchup=False,
    max_active_runs=1,  # one writer per audience at a time
    params={"since": "2026-01-01"},
    default_args={"owner": "marketing", "retries": 3, "retry_delay": timedelta(minutes=5)},
    tags=["facebook", "example"],
    doc_md=__doc__,
):
    customers = FacebookCreateCustomAudienceOperator(task_id="create_customers", name="Customers")
    opted_out = FacebookCreateCustomAudienceOperator(task_id="create_opted_out", name="Opted out")
    FacebookRefreshAudienceOperator(
        task_id="refresh_customers",
        audience_id=customers.output,
        sql="SELECT * EXCLUDE last_order FROM customers WHERE last_order >= CAST($1 AS DATE)",
        sql_conn_id="warehouse",
        parameters=["{{ params.since }}"],
        session_sql=["SET threads = 2", "SET memory_limit = '1GB'"],
        statement_timeout=timedelta(minutes=30),
    )
    FacebookRefreshAudienceOperator(
        task_id="refresh_opted_out",
        audience_id=opted_out.output,
        users_uri="{{ var.value.fbca_opt_outs_uri }}",
    )
