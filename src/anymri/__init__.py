"""anymri: brain-tumour segmentation from whichever of T1, T1c, T2 and FLAIR a patient has."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from anymri.inference import segment
    from anymri.systems import create

__version__ = "0.1.0"
__all__ = ["__version__", "create", "segment"]

# Heavy libraries load when a name is first used, so that the command line starts at once.
_HOMES = {"create": "anymri.systems", "segment": "anymri.inference"}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'anymri' has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)
