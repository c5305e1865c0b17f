"""Cohorts as data sets of nnU-Net: what it needs, and the way back of its predictions to `anymri score`."""

import json
import shutil

import nibabel as nib
import numpy as np
import pytest

from anymri.data.image import read_image
from anymri.data.layouts import find_cases
from anymri.errors import CohortError, ConfigurationError, InputWarning, OutputError
from anymri.export.nnunet import export_nnunet
from anymri.modalities import ALL, Subset
from anymri.regions import SCHEMES, label_scheme
from anymri.synthesis.phantoms import write_cohort
from cli.command import anymri, check_refused

T1C_FLAIR = Subset.parse("T1c+FLAIR")
NAME = "Dataset501_Tumour"


@pytest.fixture
def cohort(tmp_path):
    """Cohort of three phantoms, of which the last one has no T2 and the second one no label map."""
    folder = tmp_path / "cohort"
    write_cohort(folder, 3, size=32)
    cases = find_cases(folder)
    cases[2].scans["T2"].unlink()
    cases[1].label.unlink()
    return folder


def test_the_data_set_has_all_that_nnunet_checks(cohort, tmp_path):
    with pytest.warns(InputWarning, match="without all of T1\\+T1c\\+T2\\+FLAIR: 1"):
        made = export_nnunet(cohort, tmp_path / NAME, label_scheme("brats2023"), ALL)
    cases = find_cases(cohort)
    assert made.training == (cases[0].name,) and made.test == (cases[1].name,)
    assert made.left_out == {cases[2].name: "T1+T1c+FLAIR"}
    dataset = json.loads((made.folder / "dataset.json").read_text())
    assert dataset["channel_names"] == {"0": "T1", "1": "T1c", "2": "T2", "3": "FLAIR"}
    assert dataset["labels"] == {"background": 0, "NCR": 1, "ED": 2, "ET": 3}
    assert dataset["numTraining"] == len(list((made.folder / "labelsTr").iterdir())) == 1
    name = cases[0].name
    files = sorted(path.name for path in (made.folder / "imagesTr").iterdir())
    assert files == [f"{name}_{channel:04d}.nii.gz" for channel in range(4)]
    label = nib.load(made.folder / "labelsTr" / f"{name}.nii.gz")
    for file in files:
        scan = nib.load(made.folder / "imagesTr" / file)
        assert scan.shape == label.shape
        np.testing.assert_allclose(scan.affine, label.affine)
    assert not (made.folder / "labelsTs").exists()


def test_labels_of_every_scheme_have_values_without_gaps(cohort, tmp_path):
    for number, scheme in enumerate(SCHEMES.values()):
        classes = sorted({0, *scheme.values.values()})
        assert classes == list(range(len(classes))), scheme.name
        if scheme.name == "brats2021":  # 1, 2 and 4 in the files
            case, _, other = find_cases(cohort)
            image = read_image(case.label)
            old = np.array([0, 1, 2, 4], np.uint8)[image.array.astype(int)]
            for file in (case.label, other.label):
                nib.save(nib.Nifti1Image(old, image.affine), file)
            made = export_nnunet(cohort, tmp_path / f"Dataset{number:03d}_X", scheme, T1C_FLAIR)
            written = read_image(made.folder / "labelsTr" / f"{case.name}.nii.gz")
            np.testing.assert_array_equal(written.array, image.array)


def test_a_scan_with_other_axes_is_written_on_the_grid_of_its_case(cohort, tmp_path):
    case = find_cases(cohort)[0]
    original = nib.load(case.scans["FLAIR"])
    values = original.get_fdata()
    turned = nib.as_closest_canonical(original)
    assert nib.aff2axcodes(turned.affine) != nib.aff2axcodes(original.affine)
    nib.save(turned, tmp_path / "turned.nii.gz")
    shutil.move(tmp_path / "turned.nii.gz", case.scans["FLAIR"])
    made = export_nnunet(cohort, tmp_path / NAME, label_scheme("brats2023"), T1C_FLAIR)
    written = nib.load(made.folder / "imagesTr" / f"{case.name}_0001.nii.gz")
    np.testing.assert_allclose(written.affine, nib.load(case.scans["T1c"]).affine)
    np.testing.assert_allclose(written.get_fdata(), values, rtol=1e-6)


def test_the_data_set_is_a_cohort_again_with_the_same_content(cohort, tmp_path):
    made = export_nnunet(cohort, tmp_path / NAME, label_scheme("brats2023"), T1C_FLAIR)
    before, after = find_cases(cohort), find_cases(made.folder)
    assert [case.name for case in after] == [case.name for case in before]
    for old, new in zip(before, after, strict=True):
        for modality in T1C_FLAIR:
            assert new.scans[modality].read_bytes() == old.scans[modality].read_bytes()
        assert (new.label is None) == (old.label is None)


def test_predictions_of_nnunet_are_scored_under_the_names_of_the_cases(cohort, tmp_path):
    done = anymri(
        "export", cohort, "--to", "nnunet", "--label-scheme", "brats2023", "--subset", "T1c+FLAIR",
        "-o", tmp_path / NAME, "--json",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert len(json.loads(done.stdout)["result"]["cases"]) == 3
    # The folder that nnUNetv2_predict writes.
    predictions = tmp_path / "predictions"
    shutil.copytree(tmp_path / NAME / "labelsTr", predictions)
    for name in ("dataset.json", "plans.json", "predict_from_raw_data_args.json"):
        (predictions / name).write_text("{}")
    scored = anymri(
        "score", predictions, "--labels", tmp_path / NAME, "--label-scheme", "brats2023", "--subset", "T1c+FLAIR",
        "--metrics", "dice", "-o", tmp_path / "scores", "--json",
    )  # fmt: skip
    assert scored.returncode == 0, scored.stderr
    means = json.loads(scored.stdout)["result"]["means"]
    assert {mean["mean"] for mean in means} == {1.0} and {mean["subset"] for mean in means} == {"T1c+FLAIR"}


def test_what_nnunet_cannot_take_is_refused_with_the_way_out(cohort, tmp_path):
    scheme = label_scheme("brats2023")
    with pytest.raises(ConfigurationError, match="cannot find a data set in a folder named out") as refused:
        export_nnunet(cohort, tmp_path / "out", scheme, ALL)
    assert "Dataset501" in refused.value.fix
    for case in find_cases(cohort):
        case.scans["T1"].unlink()
    with pytest.raises(CohortError, match="has all of T1") as refused:
        export_nnunet(cohort, tmp_path / NAME, scheme, ALL)
    assert "--subset: 2 of 3 cases have T1c+T2+FLAIR" in refused.value.fix
    (tmp_path / NAME).mkdir()
    (tmp_path / NAME / "file").touch()
    with pytest.raises(OutputError, match="not an empty folder"):
        export_nnunet(cohort, tmp_path / NAME, scheme, T1C_FLAIR)
    check_refused(anymri("export", cohort, "--to", "nnunet", "-o", tmp_path / "Dataset001_A"), "--label-scheme")


def test_a_case_that_cannot_be_read_leaves_nothing(cohort, tmp_path):
    case = find_cases(cohort)[2]
    case.scans["FLAIR"].write_bytes(case.scans["FLAIR"].read_bytes()[:500])
    refused = anymri(
        "export", cohort, "--to", "nnunet", "--label-scheme", "brats2023", "--subset", "FLAIR", "-o", tmp_path / NAME
    )
    check_refused(refused, case.scans["FLAIR"].name)
    assert [path.name for path in tmp_path.iterdir()] == ["cohort"]
