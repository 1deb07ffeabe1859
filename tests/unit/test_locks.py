"""The lock files fit together, and the test command runs what they make possible."""

from __future__ import annotations

import importlib.util
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent.parent
LOCKS = ROOT / "requirements"


@pytest.fixture(scope="module")
def dev():
    specification = importlib.util.spec_from_file_location("dev", ROOT / "dev.py")
    module = importlib.util.module_from_spec(specification)
    specification.loader.exec_module(module)
    return module


def names(lock_file: Path) -> set[str]:
    return {re.split(r"[=\s;]", line)[0] for line in lock_file.read_text().splitlines()}


@pytest.mark.parametrize("lock_file", sorted(LOCKS.glob("*.txt")), ids=lambda path: path.name)
def test_no_address_gets_into_a_lock_file(lock_file):
    assert not re.search(r"://|^-", lock_file.read_text(), re.MULTILINE)


@pytest.mark.parametrize("airflow", ["3.2", "3.3"])
def test_the_clients_move_nothing_in_the_lock_that_they_stand_on(airflow):
    clients = names(LOCKS / f"clients-{airflow}.txt")
    assert "snowflake-connector-python" in clients
    assert not clients & names(LOCKS / f"airflow-{airflow}.txt")


@pytest.mark.parametrize(
    ("airflow", "left_out"),
    [
        ("3.3", None),
        ("3.2", "not kills and not matrix"),
        ("3.1", "not kills and not matrix and not clients"),
        ("lowest", "not kills and not matrix and not clients"),
    ],
)
def test_tests_of_clients_run_where_there_are_clients(dev, airflow, left_out):
    quick = next(each for each in dev.checks("python", [], airflow=airflow) if "tests/dags" in each)
    assert (quick[-1] if "-m" in quick[3:] else None) == left_out


def test_clients_once_installed_are_in_nobodys_way(dev, tmp_path, monkeypatch):
    installed = []

    def install(folder: Path, locks: list[Path]) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        installed.append([each.name for each in locks])
        dev.stamp(folder, locks).write_text(dev.fingerprint(locks))

    monkeypatch.setattr(dev, "ROOT", tmp_path)
    monkeypatch.setattr(dev, "install", install)
    monkeypatch.setattr(dev, "builds_mysqlclient", lambda: False)
    monkeypatch.setattr(dev.venv.EnvBuilder, "create", lambda *_: None)
    (tmp_path / "pyproject.toml").write_text("")
    for clients in (False, True, False, True):
        dev.environment("3.3", clients=clients)
    assert installed == [["airflow-3.3.txt"], ["airflow-3.3.txt", "clients-3.3.txt"]]
