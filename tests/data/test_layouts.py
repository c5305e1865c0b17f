from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

import anymri
from anymri.data.case import Case
from anymri.data.layouts import case_from_files, find_cases, find_cohort
from anymri.data.layouts.found import (
    INSIDE_A_CASE,
    NO_ANATOMY,
    NO_IMAGE,
    NO_SCAN,
    NO_TUMOUR_NAME,
    NOT_UNDERSTOOD,
    OTHER_FORMAT,
    SEVERAL_SESSIONS,
    TOO_DEEP,
)
from anymri.errors import CohortError, ImageError, InputWarning, ModalityError
from anymri.modalities import ALL


def touch(root: Path, *names: str) -> Path:
    """Create files of one byte: cases are found by names only."""
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(b"1")
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
        (case,) = find_cohort(start).cases
        assert case.name == folder.rpartition("/")[2]
        assert names(case) == expected


def test_cases_are_sorted_by_name_over_nested_folders(tmp_path):
    touch(tmp_path, "HGG/b/b_t1.nii", "LGG/a/a_flair.nii", "LGG/site/2/c/c_t2.nii", "1/2/3/4/5/deep_t1.nii")
    found = find_cohort(tmp_path)
    assert [case.name for case in found.cases] == ["a", "b", "c"]
    assert found.skipped == {TOO_DEEP: ["1/2/3/4/5"]}


def test_folders_below_a_case_belong_to_it(tmp_path):
    touch(tmp_path, "a/a_t1.nii", "a/inpainting/a_t1n-voided.nii", "a/automatic/seg1.nii", "b/seg_1.nii", "b/seg_2.nii")
    found = find_cohort(tmp_path)
    assert [names(case) for case in found.cases] == [{"T1": "a_t1.nii"}]
    assert found.skipped == {
        INSIDE_A_CASE: ["a/automatic/seg1.nii", "a/inpainting/a_t1n-voided.nii"],
        NO_SCAN: ["b/seg_1.nii", "b/seg_2.nii"],
    }


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


@pytest.mark.parametrize(
    ("files", "cases"),
    [
        ("Patient-001/week-000-1/t1 Patient-001/week-044/t1", "Patient-001_week-000-1 Patient-001_week-044"),
        ("ID_03/Timepoint_1/ID_03_Timepoint_1_t1", "ID_03_Timepoint_1"),
        ("RHUH-0001/0/t1 RHUH-0002/0/t1 RHUH-0002/1/t1", "RHUH-0001_0 RHUH-0002_0 RHUH-0002_1"),
        ("P1/20190101/t1 P1/2020-02-03/t1 Smith/20190101/t1", "P1_20190101 P1_2020-02-03 Smith_20190101"),
        ("P1/nifti/t1 P1/more/t1 P2/nifti/t1", "P1_more P1_nifti P2_nifti"),
        ("P1/t1_week1 P1/t1_week2 P1/t2_week2", "P1_week1 P1_week2"),
        ("P1/P1_week1/t1 P1/P1_week2/t1", "P1_week1 P1_week2"),
    ],
)
@pytest.mark.parametrize("group", ["", "HGG/"])
def test_visits_in_the_folder_of_a_patient_keep_the_patient(tmp_path, files, cases, group):
    found = find_cohort(touch(tmp_path / "cohort", *(f"{group}{file}.nii" for file in files.split()))).cases
    assert [case.name for case in found] == cases.split()
    assert {case.patient for case in found} == {file.split("/")[0] for file in files.split()}


@pytest.mark.parametrize(
    "files",
    ["001/t1 002/t1", "HGG/001/t1 LGG/002/t1", "site1/001/t1 site1/002/t1", "BraTS2021/00001/t1 20190045/t1"],
)
def test_folders_of_groups_are_no_patients(tmp_path, files):
    found = find_cohort(touch(tmp_path / "cohort-7", *(f"{file}.nii" for file in files.split()))).cases
    expected = sorted(file.split("/")[-2] for file in files.split())
    assert [case.name for case in found] == [case.patient for case in found] == expected


def test_visits_of_the_one_patient_that_is_the_cohort_keep_the_patient(tmp_path, monkeypatch):
    monkeypatch.chdir(touch(tmp_path / "P1", "week-0/t1.nii", "20190101/t1.nii"))
    for root in (Path(), tmp_path / "P1"):
        assert [(case.name, case.patient) for case in find_cases(root)] == [("P1_20190101", "P1"), ("P1_week-0", "P1")]


@pytest.mark.parametrize(
    ("files", "cases"),
    [
        (
            "pat1/VSD.Brain.XX.O.MR_Flair.35535/VSD.Brain.XX.O.MR_Flair.35535.mha "
            "pat1/VSD.Brain.XX.O.MR_T1c.35536/VSD.Brain.XX.O.MR_T1c.35536.mha "
            "pat1/VSD.Brain_3more.XX.O.OT.42283/VSD.Brain_3more.XX.O.OT.42283.mha",
            {"pat1": "T1c FLAIR label"},
        ),
        (
            "E-1/1_T1/NIFTI/T1.nii.gz E-1/2_T1GD/NIFTI/T1GD.nii.gz E-2/2_T1GD/NIFTI/T1GD.nii.gz",
            {"E-1": "T1 T1c", "E-2": "T1c"},
        ),
        ("P1/A_T1/A_T1.nii P1/A_T2/A_T2.nii P1/B_T1/B_T1.nii", {"A": "T1 T2", "B": "T1"}),
        ("A/T1.nii B/FLAIR.nii", {"A": "T1", "B": "FLAIR"}),
        ("A_T1/T1.nii B_FLAIR/FLAIR.nii", {"A_T1": "T1", "B_FLAIR": "FLAIR"}),
        ("P1/T1/T1.nii P1/x/T1.nii", {"T1": "T1", "x": "T1"}),
    ],
)
def test_folders_of_one_scan_each_are_one_case(tmp_path, files, cases):
    found = find_cohort(touch(tmp_path, *files.split()))
    assert {case.name: list(case.files()) for case in found.cases} == {
        name: roles.split() for name, roles in cases.items()
    }
    assert found.skipped == {}


def test_folders_of_one_scan_each_are_refused_where_their_names_could_be_of_several_cases(tmp_path):
    with pytest.raises(CohortError, match="could belong to one case or to 2"):
        find_cohort(touch(tmp_path, "P1/A_T1/A_T1.nii", "P1/B_T2/B_T2.nii"))


def test_folder_without_a_case_raises_an_error_with_the_layouts(tmp_path):
    touch(tmp_path, "readme.md", "scan.nii.gz")
    with pytest.raises(
        CohortError, match=r"(?s)No case was found in .*: 1 \(scan\.nii\.gz\)\..*CSV manifest.*nnU-Net.*BIDS"
    ):
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
    found = find_cohort(tmp_path)
    first, second, third = found.cases
    assert found.skipped == {
        NOT_UNDERSTOOD: ["sub-01/ses-1/anat/sub-01_ses-1_T1map.nii.gz"],
        NO_TUMOUR_NAME: ["derivatives/experts/sub-03/anat/sub-03_dseg.nii.gz"],
    }
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


@pytest.mark.parametrize(
    ("file", "label"),
    [
        ("sub-1/anat/sub-1_label-lesion_roi.nii.gz", True),
        ("sub-1/anat/sub-1_seg.mha", True),
        ("sub-1/anat/sub-1_desc-aseg_dseg.nii.gz", False),
        ("sub-1/anat/sub-1_label-GM_mask.nii.gz", False),
        ("sub-1/anat/sub-1_label-ET_mask.nii.gz", False),
        ("sub-1/anat/sub-1_mask.nii.gz", False),
        ("derivatives/x/sub-1/anat/sub-1_label-hippocampus_seg.nii.gz", False),
        ("derivatives/x/sub-1/anat/sub-1_label-lesion_mask.mha", True),
        ("derivatives/x/sub-1/anat/sub-1_space-T1w_desc-tumor_dseg.nii", True),
        ("derivatives/x/sub-1_seg.nrrd", True),
        ("derivatives/tumour_masks/sub-1/sub-1_dseg.mgz", True),
        ("derivatives/x/sub-1/anat/sub-1_space_T1_label-tumor.nii", True),
        ("derivatives/x/sub-1/anat/sub-1_label-tumorcore.nii", False),
        ("derivatives/smriprep/sub-1/anat/sub-1_dseg.nii.gz", False),
        ("derivatives/smriprep/sub-1/anat/sub-1_desc-aseg_dseg.nii.gz", False),
        ("derivatives/smriprep/sub-1/anat/sub-1_desc-brain_mask.nii.gz", False),
        ("derivatives/smriprep/sub-1/anat/sub-1_label-GM_probseg.nii.gz", False),
        ("derivatives/.trash/sub-1/sub-1_seg.nii.gz", False),
        (".git/sub-1/anat/sub-1_seg.nii.gz", False),
    ],
)
def test_bids_label_maps_are_those_that_show_a_tumour(tmp_path, file, label):
    (case,) = find_cohort(touch(tmp_path, "sub-1/anat/sub-1_T1w.nii.gz", file)).cases
    assert names(case) == {"T1": "sub-1_T1w.nii.gz"} | ({"label": Path(file).name} if label else {})


def test_bids_segmentations_of_an_anatomical_pipeline_are_not_labels_in_its_own_folder_either(tmp_path):
    root = tmp_path / "derivatives" / "smriprep"
    touch(root, "sub-1/anat/sub-1_desc-preproc_T1w.nii.gz", "sub-1/anat/sub-1_dseg.nii.gz")
    touch(root, "sub-1/anat/sub-1_desc-brain_mask.nii.gz")
    for start in (root, root / "sub-1" / "anat"):
        found = find_cohort(start)
        assert list(found.cases[0].files()) == ["T1", "brain_mask"] and list(found.skipped) == [NOT_UNDERSTOOD]


def test_bids_maps_in_derivatives_that_are_not_used_are_noted(tmp_path):
    maps = [f"derivatives/x/sub-1/sub-1_{name}.nii" for name in ("desc-aseg_dseg", "desc-brain_mask", "label-GM")]
    touch(tmp_path, "sub-1/anat/sub-1_T1w.nii", "derivatives/x/P1_tumor_seg.nii", *maps)
    assert find_cohort(tmp_path).skipped == {NO_SCAN: ["derivatives/x/P1_tumor_seg.nii"], NO_TUMOUR_NAME: maps}


def test_bids_label_maps_without_a_session_belong_to_the_only_session(tmp_path):
    touch(tmp_path, "sub-1/ses-1/anat/sub-1_ses-1_T1w.nii.gz", "sub-2/ses-1/anat/sub-2_ses-1_T1w.nii.gz")
    touch(tmp_path, "sub-2/ses-2/anat/sub-2_ses-2_T1w.nii.gz", "sub-3/anat/sub-3_seg.nii.gz", "sub-4/sub-4_T1w.nii")
    touch(tmp_path, *(f"derivatives/x/sub-{n}_seg.nii.gz" for n in range(1, 4)), "sub-1/anat/sub-1_notes.txt")
    touch(tmp_path, "sub-2/ses-3/anat/sub-2_ses-3_seg.nii.gz", "sub-2/ses-4/dwi/sub-2_ses-4_dwi.nii.gz")
    found = find_cohort(tmp_path)
    assert [case.label is not None for case in found.cases] == [True, False, False]
    assert found.skipped == {
        NO_ANATOMY: ["sub-2_ses-4", "sub-4"],
        SEVERAL_SESSIONS: ["derivatives/x/sub-2_seg.nii.gz"],
        NO_SCAN: [
            "sub-2/ses-3/anat/sub-2_ses-3_seg.nii.gz",
            "sub-3/anat/sub-3_seg.nii.gz",
            "derivatives/x/sub-3_seg.nii.gz",
        ],
    }


@pytest.mark.parametrize("words", ["acq-postcontrast", "acq-gd", "acq-MPRAGEpost", "desc-postGd", "ce-gad"])
def test_bids_entities_with_a_contrast_word_make_t1_into_t1c(tmp_path, words):
    touch(tmp_path, "sub-1/anat/sub-1_T1w.nii.gz", f"sub-1/anat/sub-1_{words}_space-T1w_T1w.nii.gz")
    touch(tmp_path, "sub-1/anat/sub-1_acq-precontrast_T2w.nii.gz", "sub-1/anat/sub-1_space-T1w_FLAIR.nii.gz")
    (case,) = find_cases(tmp_path)
    assert names(case)["T1c"] == f"sub-1_{words}_space-T1w_T1w.nii.gz" and case.subset == ALL


def test_bids_files_of_another_subject_are_refused(tmp_path):
    touch(tmp_path, "sub-1/anat/sub-1_T1w.nii.gz", "sub-1/anat/sub-2_FLAIR.nii.gz")
    with pytest.raises(CohortError, match="named after sub-2, in a folder of sub-1"):
        find_cases(tmp_path)


def test_linked_case_folders_have_the_names_of_the_links(tmp_path, monkeypatch):
    touch(tmp_path, *(f"store/{n}/nifti/{file}.nii.gz" for n in (1, 2) for file in ("t1c", "seg")))
    (tmp_path / "view").mkdir()
    for n in (1, 2):
        (tmp_path / "view" / f"PAT-{n}").symlink_to(f"../store/{n}/nifti")
    assert [case.name for case in find_cases(tmp_path / "view")] == ["PAT-1", "PAT-2"]
    assert find_cases(tmp_path / "view" / "PAT-1")[0].name == "PAT-1"
    monkeypatch.chdir(tmp_path / "view" / "PAT-1")
    assert find_cases(Path())[0].name == "nifti"


def test_links_to_folders_above_end(tmp_path):
    touch(tmp_path, "cohort/a/a_t1.nii", "cohort/b/b_t1.nii", "other/c/c_t1.nii")
    for place, target in {"self": ".", "above": "..", "a/back": "../.."}.items():
        (tmp_path / "cohort" / place).symlink_to(target)
    found = find_cohort(tmp_path / "cohort")
    assert [case.name for case in found.cases] == ["a", "b"] and found.skipped == {}


def test_links_of_derivatives_to_their_raw_data_are_not_followed(tmp_path):
    touch(tmp_path, "sub-1/anat/sub-1_T1w.nii", "sub-1/anat/sub-1_seg.nii", "derivatives/x/notes.txt")
    (tmp_path / "derivatives" / "x" / "sourcedata").symlink_to("../..")
    assert [names(case) for case in find_cases(tmp_path)] == [{"T1": "sub-1_T1w.nii", "label": "sub-1_seg.nii"}]


BROKEN = {
    "is a link that points nowhere": lambda file: file.symlink_to("gone.nii"),
    "cannot be opened": lambda file: file.symlink_to(file.name),
    "is empty": lambda file: file.touch(),
    "is not a regular file": os.mkfifo,
    "is a folder": lambda file: file.mkdir(),
}


@pytest.mark.parametrize("reason", BROKEN)
@pytest.mark.parametrize(
    "place",
    [
        "a/a_flair.nii",
        "a/unknown.nii",
        "imagesTr/A_0001.nii",
        "sub-1/anat/sub-1_FLAIR.nii",
        "derivatives/sub-1_seg.nii",
    ],
)
def test_a_broken_file_is_refused_and_never_a_missing_modality(tmp_path, reason, place):
    if place.startswith("imagesTr"):
        nnunet(tmp_path, {"0": "T1", "1": "FLAIR"})
    touch(tmp_path, "sub-1/anat/sub-1_T1w.nii" if "sub" in place else "a/a_t1.nii")
    (tmp_path / place).parent.mkdir(exist_ok=True)
    BROKEN[reason](tmp_path / place)
    with pytest.raises(ImageError, match=f"{place} {reason}"):
        find_cases(tmp_path)


@pytest.mark.parametrize("reason", BROKEN)
def test_a_broken_file_of_a_manifest_or_option_is_refused(tmp_path, reason):
    BROKEN[reason](tmp_path / "b.nii")
    with pytest.raises(CohortError, match=rf"line 2: .*b\.nii \(FLAIR\) {reason}"):
        find_cases(manifest(tmp_path, "case,t1,flair\na,scans/1.nii,b.nii\n"))
    with pytest.raises(ImageError, match=rf"b\.nii \(FLAIR\) {reason}"):
        case_from_files({"flair": tmp_path / "b.nii"})


@pytest.mark.skipif(os.name != "posix" or os.geteuid() == 0, reason="the superuser may read all files")
def test_files_and_folders_without_permission_are_refused(tmp_path):
    touch(tmp_path, "a/a_t1.nii", "b/b_t1.nii")
    for path in (tmp_path / "a" / "a_t1.nii", tmp_path / "b"):
        path.chmod(0)
        with pytest.raises(ImageError, match=f"{path}.* cannot be"):
            find_cases(tmp_path)
        path.chmod(0o700)


def test_links_to_case_folders_that_point_nowhere_are_noted(tmp_path):
    touch(tmp_path, "a/a_t1.nii")
    (tmp_path / "b").symlink_to("gone")
    with pytest.warns(InputWarning, match=r"Not used are links that point nowhere: 1 \(b\)"):
        assert len(find_cases(tmp_path)) == 1


def test_folders_without_images_and_scans_in_other_formats_are_noted(tmp_path):
    touch(tmp_path, "a/a_t1.nii", "a/a_flair.hdr", "a/a_flair.img", "b/1.dcm", "c/notes.txt", "a/a_t1.json")
    touch(tmp_path, "a/a_t2.nii.gz.part")
    assert find_cohort(tmp_path).skipped == {
        OTHER_FORMAT: ["a/a_flair.hdr", "a/a_flair.img", "a/a_t2.nii.gz.part", "b/1.dcm"],
        NO_IMAGE: ["c"],
    }


def test_what_is_not_used_is_noted_once_per_reason_with_count_and_names(tmp_path):
    touch(tmp_path, "a/a_t1.nii", *(f"a/unknown_{n}.nii" for n in range(7)), "b/b_seg.nii", "a/deep/x.nii")
    with pytest.warns(InputWarning) as notes:
        anymri.find_cases(tmp_path)
    assert [str(note.message) for note in notes] == [
        "Not used are images whose names do not say what they are: 7 (a/unknown_0.nii, a/unknown_1.nii, "
        "a/unknown_2.nii, a/unknown_3.nii, a/unknown_4.nii, ...).",
        "Not used are images in folders inside a case folder: 1 (a/deep/x.nii).",
        "Not used are label maps without a scan of the same case: 1 (b/b_seg.nii).",
    ]


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
    training, test = find_cases(nnunet(tmp_path, {"0": "FLAIR", "1": "T1 post contrast"}))
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
        ({"0": "T1_T2", "1": "T1"}, "not different modalities"),
        ({"0": "T1"}, "channel 1"),
        (["T1", "T2"], "channel_names .* cannot be read"),
        ({"first": "T1"}, "channel_names .* cannot be read"),
    ],
)
def test_nnunet_channels_of_unknown_modality_are_refused(tmp_path, channel_names, words):
    with pytest.raises(CohortError, match=words):
        find_cases(nnunet(tmp_path, channel_names))


def test_nnunet_files_that_are_not_used_are_noted(tmp_path):
    nnunet(tmp_path, {"0": "T1", "1": "T2"})
    found = find_cohort(touch(tmp_path, "imagesTr/A.nii.gz", "imagesTr/A_01.nii.gz", "labelsTr/B.nii.gz"))
    assert found.skipped == {
        NOT_UNDERSTOOD: ["imagesTr/A.nii.gz", "imagesTr/A_01.nii.gz"],
        NO_SCAN: ["labelsTr/B.nii.gz"],
    }


def test_dataset_json_may_begin_with_a_byte_order_mark(tmp_path):
    path = nnunet(tmp_path, {"0": "FLAIR", "1": "T1"}) / "dataset.json"
    path.write_bytes(b"\xef\xbb\xbf" + path.read_bytes())
    assert [str(case.subset) for case in find_cases(tmp_path)] == ["T1+FLAIR", "T1"]


def test_nnunet_without_dataset_json_raises_an_error_with_an_example(tmp_path):
    (nnunet(tmp_path, {}) / "dataset.json").unlink()
    with pytest.raises(CohortError, match=r"(?s)dataset\.json is missing.*channel_names"):
        find_cases(tmp_path)


def test_dataset_json_that_is_not_a_file_is_refused(tmp_path):
    (nnunet(tmp_path, {}) / "dataset.json").unlink()
    os.mkfifo(tmp_path / "dataset.json")
    with pytest.raises(CohortError, match=r"dataset\.json is not a regular file"):
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
        ("", "cohort.csv is empty"),
        ("\n", "cohort.csv is empty"),
        (",\n", "line 1: the names of the columns are empty"),
        ("case,t1c,label\na,seg.nii,seg.nii\n", "line 2: One file is given as T1c and as label: .*seg.nii"),
    ],
)
def test_manifest_error_names_the_line(tmp_path, text, words):
    with pytest.raises(CohortError, match=words):
        find_cases(manifest(tmp_path, text))


def test_binary_file_is_refused_as_a_manifest(tmp_path):
    (tmp_path / "a.csv").write_bytes(b"\xff\xfe\x00\x80" * 50)
    with pytest.raises(CohortError, match="cannot be read: it is not text in UTF-8"):
        find_cases(tmp_path / "a.csv")


@pytest.mark.parametrize("encoding", ["utf-16", "latin-1"])
def test_a_manifest_in_another_encoding_is_refused_with_the_encoding_to_use(tmp_path, encoding):
    (tmp_path / "a.csv").write_text("case,t1\nM\u00fcller,1.nii\n", encoding=encoding)
    with pytest.raises(CohortError, match=r"(?s)cannot be read: it is not text in UTF-8.*Save it as CSV in UTF-8"):
        find_cases(tmp_path / "a.csv")


def test_one_image_is_refused_as_a_cohort(tmp_path):
    with pytest.raises(CohortError, match=r"1\.nii is neither a folder nor a CSV manifest"):
        find_cases(touch(tmp_path, "1.nii") / "1.nii")


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


@pytest.mark.parametrize("link", ["same name", "hard link", "symbolic link"])
def test_one_file_in_two_roles_is_refused(tmp_path, link):
    first = touch(tmp_path, "1.nii") / "1.nii"
    second = first if link == "same name" else tmp_path / "2.nii"
    if link == "hard link":
        second.hardlink_to(first)
    elif link == "symbolic link":
        second.symlink_to(first)
    for other in ({"scans": {"t1": first, "t1c": second}}, {"scans": {"t1": first}, "brain_mask": second}):
        with pytest.raises(CohortError, match=rf"One file is given as T1 and as (T1c|brain mask): .*{second.name}"):
            case_from_files(**other)


def test_links_of_one_scan_as_two_modalities_in_a_folder_are_refused(tmp_path):
    touch(tmp_path, "a/t1.nii")
    (tmp_path / "a" / "t1c.nii").symlink_to("t1.nii")
    with pytest.raises(CohortError, match=r"given as T1 and as T1c: .*t1\.nii and .*t1c\.nii"):
        find_cases(tmp_path)


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
    found = find_cohort(real_data / folder).cases
    assert [(c.name, str(c.subset), c.label is not None, c.brain_mask is not None) for c in found] == expected
