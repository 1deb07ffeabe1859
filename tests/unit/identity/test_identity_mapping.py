"""Which columns feed which keys, and what is said where none does."""
# ruff: noqa: E501 - tables of examples read best one a line

from __future__ import annotations

import pytest

from airflow_provider_fbca.exceptions import MappingError
from airflow_provider_fbca.identity import KEYS, resolve_mapping, usable_combinations

NAMES = {
    "EMAIL": "email|Email Address|voterbase_email|e_mail|E-Mail|email1|EMAIL_2|user_email|primary_email|mail",
    "PHONE": "phone|Phone Number|cell|landline|vb_voterbase_phone|vb_voterbase_phone_wireless|mobile|mobile_phone|phone1|phone_2|telephone|tel|msisdn",
    "FN": "fn|first|First Name|vb_tsmart_first_name|given_name|forename|firstname",
    "LN": "ln|last|last name|vb_tsmart_last_name|surname|family_name|lastname",
    "FI": "fi",
    "CT": "ct|city|vb_vf_reg_city|vb_tsmart_city|town|locality",
    "ST": "st|state|state code|vb_vf_source_state|vb_tsmart_state|vb_vf_reg_state|vb_vf_reg_cass_state|province|region|state_province",
    "ZIP": "zip|zip code|vb_vf_reg_zip|vb_tsmart_zip|postal|postal_code|postcode|zip5",
    "COUNTRY": "country|country code|country_iso|iso_country",
    "GEN": "gen|gender|sex|vb_voterbase_gender",
    "DOBY": "doby|dob year|birth year|dob|vb_voterbase_dob|vb_tsmart_dob|date_of_birth|birthday|birthdate|bday",
    "DOBM": "dobm|dob month|birth month",
    "DOBD": "dobd|dob day|day of birth",
    "MADID": "idfa|gaid|aaid|advertising_id|madid|mobile_advertiser_id",
    "EXTERN_ID": "external_id|extern_id",
    "LOOKALIKE_VALUE": "ltv|value|lookalike_value",
    "APPUID": "appuid",
    "PAGEUID": "pageuid",
}  # fmt: skip


@pytest.mark.parametrize(("key", "name"), [(key, name) for key, names in NAMES.items() for name in names.split("|")])
def test_understands_the_names_people_use(key: str, name: str) -> None:
    other = "external_id" if key != "EXTERN_ID" else "madid"
    for spelling in (name, name.upper(), name.replace("_", " ").title()):
        mapping = resolve_mapping([spelling, other])
        assert spelling in {source.column for source in mapping.sources[key]}
        assert mapping.sources[key][0].reason == "alias"
        assert mapping.ignored == ()


@pytest.mark.parametrize("name", ["id", "user_id", "customer_id", "ID", "uid", "zip4", "name", "address", "notes", "email_opt_in", "city2"])  # fmt: skip
def test_never_takes_a_name_that_does_not_say_what_it_holds(name: str) -> None:
    mapping = resolve_mapping(["email", name])
    assert mapping.ignored == (name,)
    assert mapping.keys == ("EMAIL",)


def test_birth_day_is_a_day_beside_a_birth_month_and_a_date_without() -> None:
    apart = resolve_mapping(["email", "birth year", "birth month", "birth day"])
    assert [(source.column, source.role) for source in apart.sources["DOBD"]] == [("birth day", "value")]
    whole = resolve_mapping(["email", "birthday"])
    assert {source.role for key in ("DOBY", "DOBM", "DOBD") for source in whole.sources[key]} == {"whole_date"}


def test_keys_come_in_the_order_of_schemas_whatever_the_order_of_columns() -> None:
    names = ["value", "madid", "zip", "last", "first", "dob", "phone", "email"]
    expected = ("EMAIL", "PHONE", "DOBY", "DOBM", "DOBD", "LN", "FN", "ZIP", "MADID", "LOOKALIKE_VALUE")
    assert resolve_mapping(names).keys == expected == tuple(key for key in KEYS if key in expected)


def test_several_columns_feed_a_key_in_the_order_of_the_query() -> None:
    mapping = resolve_mapping(["primary_email", "email", "birth_year", "dob"])
    assert [source.column for source in mapping.sources["EMAIL"]] == ["primary_email", "email"]
    assert [(source.column, source.role) for source in mapping.sources["DOBY"]] == [
        ("birth_year", "value"),
        ("dob", "whole_date"),
    ]


def test_explicit_columns_come_in_the_order_given_and_leave_all_others_out() -> None:
    mapping = resolve_mapping(["email", "b", "a", "phone"], {"a": "email", "b": "EMAIL"})
    assert [(source.column, source.reason) for source in mapping.sources["EMAIL"]] == [
        ("a", "explicit"),
        ("b", "explicit"),
    ]
    assert mapping.ignored == ("email", "phone")


def test_one_column_may_feed_several_keys() -> None:
    mapping = resolve_mapping(["n", "l", "z"], {"n": ["FN", "FI"], "l": "LN", "z": "ZIP"})
    assert mapping.keys == ("LN", "FN", "FI", "ZIP")
    assert mapping.columns == ("l", "n", "z")


def test_a_whole_date_may_be_named_in_columns() -> None:
    mapping = resolve_mapping(["born", "f", "l"], {"born": "dob", "f": "FN", "l": "LN"})
    assert mapping.keys == ("DOBY", "DOBM", "DOBD", "LN", "FN")


def test_columns_match_whatever_case_the_database_gave_them() -> None:
    assert resolve_mapping(["MAIL_ADR"], {"mail_adr": "EMAIL"}).sources["EMAIL"][0].column == "MAIL_ADR"


def test_describes_itself_with_names_only() -> None:
    mapping = resolve_mapping(["email", "mail", "dob", "first", "last", "notes"])
    assert mapping.describe() == [
        "EMAIL <- email then mail [alias]",
        "DOBY <- dob (whole date) [alias]",
        "DOBM <- dob (whole date) [alias]",
        "DOBD <- dob (whole date) [alias]",
        "LN <- last [alias]",
        "FN <- first [alias]",
        "ignored: notes",
    ]


@pytest.mark.parametrize(
    ("names", "columns", "said"),
    [
        (["email", "phone", "email"], None, ["'email'", "name of its own"]),
        (["email"], {"emial": "EMAIL"}, ["'emial'", "columns are 'email'", "Did you mean 'email'?"]),
        (["A", "a"], {"Á": "EMAIL"}, ["'Á'", "'A' and 'a'"]),
        (["email"], {"email": "EMIAL"}, ["'EMIAL'", "Did you mean EMAIL", "keys are EMAIL, PHONE"]),
        (["email"], {"email": "surname"}, ["'surname'", "Did you mean LN"]),
        (["emial", "x"], None, ["'emial' looks like EMAIL", "Needed is a column for EMAIL", "Unused columns: 'emial' and 'x'"]),
        (["first", "zip"], None, ["FN, ZIP", "do not find a person", "FN and LN with one of ZIP"]),
        (["first", "last", "birth_year"], None, ["DOBY, LN, FN"]),
        (["email"], {}, ["None of the columns 'email'"]),
        ([], None, ["The users have no columns"]),
        (["value"], None, ["LOOKALIKE_VALUE"]),
        (["email"], {"email": []}, ["None of the columns"]),
        (["email"], {"email": None}, ["None", "is no key"]),
    ],
)  # fmt: skip
def test_says_what_is_wrong_and_what_to_do(names: list[str], columns: dict[str, str] | None, said: list[str]) -> None:
    with pytest.raises(MappingError) as caught:
        resolve_mapping(names, columns)
    for part in said:
        assert part in str(caught.value)


@pytest.mark.parametrize(
    ("keys", "combinations"),
    [
        ((), ()),
        (("FN", "LN"), ()),
        (("FI", "LN", "ZIP"), ()),
        (("FN", "LN", "DOBY", "DOBM"), ()),
        (("GEN", "COUNTRY", "ZIP", "LOOKALIKE_VALUE"), ()),
        (("EMAIL", "PHONE"), (("EMAIL",), ("PHONE",))),
        (("CT", "ZIP", "LN", "FN"), (("FN", "LN", "ZIP"), ("FN", "LN", "CT"))),
        (("DOBD", "DOBM", "DOBY", "LN", "FN"), (("FN", "LN", "DOBY", "DOBM", "DOBD"),)),
        (("MADID", "EXTERN_ID", "APPUID", "PAGEUID"), (("MADID",), ("EXTERN_ID",), ("APPUID",), ("PAGEUID",))),
    ],
)
def test_combinations_that_find_a_person(keys: tuple[str, ...], combinations: tuple[tuple[str, ...], ...]) -> None:
    assert usable_combinations(keys) == combinations
