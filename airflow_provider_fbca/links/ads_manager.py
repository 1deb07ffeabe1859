"""The link from a task to its audience in Meta's Ads Manager."""

from __future__ import annotations

from typing import TYPE_CHECKING

from airflow.sdk import BaseOperatorLink
from airflow.sdk.execution_time.xcom import XCom

if TYPE_CHECKING:
    from airflow.sdk import BaseOperator
    from airflow.sdk.types import TaskInstanceKey

#: XCom under which operators leave the address, pushed before the first request that could fail.
LINK_KEY = "fbca_audience_link"


def audience_url(audience_id: str, account_id: str) -> str:
    """Return the page of an audience in Ads Manager.

    :param audience_id: digits.
    :param account_id: digits, without ``act_``.
    """
    return (
        "https://adsmanager.facebook.com/audiences?"
        f"act={account_id}&search=CUSTOM_AUDIENCE_ID:{audience_id}&selected_audience_ids={audience_id}"
    )


class AudienceLink(BaseOperatorLink):
    """Opens the audience of the task in Ads Manager."""

    name = "Audience in Ads Manager"

    def get_link(self, operator: BaseOperator, *, ti_key: TaskInstanceKey) -> str:  # noqa: ARG002 - Airflow's signature
        """Return the address that the task left, or nothing where it never came to know its audience.

        :param operator: the operator that the link belongs to.
        :param ti_key: the task instance.
        """
        return XCom.get_value(key=LINK_KEY, ti_key=ti_key) or ""
