"""What a rule answers when a cell cannot be used, and what it may know about the row around the cell."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum


class Blank(Enum):
    """Why a cell is sent as blank; the value of each member is its name in reports.

    A blank is never hashed: Meta wants ``""`` for what is not known, and the hash of nothing would be a member of its
    own. Source:
    https://developers.facebook.com/documentation/ads-commerce/marketing-api/reference/custom-audience/users
    """

    EMPTY = "empty"
    INEXACT_NUMBER = "number_beyond_exact_range"
    NOT_HASHED = "not_a_sha256_digest"
    OTHER_DIGEST = "md5_or_sha1_digest"
    DIGEST_OF_NOTHING = "digest_of_the_empty_string"
    NOT_AN_EMAIL = "not_an_email"
    PHONE_WITHOUT_COUNTRY = "phone_without_country"
    NOT_A_PHONE = "not_a_phone"
    NO_LETTERS = "no_letters"
    UNKNOWN_GENDER = "unknown_gender"
    NOT_A_YEAR = "not_a_year"
    NOT_A_MONTH = "not_a_month"
    NOT_A_DAY = "not_a_day"
    NOT_A_DATE = "not_a_date"
    TWO_DIGIT_YEAR = "two_digit_year"
    AMBIGUOUS_DATE = "ambiguous_date"
    UNKNOWN_COUNTRY = "unknown_country"
    UNKNOWN_STATE = "unknown_state"
    NOT_A_POSTAL_CODE = "not_a_postal_code"
    NOT_A_MADID = "not_a_mobile_advertiser_id"
    NOT_AN_ID = "not_a_numeric_id"
    NOT_A_VALUE = "not_a_value"
    NOT_OPTIONS = "not_data_processing_options"
    NOT_A_PLACE = "not_a_data_processing_place"

    @property
    def invalid(self) -> bool:
        """Whether the cell held something, as opposed to nothing or a placeholder for nothing."""
        return self is not Blank.EMPTY


@dataclass(frozen=True, slots=True)
class Context:
    """What a rule may know beside the cell itself.

    :param country: the row's country as a lower-case ISO 3166-1 alpha-2 code: that of its COUNTRY cell, else the
        default country; None where neither says, and where the COUNTRY cell holds what cannot be read (the default
        country stands in for a missing country, not for an unreadable one).
    :param transliterate: spell names, cities and states with the letters a to z.
    """

    country: str | None = None
    transliterate: bool = False
