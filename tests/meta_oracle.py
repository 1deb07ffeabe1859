"""Identifiers of many countries and scripts, written by us and by the three normalisers that Meta publishes.

    python -m tests.meta_oracle [count] [seed]

The parameter builder is an npm package; the command installs it in a temporary folder and asks it through node, and
leaves it out where there is no npm. The two normalisers of the Python SDK are compared by the tests too. Every
difference must be of a class that is listed here with the rule that decides it.
"""
# ruff: noqa: E501, RUF001 - words of all scripts; tables read best one a line

from __future__ import annotations

import json
import random
import re
import shutil
import string
import subprocess
import sys
import tempfile
import unicodedata
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import phonenumbers
import pycountry
from facebook_business.adobjects.customaudience import CustomAudience
from facebook_business.adobjects.serverside.normalize import Normalize

from airflow_provider_fbca.identity import KEYS, Blank, Context
from airflow_provider_fbca.identity.text import is_placeholder, trim

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

PACKAGE = "capi-param-builder-nodejs@1.3.2"

#: Syllables, of which names that nobody bears are made.
SCRIPTS = {
    "English": "bar ton wick sel mor lyn dray fen hol stam",
    "French": "élo bré çon leu œil gné fau thé naï dîn",
    "German": "mül grö straß bäu hof kün wei ßel öd fried",
    "Nordic": "bjø sæl åse ðor þrá göt lýð nør kjæ",
    "Polish": "łow śni żyr ćwi cze ńsk ąb ęd rzy szcz",
    "Turkish": "ığd şen çağ öz gür Iş İl kır üst",
    "Vietnamese": "nguy ễn trầ đặ phạ hoà ượ bùi",
    "Romanian": "șer țep ăld îns âmb",
    "Greek": "παπ αδό κων στα ίδης έλλ ώρος",
    "Cyrillic": "вол кон ёлк щук ств їжа ґан ий",
    "Hebrew": "של מה רב כץ לוי",
    "Arabic": "عبد الر حمن فار وق",
    "Hindi": "दी पि का श र्मा जो",
    "Thai": "สม ชัย ก้อน ทิพย์",
    "Chinese": "山 田 李 王 欣 怡",
    "Japanese": "さく ら カタ カナ 太郎",
    "Korean": "김 정 민 수 서연",
}
_JOINS = (
    "",
    "",
    "",
    " ",
    "-",
    "'",
    "’",
    ". ",
    "–",
    "\u00a0",
    "ʼ",
    "·",
    "/",
    ", ",
    "\u200d",
    "\u00ad",
    "_",
    "´",
    "(",
    "”",
)
_AROUND = ("", "", "", "", " ", "\t", "\u00a0", "\ufeff", "\u200b", ".", "  \n", "\u3000")
_STATES = (
    "Baden-Württemberg",
    "Île-de-France",
    "New South Wales",
    "NSW",
    "São Paulo",
    "Nordrhein-Westfalen",
    "Oaxaca",
    "Kärnten",
    "Provincia di Roma",
    "Kanagawa",
    "Ōsaka",
    "Москва",
    "Zuid-Holland",
    "Co. Kerry",
)
_FORMS = {
    "us": ("#####", "#####-####", "####", "##### ####", "#####-", "#########"), "gb": ("@# #@@", "@@## #@@", "@#@ #@@", "@@#-#@@", "@@###@@"),
    "ca": ("@#@ #@#", "@#@#@#", "@#@-#@#"), "de": ("#####", "D-#####"), "fr": ("#####",), "pl": ("##-###", "#####"), "pt": ("####-###", "#######"),
    "jp": ("###-####", "#######", "〒###-####"), "br": ("#####-###", "########", "##.###-###"), "nl": ("#### @@", "####@@"), "se": ("### ##", "SE-### ##"), "au": ("####",), "in": ("######", "### ###"),
    "ie": ("@## @#@#",), "ch": ("####", "CH-####"), "at": ("####",), "it": ("#####",), "kr": ("#####",), "ar": ("@####@@@", "####"), "sg": ("######",),
}  # fmt: skip
_MARKS = str.maketrans("", "", string.punctuation)


class Cell(NamedTuple):
    """A cell: its key, its text, its row's country, and what it means where that is known."""

    key: str
    text: str
    country: str | None
    meant: str | None


def corpus(count: int, seed: int) -> Iterator[Cell]:
    """Give so many cells, of each key in turn."""
    pick = random.Random(seed)
    makers: list[tuple[str, Callable[[random.Random], tuple[str, str | None, str | None]]]] = [
        ("EMAIL", _email), ("PHONE", _phone), ("FN", _name), ("LN", _name), ("CT", _name), ("ST", _state), ("ZIP", _zip), ("COUNTRY", _country),
    ]  # fmt: skip
    for number in range(count):
        key, make = makers[number % len(makers)]
        text, country, meant = make(pick)
        yield Cell(key, pick.choice(_AROUND) + text + pick.choice(_AROUND), country, meant)


def _cased(text: str, pick: random.Random) -> str:
    return pick.choice((str.title, str.upper, str.lower, str))(text)


def _name(pick: random.Random) -> tuple[str, str | None, str | None]:
    syllables = pick.choice(list(SCRIPTS.values())).split()
    words = ["".join(pick.choices(syllables, k=pick.randrange(1, 4))) for _ in range(pick.randrange(1, 4))]
    name = _cased("".join(word + pick.choice(_JOINS) for word in words[:-1]) + words[-1], pick)
    if pick.random() < 0.1:
        name = unicodedata.normalize("NFD", name)
    if pick.random() < 0.05:
        name += pick.choice((" 2", " 15e", " III", "3", "😀", " (née X)"))
    return name, None, None


def _email(pick: random.Random) -> tuple[str, str | None, str | None]:
    local = "".join(pick.choices("abcxyzABCZ019", k=pick.randrange(1, 9)))
    local += pick.choice(
        ("", "", ".", "..b", ".b", "+tag", "_x", "-x", "'s", "é", "%", "{}", "=", ".x.y", " y", "\u200b")
    )
    domain = pick.choice(
        (
            "example.com",
            "Example.CO.UK",
            "mail.example.de",
            "exämple.de",
            "example",
            "example.com.",
            "-x.example.org",
            "x_y.example.org",
            "xn--bcher-kva.example",
            "a..b.example",
            "example.c",
            "1.example.com",
            "example.museum",
        )
    )
    return local + pick.choice(("@",) * 20 + ("@@", "", " @", ",")) + domain, None, None


def _phone(pick: random.Random) -> tuple[str, str | None, str | None]:
    region = pick.choice(sorted(phonenumbers.SUPPORTED_REGIONS))
    number = phonenumbers.example_number_for_type(
        region, phonenumbers.PhoneNumberType.MOBILE
    ) or phonenumbers.example_number(region)
    text = phonenumbers.format_number(number, pick.randrange(4))
    if pick.random() < 0.2:
        text = text.replace("+", "00")
    if text.startswith("+") and pick.random() < 0.2:
        text = text.replace(" ", " (0)", 1)
        if phonenumbers.is_valid_number(phonenumbers.parse(text.replace("(", "").replace(")", ""))):
            return text, region.lower(), None  # a number with the zero and one without it: nobody can tell
    if pick.random() < 0.1:
        text += pick.choice((" x12", " ext. 7", "#3"))
    digits = phonenumbers.format_number(number, phonenumbers.PhoneNumberFormat.E164)[1:]
    return text, region.lower(), digits


def _state(pick: random.Random) -> tuple[str, str | None, str | None]:
    country = pick.choice(("us", "ca", "us", "ca", "de", "au", None))
    if country in {"us", "ca"}:
        part = pick.choice(list(pycountry.subdivisions.get(country_code=country.upper())))
        spelling = pick.choice((part.name, part.code[3:], part.name, f" {part.name}."))
        return _cased(spelling, pick), country, part.code[3:].lower()
    return _cased(pick.choice(_STATES), pick), country, None


def _zip(pick: random.Random) -> tuple[str, str | None, str | None]:
    country = pick.choice(list(_FORMS))
    digits, letters = "0123456789", string.ascii_letters
    text = "".join(
        pick.choice(digits) if mark == "#" else pick.choice(letters) if mark == "@" else mark
        for mark in pick.choice(_FORMS[country])
    )
    return text, country, None


def _country(pick: random.Random) -> tuple[str, str | None, str | None]:
    country = pick.choice(list(pycountry.countries))
    code = country.alpha_2.lower()
    names = [country.alpha_2, country.alpha_3, country.name, getattr(country, "common_name", country.name)]
    others = {
        "UK": "gb",
        "U.S.A.": "us",
        "Deutschland": "de",
        "España": "es",
        "日本": "jp",
        "The Gambia": "gm",
        "EU": None,
        country.numeric: None,
    }
    name, meant = pick.choice([*((name, code) for name in names * 3), *others.items()])
    return _cased(name, pick), None, meant


def ours(cell: Cell) -> str | Blank:
    """Give what we hash, or why the cell is blank."""
    trimmed = trim(cell.text)
    return Blank.EMPTY if is_placeholder(trimmed) else KEYS[cell.key].normalise(trimmed, Context(cell.country))


def by_serverside(cell: Cell) -> str | None:
    """Give what the SDK's normaliser for server events hashes, None where it refuses."""
    fields = {"EMAIL": "em", "PHONE": "ph", "ZIP": "zp", "COUNTRY": "country"}
    try:
        return Normalize.normalize_field_skip_hashing(fields.get(cell.key, cell.key.lower()), cell.text) or None
    except (TypeError, ValueError):
        return None


def by_mixin(cell: Cell) -> str | None:
    """Give what the SDK's ``format_params`` for custom audiences hashes."""
    stripped = cell.text.strip(" \t\r\n\0\x0b.").lower()
    return CustomAudience.normalize_key(cell.key, stripped) or None


def by_builder(cells: list[Cell]) -> list[str | None]:
    """Give what the parameter builder hashes for each cell, None where it refuses; installs it for the time being."""
    names = {
        "EMAIL": "email",
        "PHONE": "phone",
        "FN": "first_name",
        "LN": "last_name",
        "CT": "city",
        "ST": "state",
        "ZIP": "zip_code",
        "COUNTRY": "country",
    }
    asked = json.dumps([[names[cell.key], cell.text] for cell in cells])
    program = (
        "const {getNormalizedPII} = require('capi-param-builder-nodejs/src/piiUtil/PIIUtil');"
        "const cells = JSON.parse(require('fs').readFileSync('cells.json', 'utf8'));"
        "const told = cells.map(([type, text]) => getNormalizedPII(text, type) || null);"
        "require('fs').writeFileSync('told.json', JSON.stringify(told));"
    )
    with tempfile.TemporaryDirectory() as folder:
        Path(folder, "cells.json").write_text(asked)
        npm, node = shutil.which("npm"), shutil.which("node")
        subprocess.run(
            [npm, "install", "--no-save", "--ignore-scripts", "--prefix", folder, PACKAGE],
            check=True,
            capture_output=True,
        )
        subprocess.run([node, "-e", program], cwd=folder, check=True)
        return json.loads(Path(folder, "told.json").read_text())


def _letters(text: str) -> str:
    """Drop all but letters, their marks and digits, by Unicode's classes."""
    kept = (mark for mark in text if unicodedata.category(mark)[0] in "LMN" and unicodedata.category(mark) != "Lm")
    return unicodedata.normalize("NFC", "".join(kept))


def _visible(text: str) -> str:
    return "".join(mark for mark in text if unicodedata.category(mark) not in {"Cf", "Cc"}).strip()


def _a_to_z(text: str) -> str:
    return re.sub("[^a-z]", "", text)


def _codes(text: str) -> str:
    return re.sub("[^a-z0-9]", "", text)


def _decomposed(cell: Cell) -> bool:
    return unicodedata.normalize("NFC", cell.text) != cell.text


#: A class of difference: its name, and whether a cell is of it, from the cell, what we hash and what they do ("" for nothing).
Class = tuple[str, "Callable[[Cell, str, str], object]"]

_PHONES: list[Class] = [
    ("an extension's digits are kept", lambda cell, us, they: re.search(r"x|#", cell.text)),
    ("the zero in brackets is kept", lambda cell, us, they: "(0)" in cell.text),
    ("no country code is added", lambda cell, us, they: not re.match(r"\W*(tel:)?(\+|00)", cell.text)),
]  # fmt: skip
_ZIPS: list[Class] = [
    ("US codes are not cut to five digits, zeros not restored", lambda cell, us, they: cell.country == "us" and len(us) == 5),
    ("the country in front is taken for the code", lambda cell, us, they: re.match(r"\W*[a-z]+-\d", cell.text.lower()) and us.isdigit()),
    ("cut at the dash", lambda cell, us, they: "-" in cell.text and us.startswith(_codes(they))),
    ("blanks, marks and invisible marks are kept", lambda cell, us, they: _codes(they) == us),
]  # fmt: skip
_NAMES: list[Class] = [
    (
        "a sigma that ends a word is written as one that does not",
        lambda cell, us, they: (
            "ς" in us and _letters(they).replace("ς", "σ") == us.replace("ς", "σ") and "Σ" in cell.text
        ),
    ),
    ("letters are hashed decomposed", lambda cell, us, they: unicodedata.normalize("NFC", they) == us),
    ("typographic and invisible marks are kept", lambda cell, us, they: _letters(they) == us),
]
_STATE_TABLE: Class = ("names of states are not in its table", lambda cell, us, they: cell.meant == us)
_COUNTRY_TABLE: Class = (
    "names and codes of three letters are not in its table",
    lambda cell, us, they: cell.meant == us,
)

#: Oracle to key to its classes of difference, the first that fits counts.
CLASSES: dict[str, dict[str, list[Class]]] = {
    "parameter builder": {
        "EMAIL": [
            ("refuses addresses that exist", lambda cell, us, they: not they and (not us.isascii() or re.search(r"\.\.|^\.|\.@|@-|@.*_", us))),
            ("refuses for an invisible mark", lambda cell, us, they: not they and _visible(cell.text) != cell.text.strip()),
        ],
        "PHONE": _PHONES,
        "FN": _NAMES,
        "LN": _NAMES,
        "CT": [
            ("digits are kept", lambda cell, us, they: not _decomposed(cell) and re.search(r"\d", cell.text) and us in {_a_to_z(they), _a_to_z(cell.text.lower())}),
            ("a letter loses its mark only where it is decomposed", lambda cell, us, they: _decomposed(cell)),
            ("İ is deleted, not lower-cased", lambda cell, us, they: "İ" in cell.text and us.replace("i", "") == _a_to_z(they).replace("i", "")),
        ],
        "ST": [_STATE_TABLE, ("cut to two letters in every country", lambda cell, us, they: len(us) > 2 and they == us[:2])],
        "ZIP": _ZIPS,
        "COUNTRY": [_COUNTRY_TABLE, ("two letters pass though no country has them", lambda cell, us, they: not us and they == "eu")],
    },
    "SDK, server events": {
        "EMAIL": [
            ("what is no address passes", lambda cell, us, they: not us and re.search(r"@.*@|\s|\.\.|\.$|[,(]|@.*\.\W*$", they)),
            ("invisible marks are kept", lambda cell, us, they: _visible(they).replace("\u200b", "") == us),
        ],
        "PHONE": [*_PHONES, ("refuses marks, and short or long numbers", lambda cell, us, they: not they)],
        "FN": [("marks and blanks are kept", lambda cell, us, they: _letters(they) == us)],
        "LN": [("marks and blanks are kept", lambda cell, us, they: _letters(they) == us)],
        "CT": [
            ("letters beyond a to z, and marks, are kept", lambda cell, us, they: _a_to_z(unicodedata.normalize("NFC", they)) == us),
        ],
        "ST": [_STATE_TABLE, ("letters beyond a to z, and marks, are kept", lambda cell, us, they: _a_to_z(they) == us)],
        "ZIP": _ZIPS,
        "COUNTRY": [_COUNTRY_TABLE],
    },
    "SDK, format_params": {
        "EMAIL": [
            ("what is no address passes", lambda cell, us, they: not us),
            ("invisible marks are kept, dots at the ends are cut", lambda cell, us, they: _visible(they).strip(".") == us.strip(".")),
        ],
        "PHONE": [*_PHONES, ("zeros in front are kept", lambda cell, us, they: they.lstrip("0") == us)],
        "FN": [("letters beyond a to z are lost", lambda cell, us, they: they == _a_to_z(cell.text.lower()))],
        "LN": [("letters beyond a to z are lost", lambda cell, us, they: they == _a_to_z(cell.text.lower()))],
        "CT": [("a letter loses its mark only where it is decomposed", lambda cell, us, they: _decomposed(cell))],
        "ST": [_STATE_TABLE],
        "ZIP": _ZIPS,
        "COUNTRY": [_COUNTRY_TABLE, ("two letters pass though no country has them", lambda cell, us, they: not us and they == "eu")],
    },
}  # fmt: skip


@dataclass
class Comparison:
    """What came of comparing one oracle.

    :param read: key to how many cells were compared.
    :param agreed: key to how many both write alike.
    :param classes: key and class to how many differ so.
    :param examples: key and class to one of them.
    :param unexplained: cells of no class, with what they give.
    """

    read: Counter[str]
    agreed: Counter[str]
    classes: Counter[tuple[str, str]]
    examples: dict[tuple[str, str], tuple[Cell, str, str]]
    unexplained: list[tuple[Cell, str, str]]


def compare(oracle: str, cells: Iterable[Cell], told: Iterable[str | None]) -> Comparison:
    """Compare what an oracle told of cells with what we hash."""
    seen = Comparison(Counter(), Counter(), Counter(), {}, [])
    for cell, answer in zip(cells, told, strict=True):
        found = ours(cell)
        us, they = "" if isinstance(found, Blank) else found, answer or ""
        seen.read[cell.key] += 1
        if us == they:
            seen.agreed[cell.key] += 1
            continue
        name = next((name for name, holds in CLASSES[oracle][cell.key] if holds(cell, us, they)), None)
        if name is None:
            seen.unexplained.append((cell, us, they))
        else:
            seen.classes[cell.key, name] += 1
            seen.examples.setdefault((cell.key, name), (cell, us, they))
    return seen


def misread(cells: Iterable[Cell]) -> list[tuple[Cell, str | Blank]]:
    """Give the cells of known meaning that we take for something else."""
    return [(cell, found) for cell in cells if cell.meant is not None and (found := ours(cell)) != cell.meant]


def main() -> int:
    """Compare as many cells as the command line says, and print tables of what came of it."""
    count = int(sys.argv[1]) if len(sys.argv) > 1 else 80_000
    seed = int(sys.argv[2]) if len(sys.argv) > 2 else 1
    cells = list(corpus(count, seed))
    told = {"SDK, server events": map(by_serverside, cells), "SDK, format_params": map(by_mixin, cells)}
    if shutil.which("npm"):
        told["parameter builder"] = by_builder(cells)
    unexplained = 0
    for oracle, answers in told.items():
        seen = compare(oracle, cells, answers)
        unexplained += len(seen.unexplained)
        print(f"\n{oracle}: {seen.agreed.total()} of {seen.read.total()} alike\n")
        for key, read in seen.read.items():
            print(f"| {key} | {read} | {seen.agreed[key]} |")
        print()
        for (key, name), differ in sorted(seen.classes.items()):
            cell, us, they = seen.examples[key, name]
            print(f"| {key} | {name} | {differ} | {cell.text!r} {cell.country or ''} | {us!r} | {they!r} |")
        for cell, us, they in seen.unexplained[:15]:
            print(f"UNEXPLAINED {cell} {us!r} {they!r}")
    wrong = misread(cells)
    print(
        f"\n{sum(cell.meant is not None for cell in cells)} cells of known meaning, {len(wrong)} misread",
        *wrong[:20],
        sep="\n",
    )
    return unexplained + len(wrong) > 0


if __name__ == "__main__":
    sys.exit(main())
