"""Raw studies of phantoms: scans of the size of a head on grids of their own."""

from __future__ import annotations

from functools import cache

import numpy as np

from anymri.data.case import Case
from anymri.data.image import Image, to_axes_of, write_image
from anymri.prepare.raw import read_raw
from anymri.synthesis.phantoms import phantom
from prepare.dicom.series import write_series

SIDE = 40
# With this spacing the brain of a phantom has more than half a litre.
SPACING_MM = 3.5
# Headers as scanners write them.
HEADERS = {
    "T1": {"EchoTime": 3, "RepetitionTime": 9, "ScanningSequence": "GR"},
    "T1c": {"EchoTime": 3, "RepetitionTime": 9, "ScanningSequence": "GR", "ContrastBolusAgent": "Gadovist"},
    "T2": {"EchoTime": 95, "RepetitionTime": 5000, "ScanningSequence": "SE"},
    "FLAIR": {"EchoTime": 90, "RepetitionTime": 9000, "InversionTime": 2500, "ScanningSequence": ["SE", "IR"]},
}
DESCRIPTIONS = {"T1": "t1_mprage_sag", "T1c": "t1_mprage_sag_KM", "T2": "t2_tse_tra", "FLAIR": "t2_tirm_tra_dark-fluid"}
NAMES = {"T1": "t1n", "T1c": "t1c", "T2": "t2w", "FLAIR": "t2f"}
LPS = np.diag([-1.0, -1.0, 1.0, 1.0])


@cache
def head(seed=3):
    """Return a phantom that fills a head: images, labels and the affine, voxels in LPS to RAS+ mm."""
    content = phantom(seed, SIDE)
    affine = LPS @ np.diag([SPACING_MM, SPACING_MM, SPACING_MM, 1.0])
    affine[:3, 3] = affine[:3, :3] @ np.full(3, -(SIDE - 1) / 2)
    return content.images, content.labels, affine


def on_grid(array, affine, axes=None, keep=None, step=(1, 1, 1)):
    """Return a volume with other axes, a part of its slices, or only every n-th voxel along its axes, and its affine.

    axes  letters of the orientation, as "RSA"
    keep  slice of the last axis
    """
    from nibabel.orientations import apply_orientation, axcodes2ornt, inv_ornt_aff, io_orientation, ornt_transform

    if axes is not None:
        change = ornt_transform(io_orientation(affine), axcodes2ornt(axes))
        affine = affine @ inv_ornt_aff(change, array.shape)
        array = apply_orientation(array, change)
    moved = affine.copy()
    if keep is not None:
        moved[:3, 3] += affine[:3, 2] * (keep.start or 0)
        array = array[..., keep]
    array = array[tuple(slice(None, None, each) for each in step)]
    moved[:3, :3] = moved[:3, :3] * step
    return array, moved


def moved(affine, degrees=(0.0, 0.0, 0.0), shift_mm=(0.0, 0.0, 0.0)):
    """Return the affine of a head that was turned about the origin and shifted, and the transform that did it."""
    from scipy.spatial.transform import Rotation

    transform = np.eye(4)
    transform[:3, :3] = Rotation.from_euler("xyz", degrees, degrees=True).as_matrix()
    transform[:3, 3] = shift_mm
    return transform @ affine, transform


def write_scan(folder, modality, array, affine, name="head"):
    """Write a scan under a name that gives its modality, and return the file."""
    folder.mkdir(parents=True, exist_ok=True)
    file = folder / f"{name}-{NAMES[modality]}.nii.gz"
    write_image(file, np.ascontiguousarray(array), affine)
    return file


def raw_study(folder, changes, seed=3):
    """Write and read a raw study.

    changes  modality -> arguments of `on_grid`
    """
    images, _, affine = head(seed)
    for modality, change in changes.items():
        write_scan(folder, modality, *on_grid(images[modality], affine, **change))
    return read_raw(folder)


def case_in(folder, modalities=("T1c", "FLAIR"), side=32):
    """Write scans of a small phantom on one grid of 1 mm and return their case."""
    images = phantom(5, side).images
    return Case("small", {m: write_scan(folder, m, images[m], LPS, "small") for m in modalities})


def worlds(image: Image, points):
    """Return the values of the voxels nearest to world points (N, 3)."""
    indices = np.rint((np.c_[points, np.ones(len(points))] @ np.linalg.inv(image.affine).T)[:, :3]).astype(int)
    return image.array[tuple(indices.T)]


def turned_like(array, affine, grid):
    """Return an array with the axes of another grid."""
    return to_axes_of(array, affine, grid)[0]


def write_dicom(folder, modality, **changes):
    """Write a scan of a phantom as a DICOM series and return its files."""
    images, _, affine = head()
    number = list(HEADERS).index(modality) + 1
    given = {"description": DESCRIPTIONS[modality], "series_number": number, "headers": HEADERS[modality]} | changes
    return write_series(folder, images[modality], affine, **given)
