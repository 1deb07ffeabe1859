"""Several audiences from one list, by dynamic task mapping: one per country.

Needs connections ``fbca_default`` (with an ad account) and ``warehouse`` (here one whose driver takes ``$1`` for a
parameter, such as DuckDB), and ``[fbca] ledger_uri``.
"""

from __future__ import annotations

from datetime import datetime, timedelta

from airflow.sdk import DAG, task

from airflow_provider_fbca.operators.custom_audience import (
    FacebookCreateCustomAudienceOperator,
    FacebookRefreshAudienceOperator,
)

with DAG(
    "fbca_many_audiences",
    schedule="@daily",
    start_date=datetime(2026, 1, 1),  # noqa: DTZ001 - Airflow takes it as its own default time zone
    catchup=False,
    max_active_runs=1,  # one writer per audience at a time
    default_args={"owner": "marketing", "retries": 3, "retry_delay": timedelta(minutes=5)},
    tags=["facebook", "example"],
    doc_md=__doc__,
):

    @task
    def countries() -> list[str]:
        """List the markets; a real DAG may ask the warehouse."""
        return ["US", "DE", "BR"]

    @task
    def refreshes(countries: list[str], audience_ids: list[str]) -> list[dict[str, object]]:
        """Pair each audience with its part of the query."""
        pairs = zip(countries, audience_ids, strict=True)
        return [{"audience_id": audience_id, "parameters": [country]} for country, audience_id in pairs]

    markets = countries()
    audiences = FacebookCreateCustomAudienceOperator.partial(task_id="create").expand(
        name=markets.map(lambda country: f"Active customers {country}")
    )
    FacebookRefreshAudienceOperator.partial(
        task_id="refresh",
        sql="SELECT * FROM active_customers WHERE country = $1",
        sql_conn_id="warehouse",
        max_active_tis_per_dagrun=4,
        map_index_template="audience {{ task.audience_id }}",
    ).expand_kwargs(refreshes(markets, audiences.output))
