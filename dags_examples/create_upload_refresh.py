"""Create an audience, add today's sign-ups at once, then make it equal to the full query.

The upload reaches new people within minutes; the refresh then takes out whoever left. The upload's manifest goes to the
refresh by XCom, which makes sure that the ledger knows it.

Needs connections ``fbca_default`` (with an ad account) and ``warehouse``, and ``[fbca] ledger_uri``.
"""

from __future__ import annotations

from datetime import datetime, timedelta

from airflow.sdk import DAG

from airflow_provider_fbca.operators.custom_audience import (
    FacebookCreateCustomAudienceOperator,
    FacebookRefreshAudienceOperator,
    FacebookUploadUsersOperator,
)

with DAG(
    "fbca_create_upload_refresh",
    schedule="@daily",
    start_date=datetime(2026, 1, 1),  # noqa: DTZ001 - Airflow takes it as its own default time zone
    catchup=False,
    max_active_runs=1,  # one writer per audience at a time
    default_args={"owner": "marketing", "retries": 3, "retry_delay": timedelta(minutes=5)},
    tags=["facebook", "example"],
    doc_md=__doc__,
):
    audience = FacebookCreateCustomAudienceOperator(
        task_id="create",
        name="Active customers",
        description="Everyone with an order in the last year",
    )
    upload = FacebookUploadUsersOperator(
        task_id="upload_signups",
        audience_id=audience.output,
        sql="SELECT * FROM new_signups",
        sql_conn_id="warehouse",
        min_rows=0,  # a day without a sign-up is fine
    )
    FacebookRefreshAudienceOperator(
        task_id="refresh",
        audience_id=audience.output,
        sql="SELECT * FROM active_customers",
        sql_conn_id="warehouse",
        previous_upload=upload.output,
    )
