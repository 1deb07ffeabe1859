"""Each rule of each key, cell by cell."""
# ruff: noqa: E501, RUF001 - tables of examples, in all scripts, read best one a line

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from airflow_provider_fbca.identity import KEYS, Blank, Context
from airflow_provider_fbca.identity.text import trim

THIS_YEAR = datetime.now(tz=UTC).year
ZWSP, BOM, NBSP, SOFT_HYPHEN = "\u200b", "\ufeff", "\u00a0", "\u00ad"


def normalised(key: str, text: str, country: str | None = None, *, transliterate: bool = False) -> str | Blank:
    return KEYS[key].normalise(trim(text), Context(country, transliterate))


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Mary.Ann+news@Example.COM", "mary.ann+news@example.com"),
        (f"{BOM} mary@example.com{NBSP}\t\r\n", "mary@example.com"),
        (f"ma{ZWSP}ry@example.com", "mary@example.com"),
        ("o'neill@example.co.uk", "o'neill@example.co.uk"),
        ("a..b.@docomo.ne.jp", "a..b.@docomo.ne.jp"),
        ("JÜRGEN@exämple.de", "jürgen@exämple.de"),
        ("ju\u0308rgen@example.de", "jürgen@example.de"),
        ("почта@пример.рф", "почта@пример.рф"),
        ("mary@xn--bcher-kva.example", "mary@xn--bcher-kva.example"),
    ],
)
def test_email_is_trimmed_and_lower_case_and_else_untouched(text: str, expected: str) -> None:
    assert normalised("EMAIL", text) == expected


@pytest.mark.parametrize(
    "text",
    [
        *(
            "mary",
            "mary@",
            "@example.com",
            "a@b@example.com",
            "mary@example",
            "mary ann@example.com",
            "mary@exam ple.com",
        ),
        *("mary@example..com", "mary@.example.com", "mary@example.com.", "a@b.com,c@d.com", "a@b.com;c@d.com"),
        *(
            "Mary <mary@example.com>",
            "mailto:mary@example.com",
            "mary@example.com\x00x",
            "mary@-",
            "é@",
            "é@b",
            "é@b@c.de",
        ),
        "x" * 250 + "@example.com",
    ],
)
def test_email_that_is_none_is_blank(text: str) -> None:
    assert normalised("EMAIL", text) is Blank.NOT_AN_EMAIL


@pytest.mark.parametrize(
    ("text", "country", "expected"),
    [
        ("+33 (0)6 12 34 56 78", None, "33612345678"),
        ("+34 (0)612 345 678", None, "34612345678"),  # Spain has no trunk zero, yet people write one
        ("+39 06 1234 5678", None, "390612345678"),
        ("06 1234 5678", "it", "390612345678"),
        ("+39 (0)6 1234 5678", None, "390612345678"),
        ("+39 347 123 4567", None, "393471234567"),
        ("0170 1234567", "de", "491701234567"),
        ("0044 7911 123456", None, "447911123456"),
        ("0044 7911 123456", "us", "447911123456"),  # although Americans dial 011
        ("011 44 7911 123456", "us", "447911123456"),
        ("+0044 7911 123456", None, "447911123456"),
        ("++44 7911 123456", None, "447911123456"),
        ("\uff0b\uff14\uff14 7911 123456", None, "447911123456"),
        ("٠٦١٢٣٤٥٦٧٨", "fr", "33612345678"),
        ("०६१२३४५६७८", "fr", "33612345678"),
        ("(650) 555-1212", "us", "16505551212"),
        ("1-650-555-1212", "us", "16505551212"),
        ("650.555.1212 x12", "us", "16505551212"),
        ("650 555 1212 ext. 12", "us", "16505551212"),
        ("650 555 1212 #12", "us", "16505551212"),
        ("650-555-1212 home", "us", "16505551212"),
        ("01 23 45 67 89 poste 12", "fr", "33123456789"),
        ("030 123456 privat", "de", "4930123456"),
        ("tel: 06 12 34 56 78", "fr", "33612345678"),
        ("tel:+33612345678", None, "33612345678"),
        (f"{ZWSP}+33{NBSP}6\u202c12345678", None, "33612345678"),
        ("6505551212.0", "us", "16505551212"),
        ("6.505551212E9", "us", "16505551212"),
        ("491701234567", "de", "491701234567"),  # the country code is there, only the plus is lost
        ("447911123456", "gb", "447911123456"),
        ("33612345678", "fr", "33612345678"),
        ("39 347 1234567", "it", "393471234567"),
        ("8 912 345-67-89", "ru", "79123456789"),
        ("11 98765-4321", "br", "5511987654321"),
        ("0055 11 98765-4321", "br", "5511987654321"),
        ("+383 44 123 456", None, "38344123456"),
        ("787-555-1212", "pr", "17875551212"),
        ("+33\u20096\u202f12\u200934\u202f56\u200978", None, "33612345678"),  # thin spaces, as French writes them
        ("06\u202f12\u202f34\u202f56\u202f78", "fr", "33612345678"),
        ("+852 (0)5123 4567", None, "85251234567"),  # Hong Kong has no trunk zero, and numbers of nine digits
        ("+420 (0)601 123 456", None, "420601123456"),
        ("+1 (0)650 555 1212", None, "16505551212"),
        ("0011 44 7911 123456", "au", "447911123456"),  # so Australians dial abroad
        ("0011 248 251 2345", "au", "2482512345"),
        ("0011 1 650 555 1212", "au", "16505551212"),
        ("0055 11 98765-4321", "jp", "5511987654321"),
        ("612345678", "it", "390612345678"),  # the zero of Rome, lost in a number
        ("612345678.0", "it", "390612345678"),
        ("3471234567.0", "it", "393471234567"),
    ],
)
def test_phone_is_country_code_and_number(text: str, country: str | None, expected: str) -> None:
    assert normalised("PHONE", text, country) == expected


@pytest.mark.parametrize("text", ["06 12 34 56 78", "6505551212", "15559876543", "555-1212", "(0)7911 123456"])
def test_phone_without_any_country_is_blank_with_its_own_reason(text: str) -> None:
    assert normalised("PHONE", text) is Blank.PHONE_WITHOUT_COUNTRY


@pytest.mark.parametrize(
    ("text", "country"),
    [
        ("555-1212", "us"),  # possible only within its area
        ("1-800-FLOWERS", "us"),
        ("+999 123456789", None),
        ("+44", None),
        ("+33 6 12 34 56 78 / +33 6 98 76 54 32", None),
        ("unknown", "us"),
        ("unknown", None),
        ("n. a. 1", None),
        ("0", "us"),
        ("000000", "us"),
        ("+", None),
        ("6505551212.5", "us"),
        ("1e+20", "us"),
    ],
)
def test_phone_that_cannot_be_is_blank(text: str, country: str | None) -> None:
    assert normalised("PHONE", text, country) is Blank.NOT_A_PHONE


@pytest.mark.parametrize("key", ["FN", "LN"])
@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Mary Ann", "maryann"),
        ("D\u2019Angelo", "dangelo"),
        ("D\u02bcAngelo", "dangelo"),
        ("Ka\u02bbahumanu", "kaahumanu"),
        ("“Bob”", "bob"),
        ("Smith\u2013Jones\u2014Lee", "smithjoneslee"),
        ("St. John, Jr.", "stjohnjr"),
        ("`x´y¨z^", "xyz"),
        (f"{BOM}Zo{ZWSP}ë{SOFT_HYPHEN}{NBSP}", "zoë"),
        ("e" + ZWSP + "\u0301", "\u00e9"),
        ("STRASSE ß", "strasseß"),  # lower-case, not case-folded
        ("İpek", "i\u0307pek"),
        ("ΟΔΥΣΣΕΥΣ", "οδυσσευς"),
        ("दीपिका", "दीपिका"),
        ("Мария-Луиза", "мариялуиза"),
        ("😀Ann❤️", "ann"),
        ("Ann3", "ann3"),
    ],
)
def test_name_keeps_letters_of_every_script_and_nothing_else(key: str, text: str, expected: str) -> None:
    assert normalised(key, text) == expected


@pytest.mark.parametrize("text", ["-", "'", "...", "123", "😀", "\u0301", f"{ZWSP}-{ZWSP}"])
def test_name_without_letters_is_blank(text: str) -> None:
    assert normalised("LN", text) is Blank.NO_LETTERS
    assert normalised("FI", text) is Blank.NO_LETTERS


@pytest.mark.parametrize(
    ("key", "text", "expected"),
    [
        *(("LN", "Müller", "muller"), ("FN", "José María", "josemaria"), ("LN", "山田", "shantian"), ("FI", "Émile", "e")),
        *(("CT", "München", "munchen"), ("CT", "São Paulo", "saopaulo"), ("CT", "Łódź", "lodz"), ("ST", "Île-de-France", "iledefrance")),
    ],
)  # fmt: skip
def test_transliteration_spells_with_a_to_z(key: str, text: str, expected: str) -> None:
    assert normalised(key, text, "fr", transliterate=True) == expected


@pytest.mark.parametrize(
    ("text", "expected"), [("John", "j"), ("J.", "j"), (" élodie", "é"), ("'Ann", "a"), ("정", "정"), ("Ǆ", "ǆ")]
)
def test_initial_is_the_first_character_of_the_normalised_name(text: str, expected: str) -> None:
    assert normalised("FI", text) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        *(("München", "mnchen"), ("São Paulo", "sopaulo"), ("Sa\u0303o Paulo", "sopaulo"), ("St. Louis", "stlouis")),
        *(("Paris 12", "paris"), ("’s-Hertogenbosch", "shertogenbosch"), ("NEW YORK", "newyork")),
    ],
)
def test_city_loses_what_is_not_a_to_z(text: str, expected: str) -> None:
    assert normalised("CT", text) == expected


@pytest.mark.parametrize("text", ["東京", "12345", "-", "é"])
def test_city_without_latin_letters_is_blank(text: str) -> None:
    assert normalised("CT", text) is Blank.NO_LETTERS


@pytest.mark.parametrize(
    ("text", "country", "expected"),
    [
        *(("New York", "us", "ny"), ("new  york", "us", "ny"), ("N.Y.", "us", "ny"), ("US-NY", "us", "ny")),
        *(("District of Columbia", "us", "dc"), ("D.C.", "us", "dc"), ("Washington, D.C.", "us", "dc"), ("Washington", "us", "wa")),
        *(("Puerto Rico", "us", "pr"), ("PR", "pr", "pr"), ("Guam", "gu", "gu"), ("AE", "us", "ae"), ("U.S. Virgin Islands", "us", "vi")),
        *(("Québec", "ca", "qc"), ("Nouvelle-Écosse", "ca", "ns"), ("Nueva York", "us", "ny"), ("Quebec", "ca", "qc"), ("British Columbia", "ca", "bc"), ("ON", "ca", "on")),
        *(("West Virginia", None, "wv"), ("TX", None, "tx"), ("Ontario", None, "on"), ("Nova Scotia", None, "ns")),
        *(("Nordrhein-Westfalen", "de", "nordrheinwestfalen"), ("NSW", "au", "nsw"), ("Georgia", "us", "ga"), ("CA", "it", "ca")),
        *(("Hawai\u02bbi", "us", "hi"), ("Hawai'i", "us", "hi"), ("State of New York", "us", "ny"), ("Washington State", "us", "wa"), ("Commonwealth of Puerto Rico", "us", "pr")),
        *(("Yukon Territory", "ca", "yt"), ("Newfoundland", "ca", "nl"), ("P.E.I.", "ca", "pe"), ("N.W.T.", "ca", "nt"), ("PQ", "ca", "qc"), ("District of Columbia", "us", "dc")),
        *(("New South Wales", None, "newsouthwales"), ("Île-de-France", "fr", "ledefrance")),
    ],
)  # fmt: skip
def test_state_is_a_code_in_the_us_and_canada_and_a_clean_name_elsewhere(
    text: str, country: str | None, expected: str
) -> None:
    assert normalised("ST", text, country) == expected


@pytest.mark.parametrize(("text", "country"), [("Bayern", "us"), ("XX", "us"), ("Texas", "ca"), ("0", "us")])
def test_state_unknown_to_the_us_or_canada_is_blank(text: str, country: str) -> None:
    assert normalised("ST", text, country) is Blank.UNKNOWN_STATE


def test_state_without_latin_letters_is_blank() -> None:
    assert normalised("ST", "東京都", "jp") is Blank.NO_LETTERS


@pytest.mark.parametrize(
    ("text", "country", "expected"),
    [
        *(("94025", "us", "94025"), ("94025 3215", "us", "94025"), ("940253215", "us", "94025"), ("94025-", "us", "94025")),
        *(("2108", "us", "02108"), ("2108.0", "us", "02108"), ("501", "us", "00501"), ("21081234", "us", "02108")),
        *(("2108-1234", "us", "02108"), ("5011234", "us", "00501"), ("907", "pr", "00907"), ("\uff19\uff14\uff10\uff12\uff15", "us", "94025")),
        *(("SW1A 1AA", "gb", "sw1a1aa"), ("sw1a\u00a01aa", "gb", "sw1a1aa"), ("GIR 0AA", "gb", "gir0aa"), ("EC1A-1BB", "gb", "ec1a1bb")),
        *(("K1A-0B1", "ca", "k1a0b1"), ("k1a0b1", "ca", "k1a0b1")),
        *(("00-950", "pl", "00950"), ("1000-205", "pt", "1000205"), ("100-0001", "jp", "1000001"), ("01310-100", "br", "01310100"), ("1012 AB", "nl", "1012ab")),
        *(("80331", "de", "80331"), ("D02 AF30", "ie", "d02af30"), ("75008", None, "75008"), ("M1 1AE", None, "m11ae")),
        *(("94025-3215", None, "94025"), ("2108", None, "2108"), ("'02108", "us", "02108"), ("02108.", "us", "02108"), ("\u201902108", "us", "02108")),
        *(("D-01067", "de", "01067"), ("SE-111 20", "se", "11120"), ("CH-8001", "ch", "8001"), ("F-75008", "fr", "75008"), ("LV-1050", "lv", "lv1050"), ("AT-1010", "de", "at1010")),
        *(("1067", "de", "01067"), ("1067.0", "de", "01067"), ("D-1067", "de", "01067"), ("150", "no", "0150"), ("10", "no", "0010"), ("800", "au", "0800"), ("1310100", "br", "01310100"), ("600000", "jp", "0600000")),
        *(("118", "it", "00118"), ("6123", "mx", "06123"), ("8001", "es", "08001"), ("8001", "ch", "8001"), ("1000", "pt", "1000"), ("310100", "br", "310100"), ("1067", None, "1067")),
    ],
)  # fmt: skip
def test_postal_code_is_written_as_its_country_does(text: str, country: str | None, expected: str) -> None:
    assert normalised("ZIP", text, country) == expected


@pytest.mark.parametrize(
    ("text", "country"),
    [
        *(("12", "us"), ("123456", "us"), ("00000", "us"), ("ABCDE", "us"), ("-94025", "us"), ("94025-32", "us")),
        *(("M1", "gb"), ("12345", "gb"), ("K1A", "ca"), ("K1A 0B11", "ca"), ("unknown", "de"), ("-", None), ("12345678901", None)),
    ],
)  # fmt: skip
def test_postal_code_that_cannot_be_is_blank(text: str, country: str | None) -> None:
    assert normalised("ZIP", text, country) is Blank.NOT_A_POSTAL_CODE


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        *(("us", "us"), ("USA", "us"), ("U.S.A.", "us"), ("United States", "us"), ("United States of America", "us")),
        *(("UK", "gb"), ("uk", "gb"), ("U.A.E.", "ae"), ("Great Britain", "gb"), ("England", "gb"), ("Wales", "gb"), ("Northern Ireland", "gb")),
        *(("Deutschland", "de"), ("España", "es"), ("espana", "es"), ("日本", "jp"), ("Россия", "ru"), ("中国", "cn"), ("مصر", "eg")),
        *(("Côte d'Ivoire", "ci"), ("Turkey", "tr"), ("Türkiye", "tr"), ("South Korea", "kr"), ("Korea, Republic of", "kr")),
        *(("Russia", "ru"), ("Vietnam", "vn"), ("Czech Republic", "cz"), ("Czechia", "cz"), ("The Netherlands", "nl")),
        *(("Bahamas, The", "bs"), ("Vatican", "va"), ("East Timor", "tl"), ("Republic of Ireland", "ie"), ("Democratic Republic of the Congo", "cd")),
        *(("السعودية", "sa"), ("中华人民共和国", "cn"), ("香港", "hk"), ("臺灣", "tw"), ("한국", "kr"), ("日本国", "jp"), ("ไทย", "th"), ("ประเทศไทย", "th")),
        *(("Bundesrepublik Deutschland", "de"), ("République française", "fr"), ("C\u00f4te d\u02bcIvoire", "ci"), ("Україна", "ua"), ("Ελλάδα", "gr"), ("ישראל", "il")),
        *(("Kosovo", "xk"), ("XK", "xk"), ("Schweiz", "ch"), ("Suisse", "ch"), ("Österreich", "at"), ("Brasil", "br"), ("DEU", "de")),
    ],
)  # fmt: skip
def test_country_is_found_by_code_and_by_name(text: str, expected: str) -> None:
    assert normalised("COUNTRY", text) == expected


@pytest.mark.parametrize("text", ["Narnia", "EU", "ZZ", "1", "380", "840", "-"])
def test_country_that_is_none_is_blank(text: str) -> None:
    assert normalised("COUNTRY", text) is Blank.UNKNOWN_COUNTRY


@pytest.mark.parametrize(
    "text", ["m", "M", "Male", "man", "Mr.", "mister", "Herr", "männlich", "homme", "Masculino", "uomo", "мужской", "男", "남성", "erkek", "ذكر"]
)  # fmt: skip
def test_gender_words_for_men(text: str) -> None:
    assert normalised("GEN", text) == "m"


@pytest.mark.parametrize(
    "text", ["f", "F", "female", "WOMAN", "Mrs", "Ms.", "w", "Frau", "weiblich", "Femme", "féminin", "mujer", "donna", "женский", "女性", "여성", "KADIN", "kad\u0131n"]
)  # fmt: skip
def test_gender_words_for_women(text: str) -> None:
    assert normalised("GEN", text) == "f"


@pytest.mark.parametrize("text", ["unknown", "u", "x", "diverse", "non-binary", "0", "1", "2", "true", "mf", "-"])
def test_gender_that_says_neither_is_blank(text: str) -> None:
    assert normalised("GEN", text) is Blank.UNKNOWN_GENDER


@pytest.mark.parametrize(
    ("key", "text", "expected"),
    [
        *(("DOBY", "1900", "1900"), ("DOBY", str(THIS_YEAR), str(THIS_YEAR)), ("DOBY", "1990.0", "1990"), ("DOBY", "١٩٩٠", "1990")),
        *(("DOBM", "1", "01"), ("DOBM", "01", "01"), ("DOBM", "12", "12"), ("DOBM", "5.0", "05")),
        *(("DOBM", "May", "05"), ("DOBM", "sept", "09"), ("DOBM", "Sep.", "09"), ("DOBM", "März", "03"), ("DOBM", "août", "08"), ("DOBM", "enero", "01"), ("DOBM", "мая", "05")),
        *(("DOBD", "2", "02"), ("DOBD", "31", "31"), ("DOBD", "31.0", "31")),
    ],
)  # fmt: skip
def test_parts_of_a_birth_date_are_padded(key: str, text: str, expected: str) -> None:
    assert normalised(key, text) == expected


@pytest.mark.parametrize(
    ("key", "text", "reason"),
    [
        *(("DOBY", "1899", Blank.NOT_A_YEAR), ("DOBY", str(THIS_YEAR + 1), Blank.NOT_A_YEAR), ("DOBY", "90", Blank.TWO_DIGIT_YEAR), ("DOBY", "0", Blank.TWO_DIGIT_YEAR)),
        *(("DOBY", "19900", Blank.NOT_A_YEAR), ("DOBY", "-1990", Blank.NOT_A_YEAR), ("DOBY", "199O", Blank.NOT_A_YEAR)),
        *(("DOBM", "0", Blank.NOT_A_MONTH), ("DOBM", "13", Blank.NOT_A_MONTH), ("DOBM", "Foo", Blank.NOT_A_MONTH), ("DOBM", "1.5", Blank.NOT_A_MONTH)),
        *(("DOBD", "0", Blank.NOT_A_DAY), ("DOBD", "32", Blank.NOT_A_DAY), ("DOBD", "1st", Blank.NOT_A_DAY)),
    ],
)  # fmt: skip
def test_parts_of_a_birth_date_out_of_range_are_blank(key: str, text: str, reason: Blank) -> None:
    assert normalised(key, text) is reason


def whole_date(text: str) -> tuple[object, ...]:
    rules = [KEYS[key].of_whole_date for key in ("DOBY", "DOBM", "DOBD")]
    return tuple(rule(text, Context()) for rule in rules if rule)


@pytest.mark.parametrize(
    "text",
    [
        *(
            "1990-05-02",
            "1990-5-2",
            "1990/05/02",
            "1990.05.02",
            "19900502",
            "19900502.0",
            "1990-05-02T23:59:59.123456Z",
        ),
        *("1990-05-02 00:00:00", "1990-05-02 23:30:00.000000", "1990-05-02T01:00:00+14:00", "19900502T000000"[:8]),
        *(
            "1990年5月2日",
            "1990 年 05 月 02 日",
            "1990년 5월 2일",
            "1990. 5. 2.",
            "1990-05-02 00:00:00.000 America/New_York",
            "1990-05-02 00:00:00 Etc/GMT+5",
        ),
        *("2 May 1990", "02-May-1990", "May 2, 1990", "2nd May 1990", "2. Mai 1990", "2 de mayo de 1990", "١٩٩٠-٠٥-٠٢"),
    ],
)
def test_whole_date_splits_in_three(text: str) -> None:
    assert whole_date(text) == ("1990", "05", "02")


@pytest.mark.parametrize(("text", "parts"), [("13/05/1990", ("1990", "05", "13")), ("05/13/1990", ("1990", "05", "13")), ("05.05.1990", ("1990", "05", "05"))])  # fmt: skip
def test_whole_date_with_the_year_last_is_read_where_it_means_one_day(text: str, parts: tuple[str, ...]) -> None:
    assert whole_date(text) == parts


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        *(("1990-02-31", Blank.NOT_A_DATE), ("19900231", Blank.NOT_A_DATE), ("1991-02-29", Blank.NOT_A_DATE), ("1990-13-01", Blank.NOT_A_DATE)),
        *(("1990-05-00", Blank.NOT_A_DATE), ("0000-00-00", Blank.NOT_A_DATE), ("00000000", Blank.NOT_A_DATE), ("1899-12-31", Blank.NOT_A_DATE)),
        *((f"{THIS_YEAR + 1}-01-01", Blank.NOT_A_DATE), ("641606400", Blank.NOT_A_DATE), ("yesterday", Blank.NOT_A_DATE), ("1990", Blank.NOT_A_DATE)),
        *(("05/02/1990", Blank.AMBIGUOUS_DATE), ("02.05.1990", Blank.AMBIGUOUS_DATE), ("31/02/1990", Blank.NOT_A_DATE)),
        *(("05/02/90", Blank.TWO_DIGIT_YEAR), ("2 May 90", Blank.TWO_DIGIT_YEAR), ("900502", Blank.TWO_DIGIT_YEAR), ("90-05-02", Blank.TWO_DIGIT_YEAR)),
    ],
)  # fmt: skip
def test_whole_date_that_is_none_or_could_be_two_is_blank(text: str, reason: Blank) -> None:
    assert whole_date(text) == (reason, reason, reason)


@pytest.mark.parametrize("text", ["00000000-0000-0000-0000-000000000000", "6d92078a82464ba4ae5b76104861e7dc", "{6D92078A-8246-4BA4-AE5B-76104861E7DC}", "x", "6d92078a-8246-4ba4-ae5b-76104861e7dg"])  # fmt: skip
def test_madid_of_another_form_or_of_nobody_is_blank(text: str) -> None:
    assert normalised("MADID", text) is Blank.NOT_A_MADID


@pytest.mark.parametrize("key", ["APPUID", "PAGEUID"])
@pytest.mark.parametrize(("text", "expected"), [("10158000000000001", "10158000000000001"), ("12.0", "12"), ("x1", Blank.NOT_AN_ID), ("0", Blank.NOT_AN_ID), ("-1", Blank.NOT_AN_ID)])  # fmt: skip
def test_scoped_ids_are_digits(key: str, text: str, expected: object) -> None:
    assert normalised(key, text) == expected


@pytest.mark.parametrize(("text", "expected"), [("0", "0.0"), ("-0", "0.0"), ("44.50", "44.5"), ("1e3", "1000.0"), ("+7", "7.0"), (".5", "0.5")])  # fmt: skip
def test_value_is_a_number_from_zero_up(text: str, expected: str) -> None:
    assert normalised("LOOKALIKE_VALUE", text) == expected


@pytest.mark.parametrize("text", ["-1", "inf", "-inf", "1e999", "1,5", "1_000", "$5", "true", "٥", "0x10", "x"])
def test_value_that_is_no_number_or_negative_is_blank(text: str) -> None:
    assert normalised("LOOKALIKE_VALUE", text) is Blank.NOT_A_VALUE
