"""Segment cases: a loaded model, windows over whole volumes, kept encodings, results."""

from __future__ import annotations

from anymri.inference.encoded import EncodedVolume
from anymri.inference.result import Result
from anymri.inference.segmenter import Segmenter, segment

load = Segmenter.load

__all__ = ["EncodedVolume", "Result", "Segmenter", "load", "segment"]
