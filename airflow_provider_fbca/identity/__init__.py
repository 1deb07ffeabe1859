"""Turns rows of a warehouse into the exact hashes that Meta matches on; knows Meta's rules and nothing else.

Read :mod:`~airflow_provider_fbca.identity.keys` for what there is, :mod:`~airflow_provider_fbca.identity.mapping` for
which column feeds what, :mod:`~airflow_provider_fbca.identity.rule` for what becomes of one cell, and
:mod:`~airflow_provider_fbca.identity.prepare` for how whole batches go through.
"""

from __future__ import annotations

from airflow_provider_fbca.identity.keys import ATTRIBUTES, COMBINATIONS, KEYS, Key, usable_combinations
from airflow_provider_fbca.identity.mapping import ColumnMapping, Source, find_column, resolve_mapping
from airflow_provider_fbca.identity.outcome import Blank, Context
from airflow_provider_fbca.identity.prepare import REJECTS_SCHEMA, Preparer
from airflow_provider_fbca.identity.report import PrepareReport, Reject
from airflow_provider_fbca.identity.rule import identify

__all__ = [
    "ATTRIBUTES",
    "COMBINATIONS",
    "KEYS",
    "REJECTS_SCHEMA",
    "Blank",
    "ColumnMapping",
    "Context",
    "Key",
    "PrepareReport",
    "Preparer",
    "Reject",
    "Source",
    "find_column",
    "identify",
    "resolve_mapping",
    "usable_combinations",
]
