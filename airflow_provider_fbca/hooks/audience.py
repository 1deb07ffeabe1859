"""What is to be known of an audience before people are sent to it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from airflow_provider_fbca.graph.audiences import digits_of, operation_code, retention_days_of

if TYPE_CHECKING:
    from collections.abc import Mapping

_NOTHING_UPLOADED = 410


@dataclass(frozen=True)
class Audience:
    """What the operators need to know of an audience.

    :param id: digits.
    :param account_id: of the ad account that owns it, digits.
    :param name: as people see it.
    :param is_value_based: whether each person needs a LOOKALIKE_VALUE.
    :param retention_days: after which people drop out; None for never.
    :param never_filled: whether Meta says that nothing was ever uploaded to it.
    """

    id: str
    account_id: str
    name: str
    is_value_based: bool
    retention_days: int | None
    never_filled: bool

    @classmethod
    def from_graph(cls, fields: Mapping[str, Any]) -> Audience:
        """Make it from the fields that Meta gives.

        :param fields: as :meth:`~airflow_provider_fbca.graph.audiences.Audiences.get` returns them.
        :raises GraphTransientError: where they lack an id, or are of no form that is known.
        """
        return cls(
            # Meta's own spelling: it names the ledger's folder, which must be one for each audience.
            id=digits_of(fields, "id"),
            account_id=digits_of(fields, "account_id"),
            name=str(fields.get("name", "")),
            is_value_based=bool(fields.get("is_value_based")),
            retention_days=retention_days_of(fields),
            never_filled=operation_code(fields) == _NOTHING_UPLOADED and not fields.get("time_content_updated"),
        )
