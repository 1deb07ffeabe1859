"""What the documents say is so: their DAG parses, their options exist, their column names are understood."""

from __future__ import annotations

import inspect
import json
import re
from pathlib import Path

import pytest
from dagbags import DagBag

from airflow_provider_fbca.get_provider_info import get_provider_info
from airflow_provider_fbca.hooks.custom_audience import FacebookCustomAudienceHook
from airflow_provider_fbca.identity import KEYS, resolve_mapping
from airflow_provider_fbca.operators import custom_audience
from airflow_provider_fbca.operators.base import AudienceOperator, UsersOperator

ROOT = Path(__file__).parent.parent.parent
README = (ROOT / "README.md").read_text()
COLUMNS = (ROOT / "docs" / "columns.md").read_text()
OPERATORS = [
    kind
    for _, kind in inspect.getmembers(custom_audience, inspect.isclass)
    if issubclass(kind, AudienceOperator) and kind not in {AudienceOperator, UsersOperator}
]


def code_of(document: str, language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", document, re.DOTALL)


def test_the_dag_of_the_readme_parses_and_is_short(tmp_path):
    (code,) = code_of(README, "python")
    (tmp_path / "readme.py").write_text(code)
    bag = DagBag(dag_folder=tmp_path)
    assert bag.import_errors == {}
    assert [task.task_id for task in bag.dags["audience"].tasks] == ["refresh"]
    assert len(code.splitlines()) <= 15


def test_the_connection_of_the_readme_is_one_that_the_hook_takes(monkeypatch):
    (connection,) = code_of(README, "json")
    assert json.loads(connection)["conn_type"] == FacebookCustomAudienceHook.conn_type
    monkeypatch.setenv("AIRFLOW_CONN_FBCA_DEFAULT", connection)
    assert FacebookCustomAudienceHook().account_id == "1234567890"


@pytest.mark.parametrize("operator", OPERATORS)
def test_every_operator_and_every_option_is_in_the_readme(operator):
    assert f"`{operator.__name__}`" in README
    if issubclass(operator, UsersOperator):
        options = [
            name
            for kind in operator.__mro__
            if issubclass(kind, UsersOperator)
            for name in inspect.signature(kind.__init__).parameters
        ]
        missing = [name for name in options if name not in {"self", "kwargs"} and name not in README]
        assert missing == []


@pytest.mark.parametrize("operator", OPERATORS)
def test_every_option_of_an_operator_is_described_in_its_docstring(operator):
    described = "".join(inspect.getdoc(kind) or "" for kind in operator.__mro__ if issubclass(kind, AudienceOperator))
    for kind in operator.__mro__:
        if issubclass(kind, AudienceOperator):
            for name in inspect.signature(kind.__init__).parameters:
                assert name in {"self", "kwargs"} or f":param {name}:" in described, name


def test_every_field_of_the_connection_form_is_in_the_readme():
    (connection_type,) = get_provider_info()["connection-types"]
    assert [name for name in connection_type["conn-fields"] if f"`{name}`" not in README] == []


def documented_names() -> list[tuple[str, str]]:
    table = COLUMNS.split("| key | column names |")[1].split("\n\n")[0]
    pairs = []
    for line in table.strip().splitlines()[1:]:
        keys, names = (cell.strip() for cell in line.strip("|").split("|"))
        names = names.replace("also numbered:", "").replace(";", ",")
        pairs += [(keys, name.strip()) for name in names.split(",")]
    return pairs


@pytest.mark.parametrize(("keys", "name"), documented_names())
def test_every_documented_column_name_feeds_its_key(keys, name):
    taken = resolve_mapping([name, "email" if "EMAIL" not in keys else "phone"]).keys
    meant = {key for key in KEYS if re.search(rf"\b{key}\b", keys)}
    assert meant & set(taken), taken


def test_every_key_is_documented():
    assert [key for key in KEYS if not re.search(rf"\b{key}\b", COLUMNS)] == []
