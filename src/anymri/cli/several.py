"""Whether `anymri segment` was given one case or a cohort."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from anymri.errors import AnymriError, InputWarning

if TYPE_CHECKING:
    from anymri.data.sources import Source


def find_several(place: Path) -> list[Source]:
    """Return the cases of a cohort; none if a place holds one case, or if what it holds is not clear."""
    if not (place.is_dir() or place.suffix.lower() == ".csv"):
        return []
    from anymri.data.source_search import find_sources

    try:
        with warnings.catch_warnings(record=True) as issued:
            warnings.simplefilter("always", InputWarning)
            sources = find_sources(place)
    except AnymriError:  # reading the case raises the error that fits
        return []
    if len(sources) < 2 or _is_one_study(place, sources):  # the warnings are issued when the case is read
        return []
    for warning in issued:
        warnings.warn(warning.message, stacklevel=2)
    return sources


def _is_one_study(place: Path, sources: Sequence[Source]) -> bool:
    """Return whether a folder has the images of one case in it, beside folders with DICOM series of the same case."""
    cases = [source.content for source in sources if not isinstance(source.content, Path)]
    return len(cases) == 1 and any(path.parent == place for path in cases[0].scans.values())
