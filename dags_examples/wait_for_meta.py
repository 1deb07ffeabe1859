"""Go on only once Meta has applied a refresh and ads can use the audience.

Meta answers an upload at once and applies it within a day. The sensor waits in the triggerer, which takes no worker,
until the audience's people have changed since the refresh and ``delivery_status`` says that it is ready.

Needs a connection ``fbca_default`` to Meta, a connection ``warehouse`` to a database, the Airflow variable
``fbca_audience_id``, ``[fbca] ledger_uri``, and a triggerer.
"""

from __future__ import annotations

from datetime import datetime, timedelta

from airflow.sdk import DAG, task

from airflow_provider_fbca.operators.custom_audience import FacebookRefreshAudienceOperator
from airflow_provider_fbca.sensors.custom_audience import FacebookCustomAudienceSensor

with DAG(
    "fbca_wait_for_meta",
    schedule="@daily",
    start_date=datetime(2026, 1, 1),  # noqa: DTZ001 - Airflow takes it as its own default time zone
    catchup=False,
    max_active_runs=1,  # one writer per audience at a time
    default_args={"owner": "marketing", "retries": 3, "retry_delay": timedelta(minutes=5)},
    tags=["facebook", "example"],
    doc_md=__doc__,
):
    refresh = FacebookRefreshAudienceOperator(
        task_id="refresh",
        audience_id="{{ var.value.fbca_audience_id }}",
        sql="SELECT email, phone, first_name, last_name, city, zip, country FROM active_customers",
        sql_conn_id="warehouse",
    )
    ready = FacebookCustomAudienceSensor(
        task_id="ready",
        audience_id="{{ var.value.fbca_audience_id }}",
        # Where there was nothing to send it is None, and any time will do.
        updated_after="{{ ti.xcom_pull(task_ids='refresh')['uploaded_at'] }}",
        deferrable=True,
        poke_interval=60,
        timeout=timedelta(hours=25),
    )

    @task
    def launch() -> None:
        """Start the campaign; the audience can be used from here on."""

    refresh >> ready >> launch()
