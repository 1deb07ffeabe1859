"""Calls a user's function the way PythonOperator does."""

from __future__ import annotations

import inspect
from typing import TYPE_CHECKING, Any

from airflow_provider_fbca.exceptions import OptionsError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping


def call_with_context(function: Callable[..., Any], context: Mapping[str, Any]) -> Any:
    """Call a function with those keys of the task's context that its signature names, or all for ``**kwargs``.

    Airflow has the same rule, at another place in each of its minors; this one needs none of them.

    :param function: what the user gave.
    :param context: the task's context.
    :return: what the function returns. What it raises passes as it is.
    :raises OptionsError: it wants an argument that the context does not have.
    """
    try:
        parameters = inspect.signature(function).parameters.values()
    except ValueError:
        # Some callables written in C have no signature; they cannot name a key either.
        return function()
    if any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters):
        wanted = dict(context)
    else:
        wanted = {parameter.name: context[parameter.name] for parameter in parameters if parameter.name in context}
    by_place = {parameter.name for parameter in parameters if parameter.kind is parameter.POSITIONAL_ONLY}
    missing = [
        parameter.name
        for parameter in parameters
        if parameter.default is parameter.empty
        and parameter.kind not in {parameter.VAR_KEYWORD, parameter.VAR_POSITIONAL}
        and (parameter.name not in wanted or parameter.name in by_place)
    ]
    if missing:
        name = getattr(function, "__qualname__", type(function).__qualname__)
        raise OptionsError(
            f"{name} wants {', '.join(missing)}, which the task's context does not have.",
            remedy="Name keys of the context, such as ds or params, or bind the arguments with functools.partial.",
        )
    return function(**{name: value for name, value in wanted.items() if name not in by_place})
