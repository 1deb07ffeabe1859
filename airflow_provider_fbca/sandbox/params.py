"""A call's parameters, from wherever Graph takes them: query, form, multipart or JSON body."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qsl

import msgspec
from starlette.exceptions import HTTPException

from airflow_provider_fbca.sandbox import errors

if TYPE_CHECKING:
    from starlette.requests import Request

_FORM = "application/x-www-form-urlencoded"
_MULTIPART = "multipart/form-data"
_TRUE = frozenset({"true", "1"})
_FALSE = frozenset({"false", "0", ""})
_JSON_BODY = msgspec.json.Decoder(dict[str, msgspec.Raw])
# The characters of JSON that form encoding blows up most; undone first, since Python's own decoder is slow at them.
_FREQUENT_ESCAPES = {b"%22": b'"', b"%2C": b",", b"%5B": b"[", b"%5D": b"]", b"%3A": b":"}


class Params:
    """Named parameters; a JSON body's values keep their JSON text, any other value is plain text.

    :param query: those of the URL.
    :param body: those of the body, which win.
    """

    def __init__(self, query: dict[str, str], body: dict[str, str | msgspec.Raw]) -> None:
        self.query = query
        self.body = body
        self._values: dict[str, str | msgspec.Raw] = {**query, **body}

    def __contains__(self, name: str) -> bool:
        return name in self._values

    def text(self, name: str, default: str = "") -> str:
        """Return a parameter as text.

        :param name: of the parameter.
        :param default: for an absent one.
        """
        value = self._values.get(name)
        if value is None:
            return default
        if isinstance(value, str):
            return value
        decoded = msgspec.json.decode(value)
        return decoded if isinstance(decoded, str) else bytes(value).decode()

    def json_text(self, name: str) -> memoryview | None:
        """Return the JSON text of a structured parameter, None for an absent one.

        A JSON body may nest the structure or hold it as a string, as forms do.
        """
        value = self._values.get(name)
        if value is None:
            return None
        if isinstance(value, str):
            return memoryview(value.encode())
        text = memoryview(value)
        return memoryview(self.text(name).encode()) if bytes(text[:1]) == b'"' else text

    def json(self, name: str) -> Any:
        """Return a structured parameter decoded, None for an absent one.

        :raises GraphError: code 100 where it is not JSON.
        """
        text = self.json_text(name)
        if text is None:
            return None
        try:
            return msgspec.json.decode(text)
        except msgspec.MsgspecError as error:
            raise errors.invalid_parameter(f"{name} must be JSON") from error

    def flag(self, name: str, *, default: bool = False) -> bool:
        """Return a yes-or-no parameter.

        :raises GraphError: code 100 for any other value.
        """
        if name not in self:
            return default
        value = self.text(name).lower()
        if value not in _TRUE | _FALSE:
            raise errors.invalid_parameter(f"{name} must be true or false")
        return value in _TRUE

    def whole(self, name: str) -> int | None:
        """Return a whole number, None for an absent one.

        :raises GraphError: code 100 for anything else.
        """
        if name not in self:
            return None
        try:
            return int(self.text(name))
        except ValueError as error:
            raise errors.invalid_parameter(f"{name} must be a whole number") from error

    def names(self, name: str) -> list[str]:
        """Return a list of names, which Graph takes comma-joined or as a JSON list."""
        text = self.text(name).strip()
        if text.startswith("["):
            return [str(item) for item in self.json(name)]
        return [part.strip() for part in text.split(",") if part.strip()]


async def read_params(request: Request) -> Params:
    """Read a call's parameters.

    :param request: its body has been read.
    :raises GraphError: code 100 for a body that is not what it says it is.
    """
    query = dict(parse_qsl(request.url.query, keep_blank_values=True))
    return Params(query, await _read_body(request))


async def _read_body(request: Request) -> dict[str, str | msgspec.Raw]:
    body = await request.body()
    if not body:
        return {}
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    try:
        if kind == _MULTIPART:
            return await _read_multipart(request, len(body))
        if kind == _FORM and not body.startswith(b"{"):
            return _read_form(body)
        return dict(_JSON_BODY.decode(body))
    except (HTTPException, ValueError, msgspec.MsgspecError) as error:
        raise errors.invalid_parameter("The body is neither a JSON object nor a form") from error


async def _read_multipart(request: Request, size: int) -> dict[str, str | msgspec.Raw]:
    form = await request.form(max_part_size=size)
    return {name: value if isinstance(value, str) else (await value.read()).decode() for name, value in form.items()}


def _read_form(body: bytes) -> dict[str, str | msgspec.Raw]:
    for escape, character in _FREQUENT_ESCAPES.items():
        body = body.replace(escape, character)
    return dict(parse_qsl(body.decode(), keep_blank_values=True))
