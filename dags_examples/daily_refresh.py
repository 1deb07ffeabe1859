"""The daily refresh: one task keeps an audience equal to a query.

Needs a connection ``fbca_default`` to Meta, a connection ``warehouse`` to a database, the Airflow variable
``fbca_audience_id``, and ``[fbca] ledger_uri``.
"""

from __future__ import annotations

from datetime import datetime, timedelta

from airflow.sdk import DAG

from airflow_provider_fbca.operators.custom_audience import FacebookRefreshAudienceOperator

with DAG(
    "fbca_daily_refresh",
    schedule="@daily",
    start_date=datetime(2026, 1, 1),  # noqa: DTZ001 - Airflow takes it as its own default time zone
    catchup=False,
    max_active_runs=1,  # one writer per audience at a time
    default_args={"owner": "marketing", "retries": 3, "retry_delay": timedelta(minutes=5)},
    tags=["facebook", "example"],
    doc_md=__doc__,
):
    FacebookRefreshAudienceOperator(
        task_id="refresh",
        audience_id="{{ var.value.fbca_audience_id }}",
        sql="SELECT email, phone, first_name, last_name, city, zip, country FROM active_customers",
        sql_conn_id="warehouse",
    )
