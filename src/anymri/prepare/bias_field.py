"""Correction of the bias field of a scan by N4 (Tustison et al., IEEE Trans Med Imaging 29:1310, 2010)."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

# The field is smooth, so that every fourth voxel is enough to estimate it.
_SHRINK = 4
_ITERATIONS = (50, 50, 50)


def correct_bias_field(scan: NDArray[np.float32], mask: NDArray[np.bool_]) -> NDArray[np.float32]:
    """Return a scan (X, Y, Z) of isotropic voxels divided by its bias field, which is estimated inside a mask.

    Values must not be negative inside the mask; those that are count as 0. Needs SimpleITK.
    """
    import SimpleITK

    positive = np.maximum(scan, 0)
    whole, inside = SimpleITK.GetImageFromArray(positive), SimpleITK.GetImageFromArray(mask.astype(np.uint8))
    factors = [_SHRINK] * 3
    n4 = SimpleITK.N4BiasFieldCorrectionImageFilter()
    n4.SetMaximumNumberOfIterations(_ITERATIONS)
    n4.SetNumberOfThreads(1)  # the same result on every machine
    n4.Execute(SimpleITK.Shrink(whole, factors), SimpleITK.Shrink(inside, factors))
    field = SimpleITK.GetArrayFromImage(SimpleITK.Exp(n4.GetLogBiasFieldAsImage(whole)))
    corrected: NDArray[np.float32] = (scan / field).astype(np.float32)
    return corrected
