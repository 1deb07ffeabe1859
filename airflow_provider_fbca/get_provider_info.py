"""What Airflow reads when it discovers providers; imports nothing but the version."""

from __future__ import annotations

from typing import Any

from airflow_provider_fbca import __version__


def get_provider_info() -> dict[str, Any]:
    """Describe the provider: its connection type and form, config section, extra links and command.

    :returns: a dict that meets Airflow's ``provider_info.schema.json``; anything else would break every ``airflow``
        command, so a test validates it on each supported Airflow.
    """
    return {
        "package-name": "airflow-provider-fbca",
        "name": "Facebook Custom Audiences",
        "description": "Keeps Meta (Facebook) custom audiences equal to a warehouse query.",
        "versions": [__version__],
        "integrations": [
            {
                "integration-name": "Facebook Custom Audiences",
                "external-doc-url": "https://developers.facebook.com/docs/marketing-api/audiences/guides/custom-audiences",
                "tags": ["service"],
            }
        ],
        "operators": [
            {
                "integration-name": "Facebook Custom Audiences",
                "python-modules": ["airflow_provider_fbca.operators.custom_audience"],
            }
        ],
        "sensors": [
            {
                "integration-name": "Facebook Custom Audiences",
                "python-modules": ["airflow_provider_fbca.sensors.custom_audience"],
            }
        ],
        "triggers": [
            {
                "integration-name": "Facebook Custom Audiences",
                "python-modules": ["airflow_provider_fbca.triggers.custom_audience"],
            }
        ],
        "hooks": [
            {
                "integration-name": "Facebook Custom Audiences",
                "python-modules": ["airflow_provider_fbca.hooks.custom_audience"],
            }
        ],
        "connection-types": [_connection_type()],
        # A handler has to be named, if only as none, for OpenLineage to hear of these assets.
        "asset-uris": [
            {
                "schemes": ["fbca"],
                "handler": None,
                "to_openlineage_converter": "airflow_provider_fbca.operators.lineage.openlineage_dataset",
            }
        ],
        "extra-links": ["airflow_provider_fbca.links.ads_manager.AudienceLink"],
        "cli": ["airflow_provider_fbca.cli.airflow_command.get_commands"],
        "config": {"fbca": _config_section()},
    }


def _connection_type() -> dict[str, Any]:
    return {
        "connection-type": "fbca",
        "hook-name": "Facebook Custom Audiences",
        "hook-class-name": "airflow_provider_fbca.hooks.custom_audience.FacebookCustomAudienceHook",
        "ui-field-behaviour": ui_field_behaviour(),
        "conn-fields": conn_fields(),
    }


def conn_fields() -> dict[str, Any]:
    """Return the form's own fields, kept in the connection's extra; Airflow 3.1 gets them through the hook."""
    return {
        "app_secret": {
            "label": "App secret",
            "description": "Signs every call with appsecret_proof; needed where the app requires it.",
            "schema": {"type": ["string", "null"], "format": "password"},
        },
        "ad_account_id": {
            "label": "Ad account id",
            "description": "The account that owns the audiences, with or without act_ in front.",
            "schema": {"type": ["string", "null"], "pattern": "^(act_)?[0-9]+$"},
        },
        "api_version": {
            "label": "Graph API version",
            "description": "Empty for the one this package is tested with.",
            "schema": {"type": ["string", "null"], "pattern": "^v[0-9]+\\.[0-9]+$"},
        },
        "timeout": {
            "label": "Timeout (seconds)",
            "description": "Longest wait for the answer to one request.",
            "schema": {"type": ["integer", "null"], "minimum": 1, "maximum": 3600},
        },
        "proxies": {
            "label": "Proxies (JSON)",
            "description": 'For example {"https": "http://proxy.example.com:3128"}.',
            "schema": {"type": ["string", "null"], "format": "json"},
        },
        "delete_style": {
            "label": "Removals as",
            "description": "method_override where a proxy drops the bodies of DELETE requests; else empty, or body.",
            "schema": {"type": ["string", "null"], "enum": ["body", "method_override", None]},
        },
    }


def ui_field_behaviour() -> dict[str, Any]:
    """Return how the standard fields of the connection form look; shared with the hook for Airflow 3.1."""
    return {
        "hidden-fields": ["schema", "port"],
        "relabeling": {
            "password": "Access token",
            "login": "App id",
            "host": "Graph base URL",
        },
        "placeholders": {
            "password": "token of a system user with ads_management",
            "login": "only needed together with an app secret",
            "host": "https://graph.facebook.com",
        },
    }


def _config_section() -> dict[str, Any]:
    return {
        "description": "Facebook Custom Audiences provider.",
        "options": {
            "ledger_uri": {
                "description": (
                    "Where the ledger keeps what was sent to each audience: an object-storage URI such as "
                    "s3://aws_default@bucket/fbca-ledger, or file:///path on one machine. People's hashes are stored "
                    "there, so it has no default."
                ),
                "version_added": "0.1.0",
                "type": "string",
                "example": "s3://aws_default@bucket/fbca-ledger",
                "default": None,
            },
            "lease_seconds": {
                "description": (
                    "How long a task that was killed keeps others from writing to its audience. Tasks renew their "
                    "lease while they work, so this does not limit how long one may run. At least twice the time that "
                    "a request may be on its way, which is the connection's timeout and a margin."
                ),
                "version_added": "0.1.0",
                "type": "float",
                "example": None,
                "default": "180",
            },
            "defer_after_seconds": {
                "description": (
                    "The longest wait for Meta's rate limit that a deferrable task spends in its worker; a longer one "
                    "puts the task off and frees the worker. A task that is not deferrable waits in its worker."
                ),
                "version_added": "0.1.0",
                "type": "float",
                "example": None,
                "default": "300",
            },
            "single_writer": {
                "description": (
                    "Set it to True to keep the ledger on a store that cannot create a file exclusively, where two "
                    "tasks might both take the lease of an audience. It is you then who makes sure that only one run "
                    "at a time writes to an audience (max_active_runs=1, and no other DAG)."
                ),
                "version_added": "0.1.0",
                "type": "boolean",
                "example": None,
                "default": "False",
            },
        },
    }
