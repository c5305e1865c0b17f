"""DICOM segmentations: voxels and segments, read back by plain geometry and by highdicom."""

import numpy as np
import pytest

from anymri.errors import ConfigurationError, GeometryError
from anymri.export.codes import STRUCTURES
from anymri.export.dicom_seg import write_seg
from anymri.regions import CLASSES, REGIONS
from export.dicom_phantoms import AFFINE, OBLIQUE, phantom, read_one, written_series
from prepare.dicom.series import sheared, write_series

pydicom = pytest.importorskip("pydicom")
hd = pytest.importorskip("highdicom")

LABELS = {STRUCTURES[name].label: name for name in STRUCTURES}


def points_of(file):
    """Return structure -> voxels (N, 3), LPS mm, by the elements of the standard alone."""
    dataset = pydicom.dcmread(file)
    names = {each.SegmentNumber: LABELS.get(each.SegmentLabel) for each in dataset.SegmentSequence}
    shared = dataset.SharedFunctionalGroupsSequence[0]
    rows_to, columns_to = np.reshape(shared.PlaneOrientationSequence[0].ImageOrientationPatient, (2, 3)).astype(float)
    down, across = map(float, shared.PixelMeasuresSequence[0].PixelSpacing)
    frames = dataset.pixel_array.reshape(-1, dataset.Rows, dataset.Columns)
    found = {name: [] for name in names.values() if name}
    for groups, frame in zip(dataset.PerFrameFunctionalGroupsSequence, frames, strict=True):
        origin = np.array(groups.PlanePositionSequence[0].ImagePositionPatient, float)
        for value in np.unique(frame[frame > 0]).tolist():
            row, column = np.nonzero(frame == value)
            number = value
            if dataset.SegmentationType == "BINARY":
                number = groups.SegmentIdentificationSequence[0].ReferencedSegmentNumber
            points = origin + column[:, None] * across * rows_to + row[:, None] * down * columns_to
            found[names[number]].append(points)
    return {name: np.concatenate(points) for name, points in found.items()}


def assert_no_voxel_moved(file, labels, affine):
    """Check that the voxels of each class lie on those of a label map (x, y, z) with its affine to RAS mm."""
    points = points_of(file)
    assert set(points) == {CLASSES[value] for value in np.unique(labels[labels > 0])}
    for name, lps in points.items():
        indices = (lps * (-1, -1, 1) - affine[:3, 3]) @ np.linalg.inv(affine[:3, :3]).T
        np.testing.assert_allclose(indices, np.rint(indices), atol=1e-4)
        expected = np.argwhere(labels == CLASSES.index(name))
        np.testing.assert_array_equal(sorted(np.rint(indices).astype(int).tolist()), sorted(expected.tolist()))


def assert_highdicom_reads(file, labels, affine):
    """Check that the volume that highdicom reads, on a grid of its own, is a label map (x, y, z) with its affine."""
    volume = hd.seg.segread(file).get_volume(combine_segments=True)
    indices = np.argwhere(volume.array > 0)
    lps = indices @ volume.affine[:3, :3].T + volume.affine[:3, 3]
    places = np.rint((lps * (-1, -1, 1) - affine[:3, 3]) @ np.linalg.inv(affine[:3, :3]).T).astype(int)
    found = np.zeros_like(labels)
    found[tuple(places.T)] = volume.array[tuple(indices.T)]
    np.testing.assert_array_equal(found, labels)


CASES = {
    "axial": {},
    "coronal": {"plane": "coronal"},
    "sagittal": {"plane": "sagittal"},
    "oblique": {"affine": OBLIQUE},
    "oblique sagittal": {"affine": OBLIQUE, "plane": "sagittal"},
    "numbered in reverse": {"reverse": True},
    "against the normal": {"against": True, "affine": OBLIQUE},
    "shuffled": {"shuffle": True, "affine": OBLIQUE},
    "multi-frame": {"multiframe": True, "affine": OBLIQUE, "plane": "coronal"},
    "multi-frame against the normal": {"multiframe": True, "against": True},
}


@pytest.mark.parametrize("kind", ["binary", "labelmap"])
@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_no_voxel_moves_in_patient_coordinates(tmp_path, case, kind):
    series, classes = written_series(tmp_path / "series", **case)
    file = write_seg(tmp_path / "seg.dcm", classes, series, kind=kind)
    labels, _ = phantom()
    assert_no_voxel_moved(file, labels, case.get("affine", AFFINE))
    assert_highdicom_reads(file, labels, case.get("affine", AFFINE))


@pytest.mark.filterwarnings("ignore:.*is tilted")
@pytest.mark.parametrize("multiframe", [False, True])
@pytest.mark.parametrize("kind", ["binary", "labelmap"])
def test_frames_of_a_tilted_stack_follow_its_shear(tmp_path, kind, multiframe):
    labels, scan = phantom()
    affine = sheared(OBLIQUE, 0.7)
    write_series(tmp_path / "series", scan, affine, multiframe=multiframe)
    series = read_one(tmp_path / "series")
    file = write_seg(tmp_path / "seg.dcm", (series.image.array // 100).astype(np.uint8), series, kind=kind)
    assert_no_voxel_moved(file, labels, affine)
    distance = pydicom.dcmread(file).SharedFunctionalGroupsSequence[0].PixelMeasuresSequence[0].SpacingBetweenSlices
    assert distance == pytest.approx(2.5)  # along the normal


@pytest.mark.parametrize("kind", ["binary", "labelmap"])
def test_frames_refer_to_the_files_of_their_slices(tmp_path, kind):
    series, classes = written_series(tmp_path / "series", affine=OBLIQUE, shuffle=True)
    seg = hd.seg.segread(write_seg(tmp_path / "seg.dcm", classes, series, kind=kind))
    uids = [header.SOPInstanceUID for header in series.headers]
    pixels = seg.get_pixels_by_source_instance(uids, combine_segments=True, assert_missing_frames_are_empty=True)
    np.testing.assert_array_equal(pixels.transpose(2, 1, 0), classes)


@pytest.mark.parametrize("kind", ["binary", "labelmap"])
def test_frames_refer_to_the_frames_of_a_multi_frame_file(tmp_path, kind):
    series, classes = written_series(tmp_path / "series", against=True, multiframe=True)
    assert list(series.frames) != sorted(series.frames)
    seg = hd.seg.segread(write_seg(tmp_path / "seg.dcm", classes, series, kind=kind))
    (header,) = series.headers
    pixels = seg.get_pixels_by_source_frame(
        header.SOPInstanceUID,
        [frame + 1 for frame in series.frames],
        combine_segments=True,
        assert_missing_frames_are_empty=True,
    )
    np.testing.assert_array_equal(pixels.transpose(2, 1, 0), classes)
    assert [item.ReferencedSOPInstanceUID for item in seg.SourceImageSequence] == [header.SOPInstanceUID]
    assert {item.ReferencedSOPClassUID for item in seg.SourceImageSequence} == {header.SOPClassUID}


@pytest.mark.parametrize("sizes", [(3, 5), (1,) * 8], ids=["two files of frames", "files of one frame"])
def test_frames_refer_to_the_right_one_of_several_multi_frame_files(tmp_path, sizes):
    labels, scan = phantom()
    for first, size in zip(np.cumsum((0, *sizes)), sizes, strict=False):
        at = AFFINE.copy()
        at[:3, 3] += first * AFFINE[:3, 2]
        (file,) = write_series(tmp_path / str(first), scan[..., first : first + size], at, multiframe=True)
        dataset = pydicom.dcmread(file)
        dataset.SOPInstanceUID = dataset.file_meta.MediaStorageSOPInstanceUID = f"1.2.{first + 1}"
        dataset.save_as(file)
    series = read_one(tmp_path)
    file = write_seg(tmp_path / "seg.dcm", labels, series)
    assert_no_voxel_moved(file, labels, AFFINE)
    dataset = pydicom.dcmread(file)
    files = {each.SOPInstanceUID: each for each in series.headers}
    for groups in dataset.PerFrameFunctionalGroupsSequence:
        source = groups.DerivationImageSequence[0].SourceImageSequence[0]
        frames = files[source.ReferencedSOPInstanceUID].PerFrameFunctionalGroupsSequence
        position = frames[source.get("ReferencedFrameNumber", 1) - 1].PlanePositionSequence[0].ImagePositionPatient
        assert position == groups.PlanePositionSequence[0].ImagePositionPatient
        assert source.ReferencedSOPClassUID == "1.2.840.10008.5.1.4.1.1.4.1"
    assert {each.ReferencedSOPInstanceUID for each in dataset.SourceImageSequence} == set(files)


def test_segments_are_coded_coloured_and_made_by_an_algorithm(tmp_path):
    series, classes = written_series(tmp_path / "series", labels=(1, 2, 3, 4))
    file = write_seg(tmp_path / "seg.dcm", classes, series, algorithm="mmformer", version="2.1")
    dataset = pydicom.dcmread(file)
    codes = [each.SegmentedPropertyTypeCodeSequence[0].CodeValue for each in dataset.SegmentSequence]
    assert codes == ["C81175", "79654002", "C113842", "49755003"]
    for each in dataset.SegmentSequence:
        assert each.SegmentAlgorithmType == "AUTOMATIC"
        assert each.SegmentAlgorithmName == "mmformer"
        assert each.SegmentationAlgorithmIdentificationSequence[0].AlgorithmVersion == "2.1"
        colour = hd.color.CIELabColor.from_dicom_value(each.RecommendedDisplayCIELabValue).to_rgb()
        np.testing.assert_allclose(colour, STRUCTURES[LABELS[each.SegmentLabel]].colour, atol=3)
    assert len({each.TrackingUID for each in dataset.SegmentSequence}) == 4
    assert dataset.SegmentsOverlap == "NO"
    assert not dataset.get("ContentCreatorName")


def test_only_segments_with_voxels_are_written(tmp_path):
    series, classes = written_series(tmp_path / "series", labels=(2, 4))
    dataset = pydicom.dcmread(write_seg(tmp_path / "seg.dcm", classes, series))
    assert [(each.SegmentNumber, LABELS[each.SegmentLabel]) for each in dataset.SegmentSequence] == [
        (1, "ED"),
        (2, "RC"),
    ]


def test_regions_overlap_in_a_binary_segmentation(tmp_path):
    series, classes = written_series(tmp_path / "series")
    file = write_seg(tmp_path / "seg.dcm", classes, series, segments="regions")
    assert pydicom.dcmread(file).SegmentsOverlap == "YES"
    for region, points in points_of(file).items():
        assert len(points) == np.isin(classes, list(REGIONS[region])).sum()
    with pytest.raises(ConfigurationError, match="'labelmap' with 'regions'"):
        write_seg(tmp_path / "map.dcm", classes, series, kind="labelmap", segments="regions")


def test_no_file_is_written_without_a_tumour(tmp_path):
    series, classes = written_series(tmp_path / "series")
    assert write_seg(tmp_path / "seg.dcm", np.zeros_like(classes), series) is None
    assert not (tmp_path / "seg.dcm").exists()


def test_uids_follow_from_the_identity_and_are_new_without_one(tmp_path):
    series, labels = written_series(tmp_path / "in")
    uids = [
        pydicom.dcmread(write_seg(tmp_path / "s.dcm", labels, series, **how))["SOPInstanceUID"].value
        for how in (
            {"identity": "a"},
            {"identity": "a"},
            {"identity": "b"},
            {},
            {},
            {"identity": "a", "kind": "labelmap"},
        )
    ]
    assert uids[0] == uids[1] and len(set(uids)) == 5


def test_label_map_of_another_grid_is_refused(tmp_path):
    series, classes = written_series(tmp_path / "series")
    with pytest.raises(GeometryError, match=r"14x12x7 voxels, and series 1 has 14x12x8"):
        write_seg(tmp_path / "seg.dcm", classes[..., 1:], series)


def test_without_frame_of_reference_all_slices_are_referred_to(tmp_path):
    no_frame = {"FrameOfReferenceUID": None, "PositionReferenceIndicator": None}
    series, classes = written_series(tmp_path / "series", headers=no_frame)
    file = write_seg(tmp_path / "seg.dcm", classes, series)
    dataset = pydicom.dcmread(file)
    assert "FrameOfReferenceUID" not in dataset
    assert dataset.NumberOfFrames == 3 * series.image.shape[2]
    assert_no_voxel_moved(file, phantom()[0], AFFINE)


@pytest.mark.parametrize("vendor", ["philips_enhanced", "hyperfine", "siemens", "ge"])
def test_series_of_vendors_keep_their_geometry(tmp_path, real_data, vendor):
    series = read_one(real_data / "dicom2nifti" / vendor / "anatomical", fewest_slices=2)
    classes = np.zeros(series.image.shape, np.uint8)
    x, y, z = series.image.shape
    classes[x // 4 : x // 2, y // 3 : y // 2, z // 4 :] = 2
    classes[x // 4 : x // 3, y // 3 : y // 2, z // 2 :] = 3
    assert_no_voxel_moved(write_seg(tmp_path / "seg.dcm", classes, series), classes, series.image.affine)
