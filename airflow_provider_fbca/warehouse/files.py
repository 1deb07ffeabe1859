"""Users from files of Parquet, Arrow IPC or CSV: one, a folder or a glob, on any store that Airflow reaches."""

from __future__ import annotations

import re
from contextlib import closing
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from airflow.sdk import ObjectStoragePath

from airflow_provider_fbca.exceptions import FbcaError, SourceError
from airflow_provider_fbca.warehouse.arrow import sliced
from airflow_provider_fbca.warehouse.errors import told
from airflow_provider_fbca.warehouse.formats import content_of
from airflow_provider_fbca.warehouse.pump import PumpedSource
from airflow_provider_fbca.warehouse.source import BATCH_ROWS, checked_batch_rows, checked_names
from airflow_provider_fbca.warehouse.stores import Store, fixed_part, is_pattern

if TYPE_CHECKING:
    import threading
    from collections.abc import Iterator

    import pyarrow as pa

    from airflow_provider_fbca.warehouse.source import UserSource

_HIDDEN = re.compile(r"/[_.]")

_STORE_REMEDY = (
    "Install the Airflow provider that brings this file system (for s3, apache-airflow-providers-amazon[s3fs]), and "
    "look at the Airflow connection that stands before the @."
)
_REMEDY = "Look at the path, at the rights of its Airflow connection, and at who writes the files."


def open_uri(uri: str, *, batch_rows: int = BATCH_ROWS, stopped: threading.Event | None = None) -> UserSource:
    """Stream the rows of files in the order of their paths.

    Parquet and Arrow IPC are told by how a file begins, CSV by its name: ``.csv`` or ``.tsv``, also with ``.gz`` or
    ``.zst``.

    A folder is read with its subfolders, save names that begin with ``_`` or ``.``, as Spark and Hive mean them, and a
    glob passes over these too where it does not spell them. All files have the same columns; values that stand only in
    the names of folders are no columns.

    :param uri: a path, or ``scheme://[airflow connection@]bucket/path``; ``*``, ``?``, ``[]``, ``**`` make a glob.
    :param batch_rows: most rows of a batch.
    :param stopped: cancels the source once it is set, also while the store is being reached.
    :return: the source; close it, or use it in a ``with`` block.
    :raises OptionsError: ``batch_rows`` is below 1.
    :raises SourceError: nothing is there, or the store cannot be reached.
    """
    rows = checked_batch_rows(batch_rows)
    origin = shown_uri(uri)
    try:
        # Made here, not on the source's thread: it looks the Airflow connection up.
        path = ObjectStoragePath(uri)
        store = path.fs
    except Exception as error:  # noqa: BLE001  any store's own errors; raised anew below, without their text
        failure: FbcaError = told(error, doing=f"Opening {origin}", remedy=_STORE_REMEDY)
    else:
        return PumpedSource(FileReader(store, path.path, rows, origin), remedy=_REMEDY, stopped=stopped)
    raise failure


def state_of_uri(uri: str) -> tuple[str, ...] | None:
    """Name the files at a URI as they are now: the names change when a file does, or when one comes or goes.

    :param uri: as for :func:`open_uri`.
    :return: a name for each file, None where the store cannot tell.
    """
    try:
        path = ObjectStoragePath(uri)
        files = FileReader(path.fs, path.path, BATCH_ROWS, shown_uri(uri)).find()
        return tuple(f"{file} {path.fs.ukey(file)}" for file in files)
    except Exception:  # noqa: BLE001 - whatever is wrong, the reading itself will tell
        return None


class FileReader:
    """Reads files of a store one after another.

    :param store: an fsspec file system.
    :param path: the store's own path of a file, a folder or a glob.
    :param batch_rows: most rows of a batch.
    :param origin: the place as messages name it.
    """

    route = "files"

    def __init__(self, store: Any, path: str, batch_rows: int, origin: str) -> None:
        self.origin = self._place = origin
        self._store = Store(store)
        self._path = path
        self._batch_rows = batch_rows
        self._files: list[str] = []
        self._names: tuple[str, ...] = ()
        self._first: _OpenFile | None = None
        self._batches: Iterator[pa.RecordBatch] = iter(())

    def connect(self) -> None:
        """Find the files and open the first.

        :raises SourceError: there are none, or the folder is a table of Delta Lake.
        """
        self._files = self.find()
        if not self._files:
            raise SourceError(f"There are no files at {self.origin}.", remedy=_REMEDY)
        self._first = _OpenFile(self._store, self._files[0], self._batch_rows)
        self.route = self._first.format

    def start(self) -> tuple[str, ...]:
        """Give the columns of the first file.

        :raises SourceError: they cannot be told apart.
        """
        if self._first is not None:
            self._names = checked_names(self._first.names, self.origin)
        self._batches = self._read_all()
        return self._names

    def read(self) -> pa.RecordBatch | None:
        """Give the next batch, None after the last of the last file.

        :raises SourceError: a file is of another format, or has other columns than the first.
        """
        return next(self._batches, None)

    def cancel(self) -> None:
        """Stop at once: a call of the file system that blocks is left behind."""
        self._store.abandon()

    def close(self) -> None:
        """Close the file being read."""
        self._batches = iter(())
        first, self._first = self._first, None
        if first is not None:
            first.close()

    def find(self) -> list[str]:
        """Return the paths of the files, sorted."""
        # Another task may have written since this process listed the folder.
        self._store.forget()
        kind = self._store.kind_of(self._path)
        if kind == "directory":
            return self._below(self._path.rstrip("/"), self._store.files_below(self._path))
        if kind is not None:
            return [self._path]
        if is_pattern(self._path):
            return self._below(fixed_part(self._path), self._store.files_like(self._path))
        return []

    def _below(self, root: str, found: list[str]) -> list[str]:
        """Leave out what is no users, and sort the rest."""
        parts = {path: path.removeprefix(root).strip("/").split("/") for path in found}
        if any("_delta_log" in each for each in parts.values()):
            raise SourceError(
                f"{self.origin} is a Delta Lake table, whose files also hold rows that were deleted from it.",
                remedy="Read it by SQL, or write its rows to plain Parquet first.",
                permanent=True,
            )
        # A glob may ask for them by name.
        hidden = () if _HIDDEN.search(self._path, len(root)) else ("_", ".")
        return sorted(
            path
            for path, each in parts.items()
            if not path.endswith("/") and not any(part.startswith(hidden) for part in each)
        )

    def _read_all(self) -> Iterator[pa.RecordBatch]:
        for path in self._files:
            first, self._first = self._first, None
            self.origin = self._place if path == self._path else f"{self._place} (file {path})"
            with closing(first or _OpenFile(self._store, path, self._batch_rows)) as file:
                self._check_columns(file)
                for batch in file.batches():
                    yield from sliced(batch.select(list(self._names)), self._batch_rows)

    def _check_columns(self, file: _OpenFile) -> None:
        odd = sorted(set(self._names).symmetric_difference(checked_names(file.names, file.path)))
        if odd:
            raise SourceError(
                f"File {file.path} and the first file of {self._place} do not have the same columns: "
                f"{', '.join(map(repr, odd))}.",
                remedy="Write all files of one source with the same columns.",
                permanent=True,
            )


class _OpenFile:
    """One open file.

    :param store: where it is.
    :param path: the store's own path of the file.
    :param batch_rows: rows that a batch is asked to have.
    :raises SourceError: it has no known format.
    """

    def __init__(self, store: Store, path: str, batch_rows: int) -> None:
        self.path = path
        self._store = store
        self._version = store.version_of(path)
        self._handle = store.open(path)
        try:
            self._content = content_of(self._handle, path, size=self._version.get("size"), batch_rows=batch_rows)
        except BaseException:
            self._handle.release()
            raise
        self.format, self.names = self._content.format, self._content.names

    def batches(self) -> Iterator[pa.RecordBatch]:
        """Give the rows of the file as they come.

        :raises SourceError: it was written anew meanwhile, so that the rows may be some of each.
        """
        yield from self._content.batches()
        if self._store.version_of(self.path) != self._version:
            raise SourceError(
                f"File {self.path} was changed while it was read.",
                remedy="Let the task run after the one that writes it.",
            )

    def close(self) -> None:
        """Close the file."""
        self._handle.release()


def shown_uri(uri: str) -> str:
    """Give a URI as messages may show it: without what stands before an ``@`` or after a ``?``, where secrets hide."""
    parts = urlsplit(uri)
    if not parts.scheme:
        return uri
    return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path}"
