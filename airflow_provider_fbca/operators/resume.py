"""Whether a retry may go on with the entry that an earlier try of its run has left open (rule L10)."""

from __future__ import annotations

import hashlib
import secrets
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, Final

from airflow_provider_fbca import __version__
from airflow_provider_fbca.warehouse import state_of_uri

if TYPE_CHECKING:
    from airflow_provider_fbca.ledger import Entry, History
    from airflow_provider_fbca.operators.base import UsersOperator

#: After this nobody knows whether the source's rows are still worth sending.
RESUME_WITHIN: Final = timedelta(hours=24)
#: Who is to be sent, and what is to be done with them. How (batches, connections) may change between two tries.
_OPTIONS = (
    "sql",
    "sql_conn_id",
    "parameters",
    "session_sql",
    "sql_hook_params",
    "users_uri",
    "columns",
    "default_country",
    "transliterate",
    "hashed",
    "limited_data_use",
    "min_rows",
    "max_invalid_ratio",
    "strategy",
    "resend_all_days",
    "max_removals",
    "max_removal_ratio",
    "allow_empty",
)
_SALT_BYTES = 16


class Fingerprint:
    """What a task is to do, to be compared between tries: its rendered source, mapping and options.

    Stored salted and hashed, since options may hold what is nobody's business. What a function gives, or a store that
    tells no states of its files, cannot be known from outside: that is the same within one try only, which may be put
    off and go on.

    :param operator: rendered.
    :param of_try: what nobody but the processes of this very try know.
    """

    def __init__(self, operator: UsersOperator, *, of_try: str) -> None:
        files = state_of_uri(operator.users_uri) if operator.users_uri is not None else ()
        options: dict[str, Any] = {name: getattr(operator, name, None) for name in _OPTIONS}
        options |= {"files": files, "operator": type(operator).__qualname__, "version": __version__}
        if operator.users_callable is not None or files is None:
            options["try"] = of_try
        # The order of names is the same each time, and what has no lasting form only costs a resume.
        self._told = repr(options)

    def stored(self) -> str:
        """Return the form to be stored, another one each time."""
        return self._salted(secrets.token_hex(_SALT_BYTES))

    def equals(self, stored: str | None) -> bool:
        """Tell whether a stored form is of the same task doing the same."""
        return stored is not None and stored == self._salted(stored.partition(":")[0])

    def _salted(self, salt: str) -> str:
        return f"{salt}:{hashlib.sha256(f'{salt}{self._told}'.encode()).hexdigest()}"


def entry_to_resume(
    history: History, owner: dict[str, str | int], fingerprint: Fingerprint, *, retention_days: int | None
) -> Entry | None:
    """Return the entry that a retry goes on with.

    :param history: of the audience.
    :param owner: dag, task, run, map index and try of the retry.
    :param fingerprint: of what it is to do.
    :param retention_days: of the audience now: the marker must tell it, for rule L6.
    :returns: the newest entry, where an earlier try of the same run opened it not long ago to do the same, and nothing
        has changed since; else None.
    """
    if not history.entries:
        return None
    entry, opened = history.entries[-1], history.entries[-1].opened
    if not opened or entry.settled or not entry.has_rows or opened.left_behind or opened.strategy == "replace":
        return None
    same_run = all(opened.owner.get(name) == owner[name] for name in owner.keys() - {"try_number"})
    same_terms = opened.retention_days == retention_days
    same_reads = set(opened.reads) == {each.id for each in history.without(entry).outstanding}
    if (
        same_run
        and same_reads
        and same_terms
        and _is_young(opened.opened_at)
        and fingerprint.equals(opened.fingerprint)
    ):
        return entry
    return None


def _is_young(opened_at: str) -> bool:
    try:
        age = datetime.now(UTC) - datetime.fromisoformat(opened_at)
    except (ValueError, TypeError):
        return False
    return timedelta() <= age < RESUME_WITHIN
