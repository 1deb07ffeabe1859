"""Where the errors of the core meet Airflow: a permanent one fails the task at once, any other may be retried."""

from __future__ import annotations

import functools
from contextlib import contextmanager
from pathlib import Path
from traceback import extract_tb
from typing import TYPE_CHECKING, ParamSpec, TypeVar

from airflow.sdk.exceptions import AirflowException

from airflow_provider_fbca.compat import AirflowFailException
from airflow_provider_fbca.exceptions import FbcaError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

P = ParamSpec("P")
R = TypeVar("R")


def fails_fast(execute: Callable[P, R]) -> Callable[P, R]:
    """Wrap an operator's ``execute``: Airflow wastes no retry on an error that only a person can clear.

    :param execute: raises errors of this package.
    :returns: the same, raising ``AirflowFailException`` for permanent errors and the others as they are. Neither
        carries a cause or context, whose text could quote a person's value.
    """

    @functools.wraps(execute)
    def wrapped(*args: P.args, **kwargs: P.kwargs) -> R:
        failure: Exception
        try:
            with without_values("The task"):
                return execute(*args, **kwargs)
        except FbcaError as error:
            error.__cause__ = error.__context__ = None
            failure = AirflowFailException(str(error)) if error.permanent else error
        raise failure

    return wrapped


@contextmanager
def without_values(what: str) -> Iterator[None]:
    """Replace an exception of foreign code by one that tells its class and place, not its text.

    User code, Arrow and Python quote the value at fault in their exceptions, and it may be a person's. Airflow's own
    exceptions pass: they are how user code speaks to Airflow.

    :param what: was being done, for the message.
    :raises FbcaError: a retryable one, since nobody knows the cause.
    """
    failure: FbcaError
    try:
        yield
    except (FbcaError, AirflowException):
        raise
    except BaseException as error:
        # Signals and Airflow's own control flow are no exceptions of this kind; panics of Rust libraries are.
        if not isinstance(error, Exception) and type(error).__name__ != "PanicException":
            raise
        frames = reversed(extract_tb(error.__traceback__)[-3:])
        places = " < ".join(f"{Path(frame.filename).name}:{frame.lineno}" for frame in frames)
        failure = FbcaError(
            f"{what} failed with {type(error).__name__} at {places}.",
            remedy="Its text is not shown, since it may quote a person.",
        )
        failure.permanent = False
    else:
        return
    raise failure from None
