"""A case read and prepared in one call, which worker processes make without importing torch."""

from __future__ import annotations

from pathlib import Path

from anymri.data.case import Case
from anymri.modalities import Subset, as_subset, find_modality
from anymri.prepare.preparation import Preparation, prepare
from anymri.prepare.raw import read_raw


def read_and_prepare(
    content: Case | Path,
    subset: Subset | str | None = None,
    space: str | None = None,
    brain: str = "auto",
    registration: bool = True,
    n4: bool = False,
) -> Preparation:
    """Read a case or the files of a raw study, and prepare it as far as that is needed.

    The arguments are those of `Segmenter.segment`, which takes the preparation. Raises the errors of `read_raw` and
    `prepare`.
    """
    raw = read_raw(content)
    needed = None
    if subset is not None:
        target = find_modality(space) if space else None
        needed = {*as_subset(subset), *([target] if target else [])}
    return prepare(raw, brain, n4, registration, needed)
