"""Extension of griffe: docstrings of anymri as Markdown.

Arguments and fields are aligned in two columns, which become definition lists. Examples, which begin with `>>>`, and
trees become code.
"""

from __future__ import annotations

import re
from typing import Any

import griffe

COLUMNS = re.compile(r"(\S.*?) {2,}(\S.*)")


class Docstrings(griffe.Extension):
    """Rewrites every docstring that griffe reads."""

    def on_object(self, *, obj: griffe.Object, **_: Any) -> None:
        """Rewrite the docstring of a module, class, function or attribute."""
        if obj.docstring:
            obj.docstring.value = as_markdown(obj.docstring.value)


def as_markdown(text: str) -> str:
    """Return a docstring as Markdown."""
    return "\n\n".join(_paragraph(each) for each in text.split("\n\n"))


def _paragraph(text: str) -> str:
    lines = text.splitlines()
    if text.startswith(">>>"):
        return f"```pycon\n{text}\n```"
    if "├── " in text:
        return f"```text\n{text}\n```"
    if not lines or not all(line.startswith(" ") or COLUMNS.fullmatch(line) for line in lines):
        return text
    entries: list[str] = []
    for line in lines:
        columns = COLUMNS.fullmatch(line)
        if columns and not line.startswith(" "):
            entries.append(f"`{columns[1]}`\n:   {columns[2]}")
        elif entries:
            entries[-1] += f" {line.strip()}"
        else:
            return text
    return "\n\n".join(entries)
