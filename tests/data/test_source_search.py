"""Search for the sources of a cohort: cases of layouts, raw studies, what is not clear."""

import shutil
import warnings
import zipfile

import pytest

from anymri.data.case import Case
from anymri.data.source_search import find_sources
from anymri.data.sources import Source, content_fingerprint, quick_fingerprint
from anymri.errors import CohortError, InputWarning
from anymri.synthesis.phantoms import write_cohort


@pytest.fixture(scope="module")
def phantoms(tmp_path_factory):
    folder = tmp_path_factory.mktemp("phantoms")
    write_cohort(folder, 2, size=24)
    return folder


@pytest.fixture
def cohort(phantoms, tmp_path):
    return shutil.copytree(phantoms, tmp_path / "cohort")


NAMES = ["PHANTOM-00000-000", "PHANTOM-00001-000"]


def write_series(folder, study, files=2):
    """Write DICOM files without pixels, which is all that the search reads."""
    from pydicom.dataset import Dataset, FileMetaDataset
    from pydicom.uid import ExplicitVRLittleEndian, MRImageStorage, generate_uid

    folder.mkdir(parents=True)
    for number in range(files):
        headers = Dataset()
        headers.file_meta = FileMetaDataset()
        headers.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
        headers.SOPClassUID, headers.SOPInstanceUID = MRImageStorage, generate_uid()
        headers.StudyInstanceUID = generate_uid(entropy_srcs=[study])
        headers.save_as(folder / f"IM{number:04d}", enforce_file_format=True)


def names(sources):
    return [source.name for source in sources]


def test_cases_of_a_layout_are_sources(cohort):
    sources = find_sources(cohort)
    assert names(sources) == NAMES and all(isinstance(source.content, Case) for source in sources)


def test_a_case_folder_is_one_source(cohort):
    assert names(find_sources(cohort / NAMES[0])) == NAMES[:1]


def test_folders_and_archives_with_raw_studies_are_found_beside_cases(cohort):
    write_series(cohort / "patient", "a")
    with zipfile.ZipFile(cohort / "other.zip", "w") as archive:
        archive.writestr("IM0", "")
    sources = find_sources(cohort)  # without a note about the files, which would be an error here
    assert names(sources) == [*NAMES, "other", "patient"]
    assert sources[2].content == cohort / "other.zip" and sources[3].content == cohort / "patient"


def test_a_folder_per_study_is_a_cohort_and_a_folder_per_series_is_one_study(tmp_path):
    for study in ("a", "b"):
        write_series(tmp_path / "studies" / study, study)
        write_series(tmp_path / "series" / study, "the same")
    assert names(find_sources(tmp_path / "studies")) == ["a", "b"]
    (one,) = find_sources(tmp_path / "series")
    assert one == Source("series", tmp_path / "series")


def test_dicom_files_directly_in_the_folder_are_one_study(tmp_path):
    write_series(tmp_path / "study", "a")
    assert find_sources(tmp_path / "study") == [Source("study", tmp_path / "study")]


def test_images_with_silent_names_are_raw_studies(cohort):
    for name in NAMES:
        scan = cohort / name / f"{name}-t1c.nii.gz"
        silent = cohort / f"raw {name}"
        silent.mkdir()
        shutil.move(scan, silent / "image.nii.gz")
        shutil.rmtree(cohort / name)
    assert names(find_sources(cohort)) == [f"raw {name}" for name in NAMES]


def test_folders_without_scans_are_no_sources(cohort):
    (cohort / "documents").mkdir()
    (cohort / "documents" / "readme.txt").write_text("text")
    (cohort / "masks").mkdir()
    shutil.copy(cohort / NAMES[0] / f"{NAMES[0]}-seg.nii.gz", cohort / "masks" / "tumour_seg.nii.gz")
    with pytest.warns(InputWarning) as notes:
        assert names(find_sources(cohort)) == NAMES
    assert {str(note.message).rpartition(" ")[2] for note in notes} == {"(documents).", "(masks/tumour_seg.nii.gz)."}


def test_a_case_that_is_not_clear_does_not_hide_the_others(cohort):
    unclear = cohort / "unclear"
    unclear.mkdir()
    for name in ("a_t1c", "a_t1ce"):
        shutil.copy(cohort / NAMES[0] / f"{NAMES[0]}-t1c.nii.gz", unclear / f"{name}.nii.gz")
    with pytest.raises(CohortError, match="both look like the T1c"):
        find_sources(unclear)
    sources = find_sources(cohort)
    assert names(sources) == [*NAMES, "unclear"] and sources[2].content == unclear


def test_a_cohort_without_a_case_is_refused(tmp_path):
    with pytest.raises(CohortError, match="No case"):
        find_sources(tmp_path)
    with pytest.raises(CohortError, match="does not exist"):
        find_sources(tmp_path / "absent")


def test_two_sources_of_one_name_are_refused(cohort):
    write_series(cohort / "case", "a")
    with zipfile.ZipFile(cohort / "case.zip", "w") as archive:
        archive.writestr("IM0", "")
    with pytest.raises(CohortError, match="named case"):
        find_sources(cohort)


def test_fingerprints_follow_the_files(tmp_path):
    write_series(tmp_path / "study", "a")
    source = Source("study", tmp_path / "study")
    quick, content = quick_fingerprint(source), content_fingerprint(source)
    moved = Source("study", (tmp_path / "study").rename(tmp_path / "elsewhere"))
    assert (quick_fingerprint(moved), content_fingerprint(moved)) == (quick, content)
    (tmp_path / "elsewhere" / "IM0002").write_bytes(b"a third slice")
    assert quick_fingerprint(moved) != quick and content_fingerprint(moved) != content


def test_folders_with_one_scan_of_another_modality_each_are_noted(phantoms, tmp_path):
    for folder, name in (("AX_T1_POST", "x-t1c"), ("SAG_FLAIR", "y-t2f")):
        (tmp_path / folder).mkdir()
        shutil.copy(next(phantoms.glob(f"*/*{name[1:]}.nii.gz")), tmp_path / folder / f"{name}.nii.gz")
    with pytest.warns(InputWarning, match=r"The 2 cases in .* have one scan each, T1c and FLAIR: if they are of one"):
        assert len(find_sources(tmp_path)) == 2
    shutil.copy(next(phantoms.glob("*/*-t1c.nii.gz")), tmp_path / "SAG_FLAIR" / "y-t1c.nii.gz")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        find_sources(tmp_path)
