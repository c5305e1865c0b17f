"""Two label maps of a case side by side: their Dice, and where they disagree."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from anymri.prepare.preparation import Preparation
from anymri.studio.maps import compared, dice, read_labels, volumes_ml, write_labels
from anymri.studio.source import CaseSource


def compare(source: CaseSource, preparation: Preparation, first: Path, second: Path, name: str) -> dict[str, Any]:
    """Write where two label maps on the grid of the study disagree, and return its path with figures.

    name  stem of the file that is written
    """
    study = preparation.study
    shape, affine = next(iter(study.images.values())).shape, study.affine
    one, two = read_labels(first, shape), read_labels(second, shape)
    path = source.maps / f"{name}.nii.gz"
    write_labels(path, compared(one, two), affine)
    volumes = {"a": volumes_ml(one, affine), "b": volumes_ml(two, affine)}
    return {"path": path, "dice": dice(one, two), "volumes_ml": volumes}
