"""Parameters to bodies, and answers to values without credentials."""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import date
from typing import Any, Final
from urllib.parse import parse_qsl, urlencode, urlsplit, urlunsplit

import requests

from airflow_provider_fbca.exceptions import GraphRequestError

#: Parameters that say who asks. Links in Meta's answers carry them too.
IDENTITY: Final = ("access_token", "appsecret_proof")


def json_body(params: Mapping[str, Any]) -> bytes:
    """Parameters as one JSON object.

    :param params: values of any depth; SDK objects among them become their data.
    :raises GraphRequestError: JSON has no form for a value.
    """
    return _json_text(dict(params)).encode()


def form_text(params: Mapping[str, Any]) -> str:
    """Parameters as a query or a form: text as it is and all else as JSON, which is how the SDK does it.

    :param params: values of any depth.
    :raises GraphRequestError: JSON has no form for a value.
    """
    return urlencode(_form_fields(params))


def multipart_body(params: Mapping[str, Any], files: Mapping[str, Any]) -> tuple[bytes, str]:
    """Parameters and files as one body.

    :param params: values of any depth.
    :param files: open files by name.
    :returns: the body and its content type.
    :raises GraphRequestError: JSON has no form for a value, or a file is empty.
    """
    # The address is thrown away: preparing a request is how requests offers its multipart encoding.
    prepared = requests.Request("POST", "https://localhost", data=_form_fields(params), files=dict(files)).prepare()
    if not isinstance(prepared.body, bytes):
        raise GraphRequestError("The files of this call could not be read.")
    return prepared.body, prepared.headers["Content-Type"]


def without_identity(value: Any) -> Any:
    """Take the token and the proof out of links to further pages, wherever they are in an answer.

    :param value: an answer or a part of one.
    :returns: a copy.
    """
    if isinstance(value, dict):
        return {name: without_identity(member) for name, member in value.items()}
    if isinstance(value, list):
        return [without_identity(member) for member in value]
    if isinstance(value, str) and any(name in value for name in IDENTITY):
        return _text_without_identity(value)
    return value


def split_address(address: str) -> tuple[str, dict[str, str]]:
    """Split an address into itself without its query, and the parameters in its query, without token and proof.

    :param address: such as a ``paging.next``.
    """
    parts = urlsplit(address)
    params = {name: value for name, value in parse_qsl(parts.query, keep_blank_values=True) if name not in IDENTITY}
    return urlunsplit((*parts[:3], "", "")), params


def _text_without_identity(text: str) -> str:
    if text.startswith(("https://", "http://")):
        address, params = split_address(text)
        return f"{address}?{urlencode(params)}" if params else address
    if text.startswith(("{", "[")):
        # The answers to the parts of a batch are JSON inside JSON.
        try:
            return json.dumps(without_identity(json.loads(text)))
        except (ValueError, RecursionError):
            return text
    return text


def _form_fields(params: Mapping[str, Any]) -> dict[str, str]:
    return {name: value if isinstance(value, str) else _json_text(value) for name, value in params.items()}


def _json_text(value: Any) -> str:
    return json.dumps(value, default=_jsonable, separators=(",", ":"))


def _jsonable(value: Any) -> Any:
    if hasattr(value, "export_all_data"):
        return value.export_all_data()
    if isinstance(value, set | frozenset | tuple):
        return list(value)
    if isinstance(value, Mapping):
        return dict(value)
    if isinstance(value, date):
        return value.isoformat()
    raise GraphRequestError(f"A parameter has the type {type(value).__name__}, which JSON has no form for.")
