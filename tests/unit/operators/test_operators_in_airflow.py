"""What Airflow does with every operator before a task runs: reads, serialises, maps and renders it."""

from __future__ import annotations

import copy
import inspect
import json
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import pytest
from airflow.sdk import DAG, BaseOperator

from airflow_provider_fbca.operators import custom_audience
from airflow_provider_fbca.operators.base import AudienceOperator, UsersOperator

try:
    from airflow.serialization.serialized_objects import DagSerialization
except ImportError:  # Airflow 3.1
    from airflow.serialization.serialized_objects import SerializedDAG as DagSerialization

if TYPE_CHECKING:
    from pathlib import Path


def never(**context: Any) -> None:
    """A source that must not be touched before the task runs."""
    raise AssertionError(f"users_callable was called with {sorted(context)}")


WITH_USERS = (
    custom_audience.FacebookUploadUsersOperator,
    custom_audience.FacebookRemoveUsersOperator,
    custom_audience.FacebookRefreshAudienceOperator,
)
ALL = (
    custom_audience.FacebookCreateCustomAudienceOperator,
    custom_audience.FacebookDeleteCustomAudienceOperator,
    *WITH_USERS,
)
REQUIRED: dict[type, dict[str, Any]] = {
    custom_audience.FacebookCreateCustomAudienceOperator: {"name": "Everybody"},
    custom_audience.FacebookDeleteCustomAudienceOperator: {"audience_id": "1"},
    **{each: {"audience_id": "1", "users_callable": never} for each in WITH_USERS},
}

every_operator = pytest.mark.parametrize("operator", ALL, ids=lambda each: each.__name__)
every_users_operator = pytest.mark.parametrize("operator", WITH_USERS, ids=lambda each: each.__name__)


def options_of(operator: type) -> dict[str, inspect.Parameter]:
    """The options that our own classes give an operator."""
    own = [each for each in operator.__mro__ if each.__module__.startswith("airflow_provider_fbca.")]
    found = [inspect.signature(each.__init__).parameters for each in own if "__init__" in vars(each)]
    merged = {name: parameter for parameters in reversed(found) for name, parameter in parameters.items()}
    return {name: each for name, each in merged.items() if name not in {"self", "kwargs"}}


@pytest.fixture
def dag() -> DAG:
    return DAG("contract", schedule=None, start_date=datetime(2026, 1, 1, tzinfo=UTC))


def test_every_public_operator_is_tested_here() -> None:
    found = {
        each for each in vars(custom_audience).values() if inspect.isclass(each) and issubclass(each, BaseOperator)
    }
    assert found - {AudienceOperator, UsersOperator} == set(ALL)


@every_operator
def test_no_option_shadows_a_name_of_base_operator(operator: type) -> None:
    taken = set(inspect.signature(BaseOperator.__init__).parameters) | set(dir(BaseOperator))
    taken |= set(vars(BaseOperator(task_id="any")))
    assert not set(options_of(operator)) & taken


@every_operator
def test_no_method_replaces_one_of_base_operator_by_accident(operator: type) -> None:
    meant = {"template_fields", "template_ext", "template_fields_renderers", "operator_extra_links", "ui_color"}
    own = [each for each in operator.__mro__ if each.__module__.startswith("airflow_provider_fbca.")]
    names = {name for each in own for name in vars(each) if not name.startswith("__")}
    assert names & set(dir(BaseOperator)) <= meant | {
        "execute",
        "on_kill",
        "_abc_impl",
        "_BaseOperator__serialized_fields",
    }


@every_operator
def test_every_template_field_is_an_option_and_set(operator: type) -> None:
    task = operator(task_id="task", **REQUIRED[operator])
    assert set(operator.template_fields) <= set(options_of(operator))
    assert all(hasattr(task, name) for name in operator.template_fields)
    assert "users_callable" not in operator.template_fields


@every_operator
def test_every_option_is_kept_under_its_own_name(operator: type) -> None:
    task = operator(task_id="task", **REQUIRED[operator])
    for name, parameter in options_of(operator).items():
        expected = REQUIRED[operator].get(name, parameter.default)
        if name == "min_rows" and expected is None:
            expected = operator.default_min_rows
        assert getattr(task, name) == expected


@every_operator
def test_every_option_is_documented_with_its_default(operator: type) -> None:
    own = [each for each in operator.__mro__ if each.__module__.startswith("airflow_provider_fbca.")]
    told = "\n".join(each.__doc__ or "" for each in own)
    assert [name for name in options_of(operator) if f":param {name}:" not in told] == []


@every_operator
def test_operator_survives_serialisation_with_its_template_fields_and_link(
    operator: type, dag: DAG, monkeypatch: pytest.MonkeyPatch
) -> None:
    # What loads DAGs for the scheduler turns this off for the whole process.
    monkeypatch.setattr(DagSerialization, "_load_operator_extra_links", True)
    operator(task_id="task", dag=dag, **REQUIRED[operator])
    text = json.dumps(DagSerialization.to_dict(dag))
    assert "users_callable" not in text
    task = DagSerialization.from_dict(json.loads(text)).get_task("task")
    assert task.task_type == operator.__name__
    assert set(task.template_fields) == set(operator.template_fields)
    expected = [] if operator is custom_audience.FacebookDeleteCustomAudienceOperator else ["Audience in Ads Manager"]
    assert list(task.extra_links) == expected


@every_users_operator
@pytest.mark.parametrize(
    ("fixed", "mapped"),
    [
        ({"sql": "SELECT 1", "sql_conn_id": "warehouse"}, {"audience_id": ["1", "2"]}),
        ({"audience_id": "1", "sql_conn_id": "warehouse"}, {"sql": ["SELECT 1", "SELECT 2"]}),
        ({"audience_id": "1", "sql_conn_id": "warehouse", "sql": "SELECT $1"}, {"parameters": [["US"], ["DE"]]}),
        ({"audience_id": "1"}, {"users_uri": ["file:///a.parquet", "file:///b.parquet"]}),
        ({"audience_id": "1", "users_callable": never}, {"columns": [{"a": "EMAIL"}, {"b": "EMAIL"}]}),
    ],
    ids=lambda each: next(iter(each)),
)
def test_operator_maps_and_unmaps(operator: Any, fixed: dict[str, Any], mapped: dict[str, list[Any]], dag: DAG) -> None:
    task = operator.partial(task_id="task", dag=dag, max_active_tis_per_dagrun=2, **fixed).expand(**mapped)
    DagSerialization.from_dict(json.loads(json.dumps(DagSerialization.to_dict(dag))))
    for number in (0, 1):
        one = task.unmap({name: values[number] for name, values in mapped.items()})
        assert type(one) is operator
        for name, values in mapped.items():
            assert getattr(one, name) == values[number]
        one.check_options()


@pytest.mark.parametrize("option", ["name", "audience_id"])
def test_audience_operators_map_over_names_and_ids(option: str, dag: DAG) -> None:
    operator: Any = ALL[0] if option == "name" else ALL[1]
    operator.partial(task_id="task", dag=dag).expand(**{option: ["1", "2"]})
    DagSerialization.from_dict(json.loads(json.dumps(DagSerialization.to_dict(dag))))


@every_users_operator
def test_every_template_field_is_rendered_and_the_source_untouched(operator: Any, dag: DAG) -> None:
    given = {
        "audience_id": "{{ params.number }}",
        "fbca_conn_id": "meta_{{ params.number }}",
        "ad_account_id": "act_{{ params.number }}",
        "sql": "SELECT {{ params.number }}",
        "sql_conn_id": "warehouse_{{ params.number }}",
        "parameters": ["{{ params.number }}"],
        "session_sql": ["SET TIME ZONE '{{ params.number }}'"],
        "sql_hook_params": {"schema": "{{ params.number }}"},
        "users_uri": "file:///{{ params.number }}.parquet",
        "columns": {"column_{{ params.number }}": "EMAIL", "other": ["{{ params.key }}"]},
        "default_country": "{{ params.country }}",
        "ledger_uri": "file:///ledger-{{ params.number }}",
        "rejects_uri": "file:///rejects-{{ params.number }}.parquet",
        "rejects_columns": ["customer_{{ params.number }}"],
    }
    if operator is custom_audience.FacebookRefreshAudienceOperator:
        given["previous_upload"] = {"audience_id": "{{ params.number }}"}
    assert set(given) == set(operator.template_fields)
    task = operator(task_id="task", dag=dag, users_callable=never, **given)
    task.render_template_fields({"params": {"number": 7, "key": "PHONE", "country": "DE"}}, dag.get_template_env())
    assert task.audience_id == "7"
    assert (task.sql, task.sql_conn_id, task.parameters) == ("SELECT 7", "warehouse_7", ["7"])
    assert task.session_sql == ["SET TIME ZONE '7'"]
    assert task.sql_hook_params == {"schema": "7"}
    assert task.columns["other"] == ["PHONE"]
    assert task.default_country == "DE"
    assert "{{" not in repr([getattr(task, name) for name in operator.template_fields if name != "columns"])


@every_users_operator
def test_sql_files_are_rendered(operator: Any, tmp_path: Path) -> None:
    (tmp_path / "active.sql").write_text("SELECT * FROM {{ params.table }}")
    with DAG(
        "files", schedule=None, start_date=datetime(2026, 1, 1, tzinfo=UTC), template_searchpath=str(tmp_path)
    ) as dag:
        task = operator(task_id="task", audience_id="1", sql="active.sql", sql_conn_id="warehouse")
    task.resolve_template_files()
    task.render_template_fields({"params": {"table": "people"}}, dag.get_template_env())
    assert task.sql == "SELECT * FROM people"


@every_users_operator
def test_operator_can_be_copied_without_touching_its_source(operator: Any, dag: DAG) -> None:
    task = operator(task_id="task", dag=dag, **REQUIRED[operator])
    assert copy.deepcopy(task).users_callable is never
    assert task.prepare_for_execution().users_callable is never
