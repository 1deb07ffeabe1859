"""EMAIL: trimmed, lower-case, exactly one ``@``.

Dots and ``+tags`` stay, as no provider's folding is part of Meta's rule. Source:
https://developers.facebook.com/documentation/ads-commerce/marketing-api/audiences/guides/custom-audiences
"""

from __future__ import annotations

import re
import unicodedata
from typing import TYPE_CHECKING

import pyarrow.compute as pc

from airflow_provider_fbca.identity.outcome import Blank, Context
from airflow_provider_fbca.identity.text import without_zero_width

if TYPE_CHECKING:
    import pyarrow as pa

# RFC 5321, 4.5.3.1: 64 before the @, 255 behind it, 254 in all by the limit of a path.
_LONGEST = 254

# The addresses that need no second look, written so that RE2 (Arrow) and Python read it alike.
PLAIN_ASCII = r"^[a-z0-9!#$%&'*+/=?^_`{|}~.-]+@(?:[a-z0-9_-]+\.)+[a-z0-9_-]*[a-z0-9]$"

_PLAIN = re.compile(PLAIN_ASCII[:-1] + r"\Z")
_IMPOSSIBLE = re.compile(r'[\s\x00-\x20\x7f-\x9f()<>,;:\\"\[\]@]')


def normalise_email(text: str, context: Context) -> str | Blank:  # noqa: ARG001 - all rules take both
    """Give the address as Meta hashes it, or the reason why the text is none.

    :param text: one trimmed cell that is no placeholder.
    :param context: not used.
    """
    address = without_zero_width(text).lower()
    if not address.isascii():
        address = unicodedata.normalize("NFC", address)
    if len(address) > _LONGEST:
        return Blank.NOT_AN_EMAIL
    sane = _PLAIN.match(address) if address.isascii() else _is_sane(address)
    return address if sane else Blank.NOT_AN_EMAIL


def _is_sane(address: str) -> bool:
    """Tell whether an address with letters beyond ASCII has the parts of one and no mark that none has."""
    local, at, domain = address.partition("@")
    labels = domain.split(".")
    return (
        bool(local and at)
        and len(labels) > 1
        and all(labels)
        and _is_label_end(labels[-1][-1])
        and not _IMPOSSIBLE.search(local)
        and not _IMPOSSIBLE.search(domain)
    )


def _is_label_end(mark: str) -> bool:
    return mark.isalnum() or unicodedata.category(mark).startswith("M")


def plain_emails(texts: pa.Array, country: str | None) -> pa.Array:  # noqa: ARG001 - all fast paths take both
    """Give the normalised address for each text that is plain ASCII and surely right, null for any other.

    :param texts: Arrow strings, not trimmed.
    :param country: not used.
    """
    addresses = pc.ascii_trim_whitespace(pc.ascii_lower(texts))
    plain = pc.match_substring_regex(addresses, PLAIN_ASCII)
    short = pc.less_equal(pc.binary_length(addresses), _LONGEST)
    return pc.if_else(pc.and_(plain, short), addresses, None)
