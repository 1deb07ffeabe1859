"""Airflow's readers of DAG files, from where the running minor has them."""

from __future__ import annotations

from airflow.dag_processing.bundles.manager import DagBundlesManager

try:
    from airflow.dag_processing.dagbag import BundleDagBag, DagBag, sync_bag_to_db
except ModuleNotFoundError:  # Airflow 3.1
    from airflow.models.dagbag import BundleDagBag, DagBag, sync_bag_to_db

__all__ = ["DagBag", "publish"]


def publish() -> None:
    """Write the DAGs of the DAG folder into the metadata, as the DAG processor does.

    ``dag.test()`` does it on every call from Airflow 3.2 on, and on 3.1 for DAGs that the metadata does not know.
    """
    manager = DagBundlesManager()
    manager.sync_bundles_to_db()
    for bundle in manager.get_all_dag_bundles():
        bundle.initialize()
        found = BundleDagBag(dag_folder=bundle.path, bundle_path=bundle.path)
        assert not found.import_errors
        sync_bag_to_db(found, bundle.name, bundle.version)
