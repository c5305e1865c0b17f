"""One folder per case, as in BraTS 2018 to 2024: the names of the files contain their roles."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from anymri.data.case import Case
from anymri.data.layouts.roles import case_of_roles, has_scan, images_in, is_visible, role_of_name

# Folders between the cohort and a case: training/HGG/site/case.
_DEPTH = 4


def cases(folder: Path, depth: int = _DEPTH) -> Iterator[Case]:
    """Yield the cases in `folder` and up to `depth` folders below it; folders inside a case belong to it."""
    roles = [(role_of_name(stem), file) for file, stem in images_in(folder)]
    if has_scan(roles):
        yield case_of_roles(folder.resolve().name, roles)
    elif depth:
        for child in sorted(folder.iterdir()):
            if child.is_dir() and is_visible(child):
                yield from cases(child, depth - 1)
