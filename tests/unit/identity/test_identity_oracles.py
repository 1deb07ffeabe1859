"""Our rules beside those of others: libphonenumber alone, and the normalisers in Meta's Python SDK.

The same comparisons at full size, and Meta's npm package, are commands: ``python -m tests.phone_oracle`` and
``python -m tests.meta_oracle``. What they find is in ``docs/identity_oracles.md``.
"""

from __future__ import annotations

import hashlib

import fuzz_identity
import meta_oracle
import phone_oracle
import pyarrow as pa
import pytest

from airflow_provider_fbca.identity import Preparer, resolve_mapping

ORACLES = {"SDK, server events": meta_oracle.by_serverside, "SDK, format_params": meta_oracle.by_mixin}

# Ascension and Tristan da Cunha have calling codes of their own, and to ISO they are parts of Saint Helena.
NO_COUNTRIES = {"ac", "ta"}


@pytest.fixture(scope="module")
def phones() -> list[phone_oracle.Written]:
    return list(phone_oracle.corpus(5_000, seed=11))


@pytest.fixture(scope="module")
def cells() -> list[meta_oracle.Cell]:
    return list(meta_oracle.corpus(8_000, seed=11))


def test_phones_are_read_as_libphonenumber_reads_them_or_better(phones: list[phone_oracle.Written]) -> None:
    seen = phone_oracle.compare(phones)
    assert seen.unexplained == []
    assert seen.lost == []
    assert seen.agreed > 0.9 * seen.read
    assert sum(right["us"] for right in seen.right.values()) > 0.98 * sum(right["of"] for right in seen.right.values())


def test_batches_of_phones_give_what_the_rule_gives(phones: list[phone_oracle.Written]) -> None:
    known = [written for written in phones if written.country not in NO_COUNTRIES]
    as_text = [written for written in known if written.number is None]
    floats = [written for written in known if written.number is not None]
    columns = {
        "text": pa.array([written.text for written in as_text]),
        "floats": pa.array([float(written.number or 0) for written in floats]),
    }
    mapping = resolve_mapping(["id", "phone", "country"], {"id": "EXTERN_ID", "phone": "PHONE", "country": "COUNTRY"})
    for rows, column in zip((as_text, floats), columns.values(), strict=True):
        countries = pa.array([written.country for written in rows], pa.string())
        batch = pa.record_batch({"id": [str(n) for n in range(len(rows))], "phone": column, "country": countries})
        prepared = Preparer(mapping).prepare(batch).column("PHONE").to_pylist()
        expected = [phone_oracle.by_us(written) for written in rows]
        assert prepared == [None if text is None else hashlib.sha256(text.encode()).digest() for text in expected]


@pytest.mark.parametrize("oracle", ORACLES)
def test_every_difference_from_metas_sdk_is_of_a_listed_class(oracle: str, cells: list[meta_oracle.Cell]) -> None:
    seen = meta_oracle.compare(oracle, cells, map(ORACLES[oracle], cells))
    assert seen.unexplained == []
    assert set(seen.read) == set(meta_oracle.CLASSES[oracle])
    assert all(seen.agreed[key] for key in seen.read)


def test_states_countries_and_phones_mean_what_they_were_made_of(cells: list[meta_oracle.Cell]) -> None:
    assert meta_oracle.misread(cells) == []


@pytest.mark.parametrize("part", range(4))
def test_random_batches_keep_every_promise(part: int) -> None:
    """The same for minutes: ``python -m tests.fuzz_identity``."""
    became = fuzz_identity.fuzz(seconds=600, seed=1_000 + part, most=100)
    assert sum(became.values()) == 100
    assert became["prepared"] > 30
