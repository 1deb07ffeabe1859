"""Graph's errors: one exception, and one maker for each error that the sandbox gives.

Codes, subcodes and titles come from Meta's error reference and the Custom Audience guide
(https://developers.facebook.com/documentation/ads-commerce/marketing-api/error-reference); the texts are our own.
"""

from __future__ import annotations

import secrets
from typing import Any

_OAUTH = "OAuthException"
_GRAPH_METHOD = "GraphMethodException"

#: What Meta calls the two ways of loading an audience.
MULTI_HASHES = "FILE_IMPORTED.MULTI_HASHES"
HASHES_OR_USER_IDS = "FILE_IMPORTED.HASHES_OR_USER_IDS"


class GraphError(Exception):
    """An answer that is an error.

    :param code: Graph's code.
    :param message: what went wrong; never a value of a person.
    :param subcode: Graph's ``error_subcode``.
    :param kind: ``type`` of the envelope.
    :param status: HTTP status.
    :param title: ``error_user_title``.
    :param advice: ``error_user_msg``.
    :param transient: ``is_transient``.
    """

    def __init__(
        self,
        code: int,
        message: str,
        *,
        subcode: int | None = None,
        kind: str = _OAUTH,
        status: int = 400,
        title: str = "",
        advice: str = "",
        transient: bool = False,
    ) -> None:
        super().__init__(f"(#{code}) {message}")
        self.code = code
        self.subcode = subcode
        self.kind = kind
        self.status = status
        self.title = title
        self.advice = advice
        self.transient = transient

    @property
    def label(self) -> str:
        """Code and subcode, like ``2650/1870145``."""
        return f"{self.code}/{self.subcode}" if self.subcode else str(self.code)

    def body(self) -> dict[str, Any]:
        """Return the envelope of Meta's error handling guide."""
        error: dict[str, Any] = {"message": str(self), "type": self.kind, "code": self.code}
        if self.subcode is not None:
            error["error_subcode"] = self.subcode
        error["is_transient"] = self.transient
        if self.title:
            error |= {"error_user_title": self.title, "error_user_msg": self.advice}
        return {"error": error | {"fbtrace_id": "A" + secrets.token_urlsafe(16)}}


def invalid_parameter(message: str) -> GraphError:
    """Code 100: a parameter has a form that Graph does not take."""
    return GraphError(100, message)


def data_mismatch(detail: str) -> GraphError:
    """Code 100 as clients see it when rows do not fit the schema."""
    return GraphError(100, f"Data is missing or does not match schema: {detail}")


def missing_parameter(name: str) -> GraphError:
    """Code 100: a required parameter is absent."""
    return GraphError(100, f"The parameter {name} is required")


def unknown_object(object_id: str) -> GraphError:
    """100/33: missing, or out of the token's sight; Graph does not tell which."""
    return GraphError(
        100,
        f"Unsupported request. Object with ID '{object_id}' does not exist, cannot be loaded due to missing "
        "permissions, or does not support this operation",
        subcode=33,
        kind=_GRAPH_METHOD,
    )


def unknown_path(method: str, path: str) -> GraphError:
    """Code 2500: nothing answers at this path."""
    return GraphError(2500, f"Unknown path components or method: {method} {path}")


def ended_version(version: str) -> GraphError:
    """Code 2635: the API version is over, or none was named."""
    return GraphError(2635, f"You are calling a deprecated version of the Ads API: {version or 'none given'}")


def alias_missing(object_id: str) -> GraphError:
    """Code 803: what a brand-new audience may answer at first."""
    return GraphError(803, f"Some of the aliases you requested do not exist: {object_id}")


def token_missing() -> GraphError:
    """Code 190: no access token came with the call."""
    return GraphError(190, "An access token is required to request this resource")


def token_unknown() -> GraphError:
    """Code 190: this is no token."""
    return GraphError(190, "Invalid OAuth access token - cannot parse access token")


def token_expired() -> GraphError:
    """190/463: it was a token once."""
    return GraphError(190, "Error validating access token: session has expired", subcode=463)


def proof_required() -> GraphError:
    """Code 100: the app demands a proof."""
    return GraphError(100, "API calls from the server require an appsecret_proof argument", kind=_GRAPH_METHOD)


def proof_invalid() -> GraphError:
    """Code 100: the proof was made with another secret or for another token."""
    return GraphError(100, "Invalid appsecret_proof provided in the API argument", kind=_GRAPH_METHOD)


def scope_missing(scope: str) -> GraphError:
    """Code 200: the token lacks a permission."""
    return GraphError(200, f"Requires {scope} permission to manage the object", status=403)


def not_the_owner() -> GraphError:
    """Code 200: the audience is only shared with the token's ad accounts."""
    return GraphError(200, "The current user cannot update this audience", status=403)


def terms_not_accepted(account_id: str) -> GraphError:
    """200/1870090: nobody has accepted the Custom Audience terms for the account."""
    return GraphError(
        200,
        "Permissions error",
        subcode=1870090,
        status=403,
        title="Custom Audience Terms Not Accepted",
        advice=f"Accept the terms at https://business.facebook.com/ads/manage/customaudiences/tos/?act={account_id}",
    )


def removal_leaves_too_few() -> GraphError:
    """200/1870047: a removal would result in a low audience size."""
    return GraphError(
        200,
        "Permissions error",
        subcode=1870047,
        title="Audience Too Small",
        advice="Removing these people would result in a low audience size",
    )


def flagged_upload() -> GraphError:
    """100/1713230: membership of a flagged audience cannot change."""
    return GraphError(
        100,
        "Invalid parameter",
        subcode=1713230,
        title="Audience Flagged",
        advice="People cannot be added to or removed from this audience since it was flagged",
    )


def flagged_edit() -> GraphError:
    """100/1713228: a flagged audience cannot be edited."""
    return GraphError(
        100,
        "Invalid parameter",
        subcode=1713228,
        title="Audience Flagged",
        advice="This audience cannot be edited since it was flagged",
    )


def value_required() -> GraphError:
    """Code 100: rows of a value-based audience come without their value."""
    return GraphError(100, "Value-Based Custom Audience requires LOOKALIKE_VALUE attribute.")


def value_unexpected() -> GraphError:
    """Code 100: a value for an audience that takes none."""
    return GraphError(100, "LOOKALIKE_VALUE is only for Value-Based Custom Audiences.")


def data_source_mismatch(held: str, sent: str) -> GraphError:
    """Code 2650 without a subcode: the first upload fixed how an audience is loaded."""
    return GraphError(
        2650,
        "Failed to update the custom audience",
        title="Data Source Mismatch",
        advice=f"The data source {held} of this audience does not take {sent}",
    )


def update_failed(advice: str) -> GraphError:
    """Code 2650 without a subcode: the update cannot be done on this audience."""
    return GraphError(2650, "Failed to update the custom audience", title="Update Failed", advice=advice)


def too_large_to_replace() -> GraphError:
    """2650/1870144: replacing ends at 100 million members."""
    return GraphError(
        2650,
        "Failed to update the custom audience",
        subcode=1870144,
        title="Audience Too Large",
        advice="Audiences of 100 million people or more cannot be replaced",
    )


def replace_in_progress() -> GraphError:
    """2650/1870145: Meta is working on this audience."""
    return GraphError(
        2650,
        "Failed to update the custom audience",
        subcode=1870145,
        title="Audience Update In Progress",
        advice="Wait until the current replace has ended",
    )


def first_batch_missing() -> GraphError:
    """2650/1870147: a replace begins with batch 1."""
    return GraphError(
        2650,
        "Failed to update the custom audience",
        subcode=1870147,
        title="First Batch Missing",
        advice="No batch with batch_seq 1 of this session was received",
    )


def session_out_of_time() -> GraphError:
    """2650/1870158: the 90 minutes are over and what has come is applied."""
    return GraphError(
        2650,
        "Failed to update the custom audience",
        subcode=1870158,
        title="Session Out Of Time",
        advice="The session passed 90 minutes; the batches received until then are applied",
    )


def session_finished() -> GraphError:
    """2650/1870159: the last batch has come already."""
    return GraphError(
        2650,
        "Failed to update the custom audience",
        subcode=1870159,
        title="Session Finished",
        advice="The session has received its last batch and takes no more",
    )


def lookalikes_depend() -> GraphError:
    """Code 2656: lookalikes were made from this audience."""
    return GraphError(2656, "This audience is the source of lookalike audiences and cannot be deleted")


def cannot_create(advice: str) -> GraphError:
    """Code 2654: the audience was not created."""
    return GraphError(2654, "Failed to create the custom audience", title="Not Created", advice=advice)


def audience_calls_reached() -> GraphError:
    """80003/2446079: the calls of an hour to an ad account's audiences are used up."""
    return GraphError(
        80003, "There have been too many calls to this ad-account. Wait a bit and try again", subcode=2446079
    )


def account_score_reached() -> GraphError:
    """17/2446079: the calls of the last minutes to an ad account add up to too many points."""
    return GraphError(17, "User request limit reached", subcode=2446079)
