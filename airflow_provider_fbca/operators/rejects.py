"""The report of rejects: a Parquet file of what cannot be sent and why, written while the source is read."""

from __future__ import annotations

import os
import shutil
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Self

import pyarrow as pa
from airflow.sdk import ObjectStoragePath

from airflow_provider_fbca.exceptions import MappingError, OptionsError, ReportError, UsersError
from airflow_provider_fbca.identity import REJECTS_SCHEMA, find_column
from airflow_provider_fbca.operators.rejects_file import RejectsFile

if TYPE_CHECKING:
    from collections.abc import Sequence
    from types import TracebackType

_LOCAL = {"", "file", "local"}
_GROUP_ROWS = 50_000


@dataclass(frozen=True)
class RejectsPlace:
    """Where the report goes, and what stands in it beside row, key and reason.

    :param path: of the file; one that is there is replaced.
    :param columns: columns of the source, as the task names them.
    """

    path: ObjectStoragePath
    columns: tuple[str, ...]

    @classmethod
    def of(cls, uri: str, columns: Sequence[str], *, ledger: ObjectStoragePath) -> Self:
        """Check where the report shall go, before anything is read.

        :param uri: of the file: a path or an object-storage URI.
        :param columns: to copy.
        :param ledger: the folder of the ledger, where nothing else may be.
        :raises OptionsError: the place cannot be one.
        """
        remedy = "Give an object-storage URI or an absolute path of a Parquet file, outside the ledger."
        failure = ""
        try:
            path = ObjectStoragePath(uri)
            path.fs  # noqa: B018 - looks the file system and its connection up
        except Exception as error:  # noqa: BLE001 - every store has exceptions of its own
            failure = type(error).__name__
        if failure:
            raise OptionsError(
                f"rejects_uri is of a kind of storage, or names a connection, that is not known here ({failure}).",
                remedy=remedy,
            )
        if _is_local(path):
            # Looked at as it was written: for file:// the path object has made a relative one absolute already.
            written = uri.removeprefix(f"{path.protocol}:").removeprefix("//")
            if not written.startswith("/"):
                raise OptionsError(f"rejects_uri {uri} is a relative path.", remedy=remedy)
        if uri.endswith("/") or (_is_local(path) and Path(path.path).is_dir()):
            raise OptionsError(f"rejects_uri {_shown(path)} is a folder.", remedy=remedy)
        if _is_within(path, ledger):
            raise OptionsError(f"rejects_uri {_shown(path)} is inside the ledger.", remedy=remedy)
        return cls(path, tuple(columns))

    @property
    def uri(self) -> str:
        """Address of the file, without the credentials that a path object may carry."""
        return _shown(self.path)


class RejectsReport:
    """Writes the report into the task's own folder while the source is read, then puts it in its place as a whole.

    :param place: where it goes.
    :param names: the columns of the source.
    :param spill: the file to write meanwhile; it must not exist yet.
    :raises MappingError: the source lacks a column that the task wants copied, or has one of the report's own name.
    """

    def __init__(self, place: RejectsPlace, names: Sequence[str], spill: Path) -> None:
        self._place = place
        self._spill = spill
        found = (find_column(names, column, option="rejects_columns") for column in place.columns)
        self._columns = tuple(dict.fromkeys(found))
        for name in self._columns:
            if name in REJECTS_SCHEMA.names:
                raise MappingError(
                    f"`rejects_columns` names {name!r}, which is also a column of the report itself.",
                    remedy="Give it another name in the query.",
                )
        self._file = RejectsFile(spill)
        self._waiting: list[pa.RecordBatch] = []
        self._waiting_rows = 0
        #: Lines so far.
        self.lines = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._file.close()

    def write(self, rejects: pa.RecordBatch, batch: pa.RecordBatch, *, first_row: int) -> None:
        """Add what was rejected of one batch.

        :param rejects: row, key and reason, as a preparer tells them.
        :param batch: the batch as it came.
        :param first_row: rows that came before it.
        :raises UsersError: a column to copy has a type that Parquet has no form for, or changes it and has no text.
        """
        rows = pa.array(rejects.column("row").to_numpy() - (first_row + 1), pa.int64())
        copied = [batch.column(name).take(rows) for name in self._columns]
        names = [*REJECTS_SCHEMA.names, *self._columns]
        self._waiting.append(pa.RecordBatch.from_arrays([*rejects.columns, *copied], names=names))
        self._waiting_rows += rejects.num_rows
        self.lines += rejects.num_rows
        if self._waiting_rows >= _GROUP_ROWS or not self._file.is_begun:
            self._flush()

    def finish(self) -> None:
        """Put the report in its place; without a reject, it is one without rows.

        :raises ReportError: the place cannot be written.
        """
        if not self._file.is_begun and not self._waiting:
            fields = [*REJECTS_SCHEMA, *(pa.field(name, pa.string()) for name in self._columns)]
            self._waiting = [pa.RecordBatch.from_pylist([], schema=pa.schema(fields))]
        self._flush()
        self._file.close()
        failure = ""
        try:
            _put(self._spill, self._place.path)
        except Exception as error:  # noqa: BLE001 - every store has exceptions of its own, whose text may hold an address
            failure = type(error).__name__
        if failure:
            raise ReportError(
                f"The report of rejects {self._place.uri} cannot be written: {failure}. Nothing was sent.",
                remedy="Check that the place exists and that its connection may write there.",
            )

    def _flush(self) -> None:
        waiting, self._waiting, self._waiting_rows = self._waiting, [], 0
        failure = ""
        try:
            if waiting:
                self._file.write(waiting)
        except (pa.ArrowException, UsersError) as error:
            failure = type(error).__name__
        if failure:
            raise UsersError(
                f"The columns {', '.join(self._columns)} cannot be copied into the report of rejects ({failure}).",
                remedy="Cast them to text in the query, or leave them out of rejects_columns.",
            )


def _put(source: Path, target: ObjectStoragePath) -> None:
    """Copy a local file to its place; readers see the old one or the new one, never a part."""
    if not _is_local(target):
        target.fs.put_file(os.fspath(source), target.path)
        return
    place = Path(target.path)
    _make_private(place.parent)
    descriptor, beside = tempfile.mkstemp(dir=place.parent, prefix=f".{place.name}.", suffix=".part")
    try:
        with os.fdopen(descriptor, "wb") as file, source.open("rb") as content:
            shutil.copyfileobj(content, file)
            file.flush()
            os.fsync(file.fileno())
        Path(beside).replace(place)
    finally:
        Path(beside).unlink(missing_ok=True)


def _make_private(folder: Path) -> None:
    """Create the folder and its missing parents for the owner alone."""
    for missing in reversed([each for each in (folder, *folder.parents) if not each.exists()]):
        missing.mkdir(mode=0o700, exist_ok=True)


def _is_local(path: ObjectStoragePath) -> bool:
    return path.protocol in _LOCAL


def _shown(path: ObjectStoragePath) -> str:
    return f"file://{path.path}" if _is_local(path) else f"{path.protocol}://{path.path}"


def _is_within(path: ObjectStoragePath, folder: ObjectStoragePath) -> bool:
    if _is_local(path) and _is_local(folder):
        return Path(path.path).resolve().is_relative_to(Path(folder.path).resolve())
    return path.protocol == folder.protocol and f"{path.path}/".startswith(f"{folder.path.rstrip('/')}/")
