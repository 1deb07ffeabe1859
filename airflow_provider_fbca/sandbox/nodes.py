"""Everything but uploads: audiences and ad accounts as objects, tokens, shares, lookalikes.

Sources: the references of the Custom Audience node, of the account's customaudiences edge and of the ad_accounts edge
(https://developers.facebook.com/documentation/ads-commerce/marketing-api/reference/custom-audience), the lookalike
guide and the debug_token reference.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from airflow_provider_fbca.sandbox import errors
from airflow_provider_fbca.sandbox.audience import EMPTY, FLAGGED, NORMAL, Audience

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from airflow_provider_fbca.sandbox.params import Params
    from airflow_provider_fbca.sandbox.settings import Account, Token
    from airflow_provider_fbca.sandbox.world import World

_MOST_CUSTOM_AUDIENCES = 500
_MOST_RETENTION_DAYS = 180
_FEWEST_SEED_PEOPLE = 100
_FILE_SOURCES = ("USER_PROVIDED_ONLY", "PARTNER_PROVIDED_ONLY", "BOTH_USER_AND_PARTNER_PROVIDED")
_PERMISSIONS = ("targeting", "targeting_and_insights")
_COARSE = 100
_TOO_SMALL, _UNUSABLE = 300, 400
_DELIVERY = {NORMAL: "Ready for use", _TOO_SMALL: "Too small to be used"}
_LOOKALIKE_RATIOS = (0.01, 0.20)
_SMALLEST_SHOWN = 1000

# Fields of the node that clients set and that read back as they were set.
_TEXTS = ("name", "description", "opt_out_link", "customer_file_source", "usage_restriction")
_LISTS = ("audience_labels", "use_for_products")
_AUDIENCE_FIELDS = frozenset(
    {
        *_TEXTS,
        *_LISTS,
        "id",
        "account_id",
        "subtype",
        "is_value_based",
        "retention_days",
        "use_in_campaigns",
        "operation_status",
        "delivery_status",
        "approximate_count_lower_bound",
        "approximate_count_upper_bound",
        "time_created",
        "time_updated",
        "time_content_updated",
        "delete_time",
        "data_source",
        "permission_for_actions",
        "sharing_status",
        "lookalike_audience_ids",
        "lookalike_spec",
        "origin_audience_id",
        "fields_violating_integrity_policy",
    }
)
_FILTERS: Mapping[str, Callable[[Audience], int]] = {
    "operation_status.code": lambda audience: audience.status_code,
    "delete_time": lambda audience: int(audience.delete_at or 0),
}


def read_user(token: Token, params: Params) -> dict[str, Any]:
    """Return who the token's user is: ``/me``."""
    user = {"id": token.user_id, "name": "Sandbox user"}
    return _pick(user, params.names("fields") or ["name"], "User")


def list_accounts(world: World, token: Token, params: Params) -> list[dict[str, Any]]:
    """Return the token's ad accounts: ``/me/adaccounts``."""
    accounts = [world.accounts[account_id] for account_id in token.accounts if account_id in world.accounts]
    return [_account_fields(world, account, params.names("fields") or ["account_id"]) for account in accounts]


def read_account(world: World, account: Account, params: Params) -> dict[str, Any]:
    """Return an ad account's fields."""
    return _account_fields(world, account, params.names("fields") or ["account_id"])


def create_audience(world: World, token: Token, account: Account, params: Params) -> dict[str, Any]:
    """Create a customer list or a lookalike: POST ``/act_{id}/customaudiences``."""
    world.require_terms(account.account_id)
    if not params.text("name").strip():
        raise errors.missing_parameter("name")
    subtype = params.text("subtype", "CUSTOM")
    if subtype == "LOOKALIKE":
        return _create_lookalike(world, token, account, params)
    if subtype != "CUSTOM":
        raise errors.invalid_parameter("The sandbox makes audiences of subtype CUSTOM and LOOKALIKE only")
    owned = [one for one in _owned(world, account) if one.is_customer_list]
    if len(owned) >= _MOST_CUSTOM_AUDIENCES:
        raise errors.cannot_create(f"The account has {_MOST_CUSTOM_AUDIENCES} custom audiences already")
    details = _details(subtype) | _read_details(params)
    details["is_value_based"] = params.flag("is_value_based")
    return {"id": world.new_audience(account.account_id, details).audience_id}


def list_audiences(world: World, account: Account, params: Params) -> list[dict[str, Any]]:
    """Return an account's audiences: GET ``/act_{id}/customaudiences``."""
    fields = params.names("fields") or ["id"]
    chosen = _owned(world, account)
    rules = params.json("filtering") or []
    if not isinstance(rules, list):
        raise errors.invalid_parameter("filtering must be a list")
    for rule in rules:
        chosen = [audience for audience in chosen if _matches(audience, rule)]
    return [_audience_fields(world, audience, fields) for audience in chosen]


def read_audience(world: World, audience: Audience, params: Params) -> dict[str, Any]:
    """Return an audience's fields, its id alone unless others are asked for."""
    return _audience_fields(world, audience, params.names("fields") or ["id"])


def update_audience(world: World, audience: Audience, params: Params) -> dict[str, Any]:
    """Change an audience's details: POST ``/{audience}``."""
    world.require_terms(audience.account_id)
    if audience.status_code == FLAGGED:
        raise errors.flagged_edit()
    if "name" in params and not params.text("name").strip():
        raise errors.invalid_parameter("name must not be empty")
    audience.details |= _read_details(params)
    audience.updated_at = world.clock.now()
    return {"success": True}


def delete_audience(world: World, audience: Audience) -> dict[str, Any]:
    """Delete an audience for good, unless lookalikes were made from it."""
    if any(other.origin_id == audience.audience_id for other in world.audiences.values()):
        raise errors.lookalikes_depend()
    world.delete_audience(audience)
    return {"success": True}


def list_sessions(world: World, audience: Audience, params: Params) -> list[dict[str, Any]]:
    """Return an audience's upload sessions: GET ``/{audience}/sessions``."""
    now = world.clock.now()
    wanted = params.text("session_id")
    sessions = [session for session in world.sessions.values() if session.audience_id == audience.audience_id]
    shown = [
        session.as_graph(now, at_work=audience.is_replaced_by(session))
        for session in sessions
        if wanted in ("", str(session.session_id))
    ]
    fields = params.names("fields")
    return [_pick(session, fields or list(session), "CustomAudienceSession", with_id=False) for session in shown]


def list_shares(audience: Audience, params: Params) -> list[dict[str, Any]]:
    """Return the ad accounts that an audience is shared with: GET ``/{audience}/adaccounts``."""
    wanted = params.text("permissions")
    return [
        {"id": f"act_{account_id}", "account_id": account_id, "permissions": permission}
        for account_id, permission in audience.shared_with.items()
        if wanted in ("", permission)
    ]


def share_audience(world: World, audience: Audience, params: Params) -> dict[str, Any]:
    """Share an audience with ad accounts: POST ``/{audience}/ad_accounts``."""
    accounts = _shared_accounts(world, params)
    permission = params.text("permissions", _PERMISSIONS[-1])
    if permission not in _PERMISSIONS:
        raise errors.invalid_parameter("permissions must be targeting or targeting_and_insights")
    if params.flag("replace"):
        audience.shared_with.clear()
    audience.shared_with |= dict.fromkeys(accounts, permission)
    data = [
        {"ad_acct_id": account, "business_id": "0", "audience_share_status": "shared", "errors": []}
        for account in accounts
    ]
    return {"success": True, "sharing_data": data}


def unshare_audience(world: World, audience: Audience, params: Params) -> dict[str, Any]:
    """Stop sharing an audience with ad accounts: DELETE ``/{audience}/ad_accounts``."""
    for account_id in _shared_accounts(world, params):
        audience.shared_with.pop(account_id, None)
    return {"success": True}


def debug_token(world: World, params: Params) -> dict[str, Any]:
    """Return what a token is worth: GET ``/debug_token?input_token=...``."""
    if "input_token" not in params:
        raise errors.missing_parameter("input_token")
    token = world.tokens.get(params.text("input_token"))
    if token is None:
        error = {"code": 190, "message": "Invalid OAuth access token - cannot parse access token"}
        return {"data": {"error": error, "is_valid": False, "scopes": []}}
    is_valid = token.expires_at is None or token.expires_at > world.clock.now()
    data: dict[str, Any] = {
        "app_id": world.settings.app_id,
        "type": "USER",
        "application": "Sandbox app",
        "is_valid": is_valid,
        "expires_at": int(token.expires_at or 0),
        "data_access_expires_at": int(token.data_access_expires_at or 0),
        "scopes": list(token.scopes),
        "granular_scopes": [{"scope": scope} for scope in token.scopes],
        "user_id": token.user_id,
    }
    if not is_valid:
        data["error"] = {"code": 190, "subcode": 463, "message": "The session has expired"}
    return {"data": data}


def _create_lookalike(world: World, token: Token, account: Account, params: Params) -> dict[str, Any]:
    origin = world.audiences.get(params.text("origin_audience_id"))
    if origin is None or origin.account_id not in token.accounts:
        raise errors.unknown_object(params.text("origin_audience_id"))
    if origin.status_code == FLAGGED:
        raise errors.GraphError(100, "Invalid parameter", subcode=1713232, title="Seed Audience Flagged")
    spec = params.json("lookalike_spec")
    _check_lookalike_spec(spec)
    if origin.members.people < _FEWEST_SEED_PEOPLE:
        raise errors.cannot_create(f"The seed audience has fewer than {_FEWEST_SEED_PEOPLE} people")
    details = _details("LOOKALIKE") | _read_details(params)
    details |= {"lookalike_spec": spec, "is_value_based": origin.is_value_based}
    audience = world.new_audience(account.account_id, details)
    audience.origin_id = origin.audience_id
    return {"id": audience.audience_id}


def _check_lookalike_spec(spec: Any) -> None:
    """Check what the guide requires; since v24 the types of the spec's fields are enforced."""
    if not isinstance(spec, dict):
        raise errors.missing_parameter("lookalike_spec")
    if "country" not in spec and "location_spec" not in spec:
        raise errors.invalid_parameter("lookalike_spec needs country or location_spec")
    if not isinstance(spec.get("country", ""), str):
        raise errors.invalid_parameter("lookalike_spec.country must be a string")
    ratio = spec.get("ratio")
    lowest, highest = _LOOKALIKE_RATIOS
    if ratio is not None and not (isinstance(ratio, (int, float)) and lowest <= ratio <= highest):
        raise errors.invalid_parameter("lookalike_spec.ratio must be a number from 0.01 to 0.20")


def _details(subtype: str) -> dict[str, Any]:
    return {"subtype": subtype, "is_value_based": False, "retention_days": 0, "use_in_campaigns": True}


def _read_details(params: Params) -> dict[str, Any]:
    """Return the details among a call's parameters, checked."""
    details: dict[str, Any] = {name: params.text(name) for name in _TEXTS if name in params}
    details |= {name: params.json(name) for name in _LISTS if name in params}
    if details.get("customer_file_source", _FILE_SOURCES[0]) not in _FILE_SOURCES:
        raise errors.invalid_parameter(f"customer_file_source must be one of {', '.join(_FILE_SOURCES)}")
    days = params.whole("retention_days")
    if days is not None:
        if not 0 <= days <= _MOST_RETENTION_DAYS:
            raise errors.invalid_parameter(f"retention_days must be at most {_MOST_RETENTION_DAYS}")
        details["retention_days"] = days
    if "use_in_campaigns" in params:
        details["use_in_campaigns"] = params.flag("use_in_campaigns")
    return details


def _shared_accounts(world: World, params: Params) -> list[str]:
    listed = params.json("adaccounts")
    if not isinstance(listed, list) or not listed:
        raise errors.missing_parameter("adaccounts")
    accounts = [str(account).removeprefix("act_") for account in listed]
    for account_id in accounts:
        if account_id not in world.accounts:
            raise errors.unknown_object(account_id)
    return accounts


def _owned(world: World, account: Account) -> list[Audience]:
    return [one for one in world.audiences.values() if one.account_id == account.account_id]


def _matches(audience: Audience, rule: Any) -> bool:
    """Apply one filter; only delete_time and operation_status.code are documented as filters."""
    if not isinstance(rule, dict) or rule.get("field") not in _FILTERS:
        raise errors.invalid_parameter("filtering takes the fields operation_status.code and delete_time")
    actual, value = _FILTERS[rule["field"]](audience), rule.get("value")
    try:
        wanted = {int(str(one)) for one in (value if isinstance(value, list) else [value])}
    except ValueError as error:
        raise errors.invalid_parameter("filtering needs whole numbers as value") from error
    match rule.get("operator"):
        case "EQUAL" | "IN":
            return actual in wanted
        case "NOT_EQUAL" | "NOT_IN":
            return actual not in wanted
        case "GREATER_THAN":
            return actual > min(wanted)
        case "LESS_THAN":
            return actual < max(wanted)
        case _:
            raise errors.invalid_parameter("filtering takes the operators EQUAL, IN, GREATER_THAN and the like")


def _account_fields(world: World, account: Account, fields: Iterable[str]) -> dict[str, Any]:
    terms = {"custom_audience_tos": int(world.terms_accepted(account.account_id))}
    shown = {
        "id": f"act_{account.account_id}",
        "account_id": account.account_id,
        "name": account.name,
        "account_status": 1,
        "currency": "USD",
        "timezone_name": "Etc/UTC",
        "tos_accepted": terms,
        "user_tos_accepted": terms,
    }
    return _pick(shown, fields, "AdAccount")


def _audience_fields(world: World, audience: Audience, fields: Iterable[str]) -> dict[str, Any]:
    lower, upper = _coarse_count(audience)
    lookalikes = [one.audience_id for one in world.audiences.values() if one.origin_id == audience.audience_id]
    shown = audience.details | {
        "id": audience.audience_id,
        "account_id": audience.account_id,
        "operation_status": audience.operation_status,
        "delivery_status": _delivery_status(audience),
        "approximate_count_lower_bound": lower,
        "approximate_count_upper_bound": upper,
        "time_created": int(audience.created_at),
        "time_updated": int(audience.updated_at),
        "delete_time": int(audience.delete_at or 0),
        "data_source": _data_source(audience),
        "permission_for_actions": {"can_edit": True, "can_see_insight": "True", "can_share": "True"},
        "lookalike_audience_ids": lookalikes,
        "origin_audience_id": audience.origin_id,
        "fields_violating_integrity_policy": ["name"] if audience.status_code == FLAGGED else [],
    }
    if audience.content_updated_at is not None:
        shown["time_content_updated"] = int(audience.content_updated_at)
    optional = dict.fromkeys(_AUDIENCE_FIELDS)
    return _pick(optional | shown, fields, "CustomAudience")


def _coarse_count(audience: Audience) -> tuple[int, int]:
    """Round people as coarsely as Meta does; -1 is not available."""
    if audience.status_code == EMPTY:
        return -1, -1
    people = audience.members.people
    if people < _SMALLEST_SHOWN:
        return _SMALLEST_SHOWN, _SMALLEST_SHOWN
    lower = people // _COARSE * _COARSE
    return lower, lower + _COARSE


def _delivery_status(audience: Audience) -> dict[str, Any]:
    if audience.forced_delivery is not None:
        code = audience.forced_delivery
    elif audience.status_code == FLAGGED:
        code = _UNUSABLE
    else:
        code = NORMAL if audience.members.people >= _FEWEST_SEED_PEOPLE else _TOO_SMALL
    return {"code": code, "description": _DELIVERY.get(code, "Not usable")}


def _data_source(audience: Audience) -> dict[str, Any]:
    kind, _, part = (audience.data_source or "UNKNOWN.ANYTHING").partition(".")
    return {"type": kind, "sub_type": part}


def _pick(shown: dict[str, Any], fields: Iterable[str], node: str, *, with_id: bool = True) -> dict[str, Any]:
    """Return the fields asked for that have a value; the id comes always."""
    answer = {}
    for name in fields:
        if name not in shown:
            raise errors.invalid_parameter(f"Tried accessing nonexisting field ({name}) on node type ({node})")
        if shown[name] is not None:
            answer[name] = shown[name]
    return answer | ({"id": shown["id"]} if with_id else {})
