"""Roles that names give to files, and which files of a folder belong to one case; the rules are in docs/data.md."""

import pytest

from anymri.data.layouts import find_cohort
from anymri.data.layouts.found import NO_SCAN, NOT_UNDERSTOOD
from anymri.data.layouts.names import role_of_name
from anymri.data.layouts.roles import Unclear
from anymri.errors import CohortError

UNCLEAR = "unclear"

NAMES = {
    "T1": (
        "T1 t1n T1w T1_pre T1_precontrast T1_pre_contrast T1_without_contrast T1-non-contrast T1_wo_contrast "
        "T1_w_o_gd T1_unenhanced T1_nativ T1_oKM T1_postop T1_post_op T1_reg T1_brain T1_bet T1_to_T1c "
        "T1_to_T1_post T1toFLAIR 2_T1 reg_T1 rT1 sri24_t1_1mm_skull_stripped GD_012_T1 native_t1 hdbet_native_t1 "
        "T1_sans_gado T1_sin_contraste T1_senza_contrasto T1_med_post_op T1_GRE T1_in_atlas_space T1_to_template GM_T1 "
        "T1_zonder_contrast T1_senza_mdc T1_minus_contrast T1_prior_to_gad T1_contrast_none T1_C- T1-"
    ),
    "T1c": (
        "T1c T1WITHCONTRAST T1_ax_C C+T1 T1_inj T1_Dotarem t1ce T1CE T1Gd T1_Gd T1w_Gd T1_gad T1_gado "
        "T1-gadolinium T1_c T1+C T1+ T1_post T1w_post t1post postT1 T1wPost T1_contrast AX_T1_MEMP_POST "
        "T1W_SE_postGd T1_KM T1_mKM T1_with_contrast T1_enhanced Gd_T1 CT1_r2s_bet T1c_subtrMeanDivStd "
        "T1_enh T1_avec_gado T1_con_contrasto T1_met_contrast T1_mit_KM T1_med_kontrast T1_with_gd T1_post_delayed "
        "T1_post_to_FLAIR VSD.Brain.XX.O.MR_T1c.54193"
    ),
    "T2": "T2 t2w T2_reg_T1c T2_to_FLAIR t_2_T2 AX_T2_POST t2_tse",
    "FLAIR": (
        "FLAIR t2_tirm_tra_dark-fluid fla t2f T2-FLAIR t2_flair T2_AX_FLAIR FLAIR_to_T1 FLAIRtoT1 FLAIR2T1 "
        "FLAIR_2_T1 FLAIR_in_T1 FLAIR_on_T1 FLAIR_registered_to_T1 FLAIR_space-T1w sub-01_space-T1w_FLAIR "
        "3D_SAG_T2_SPACE_FLAIR T2_FLAIR_to_T1 FLAIR_post Flair_subtr 3dflair flair1"
    ),
    "label": (
        "seg Segm segmentation label labels label_map seg_map gt truth ground_truth GroundTruth OTMultiClass seg1 "
        "seg_1 lesion tumor Tumour roi tumor_mask tumorMask lesionmask brain_tumor_mask t2_tumor_mask "
        "VSD.Brain.XX.O.OT.54517 VSD.Brain_3more.XX.O.OT.42283 "
        "tumor_segmentation tumorseg t1_seg label-lesion_roi label-lesion_dseg automated_approx_segm "
        "W39_1998.09.19_Segm"
    ),
    "brain_mask": "brain_mask brainmask BrainMask T1_brain_mask bet_mask skull_mask skullstrip_mask",
    "mask": "mask MASK P7_mask final_mask",
    None: (
        "T1_template T1_atlas MNI152_T1_1mm T1_pve_0 T1_GM T1_csf T1_biasfield T1_noise T1_gradient T1_phase T1_MIP "
        "T1_localizer T1_sub T1_dixon_fat DTI_T1reg PET_T1 CT_T1 rCBV_T1 TOF_T1 MP2RAGE_INV1_T1 ep2d_diff_b0_T2 T2_GRE "
        "hippocampus_label ventricle_seg vessel_seg stroke_lesion seg_distance "
        "adc dwi T2* T2_SWI T1_DCE T1c_synthetic image MR_Gd post T1map T1_map T2star T2_star T1rho t1n-voided "
        "T1_prob seg_pred prediction pred WM_seg brain_seg tissue_seg aparc+aseg dseg scan_to_T1 scan_t_1 "
        "scan_ct_1 t12 T12 seg_uncertainty"
    ),
    UNCLEAR: (
        "T1_T2 T1T2 FLAIR_T1 FLAIR_T2 T1_FLAIR reg_T1_T2 T2_SPACE_FLAIR T1_to_FLAIR_post WT_brain_mask "
        "T1_IV T1_delayed T1_WO T1_W&WO T1_with_and_without_contrast "
        "T1_pre_post T1c_pre T1n_post T1_mask FLAIR_mask T1_roi FLAIR_lesion WT_mask TCmask et_seg ET_label "
        "whole_tumor_mask tumor_core edema_mask"
    ),
}


@pytest.mark.parametrize(("name", "role"), [(name, role) for role, names in NAMES.items() for name in names.split()])
def test_a_name_gives_a_role(name, role):
    found = role_of_name(name)
    assert (UNCLEAR if isinstance(found, Unclear) else found) == role


def made(root, *names):
    """Create images of one byte and return their folder."""
    for name in names:
        file = root / f"{name}.nii.gz"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(b"1")
    return root


def files(root):
    """Return case -> role -> file name without suffix."""
    cases = find_cohort(root).cases
    return {
        case.name: {role: file.name.removesuffix(".nii.gz") for role, file in case.files().items()} for case in cases
    }


@pytest.mark.parametrize(
    ("names", "cases"),
    [
        ("patA_flair patA_seg patB_t1c", {"patA": "FLAIR label", "patB": "T1c"}),
        ("flair_patA seg_patA t1c_patB", {"patA": "FLAIR label", "patB": "T1c"}),
        ("C_t1 C_mask C_seg D_t1 D_mask", {"C": "T1 label brain_mask", "D": "T1 brain_mask"}),
        ("sub-1_ses-1_T1w sub-1_ses-1_T2w sub-1_ses-2_T1w", {"sub-1_ses-1": "T1 T2", "sub-1_ses-2": "T1"}),
        ("P1_T1_2019 P1_T2_2019 P1_T1_2021", {"P1_2019": "T1 T2", "P1_2021": "T1"}),
        ("001_ax_t1 001_ax_flair 002_ax_t1", {"001": "T1 FLAIR", "002": "T1"}),
        ("T2-study-7_T1 T2-study-8_T1 T2-study-8_FLAIR", {"T2-study-7": "T1", "T2-study-8": "T1 FLAIR"}),
    ],
)
def test_images_of_several_cases_in_one_folder_are_divided_by_their_names(tmp_path, names, cases):
    found = files(made(tmp_path, *names.split()))
    assert {name: list(roles) for name, roles in found.items()} == {
        name: roles.split() for name, roles in cases.items()
    }


@pytest.mark.parametrize(
    "names",
    [
        "P1_T1 P1_FLAIR seg",
        "P1_AX_T1_20200101120000_5 P1_AX_FLAIR_20200101120000_7",
        "brain_T1 FLAIR n4_T2_1mm bet_mask",
        "T1_MEMP_POST FLAIR_CUBE",
        "p1_t1 P1_FLAIR",
        "study3_T2-a_T1 study3_T2-a_seg",
        "rT1 rFLAIR mask",
        "3_AX_T1_PRE 4_AX_FLAIR 5_AX_T2_TSE 9_AX_T1_POST_GD",
        "5_AX_T1 7_AX_FLAIR",
        "study_20190305101010_3_t1_mprage_sag study_20190305101010_4_t2_flair_tra",
        "T1_3 FLAIR_4 T1_Gd_9 seg",
        "T1_sans_gado T1_avec_gado",
        "T1_sin_contraste T1_con_contraste",
        "T1_zonder_contrast T1_met_contrast",
        "T1_senza_mdc T1_con_mdc",
        "CT1_r2s_bet_reg T1_r2s_bet_reg HD-GLIO-AUTO_seg",
        "VSD.Brain.XX.O.MR_Flair.35535 VSD.Brain.XX.O.MR_T1c.35536 VSD.Brain_3more.XX.O.OT.42283",
        "P1_t1 P1_flair P1_BraTS_tumor_seg",
    ],
)
def test_images_whose_names_agree_are_one_case_named_as_the_folder(tmp_path, names):
    found = files(made(tmp_path / "P1", *names.split()))
    assert list(found) == ["P1"] and sorted(found["P1"].values()) == sorted(names.split())


@pytest.mark.parametrize(
    "names",
    [
        "P1/P1_flair P1/P2_t1c",
        "P1/P1_flair P1/P1_t1 P1/P2_seg",
        "flat/P1_flair flat/P2_seg",
        "flat/P1_flair flat/P1_t1 flat/P2_seg",
        "flat/P1_flair flat/P2_flair flat/seg",
        "P1/003_T1 P1/004_FLAIR",
        "flat/patient_1_AX_T1 flat/patient_2_AX_FLAIR",
        "P1/2019_AX_T1 P1/2021_AX_FLAIR",
        "P1/day_1_AX_T1 P1/day_2_AX_FLAIR",
        "P1/P1_1_t1 P1/P1_1_flair P1/P1_2_seg",
        "P1/P1_flair_2019-01-02 P1/P1_t1c_2021-03-04",
        "P1/P1_T1_20190102120000_5 P1/P1_FLAIR_20190103120000_7",
        "P1/P1_flair_day1 P1/P1_t1c_day2",
        "P1/P1_preop_flair P1/P1_postop_t1c",
        "P1/P1_flair_preop P1/P1_t1c_postop",
        "P1/P1_flair_ses-1 P1/P1_t1c_ses-2",
        "sub-01/sub-01_ses-1_T1w sub-01/sub-01_ses-2_FLAIR",
    ],
)
def test_images_that_could_be_of_one_case_or_of_several_are_refused(tmp_path, names):
    with pytest.raises(CohortError, match=r"(?s)could belong to one case or to 2.*CSV manifest"):
        find_cohort(made(tmp_path, *names.split()))


def test_two_label_maps_of_a_case_are_refused_as_such(tmp_path):
    scans_and_maps = [f"P_01/P_01_{name}" for name in ("T1pre", "FLAIR", "BraTS_tumor_seg", "total_cellular_tumor_seg")]
    with pytest.raises(CohortError, match=r"BraTS_tumor_seg.* and .*total_cellular.* both look like the label of one"):
        find_cohort(made(tmp_path, *scans_and_maps))


def test_label_maps_without_a_scan_in_a_flat_folder_are_not_used(tmp_path):
    found = find_cohort(made(tmp_path, "A_t1", "A_seg", "B_t1", "C_seg"))
    assert [case.name for case in found.cases] == ["A", "B"] and found.skipped == {NO_SCAN: ["C_seg.nii.gz"]}


@pytest.mark.parametrize("name", ["T1_T2", "A_final_mask", "A_flair_mask", "A_WT_mask", "T1c_lesion"])
def test_a_name_that_rules_do_not_decide_is_refused_with_the_way_to_say_it(tmp_path, name):
    with pytest.raises(CohortError, match=rf"(?s)role of .*{name}\.nii\.gz is unclear.*CSV manifest.*--t1c"):
        find_cohort(made(tmp_path / "A", "A_t2", name))


def test_a_bare_mask_is_no_brain_mask_where_the_case_is_named_after_a_tumour(tmp_path):
    with pytest.raises(CohortError, match="does not say of what it is a mask"):
        find_cohort(made(tmp_path, "lesion_7/lesion_7_t1", "lesion_7/lesion_7_mask"))


def test_masks_that_rules_do_not_decide_are_not_used_where_there_are_no_scans(tmp_path):
    found = find_cohort(made(tmp_path, "A/A_t1", "masks/A_final_mask", "masks/A_flair_mask"))
    assert found.skipped == {NOT_UNDERSTOOD: ["masks/A_final_mask.nii.gz", "masks/A_flair_mask.nii.gz"]}


def test_a_role_in_the_name_of_a_folder_is_not_that_of_its_files(tmp_path):
    assert files(made(tmp_path / "T1_study", "T1_study_FLAIR", "T1_study_seg")) == {
        "T1_study": {"FLAIR": "T1_study_FLAIR", "label": "T1_study_seg"}
    }
    assert files(made(tmp_path / "FLAIR", "FLAIR_to_T1", "T2")) == {"FLAIR": {"T2": "T2", "FLAIR": "FLAIR_to_T1"}}
    assert files(made(tmp_path / "x_T1", "T1", "T1_post")) == {"x_T1": {"T1": "T1", "T1c": "T1_post"}}
