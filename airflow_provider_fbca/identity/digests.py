"""SHA-256 of normalised text, and cells that hold a digest already.

Meta takes no other hash, and both of the normalisers that it publishes pass 64 hex digits on as hashed. Sources:
https://developers.facebook.com/documentation/ads-commerce/marketing-api/audiences/guides/custom-audiences
https://github.com/facebook/capi-param-builder
https://github.com/facebookarchive/offline-conversion-file-uploader
"""

from __future__ import annotations

import re
from hashlib import sha256

from airflow_provider_fbca.identity.outcome import Blank

_HEX = re.compile(r"[0-9A-Fa-f]+", re.ASCII)
_SHA256_DIGITS = 64
_OTHER_DIGESTS = (32, 40)  # MD5, SHA-1
_LENGTHS = frozenset((_SHA256_DIGITS, *_OTHER_DIGESTS))
_OF_NOTHING = sha256(b"").digest()


def digest(text: str) -> bytes:
    """Give the 32 bytes of the SHA-256 digest of text."""
    return sha256(text.encode()).digest()


def read_digest(text: str) -> bytes | Blank | None:
    """Give the digest that a cell holds, why the digest is of no use, or None where the cell is no digest.

    :param text: one trimmed cell.
    """
    if len(text) not in _LENGTHS or not _HEX.fullmatch(text):
        return None
    if len(text) in _OTHER_DIGESTS:
        return Blank.OTHER_DIGEST
    found = bytes.fromhex(text)
    return Blank.DIGEST_OF_NOTHING if found == _OF_NOTHING else found
