from __future__ import annotations

import json
from pathlib import Path

import pytest

from anymri.data.case import Case
from anymri.data.layouts import case_from_files, find_cases
from anymri.errors import CohortError, ImageError, ModalityError


def touch(root: Path, *names: str) -> Path:
    """Create empty files: cases are found by names only."""
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).touch()
    return root


def names(case: Case) -> dict[str, str]:
    return {what: path.name for what, path in case.files().items()}


BRATS_FOLDERS = {
    "2018": (
        "HGG/Brats18_2013_2_1",
        "Brats18_2013_2_1_{}.nii.gz",
        {"T1": "t1", "T1c": "t1ce", "T2": "t2", "FLAIR": "flair", "label": "seg"},
    ),
    "2020, case 355": (
        "BraTS20_Training_355",
        "{}.nii",
        {"T1": "BraTS20_Training_355_t1", "T1c": "BraTS20_Training_355_t1ce", "label": "W39_1998.09.19_Segm"},
    ),
    "2021": ("BraTS2021_00000", "BraTS2021_00000_{}.nii.gz", {"T2": "t2", "FLAIR": "flair", "label": "seg"}),
    "2024": (
        "training/BraTS-GLI-00005-100",
        "BraTS-GLI-00005-100-{}.nii.gz",
        {"T1": "t1n", "T1c": "t1c", "T2": "t2w", "FLAIR": "t2f", "label": "seg"},
    ),
    "2013 of DeepMedic": (
        "pat_1",
        "{}.nii.gz",
        {"T1c": "T1c_subtrMeanDivStd", "FLAIR": "Flair_subtr", "label": "OTMultiClass", "brain_mask": "brainmask"},
    ),
    "names with look-alikes": (
        "T2-study-7",
        "T2-study-7_{}.mha",
        {"T1": "T1_reg", "FLAIR": "FLAIR", "brain_mask": "T1_brain_mask", "label": "t2_tumor_mask"},
    ),
    "modality in two words": ("a", "a_{}.nrrd", {"T1": "T1_pre", "T1c": "T1_Gd", "T2": "t_2_T2", "FLAIR": "T2-FLAIR"}),
}


@pytest.mark.parametrize("kind", BRATS_FOLDERS)
def test_folder_per_case_is_found(tmp_path, kind):
    folder, pattern, words = BRATS_FOLDERS[kind]
    expected = {what: pattern.format(word) for what, word in words.items()}
    touch(tmp_path / folder, *expected.values(), "notes.txt", "adc.nii.gz", "scan_t_1.nii.gz", "scan_ct_1.nii.gz")
    for start in (tmp_path, tmp_path / folder):
        (case,) = find_cases(start)
        assert case.name == folder.rpartition("/")[2]
        assert names(case) == expected


def test_cases_are_sorted_by_name_over_nested_folders(tmp_path):
    touch(tmp_path, "HGG/b/b_t1.nii", "LGG/a/a_flair.nii", "LGG/site/2/c/c_t2.nii", "1/2/3/4/5/deep_t1.nii")
    assert [case.name for case in find_cases(tmp_path)] == ["a", "b", "c"]


def test_folders_below_a_case_belong_to_it(tmp_path):
    touch(tmp_path, "a/a_t1.nii", "a/inpainting/a_t1n-voided.nii", "a/automatic/seg1.nii", "b/seg_1.nii", "b/seg_2.nii")
    (case,) = find_cases(tmp_path)
    assert names(case) == {"T1": "a_t1.nii"}


def test_hidden_files_and_folders_are_skipped(tmp_path):
    touch(tmp_path, "a/a_t1.nii", "a/._a_t1.nii", ".trash/b/b_t1.nii")
    assert [names(case) for case in find_cases(tmp_path)] == [{"T1": "a_t1.nii"}]


@pytest.mark.parametrize(("one", "other"), [("t1ce", "t1c"), ("seg", "label")])
def test_two_files_of_one_role_raise_an_error_that_names_both(tmp_path, one, other):
    touch(tmp_path, "a/a_flair.nii", f"a/a_{one}.nii", f"a/a_{other}.nii")
    with pytest.raises(CohortError) as refused:
        find_cases(tmp_path)
    assert f"a_{one}.nii" in refused.value.what
    assert f"a_{other}.nii" in refused.value.what


def test_two_cases_of_one_name_raise_an_error_with_their_folders(tmp_path):
    touch(tmp_path, "x/a/t1.nii", "y/a/t1.nii")
    with pytest.raises(CohortError, match=r"Two cases are named a: .*x/a and .*y/a"):
        find_cases(tmp_path)


def test_folder_without_a_case_raises_an_error_with_the_layouts(tmp_path):
    touch(tmp_path, "readme.md", "scan.nii.gz")
    with pytest.raises(CohortError, match=r"(?s)No case was found.*CSV manifest.*nnU-Net.*BIDS"):
        find_cases(tmp_path)


def test_missing_folder_is_refused(tmp_path):
    with pytest.raises(CohortError, match="does not exist"):
        find_cases(tmp_path / "nowhere")


def test_bids_cases_are_found_with_and_without_sessions(tmp_path):
    touch(
        tmp_path,
        "sub-01/ses-1/anat/sub-01_ses-1_T1w.nii.gz",
        "sub-01/ses-1/anat/sub-01_ses-1_ce-gadolinium_T1w.nii.gz",
        "sub-01/ses-1/anat/sub-01_ses-1_T1map.nii.gz",
        "sub-01/ses-1/dwi/sub-01_ses-1_dwi.nii.gz",
        "sub-01/ses-2/anat/sub-01_ses-2_FLAIR.nii",
        "sub-02/anat/sub-02_T2w.nii.gz",
        "sub-02/anat/sub-02_T1wCE.nii.gz",
        "sub-02/anat/sub-02_dseg.nii.gz",
        "derivatives/experts/sub-01/ses-1/anat/sub-01_ses-1_space-T1w_seg.nii.gz",
        "derivatives/experts/sub-03/anat/sub-03_dseg.nii.gz",
        "dataset_description.json",
    )
    first, second, third = find_cases(tmp_path)
    assert names(first) == {
        "T1": "sub-01_ses-1_T1w.nii.gz",
        "T1c": "sub-01_ses-1_ce-gadolinium_T1w.nii.gz",
        "label": "sub-01_ses-1_space-T1w_seg.nii.gz",
    }
    assert names(second) == {"FLAIR": "sub-01_ses-2_FLAIR.nii"}
    assert [case.name for case in (first, second, third)] == ["sub-01_ses-1", "sub-01_ses-2", "sub-02"]
    assert first.patient == second.patient == "sub-01"
    assert names(third) == {
        "T1c": "sub-02_T1wCE.nii.gz",
        "T2": "sub-02_T2w.nii.gz",
        "label": "sub-02_dseg.nii.gz",
    }


def nnunet(root: Path, channel_names: object) -> Path:
    touch(
        root,
        "imagesTr/BraTS-GLI-00001-000_0000.nii.gz",
        "imagesTr/BraTS-GLI-00001-000_0001.nii.gz",
        "labelsTr/BraTS-GLI-00001-000.nii.gz",
        "imagesTs/P_2_0001.nii.gz",
    )
    (root / "dataset.json").write_text(json.dumps({"channel_names": channel_names}))
    return root


def test_nnunet_channels_get_their_modality_from_dataset_json(tmp_path):
    training, test = find_cases(nnunet(tmp_path, {"0": "FLAIR", "1": "t1ce"}))
    assert names(training) == {
        "T1c": "BraTS-GLI-00001-000_0001.nii.gz",
        "FLAIR": "BraTS-GLI-00001-000_0000.nii.gz",
        "label": "BraTS-GLI-00001-000.nii.gz",
    }
    assert training.patient == "BraTS-GLI-00001"
    assert names(test) == {"T1c": "P_2_0001.nii.gz"}
    assert test.name == "P_2"


@pytest.mark.parametrize(
    ("channel_names", "words"),
    [
        ({"0": "CT", "1": "T1"}, "not different modalities"),
        ({"0": "T1", "1": "t1n"}, "not different modalities"),
        ({"0": "T1"}, "channel 1"),
        (["T1", "T2"], "channel_names .* cannot be read"),
        ({"first": "T1"}, "channel_names .* cannot be read"),
    ],
)
def test_nnunet_channels_of_unknown_modality_are_refused(tmp_path, channel_names, words):
    with pytest.raises(CohortError, match=words):
        find_cases(nnunet(tmp_path, channel_names))


def test_nnunet_without_dataset_json_raises_an_error_with_an_example(tmp_path):
    (nnunet(tmp_path, {}) / "dataset.json").unlink()
    with pytest.raises(CohortError, match=r"(?s)dataset\.json is missing.*channel_names"):
        find_cases(tmp_path)


def manifest(root: Path, text: str) -> Path:
    touch(root, "scans/1.nii", "scans/2.nii", "seg.nii")
    (root / "cohort.csv").write_text(text, encoding="utf-8-sig")
    return root / "cohort.csv"


def test_manifest_names_files_relative_to_itself(tmp_path):
    path = manifest(tmp_path, "Case,T1CE,flair,label,mask,patient\nb,scans/1.nii,,seg.nii,,Ada\n\na,,scans/2.nii,,,\n")
    first, second = find_cases(path)
    assert (first.name, first.patient, names(first)) == ("a", "a", {"FLAIR": "2.nii"})
    assert (second.name, second.patient, names(second)) == ("b", "Ada", {"T1c": "1.nii", "label": "seg.nii"})


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("case,t9\na,scans/1.nii\n", "line 1: unknown column 't9'"),
        ("case;t1\na;scans/1.nii\n", "line 1: unknown column 'case;t1'"),
        ("t1,t2\nscans/1.nii,\n", "line 1: the columns are t1, t2"),
        ("case,t1,t1n\na,scans/1.nii,\n", "line 1: the columns are case, t1, t1n"),
        ("case,t1\na,scans/1.nii\nb,scans/9.nii\n", "line 3: .*9.nii .T1. does not exist"),
        ("case,t1,label\na,,seg.nii\n", "line 2: Case a has no scan"),
        ("case,t1\n,scans/1.nii\n", "line 2: '' cannot be the name of a case"),
        ("case,t1\na,scans/1.nii\na,scans/2.nii\n", "line 3: the case a occurs twice"),
        ("case,t1\na,scans/1.nii,scans/2.nii\n", "line 2: 3 cells for 2 columns"),
        ("case,t1\n", "No case was found"),
        ("", "line 1: the columns are"),
    ],
)
def test_manifest_error_names_the_line(tmp_path, text, words):
    with pytest.raises(CohortError, match=words):
        find_cases(manifest(tmp_path, text))


def test_binary_file_is_refused_as_a_manifest(tmp_path):
    (tmp_path / "a.csv").write_bytes(b"\xff\xfe\x00\x80" * 50)
    with pytest.raises(CohortError, match="is not a CSV file"):
        find_cases(tmp_path / "a.csv")


def test_case_from_files_takes_any_alias(tmp_path):
    touch(tmp_path, "1.nii", "2.nii", "3.nii")
    scans = {"t2f": tmp_path / "1.nii", "T1Gd": tmp_path / "2.nii"}
    case = case_from_files(scans, label=tmp_path / "3.nii", name="Ada")
    assert (case.name, str(case.subset), case.label) == ("Ada", "T1c+FLAIR", tmp_path / "3.nii")


def test_case_from_files_refuses_missing_files_and_unknown_or_repeated_modalities(tmp_path):
    touch(tmp_path, "1.nii")
    with pytest.raises(ImageError, match="does not exist"):
        case_from_files({"t1": tmp_path / "9.nii"})
    with pytest.raises(ModalityError, match="not a modality"):
        case_from_files({"dwi": tmp_path / "1.nii"})
    with pytest.raises(ModalityError, match="T1 is given twice"):
        case_from_files({"t1": tmp_path / "1.nii", "t1n": tmp_path / "1.nii"})


ALL_FOUR = "T1+T1c+T2+FLAIR"


@pytest.mark.parametrize(
    ("folder", "expected"),
    [
        ("brats-gli-00000-000", [("brats-gli-00000-000", ALL_FOUR, True, False)]),
        ("brats-gli-00001-000", [("brats-gli-00001-000", ALL_FOUR, False, False)]),
        ("brats-met-00110-000", [("brats-met-00110-000", ALL_FOUR, False, False)]),
        ("tcga-du-7294", [(name, ALL_FOUR, False, False) for name in ("atlas-space", "native-space")]),
        ("antsarboles-brats2d", [(f"BRATS_HG000{n}", ALL_FOUR, True, True) for n in range(1, 6)]),
        ("deepmedic-brats2013", [(f"brats_2013_pat000{n}_1", "T1c+FLAIR", True, True) for n in (1, 5)]),
    ],
)
def test_cases_of_real_folders_are_found(real_data, folder, expected):
    found = find_cases(real_data / folder)
    assert [(c.name, str(c.subset), c.label is not None, c.brain_mask is not None) for c in found] == expected
