"""The licences of what the package depends on allow its use."""

from __future__ import annotations

import re
import tomllib
from importlib.metadata import metadata
from pathlib import Path

import pytest

PROJECT = Path(__file__).parent.parent.parent / "pyproject.toml"
ALLOWED = re.compile(r"apache|mit\b|bsd|isc\b|lgpl|lesser general public|python software foundation", re.IGNORECASE)
FORBIDDEN = re.compile(r"(?<!lesser )general public license|\bA?GPL", re.IGNORECASE)
#: Licences in no common words, each read by a person.
READ = {"facebook_business": "Meta's platform licence: use with Meta's services, which is what it is for"}


def direct_dependencies() -> list[str]:
    wanted = tomllib.loads(PROJECT.read_text())["project"]["dependencies"]
    return [re.split(r"[><=\[;]", each)[0] for each in wanted]


def licence_of(package: str) -> str:
    found = metadata(package)
    classifiers = [each for each in found.get_all("Classifier") or [] if each.startswith("License")]
    return " ".join([found.get("License-Expression") or "", (found.get("License") or "")[:80], *classifiers])


@pytest.mark.parametrize("package", direct_dependencies())
def test_the_licence_of_each_direct_dependency_allows_its_use(package):
    licence = licence_of(package)
    if package in READ:
        assert not FORBIDDEN.search(licence)
    else:
        assert ALLOWED.search(licence), licence
        assert not FORBIDDEN.search(re.sub(r"L(?:esser )?GPL\S*", "", licence)), licence
