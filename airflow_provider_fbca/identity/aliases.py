"""Column names that are understood without being told.

The first names of each list are those of Parsons' Facebook connector, which people's queries are written for already.
A bare ``id``, ``user_id`` or ``customer_id`` is never taken: whose id it is, the name does not say. Source:
https://move-coop.github.io/parsons/html/stable/facebook_ads.html
"""

from __future__ import annotations

import unicodedata
from difflib import get_close_matches
from functools import cache
from types import MappingProxyType
from typing import TYPE_CHECKING

from airflow_provider_fbca.identity import ldu
from airflow_provider_fbca.identity.keys import KEYS, WHOLE_DATE

if TYPE_CHECKING:
    from collections.abc import Mapping

_NAMES: Mapping[str, str] = {
    "EMAIL": "email, email address, voterbase_email, e_mail, e_mail_address, user_email, primary_email, mail",
    "PHONE": "phone, phone number, cell, landline, vb_voterbase_phone, vb_voterbase_phone_wireless, mobile, "
    "mobile_phone, mobile number, cell phone, telephone, telephone number, tel, msisdn",
    "GEN": "gen, gender, sex, vb_voterbase_gender",
    "DOBY": "doby, dob year, birth year, year of birth",
    "DOBM": "dobm, dob month, birth month, month of birth",
    "DOBD": "dobd, dob day, day of birth",
    WHOLE_DATE: "dob, vb_voterbase_dob, vb_tsmart_dob, date_of_birth, birth date, birthday, bday",
    "LN": "ln, last, last name, vb_tsmart_last_name, surname, family_name",
    "FN": "fn, first, first name, vb_tsmart_first_name, given_name, forename",
    "FI": "fi, first initial",
    "CT": "ct, city, vb_vf_reg_city, vb_tsmart_city, town, locality",
    "ST": "st, state, state code, vb_vf_source_state, vb_tsmart_state, vb_vf_reg_state, vb_vf_reg_cass_state, "
    "province, region, state_province",
    "ZIP": "zip, zip code, vb_vf_reg_zip, vb_tsmart_zip, postal, postal_code, postcode, zip5",
    "COUNTRY": "country, country code, country_iso, iso_country",
    "MADID": "madid, idfa, gaid, aaid, advertising_id, mobile_advertiser_id",
    "EXTERN_ID": "extern_id, external_id",
    "LOOKALIKE_VALUE": "lookalike_value, ltv, value",
    "APPUID": "appuid",
    "PAGEUID": "pageuid",
    ldu.OPTIONS: "data_processing_options, limited_data_use",
}

# Keys that people hold several of, in numbered columns.
_NUMBERED = ("EMAIL", "PHONE")

# Shorter names are like too many others.
_TELLING = 3


def fold_name(name: str) -> str:
    """Drop case, blanks and punctuation of a column's name."""
    return "".join(mark for mark in unicodedata.normalize("NFKC", name).casefold() if mark.isalnum())


def key_of_column(name: str) -> str | None:
    """Give the key that a column's name stands for, None where it stands for none.

    :param name: a column's name as the query spells it.
    :return: a key's name, or ``DOB`` for a whole date of birth.
    """
    folded = fold_name(name)
    if key := _aliases().get(folded):
        return key
    numbered = _aliases().get(folded.rstrip("123456789"))
    return numbered if numbered in _NUMBERED else None


def near_key(name: str) -> str | None:
    """Give the key that a column's name was perhaps meant for, by a likeness of spelling."""
    close = get_close_matches(
        fold_name(name), [alias for alias in _aliases() if len(alias) >= _TELLING], n=1, cutoff=0.8
    )
    return _aliases()[close[0]] if close else None


@cache
def _aliases() -> Mapping[str, str]:
    aliases = {fold_name(key): key for key in KEYS}
    for key, names in _NAMES.items():
        aliases.update((fold_name(name), key) for name in names.split(","))
    return MappingProxyType(aliases)
