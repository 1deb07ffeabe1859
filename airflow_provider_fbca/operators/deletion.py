"""Deletes an audience, and what its ledger knows of it (rule L12)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from airflow_provider_fbca.compat import conf
from airflow_provider_fbca.graph.ids import audience_number
from airflow_provider_fbca.ledger import AudienceLedger, WorkDir
from airflow_provider_fbca.ledger.retire import retire_all
from airflow_provider_fbca.operators.place import lease_terms, ledger_root
from airflow_provider_fbca.operators.run import owner_of

if TYPE_CHECKING:
    from airflow.sdk import Context

    from airflow_provider_fbca.operators.custom_audience import FacebookDeleteCustomAudienceOperator


def delete_audience(operator: FacebookDeleteCustomAudienceOperator, context: Context) -> None:
    """Delete an audience at Meta, then retire its ledger entries and delete their rows.

    :param operator: rendered.
    :param context: of the task.
    """
    audience_id = audience_number(str(operator.audience_id))
    if not (operator.ledger_uri or conf.get("fbca", "ledger_uri", fallback=None)):
        operator.hook.delete_audience(audience_id, ignore_missing=operator.ignore_missing)
        return
    ledger = AudienceLedger(ledger_root(operator.ledger_uri), audience_id)
    owner = owner_of(context["ti"])
    with WorkDir() as workdir, ledger.lease(owner, lease_terms(operator.hook.longest_flight)) as lease:
        if not operator.hook.delete_audience(audience_id, ignore_missing=operator.ignore_missing):
            return
        retire_all(ledger, lease, workdir, kind="delete", owner=owner)
        ledger.discard_rows(tuple(ledger.history().retired))
        operator.log.info("The ledger %s holds nobody of it any more.", ledger.uri)
