"""Synthetic cases in the form in which scans are read."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from anymri.data.case import Case, Study
from anymri.data.image import Image
from anymri.synthesis.realistic.generator import SyntheticCase


def as_study(made: SyntheticCase, name: str) -> Study:
    """Return a synthetic case as a study on its grid; its files do not exist.

    name  name of the case
    """
    case = Case(name, {modality: Path(name) for modality in made.images})
    affine = np.diag([-made.spacing, -made.spacing, made.spacing, 1.0])
    reference = Image(next(iter(made.images.values())), affine, Path(name))
    return Study(case, made.images, affine, made.labels, made.brain, reference)
