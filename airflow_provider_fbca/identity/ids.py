"""MADID, EXTERN_ID, APPUID, PAGEUID and LOOKALIKE_VALUE: sent as they are, never hashed.

Sources of which keys must not be hashed, and of what a value may be:
https://developers.facebook.com/documentation/ads-commerce/marketing-api/audiences/guides/custom-audiences
https://developers.facebook.com/documentation/ads-commerce/marketing-api/audiences/guides/value-based-lookalike-audiences
"""

from __future__ import annotations

import math
import re
from typing import TYPE_CHECKING

import pyarrow.compute as pc

from airflow_provider_fbca.identity.outcome import Blank, Context
from airflow_provider_fbca.identity.text import ascii_digits, whole_number

if TYPE_CHECKING:
    import pyarrow as pa

_MADID = re.compile(r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}")
# What a phone answers whose owner has switched tracking off; it would make one person of all of them.
_MADID_OF_NOBODY = "00000000-0000-0000-0000-000000000000"

_NUMBER = re.compile(r"[+-]?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?", re.ASCII)
_NUMERIC_ID = re.compile(r"0*[1-9]\d*", re.ASCII)

# Five visible ASCII characters in a row: neither blank nor a placeholder.
_SURELY_AN_ID = r"[!-~]{5}"


def normalise_madid(text: str, context: Context) -> str | Blank:  # noqa: ARG001 - all rules take both
    """Give a mobile advertiser id in lower case, with its hyphens.

    :param text: one trimmed cell that is no placeholder.
    :param context: not used.
    """
    madid = text.lower()
    if not _MADID.fullmatch(madid) or madid == _MADID_OF_NOBODY:
        return Blank.NOT_A_MADID
    return madid


def keep_extern_id(text: str, context: Context) -> str | Blank:  # noqa: ARG001 - all rules take both
    """Give the advertiser's own id exactly as it is: Meta matches it letter by letter.

    :param text: one cell, not trimmed, that is no placeholder.
    :param context: not used.
    """
    return text


def normalise_numeric_id(text: str, context: Context) -> str | Blank:  # noqa: ARG001 - all rules take both
    """Give an app-scoped or page-scoped id: digits, as text, since ids exceed what JSON numbers hold.

    :param text: one trimmed cell that is no placeholder.
    :param context: not used.
    """
    number = whole_number(ascii_digits(text))
    return number if _NUMERIC_ID.fullmatch(number) else Blank.NOT_AN_ID


def normalise_value(text: str, context: Context) -> str | Blank:  # noqa: ARG001 - all rules take both
    """Give a person's worth as the shortest text of a finite number that is not negative.

    :param text: one trimmed cell that is no placeholder.
    :param context: not used.
    """
    if not _NUMBER.fullmatch(text):
        return Blank.NOT_A_VALUE
    value = float(text)
    if not math.isfinite(value) or value < 0:
        return Blank.NOT_A_VALUE
    return repr(abs(value))  # abs: minus zero is zero


def plain_extern_ids(texts: pa.Array, country: str | None) -> pa.Array:  # noqa: ARG001 - all fast paths take both
    """Give each text that is surely an id, null for any other.

    :param texts: Arrow strings, not trimmed.
    :param country: not used.
    """
    return pc.if_else(pc.match_substring_regex(texts, _SURELY_AN_ID), texts, None)


def plain_madids(texts: pa.Array, country: str | None) -> pa.Array:  # noqa: ARG001 - all fast paths take both
    """Give the lower-case form of each text that is surely a mobile advertiser id, null for any other.

    :param texts: Arrow strings, not trimmed.
    :param country: not used.
    """
    madids = pc.ascii_lower(texts)
    sure = pc.and_(pc.match_substring_regex(madids, f"^{_MADID.pattern}$"), pc.not_equal(madids, _MADID_OF_NOBODY))
    return pc.if_else(sure, madids, None)
