"""Files of one audience's folder: written once, whole, private, and never over another.

On a local disk a file is written beside its place, synced, and linked into it, which is atomic and fails where the name
is taken. On an object store a put is atomic by itself, and exclusive creation is the server's own (``If-None-Match: *``
at S3 and Azure, ``ifGenerationMatch=0`` at Google).
"""

from __future__ import annotations

import fcntl
import os
import shutil
import tempfile
import threading
import time
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, Protocol, Self

from airflow_provider_fbca.exceptions import LedgerError, LedgerPlaceError, LedgerTakenError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

_PRIVATE_FOLDER = 0o700
_PRIVATE_FILE = 0o600
_COPY_CHUNK = 4 * 2**20
#: How the names of temporary files end, and the age from which one without a lock is nobody's: locks may be unknown to
#: other machines.
_BESIDE = ".part"
_BESIDE_SECONDS = 3600.0
_LISTING = threading.Lock()
#: Stores whose file systems leave it to the server to refuse a second creation (s3fs, gcsfs and adlfs from the versions
#: on that pyproject.toml names). Elsewhere fsspec looks first and writes then, and two writers both succeed.
_EXCLUSIVE = {"s3", "s3a", "s3n", "gs", "gcs", "az", "abfs", "abfss", "adl", "memory"}


class StorePath(Protocol):
    """The part of universal_pathlib's interface that the ledger uses; Airflow's ``ObjectStoragePath`` has it."""

    @property
    def protocol(self) -> str:
        """Scheme of the store: ``file``, ``s3``, ``gs`` ..."""

    @property
    def path(self) -> str:
        """The path as the store's file system takes it."""

    @property
    def fs(self) -> Any:
        """The fsspec file system."""

    def joinpath(self, *parts: str) -> Self:
        """Return a path below."""


class Store:
    """The folder of one audience.

    :param folder: a path object with universal_pathlib's interface; ``ObjectStoragePath`` is one.
    """

    def __init__(self, folder: StorePath) -> None:
        self._folder = folder
        self._local = Path(folder.path) if _is_local(folder) else None

    @property
    def uri(self) -> str:
        """Address of the folder, without the credentials that a path object may carry."""
        return _uri(self._folder)

    @property
    def creates_exclusively(self) -> bool:
        """Whether of several writers that create one file only one can; on a disk, and by the server of some stores."""
        return self._local is not None or self._folder.protocol in _EXCLUSIVE

    def uri_of(self, name: str) -> str:
        """Return the address of one file in the folder."""
        return f"{self.uri}/{name}"

    def names(self) -> list[str]:
        """Return the names of the files in the folder, sorted; none where the folder does not exist yet."""
        with _wrapped("listed", self.uri):
            found = self._listing()
        return sorted(name for name in found if not name.startswith("."))

    def read(self, names: Sequence[str]) -> dict[str, bytes]:
        """Return the bytes of small files, fetched together where the store can.

        :param names: of files that exist.
        """
        if self._local is not None:
            with _wrapped("read", self.uri):
                return {name: (self._local / name).read_bytes() for name in names}
        if not names:
            return {}
        paths = {self._folder.joinpath(name).path: name for name in names}
        with _wrapped("read", self.uri):
            found = self._folder.fs.cat(list(paths))
        if len(paths) == 1 and isinstance(found, bytes):
            return {next(iter(paths.values())): found}
        strip = self._folder.fs._strip_protocol  # noqa: SLF001 - fsspec's own way to compare its paths
        by_path = {strip(path): name for path, name in paths.items()}
        return {by_path[strip(path)]: content for path, content in found.items()}

    def create(self, name: str, content: bytes) -> None:
        """Write a new small file; it is there whole or not at all.

        :param name: must not exist yet.
        :raises LedgerTakenError: where it does.
        :raises LedgerError: where the store refuses, or does not answer: it may be there then all the same.
        """
        if self._local is None:
            self._create_remote(name, content)
            return
        with _wrapped("written", self.uri_of(name)):
            with self._beside(name) as (temporary, file):
                file.write(content)
                _sync(file)
                os.link(temporary, self._local / name)
            _sync_folder(self._local)

    def _create_remote(self, name: str, content: bytes) -> None:
        try:
            with _wrapped("written", self.uri_of(name)):
                if not self.creates_exclusively and name in self._listing():
                    raise FileExistsError
                mode = {"mode": "create"} if self.creates_exclusively else {}
                self._folder.fs.pipe_file(self._folder.joinpath(name).path, content, **mode)
        except LedgerError:
            # The answer to an earlier try of the client's own may have been lost; and not every store says why it
            # refuses. What is there tells.
            there = self._small(name)
            if there is None:
                raise
            if there != content:
                raise _taken(self.uri_of(name)) from None

    def _small(self, name: str) -> bytes | None:
        """Return the bytes of a small file; None where it is not there, or the store does not answer."""
        try:
            return self.read([name])[name]
        except LedgerError:
            return None

    def put(self, name: str, source: Path) -> None:
        """Copy a local file into the folder under a new name; readers see it whole or not at all.

        :param name: unique to its writer.
        :param source: the local file.
        """
        with _wrapped("written", self.uri_of(name)):
            if self._local is None:
                self._folder.fs.put_file(os.fspath(source), self._folder.joinpath(name).path)
                return
            self._sweep()
            with self._beside(name) as (temporary, file), source.open("rb") as content:
                shutil.copyfileobj(content, file, _COPY_CHUNK)
                _sync(file)
                os.link(temporary, self._local / name)
            _sync_folder(self._local)

    def fetch(self, name: str, target: Path) -> None:
        """Copy a file of the folder to a local one, made private.

        :param name: of a file that exists.
        :param target: must not exist yet.
        """
        with _wrapped("read", self.uri_of(name)):
            target.touch(mode=_PRIVATE_FILE, exist_ok=False)
            if self._local is None:
                self._folder.fs.get_file(self._folder.joinpath(name).path, os.fspath(target))
            else:
                shutil.copyfile(self._local / name, target)

    def delete(self, name: str) -> None:
        """Delete a file; that it is gone already is fine."""
        with _wrapped("deleted", self.uri_of(name)):
            if self._local is not None:
                (self._local / name).unlink(missing_ok=True)
                return
            with suppress(FileNotFoundError):
                self._folder.fs.rm_file(self._folder.joinpath(name).path)

    def sizes(self) -> dict[str, int]:
        """Return the size in bytes of each file in the folder, temporary ones included."""
        with _wrapped("listed", self.uri):
            if self._local is not None:
                return _sizes_of(self._local)
            try:
                with _LISTING:
                    self._folder.fs.invalidate_cache(self._folder.path)
                    found = self._folder.fs.ls(self._folder.path, detail=True)
            except FileNotFoundError:
                return {}
        sizes = {each["name"].rpartition("/")[2]: int(each["size"]) for each in found if each["type"] == "file"}
        # Consoles of object stores leave an empty object in place of a folder.
        return {name: size for name, size in sizes.items() if name}

    def modified(self, name: str) -> datetime:
        """Return when a file was last written, with a time zone."""
        with _wrapped("read", self.uri_of(name)):
            instant: datetime = self._folder.fs.modified(self._folder.joinpath(name).path)
        return instant if instant.tzinfo else instant.replace(tzinfo=UTC)

    def abandoned(self) -> list[str]:
        """Return the names of temporary files whose writers were killed; only a local disk has some."""
        if self._local is None:
            return []
        with _wrapped("listed", self.uri):
            return [left.name for left in self._local.glob(f".*{_BESIDE}") if _is_abandoned(left)]

    def _listing(self) -> list[str]:
        # Not "exists" first: it answers no where the store does not answer, and the ledger would seem to be new.
        try:
            if self._local is not None:
                return [path.name for path in self._local.iterdir()]
            # Some file systems remember listings, and would hide what others have written since; of two threads one
            # could be given what the other had asked for earlier.
            with _LISTING:
                self._folder.fs.invalidate_cache(self._folder.path)
                return [path.rpartition("/")[2] for path in self._folder.fs.ls(self._folder.path, detail=False)]
        except FileNotFoundError:
            return []

    @contextmanager
    def _beside(self, name: str) -> Iterator[tuple[str, IO[bytes]]]:
        """Give a private temporary file in the folder, removed at the end whatever happens.

        It is locked while its writer lives, so that others can tell what a killed one has left.
        """
        assert self._local is not None  # noqa: S101 - only the local branches call this
        _make_private(self._local)
        descriptor, temporary = tempfile.mkstemp(dir=self._local, prefix=f".{name}.", suffix=_BESIDE)
        try:
            with os.fdopen(descriptor, "wb") as file:
                with suppress(OSError):  # where a file system has no locks, nothing is swept either
                    fcntl.flock(file, fcntl.LOCK_EX)
                yield temporary, file
        finally:
            Path(temporary).unlink(missing_ok=True)

    def _sweep(self) -> None:
        """Remove the temporary files of writers that were killed: they hold people's hashes."""
        for left in self.abandoned():
            self.delete(left)


def _sizes_of(folder: Path) -> dict[str, int]:
    sizes = {}
    try:
        paths = list(folder.iterdir())
    except FileNotFoundError:
        return {}
    for path in paths:
        # A file may be gone since the folder was read: a writer had it for a moment.
        with suppress(FileNotFoundError):
            if not path.is_dir():
                sizes[path.name] = path.stat().st_size
    return sizes


def listed(folder: StorePath) -> list[str]:
    """Return the names of what lies in any folder of the store; none where it does not exist.

    :raises LedgerError: where the store cannot be read.
    """
    with _wrapped("listed", _uri(folder)):
        try:
            with _LISTING:
                folder.fs.invalidate_cache(folder.path)
                found = folder.fs.ls(folder.path, detail=False)
            return [path.rstrip("/").rpartition("/")[2] for path in found]
        except FileNotFoundError:
            return []


def _is_local(folder: StorePath) -> bool:
    return folder.protocol in {"", "file", "local"}


def _uri(folder: StorePath) -> str:
    path = folder.path.rstrip("/")
    return f"file://{path}" if _is_local(folder) else f"{folder.protocol}://{path}"


def _make_private(folder: Path) -> None:
    """Create the folder and its missing parents for the owner alone."""
    if not folder.is_dir():
        if not folder.parent.is_dir():
            _make_private(folder.parent)
        try:
            folder.mkdir(mode=_PRIVATE_FOLDER)
        except FileExistsError:
            # Another task was quicker, or it is a file.
            if not folder.is_dir():
                raise NotADirectoryError from None


def _is_abandoned(temporary: Path) -> bool:
    """Tell whether the writer of a temporary file is gone: nobody holds its lock, and it is not just being made."""
    try:
        with temporary.open("rb") as file:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        return time.time() - temporary.stat().st_mtime > _BESIDE_SECONDS
    except OSError:
        return False


def _sync(file: IO[bytes]) -> None:
    file.flush()
    os.fsync(file.fileno())


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _taken(uri: str) -> LedgerTakenError:
    return LedgerTakenError(
        f"The ledger file {uri} exists already: another run writes to this audience.",
        remedy="Let one run at a time write to an audience (max_active_runs=1, or a pool of one slot).",
    )


@contextmanager
def _wrapped(done: str, uri: str) -> Iterator[None]:
    """Turn what a file system raises into the ledger's errors, by class: its text may hold a signed address."""
    failure: LedgerError | None = None
    try:
        yield
    except FileExistsError:
        failure = _taken(uri)
    except Exception as error:  # noqa: BLE001 - every store has exceptions of its own
        failure = LedgerPlaceError(
            f"The ledger file or folder {uri} cannot be {done}: {type(error).__name__}.",
            remedy="Check that the store exists, that its connection may read, write and list there, and try again.",
        )
        failure.permanent = False
    if failure is not None:
        raise failure from None
