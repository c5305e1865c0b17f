"""DICOM segmentation objects (SEG): a label map as a PACS, OHIF and 3D Slicer read it.

Segments are the classes, which do not overlap: necrotic or non-enhancing core, oedema, enhancing tumour and, where
there is one, resection cavity. The nested regions WT, TC and ET are an option. Each frame has the position that the
header of its slice states, so that oblique and tilted stacks lie where the scan lies.

What readers support: every reader of SEG reads `binary`. `labelmap` (DICOM Supplement 243, 2024) is smaller, but newer:
OHIF and dcmqi, by which 3D Slicer imports SEG, read it since 2025, and a PACS may refuse the new class of object. OHIF
shows segments that overlap since 2025. Some versions of OHIF do not load segments without voxels, so that only segments
with voxels are written: their numbers differ between patients, and readers go by the codes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Literal, get_args

import numpy as np
from numpy.typing import NDArray

from anymri._version import __version__
from anymri.errors import ConfigurationError, GeometryError, ImageError
from anymri.export.codes import ABNORMAL, ARTIFICIAL_INTELLIGENCE, BRAIN, STRUCTURES
from anymri.export.dicom_sources import MR_IMAGE, Reference, new_uids, references, silent, slice_datasets
from anymri.extras import need
from anymri.files import replacing
from anymri.prepare.dicom.series import Series
from anymri.regions import CLASSES, region_mask

if TYPE_CHECKING:
    from highdicom.seg import Segmentation, SegmentDescription
    from pydicom.dataset import Dataset

Kind = Literal["binary", "labelmap"]
Segments = Literal["classes", "regions"]

MANUFACTURER, MODEL = "anymri developers", "anymri"
_SEGMENTS: Mapping[Segments, tuple[str, ...]] = {"classes": CLASSES[1:], "regions": ("WT", "TC", "ET", "RC")}
# Names of algorithms and versions have at most 64 characters in DICOM.
_LONGEST_NAME = 64


def write_seg(
    path: Path,
    classes: NDArray[np.uint8],
    series: Series,
    *,
    kind: Kind = "binary",
    segments: Segments = "classes",
    algorithm: str = "anymri",
    version: str = __version__,
    series_number: int = 9801,
    identity: str = "",
) -> Path | None:
    """Write a label map as DICOM segmentation and return the path; None, and no file, if the map is empty.

    classes        (x, y, z) uint8 classes of `anymri.regions.CLASSES` on the grid of the series: column, row, slice
    series         what the map was made for: patient, study and frame of reference are those of its headers
    kind           `binary`, which every reader of SEG supports, or `labelmap`, one value per voxel
    segments       `classes`, which do not overlap, or the nested `regions`, for `binary` only
    algorithm      name of the system or weights, at most 64 characters
    version        version of them
    series_number  number of the new series
    identity       text from which the UIDs of series and object follow; by default they are new in every call

    **The file identifies the patient:** name, ID, birth date and study are copied from the headers, because the object
    belongs to the patient's archive. No other output of anymri has them.

    Raises `GeometryError` for another grid, `ConfigurationError` for regions as label map, `ImageError` if headers lack
    what the object needs, `OutputError` if the file cannot be written, `MissingExtraError` without highdicom.
    """
    need("dicom", "pydicom", "highdicom", purpose="Writing a DICOM segmentation")
    if classes.shape != series.image.shape:
        raise GeometryError(
            f"The label map has {_size(classes.shape)} voxels, and {series.title} has {_size(series.image.shape)}.",
            "Give the label map on the grid of this series.",
        )
    if kind not in get_args(Kind) or segments not in _SEGMENTS or (kind == "labelmap" and segments == "regions"):
        raise ConfigurationError(
            f"The kind {kind!r} with {segments!r} as segments does not exist.",
            "Choose binary, or labelmap with classes: regions overlap, which a label map cannot hold.",
        )
    masks = _masks(classes, segments)
    if not masks:
        return None
    sources = slice_datasets(series)
    files = dict(zip((one.SOPInstanceUID for one in sources), references(series), strict=True))
    try:
        with silent():
            # Without a frame of reference, a segmentation has exactly the slices that it refers to.
            is_placed = bool(series.frame_of_reference_uid)
            uids, author = new_uids(identity, kind), (algorithm, version)
            dataset = _segmentation(masks, sources, kind, author, series_number, uids, not is_placed)
            if not is_placed:
                del dataset.FrameOfReferenceUID, dataset.PositionReferenceIndicator
            _refer_to(dataset, files)
    except Exception as error:  # headers may be wrong in any element
        raise ImageError(
            f"The headers of {series.title} do not allow a DICOM segmentation.",
            "Use the label map in NIfTI instead; --debug shows the reason.",
        ) from error
    with replacing(path) as temporary, silent():
        dataset.save_as(temporary, enforce_file_format=True)
    return path


def _masks(classes: NDArray[np.uint8], segments: Segments) -> dict[str, NDArray[np.bool_]]:
    """Return structure of `STRUCTURES` -> mask (x, y, z), for those that have voxels."""
    names = _SEGMENTS[segments]
    masks = {
        name: region_mask(classes, name) if segments == "regions" else classes == CLASSES.index(name) for name in names
    }
    return {name: mask for name, mask in masks.items() if mask.any()}


def _segmentation(
    masks: Mapping[str, NDArray[np.bool_]],
    sources: Sequence[Dataset],
    kind: Kind,
    algorithm: tuple[str, str],
    number: int,
    uids: tuple[str, str],
    keep_empty: bool,
) -> Segmentation:
    """Return the object; `sources` is one dataset per slice, `keep_empty` whether frames without voxels stay."""
    from highdicom.seg import Segmentation
    from pydicom.uid import ExplicitVRLittleEndian, RLELossless

    return Segmentation(
        source_images=sources,
        pixel_array=_pixels(list(masks.values())),
        segmentation_type=kind.upper(),
        segment_descriptions=[_described(n, name, algorithm) for n, name in enumerate(masks, start=1)],
        series_instance_uid=uids[0],
        series_number=number,
        omit_empty_frames=not keep_empty,
        sop_instance_uid=uids[1],
        instance_number=1,
        manufacturer=MANUFACTURER,
        manufacturer_model_name=MODEL,
        software_versions=__version__,
        device_serial_number=__version__,
        content_label="BRAIN_TUMOUR",
        content_description="Automatic segmentation of a brain tumour",
        series_description="Research: brain tumour segmentation (anymri)",
        transfer_syntax_uid=RLELossless if kind == "labelmap" else ExplicitVRLittleEndian,
    )


def _pixels(masks: Sequence[NDArray[np.bool_]]) -> NDArray[np.uint8]:
    """Return segments as highdicom takes them: numbers (slice, row, column), or (slice, row, column, segment) 0 or 1.

    masks  (column, row, slice) of each segment; numbers do where they do not overlap, and need less memory
    """
    numbers = np.zeros(masks[0].shape[::-1], np.uint8)
    for number, mask in enumerate(masks, start=1):
        if (numbers[mask.T] != 0).any():
            return np.stack([mask.T for mask in masks], axis=-1).astype(np.uint8)
        numbers[mask.T] = number
    return numbers


def _described(number: int, name: str, algorithm: tuple[str, str]) -> SegmentDescription:
    """Return the description of segment `number`, a structure of `STRUCTURES`."""
    from highdicom import AlgorithmIdentificationSequence
    from highdicom.color import CIELabColor
    from highdicom.seg import SegmentDescription
    from pydicom.uid import generate_uid

    structure = STRUCTURES[name]
    title, version = (name_of(text) for text in algorithm)
    description = SegmentDescription(
        segment_number=number,
        segment_label=structure.label,
        segmented_property_category=ABNORMAL.concept(),
        segmented_property_type=structure.type.concept(),
        algorithm_type="AUTOMATIC",
        algorithm_identification=AlgorithmIdentificationSequence(
            name=title, family=ARTIFICIAL_INTELLIGENCE.concept(), version=version, source=MANUFACTURER
        ),
        tracking_uid=generate_uid(),
        tracking_id=f"anymri {name}",
        anatomic_regions=[BRAIN.concept()],
        display_color=CIELabColor.from_rgb(*structure.colour),
    )
    description.SegmentDescription = structure.description
    return description


def _refer_to(dataset: Segmentation, files: Mapping[str, Reference]) -> None:
    """Replace the references to slices by those to their files, where a file has several slices or another class.

    files  SOPInstanceUID of a slice, see `slice_datasets` -> its file
    """
    from pydicom.dataset import Dataset

    if all(one.frame is None and one.sop_class == MR_IMAGE for one in files.values()):
        return
    # Frames of several segments share one item.
    items = {
        id(item): item
        for groups in dataset.PerFrameFunctionalGroupsSequence
        for derivation in groups.DerivationImageSequence
        for item in derivation.SourceImageSequence
    }
    for item in items.values():
        reference = files[item.ReferencedSOPInstanceUID]
        _set(item, reference)
        if reference.frame is not None:
            item.ReferencedFrameNumber = reference.frame
    used = {one.sop_instance: one for one in files.values()}
    series = dataset.ReferencedSeriesSequence[0]
    for holder, keyword in ((dataset, "SourceImageSequence"), (series, "ReferencedInstanceSequence")):
        kept = [_set(Dataset(), reference) for reference in used.values()]
        setattr(holder, keyword, kept)


def _set(item: Dataset, reference: Reference) -> Dataset:
    """Set which file an item refers to, and return the item."""
    item.ReferencedSOPClassUID, item.ReferencedSOPInstanceUID = reference.sop_class, reference.sop_instance
    return item


def name_of(text: str) -> str:
    """Return a text as DICOM allows names: without backslashes and control characters, at most 64 characters."""
    kept = "".join(character for character in text if character.isprintable() and character != "\\")
    return kept[:_LONGEST_NAME].strip() or "unknown"


def _size(shape: Sequence[int]) -> str:
    return "x".join(map(str, shape))
