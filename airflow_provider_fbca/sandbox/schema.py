"""The keys of an upload's schema: which exist, which are hashed, which single out a person.

Sources: the Custom Audience guide and the reference of the users edge
(https://developers.facebook.com/documentation/ads-commerce/marketing-api/reference/custom-audience/users).
"""

from __future__ import annotations

#: Keys whose cells are SHA-256 digests as 64 lower-case hex digits.
HASHED_KEYS = (
    "EMAIL",
    "PHONE",
    "GEN",
    "DOBY",
    "DOBM",
    "DOBD",
    "LN",
    "FN",
    "FI",
    "CT",
    "ST",
    "ZIP",
    "COUNTRY",
)

#: Keys whose cells are the identifier itself.
PLAIN_KEYS = ("MADID", "EXTERN_ID", "UID", "APPUID", "PAGEUID")

#: What is said about a person and does not help to find the person.
VALUE_KEY = "LOOKALIKE_VALUE"
OPTIONS_KEY = "DATA_PROCESSING_OPTIONS"
OPTIONS_COUNTRY_KEY = "DATA_PROCESSING_OPTIONS_COUNTRY"
OPTIONS_STATE_KEY = "DATA_PROCESSING_OPTIONS_STATE"
ATTRIBUTE_KEYS = (VALUE_KEY, OPTIONS_KEY, OPTIONS_COUNTRY_KEY, OPTIONS_STATE_KEY)

#: The keys that make a row that row, in one fixed order.
IDENTITY_KEYS = (*HASHED_KEYS, *PLAIN_KEYS)
ALL_KEYS = (*IDENTITY_KEYS, *ATTRIBUTE_KEYS)

#: The legacy schemas that are a string for flat data, and the key that each stands for.
STRING_SCHEMAS = {
    "EMAIL_SHA256": "EMAIL",
    "PHONE_SHA256": "PHONE",
    "MOBILE_ADVERTISER_ID": "MADID",
} | {key: key for key in IDENTITY_KEYS}

#: Each set of keys that together single out one person; a row may hold several.
COMBINATIONS: tuple[tuple[str, ...], ...] = (
    ("EMAIL",),
    ("PHONE",),
    ("MADID",),
    ("EXTERN_ID",),
    ("UID",),
    ("APPUID",),
    ("PAGEUID",),
    ("FN", "LN", "ZIP"),
    ("FN", "LN", "CT"),
    ("FN", "LN", "DOBY", "DOBM", "DOBD"),
)
