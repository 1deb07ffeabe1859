"""What the installed Airflow makes of the provider: discovery, the connection form, imports."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from importlib.resources import files
from typing import TYPE_CHECKING, Any

import jsonschema
import pytest

from airflow_provider_fbca import __version__
from airflow_provider_fbca.compat import AIRFLOW_V_3_2_PLUS
from airflow_provider_fbca.get_provider_info import conn_fields, get_provider_info

if TYPE_CHECKING:
    from pathlib import Path

#: What discovery and DAG parsing must not pay for.
HEAVY = {"duckdb", "facebook_business", "numpy", "pandas", "phonenumbers", "pyarrow", "requests", "typer", "uvicorn"}


@pytest.fixture(scope="session")
def airflow_home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("airflow-home")


@pytest.fixture
def python(airflow_home: Path) -> Any:
    """Runs Python code in a process of its own and gives what it printed last, as JSON."""

    def run(code: str, *options: str) -> Any:
        return json.loads(_output([sys.executable, *options, "-c", code], airflow_home).splitlines()[-1])

    return run


@pytest.fixture
def airflow(airflow_home: Path) -> Any:
    """Runs an ``airflow`` command that prints JSON."""

    def run(*arguments: str) -> Any:
        told = _output([sys.executable, "-m", "airflow", *arguments, "--output", "json"], airflow_home)
        return json.loads(told.splitlines()[-1])

    return run


def _output(command: list[str], airflow_home: Path) -> str:
    environment = os.environ | {"AIRFLOW_HOME": str(airflow_home), "AIRFLOW__CORE__UNIT_TEST_MODE": "False"}
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False, env=environment)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_provider_info_meets_the_schema_of_the_installed_airflow() -> None:
    schema = json.loads(files("airflow").joinpath("provider_info.schema.json").read_text())
    jsonschema.validate(get_provider_info(), schema)


def test_every_name_in_the_provider_info_can_be_imported() -> None:
    from airflow.providers_manager import import_string

    info = get_provider_info()
    modules = [
        name
        for kind in ("operators", "sensors", "triggers", "hooks")
        for each in info[kind]
        for name in each["python-modules"]
    ]
    objects = [each["hook-class-name"] for each in info["connection-types"]] + info["extra-links"] + info["cli"]
    assert all(__import__(name) for name in modules)
    assert all(import_string(name) for name in objects)


def test_airflow_lists_the_provider_with_its_version(airflow: Any) -> None:
    found = {each["package_name"]: each for each in airflow("providers", "list")}
    assert found["airflow-provider-fbca"]["version"] == __version__


def test_airflow_lists_the_hook_as_its_connection_type(airflow: Any) -> None:
    found = {each["connection_type"]: each for each in airflow("providers", "hooks")}
    assert found["fbca"]["class"] == "airflow_provider_fbca.hooks.custom_audience.FacebookCustomAudienceHook"
    assert found["fbca"]["conn_id_attribute_name"] == "fbca_conn_id"
    assert found["fbca"]["hook_name"] == "Facebook Custom Audiences"


def test_airflow_lists_the_link(airflow: Any) -> None:
    found = {each["extra_link_class_name"] for each in airflow("providers", "links")}
    assert "airflow_provider_fbca.links.ads_manager.AudienceLink" in found


def test_the_command_is_one_of_airflows_own_where_providers_may_add_some(airflow_home: Path) -> None:
    own = [sys.executable, "-c", "from airflow_provider_fbca.cli import main; main()", "--help"]
    assert "sandbox" in _output([sys.executable, "-m", "airflow", "fbca"] if AIRFLOW_V_3_2_PLUS else own, airflow_home)


def test_airflow_knows_the_config_section(airflow_home: Path) -> None:
    told = _output([sys.executable, "-m", "airflow", "config", "list", "--section", "fbca", "-a"], airflow_home)
    assert "ledger_uri" in told


def test_connection_form_shows_every_field_with_label_and_placeholder(python: Any) -> None:
    (form,) = python(
        "import json\n"
        "from airflow.api_fastapi.core_api.services.ui.connections import HookMetaService\n"
        "found = [each for each in HookMetaService.hook_meta_data() if each.connection_type == 'fbca']\n"
        "print(json.dumps([each.model_dump(mode='json') for each in found]))"
    )
    assert form["hook_name"] == "Facebook Custom Audiences"
    standard = form["standard_fields"]
    assert standard["password"]["title"] == "Access token"
    assert standard["password"]["placeholder"] == "token of a system user with ads_management"
    assert standard["login"]["title"] == "App id"
    assert standard["host"]["title"] == "Graph base URL"
    assert standard["host"]["placeholder"] == "https://graph.facebook.com"
    assert standard["port"]["hidden"]
    assert standard["url_schema"]["hidden"]
    extra = form["extra_fields"]
    assert set(extra) == {"app_secret", "ad_account_id", "api_version", "timeout", "proxies", "delete_style"}
    for name, described in conn_fields().items():
        assert extra[name]["schema"]["title"] == described["label"]
        assert extra[name]["description"] == described["description"]
        assert extra[name]["schema"]["type"] == described["schema"]["type"]
    assert extra["app_secret"]["schema"]["format"] == "password"


def test_discovery_imports_nothing_heavy(python: Any) -> None:
    loaded = python(
        "import json, sys\n"
        "from airflow_provider_fbca.get_provider_info import get_provider_info\n"
        "get_provider_info()\n"
        "print(json.dumps(sorted({name.partition('.')[0] for name in sys.modules})))"
    )
    assert not {"airflow", *HEAVY} & set(loaded)


@pytest.mark.parametrize(
    "module", ["operators.custom_audience", "sensors.custom_audience", "links.ads_manager", "cli.airflow_command"]
)
def test_dag_parsing_imports_nothing_heavy(python: Any, module: str) -> None:
    loaded = python(
        "import json, sys\n"
        "import airflow.sdk, airflow.cli.cli_config\n"
        "from airflow.sdk import BaseOperator, ObjectStoragePath\n"
        "before = set(sys.modules)\n"
        f"import airflow_provider_fbca.{module}\n"
        "print(json.dumps(sorted({name.partition('.')[0] for name in set(sys.modules) - before})))"
    )
    assert "airflow_provider_fbca" in loaded
    assert not HEAVY & set(loaded)


def test_no_module_of_ours_uses_anything_deprecated_on_import(python: Any) -> None:
    count, told = python(
        "import importlib, json, pkgutil, warnings\n"
        "import airflow_provider_fbca as package\n"
        "names = [each.name for each in pkgutil.walk_packages(package.__path__, 'airflow_provider_fbca.')]\n"
        "with warnings.catch_warnings(record=True) as seen:\n"
        "    warnings.simplefilter('always')\n"
        "    for name in names:\n"
        "        importlib.import_module(name)\n"
        "ours = [(each.filename, str(each.message)) for each in seen if 'airflow_provider_fbca' in each.filename]\n"
        "print(json.dumps([len(names), ours]))"
    )
    assert count > 80
    assert told == []
