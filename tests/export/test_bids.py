"""Label maps as derivatives of BIDS: names, sidecars, and the way back as labels of a BIDS data set."""

import json
import re
import shutil

import numpy as np
import pytest

from anymri.data.image import read_image
from anymri.data.layouts import find_cases
from anymri.errors import CohortError, ConfigurationError
from anymri.export.bids import bids_name, export_bids
from anymri.regions import label_scheme
from anymri.synthesis.phantoms import write_cohort
from cli.command import anymri, check_refused
from untrained import write_weights

# Names that the specification allows for segmentations, with the entities in its order.
ALLOWED = re.compile(
    r"(?P<place>sub-[a-zA-Z0-9]+/(ses-[a-zA-Z0-9]+/)?)anat/"
    r"(?P<name>sub-[a-zA-Z0-9]+(_ses-[a-zA-Z0-9]+)?)_space-[a-zA-Z0-9]+_seg-[a-zA-Z0-9]+_dseg\.(nii\.gz|json)"
)


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """Folder with a cohort of two phantoms and its results, as `anymri segment` writes them."""
    folder = tmp_path_factory.mktemp("bids")
    write_cohort(folder / "cohort", 2, size=32)
    weights = write_weights(folder / "w.safetensors")
    done = anymri("segment", folder / "cohort", "--weights", folder / "w.safetensors", "-o", folder / "results")
    assert done.returncode == 0, (done.stderr, weights)
    return folder


def check_names(folder):
    """Check the names of all files below the subjects, and that each label map has its sidecar."""
    files = [path for path in folder.glob("sub-*/**/*") if path.is_file()]
    for file in files:
        found = ALLOWED.fullmatch(file.relative_to(folder).as_posix())
        assert found, file
        assert found["place"] == found["name"].replace("_", "/") + "/"
    stems = [path.name.split(".")[0] for path in files]
    assert all(stems.count(stem) == 2 for stem in stems)
    description = json.loads((folder / "dataset_description.json").read_text())
    assert description["DatasetType"] == "derivative" and description["GeneratedBy"][0]["Name"] == "anymri"
    assert description["Name"] and re.fullmatch(r"1\.\d+\.\d+", description["BIDSVersion"])
    return files


def test_results_become_derivatives_with_sidecars(place, tmp_path):
    done = anymri("export", place / "results", "--to", "bids", "-o", tmp_path / "out", "--json")
    assert done.returncode == 0, done.stderr
    assert len(json.loads(done.stdout)["result"]["cases"]) == 2
    files = check_names(tmp_path / "out")
    assert len(files) == 4
    for file in files:
        if file.suffix == ".json":
            about = json.loads(file.read_text())
            assert about["Manual"] is False and about["SpatialReference"] == "orig" and about["Modalities"]
            continue
        case = next(c for c in find_cases(place / "cohort") if bids_name(c.name) == file.name.split("_space")[0])
        made = place / "results" / case.name / "segmentation.nii.gz"
        assert file.read_bytes() == made.read_bytes()
    rows = (tmp_path / "out" / "seg-tumour_dseg.tsv").read_text().splitlines()
    assert [row.split("\t")[2] for row in rows] == ["abbreviation", "BG", "NCR", "ED", "ET", "RC"]


def test_one_result_is_enough(place, tmp_path):
    one = next(path for path in (place / "results").iterdir() if path.is_dir())
    export_bids(one, tmp_path / "out", None)
    assert len(check_names(tmp_path / "out")) == 2


def test_labels_of_a_cohort_are_found_again_as_labels_of_a_bids_data_set(place, tmp_path):
    """A BIDS data set of the scans, with the export in its derivatives, is read with the same label maps."""
    for case in find_cases(place / "cohort"):
        anat = tmp_path.joinpath("data", *bids_name(case.name).split("_"), "anat")
        anat.mkdir(parents=True)
        shutil.copy(case.scans["FLAIR"], anat / f"{bids_name(case.name)}_FLAIR.nii.gz")
    export_bids(place / "cohort", tmp_path / "data" / "derivatives" / "anymri", label_scheme("brats2023"))
    found = find_cases(tmp_path / "data")
    for old, new in zip(find_cases(place / "cohort"), found, strict=True):
        np.testing.assert_array_equal(read_image(new.label).array, read_image(old.label).array)


@pytest.mark.parametrize(
    ("case", "name"),
    [
        ("BraTS-GLI-00012-001", "sub-BraTSGLI00012_ses-001"),
        ("sub-01_ses-02", "sub-01_ses-02"),
        ("sub-01", "sub-01"),
        ("patient 7", "sub-patient7"),
    ],
)
def test_names_of_cases_become_subjects_and_sessions(case, name):
    assert bids_name(case) == name


def test_what_bids_cannot_hold_is_refused(place, tmp_path):
    with pytest.raises(ConfigurationError, match="meaning of the label values"):
        export_bids(place / "cohort", tmp_path / "out", None)
    for name in ("a-1", "a1"):
        write_cohort(tmp_path / "two" / name, 1, size=32)
        (case,) = find_cases(tmp_path / "two" / name)
        case.label.parent.rename(tmp_path / "two" / f"{name}-case")
    manifest = tmp_path / "two.csv"
    rows = ["case,t1c,label"]
    for name in ("a-1", "a1"):
        folder = tmp_path / "two" / f"{name}-case"
        scan, label = (next(folder.glob(f"*-{kind}.nii.gz")) for kind in ("t1c", "seg"))
        rows.append(f"{name},{scan},{label}")
    manifest.write_text("\n".join(rows))
    with pytest.raises(CohortError, match="are both sub-a1 in BIDS"):
        export_bids(manifest, tmp_path / "out", label_scheme("brats2023"))
    damaged = tmp_path / "damaged"
    shutil.copytree(next(path for path in (place / "results").iterdir() if path.is_dir()), damaged)
    (damaged / "provenance.json").write_text("{}")
    check_refused(anymri("export", damaged, "--to", "bids", "-o", tmp_path / "out"), "not the provenance")
    assert not (tmp_path / "out").exists()
