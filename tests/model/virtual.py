"""Puts the package on the model's clock and into its one thread, and takes it off again."""

from __future__ import annotations

import hashlib
import secrets
import sys
import threading
import time
from concurrent.futures import Future
from contextlib import contextmanager
from datetime import datetime
from types import FunctionType, SimpleNamespace
from typing import TYPE_CHECKING, Any

from tests.model.kernel import Crash, Kernel, Process, current

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

PACKAGE = "airflow_provider_fbca"
#: Modules that must not be on the model's clock, since they look at times of real files.
_REAL_TIME = {f"{PACKAGE}.ledger.store", f"{PACKAGE}.ledger.workdir"}

#: Parts that have nothing to do with time, and threads of their own.
_OTHERS = tuple(f"{PACKAGE}.{part}" for part in ("sandbox", "warehouse", "identity"))


class _State:
    """The kernel that everything runs on, and how many random texts were given."""

    kernel = Kernel()
    secrets = 0


def enter(kernel: Kernel) -> None:
    """Let the package run on a kernel from here on."""
    _State.kernel, _State.secrets = kernel, 0


class VirtualTime:
    """Stands in for the module ``time``."""

    CLOCK_MONOTONIC, CLOCK_BOOTTIME = 1, 7

    @staticmethod
    def sleep(seconds: float) -> None:
        _State.kernel.wait(seconds)

    monotonic = staticmethod(lambda: 1000.0 + _State.kernel.now)
    perf_counter = monotonic
    clock_gettime = staticmethod(lambda _clock: 1000.0 + _State.kernel.now)
    time = staticmethod(lambda: _State.kernel.wall)


class VirtualDatetime(datetime):
    """Stands in for the class ``datetime``."""

    @classmethod
    def now(cls, tz: Any = None) -> datetime:
        return datetime.fromtimestamp(_State.kernel.wall, tz)


class _Event:
    """Stands in for ``threading.Event``."""

    def __init__(self) -> None:
        self._set = False
        self._waiters: list[Callable[[], None]] = []

    def is_set(self) -> bool:
        return self._set

    def set(self) -> None:
        self._set = True
        waiters, self._waiters = self._waiters, []
        for wake in waiters:
            wake()

    def clear(self) -> None:
        self._set = False

    def wait(self, timeout: float | None = None) -> bool:
        process = current()
        if not self._set and process is not None:
            process.wait(float("inf") if timeout is None else timeout, self._waiters)
        return self._set


class _Thread:
    """Stands in for ``threading.Thread``: a process of the same owner."""

    def __init__(
        self, target: Callable[..., object], args: tuple[Any, ...] = (), kwargs: Any = None, **_named: Any
    ) -> None:
        self._work = lambda: target(*args, **(kwargs or {}))
        self._process: Process | None = None
        self._ended = _Event()

    def start(self) -> None:
        process = current()
        assert process is not None

        def work() -> None:
            try:
                self._work()
            finally:
                self._ended.set()

        self._process = Process(_State.kernel, process.owner, work)

    def join(self, timeout: float | None = None) -> None:
        self._ended.wait(timeout)

    def is_alive(self) -> bool:
        return self._process is not None and not self._process.ended


class _Lock:
    """Stands in for ``threading.Lock``, where a holder may give way."""

    def __init__(self) -> None:
        self._owner: object = None
        self._depth = 0

    def acquire(self, blocking: bool = True, timeout: float = -1) -> bool:
        mine = current()
        while self._depth and self._owner is not mine:
            if not blocking or mine is None:
                return False
            mine.wait(0.01)
        self._owner, self._depth = mine, self._depth + 1
        return True

    def release(self) -> None:
        self._depth -= 1

    def __enter__(self) -> bool:
        return self.acquire()

    def __exit__(self, *_: object) -> None:
        self.release()


VIRTUAL_THREADING = SimpleNamespace(
    Event=_Event,
    Thread=_Thread,
    Lock=_Lock,
    RLock=_Lock,
    current_thread=threading.current_thread,
    local=threading.local,
)


class _InlinePool:
    """Stands in for ``ThreadPoolExecutor``: work is done where it is handed in."""

    def __init__(self, *_: object) -> None:
        pass

    def __enter__(self) -> _InlinePool:
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def submit(self, work: Callable[..., Any], *args: Any) -> Future[Any]:
        future: Future[Any] = Future()
        try:
            future.set_result(work(*args))
        except Crash:
            raise
        except BaseException as error:  # noqa: BLE001 - as a pool does
            future.set_exception(error)
        return future


class _Secrets:
    """Stands in for ``secrets``: different every time, and the same in every run."""

    @staticmethod
    def token_hex(count: int = 16) -> str:
        _State.secrets += 1
        return hashlib.sha256(str(_State.secrets).encode()).hexdigest()[: 2 * count]

    @staticmethod
    def token_bytes(count: int = 16) -> bytes:
        return bytes.fromhex(_Secrets.token_hex(count))

    @staticmethod
    def randbelow(limit: int) -> int:
        return int(_Secrets.token_hex(16), 16) % limit


_STAND_INS: dict[str, tuple[object, object]] = {
    "time": (time, VirtualTime),
    "datetime": (datetime, VirtualDatetime),
    "secrets": (secrets, _Secrets),
    "threading": (threading, VIRTUAL_THREADING),
}
_FUNCTIONS = {time.monotonic: VirtualTime.monotonic, time.sleep: VirtualTime.sleep, time.time: VirtualTime.time}


def _modules() -> list[Any]:
    return [
        module
        for name, module in sorted(sys.modules.items())
        if name.startswith(f"{PACKAGE}.") and not name.startswith(_OTHERS) and name not in _REAL_TIME
    ]


def _functions_of(module: Any) -> Iterator[FunctionType]:
    for thing in list(vars(module).values()):
        if getattr(thing, "__module__", None) != module.__name__:
            continue
        members = vars(thing).values() if isinstance(thing, type) else (thing,)
        for each in members:
            function = getattr(each, "__func__", each)
            if isinstance(function, FunctionType):
                yield function


def _replaced(values: Any) -> Any:
    return _FUNCTIONS[values] if _is_clock(values) else values


@contextmanager
def on_the_models_clock() -> Iterator[None]:
    """Let the package's modules tell the model's time and use its threads, as long as this lasts."""
    from airflow_provider_fbca.graph import delivery, retry
    from airflow_provider_fbca.ledger import lease, links
    from airflow_provider_fbca.operators import run

    undo: list[tuple[Any, str, Any]] = []

    def put(thing: Any, name: str, value: Any) -> None:
        undo.append((thing, name, getattr(thing, name)))
        setattr(thing, name, value)

    for module in _modules():
        for name, (real, stand_in) in _STAND_INS.items():
            if vars(module).get(name) is real:
                put(module, name, stand_in)
        for function in _functions_of(module):
            if function.__kwdefaults__ and any(map(_is_clock, function.__kwdefaults__.values())):
                put(function, "__kwdefaults__", {k: _replaced(v) for k, v in function.__kwdefaults__.items()})
            if function.__defaults__ and any(map(_is_clock, function.__defaults__)):
                put(function, "__defaults__", tuple(map(_replaced, function.__defaults__)))
    put(delivery, "ThreadPoolExecutor", _InlinePool)
    put(delivery.Delivery, "_pause", lambda _self, seconds: _State.kernel.wait(seconds))
    put(retry, "random", SimpleNamespace(random=lambda: 0.5))
    put(run, "_LOOK_SECONDS", 3600.0)
    put(lease, "_LOOK_SECONDS", 15.0)
    # Its size is for millions of names, and would take most of the time that a handful needs.
    put(links, "_SIEVE_BITS", 8)
    try:
        yield
    finally:
        for thing, name, value in reversed(undo):
            setattr(thing, name, value)


def _is_clock(value: object) -> bool:
    return isinstance(value, type(time.monotonic)) and value in _FUNCTIONS
