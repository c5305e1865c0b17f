"""Arguments of a network, checked against its signature and against bounds before anything is built."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from inspect import Parameter, signature
from typing import Any

from pydantic import ConfigDict, TypeAdapter, ValidationError

from anymri.errors import ConfigurationError
from anymri.text import shown

# Sides, widths and depths of the published networks are at most 4096.
LARGEST_NUMBER = 16_384
_LONGEST_LIST = 64
_STRICT = ConfigDict(allow_inf_nan=False, arbitrary_types_allowed=True)


def checked_arguments(name: str, network: type[Any], arguments: Mapping[str, Any]) -> dict[str, Any]:
    """Return the arguments of a network in the types of its signature.

    name  name of the system, for the error

    Raises `ConfigurationError` for a value of another type, and for numbers that are negative, too large or not finite.
    """
    adapters = _adapters(network)
    checked = {}
    for argument, value in arguments.items():
        adapter = adapters.get(argument)
        try:
            checked[argument] = value if adapter is None else adapter.validate_python(value)
        except (ValidationError, RecursionError) as error:
            raise _does_not_fit(name, argument, value) from error
        if not all(0 <= number <= LARGEST_NUMBER for number in _numbers(checked[argument])):
            raise _does_not_fit(name, argument, value)
    return checked


def _does_not_fit(name: str, argument: str, value: Any) -> ConfigurationError:
    return ConfigurationError(
        f"The network of {name} cannot have {argument}={shown(value)}.",
        f"Numbers are 0 to {LARGEST_NUMBER}; for its type and meaning see: anymri systems {name}",
    )


def _adapters(network: type[Any]) -> dict[str, TypeAdapter[Any]]:
    """Return argument -> validator of its type, for the arguments that are annotated in the signature."""
    try:
        parameters = signature(network, eval_str=True).parameters
    except NameError:  # annotations of another package that exist only for type checkers
        return {}
    return {
        name: TypeAdapter(parameter.annotation, config=_STRICT)
        for name, parameter in parameters.items()
        if parameter.annotation is not Parameter.empty
    }


def _numbers(value: Any) -> Iterable[float]:
    """Yield the numbers in a value, and infinity for a list that is too long."""
    if isinstance(value, list | tuple):
        for item in value if len(value) <= _LONGEST_LIST else [math.inf]:
            yield from _numbers(item)
    elif isinstance(value, int | float):
        yield value
