"""File systems on the servers of ``tests/servers.py``; also for processes that tests start."""

from __future__ import annotations

from typing import Any


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
