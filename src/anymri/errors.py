"""Errors that anymri raises, as one tree.

AnymriError                what is wrong with which file, and what to do
├── ModalityError          a name that is not a modality; an empty subset
├── ImageError             a scan that cannot be read or used: truncated, 4-D, NaN, constant
├── GeometryError          scans of one case on different grids
├── LabelError             an unknown label scheme; label values outside their scheme
├── CohortError            a folder or manifest without cases, or with names that are not clear
├── UnknownSystemError     a name that no system has
├── ShapeError             tensors that a system cannot take
├── WeightsError           weights that are missing, damaged or made for another system
├── ConfigurationError     a recipe, option or value that does not fit
├── RunError               a run or evaluation folder in the wrong state
├── MissingExtraError      a package that this installation does not have
└── OutputError            a place that cannot be written
"""

from __future__ import annotations

import difflib
from collections.abc import Collection, Iterable


def did_you_mean(name: str, known: Iterable[str], prefix: str = "", suffix: str = "") -> str:
    """Return "Did you mean X? " with the closest of the known names, or nothing if none is close.

    prefix, suffix  text around the name, as in "network.X"
    """
    close = difflib.get_close_matches(name, list(known), n=1)
    return f"Did you mean {prefix}{close[0]}{suffix}? " if close else ""


class AnymriError(Exception):
    """Base class of all errors that a user can fix.

    what  one sentence: what is wrong, with which file or value
    fix   one sentence: what to do about it
    """

    def __init__(self, what: str, fix: str) -> None:
        super().__init__(what, fix)
        self.what = what
        self.fix = fix

    def __str__(self) -> str:
        return f"{self.what}\n{self.fix}"


def check_known(kind: str, name: str, known: Collection[str]) -> None:
    """Raise `ConfigurationError` with the closest of the known names unless a name is one of them.

    kind  what has the name, as in "lane"
    """
    if name not in known:
        raise ConfigurationError(
            f"There is no {kind} named {name!r}.", f"{did_you_mean(name, known)}Known: {', '.join(known)}."
        )


class ModalityError(AnymriError):
    """A name that is not a modality, or a subset without any modality."""


class ImageError(AnymriError):
    """A scan that cannot be read, or whose voxels cannot be used."""


class GeometryError(AnymriError):
    """Scans of one case on different grids."""


class LabelError(AnymriError):
    """An unknown label scheme, or label values outside it."""


class CohortError(AnymriError):
    """A folder or manifest in which no case can be found."""


class UnknownSystemError(AnymriError):
    """A name that no system has."""


class ShapeError(AnymriError):
    """Tensors that a system cannot take."""


class WeightsError(AnymriError):
    """Weights that are missing, damaged or made for another system."""


class ConfigurationError(AnymriError):
    """A recipe, option or value that does not fit."""


class RunError(AnymriError):
    """A run or evaluation folder in the wrong state for the command."""


class MissingExtraError(AnymriError):
    """A package of an extra, such as `anymri[train]`, is not installed."""


class OutputError(AnymriError):
    """A file or folder that cannot be written."""


class AnymriWarning(UserWarning):
    """A warning about something that does not stop the work."""


class InputWarning(AnymriWarning):
    """A warning about input that is not used, or not used as expected; `--strict` turns it into an error."""


class Interrupted(BaseException):
    """The orderly end of the work after a signal; the text says what is kept and how to continue.

    It is not an error, so that `except Exception` does not catch it, and not a KeyboardInterrupt, which typer handles
    itself.

    signal  number of the signal
    """

    def __init__(self, text: str, signal: int) -> None:
        super().__init__(text)
        self.signal = signal
