"""The hook: an Airflow connection to Meta, and what can be done with audiences through it."""

from __future__ import annotations

import secrets
import time
from functools import cached_property
from typing import TYPE_CHECKING, Any

from airflow.sdk import BaseHook
from airflow.sdk.log import mask_secret

from airflow_provider_fbca.compat import connection_widgets
from airflow_provider_fbca.exceptions import (
    ConnectionFieldsError,
    FbcaError,
    GraphNotFoundError,
    GraphRequestError,
    GraphRetryableError,
    GraphTermsError,
    GraphThrottledError,
)
from airflow_provider_fbca.get_provider_info import ui_field_behaviour
from airflow_provider_fbca.graph.api import GraphApi
from airflow_provider_fbca.graph.audiences import Audiences, digits_of
from airflow_provider_fbca.graph.credentials import DEFAULT_TIMEOUT, DELETE_STYLES
from airflow_provider_fbca.graph.ids import account_number
from airflow_provider_fbca.graph.readiness import Finding, Wanted, read_status
from airflow_provider_fbca.graph.redact import safe_text
from airflow_provider_fbca.graph.upload import MAX_SESSION_ID, UserUploader
from airflow_provider_fbca.hooks import tokens
from airflow_provider_fbca.hooks.audience import Audience
from airflow_provider_fbca.hooks.credentials import DEFAULT_CONN_ID, Credentials, find, payload_extra, require
from airflow_provider_fbca.hooks.direct import prepared, row_count
from airflow_provider_fbca.hooks.findings import findings, terms_page

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Mapping

    from airflow_provider_fbca.graph.upload import BatchAck, UploadTotals


class FacebookCustomAudienceHook(BaseHook):
    """Connects to Meta's Marketing API and works on custom audiences.

    The connection (type ``fbca``) holds the access token as password. A token of a system user that never expires, with
    the permission ``ads_management`` and a role on the ad account, suits a scheduler best::

        {
            "conn_type": "fbca",
            "password": "<access token>",
            "login": "<app id>",
            "extra": {
                "app_secret": "<app secret; signs every call>",
                "ad_account_id": "act_1234567890",
                "api_version": "v26.0",
                "page_id": "1234567890",
                "timeout": 60,
                "proxies": {"https": "http://proxy.example.com:3128"},
                "delete_style": "body"
            }
        }

    All but the password is optional; ``ad_account_id`` is needed to create and find audiences, the app id to send
    APPUID and ``page_id`` to send PAGEUID. ``delete_style`` is ``method_override`` where a proxy on the way drops the
    bodies of DELETE requests: removals go as POST with ``method=DELETE`` then. ``host`` is the base URL
    of the Graph API if it is not Meta's own (a sandbox, a proxy; plain http only on this machine). A connection of the
    Apache provider's type ``facebook_social`` works unchanged. Where ``fbca_conn_id`` is left at its default and no
    such connection exists, ``FB_APP_ID``, ``FB_APP_SECRET``, ``FB_ACCESS_TOKEN`` and ``FB_AD_ACCOUNT_ID`` are taken
    from the environment.

    :param fbca_conn_id: the Airflow connection.
    :param ad_account_id: the ad account, with or without ``act_``; by default the connection's.
    :param api_version: of the Graph API, such as ``v26.0``; by default the connection's, or the package's own.
    """

    conn_name_attr = "fbca_conn_id"
    default_conn_name = DEFAULT_CONN_ID
    conn_type = "fbca"
    hook_name = "Facebook Custom Audiences"

    def __init__(
        self,
        fbca_conn_id: str = default_conn_name,
        *,
        ad_account_id: str | None = None,
        api_version: str | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.fbca_conn_id = fbca_conn_id
        self._ad_account_id = ad_account_id
        self._api_version = api_version
        self._token_is_checked = False

    @classmethod
    def get_connection_form_widgets(cls) -> dict[str, Any]:
        """Return the form's own fields as Airflow 3.1 wants them; later minors read the provider info."""
        return connection_widgets()

    @classmethod
    def get_ui_field_behaviour(cls) -> dict[str, Any]:
        """Return how the form's standard fields look, as Airflow 3.1 wants it."""
        behaviour = ui_field_behaviour()
        return {name.replace("-", "_"): value for name, value in behaviour.items()}

    @cached_property
    def credentials(self) -> Credentials:
        """The connection's credentials; its secrets are masked in logs from here on.

        :raises ConnectionFieldsError: names every missing or malformed field at once.
        """
        credentials = find(self.fbca_conn_id, self.get_connection)
        for secret in credentials.secrets:
            mask_secret(secret)
        return credentials

    @property
    def account_id(self) -> str:
        """The ad account's digits, without ``act_``.

        :raises ConnectionFieldsError: where neither the hook nor the connection names one.
        """
        found = self._account_or_none
        if found is None:
            raise ConnectionFieldsError(
                f"No ad account is named: neither the task nor connection '{self.fbca_conn_id}' has ad_account_id.",
                fields=("ad_account_id",),
                remedy="Set ad_account_id of the task, or in the connection's extra.",
            )
        return found

    def get_conn(self) -> GraphApi:
        """Return an API object of Meta's SDK (a ``FacebookAdsApi``) for this connection.

        It is safe to pass as ``api=`` to any SDK object and to share between threads; it is nobody's default, and other
        connections of the same process do not see it.

        :raises ConnectionFieldsError: where the connection cannot be used.
        """
        return self._api

    def test_connection(self) -> tuple[bool, str]:
        """Find out whose token it is, for which ad account, with which permission, terms and end.

        :returns: whether audiences can be worked on, and the findings in words. Never raises.
        """
        try:
            found = list(findings(self.get_conn(), self._audiences, self._account_or_none))
        except FbcaError as error:
            return False, str(error)
        except Exception as error:  # noqa: BLE001 - the UI shows what is returned, and an exception's text may hold secrets
            return False, f"The connection cannot be tested: {type(error).__name__}."
        return all(good for good, _ in found), " ".join(told for _, told in found)

    def check_token(self) -> None:
        """Find out before long work whether the token will do; Meta is asked once.

        From seven days before the token ends, or the app's access to its person's data, a warning in the log names the
        remedy. Where Meta does not tell what the token is worth, nothing is said.

        :raises ConnectionFieldsError: where the connection cannot be used.
        :raises GraphAuthError: where the token has expired or is not valid; no retry helps.
        :raises GraphPermissionError: where it lacks the permission ads_management; no retry helps.
        """
        if not self._token_is_checked:
            tokens.check(self.get_conn(), self._audiences)
            self._token_is_checked = True

    def exchange_token(self) -> tokens.NewToken:
        """Ask Meta for a token of about 60 days in place of the connection's, which must not have expired.

        The new token is masked in logs from here on. It is not stored: a task cannot write connections, so a person, or
        a script outside of tasks, puts it there (docs/login.md).

        :returns: the token, which its ``repr`` hides, and its end.
        :raises ConnectionFieldsError: names the app id (login) and ``app_secret`` where the connection lacks them.
        :raises GraphAuthError: where the token has expired, or app id and secret do not match.
        :raises GraphError: where Meta refuses otherwise, or does not answer.
        """
        app = {"login": self.credentials.app_id, "app_secret": self.credentials.app_secret}
        require(self.fbca_conn_id, "The exchange of the token", app)
        token = tokens.exchange(self.get_conn(), str(app["login"]), str(app["app_secret"]))
        mask_secret(token.value)
        return token

    def list_ad_accounts(self) -> list[dict[str, Any]]:
        """Return the ad accounts that the token may see, with ``id``, ``account_id``, ``name`` and ``account_status``.

        :raises GraphError: where Meta refuses.
        """
        return self._audiences.ad_accounts()

    def create_audience(
        self,
        name: str,
        *,
        description: str = "",
        customer_file_source: str = "USER_PROVIDED_ONLY",
        is_value_based: bool = False,
        retention_days: int | None = None,
    ) -> str:
        """Create an empty audience and return its id.

        Not idempotent: Meta keeps names not unique. Prefer :meth:`find_or_create_audience`.

        :raises GraphError: where Meta refuses.
        """
        audience_id = self._audiences.create(
            self.account_id,
            name=name,
            description=description or None,
            customer_file_source=customer_file_source,
            is_value_based=is_value_based,
            retention_days=retention_days,
        )
        self.log.info("Created audience %s in ad account %s.", audience_id, self.account_id)
        return audience_id

    def find_audience(self, name: str) -> dict[str, Any] | None:
        """Return the customer-list audience of an exact name, or None.

        :raises GraphRequestError: where several have it.
        """
        return self._audiences.find(self.account_id, name)

    def find_or_create_audience(
        self,
        name: str,
        *,
        description: str = "",
        customer_file_source: str = "USER_PROVIDED_ONLY",
        is_value_based: bool = False,
        retention_days: int | None = None,
        reuse: bool = True,
    ) -> str:
        """Return the id of the audience of that name, created where there is none.

        :param reuse: False to refuse an audience that exists.
        :raises GraphRequestError: where it exists and may not be reused, or is value-based and should not be, or the
            other way round.
        """
        found = self.find_audience(name)
        if found is None:
            return self.create_audience(
                name,
                description=description,
                customer_file_source=customer_file_source,
                is_value_based=is_value_based,
                retention_days=retention_days,
            )
        audience_id = str(found["id"])
        if not reuse:
            raise GraphRequestError(
                f"Audience {audience_id} has the wanted name already, and if_exists is 'fail'.",
                remedy="Choose another name, or if_exists='reuse'.",
            )
        if bool(found.get("is_value_based")) != is_value_based:
            raise GraphRequestError(
                f"Audience {audience_id} has the wanted name, but is_value_based={not is_value_based}.",
                remedy="Choose another name, or the same is_value_based: it cannot be changed.",
            )
        self.log.info("Found audience %s in ad account %s.", audience_id, self.account_id)
        return audience_id

    def get_audience(self, audience_id: str) -> dict[str, Any]:
        """Return the fields of an audience as Meta gives them.

        :raises GraphNotFoundError: where there is none, or the token may not see it.
        """
        return self._audiences.get(audience_id)

    def ready_audience(self, audience_id: str) -> Audience:
        """Return an audience after checking that people can be sent to it.

        :param audience_id: digits.
        :raises GraphNotFoundError: where there is none, or the token may not see it.
        :raises ConnectionFieldsError: where it belongs to another ad account than the connection's.
        :raises GraphRequestError: where it is no customer list.
        :raises GraphTermsError: where the Custom Audience terms are not accepted.
        """
        found = self.get_audience(audience_id)
        owner = self._owner_of(audience_id, found)
        if found.get("subtype", "CUSTOM") != "CUSTOM":
            raise GraphRequestError(
                f"Audience {audience_id} is of subtype {safe_text(found['subtype'])} and takes no customer list.",
                remedy="Create one with FacebookCreateCustomAudienceOperator.",
            )
        self._require_terms(owner)
        return Audience.from_graph(found)

    def look_at(self, audience_id: str, wanted: Wanted) -> Finding:
        """Look once whether an audience is ready, by one small request that is not repeated.

        :param audience_id: digits.
        :param wanted: what must be so.
        :returns: what is still to be waited for. A rate limit, or a fault that passes, is such a thing too.
        :raises ConnectionFieldsError: where the audience belongs to another ad account than the connection's.
        :raises GraphFlaggedError: where a person must clear something first.
        :raises GraphError: where waiting does not help.
        """
        try:
            found = read_status(self.get_conn(), audience_id)
            self._owner_of(audience_id, found)
        except GraphRetryableError as error:
            pause = error.wait_seconds if isinstance(error, GraphThrottledError) else None
            return Finding(f"it could not be read. {error}", pause=pause or 0.0)
        return wanted.judge(audience_id, found)

    def update_audience(self, audience_id: str, **values: Any) -> None:
        """Change fields of an audience (``name``, ``description``, ``retention_days``), not its people."""
        self._audiences.update(audience_id, **values)

    def delete_audience(self, audience_id: str, *, ignore_missing: bool = True) -> bool:
        """Delete an audience for good; ads that use it stop.

        :param ignore_missing: whether one that cannot be found is fine; Meta does not tell a missing audience from one
            that the token may not see, so the log warns.
        :returns: whether Meta deleted it now.
        :raises GraphError: where Meta refuses, for one because lookalikes were made from it.
        """
        try:
            self._audiences.delete(audience_id)
        except GraphNotFoundError as error:
            if not ignore_missing:
                raise
            self.log.warning("Audience %s is taken for deleted: %s", audience_id, error)
            return False
        self.log.info("Deleted audience %s.", audience_id)
        return True

    @property
    def longest_flight(self) -> float:
        """Seconds after its start by which no request of ours can still be on its way to Meta."""
        return self.get_conn().longest_flight

    def wait_at_most(self, seconds: float, *, sleep: Callable[[float], None] | None = None) -> None:
        """Set the longest wait for Meta's rate limit within a call; beyond, ``GraphThrottledError`` is raised at once.

        :param seconds: of each wait.
        :param sleep: waits in place of :func:`time.sleep`; what it raises ends the call.
        """
        self.get_conn().wait_at_most(seconds, sleep=sleep)

    def minutes_for(self, requests: int) -> float:
        """Return the least minutes that requests to an audience take under Meta's rate limit as it stands now."""
        return self.get_conn().usage.minutes_for(requests)

    @property
    def may_still_land(self) -> bool:
        """Whether a request of ours whose answer was given up may still be on its way to Meta."""
        since = self.get_conn().unknown_since
        return since is not None and time.monotonic() < since + self.longest_flight

    def sender(
        self,
        audience_id: str,
        *,
        batch_size: int = 10_000,
        max_concurrency: int = 4,
        new_session: Callable[[], int] | None = None,
        on_batch: Callable[[BatchAck], None] | None = None,
        before_request: Callable[[], None] | None = None,
        payload_extra: Mapping[str, Any] | None = None,
        sleep: Callable[[float], None] = time.sleep,
    ) -> UserUploader:
        """Return what sends prepared rows (hashed record batches) to an audience.

        :param batch_size: most rows of a request.
        :param max_concurrency: most requests in flight.
        :param new_session: gives the id of each session, before its first use; by default a random one.
        :param on_batch: told of each batch that Meta acknowledged.
        :param before_request: called before every request; what it raises stops the sending.
        :param payload_extra: further members of every payload, as :meth:`payload_extra` gives them.
        :param sleep: waits until requests without an answer can land no more; what it raises ends the wait.
        """
        return UserUploader(
            self.get_conn(),
            audience_id,
            batch_size=batch_size,
            max_concurrency=max_concurrency,
            new_session=new_session or (lambda: secrets.randbelow(MAX_SESSION_ID) + 1),
            on_batch=on_batch,
            before_request=before_request,
            payload_extra=payload_extra,
            sleep=sleep,
        )

    def payload_extra(self, keys: Collection[str]) -> dict[str, list[str]]:
        """Return what Meta wants beside rows of ids that only mean something within an app or a page.

        :param keys: of the rows.
        :raises ConnectionFieldsError: where the connection does not name the app (login) or the page (``page_id``).
        """
        return payload_extra(self.fbca_conn_id, self.credentials, keys)

    def add_users(self, audience_id: str, users: object, **preparation: Any) -> UploadTotals:
        """Add people at once, past the ledger: a refresh will not know them. Operators are what schedules should use.

        :param audience_id: digits.
        :param users: anything with ``__arrow_c_stream__``, columns as for the operators.
        :param preparation: ``columns``, ``default_country``, ``transliterate``, ``hashed``, ``value_based``,
            ``limited_data_use``.
        :raises MappingError: where the columns make no usable identifier.
        :raises GraphError: where Meta refuses.
        """
        return self.sender(audience_id).add(prepared(users, **preparation), total=row_count(users))

    def remove_users(self, audience_id: str, users: object, **preparation: Any) -> UploadTotals:
        """Remove people at once, past the ledger; parameters and errors as for :meth:`add_users`."""
        return self.sender(audience_id).remove(prepared(users, removal=True, **preparation), total=row_count(users))

    def replace_users(self, audience_id: str, users: object, **preparation: Any) -> UploadTotals:
        """Replace everybody in an audience at once, past the ledger; parameters and errors as for :meth:`add_users`."""
        return self.sender(audience_id).replace(prepared(users, **preparation), total=row_count(users))

    @cached_property
    def _api(self) -> GraphApi:
        credentials = self.credentials
        api = GraphApi(
            access_token=credentials.access_token,
            app_id=credentials.app_id,
            app_secret=credentials.app_secret,
            base_url=credentials.base_url,
            api_version=self._api_version or credentials.api_version,
            timeout=credentials.timeout or DEFAULT_TIMEOUT,
            proxies=credentials.proxies,
            delete_style=credentials.delete_style or DELETE_STYLES[0],
        )
        proof = api.appsecret_proof
        if proof:
            mask_secret(proof)
        return api

    @cached_property
    def _audiences(self) -> Audiences:
        return Audiences(self.get_conn())

    @property
    def _account_or_none(self) -> str | None:
        return account_number(self._ad_account_id) if self._ad_account_id else self.credentials.ad_account_id

    def _owner_of(self, audience_id: str, found: Mapping[str, Any]) -> str:
        """Return the ad account of an audience as it was read, which must be the one that the hook is for."""
        owner = digits_of(found, "account_id")
        if self._account_or_none not in {None, owner}:
            raise ConnectionFieldsError(
                f"Audience {audience_id} belongs to ad account {owner}, and the task is for {self._account_or_none}.",
                fields=("ad_account_id",),
                remedy="Correct audience_id, or ad_account_id of the task or its connection.",
            )
        return owner

    def _require_terms(self, account_id: str) -> None:
        if self._audiences.terms_accepted(account_id) is False:
            raise GraphTermsError(
                f"The Custom Audience terms are not accepted for ad account {account_id}.",
                remedy=f"A person (no system user) of its business accepts them at {terms_page(account_id)}",
            )
