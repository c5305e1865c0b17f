"""Terminals that every command prints to; text from files cannot control them."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

from rich.console import Console, ConsoleOptions
from rich.text import Text

from anymri.cli.logs import record
from anymri.cli.settings import settings
from anymri.text import visible

if TYPE_CHECKING:
    from anymri.inference.ensemble import Model

# Columns where the output is not a terminal, so that other programs get whole lines.
_UNWRAPPED = 10_000


class PlainConsole(Console):
    """Console without markup: brackets are printed, and control characters are escaped."""

    def __init__(self, **options: Any) -> None:
        super().__init__(markup=False, emoji=False, highlight=False, **options)

    @property
    def options(self) -> ConsoleOptions:
        """Options of rendering; nothing is wrapped where the output is not a terminal."""
        options = super().options
        return options if self.is_terminal else options.update(width=_UNWRAPPED)

    @property
    def is_silent(self) -> bool:
        """Whether the settings of the command silence the console."""
        return settings.as_json or settings.quiet or settings.follows

    def render_str(self, text: str, **options: Any) -> Text:
        """Return text to print, in which only line feeds and tabs control the terminal."""
        return super().render_str(visible(text), **options)

    def print(self, *objects: Any, **options: Any) -> None:
        """Print unless the console is silent; the log file gets it in any case."""
        record(*objects)
        if not self.is_silent:
            super().print(*objects, crop=self.is_terminal, **options)

    def print_always(self, line: Text) -> None:
        """Print a line even if the console is silent."""
        super().print(line, soft_wrap=True)


class OutputConsole(PlainConsole):
    """Console for what a command is asked to print, which --quiet keeps."""

    @property
    def is_silent(self) -> bool:
        """Whether one JSON object takes the place of the text."""
        return settings.as_json

    def write(self, text: str) -> None:
        """Write text for a file or another program as it is, without control characters."""
        record(text)
        if not self.is_silent:
            sys.stdout.write(visible(text))


# What a command says about its work, and what it is asked to print, on stdout; notes and lines of progress on stderr.
console, output, stderr = PlainConsole(), OutputConsole(), PlainConsole(stderr=True)


def print_lane(asked: str, model: Model) -> None:
    """Print which lane a model computes in and why, if it was chosen automatically."""
    if asked == "auto":
        console.print(f"Lane: {model.lane.name} ({model.lane.why})", soft_wrap=True)
