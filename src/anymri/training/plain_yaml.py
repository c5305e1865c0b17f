"""YAML of configurations: plain values under keys that are text, in a small subset of YAML.

Aliases, tags, several documents, dates and numbers in base 60 are not read. Some hundred bytes could otherwise expand
to gigabytes, and `1:30` would be 90.
"""

from __future__ import annotations

import math
import re
from collections.abc import Hashable
from typing import Any

import yaml

from anymri.text import shortened, shown

# A saved configuration has some thousand characters and six levels.
LARGEST_TEXT = 50_000
DEEPEST_NESTING = 20
_LARGEST_INTEGER = 2**63 - 1
_LONGEST_INTEGER = 20
# Patterns of the scalars that are not text, with the characters that they begin with.
_SCALARS = {
    "null": (r"~|null|Null|NULL|", ("~", "n", "N", "")),
    "bool": (r"yes|Yes|YES|no|No|NO|true|True|TRUE|false|False|FALSE|on|On|ON|off|Off|OFF", tuple("yYnNtTfFoO")),
    "int": (r"[-+]?(?:0|[1-9][0-9]*)", tuple("-+0123456789")),
    "float": (
        r"[-+]?(?:[0-9]+\.[0-9]*|\.[0-9]+|[0-9]+(?=[eE]))(?:[eE][-+]?[0-9]+)?|[-+]?\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN)",
        tuple("-+0123456789."),
    ),
}
_RESOLVERS: dict[str, list[tuple[str, re.Pattern[str]]]] = {}
for _name, (_pattern, _first) in _SCALARS.items():
    for _character in _first:
        _RESOLVERS.setdefault(_character, []).append((f"tag:yaml.org,2002:{_name}", re.compile(f"(?:{_pattern})$")))


class YAMLTextError(ValueError):
    """Text that is not plain YAML; the message is the reason, as the end of a sentence."""


def read(text: str) -> Any:
    """Return the value in a YAML text: None, bool, int, float, str, and lists and dictionaries of them.

    Raises `YAMLTextError` for text that is too large or nested too deeply, that has aliases, tags, repeated keys or
    keys that are not text, and for numbers that are not finite or too large.
    """
    if len(text) > LARGEST_TEXT:
        raise YAMLTextError(f"it has more than {LARGEST_TEXT:,} characters")
    try:
        _check_events(text)
        return yaml.load(text, _Loader)
    except yaml.MarkedYAMLError as error:
        place = _place(error.problem_mark or error.context_mark)
        raise YAMLTextError(f"brackets, quotes, colons or indentation do not fit{place}") from error
    except yaml.YAMLError as error:
        raise YAMLTextError("it has characters that YAML does not allow") from error


def write(values: dict[str, Any]) -> str:
    """Return values as YAML that `read` returns unchanged, without aliases."""
    return yaml.dump(values, Dumper=_Dumper, sort_keys=False, width=100, allow_unicode=True)


def _check_events(text: str) -> None:
    depth = 0
    for event in yaml.parse(text, yaml.SafeLoader):
        place = _place(event.start_mark)
        if isinstance(event, yaml.CollectionStartEvent):
            depth += 1
        elif isinstance(event, yaml.CollectionEndEvent):
            depth -= 1
        if depth > DEEPEST_NESTING:
            raise YAMLTextError(f"it is nested more than {DEEPEST_NESTING} levels deep{place}")
        if isinstance(event, yaml.NodeEvent) and event.anchor is not None:
            raise YAMLTextError(f"it has an anchor or alias, which is not read{place}")
        if isinstance(event, yaml.CollectionStartEvent | yaml.ScalarEvent) and event.tag is not None:
            raise YAMLTextError(f"it has the tag {shortened(event.tag)}, which is not read{place}")


class _Loader(yaml.SafeLoader):
    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, Any]:
        lines: dict[str, int] = {}
        for key, _ in node.value:
            line = key.start_mark.line + 1
            if not isinstance(key, yaml.ScalarNode) or key.tag != self.DEFAULT_SCALAR_TAG:
                raise YAMLTextError(f"it has a key that is not text; write it in quotes{_place(key.start_mark)}")
            if key.value in lines:
                name = shortened(key.value)
                raise YAMLTextError(f"it has the key {name} twice, in line {lines[key.value]} and in line {line}")
            lines[key.value] = line
        return super().construct_mapping(node, deep)


def _construct_int(loader: _Loader, node: yaml.ScalarNode) -> int:
    if len(node.value) > _LONGEST_INTEGER or abs(int(node.value)) > _LARGEST_INTEGER:
        raise YAMLTextError(f"the number {shown(node.value)} is too large{_place(node.start_mark)}")
    return int(node.value)


def _construct_float(loader: _Loader, node: yaml.ScalarNode) -> float:
    value = float(re.sub(r"\.(?=inf|nan)", "", node.value.lower()))
    if not math.isfinite(value):
        raise YAMLTextError(f"the number {shown(node.value)} is not finite{_place(node.start_mark)}")
    return value


_Loader.yaml_implicit_resolvers = _RESOLVERS
_Loader.add_constructor("tag:yaml.org,2002:int", _construct_int)
_Loader.add_constructor("tag:yaml.org,2002:float", _construct_float)


class _Dumper(yaml.SafeDumper):
    def ignore_aliases(self, data: Any) -> bool:
        return True


# Other programs read dates and numbers where we read text, so both kinds of text are quoted.
_Dumper.yaml_implicit_resolvers = {
    first: yaml.SafeDumper.yaml_implicit_resolvers.get(first, []) + _RESOLVERS.get(first, [])
    for first in yaml.SafeDumper.yaml_implicit_resolvers | _RESOLVERS
}


def _place(mark: Any) -> str:
    """Return where something is in the text, as the end of a sentence; nothing if it is not known."""
    return "" if mark is None else f" (line {mark.line + 1}, column {mark.column + 1})"
