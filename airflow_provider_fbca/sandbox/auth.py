"""Who calls: access tokens, app proofs, permissions.

Sources: https://developers.facebook.com/docs/graph-api/guides/secure-requests for the proof,
https://developers.facebook.com/docs/graph-api/guides/error-handling for the errors.
"""

from __future__ import annotations

import hashlib
import hmac
from typing import TYPE_CHECKING

from airflow_provider_fbca.sandbox import errors
from airflow_provider_fbca.sandbox.settings import ALL_SCOPES, Token

if TYPE_CHECKING:
    from starlette.requests import Request

    from airflow_provider_fbca.sandbox.params import Params
    from airflow_provider_fbca.sandbox.world import World

_BEARER = "bearer "


def find_token(request: Request, params: Params) -> tuple[str, str]:
    """Return the access token and where it stood: ``header``, ``body``, ``query``, or ``""`` for none."""
    header = request.headers.get("authorization", "")
    if header.lower().startswith(_BEARER):
        return header[len(_BEARER) :].strip(), "header"
    for place, values in (("body", params.body), ("query", params.query)):
        if "access_token" in values:
            return params.text("access_token"), place
    return "", ""


def authenticate(world: World, access_token: str, params: Params) -> Token:
    """Check the access token and the app proof.

    :returns: what the token may do.
    :raises GraphError: code 190 for the token, 100 for the proof.
    """
    if not access_token:
        raise errors.token_missing()
    token = _look_up(world, access_token)
    if token.expires_at is not None and token.expires_at <= world.clock.now():
        raise errors.token_expired()
    _check_proof(world, access_token, params)
    return token


def require_scope(token: Token, *, writes: bool) -> None:
    """Check a permission: ``ads_management`` lets read as well as write, ``ads_read`` read only.

    Source: https://developers.facebook.com/docs/permissions/reference/ads_management

    :raises GraphError: code 200 without it.
    """
    if "ads_management" not in token.scopes and (writes or "ads_read" not in token.scopes):
        raise errors.scope_missing("ads_management" if writes else "ads_read")


def app_token(world: World) -> str:
    """Return the token of the app itself, ``{app id}|{app secret}``."""
    return f"{world.settings.app_id}|{world.settings.app_secret}"


def make_proof(app_secret: str, access_token: str, at: str = "") -> str:
    """Return the ``appsecret_proof`` of a token: HMAC-SHA256 in hex, over the token or ``token|time``."""
    message = f"{access_token}|{at}" if at else access_token
    return hmac.new(app_secret.encode(), message.encode(), hashlib.sha256).hexdigest()


def _look_up(world: World, access_token: str) -> Token:
    token = world.tokens.get(access_token)
    if token is None and hmac.compare_digest(access_token.encode(), app_token(world).encode()):
        return Token(accounts=(), scopes=ALL_SCOPES, user_id=world.settings.app_id)
    if token is None:
        raise errors.token_unknown()
    return token


def _check_proof(world: World, access_token: str, params: Params) -> None:
    proof = params.text("appsecret_proof")
    if not proof:
        if world.settings.require_proof and access_token != app_token(world):
            raise errors.proof_required()
        return
    expected = make_proof(world.settings.app_secret, access_token, params.text("appsecret_time"))
    if not hmac.compare_digest(expected.encode(), proof.encode()):
        raise errors.proof_invalid()
