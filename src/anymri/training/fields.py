"""Typed values of a configuration file: reading of the YAML, and errors that name each field that does not fit."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, TypeVar, get_args

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from anymri.errors import ConfigurationError, did_you_mean
from anymri.files import TextError, read_text
from anymri.text import listed, shortened, shown
from anymri.training import plain_yaml

M = TypeVar("M", bound=BaseModel)
# Place of a value in nested models, as pydantic names it: field names and list indices.
Location = tuple[int | str, ...]
# Largest number of problems in one error.
_MOST_PROBLEMS = 8
_RECIPE = "all fields of a recipe: anymri recipe SYSTEM"


def dotted(where: Location) -> str:
    """Return a place as keys that are joined by dots."""
    return ".".join(map(str, where))


def read_yaml(file: Path, fields: str = _RECIPE) -> dict[str, Any]:
    """Return the mapping in a YAML file; raise `ConfigurationError` if it cannot be read or has none.

    fields  what all fields are and the command that prints them, for the error
    """
    if not file.is_file():
        raise ConfigurationError(
            f"{file} does not exist or is not a file.",
            f"Check the path; {fields} > FILE",
        )
    try:
        values = plain_yaml.read(read_text(file))
    except OSError as error:
        raise ConfigurationError(f"{file} cannot be read: {error.strerror}.", "Check its permissions.") from error
    except (TextError, plain_yaml.YAMLTextError) as error:
        raise ConfigurationError(
            f"{file} cannot be read as YAML, because {error}.",
            f"Correct it; {fields}",
        ) from error
    if not isinstance(values, dict):
        raise ConfigurationError(f"{file} is not a mapping.", f"Write it as `key: value`; {fields}")
    return values


def validated(
    kind: type[M], values: Any, source: str, name_of: Callable[[Location], str] = dotted, fields: str = _RECIPE
) -> M:
    """Return values as a typed model; raise `ConfigurationError` naming each field that does not fit.

    source   where the values are from, for the error
    name_of  function of a place to the name by which errors call it
    fields   what all fields are and the command that prints them, for the error
    """
    try:
        return kind.model_validate(values)
    except ValidationError as error:
        problems: dict[str, None] = {}
        for each in _of_best_alternatives(error.errors()):
            where, given = _field_names(each["loc"]), each["input"]
            name = name_of(where) if where else ""
            reason = each["msg"].removeprefix("Value error, ").removesuffix(".")
            reason = reason[:1].lower() + reason[1:]
            if each["type"] == "extra_forbidden":
                known, last = _fields_at(kind, where[:-1]), str(where[-1])
                hint = did_you_mean(last, known, name.removesuffix(last)).strip()
                meant = hint.replace("Did", "did", 1) or f"known: {', '.join(known)}"
                reason = f"there is no such field; {meant}"
            elif not isinstance(given, dict | list | tuple | BaseModel):
                reason += f" (given: {shown(given)})"
            problems[f"{shortened(name)}: {shortened(reason, 300)}" if name else shortened(reason, 300)] = None
        text = listed(list(problems), _MOST_PROBLEMS, "; ")
        raise ConfigurationError(
            f"{source} does not fit: {text}{'' if text.endswith('?') else '.'}",
            f"Correct these fields; {fields}",
        ) from error


def _of_best_alternatives(errors: Sequence[ErrorDetails]) -> list[ErrorDetails]:
    """Return the errors without those of other types of a union: a number that is too large is no faulty dictionary."""
    by_place: dict[Location, list[ErrorDetails]] = {}
    for error in errors:
        by_place.setdefault(_field_names(error["loc"]), []).append(error)
    kept: list[ErrorDetails] = []
    for same in by_place.values():
        fitting = [each for each in same if not each["type"].endswith(("_type", "_parsing"))]
        kept += fitting or same[:1]
    return kept


def _fields_at(kind: type[BaseModel], where: Location) -> list[str]:
    """Return the fields of the model at a place inside a model."""
    for part in where:
        if isinstance(part, str) and part in kind.model_fields:
            annotation = kind.model_fields[part].annotation
            candidates = [annotation, *get_args(annotation)]
            kind = next((c for c in candidates if isinstance(c, type) and issubclass(c, BaseModel)), kind)
    return list(kind.model_fields)


def _field_names(where: Location) -> Location:
    """Return a place without the alternatives of a union, which pydantic adds to it."""
    words = ("str", "float", "int", "dict", "constrained", "function", "literal", "tuple")
    end = (n for n, part in enumerate(where) if n and isinstance(part, str) and part.startswith(words))
    return where[: next(end, len(where))]
