"""Where the ledger is, and how long a task may write to it, as Airflow's configuration says."""

from __future__ import annotations

from airflow.sdk import ObjectStoragePath

from airflow_provider_fbca.compat import conf
from airflow_provider_fbca.exceptions import LedgerPlaceError
from airflow_provider_fbca.ledger import LeaseTerms

_LEASE_SECONDS = 180.0
_LOCAL = {"", "file", "local"}


def lease_terms(longest_flight: float) -> LeaseTerms:
    """Return how long a lease holds, as ``[fbca]`` of Airflow's configuration says.

    :param longest_flight: seconds after which a request can no more be applied.
    :raises OptionsError: where the lease is too short for that.
    """
    return LeaseTerms(
        seconds=conf.getfloat("fbca", "lease_seconds", fallback=_LEASE_SECONDS),
        longest_flight=longest_flight,
        single_writer=conf.getboolean("fbca", "single_writer", fallback=False),
    )


def ledger_root(ledger_uri: str | None) -> ObjectStoragePath:
    """Return the folder of the ledger.

    :param ledger_uri: of the operator; without it ``[fbca] ledger_uri`` decides.
    :raises LedgerPlaceError: where neither is set, or it is a path that depends on where the task runs.
    """
    uri = (ledger_uri or conf.get("fbca", "ledger_uri", fallback=None) or "").strip()
    if not uri:
        raise LedgerPlaceError(
            "No place for the ledger is set, and there is no default: people's hashes go where someone chose.",
            remedy=(
                "Set [fbca] ledger_uri in airflow.cfg, or AIRFLOW__FBCA__LEDGER_URI="
                "s3://aws_default@bucket/fbca-ledger in the environment, or ledger_uri of the task "
                "(file:///path is fine on one machine)."
            ),
        )
    try:
        root = ObjectStoragePath(uri)
    except ValueError:
        root = None
    if root is None or not _has_file_system(root):
        raise LedgerPlaceError(
            f"ledger_uri {uri} is of a kind of storage that is not known here.",
            remedy="Correct it, or install the Airflow provider of that storage.",
        )
    # Looked at as it was written: for file:// the path object has made a relative one absolute already.
    if root.protocol in _LOCAL and not uri.removeprefix(f"{root.protocol}:").removeprefix("//").startswith("/"):
        raise LedgerPlaceError(
            f"ledger_uri {uri} is a relative path, which means another folder on every worker.",
            remedy="Give an absolute path (file:///srv/fbca-ledger) or an object-storage URI.",
        )
    return root


def _has_file_system(root: ObjectStoragePath) -> bool:
    """Tell whether Airflow knows a file system for a path; some of its minors ask for one only here."""
    try:
        root.fs  # noqa: B018 - looked up on first use
    except ValueError:
        return False
    except Exception:  # noqa: BLE001 - whatever else is wrong, the ledger's first reading tells it
        return True
    return True
