"""Phantoms with labels, written and read as DICOM series."""

import numpy as np

from prepare.dicom.series import in_plane, rotated, write_series

AFFINE = np.array([[-0.9, 0, 0, 31.0], [0, -1.1, 0, 42.5], [0, 0, 2.5, -17.25], [0, 0, 0, 1.0]])
OBLIQUE = rotated(AFFINE, (12, -7, 20))


def read_one(folder, **options):
    """Return the one series of a folder."""
    from anymri.prepare.dicom import read_dicom

    (series,), _ = read_dicom(folder, **options)
    return series


def phantom(classes=(1, 2, 3)):
    """Return a label map (14, 12, 8) that no turn or flip maps to itself, and a scan whose values contain it."""
    rng = np.random.default_rng(0)
    labels = np.zeros((14, 12, 8), np.uint8)
    labels[2:10, 3:11, 1:6] = rng.choice([0, *classes], (8, 8, 5))
    return labels, labels * np.int16(100) + rng.integers(1, 100, labels.shape, np.int16)


def written_series(folder, affine=AFFINE, plane="axial", labels=(1, 2, 3), against=False, **how):
    """Write a phantom as a series; return the series as it is read, and its label map by its intensities.

    against  write the slices in the order against their normal
    """
    _, scan = phantom(labels)
    array, affine = in_plane(scan, affine, plane)
    if against:
        turned = np.diag([1.0, 1.0, -1.0, 1.0])
        turned[2, 3] = array.shape[2] - 1
        array, affine = array[..., ::-1], affine @ turned
    write_series(folder, array, affine, **how)
    series = read_one(folder)
    return series, (series.image.array // 100).astype(np.uint8)
