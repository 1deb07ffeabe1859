"""COUNTRY: ISO 3166-1 alpha-2, lower-case, from codes and from names in English and in the country's own languages.

Source:
https://developers.facebook.com/documentation/ads-commerce/marketing-api/audiences/guides/custom-audiences
"""

from __future__ import annotations

import gettext
import hashlib
from collections import defaultdict
from dataclasses import dataclass
from functools import cache

from airflow_provider_fbca.identity.outcome import Blank, Context
from airflow_provider_fbca.identity.text import fold

# Kosovo has no ISO code; this one is reserved for users of the standard, and CLDR and libphonenumber use it.
_KOSOVO = "XK"

# Whose names of states people write too.
_SECOND_LANGUAGES = {"CA": "fr", "US": "es"}

# Names in wide use that the tables of pycountry and babel do not list, or list no more.
_OTHER_NAMES = {
    "UK": "gb",
    "UAE": "ae",
    "Great Britain": "gb",
    "Britain": "gb",
    "Wales": "gb",
    "Turkey": "tr",
    "Ivory Coast": "ci",
    "Burma": "mm",
    "Myanmar": "mm",
    "Macedonia": "mk",
    "Swaziland": "sz",
    "Holland": "nl",
    "Hong Kong": "hk",
    "Macau": "mo",
    "Cape Verde": "cv",
    "Palestine": "ps",
    "Vatican": "va",
    "East Timor": "tl",
    "Republic of Ireland": "ie",
    "Democratic Republic of the Congo": "cd",
    "DR Congo": "cd",
    "DRC": "cd",
    "America": "us",
    "한국": "kr",
    "日本国": "jp",
    "ประเทศไทย": "th",
}


def normalise_country(text: str, context: Context) -> str | Blank:  # noqa: ARG001 - all rules take both
    """Give a country's two-letter code.

    :param text: one trimmed cell that is no placeholder: a code of two or three letters, or a name.
    :param context: not used.
    """
    word = fold(text)
    without_article = word.removeprefix("the").removesuffix("the")  # "Bahamas, The"
    return _codes().get(word) or _by_name(word) or _by_name(without_article) or Blank.UNKNOWN_COUNTRY


def _by_name(word: str) -> str | None:
    return _english_names().get(word) or _own_names().get(word)


def country_of_digest(digest: str) -> str | None:
    """Give the country whose code has this SHA-256 digest, so that hashed countries tell phones and ZIP codes theirs.

    :param digest: 64 lower-case hex digits.
    """
    return _digests().get(digest)


@cache
def territories_of_the_us() -> frozenset[str]:
    """Give the countries by ISO that are territories of the United States, and use its states and ZIP codes."""
    return frozenset(part.local_code for part in parts_of("US") if part.kind == "Outlying area")


@dataclass(frozen=True, slots=True)
class Part:
    """A state, province or the like, of ISO 3166-2.

    :param code: its whole code, ``US-CA``.
    :param names: its English name, and what the country's second language calls it.
    :param kind: what the standard calls it, ``State`` for instance.
    """

    code: str
    names: tuple[str, str]
    kind: str

    @property
    def local_code(self) -> str:
        """The code without the country's, in lower case."""
        return self.code.partition("-")[2].lower()


@cache
def parts_of(country: str) -> tuple[Part, ...]:
    """Give the parts of a country.

    :param country: its alpha-2 code in capitals.
    """
    import pycountry  # noqa: PLC0415

    language = [_SECOND_LANGUAGES[country]] if country in _SECOND_LANGUAGES else []
    translate = gettext.translation("iso3166-2", pycountry.LOCALES_DIR, language, fallback=True).gettext
    parts = (part for part in pycountry.subdivisions if part.country_code == country)
    return tuple(Part(part.code, (part.name, translate(part.name)), part.type) for part in parts)


@cache
def _codes() -> dict[str, str]:
    import pycountry  # noqa: PLC0415 - reads its tables

    codes = {_KOSOVO.lower(): _KOSOVO.lower(), "xkx": _KOSOVO.lower()}
    for country in pycountry.countries:
        codes[country.alpha_2.lower()] = country.alpha_2.lower()
        codes[country.alpha_3.lower()] = country.alpha_2.lower()
    return codes


@cache
def _english_names() -> dict[str, str]:
    import pycountry  # noqa: PLC0415
    from babel import Locale  # noqa: PLC0415

    of_babel = Locale("en").territories
    names = list(_OTHER_NAMES.items())
    for country in pycountry.countries:
        code = country.alpha_2.lower()
        spellings = (country.name, getattr(country, "official_name", ""), getattr(country, "common_name", ""))
        names += [(name, code) for name in (*spellings, of_babel.get(country.alpha_2, "")) if name]
    names.append((of_babel[_KOSOVO], _KOSOVO.lower()))
    # England and the others are countries to those who live there.
    names += [(part.names[0], "gb") for part in parts_of("GB") if part.kind == "Country" or part.code == "GB-NIR"]
    return _undisputed(names)


@cache
def _own_names() -> dict[str, str]:
    from babel import Locale, UnknownLocaleError  # noqa: PLC0415
    from babel.languages import get_official_languages  # noqa: PLC0415

    names: list[tuple[str, str]] = []
    codes = {code.upper() for code in _codes().values()}
    for code in sorted(codes):
        for language in get_official_languages(code, regional=True, de_facto=True):
            try:
                locale = Locale.parse(language)
            except UnknownLocaleError:  # CLDR has no text in this language
                continue
            name = locale.territories.get(code)
            if name:
                names.append((name, code.lower()))
    return _undisputed(names + _translated_names())


def _translated_names() -> list[tuple[str, str]]:
    """Give what the translations of ISO 3166-1 call each country in its own languages: its short and long names."""
    import pycountry  # noqa: PLC0415
    from babel.languages import get_official_languages  # noqa: PLC0415

    names: list[tuple[str, str]] = []
    for country in pycountry.countries:
        english = (country.name, getattr(country, "common_name", ""), getattr(country, "official_name", ""))
        for language in get_official_languages(country.alpha_2, regional=True, de_facto=True):
            spoken = language.partition("_")[0]
            languages = [f"{spoken}_{country.alpha_2}", spoken]
            translate = gettext.translation("iso3166-1", pycountry.LOCALES_DIR, languages, fallback=True).gettext
            names += [(translate(name), country.alpha_2.lower()) for name in english if name]
    return names


def _undisputed(names: list[tuple[str, str]]) -> dict[str, str]:
    """Keep the names that mean one country only."""
    meanings: dict[str, set[str]] = defaultdict(set)
    for name, code in names:
        meanings[fold(name)].add(code)
    return {name: next(iter(codes)) for name, codes in meanings.items() if name and len(codes) == 1}


@cache
def _digests() -> dict[str, str]:
    return {hashlib.sha256(code.encode()).hexdigest(): code for code in set(_codes().values())}
