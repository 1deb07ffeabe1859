"""Decides what to remove and to add so that an audience equals its query, guards that plan, and carries it out.

The plan is made from sets of rows and carried out through small protocols (``ports``): no module here knows where rows
are kept, how Meta is called, or Airflow.
"""

from __future__ import annotations

from airflow_provider_fbca.sync.execute import Sent, Step, carry_out
from airflow_provider_fbca.sync.guards import Guards
from airflow_provider_fbca.sync.plan import (
    STRATEGIES,
    Fallback,
    Plan,
    Strategy,
    plan_delete_insert,
    plan_delta,
    plan_removal,
    plan_replace,
    plan_upload,
    refuse_strangers,
)
from airflow_provider_fbca.sync.ports import Journal, Rows, Sender, Totals

__all__ = [
    "STRATEGIES",
    "Fallback",
    "Guards",
    "Journal",
    "Plan",
    "Rows",
    "Sender",
    "Sent",
    "Step",
    "Strategy",
    "Totals",
    "carry_out",
    "plan_delete_insert",
    "plan_delta",
    "plan_removal",
    "plan_replace",
    "plan_upload",
    "refuse_strangers",
]
