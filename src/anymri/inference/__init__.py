"""Segment cases: a loaded model, windows over whole volumes, kept encodings, results."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from anymri.inference.encoded import EncodedVolume
    from anymri.inference.result import Result
    from anymri.inference.segmenter import Segmenter, segment

    load = Segmenter.load

__all__ = ["EncodedVolume", "Result", "Segmenter", "load", "segment"]

# Modules are imported when a name is first used, because torch takes seconds.
_MODULES = {"EncodedVolume": "encoded", "Result": "result", "Segmenter": "segmenter", "segment": "segmenter"}


def __getattr__(name: str) -> Any:
    if name == "load":
        return __getattr__("Segmenter").load
    if name not in _MODULES:
        raise AttributeError(f"module 'anymri.inference' has no attribute {name!r}")
    return getattr(import_module(f"anymri.inference.{_MODULES[name]}"), name)
