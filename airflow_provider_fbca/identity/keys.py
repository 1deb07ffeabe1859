"""The identifier keys of Meta's customer lists: what each is, how it is written, and which of them find a person.

The legacy single-key schemas (``EMAIL_SHA256`` and its kin) are left out, as an audience cannot mix the two. Source:
https://developers.facebook.com/documentation/ads-commerce/marketing-api/audiences/guides/custom-audiences
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from types import MappingProxyType

import pyarrow as pa

from airflow_provider_fbca.identity import dates, emails, genders, ids, ldu, names, phones, places
from airflow_provider_fbca.identity.countries import normalise_country
from airflow_provider_fbca.identity.outcome import Blank, Context
from airflow_provider_fbca.identity.vectors import plain_letters

#: A rule: one trimmed cell that is no placeholder, and its row's context, to the normalised text or why there is none.
Rule = Callable[[str, Context], str | Blank]

#: A fast path: Arrow strings, not trimmed, without null, and the country of them all, to what the rule gives for them,
#: null for each that it leaves to the rule.
FastPath = Callable[[pa.Array, str | None], pa.Array]

DIGEST = pa.binary(32)

#: The pseudo key of a column that holds a whole date of birth.
WHOLE_DATE = "DOB"


@dataclass(frozen=True, slots=True)
class Key:
    """One identifier key.

    :param name: the key as Meta's schema spells it.
    :param meaning: what it is, for messages.
    :param hashed: whether Meta gets the SHA-256 digest rather than the value.
    :param type: Arrow type of the prepared column.
    :param normalise: the rule; it is the definition that every faster path must equal.
    :param of_whole_date: the rule for a column that holds the whole date, for parts of a date of birth only.
    :param by_country: whether the rule looks at the row's country.
    :param plain: the fast path, where there is one.
    :param trimmed: whether the rule gets the cell trimmed; all but EXTERN_ID do.
    """

    name: str
    meaning: str
    hashed: bool
    type: pa.DataType
    normalise: Rule
    of_whole_date: Rule | None = None
    by_country: bool = False
    plain: FastPath | None = None
    trimmed: bool = True


_ALL = (
    Key("EMAIL", "e-mail address", True, DIGEST, emails.normalise_email, plain=emails.plain_emails),
    Key("PHONE", "phone number", True, DIGEST, phones.normalise_phone, by_country=True, plain=phones.plain_phones),
    Key("GEN", "gender", True, DIGEST, genders.normalise_gender),
    Key("DOBY", "year of birth", True, DIGEST, dates.normalise_year, of_whole_date=dates.year_of_date),
    Key("DOBM", "month of birth", True, DIGEST, dates.normalise_month, of_whole_date=dates.month_of_date),
    Key("DOBD", "day of birth", True, DIGEST, dates.normalise_day, of_whole_date=dates.day_of_date),
    Key("LN", "last name", True, DIGEST, names.normalise_name, plain=plain_letters),
    Key("FN", "first name", True, DIGEST, names.normalise_name, plain=plain_letters),
    Key("FI", "initial of the first name", True, DIGEST, names.normalise_initial),
    Key("CT", "city", True, DIGEST, places.normalise_city, plain=plain_letters),
    Key("ST", "state or province", True, DIGEST, places.normalise_state, by_country=True),
    Key("ZIP", "postal code", True, DIGEST, places.normalise_postal_code, by_country=True,
        plain=places.plain_us_zips),
    Key("COUNTRY", "country", True, DIGEST, normalise_country),
    Key("MADID", "mobile advertiser id", False, pa.string(), ids.normalise_madid, plain=ids.plain_madids),
    Key("EXTERN_ID", "your own id of a person", False, pa.string(), ids.keep_extern_id, plain=ids.plain_extern_ids,
        trimmed=False),
    Key("LOOKALIKE_VALUE", "a person's worth", False, pa.float64(), ids.normalise_value),
    Key("APPUID", "app-scoped user id", False, pa.string(), ids.normalise_numeric_id),
    Key("PAGEUID", "page-scoped user id", False, pa.string(), ids.normalise_numeric_id),
    Key(ldu.OPTIONS, "Limited Data Use", False, ldu.OPTIONS_TYPE, ldu.normalise_options),
    Key(ldu.COUNTRY, "country of Limited Data Use", False, ldu.PLACE_TYPE, ldu.normalise_country),
    Key(ldu.STATE, "state of Limited Data Use", False, ldu.PLACE_TYPE, ldu.normalise_state),
)  # fmt: skip

#: Every key by its name, in the order in which schemas list them.
KEYS: Mapping[str, Key] = MappingProxyType({key.name: key for key in _ALL})

#: The keys that say something of a person without telling who it is; a removal has no use for them.
ATTRIBUTES: frozenset[str] = frozenset({"LOOKALIKE_VALUE", ldu.OPTIONS, ldu.COUNTRY, ldu.STATE})

#: The sets of keys that find a person, each enough by itself.
COMBINATIONS: tuple[tuple[str, ...], ...] = (
    ("EMAIL",),
    ("PHONE",),
    ("MADID",),
    ("EXTERN_ID",),
    ("APPUID",),
    ("PAGEUID",),
    ("FN", "LN", "ZIP"),
    ("FN", "LN", "CT"),
    ("FN", "LN", "DOBY", "DOBM", "DOBD"),
)


def usable_combinations(keys: Collection[str]) -> tuple[tuple[str, ...], ...]:
    """Give the sets of keys, out of those given, that each find a person by themselves.

    :param keys: names of keys, in any order.
    :return: the sets in a fixed order, single keys first; empty where the keys find nobody.
    """
    return tuple(combination for combination in COMBINATIONS if set(combination) <= set(keys))
