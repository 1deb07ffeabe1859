"""Where the Graph API is and who calls it, checked before anything is sent."""

from __future__ import annotations

import hashlib
import hmac
import ipaddress
import re
from collections.abc import Mapping
from typing import Final
from urllib.parse import urlsplit

from airflow_provider_fbca.exceptions import ConnectionFieldsError

DEFAULT_BASE_URL: Final = "https://graph.facebook.com"
#: The version of the API is this package's choice and not the SDK's, so that an update of the SDK changes nothing.
DEFAULT_API_VERSION: Final = "v26.0"
DEFAULT_TIMEOUT: Final = 60.0
#: How a DELETE with a body goes over the wire: as itself, or as POST with ``method=DELETE`` in its body.
DELETE_STYLES: Final = ("body", "method_override")

_VERSION = re.compile(r"v\d+\.\d+")
# What a header may hold: a longer text would end up in an exception of the HTTP library.
_VISIBLE = re.compile(r"[\x21-\x7e]+")
_META_HOST = re.compile(r"([a-z0-9-]+\.)*facebook\.com")


class Credentials:
    """Who calls, under the names by which the SDK knows it, without the SDK's shared HTTP session.

    :param access_token: token of a system user or a user.
    :param app_id: the token's app.
    :param app_secret: of that app.
    :param base_url: where the Graph API is; kept as ``GRAPH``, the SDK's name for it.
    :param api_version: such as ``v26.0``.
    :param timeout: seconds.
    :param proxies: by scheme.
    :param delete_style: one of :data:`DELETE_STYLES`.
    :raises ConnectionFieldsError: a field has an impossible value; all of them are named at once.
    """

    def __init__(
        self,
        *,
        access_token: str,
        app_id: str | None,
        app_secret: str | None,
        base_url: str,
        api_version: str,
        timeout: float,
        proxies: Mapping[str, str] | None,
        delete_style: str,
    ) -> None:
        problems = {
            "password": _problem_of_text("access token", access_token),
            "app_secret": None if app_secret is None else _problem_of_text("app secret", app_secret),
            "host": _problem_of_address(base_url),
            "api_version": None if is_version(api_version) else "the API version must look like v26.0",
            "timeout": _problem_of_timeout(timeout),
            "proxies": _problem_of_proxies(proxies),
            "delete_style": None if delete_style in DELETE_STYLES else "delete_style is body or method_override",
        }
        found = {name: problem for name, problem in problems.items() if problem}
        if found:
            raise ConnectionFieldsError(
                f"The connection to Meta cannot be used: {'; '.join(found.values())}.",
                fields=tuple(found),
                remedy=f"Correct these fields: {', '.join(found)}.",
            )
        self.GRAPH = _normal_address(base_url)
        self.access_token = access_token
        self.app_id = app_id
        self.app_secret = app_secret
        self.timeout = timeout
        self.proxies = dict(proxies) if proxies else None
        self.overrides_delete = delete_style == "method_override"

    def __repr__(self) -> str:
        return f"Credentials(GRAPH={self.GRAPH!r}, app_id={self.app_id!r})"

    @property
    def is_local(self) -> bool:
        """Whether the Graph API is a stand-in on this machine."""
        return is_loopback(urlsplit(self.GRAPH).hostname or "")

    @property
    def app_token(self) -> str | None:
        """The token of the app itself; None unless both its id and its secret are known."""
        return f"{self.app_id}|{self.app_secret}" if self.app_id and self.app_secret else None

    def proof_of(self, token: str) -> str | None:
        """The proof that the caller knows the app's secret; None without a secret, and for the app's own token.

        :param token: the token that the call is made with.

        .. seealso:: https://developers.facebook.com/docs/graph-api/guides/secure-requests
        """
        if not self.app_secret or token == self.app_token:
            return None
        return hmac.new(self.app_secret.encode(), token.encode(), hashlib.sha256).hexdigest()

    def _gen_appsecret_proof(self) -> str | None:
        # The SDK's own name, which its asynchronous requests call.
        return self.proof_of(self.access_token)


def is_version(text: object) -> bool:
    """Whether a text has the form of an API version.

    :param text: such as ``v26.0``.
    """
    return isinstance(text, str) and _VERSION.fullmatch(text) is not None


def is_loopback(host: str) -> bool:
    """Whether a host is this machine.

    :param host: a name or an address, without a port.
    """
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def is_metas(address: str) -> bool:
    """Whether an address is one of Meta's own, over https.

    :param address: with its scheme.
    """
    parts = urlsplit(address)
    return parts.scheme == "https" and _META_HOST.fullmatch(parts.netloc) is not None


def _normal_address(base_url: str) -> str:
    with_scheme = base_url if "://" in base_url else f"https://{base_url}"
    return with_scheme.rstrip("/")


def _problem_of_text(name: str, value: object) -> str | None:
    if isinstance(value, str) and _VISIBLE.fullmatch(value):
        return None
    return f"the {name} is empty, or has a blank or a character that it can never have"


def _problem_of_address(base_url: object) -> str | None:
    wanted = "the host must be an address such as https://graph.facebook.com"
    if not isinstance(base_url, str) or not _VISIBLE.fullmatch(base_url):
        return wanted
    try:
        parts = urlsplit(_normal_address(base_url))
        host, _port = parts.hostname or "", parts.port
    except ValueError:
        return wanted
    if parts.scheme not in {"http", "https"} or not host or parts.query or parts.fragment:
        return wanted
    if "@" in parts.netloc:
        return "the host must not hold a user or a password"
    if parts.scheme == "http" and not is_loopback(host):
        return "the host has plain http, which is allowed for this machine only (localhost, 127.0.0.1, [::1])"
    return None


def _problem_of_timeout(timeout: object) -> str | None:
    if isinstance(timeout, int | float) and not isinstance(timeout, bool) and 0 < timeout < float("inf"):
        return None
    return "the timeout must be a number of seconds above 0"


def _problem_of_proxies(proxies: object) -> str | None:
    if proxies is None:
        return None
    if isinstance(proxies, Mapping) and all(isinstance(text, str) for pair in proxies.items() for text in pair):
        return None
    return "the proxies must be an object from scheme to address"
