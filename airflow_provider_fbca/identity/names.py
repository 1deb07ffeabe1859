"""LN, FN and FI: lower-case, without punctuation and white space, letters of every script kept.

Meta's guide asks for lower-case letters without punctuation and allows special characters in UTF-8. Source:
https://developers.facebook.com/documentation/ads-commerce/marketing-api/audiences/guides/custom-audiences
"""

from __future__ import annotations

from airflow_provider_fbca.identity.outcome import Blank, Context
from airflow_provider_fbca.identity.text import letters_of_name


def normalise_name(text: str, context: Context) -> str | Blank:
    """Give a first or last name as Meta hashes it.

    :param text: one trimmed cell that is no placeholder.
    :param context: says whether to transliterate.
    """
    name = letters_of_name(text, transliterate=context.transliterate)
    if not any(mark.isalpha() for mark in name):
        return Blank.NO_LETTERS
    return name


def normalise_initial(text: str, context: Context) -> str | Blank:
    """Give the first character of the normalised first name.

    :param text: a first name or its initial.
    :param context: says whether to transliterate.
    """
    name = normalise_name(text, context)
    if isinstance(name, Blank):
        return name
    return name[0] if name[0].isalpha() else Blank.NO_LETTERS
