"""Logging in: the dialog in which a person lets an app act for them, and what its codes and tokens are exchanged for.

Sources: https://developers.facebook.com/docs/facebook-login/guides/advanced/manual-flow (dialog and code) and
https://developers.facebook.com/docs/facebook-login/guides/access-tokens/get-long-lived (long-lived tokens). The error
codes of the exchange are as clients have seen them.
"""

from __future__ import annotations

import secrets
from dataclasses import dataclass
from html import escape
from typing import TYPE_CHECKING, Any
from urllib.parse import urlencode, urlsplit

from fastapi import APIRouter, Request, Response
from fastapi.responses import HTMLResponse, RedirectResponse

from airflow_provider_fbca.sandbox import errors
from airflow_provider_fbca.sandbox.auth import app_token
from airflow_provider_fbca.sandbox.settings import ALL_SCOPES, Token

if TYPE_CHECKING:
    from airflow_provider_fbca.sandbox.params import Params
    from airflow_provider_fbca.sandbox.world import World

_CODE_SECONDS = 10 * 60
_SHORT_LIVED_SECONDS = 2 * 3600
_LONG_LIVED_SECONDS = 60 * 24 * 3600

router = APIRouter(include_in_schema=False)


@dataclass
class LoginCode:
    """What the dialog hands out for a token.

    :param redirect_uri: where it was sent, which its exchange must name again.
    :param scopes: the permissions that the person granted.
    :param expires_at: when it ends on the sandbox's clock.
    :param used: whether it was exchanged.
    """

    redirect_uri: str
    scopes: tuple[str, ...]
    expires_at: float
    used: bool = False


@router.get("/{version}/dialog/oauth")
async def dialog(request: Request) -> Response:
    """Show the dialog, or carry out the person's choice: ``sandbox_answer`` is ``allow`` or ``deny``.

    With ``allow``, the ``sandbox_grant`` parameters are the permissions that stay ticked; without any, all are granted.
    Neither parameter exists at Meta, where the person presses a button.
    """
    world: World = request.app.state.world
    asked = request.query_params
    redirect_uri = asked.get("redirect_uri", "")
    if asked.get("client_id") != world.settings.app_id:
        return _page("Invalid App ID: the provided app ID does not look like a valid app ID.", 400)
    if not _may_redirect_to(redirect_uri):
        return _page("URL blocked: this redirect failed because the redirect URI is not in the app's settings.", 400)
    scopes = [scope for scope in asked.get("scope", "").split(",") if scope]
    if unknown := set(scopes) - set(ALL_SCOPES):
        return _page(f"Invalid Scopes: {escape(', '.join(sorted(unknown)))}.", 400)
    match asked.get("sandbox_answer"):
        case "allow":
            ticked = asked.getlist("sandbox_grant") or scopes
            granted = tuple(scope for scope in scopes if scope in ticked)
            code = secrets.token_urlsafe(48)
            world.login_codes[code] = LoginCode(redirect_uri, granted, world.clock.now() + _CODE_SECONDS)
            answer = {"code": code}
            if asked.get("return_scopes") == "true":
                denied = [scope for scope in scopes if scope not in granted]
                answer |= {"granted_scopes": ",".join(granted), "denied_scopes": ",".join(denied)}
        case "deny":
            answer = {"error": "access_denied", "error_code": "200"}
            answer |= {"error_description": "Permissions error", "error_reason": "user_denied"}
        case _:
            return _page(_form(asked.multi_items(), scopes))
    answer |= {"state": asked["state"]} if "state" in asked else {}
    # Meta ends the address like this, so that an older fragment of the page does not stay.
    return RedirectResponse(f"{redirect_uri}{'&' if '?' in redirect_uri else '?'}{urlencode(answer)}#_=_", 302)


def access_token(world: World, params: Params) -> dict[str, Any]:
    """Give a token for a code, a long-lived one for a valid one, or the app's own: ``/oauth/access_token``."""
    settings = world.settings
    if params.text("client_id") != settings.app_id:
        raise errors.GraphError(101, "Error validating application. Invalid application ID.")
    if params.text("client_secret") != settings.app_secret:
        raise errors.GraphError(1, "Error validating client secret.")
    if "code" in params:
        return _token_for_code(world, params)
    match params.text("grant_type"):
        case "client_credentials":
            return {"access_token": app_token(world), "token_type": "bearer"}
        case "fb_exchange_token":
            return _longer_token(world, params.text("fb_exchange_token"))
        case _:
            raise errors.invalid_parameter("grant_type must be fb_exchange_token or client_credentials")


def _token_for_code(world: World, params: Params) -> dict[str, Any]:
    code = world.login_codes.get(params.text("code"))
    if code is None:
        raise errors.invalid_parameter("Invalid verification code format.")
    if code.redirect_uri != params.text("redirect_uri"):
        raise errors.GraphError(100, "Error validating verification code: another redirect_uri", subcode=36008)
    if code.used:
        raise errors.GraphError(100, "This authorization code has been used.", subcode=36009)
    if code.expires_at <= world.clock.now():
        raise errors.GraphError(100, "This authorization code has expired.", subcode=36007)
    code.used = True
    token = Token(tuple(world.accounts), code.scopes)
    return _issue(world, token, "sandbox-login-" + secrets.token_hex(16), _SHORT_LIVED_SECONDS)


def _longer_token(world: World, old_token: str) -> dict[str, Any]:
    old = world.tokens.get(old_token)
    if old is None:
        raise errors.token_unknown()
    if old.expires_at is not None and old.expires_at <= world.clock.now():
        raise errors.token_expired()
    return _issue(world, old, f"{old_token}-{secrets.token_hex(8)}", _LONG_LIVED_SECONDS)


def _issue(world: World, model: Token, access_token: str, seconds: int) -> dict[str, Any]:
    end = world.clock.now() + seconds
    world.tokens[access_token] = Token(model.accounts, model.scopes, end, model.user_id)
    return {"access_token": access_token, "token_type": "bearer", "expires_in": seconds}


def _may_redirect_to(address: str) -> bool:
    """Whether Meta would: to https, and to ``http://localhost`` while the app is in development."""
    parts = urlsplit(address)
    return bool(parts.hostname) and (parts.scheme == "https" or (parts.scheme, parts.hostname) == ("http", "localhost"))


def _form(asked: list[tuple[str, str]], scopes: list[str]) -> str:
    kept = "".join(f'<input type="hidden" name="{escape(name)}" value="{escape(value)}">' for name, value in asked)
    ticks = "".join(
        f'<p><label><input type="checkbox" name="sandbox_grant" value="{escape(scope)}" checked> {escape(scope)}'
        "</label></p>"
        for scope in scopes
    )
    return (
        f"<p>The sandbox app asks for these permissions:</p><form>{kept}{ticks}"
        '<button name="sandbox_answer" value="allow">Continue</button> '
        '<button name="sandbox_answer" value="deny">Cancel</button></form>'
    )


def _page(content: str, status: int = 200) -> HTMLResponse:
    head = '<!DOCTYPE html><html lang="en"><head><meta charset="utf-8"><title>Sandbox login</title></head>'
    return HTMLResponse(f"{head}<body><h1>Log in to the sandbox</h1>{content}</body></html>", status_code=status)
