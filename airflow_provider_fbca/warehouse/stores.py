"""File systems whose calls can be left while they block: object stores know no cancel, and may stall for minutes."""

from __future__ import annotations

import contextvars
import math
import re
import threading
from concurrent.futures import Future, InvalidStateError
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from fsspec.utils import glob_translate

from airflow_provider_fbca.exceptions import SourceError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

_WILDCARD = re.compile(r"[*?\[]")

# Each call of a file's reader may be followed by one this much further on. The stores' own default, up to 50 MiB, would
# be fetched again with each piece of each column of a Parquet file.
_BYTES_AHEAD = 1024 * 1024

# What stores say of a file, under names of their own, that changes with its content. No time of access is among it.
_VERSION = (
    "size",
    "ETag",
    "etag",
    "generation",
    "ino",
    "mtime",
    "LastModified",
    "last_modified",
    "modificationTime",
    "updated",
)


class Store:
    """A file system, each of whose calls waits on a thread of its own.

    :param files: an fsspec file system.
    """

    def __init__(self, files: Any) -> None:
        self._files = files
        self._waiting: set[Future[Any]] = set()
        #: Whether nobody waits for its calls any more.
        self.is_abandoned = False

    def abandon(self) -> None:
        """Let every call that waits, now or later, end at once with a SourceError. Any thread may call it.

        What a call does on its thread goes on until the file system's own time limit, and nobody gets its answer.
        """
        self.is_abandoned = True
        for answer in tuple(self._waiting):
            with suppress(InvalidStateError):
                answer.set_exception(_abandoned())

    def wait_for(self, call: Callable[..., Any], *args: Any, **options: Any) -> Any:
        """Make a call and wait for its answer, or until the store is abandoned.

        :raises SourceError: the store was abandoned. What the call raises passes as it is.
        """
        answer: Future[Any] = Future()
        self._waiting.add(answer)
        try:
            if self.is_abandoned:
                raise _abandoned()
            context = contextvars.copy_context()
            work = (_answer, answer, call, args, options)
            threading.Thread(target=context.run, args=work, name="fbca-store-call", daemon=True).start()
            return answer.result()
        finally:
            self._waiting.discard(answer)

    def forget(self) -> None:
        """Forget what this process has seen of the store before: others may have written since."""
        self.wait_for(self._files.invalidate_cache)

    def kind_of(self, path: str) -> str | None:
        """Tell what is at a path: ``file``, ``directory``, some other word of the file system's; None for nothing.

        fsspec's own ``isfile`` takes any failure, a wrong password too, for nothing being there.
        """
        try:
            return str(self.wait_for(self._files.info, path)["type"])
        except FileNotFoundError:
            return None

    def files_below(self, folder: str) -> list[str]:
        """Return the paths of all files of a folder and its subfolders."""
        if self._searches_loosely:
            return list(self._walk(folder, math.inf))
        return list(self.wait_for(self._files.find, folder))

    def files_like(self, pattern: str) -> list[str]:
        """Return the paths of all files that a pattern meets, none where its folder is not there."""
        try:
            if self._searches_loosely:
                return self._matched(pattern)
            found = self.wait_for(self._files.glob, pattern, detail=True)
        except FileNotFoundError:
            return []
        return [path for path, info in found.items() if info["type"] != "directory"]

    def version_of(self, path: str) -> dict[str, Any]:
        """Give what changes when the content of a file does.

        :raises FileNotFoundError: it is not there.
        """
        self.forget()
        info = self.wait_for(self._files.info, path)
        return {name: info[name] for name in _VERSION if name in info}

    def open(self, path: str) -> StoreFile:
        """Open a file to read it."""
        return StoreFile(self, self.wait_for(self._files.open, path, "rb", block_size=_BYTES_AHEAD))

    @property
    def _searches_loosely(self) -> bool:
        """Whether the file system's own search passes over folders that it cannot list: fewer people, and no error."""
        return self._files.find.__module__ in {"fsspec.spec", "fsspec.asyn"}

    def _matched(self, pattern: str) -> list[str]:
        root = fixed_part(pattern)
        depth = math.inf if "**" in pattern else pattern.removeprefix(root).strip("/").count("/") + 1
        matches = re.compile(glob_translate(pattern)).match
        return [path for path in self._walk(root, depth) if matches(path)]

    def _walk(self, folder: str, depth: float) -> Iterator[str]:
        for info in self.wait_for(self._files.ls, folder, detail=True):
            if info["type"] != "directory":
                yield info["name"]
            elif depth > 1 and info["name"].rstrip("/") != folder:
                yield from self._walk(info["name"].rstrip("/"), depth - 1)


class StoreFile:
    """An open file of a store, as Arrow reads it.

    :param store: where it is.
    :param handle: the file system's open file.
    """

    def __init__(self, store: Store, handle: Any) -> None:
        self._store = store
        self._handle = handle

    @property
    def closed(self) -> bool:
        """Whether it was closed."""
        return bool(self._handle.closed)

    def read(self, size: int = -1) -> bytes:
        """Read so many bytes, fewer at the end."""
        data: bytes = self._store.wait_for(self._handle.read, size)
        return data

    def seek(self, offset: int, whence: int = 0) -> int:
        """Go to a place in the file."""
        return int(self._handle.seek(offset, whence))

    def tell(self) -> int:
        """Give the place in the file."""
        return int(self._handle.tell())

    def close(self) -> None:
        """Do nothing: Arrow closes a file with the first stream over it, and a file may have more than one."""

    def release(self) -> None:
        """Close it; where a read was left behind, it is closed when that is over and nobody holds it any more."""
        if not self._store.is_abandoned:
            self._handle.close()


def is_pattern(path: str) -> bool:
    """Tell whether a path has wildcards."""
    return _WILDCARD.search(path) is not None


def fixed_part(pattern: str) -> str:
    """Give the folder that all files of a pattern are in."""
    return _WILDCARD.split(pattern, maxsplit=1)[0].rpartition("/")[0]


def _answer(answer: Future[Any], call: Callable[..., Any], args: tuple[Any, ...], options: dict[str, Any]) -> None:
    try:
        result = call(*args, **options)
    except BaseException as error:  # noqa: BLE001  passed on to whoever waits
        with suppress(InvalidStateError):
            answer.set_exception(error)
    else:
        with suppress(InvalidStateError):
            answer.set_result(result)


def _abandoned() -> SourceError:
    return SourceError("Reading the files was cancelled.", remedy="Nothing is wrong with them.")
