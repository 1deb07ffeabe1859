"""The examples that are known digit by digit: those Meta prints, and those computed from its rules."""
# ruff: noqa: E501 - tables of examples read best one a line

from __future__ import annotations

import hashlib

import pyarrow as pa
import pytest

from airflow_provider_fbca.identity import KEYS, Context, Preparer, identify, resolve_mapping

HASHED = [
    ("EMAIL", " Mary@Example.com ", None, "mary@example.com", "f1904cf1a9d73a55fa5de0ac823c4403ded71afd4c3248d00bdcd0866552bb79"),
    ("PHONE", "+1 (555) 987-6543", None, "15559876543", "1ef970831d7963307784fa8688e8fce101a15685d62aa765fed23f3a2c576a4e"),
    ("PHONE", "+44 (0)7911 123456", None, "447911123456", "40b5c38342a9c584ec707e8679b003f8c779c6aaa138c976ef94e049cc05208f"),
    ("PHONE", "0049 170 1234567", None, "491701234567", "8b47a52ed04d068c3a9c5632b98cec18780a9f9f4099d4f8afe233970ce116fe"),
    ("PHONE", "06 12 34 56 78", "fr", "33612345678", "8a3e7886c9335e82e02299fa3e87b46e2de3b0c63d56003e30a5029394a47661"),
    ("GEN", "Male", None, "m", "62c66a7a5dd70c3146618063c344e531e6d4b59e379808443ce962b3abd63c5a"),
    ("GEN", "F", None, "f", "252f10c83610ebca1a059c0bae8255eba2f95be4d1d7bcfa89d7248a82d9f111"),
    ("DOBY", "1978", None, "1978", "46635b56d3c7f0b7bb26adae2a1692debbfd145d4a0986a9137fe91e73e70360"),
    ("DOBM", "5", None, "05", "c97550ce8213ef5cf6ed4ba48790c137df3ef6a5da20b48961001a634b6cead2"),
    ("DOBD", "2", None, "02", "a953f09a1b6b6725b81956e9ad0b1eb49e3ad40004c04307ef8af6246a054116"),
    ("FN", "Mary", None, "mary", "6915771be1c5aa0c886870b6951b03d7eafc121fea0e80a5ea83beb7c449f4ec"),
    ("FN", "Val\u00e9ry", None, "val\u00e9ry", "08e1996b5dd49e62a4b4c010d44e4345592a863bb9f8e3976219bac29417149c"),
    ("FN", "Vale\u0301ry", None, "val\u00e9ry", "08e1996b5dd49e62a4b4c010d44e4345592a863bb9f8e3976219bac29417149c"),
    ("FN", "정", None, "정", "8fa8cd9c440be61d0151429310034083132b35975c4bea67fdd74158eb51db14"),
    ("LN", "O'Neill", None, "oneill", "fa0fd24b2d0175a5c48e1b82f4d707a8a95f5279c4abdc43fa2f19d8e30eb47d"),
    ("LN", "Smith-Jones", None, "smithjones", "6a77f47e3dec33252edbebb457d65e90501b643806c50cf8d6c3e2bd9cb74681"),
    ("LN", "Müller", None, "müller", "2dbd218072117713f2d5996a726a9b216ed791ffd0783b6ba4ab6d61b8333192"),
    ("LN", "山田", None, "山田", "5f34cd8399195fa23a32ace56c87f461adcbee99d90d9e60057f01684b3b46da"),
    ("FN", "Иван", None, "иван", "74f46a588dd2b0d94ec4067f21fc7127c16ba0f1af96ece7a7ebfefe3ddedc92"),
    ("FI", "J", None, "j", "189f40034be7a199f1fa9891668ee3ab6049f82d38c68be70f596eab2e1857b7"),
    ("CT", "Menlo Park", None, "menlopark", "0007a3d64c01e23d5075203c5977c14e4f7e01a3fc570686fcc50b5e1dd42685"),
    ("CT", "New York", None, "newyork", "350c754ba4d38897693aa077ef43072a859d23f613443133fecbbd90a3512ca5"),
    ("ST", "California", None, "ca", "6959097001d10501ac7d54c0bdb8db61420f658f2922cc26e46d536119a31126"),
    ("ST", "CA", "us", "ca", "6959097001d10501ac7d54c0bdb8db61420f658f2922cc26e46d536119a31126"),
    ("ST", "Bayern", "de", "bayern", "52b07f18c831ba4b08ba0b8bc84c6e023a825dfd385d20d8dcbf410d11c546e7"),
    ("ZIP", "94025-3215", "us", "94025", "b9a9cf3cd3723a2e91b7c23ecf68456e872b6e5d86e5cab7f3d45a7302da32c7"),
    ("ZIP", "M1 1AE", "gb", "m11ae", "1dc694c2070e697769fb959b50671d76cafd430d8ca191fbdd0affcaea344ac5"),
    ("ZIP", "K1A 0B1", "ca", "k1a0b1", "3e8d74314dc02166b1ea8c7bd8c2357fb3f9898074395b8c57f8799848b4daa1"),
    ("COUNTRY", "US", None, "us", "79adb2a2fce5c6ba215fe5f27f532d4e7edbac4b6a5e09e1ef3a08084a904621"),
    ("COUNTRY", "GB", None, "gb", "0b407281768f0e833afef47ed464b6571d01ca4d53c12ce5c51d1462f4ad6677"),
    ("COUNTRY", "DE", None, "de", "959a45d44e6fcf58361ed004681556fe50129f2109e817dec098c00c9e5d2578"),
]  # fmt: skip

PLAIN = [
    ("MADID", "6D92078A-8246-4BA4-AE5B-76104861E7DC", "6d92078a-8246-4ba4-ae5b-76104861e7dc"),
    ("EXTERN_ID", "Cust-0042", "Cust-0042"),
]

WRONG = {
    "0aac459e98cd41b938bef8bd61c205563f95c46cf2e6d3c8ff1a9312f3924cce": ("FN", "Vale\u0301ry"),
    "17b083b01ea0ba51106462e9c2d593778378965da059f6f1ed30ac555f8170c8": ("PHONE", "+44 (0)7911 123456"),
}


@pytest.mark.parametrize(("key", "text", "country", "normalised", "digest"), HASHED)
def test_hashes_as_meta_does(key: str, text: str, country: str | None, normalised: str, digest: str) -> None:
    assert hashlib.sha256(normalised.encode()).hexdigest() == digest
    assert identify(KEYS[key], text, Context(country)) == bytes.fromhex(digest)
    assert KEYS[key].normalise(text.strip(), Context(country)) == normalised


@pytest.mark.parametrize(("key", "text", "country", "normalised", "digest"), HASHED)
def test_prepares_batches_to_the_same_hash(
    key: str, text: str, country: str | None, normalised: str, digest: str
) -> None:
    mapping = resolve_mapping(["id", "it"], {"id": "EXTERN_ID", "it": key})
    prepared = Preparer(mapping, default_country=country).prepare(pa.record_batch({"id": ["a"], "it": [text]}))
    assert prepared.column(key).to_pylist() == [bytes.fromhex(digest)]


@pytest.mark.parametrize(("key", "text", "sent"), PLAIN)
def test_never_hashes_what_meta_takes_plain(key: str, text: str, sent: str) -> None:
    assert identify(KEYS[key], text, Context()) == sent


def test_sends_a_value_as_a_number() -> None:
    mapping = resolve_mapping(["id", "v"], {"id": "EXTERN_ID", "v": "LOOKALIKE_VALUE"})
    prepared = Preparer(mapping, value_based=True).prepare(pa.record_batch({"id": ["a"], "v": ["44.5"]}))
    assert prepared.column("LOOKALIKE_VALUE").to_pylist() == [44.5]


@pytest.mark.parametrize(("digest", "cell"), WRONG.items())
def test_avoids_the_hashes_that_others_make(digest: str, cell: tuple[str, str]) -> None:
    key, text = cell
    assert identify(KEYS[key], text, Context()) != bytes.fromhex(digest)
