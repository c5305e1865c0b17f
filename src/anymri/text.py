"""Text of unknown origin in messages: short, and with control characters visible."""

from __future__ import annotations

import reprlib
import unicodedata
from collections.abc import Sequence

# Controls, invisible format characters such as bidirectional overrides, unpaired surrogates, line separators.
_INVISIBLE = {"Cc", "Cf", "Cs", "Zl", "Zp"}
_LAYOUT = "\n\t"


def visible(text: str) -> str:
    r"""Return text with control and invisible characters escaped, as `\x1b`; line feeds and tabs stay."""
    if text.isascii() and text.replace("\n", "").replace("\t", "").isprintable():
        return text
    return "".join(
        character
        if character in _LAYOUT or unicodedata.category(character) not in _INVISIBLE
        else character.encode("unicode_escape").decode("ascii")
        for character in text
    )


def shown(value: object, limit: int = 80) -> str:
    """Return the representation of a value in at most `limit` characters; large and nested values are not expanded."""
    shortener = reprlib.Repr()
    shortener.maxlevel = 2
    shortener.maxdict = shortener.maxlist = shortener.maxtuple = shortener.maxset = 4
    shortener.maxstring = shortener.maxother = limit
    try:
        text = shortener.repr(value)
    except ValueError:  # integers of more digits than Python converts
        text = f"a number of type {type(value).__name__}"
    return visible(text if len(text) <= limit else f"{text[: limit - 3]}...")


def shortened(text: str, limit: int = 80) -> str:
    """Return text in at most `limit` visible characters, with `...` in place of the rest."""
    text = visible(text)
    return text if len(text) <= limit else f"{text[: limit - 3]}..."


def listed(names: Sequence[str], most: int, separator: str = ", ") -> str:
    """Return the first names, and how many more there are: "a, b, c and 4 more"."""
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return separator.join(names[:most]) + more


def count(number: int, noun: str, plural: str | None = None) -> str:
    """Return a number with its noun, in the plural where needed: "1 case", "1,250 cases"."""
    return f"{number:,} {noun if number == 1 else plural or f'{noun}s'}"


def duration(seconds: float) -> str:
    """Return seconds as text, in the unit that reads best."""
    for unit, length in (("days", 86_400), ("h", 3600), ("min", 60)):
        if seconds >= 2 * length:
            return f"{seconds / length:.1f} {unit}"
    return f"{seconds:.0f} s"
