"""Tells Airflow's hook lineage what a task has read and written, for whoever collects it: OpenLineage, say.

Airflow imports this wherever it looks at the URIs of assets: what is heavy is imported when a task has sent its users.
"""

from __future__ import annotations

from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from airflow_provider_fbca.compat import hook_lineage_collector

if TYPE_CHECKING:
    from airflow.sdk import Asset

    from airflow_provider_fbca.operators.base import UsersOperator


def report_lineage(operator: UsersOperator, *, audience_id: str, account_id: str) -> None:
    """Report the source of a task's users as its input, and the audience as its output.

    For a query that is its text, as the hooks of common-sql report those that they run, and never its parameters; for
    files their URI, without credentials; of a callable nothing is known. The output is
    ``fbca://<ad account>/<audience>``. Whatever goes wrong is a line in the log: the users are sent.

    :param operator: rendered.
    :param audience_id: where the users are.
    :param account_id: of its ad account, digits.
    """
    try:
        collector = hook_lineage_collector()
        if collector is None:
            return
        collector.add_output_asset(context=operator.hook, uri=f"fbca://{account_id}/{audience_id}")
        if operator.users_uri is not None:
            collector.add_input_asset(context=operator.hook, uri=_uri_of_asset(operator.users_uri))
        if operator.sql is not None and operator.sql_conn_id:
            _report_query(operator.sql, operator.sql_conn_id, operator.sql_hook_params)
    except Exception as error:  # noqa: BLE001 - no more than a note in a catalogue is lost
        operator.log.warning("The lineage of the task was not reported (%s).", type(error).__qualname__)


def openlineage_dataset(asset: Asset, lineage_context: Any) -> Any:  # noqa: ARG001 - the signature is Airflow's
    """Give an audience as OpenLineage's dataset; named in the provider info.

    :param asset: with a URI as above.
    """
    uri = urlsplit(asset.uri)
    dataset = import_module("airflow.providers.common.compat.openlineage.facet").Dataset
    return dataset(namespace=f"{uri.scheme}://{uri.netloc}", name=uri.path.strip("/"))


def _report_query(sql: str, conn_id: str, hook_params: dict[str, Any] | None) -> None:
    from airflow_provider_fbca.warehouse.connections import hook_of  # noqa: PLC0415 - heavy

    common_sql = import_module("airflow.providers.common.sql.hooks.lineage")
    common_sql.send_sql_hook_lineage(context=hook_of(conn_id, hook_params), sql=sql)


def _uri_of_asset(users_uri: str) -> str:
    from airflow_provider_fbca.warehouse.files import shown_uri  # noqa: PLC0415 - heavy

    shown = shown_uri(users_uri)
    return shown if urlsplit(shown).scheme else Path(shown).absolute().as_uri()
