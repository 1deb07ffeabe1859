"""From a call to what goes over the wire: what is in the address, what in the body, and for whose eyes."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any
from urllib.parse import quote, urlsplit

from airflow_provider_fbca.exceptions import GraphRequestError
from airflow_provider_fbca.graph.credentials import is_metas, is_version
from airflow_provider_fbca.graph.encoding import IDENTITY, form_text, json_body, multipart_body, split_address
from airflow_provider_fbca.graph.errors import Place
from airflow_provider_fbca.graph.payload import json_bytes, request_body
from airflow_provider_fbca.graph.transport import Request

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from airflow_provider_fbca.graph.credentials import Credentials
    from airflow_provider_fbca.graph.payload import Payload

# Parameters that never go into an address.
_SECRET = frozenset({*IDENTITY, "input_token", "client_secret", "fb_exchange_token", "code", "payload"})
#: Longer queries are sent as a form: the limit is undocumented, and 20 kB were seen to fail.
_LONGEST_QUERY = 1500
_JSON = "application/json"
_FORM = "application/x-www-form-urlencoded"


@dataclass(frozen=True, slots=True, repr=False)
class Call:
    """A call as it is asked for, before it becomes a request.

    :param method: GET, POST or DELETE.
    :param path: parts of the path after the version, or a whole address.
    :param params: parameters.
    :param headers: further headers.
    :param files: open files by name.
    :param url_override: another host of Meta's.
    :param api_version: another version than the client's.
    """

    method: str
    path: Sequence[str] | str
    params: Mapping[str, Any] = field(default_factory=dict)
    headers: Mapping[str, str] = field(default_factory=dict)
    files: Mapping[str, Any] = field(default_factory=dict)
    url_override: str | None = None
    api_version: str | None = None

    @property
    def doing(self) -> str:
        """The call in words that hold no parameters."""
        if isinstance(self.path, str):
            return f"{self.method} {urlsplit(self.path).path.strip('/').partition('/')[2]}"
        return f"{self.method} {'/'.join(self.parts) or 'batch'}"

    @property
    def parts(self) -> list[str]:
        """The path after the version. SDK objects give an empty second part to calls on the object itself."""
        return [str(part) for place, part in enumerate(self.path) if place == 0 or part]

    @property
    def node(self) -> str:
        """The id that the call is about."""
        return self.doing.partition(" ")[2].partition("/")[0]


class Requests:
    """Makes the requests of one connection.

    :param credentials: of the connection.
    :param version: of the API, for calls that name no other.
    """

    def __init__(self, credentials: Credentials, version: str) -> None:
        self._credentials = credentials
        self._version = version

    def of(self, call: Call, *, account: str | None) -> Request:
        """Decide how a call goes over the wire: what is in the address, and what in the body.

        :param call: an ``access_token`` among its parameters replaces the connection's.
        :param account: digits of the ad account that it is about, for errors; None where that is not known.
        :raises GraphRequestError: it would take the token elsewhere, or has no form that Meta knows.
        """
        address, asked = self._address(call), dict(call.params)
        if isinstance(call.path, str):
            address, in_address = split_address(address)
            asked = {**in_address, **asked}
        token = str(asked.get("access_token") or self._credentials.access_token)
        params = {name: value for name, value in asked.items() if value is not None and name not in IDENTITY}
        proof = self._credentials.proof_of(token)
        if proof:
            params["appsecret_proof"] = proof
        method, address, body, kind = self._form(call, address, params)
        return self._wire(call, method, address, token=token, body=body, kind=kind, account=account)

    def of_members(self, call: Call, members: Mapping[str, bytes | Payload], *, account: str | None) -> Request:
        """Put members that are JSON already into a body.

        :param call: a POST or DELETE without parameters.
        :param members: top-level members of the body, by name; the proof is added.
        :param account: as for :meth:`of`.
        :raises GraphRequestError: as :meth:`of`.
        """
        method, token = call.method, self._credentials.access_token
        proof = self._credentials.proof_of(token)
        if proof:
            members = {**members, "appsecret_proof": json_bytes(proof)}
        if method == "DELETE" and self._credentials.overrides_delete:
            method, members = "POST", {**members, "method": json_bytes("DELETE")}
        body = request_body(members)
        return self._wire(call, method, self._address(call), token=token, body=body, kind=_JSON, account=account)

    def _form(self, call: Call, address: str, params: Mapping[str, Any]) -> tuple[str, str, bytes | None, str]:
        """Return the method as it goes over the wire, the whole address, the body and its content type."""
        if call.files:
            return call.method, address, *multipart_body(params, call.files)
        if call.method == "DELETE" and params and self._credentials.overrides_delete:
            return "POST", address, json_body({**params, "method": "DELETE"}), _JSON
        if call.method != "GET":
            return call.method, address, json_body(params), _JSON
        query = form_text(params)
        if _SECRET.isdisjoint(params) and len(query) <= _LONGEST_QUERY:
            return "GET", f"{address}?{query}" if query else address, None, ""
        return "POST", address, form_text({**params, "method": "get"}).encode(), _FORM

    def _wire(
        self, call: Call, method: str, address: str, *, token: str, body: bytes | None, kind: str, account: str | None
    ) -> Request:
        headers = {"Accept": _JSON, "User-Agent": "airflow-provider-fbca", **call.headers}
        if body is not None:
            headers["Content-Type"] = kind
        place = Place(
            doing=call.doing,
            write=call.method != "GET",
            account=account,
            version=call.api_version or self._version,
        )
        return Request(method, address, headers, body, token, place)

    def _address(self, call: Call) -> str:
        """Where a call goes. The token goes to the connection's host, and to others of Meta's only if that is one."""
        host = self._credentials.GRAPH
        if isinstance(call.path, str):
            if urlsplit(call.path)[:2] != urlsplit(host)[:2]:
                raise GraphRequestError("The address of this call is at another host, which must not get the token.")
            return call.path
        if call.url_override and not (is_metas(call.url_override) and is_metas(host)):
            raise GraphRequestError(
                "This call goes to another host, which must not get the token.",
                remedy="Such calls of the SDK (videos) work only where the connection's host is Meta's.",
            )
        base = (call.url_override or host).rstrip("/")
        version = call.api_version or self._version
        if not is_version(version):
            raise GraphRequestError("The API version of this call is not of the form v26.0.")
        parts = [quote(part, safe="") for part in call.parts]
        if not {"", ".", ".."}.isdisjoint(parts):
            raise GraphRequestError("A part of the path of this call is empty or only dots.")
        # An empty path is the root, where batches go; its address ends in a slash.
        return "/".join([base, version, *(parts or [""])])
