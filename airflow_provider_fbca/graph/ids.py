"""Ids of Meta's objects: digits, kept as text since they exceed what JSON numbers hold everywhere."""

from __future__ import annotations

import re

from airflow_provider_fbca.exceptions import OptionsError

_DIGITS = re.compile(r"[0-9]{1,30}")


def audience_number(audience_id: str) -> str:
    """Check the id of an audience.

    :param audience_id: what a user gave.
    :returns: its digits.
    :raises OptionsError: it is not a number, and must not get into a path.
    """
    text = str(audience_id).strip()
    if not _DIGITS.fullmatch(text):
        raise OptionsError("An audience id consists of digits only.", remedy="Copy it from Ads Manager, Audiences.")
    return text


def account_number(account_id: str) -> str:
    """Check the id of an ad account.

    :param account_id: what a user gave, with or without ``act_``.
    :returns: its digits.
    :raises OptionsError: it is not a number, and must not get into a path.
    """
    text = str(account_id).strip().removeprefix("act_")
    if not _DIGITS.fullmatch(text):
        raise OptionsError(
            "An ad account id consists of digits, with act_ before them or not.",
            remedy="Copy it from Ads Manager or set ad_account_id in the connection's extra.",
        )
    return text
