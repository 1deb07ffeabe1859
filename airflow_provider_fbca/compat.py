"""Every difference between the Airflow minors that this package supports (3.1, 3.2, 3.3).

Each name is imported from where the running Airflow offers it without a deprecation warning. Nothing else in the
package looks at Airflow's version.
"""

from __future__ import annotations

from importlib.metadata import version
from typing import TYPE_CHECKING, Any

from packaging.version import Version

from airflow_provider_fbca.get_provider_info import conn_fields

AIRFLOW_VERSION = Version(Version(version("apache-airflow")).base_version)
AIRFLOW_V_3_2_PLUS = Version("3.2.0") <= AIRFLOW_VERSION

if TYPE_CHECKING or AIRFLOW_V_3_2_PLUS:
    from airflow.sdk import conf
    from airflow.sdk.exceptions import AirflowFailException, AirflowNotFoundException
else:
    from airflow.configuration import conf
    from airflow.exceptions import AirflowFailException, AirflowNotFoundException

__all__ = [
    "AIRFLOW_VERSION",
    "AIRFLOW_V_3_2_PLUS",
    "AirflowFailException",
    "AirflowNotFoundException",
    "conf",
    "connection_widgets",
    "hook_lineage_collector",
]


def connection_widgets() -> dict[str, Any]:
    """Return the fields of the connection form as Airflow 3.1 wants them; later minors read the provider info.

    :returns: field name -> wtforms field; empty on 3.2 and up, which never ask.
    """
    if AIRFLOW_V_3_2_PLUS:
        return {}
    from flask_appbuilder.fieldwidgets import (  # noqa: PLC0415 - only the web server has it
        BS3PasswordFieldWidget,
        BS3TextFieldWidget,
    )
    from wtforms import IntegerField, PasswordField, StringField  # noqa: PLC0415 - as above
    from wtforms.validators import Optional  # noqa: PLC0415 - as above

    def field(label: str, description: str, schema: dict[str, Any]) -> Any:
        options = {"label": label, "description": description, "validators": [Optional()]}
        if "integer" in schema["type"]:
            return IntegerField(widget=BS3TextFieldWidget(), **options)
        if schema.get("format") == "password":
            return PasswordField(widget=BS3PasswordFieldWidget(), **options)
        return StringField(widget=BS3TextFieldWidget(), **options)

    return {name: field(**described) for name, described in conn_fields().items()}


def hook_lineage_collector() -> Any | None:
    """Return what collects the lineage of hooks, None where nobody has asked Airflow for it.

    Airflow 3.1 has it in its core.
    """
    if TYPE_CHECKING or AIRFLOW_V_3_2_PLUS:
        from airflow.sdk.lineage import NoOpCollector, get_hook_lineage_collector  # noqa: PLC0415 - few tasks need it
    else:
        from airflow.lineage.hook import NoOpCollector, get_hook_lineage_collector  # noqa: PLC0415 - as above
    collector = get_hook_lineage_collector()
    return None if isinstance(collector, NoOpCollector) else collector
