"""What Meta's refusal of a batch is about: its size, its rows, or neither.

.. seealso::
    https://developers.facebook.com/documentation/ads-commerce/marketing-api/error-reference and
    https://developers.facebook.com/docs/graph-api/guides/error-handling
"""

from __future__ import annotations

from http import HTTPStatus
from typing import Final

from airflow_provider_fbca.exceptions import GraphRequestError, GraphTransientError

_UNKNOWN_FAULT: Final = 1
_INVALID_PARAMETER: Final = 100
_TOO_MANY_PARAMETERS: Final = 105


def is_about_size(error: BaseException) -> bool:
    """Tell whether a batch was refused for its size; it was not applied.

    :param error: what its request raised.
    """
    return isinstance(error, GraphRequestError) and (
        error.http_status == HTTPStatus.REQUEST_ENTITY_TOO_LARGE or error.code == _TOO_MANY_PARAMETERS
    )


def may_be_about_size(error: BaseException) -> bool:
    """Tell whether the size of a batch may be why it failed, if it fails so twice; it may have been applied.

    Meta's unknown fault asks at times to "reduce the amount of data", and what is too large for a proxy or for Meta's
    front door often ends in a page of HTML or a broken connection.

    :param error: what its request raised.
    """
    if not isinstance(error, GraphTransientError):
        return False
    return error.code == _UNKNOWN_FAULT or (error.code is None and error.outcome_unknown)


def is_about_rows(error: BaseException) -> bool:
    """Tell whether a batch was refused for what is in it; it was not applied.

    Meta gives invalid parameters a subcode where it is about anything else than the data, and what is about the proof
    has an exception of its own.

    :param error: what its request raised.
    """
    return type(error) is GraphRequestError and error.code == _INVALID_PARAMETER and error.subcode is None
