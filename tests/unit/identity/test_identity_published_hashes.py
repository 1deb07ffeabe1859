"""Every hash, and every normalised value, that Meta prints in its own documents."""
# ruff: noqa: E501 - tables of examples read best one a line

from __future__ import annotations

import hashlib

import pyarrow as pa
import pytest

from airflow_provider_fbca.identity import KEYS, Context, Preparer, identify, resolve_mapping

PARAMETERS = "https://developers.facebook.com/documentation/ads-commerce/conversions-api/parameters/customer-information-parameters"
BUILDER = "https://developers.facebook.com/documentation/ads-commerce/conversions-api/parameter-builder-library"
AUDIENCES = "https://developers.facebook.com/documentation/ads-commerce/marketing-api/audiences/guides/custom-audiences"

#: Where it is printed, key, input, the row's country, normalised value, hash.
HASHES = [
    (AUDIENCES, "EMAIL", "mary@example.com", None, "mary@example.com", "f1904cf1a9d73a55fa5de0ac823c4403ded71afd4c3248d00bdcd0866552bb79"),
    (AUDIENCES, "PHONE", "15559876543", "us", "15559876543", "1ef970831d7963307784fa8688e8fce101a15685d62aa765fed23f3a2c576a4e"),
    (PARAMETERS, "EMAIL", "John_Smith@gmail.com", None, "john_smith@gmail.com", "62a14e44f765419d10fea99367361a727c12365e2520f32218d505ed9aa0f62f"),
    (BUILDER, "EMAIL", "John_Smith@gmail.com", None, "john_smith@gmail.com", "62a14e44f765419d10fea99367361a727c12365e2520f32218d505ed9aa0f62f"),
    (PARAMETERS, "PHONE", "(650)555-1212", "us", "16505551212", "e323ec626319ca94ee8bff2e4c87cf613be6ea19919ed1364124e16807ab3176"),
    (PARAMETERS, "FN", "Mary", None, "mary", "6915771be1c5aa0c886870b6951b03d7eafc121fea0e80a5ea83beb7c449f4ec"),
    (PARAMETERS, "FN", "정", None, "정", "8fa8cd9c440be61d0151429310034083132b35975c4bea67fdd74158eb51db14"),
    (PARAMETERS, "FN", "Valéry", None, "val\u00e9ry", "08e1996b5dd49e62a4b4c010d44e4345592a863bb9f8e3976219bac29417149c"),
    (PARAMETERS, "LN", "Mary", None, "mary", "6915771be1c5aa0c886870b6951b03d7eafc121fea0e80a5ea83beb7c449f4ec"),
    (PARAMETERS, "LN", "정", None, "정", "8fa8cd9c440be61d0151429310034083132b35975c4bea67fdd74158eb51db14"),
    (PARAMETERS, "LN", "Valéry", None, "val\u00e9ry", "08e1996b5dd49e62a4b4c010d44e4345592a863bb9f8e3976219bac29417149c"),
    (PARAMETERS, "COUNTRY", "United States", None, "us", "79adb2a2fce5c6ba215fe5f27f532d4e7edbac4b6a5e09e1ef3a08084a904621"),
]  # fmt: skip

#: Normalised values that are printed without their hash: key, input, the row's country, normalised value.
NORMALISED = [
    *(("GEN", "Female", None, "f"), ("GEN", "Male", None, "m")),
    *(("CT", "Paris", None, "paris"), ("CT", "London", None, "london"), ("CT", "New York", None, "newyork")),
    *(("ST", "Arizona", "us", "az"), ("ST", "AZ", "us", "az"), ("ST", "California", "us", "ca"), ("ST", "CA", "us", "ca")),
    *(("ZIP", "94035", "us", "94035"), ("ZIP", "94035-1234", "us", "94035"), ("ZIP", "1987", "au", "1987")),
    *(("ZIP", "75018", "fr", "75018"), ("ZIP", "M1 1AE", "gb", "m11ae")),
]  # fmt: skip

#: A whole birthday, which Meta's event parameters take as one: 2/16/1997 is 19970216.
BIRTHDAY = ("2/16/1997", "01acdbf6ec7b4f478a225f1a246e5d6767eeab1a7ffa17f025265b5b94f40f0c")


@pytest.mark.parametrize(("source", "key", "text", "country", "normalised", "digest"), HASHES)
def test_hashes_are_those_that_meta_prints(
    source: str, key: str, text: str, country: str | None, normalised: str, digest: str
) -> None:
    assert KEYS[key].normalise(text, Context(country)) == normalised
    assert identify(KEYS[key], text, Context(country)) == bytes.fromhex(digest)
    mapping = resolve_mapping(["id", "it"], {"id": "EXTERN_ID", "it": key})
    prepared = Preparer(mapping, default_country=country).prepare(pa.record_batch({"id": ["a"], "it": [text]}))
    assert [cell.hex() for cell in prepared.column(key).to_pylist()] == [digest]


@pytest.mark.parametrize(("source", "key", "text", "country", "normalised", "digest"), HASHES)
def test_the_printed_hash_itself_passes_unchanged(
    source: str, key: str, text: str, country: str | None, normalised: str, digest: str
) -> None:
    assert identify(KEYS[key], digest.upper(), Context(country)) == bytes.fromhex(digest)


@pytest.mark.parametrize(("key", "text", "country", "normalised"), NORMALISED)
def test_values_are_written_as_meta_prints_them(key: str, text: str, country: str | None, normalised: str) -> None:
    assert KEYS[key].normalise(text, Context(country)) == normalised


def test_a_birthday_has_the_parts_that_meta_reads() -> None:
    text, digest = BIRTHDAY
    rules = [KEYS[key].of_whole_date for key in ("DOBY", "DOBM", "DOBD")]
    parts = [rule(text, Context()) for rule in rules if rule]
    assert hashlib.sha256("".join(map(str, parts)).encode()).hexdigest() == digest
