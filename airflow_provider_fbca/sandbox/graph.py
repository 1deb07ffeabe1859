"""Which call does what: method and path to an operation, after the checks that all calls share."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from airflow_provider_fbca.sandbox import errors, nodes, oauth, uploads
from airflow_provider_fbca.sandbox.auth import authenticate, find_token, require_scope
from airflow_provider_fbca.sandbox.paging import page_of

if TYPE_CHECKING:
    from collections.abc import Mapping

    from starlette.requests import Request

    from airflow_provider_fbca.sandbox.audience import Audience
    from airflow_provider_fbca.sandbox.params import Params
    from airflow_provider_fbca.sandbox.request_log import LoggedRequest
    from airflow_provider_fbca.sandbox.settings import Account, Token
    from airflow_provider_fbca.sandbox.world import World

_VERSION = re.compile(r"v\d+\.\d+")
_ACCOUNT = re.compile(r"act_(\d+)")
_AUDIENCE = re.compile(r"\d+")
_WRITES = frozenset({"POST", "DELETE"})

# (kind of node, edge, method) -> operation; the names are what faults and the request log call them.
_OPERATIONS: Mapping[tuple[str, str, str], str] = {
    ("me", "", "GET"): "read_user",
    ("me", "adaccounts", "GET"): "list_accounts",
    ("debug_token", "", "GET"): "debug_token",
    ("oauth", "access_token", "GET"): "exchange_token",
    ("oauth", "access_token", "POST"): "exchange_token",
    ("account", "", "GET"): "read_account",
    ("account", "customaudiences", "GET"): "list_audiences",
    ("account", "customaudiences", "POST"): "create_audience",
    ("account", "usersofanyaudience", "DELETE"): "remove_from_all",
    ("audience", "", "GET"): "read_audience",
    ("audience", "", "POST"): "update_audience",
    ("audience", "", "DELETE"): "delete_audience",
    ("audience", "users", "POST"): "add_users",
    ("audience", "users", "DELETE"): "remove_users",
    ("audience", "usersreplace", "POST"): "replace_users",
    ("audience", "sessions", "GET"): "list_sessions",
    # The reference says ad_accounts for writing and adaccounts for reading; the SDK says adaccounts for both.
    ("audience", "adaccounts", "GET"): "list_shares",
    ("audience", "ad_accounts", "GET"): "list_shares",
    ("audience", "adaccounts", "POST"): "share_audience",
    ("audience", "ad_accounts", "POST"): "share_audience",
    ("audience", "adaccounts", "DELETE"): "unshare_audience",
    ("audience", "ad_accounts", "DELETE"): "unshare_audience",
}
_NO_TOKEN_NEEDED = frozenset({"exchange_token"})
_LISTS = frozenset({"list_accounts", "list_audiences", "list_sessions", "list_shares"})


@dataclass(frozen=True)
class Call:
    """A call as its method and path name it.

    :param method: after a ``method`` override.
    :param version: API version, ``""`` if the path has none.
    :param kind: of node: ``account``, ``audience``, or the node's own name.
    :param node: id of the ad account (without ``act_``) or audience.
    :param operation: what it is for, ``""`` if nothing answers here.
    """

    method: str
    version: str
    kind: str
    node: str
    operation: str

    @property
    def writes(self) -> bool:
        """Whether it changes anything."""
        return self.method in _WRITES


def read_call(method: str, path: str, override: str = "") -> Call:
    """Return what a method and a path mean.

    :param method: as sent.
    :param path: without the query.
    :param override: the ``method`` parameter, which Graph takes on POST.
    """
    if method == "POST" and override:
        method = override.upper()
    parts = [part for part in path.split("/") if part]
    version = parts.pop(0) if parts and _VERSION.fullmatch(parts[0]) else ""
    node = parts[0] if parts else ""
    edge = "/".join(parts[1:])
    if account := _ACCOUNT.fullmatch(node):
        kind, node = "account", account.group(1)
    else:
        kind = "audience" if _AUDIENCE.fullmatch(node) else node
    return Call(method, version, kind, node, _OPERATIONS.get((kind, edge, method), ""))


def answer(world: World, call: Call, request: Request, params: Params, entry: LoggedRequest) -> dict[str, Any]:
    """Carry a call out.

    :returns: the body of the answer.
    :raises GraphError: where Graph would answer with an error.
    """
    world.tick()
    access_token, entry.token_place = find_token(request, params)
    if not call.version or call.version in world.settings.ended_versions:
        raise errors.ended_version(call.version)
    if call.operation in _NO_TOKEN_NEEDED:
        return oauth.access_token(world, params)
    token = authenticate(world, access_token, params)
    if not call.operation:
        raise errors.unknown_path(request.method, request.url.path)
    if call.kind in ("account", "audience"):
        require_scope(token, writes=call.writes)
    result = _answer_any(world, call, token, params, entry)
    if call.operation in _LISTS:
        return page_of(result, request, params, access_token, empty_pages=world.settings.empty_pages)
    return result  # type: ignore[no-any-return]


def _answer_any(world: World, call: Call, token: Token, params: Params, entry: LoggedRequest) -> Any:
    match call.kind:
        case "account":
            return _answer_account(world, call, token, params, entry)
        case "audience":
            return _answer_audience(world, call, token, params, entry)
    match call.operation:
        case "read_user":
            return nodes.read_user(token, params)
        case "list_accounts":
            return nodes.list_accounts(world, token, params)
        case _:
            return nodes.debug_token(world, params)


def _answer_account(world: World, call: Call, token: Token, params: Params, entry: LoggedRequest) -> Any:
    account = _visible_account(world, token, call.node)
    match call.operation:
        case "read_account":
            return nodes.read_account(world, account, params)
        case "list_audiences":
            return nodes.list_audiences(world, account, params)
        case "create_audience":
            return nodes.create_audience(world, token, account, params)
        case _:
            return uploads.remove_from_all(world, account.account_id, params, entry)


def _answer_audience(world: World, call: Call, token: Token, params: Params, entry: LoggedRequest) -> Any:  # noqa: PLR0911 - one return for each operation
    audience = _visible_audience(world, token, call)
    match call.operation:
        case "read_audience":
            return nodes.read_audience(world, audience, params)
        case "update_audience":
            return nodes.update_audience(world, audience, params)
        case "delete_audience":
            return nodes.delete_audience(world, audience)
        case "list_sessions":
            return nodes.list_sessions(world, audience, params)
        case "list_shares":
            return nodes.list_shares(audience, params)
        case "share_audience":
            return nodes.share_audience(world, audience, params)
        case "unshare_audience":
            return nodes.unshare_audience(world, audience, params)
        case "replace_users":
            return uploads.replace_users(world, audience, params, entry)
        case _:
            removes = call.operation == "remove_users"
            return uploads.change_users(world, audience, params, entry, removes=removes)


def _visible_account(world: World, token: Token, account_id: str) -> Account:
    if account_id not in token.accounts or account_id not in world.accounts:
        raise errors.unknown_object(f"act_{account_id}")
    return world.accounts[account_id]


def _visible_audience(world: World, token: Token, call: Call) -> Audience:
    """Return the audience of a call; who merely shares it may read it but not change it."""
    audience = world.audiences.get(call.node)
    if audience is None:
        raise errors.unknown_object(call.node)
    if audience.account_id not in token.accounts:
        if not audience.shared_with.keys() & set(token.accounts):
            raise errors.unknown_object(call.node)
        if call.writes:
            raise errors.not_the_owner()
    if audience.unknown_calls:
        audience.unknown_calls -= 1
        raise errors.alias_missing(call.node)
    return audience
