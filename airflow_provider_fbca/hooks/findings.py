"""What the button "Test" of a connection and `fbca login` find out."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING

from airflow_provider_fbca.exceptions import GraphError
from airflow_provider_fbca.hooks.tokens import verdicts

if TYPE_CHECKING:
    from collections.abc import Iterator

    from airflow_provider_fbca.graph.api import GraphApi
    from airflow_provider_fbca.graph.audiences import Audiences

#: Whether something is as it must be, and the words for it.
Finding = tuple[bool, str]


def findings(api: GraphApi, audiences: Audiences, account_id: str | None) -> Iterator[Finding]:
    """Yield whose token it is, for which ad account, with which permission, terms and end.

    :param api: the connection's client.
    :param audiences: on the same.
    :param account_id: digits of the ad account; None where none is named.
    :raises GraphError: where Meta refuses the token, or the ad account to it.
    """
    me = api.call("GET", ("me",), {"fields": "id,name"}).json()
    yield True, f"Token of {me.get('name', 'an unnamed user')} ({me.get('id')})."
    try:
        token = audiences.token_info()
    except GraphError as error:
        yield True, f"Its permissions and end are not known: {error}"
    else:
        yield from ((verdict.failure is None, verdict.told) for verdict in verdicts(token, datetime.now(UTC)))
    if account_id is None:
        yield True, "No ad account is set: audiences can be refreshed but not created."
        return
    account = api.call("GET", (f"act_{account_id}",), {"fields": "name"}).json()
    yield True, f"Ad account {account_id} ({account.get('name', 'unnamed')})."
    yield _terms(account_id, accepted=audiences.terms_accepted(account_id))


def terms_page(account_id: str) -> str:
    """Return the address where a person accepts the Custom Audience terms.

    :param account_id: digits of the ad account.
    """
    return f"https://business.facebook.com/ads/manage/customaudiences/tos/?act={account_id}"


def _terms(account_id: str, *, accepted: bool | None) -> Finding:
    if accepted:
        return True, "Custom Audience terms are accepted."
    if accepted is None:
        return True, f"Meta does not say whether the Custom Audience terms are accepted: {terms_page(account_id)}"
    return False, f"Custom Audience terms are not accepted: a person must, at {terms_page(account_id)}"
