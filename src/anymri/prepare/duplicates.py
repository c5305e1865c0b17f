"""Search for one scan in two roles: the same file, the same content, or the same voxels with another scaling."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import combinations

import numpy as np

from anymri.files import sha256
from anymri.prepare.findings import Examination
from anymri.prepare.raw import RawScan

# Correlation of two scans of one shape from which they are one scan, perhaps with another scaling.
SAME_SCAN = 0.9995


def find_duplicates(scans: Mapping[str, RawScan], found: Examination) -> None:
    """Add findings about scans that are the same file or have the same voxels."""
    for (one, first), (other, second) in combinations(scans.items(), 2):
        same = None
        if first.series is None and first.image.path == second.image.path:
            same = "are the same file"
        elif _hash(first) == _hash(second) is not None:
            same = "are files with the same content"
        elif first.image.shape == second.image.shape:
            correlation = _correlation(first, second)
            if correlation > SAME_SCAN:
                same = f"have the same voxels (correlation {correlation:.4f})"
        if same:
            found.add(
                "warning", one, f"{one} and {other} {same}.", "Give each modality its own scan, or leave one out."
            )


def _hash(scan: RawScan) -> str | None:
    """Return the hash of the file of a scan; None for a series, and for one of several scans in an archive."""
    if scan.files != (scan.image.path,) or scan.series is not None:
        return None
    try:
        return sha256(scan.files[0])
    except OSError:
        return None


def _correlation(one: RawScan, other: RawScan) -> float:
    """Return the correlation of the voxels of two scans of one shape, without those where both are at their minimum."""
    first, second = one.image.array.ravel(), other.image.array.ravel()
    used = (first > first.min()) | (second > second.min())
    if np.count_nonzero(used) < 2:
        return 0.0
    a, b = first[used].astype(np.float64), second[used].astype(np.float64)
    spread = a.std() * b.std()
    return float(((a - a.mean()) * (b - b.mean())).mean() / spread) if spread > 0 else 0.0
