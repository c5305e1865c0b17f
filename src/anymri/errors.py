"""Everything that anymri refuses, as one tree.

AnymriError                what is wrong with which file, and what to do
├── ModalityError          a name that is no modality; an empty subset
├── ImageError             a scan that cannot be read or used: truncated, 4-D, NaN, constant
├── GeometryError          scans of one case on different grids
├── LabelError             an unknown label scheme; label values outside their scheme
├── CohortError            a folder or manifest in which no case can be found
├── UnknownSystemError     a name that no system has
├── ShapeError             tensors that a system cannot take
├── WeightsError           weights that are missing, damaged or made for another system
├── ConfigurationError     a recipe, option or value that does not fit
├── RunError               a run or evaluation folder in the wrong state
└── OutputError            a place that cannot be written
"""


class AnymriError(Exception):
    """Base of all errors that a user can mend.

    what  one sentence: what is wrong, with which file or value
    fix   one sentence: what to do about it
    """

    def __init__(self, what: str, fix: str) -> None:
        super().__init__(what, fix)
        self.what = what
        self.fix = fix

    def __str__(self) -> str:
        return f"{self.what}\n{self.fix}"


class ModalityError(AnymriError):
    """A name that is no modality, or a subset without any."""


class ImageError(AnymriError):
    """A scan that cannot be read, or whose voxels cannot be used."""


class GeometryError(AnymriError):
    """Scans of one case that lie on different grids."""


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
    """A run or evaluation folder in the wrong state for what was asked."""


class OutputError(AnymriError):
    """A file or folder that cannot be written."""


class AnymriWarning(UserWarning):
    """Something a user should know that does not stop the work."""


class Interrupted(BaseException):
    """A signal ended the work in order; says what is kept and how to go on. No error, and nothing to catch on the way.

    Not a KeyboardInterrupt either, which typer would take for itself.
    """

    def __init__(self, text: str, signal: int) -> None:
        super().__init__(text)
        self.signal = signal
