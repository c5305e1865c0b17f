"""Picture of a case and its segmentations, read from disk."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure

from anymri.data.case import Case, read_study, reorient_to_grid
from anymri.data.image import read_image
from anymri.regions import LabelScheme
from anymri.report.figures import montage


def case_montage(case: Case, scheme: LabelScheme | None, segmentations: Mapping[str, Path]) -> Figure:
    """Return the scans of a case with the contours of its label map and of segmentations.

    scheme         meaning of the label values; None to omit the label map
    segmentations  subset ("T1c+FLAIR") -> folder that `anymri segment` wrote from these scans
    """
    study = read_study(case, scheme)
    maps = {}
    for subset, folder in segmentations.items():
        image = read_image(folder / "segmentation.nii.gz")
        maps[subset] = reorient_to_grid(image, study.reference, case.name).astype(np.uint8)
    x, y, z = np.linalg.norm(study.affine[:3, :3], axis=0).tolist()
    return montage(study.images, study.classes, maps, (x, y, z))
