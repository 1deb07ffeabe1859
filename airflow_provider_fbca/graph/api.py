"""The client: an API object of Meta's own SDK that talks to Meta the way this package wants it.

Everything that goes to Meta goes through :class:`GraphApi`, calls of SDK objects included.
"""

from __future__ import annotations

import hashlib
import json
import logging
import time
import traceback
from dataclasses import replace
from http import HTTPStatus
from typing import TYPE_CHECKING, Any, NoReturn

from facebook_business.api import FacebookAdsApi, FacebookResponse

from airflow_provider_fbca.exceptions import (
    GraphError,
    GraphNotFoundError,
    GraphThrottledError,
)
from airflow_provider_fbca.graph.calls import Call, Requests
from airflow_provider_fbca.graph.credentials import DEFAULT_API_VERSION, DEFAULT_BASE_URL, DEFAULT_TIMEOUT, Credentials
from airflow_provider_fbca.graph.encoding import without_identity
from airflow_provider_fbca.graph.errors import ALIAS_UNKNOWN, error_from_response
from airflow_provider_fbca.graph.retry import Repeatable, RetryPolicy, repeat_any, repeat_unsent
from airflow_provider_fbca.graph.throttle import Budget, budget_for
from airflow_provider_fbca.graph.transport import Answer, Request, Transport
from airflow_provider_fbca.graph.usage import Usage

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from airflow_provider_fbca.graph.payload import Payload

log = logging.getLogger(__name__)

#: Seconds for which Meta may not know an audience yet that it has just created.
_FRESH_SECONDS = 60.0
_VERSION_WARNING = "X-Ad-Api-Version-Warning"


class GraphResponse(FacebookResponse):  # type: ignore[misc]  # the SDK is untyped
    """A successful answer, in the SDK's form. It holds nothing of the request but its method and path."""

    def is_success(self) -> bool:
        """True: anything else was raised as an exception."""
        return True


class GraphApi(FacebookAdsApi):  # type: ignore[misc]  # the SDK is untyped
    """An API object of Meta's SDK, safe to pass as ``api=`` to any of its classes and to share between threads.

    What every call gets:

    * POST and DELETE have JSON bodies; the token is in the ``Authorization`` header only, and neither it nor the app
      secret or its proof is ever in an address;
    * a GET that carries anything secret, or an overlong one, goes as POST with ``method=get`` in a form body, which is
      how Meta's own PHP SDK sent every call and what Meta's guide advises for large requests;
    * redirects are not followed, certificates are checked, time and size are bounded;
    * success is a status of 2xx with a JSON object that has no ``error``; all else is an exception of this package's
      :class:`~airflow_provider_fbca.exceptions.GraphError` family;
    * passing faults are tried again, a POST only if the first try surely had no effect;
    * before each try it waits as Meta's rate limits of the ad account ask for, together with all other calls to that
      account in this process (:mod:`airflow_provider_fbca.graph.throttle`).

    It never becomes the SDK's process-wide default, and installs no crash reporter.

    :param access_token: token of a system user or a user.
    :param app_id: the token's app; needed to ask about the token as the app.
    :param app_secret: of that app; with it every call carries ``appsecret_proof``.
    :param base_url: where the Graph API is, Meta's by default. Plain http is for this machine only.
    :param api_version: such as ``v26.0``; this package's default without it.
    :param timeout: seconds for one exchange. A call that is tried again takes longer.
    :param proxies: by scheme, as requests has them; what the environment says without it.
    :param delete_style: ``body``, or ``method_override`` where something on the way drops the body of a DELETE: it goes
        as POST then, with ``method=DELETE`` in its body.
    :param retry: how often and how long to try.
    :param clock: seconds that only grow, in place of :func:`time.monotonic`, for tests.
    :raises ConnectionFieldsError: a field has an impossible value; all of them are named at once.

    .. seealso::
        https://developers.facebook.com/docs/graph-api/guides/secure-requests (proof),
        https://developers.facebook.com/docs/graph-api/using-graph-api#largerequests (``method=get``),
        https://developers.facebook.com/documentation/ads-commerce/marketing-api/audiences/guides/custom-audiences
        (``method=DELETE``)
    """

    def __init__(
        self,
        *,
        access_token: str,
        app_id: str | None = None,
        app_secret: str | None = None,
        base_url: str | None = None,
        api_version: str | None = None,
        timeout: float = DEFAULT_TIMEOUT,
        proxies: Mapping[str, str] | None = None,
        delete_style: str = "body",
        retry: RetryPolicy | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        version = api_version or DEFAULT_API_VERSION
        credentials = Credentials(
            access_token=access_token,
            app_id=app_id,
            app_secret=app_secret,
            base_url=base_url or DEFAULT_BASE_URL,
            api_version=version,
            timeout=timeout,
            proxies=proxies,
            delete_style=delete_style,
        )
        super().__init__(credentials, version)
        self.base_url = credentials.GRAPH
        self.app_id = app_id
        self.retry = retry or RetryPolicy()
        self._clock = clock
        # Proxies of the environment are for the world outside, not for a server on this machine.
        self._transport = Transport(timeout=timeout, proxies=proxies, use_environment=not credentials.is_local)
        self._credentials = credentials
        self._requests = Requests(credentials, version)
        # Never shown: where the app is not known, each token has limits of its own.
        self._caller = app_id or hashlib.sha256(access_token.encode()).digest()
        self._accounts: dict[str, str] = {}
        self._created: dict[str, float] = {}
        self._warned_of_version = False
        self._unknown_since: float | None = None
        self._usage = Usage()
        self._sleep: Callable[[float], None] | None = None

    @classmethod
    def init(cls, *_args: Any, **_kwargs: Any) -> NoReturn:
        """Refuse: a default for the whole process would lend one connection's token to another.

        :raises TypeError: always.
        """
        raise TypeError("GraphApi has no process-wide default: construct it and pass it as api= to SDK objects.")

    def __repr__(self) -> str:
        return f"GraphApi(base_url={self.base_url!r}, api_version={self._api_version!r}, app_id={self.app_id!r})"

    def __copy__(self) -> GraphApi:
        return self

    def __deepcopy__(self, _memo: dict[int, Any]) -> GraphApi:
        # SDK objects refer to their API, and copies of them to the same one.
        return self

    def __reduce__(self) -> NoReturn:
        raise TypeError("A GraphApi holds credentials and open connections, and is not pickled.")

    @property
    def api_version(self) -> str:
        """The version of the API that calls go to, such as ``v26.0``."""
        return str(self._api_version)

    @property
    def appsecret_proof(self) -> str | None:
        """What signs the calls of this token; None without an app secret. A secret like the token."""
        return self._credentials.proof_of(self.token)

    @property
    def token(self) -> str:
        """The access token."""
        return self._credentials.access_token

    @property
    def app_token(self) -> str | None:
        """The token of the app itself; None unless both its id and its secret are known."""
        return self._credentials.app_token

    @property
    def longest_flight(self) -> float:
        """Seconds after its start by which no single request can still be on its way to Meta."""
        return self._transport.longest_flight

    @property
    def unknown_since(self) -> float | None:
        """When the answer to a write was last given up, by the client's clock; None if all were answered.

        Such a write may still land until :attr:`longest_flight` seconds later, also if another try of it was answered.
        """
        return self._unknown_since

    def close(self) -> None:
        """Close the kept-alive connections. The object stays usable."""
        self._transport.close()

    def call(  # noqa: PLR0917 - the signature of the SDK
        self,
        method: str,
        path: Sequence[str] | str,
        params: Mapping[str, Any] | None = None,
        headers: Mapping[str, str] | None = None,
        files: Mapping[str, Any] | None = None,
        url_override: str | None = None,
        api_version: str | None = None,
    ) -> GraphResponse:
        """Make a call of the Graph API, as SDK objects do.

        :param method: GET, POST or DELETE.
        :param path: parts of the path after the version, or a whole address at the same host (a ``paging.next``, whose
            token is thrown away).
        :param params: parameters; an ``access_token`` among them replaces the connection's for this call.
        :param headers: further headers.
        :param files: open files by name, for uploads other than of people.
        :param url_override: another host of Meta's, such as the one for videos.
        :param api_version: another version for this call.
        :returns: the answer; links in it to other pages have lost their token.
        :raises GraphError: Meta refused the call or did not answer it.
        """
        call = Call(method.upper(), path, params or {}, headers or {}, files or {}, url_override, api_version)
        answer, value = self._perform(
            call,
            self._requests.of(call, account=self._account_of(call.node)),
            repeat_unsent if call.method == "POST" else repeat_any,
            kind=list if "batch" in call.params and not path else dict,
        )
        summary = {"method": call.method, "path": call.doing.partition(" ")[2]}
        return GraphResponse(json.dumps(without_identity(value)), answer.status, answer.headers, summary)

    def request(
        self,
        method: str,
        path: Sequence[str],
        params: Mapping[str, Any] | None = None,
        *,
        repeatable: Repeatable = repeat_any,
        before_try: Callable[[], None] | None = None,
        sleep: Callable[[float], None] | None = None,
    ) -> dict[str, Any]:
        """Make a call and return its answer's value, for calls that the SDK has no good form for.

        :param method: GET, POST or DELETE.
        :param path: parts of the path after the version.
        :param params: parameters.
        :param repeatable: after which errors the call may be made again.
        :param before_try: called right before each try, after its wait; what it raises ends the call.
        :param sleep: waits before tries, so that a pause can be cut short.
        :returns: the JSON object that Meta answered; links in it to other pages have lost their token.
        :raises GraphError: Meta refused the call or did not answer it.
        """
        call = Call(method, path, params or {})
        request = self._requests.of(call, account=self._account_of(call.node))
        _, value = self._perform(call, request, repeatable, before_try=before_try, sleep=sleep)
        cleaned: dict[str, Any] = without_identity(value)
        return cleaned

    def send(
        self,
        method: str,
        path: Sequence[str],
        members: Mapping[str, bytes | Payload],
        *,
        repeatable: Repeatable = repeat_any,
        before_try: Callable[[], None] | None = None,
        sleep: Callable[[float], None] | None = None,
    ) -> dict[str, Any]:
        """Send a body whose members are JSON already, which is how people are uploaded.

        :param method: POST or DELETE.
        :param path: parts of the path after the version.
        :param members: top-level members of the body, by name; the proof is added.
        :param repeatable: after which errors the body may be sent again.
        :param before_try: called right before each try, after its wait; what it raises ends the call.
        :param sleep: waits before tries, so that a pause can be cut short.
        :returns: the JSON object that Meta answered.
        :raises GraphError: Meta refused the call or did not answer it.
        """
        call = Call(method, path)
        request = self._requests.of_members(call, members, account=self._account_of(call.node))
        _, value = self._perform(call, request, repeatable, before_try=before_try, sleep=sleep)
        return dict(value)

    @property
    def usage(self) -> Usage:
        """What the last answer said on Meta's rate limits."""
        return self._usage

    def wait_at_most(self, seconds: float, *, sleep: Callable[[float], None] | None = None) -> None:
        """Set the longest wait for a rate limit inside a call; a longer one is raised instead, before it begins.

        :param seconds: from 0 on.
        :param sleep: waits in calls that bring nothing else to wait with; :func:`time.sleep` without it.
        """
        self.retry = replace(self.retry, throttle_pause=seconds)
        self._sleep = sleep

    def throttle_of(self, node: str) -> Budget:
        """Return what the rate limits leave of the ad account that a node belongs to.

        All clients of this process that call as the same app at the same host share it.

        :param node: an ad account (with ``act_``) or an audience; one whose account is not known (see
            :meth:`remember`) has a budget of its own.
        """
        account = self._account_of(node)
        whose = f"ad account {account}" if account else f"calls on {node}"
        return budget_for(self.base_url, self._caller, account or f"/{node}", whose=whose, clock=self._clock)

    def remember(self, audience_id: str, account_id: str, *, created: bool = False) -> None:
        """Note the ad account of an audience, whose rate limits its calls count for, and which errors then name.

        Reading an audience with its ``account_id`` notes it too.

        :param audience_id: digits.
        :param account_id: digits.
        :param created: that the audience was created just now: for a minute, that Meta does not know it is a reason to
            try again (https://github.com/facebook/facebook-ruby-business-sdk/issues/124).
        """
        self._accounts[audience_id] = account_id
        if created:
            self._created[audience_id] = self._clock()

    def _account_of(self, node: str) -> str | None:
        """The ad account of a node, as digits; None where it is not known."""
        return node[4:] if node.startswith("act_") else self._accounts.get(node)

    def _perform(
        self,
        call: Call,
        request: Request,
        repeatable: Repeatable,
        *,
        kind: type = dict,
        before_try: Callable[[], None] | None = None,
        sleep: Callable[[float], None] | None = None,
    ) -> tuple[Answer, Any]:
        """Make one call with its tries; the only way to the transport."""
        sleep = sleep or self._sleep

        def one_try() -> tuple[Answer, Any]:
            turn = self.throttle_of(call.node).turn(sleep=self.retry.sleeper(sleep), at_most=self.retry.throttle_pause)
            with turn:
                if before_try:
                    before_try()
                self._num_requests_attempted += 1
                try:
                    answer, value = self._exchange(call, request, kind)
                except GraphError as error:
                    if error.outcome_unknown:
                        self._unknown_since = self._clock()
                    # They refer to the error in turn, and to the body: it goes with its request, not when garbage is
                    # collected.
                    traceback.clear_frames(error.__traceback__)
                    raise
            self._num_requests_succeeded += 1
            self._warn_of_version(answer)
            return answer, value

        def may_repeat(error: BaseException) -> bool:
            return repeatable(error) or self._is_too_fresh(call.node, error)

        return self.retry.run(one_try, repeatable=may_repeat, sleep=sleep)

    def _exchange(self, call: Call, request: Request, kind: type) -> tuple[Answer, Any]:
        answer = self._transport.exchange(request)
        value = _value_of(answer, kind)
        self._note_account(call, value)
        budget = self.throttle_of(call.node)
        self._usage = Usage.from_headers(answer.headers)
        budget.learn(self._usage)
        if value is not None:
            return answer, value
        error = error_from_response(answer.status, answer.headers, answer.body, request.place)
        if isinstance(error, GraphThrottledError):
            budget.refuse_for(error.wait_seconds)
        raise error

    def _note_account(self, call: Call, value: Any) -> None:
        """Learn from the reading of an audience which account it belongs to."""
        if call.method != "GET" or not isinstance(value, dict) or value.get("id") != call.node:
            return
        account = value.get("account_id")
        if isinstance(account, str) and account.isdecimal():
            self.remember(call.node, account)

    def _is_too_fresh(self, node: str, error: BaseException) -> bool:
        created = self._created.get(node)
        return (
            created is not None
            and isinstance(error, GraphNotFoundError)
            and error.code == ALIAS_UNKNOWN
            and self._clock() - created < _FRESH_SECONDS
        )

    def _warn_of_version(self, answer: Answer) -> None:
        if _VERSION_WARNING in answer.headers and not self._warned_of_version:
            self._warned_of_version = True
            # The SDK's own default plays no part: the version is a field of the connection.
            log.warning("Meta serves API version %s no more and used a later one: raise api_version.", self.api_version)


def _value_of(answer: Answer, kind: type) -> Any | None:
    """The value of a success; None for all else."""
    if not HTTPStatus.OK <= answer.status < HTTPStatus.MULTIPLE_CHOICES:
        return None
    try:
        value = json.loads(answer.body)
    except (ValueError, RecursionError):
        return None
    if not isinstance(value, kind) or (isinstance(value, dict) and ("error" in value or value.get("success") is False)):
        return None
    return value
