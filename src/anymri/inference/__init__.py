"""A case to a segmentation in the geometry of its scans."""

from __future__ import annotations

from anymri.inference.segmentation import Segmentation, segment

__all__ = ["Segmentation", "segment"]
