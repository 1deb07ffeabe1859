"""From an Airflow connection, or the environment, to what a call to Meta needs."""

from __future__ import annotations

import json
import os
import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from airflow_provider_fbca.compat import AirflowNotFoundException
from airflow_provider_fbca.exceptions import ConnectionFieldsError
from airflow_provider_fbca.graph.credentials import DELETE_STYLES
from airflow_provider_fbca.graph.ids import account_number

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Mapping

    from airflow.sdk import Connection

#: The connection that hooks and operators use unless told otherwise.
DEFAULT_CONN_ID = "fbca_default"

_VERSION = re.compile(r"v\d+\.\d+")
_SECONDS_MOST = 3600.0

#: Environment variables, read only where the default connection does not exist.
ENVIRONMENT = {
    "app_id": "FB_APP_ID",
    "app_secret": "FB_APP_SECRET",
    "access_token": "FB_ACCESS_TOKEN",
    "ad_account_id": "FB_AD_ACCOUNT_ID",
}


@dataclass(frozen=True)
class Credentials:
    """What is needed to call Meta for one connection; its ``repr`` shows no secret.

    :param access_token: of a user or a system user.
    :param app_id: of the app that the token belongs to, digits.
    :param app_secret: signs calls (``appsecret_proof``) where given.
    :param ad_account_id: digits without ``act_``, None where the connection names none.
    :param page_id: of the page that page-scoped user ids belong to, digits; None where the connection names none.
    :param api_version: such as ``v26.0``; None for the package's own.
    :param base_url: of the Graph API; None for Meta's. What people put there by mistake may hold a token.
    :param timeout: longest wait for an answer in seconds; None for the package's own.
    :param proxies: scheme -> address of a proxy, which may hold a password.
    :param delete_style: how calls that delete go over the wire, ``body`` or ``method_override``; None for the first.
    """

    access_token: str = field(repr=False)
    app_id: str | None = None
    app_secret: str | None = field(default=None, repr=False)
    ad_account_id: str | None = None
    page_id: str | None = None
    api_version: str | None = None
    base_url: str | None = field(default=None, repr=False)
    timeout: float | None = None
    proxies: Mapping[str, str] | None = field(default=None, repr=False)
    delete_style: str | None = None

    @property
    def secrets(self) -> tuple[str, ...]:
        """The values that must not be seen in a log."""
        return tuple(secret for secret in (self.access_token, self.app_secret) if secret)


def find(conn_id: str, get_connection: Callable[[str], Connection]) -> Credentials:
    """Read a connection, or for the default one that does not exist the environment.

    :param conn_id: of the connection.
    :param get_connection: Airflow's own.
    :raises ConnectionFieldsError: where there is neither, or fields of it are missing or malformed.
    """
    may_be_environment = conn_id == DEFAULT_CONN_ID
    try:
        return from_connection(get_connection(conn_id))
    except AirflowNotFoundException:
        found = from_environment() if may_be_environment else None
    if found is not None:
        return found
    variables = f", or {', '.join(ENVIRONMENT.values())}" if may_be_environment else ""
    raise ConnectionFieldsError(
        f"There is no connection '{conn_id}' to Meta.",
        fields=("access_token",),
        remedy="Add one of type 'Facebook Custom Audiences' in Admin > Connections with the access token as password, "
        f"or set AIRFLOW_CONN_{conn_id.upper()}{variables}.",
    )


def require(conn_id: str, purpose: str, fields: Mapping[str, str | None]) -> None:
    """Check that a connection has the fields that something needs beyond the token.

    :param conn_id: of the connection.
    :param purpose: what needs them, for the message.
    :param fields: by name, with their values.
    :raises ConnectionFieldsError: names all that are not set.
    """
    missing = tuple(name for name, value in fields.items() if not value)
    if missing:
        raise ConnectionFieldsError(
            f"{purpose} needs {' and '.join(missing)} of connection '{conn_id}', not set there.",
            fields=missing,
            remedy="Set it in Admin > Connections.",
        )


def payload_extra(conn_id: str, credentials: Credentials, keys: Collection[str]) -> dict[str, list[str]]:
    """Return what Meta wants beside rows of ids that only mean something within an app or a page.

    :param conn_id: of the connection.
    :param credentials: of the same.
    :param keys: of the rows.
    :raises ConnectionFieldsError: where the connection does not name the app (login) or the page (``page_id``).

    .. seealso:: https://developers.facebook.com/documentation/ads-commerce/marketing-api/reference/custom-audience/users
    """
    needed = {"APPUID": ("app_ids", "login", credentials.app_id)}
    needed |= {"PAGEUID": ("page_ids", "page_id", credentials.page_id)}
    extra: dict[str, list[str]] = {}
    for key, (member, field_name, value) in needed.items():
        if key in keys:
            require(conn_id, f"An upload of {key}", {field_name: value})
            extra[member] = [str(value)]
    return extra


def from_connection(connection: Connection) -> Credentials:
    """Read a connection of type ``fbca``, or one of the Apache provider's type ``facebook_social``.

    :param connection: with the token as password (``facebook_social``: extra ``access_token``).
    :raises ConnectionFieldsError: names every missing or malformed field at once.
    """
    extra = _extra(connection)
    return _checked(
        f"Connection '{connection.conn_id}'",
        "Set {fields} in Admin > Connections (or in the environment variable AIRFLOW_CONN_"
        f"{str(connection.conn_id).upper()}).",
        {
            "access_token": connection.password or extra.get("access_token"),
            "app_id": connection.login or extra.get("app_id"),
            "app_secret": extra.get("app_secret"),
            "ad_account_id": extra.get("ad_account_id") or extra.get("account_id"),
            "page_id": extra.get("page_id"),
            "api_version": extra.get("api_version"),
            "base_url": connection.host,
            "timeout": extra.get("timeout"),
            "proxies": extra.get("proxies"),
            "delete_style": extra.get("delete_style"),
        },
    )


def from_environment() -> Credentials | None:
    """Read the ``FB_*`` environment variables, or return None where none of them is set.

    :raises ConnectionFieldsError: names every missing or malformed variable at once.
    """
    found = {name: os.environ.get(variable) for name, variable in ENVIRONMENT.items()}
    if not any(found.values()):
        return None
    return _checked("The environment (FB_ACCESS_TOKEN and the like)", "Correct {fields} there.", found)


def _checked(where: str, remedy: str, found: dict[str, Any]) -> Credentials:
    given = {name: value for name, value in found.items() if value is not None and value != ""}
    faults = {} if "access_token" in given else {"access_token": "is missing (the password field of the form)"}
    for name, parse in _PARSERS.items():
        if name in given:
            try:
                given[name] = parse(given[name])
            except ValueError:
                faults[name] = _FORMS[name]
    if faults:
        told = "; ".join(f"{name} {fault}" for name, fault in faults.items())
        raise ConnectionFieldsError(
            f"{where} cannot be used: {told}.", fields=tuple(faults), remedy=remedy.format(fields=", ".join(faults))
        )
    return Credentials(**given)


def _extra(connection: Connection) -> dict[str, Any]:
    try:
        return dict(connection.extra_dejson)
    except (ValueError, TypeError):
        raise ConnectionFieldsError(
            f"The extra field of connection '{connection.conn_id}' is not a JSON object.",
            fields=("extra",),
            remedy="Correct it in Admin > Connections.",
        ) from None


def _seconds(value: object) -> float:
    seconds = float(str(value))
    if not 0 < seconds <= _SECONDS_MOST:
        raise ValueError
    return seconds


def _digits(value: object) -> str:
    if not str(value).isdecimal():
        raise ValueError
    return str(value)


def _version(value: object) -> str:
    if not _VERSION.fullmatch(str(value)):
        raise ValueError
    return str(value)


def _proxies(value: object) -> dict[str, str]:
    found = json.loads(value) if isinstance(value, str) else value
    if not isinstance(found, dict):
        raise ValueError  # noqa: TRY004 - the caller tells forms by ValueError
    return {str(scheme): str(address) for scheme, address in found.items()}


def _delete_style(value: object) -> str:
    if value not in DELETE_STYLES:
        raise ValueError
    return str(value)


_PARSERS = {
    "ad_account_id": account_number,
    "page_id": _digits,
    "api_version": _version,
    "timeout": _seconds,
    "proxies": _proxies,
    "delete_style": _delete_style,
}
_FORMS = {
    "ad_account_id": "is not an ad account id (digits, with or without act_ in front)",
    "page_id": "is not the id of a page (digits)",
    "api_version": "is not a Graph API version (such as v26.0)",
    "timeout": "is not a number of seconds between 0 and 3600",
    "delete_style": "is neither body nor method_override",
    "proxies": 'is not a JSON object such as {"https": "http://proxy.example.com:3128"}',
}
