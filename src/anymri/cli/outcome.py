"""The outcome of a command for other programs: one JSON object on stdout."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from dataclasses import asdict, dataclass, is_dataclass
from math import isfinite
from typing import Any

from anymri._version import __version__


@dataclass(frozen=True)
class Problem:
    """An error: what is wrong, and what to do."""

    what: str
    fix: str

    @classmethod
    def of(cls, text: str) -> Problem:
        """Return the problem of a text whose last line says what to do."""
        what, _, fix = text.rpartition("\n")
        return cls(what or fix, fix if what else "")


@dataclass(frozen=True)
class Outcome:
    """What `--json` prints.

    command    name of the command; empty if none was recognised
    version    version of anymri
    exit_code  see docs/command-line.md
    warnings   notes about the input and the work
    error      null unless the command failed
    result     null if the command failed
    """

    command: str
    version: str
    exit_code: int
    warnings: list[str]
    error: Problem | None
    result: Any

    def print(self) -> None:
        """Print the object on one line, in ASCII and without NaN, which JSON does not have."""
        sys.stdout.write(json.dumps(plain(asdict(self)), allow_nan=False) + "\n")


def outcome(command: str, exit_code: int, warnings: list[str], error: Problem | None, result: object) -> Outcome:
    """Return the outcome of a command of this version."""
    return Outcome(command, __version__, exit_code, warnings, error, result)


def plain(value: Any) -> Any:
    """Return a value as JSON has it: paths as text, numbers that are not finite as null."""
    if is_dataclass(value) and not isinstance(value, type):
        value = asdict(value)
    if isinstance(value, Mapping):
        return {str(key): plain(each) for key, each in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [plain(each) for each in value]
    if hasattr(value, "item") and not isinstance(value, str):  # numbers of numpy
        value = value.item()
    if isinstance(value, float) and not isfinite(value):
        return None
    return value if isinstance(value, str | int | float | bool | None) else str(value)


def schema(commands: Mapping[str, Any]) -> dict[str, Any]:
    """Return the JSON Schema of the object that any command prints.

    commands  name of a command -> class of what it returns
    """
    from pydantic import TypeAdapter

    inputs: list[Any] = [(name, "serialization", TypeAdapter(kind)) for name, kind in commands.items()]
    found, shared = TypeAdapter.json_schemas(inputs, ref_template="#/$defs/{model}")
    common = TypeAdapter(Outcome).json_schema(mode="serialization", ref_template="#/$defs/{model}")
    results: dict[str, Any] = {name: {"anyOf": [each, {"type": "null"}]} for (name, _), each in found.items()}
    results[""] = {"type": "null"}
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": f"anymri {__version__}: the object that a command prints with --json",
        "oneOf": [
            {
                "type": "object",
                "properties": {**common["properties"], "command": {"const": name}, "result": result},
                "required": common["required"],
                "additionalProperties": False,
            }
            for name, result in results.items()
        ],
        "$defs": {**common.get("$defs", {}), **shared.get("$defs", {})},
    }
