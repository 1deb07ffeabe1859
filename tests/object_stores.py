"""File systems on the servers of ``tests/servers.py``; also for processes that tests start."""

from __future__ import annotations

import os
import secrets
from typing import Any

import pytest

# gcsfs would ask, by gRPC, which kind of bucket this is; the servers know no gRPC. Read when it is imported.
os.environ["GCSFS_EXPERIMENTAL_ZB_HNS_SUPPORT"] = "false"


def file_system(kind: str, options: dict[str, Any], **more: Any) -> Any:
    """Return the fsspec file system of a store.

    :param kind: ``s3`` or ``gs``.
    :param options: of the server.
    """
    if kind == "s3":
        from s3fs import S3FileSystem

        return S3FileSystem(**options, **more)
    from gcsfs import GCSFileSystem

    return GCSFileSystem(**options, **more)


def root_at(kind: str, files: Any) -> Any:
    """Return a root of its own in the bucket of a file system, as Airflow gives it."""
    from airflow.sdk import ObjectStoragePath
    from airflow.sdk.io import attach

    # Airflow keeps the first file system of a protocol and connection.
    conn_id = secrets.token_hex(8)
    attach(protocol=kind, conn_id=conn_id, fs=files)
    return ObjectStoragePath(f"{kind}://bucket/{conn_id}", conn_id=conn_id)


def files_at(kind: str, url: str, *, secret: str) -> Any:
    """Return the file system of a store, set up as Airflow would, but on a server of ours.

    :param kind: ``s3``, ``gs`` or ``abfs``.
    """
    if kind == "s3":
        pytest.importorskip("s3fs")
        client = {"endpoint_url": url, "region_name": "eu-central-1"}
        return file_system("s3", {"key": "id", "secret": secret, "client_kwargs": client}, skip_instance_cache=True)
    if kind == "gs":
        pytest.importorskip("gcsfs")
        options = {"project": "project", "token": "anon", "endpoint_url": url}
        return file_system("gs", options, skip_instance_cache=True)
    adlfs = pytest.importorskip("adlfs")
    account = f"AccountName=account;AccountKey=czNjcjN0;BlobEndpoint={url}/account"
    return adlfs.AzureBlobFileSystem(
        connection_string=f"DefaultEndpointsProtocol=http;{account}", skip_instance_cache=True
    )


def endpoint(kind: str, options: dict[str, Any]) -> str:
    """Return where a server of ``tests/servers.py`` listens."""
    return options["client_kwargs"]["endpoint_url"] if kind == "s3" else options["endpoint_url"]
