"""anymri: brain-tumour segmentation from whichever of T1, T1c, T2 and FLAIR a patient has."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from anymri._version import __version__

if TYPE_CHECKING:
    from anymri.inference import segment
    from anymri.systems.registry import create

__all__ = ["__version__", "create", "segment"]

# Heavy libraries are imported when a name is first used, so that the command line starts at once.
_MODULES = {"create": "anymri.systems.registry", "segment": "anymri.inference"}


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        raise AttributeError(f"module 'anymri' has no attribute {name!r}")
    return getattr(import_module(_MODULES[name]), name)
