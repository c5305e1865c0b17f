"""Splits of a cohort into training, validation and test cases."""

import hashlib
import json
import os
import shutil
from contextlib import nullcontext
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

import small_runs
from anymri.data.case import Case
from anymri.data.layouts.found import NO_LABEL, NOT_UNDERSTOOD
from anymri.errors import AnymriWarning, CohortError, ConfigurationError, GeometryError, InputWarning, RunError
from anymri.modalities import Subset
from anymri.systems.recipes.schema import Split
from anymri.training.cohort.find import prepare
from anymri.training.cohort.split import divide, held_out, read_list
from anymri.training.engine import train
from small_runs import Recorder

TINY = ("network.width=2", "crop=16", "window_overlap=0", "steps_per_epoch=1", "epochs=1", "validation_epochs=1")
NAMES = [f"PHANTOM-0000{number}-000" for number in range(6)]


def configured(place, *assignments, data=None):
    return small_runs.configured(data or place / "cohort", place / "cache", *assignments, base=TINY)


def split_of(place, *assignments, data=None):
    """Return the names of training and validation cases."""
    cohort = prepare(configured(place, *assignments, data=data), lambda *_: None)
    return [case.name for case in cohort.training], [case.name for case in cohort.validation]


def written(path, *lines):
    path.write_text("\n".join(lines) + "\n")
    return path


def strata(**counts):
    """Return patients of the given strata; names that end in `_et` are strata with enhancing tumour."""
    return {f"{name}{i}": (name, name.endswith("_et")) for name, count in counts.items() for i in range(count)}


def counts(patients):
    names = [patient.rstrip("0123456789") for patient in patients]
    return {name: names.count(name) for name in names}


def test_shares_are_even_over_strata_and_of_the_right_size():
    cohort = strata(full=40, full_et=100, some_et=57, few=3)
    held = held_out(cohort, Split(), 0.1, seed=0)
    assert counts(held) == {"full": 4, "full_et": 10, "some_et": 6}
    assert held == held_out(dict(reversed(cohort.items())), Split(), 0.1, seed=0)
    assert held != held_out(cohort, Split(), 0.1, seed=1)


@pytest.mark.parametrize(("patients", "share", "count"), [(4, 0.5, 0), (5, 0.01, 1), (20, 0, 0), (24, 0.05, 1)])
def test_no_patient_is_held_out_of_few_and_at_least_one_of_more(patients, share, count):
    assert len(held_out(strata(full=patients), Split(), share, seed=0)) == count


def test_folds_hold_each_patient_out_once_and_are_even_over_strata():
    cohort = strata(full=11, full_et=23, some_et=8)
    folds = [held_out(cohort, Split(folds=5, fold=fold), 0.1, seed=0) for fold in range(5)]
    assert sorted(p for fold in folds for p in fold) == sorted(cohort)
    assert {len(fold) for fold in folds} == {8, 9}
    for name, count in {"full": 11, "full_et": 23, "some_et": 8}.items():
        assert {counts(fold)[name] for fold in folds} <= {count // 5, count // 5 + 1}


def test_more_folds_than_patients_are_refused():
    with pytest.raises(CohortError, match="5 folds need as many patients, and the cohort has 3"):
        held_out(strata(full=3), Split(folds=5), 0.1, seed=0)


def test_folds_are_chosen_by_two_assignments(place):
    folds = [split_of(place, "split.folds=3", f"split.fold={fold}")[1] for fold in range(3)]
    assert sorted(name for fold in folds for name in fold) == NAMES and [len(fold) for fold in folds] == [2, 2, 2]


@pytest.mark.parametrize(
    "assignments",
    [
        ["split.fold=1"],
        ["split.folds=3", "split.fold=3"],
        ["split.folds=3", "split.validation=a.txt"],
        ["split.fold=-1"],
    ],
)
def test_contradictory_folds_are_refused_by_their_key(place, assignments):
    with pytest.raises(ConfigurationError, match=r"does not fit: split"):
        configured(place, *assignments)


def test_lists_of_the_community_divide_a_cohort(place, tmp_path):
    train_list = written(tmp_path / "train.txt", *NAMES[:3], "")
    masks = '"[False, False, False, True]"', '"[True, True, False, False]"'
    lines = [f"{name},{mask}" for name, mask in zip(NAMES[3:5], masks, strict=True)]
    validation = written(tmp_path / "val15splits.csv", "case,mask", *lines)
    test = written(tmp_path / "test15splits.csv", "case,mask", f'{NAMES[5]},"[True, False, False, False]"')
    lists = [f"split.train={train_list}", f"split.validation={validation}", f"split.test={test}"]
    cohort = prepare(configured(place, *lists), lambda *_: None)
    assert [case.name for case in cohort.training] == NAMES[:3] and cohort.test == [NAMES[5]]
    # Flags are in the order of the loader that reads such lists: FLAIR, T1c, T1, T2.
    validated_on = {case.name: case.kept.tolist() for case in cohort.validation}
    expected = dict(zip(NAMES[3:5], ("T2", "T1c+FLAIR"), strict=True))
    assert validated_on == {name: list(Subset.parse(subset).flags) for name, subset in expected.items()}
    assert not any(NAMES[5] in what for what in cohort.files) and cohort.files["split.train"] == train_list
    split = cohort.split()
    assert list(split["train"]) == NAMES[:3] and split["test"] == [NAMES[5]] and split["kept"] == expected


def test_without_a_validation_list_a_share_of_the_other_cases_is_held_out(place, tmp_path):
    test = written(tmp_path / "test.txt", NAMES[5])
    training, validation = split_of(place, f"split.test={test}", "validation_share=0.2")
    assert len(validation) == 1 and sorted(training + validation) == NAMES[:5]


def test_unlisted_cases_are_unused_with_a_warning(place, tmp_path):
    train_list = written(tmp_path / "train.txt", *NAMES[1:4])
    with pytest.warns(AnymriWarning, match=r"no list names them: 3 \(PHANTOM-00000-000, PHANTOM-00004-000"):
        assert split_of(place, f"split.train={train_list}") == (NAMES[1:4], [])


@pytest.mark.parametrize(
    ("train_names", "test_names", "message"),
    [
        (
            [NAMES[0], "BraTS-GLI-00000-000"],
            [NAMES[1]],
            "names 1 case that .* not have.*BraTS-GLI-00000-000",
        ),
        (NAMES[:3], NAMES[2:4], "PHANTOM-00002-000 is listed for test and for train"),
        ([NAMES[0], NAMES[0]], [NAMES[1]], r"train\.txt, line 2: case PHANTOM-00000-000 is listed twice"),
        ([""], [NAMES[1]], "is empty"),
    ],
    ids=["unknown case", "in two lists", "listed twice", "empty"],
)
def test_lists_that_do_not_fit_are_refused_before_anything_is_written(
    place, tmp_path, train_names, test_names, message
):
    lists = {
        "train": written(tmp_path / "train.txt", *train_names),
        "test": written(tmp_path / "test.txt", *test_names),
    }
    configuration = configured(place, *(f"split.{part}={file}" for part, file in lists.items()))
    with pytest.raises(CohortError, match=message):
        train(configuration, tmp_path / "run", Recorder())
    assert not (tmp_path / "run").exists()


def test_an_absent_list_is_refused(place, tmp_path):
    with pytest.raises(CohortError, match=r"absent\.txt cannot be read"):
        split_of(place, f"split.test={tmp_path / 'absent.txt'}")


def test_cases_of_one_patient_in_two_parts_are_refused(tmp_path):
    cases = [Case(f"BraTS-GLI-0000{p}-00{t}", {"T1": Path("t1.nii.gz")}) for p in range(3) for t in range(2)]
    test = written(tmp_path / "test.txt", "BraTS-GLI-00001-000")
    with pytest.raises(CohortError, match=r"Patient BraTS-GLI-00001 .*00001-001 in training, .*00001-000 in test"):
        divide(cases, Split(test=test))
    train_list = written(tmp_path / "train.txt", "BraTS-GLI-00000-000", "BraTS-GLI-00000-001")
    divided = divide(cases, Split(train=train_list, test=test))
    assert len(divided.training) == 2 and len(divided.unused) == 3


def test_time_points_of_a_patient_are_held_out_together(place, tmp_path):
    rows = ["case,patient,t1c,flair,label"]
    for name in NAMES:
        for visit in ("a", "b"):
            files = [str(place / "cohort" / name / f"{name}-{suffix}.nii.gz") for suffix in ("t1c", "t2f", "seg")]
            rows.append(",".join([f"{name}{visit}", name, *files]))
    manifest = written(tmp_path / "manifest.csv", *rows)
    with pytest.warns(AnymriWarning, match="T1 or T2"):
        training, validation = split_of(place, "split.folds=3", data=manifest)
    assert len(validation) == 4 and {n[:-1] for n in training}.isdisjoint(n[:-1] for n in validation)


def test_a_list_is_read_with_blank_lines_and_a_byte_order_mark(tmp_path):
    (tmp_path / "train.txt").write_bytes("\ufeffA\r\n\r\n B \n".encode())
    assert read_list(tmp_path / "train.txt") == {"A": None, "B": None}


@pytest.mark.parametrize(
    "masks",
    [
        ("0001", "0010", "0100", "1000"),
        pytest.param(("0010", "1000", "0100", "0001"), id="u_hved"),
        pytest.param(("0010", "0100", "1000", "0001"), id="sfusion"),
    ],
)
def test_masks_of_the_authors_lists_begin_with_the_same_subsets_in_each_order(tmp_path, masks):
    lines = [
        f'{name},"[{", ".join(str(flag == "1") for flag in mask)}]"' for name, mask in zip("abcd", masks, strict=True)
    ]
    path = written(tmp_path / "val15splits.csv", "case,mask", *lines)
    with pytest.warns(InputWarning, match="in the order T1") if masks[0] == "0010" else nullcontext():
        listed = read_list(path)
    assert [str(subset) for subset in listed.values()] == ["T2", "T1", "T1c", "FLAIR"]


def test_the_split_has_a_checksum_and_a_run_is_not_resumed_on_a_changed_cohort(place, tmp_path):
    data = Path(shutil.copytree(place / "cohort", tmp_path / "data"))
    configuration = configured(place, data=data)
    train(configuration, tmp_path / "run", Recorder())
    split = json.loads((tmp_path / "run" / "split.json").read_text())
    checksum, skipped = split.pop("sha256"), split.pop("skipped")
    assert skipped == {}
    assert hashlib.sha256(json.dumps(split, sort_keys=True).encode()).hexdigest() == checksum
    before = (tmp_path / "run" / "split.json").read_bytes()
    shutil.rmtree(data / NAMES[2])
    with pytest.raises(RunError, match=r"cohort has changed.*PHANTOM-00002-000"):
        train(configuration, tmp_path / "run", Recorder(), resume=True)
    assert (tmp_path / "run" / "split.json").read_bytes() == before


def test_what_is_not_used_is_noted_and_recorded_beside_the_split(place, tmp_path):
    data = Path(shutil.copytree(place / "cohort", tmp_path / "data"))
    next((data / NAMES[4]).glob("*-seg.nii.gz")).unlink()
    before = prepare(configured(place, data=place / "cohort"), lambda *_: None).split()
    with pytest.warns(InputWarning, match=rf"Not used are cases without a label map: 1 \({NAMES[4]}\)"):
        without = prepare(configured(place, data=data), lambda *_: None).split()
    assert without["skipped"] == {NO_LABEL: [NAMES[4]]} and without["sha256"] != before["sha256"]
    (data / NAMES[0] / "adc.nii.gz").write_bytes(b"1")
    with pytest.warns(InputWarning) as notes:
        with_more = prepare(configured(place, data=data), lambda *_: None).split()
    assert len(notes) == 2 and with_more["skipped"][NOT_UNDERSTOOD] == [f"{NAMES[0]}/adc.nii.gz"]
    # A run can be resumed beside a new file that is not used.
    assert with_more["sha256"] == without["sha256"]


def test_a_cohort_without_labels_is_refused_after_notes_about_what_is_not_used(place, tmp_path):
    data = Path(shutil.copytree(place / "cohort", tmp_path / "data"))
    for label in data.glob("*/*-seg.nii.gz"):
        label.rename(str(label).replace("-seg", "-prediction"))
    with (
        pytest.warns(InputWarning, match="do not say what they are: 6"),
        pytest.raises(CohortError, match="No case in"),
    ):
        split_of(place, data=data)


def test_label_maps_without_any_tumour_are_noted(place, tmp_path):
    data = Path(shutil.copytree(place / "cohort", tmp_path / "data"))
    for label in data.glob("*/*-seg.nii.gz"):
        image = nib.load(label)
        nib.save(nib.Nifti1Image(np.zeros(image.shape, np.uint8), image.affine), label)
    with pytest.warns(InputWarning, match="No label map in .*data has a voxel of tumour"):
        split_of(place, data=data)


@pytest.mark.parametrize("name", ["train.txt", "train.csv"])
def test_a_list_in_another_encoding_is_refused_with_the_encoding_to_use(tmp_path, name):
    (tmp_path / name).write_text("case\nM\u00fcller\n", encoding="utf-16")
    with pytest.raises(CohortError, match=r"(?s)it is not text in UTF-8.*in UTF-8"):
        read_list(tmp_path / name)


def test_an_unknown_layout_and_label_maps_that_do_not_fit_are_refused_before_the_first_step(place, tmp_path):
    (tmp_path / "odd" / "case").mkdir(parents=True)
    (tmp_path / "odd" / "case" / "picture.nii.gz").write_bytes(b"1")
    with pytest.raises(CohortError, match="No case was found"):
        train(configured(place, data=tmp_path / "odd"), tmp_path / "run", Recorder())
    data = Path(shutil.copytree(place / "cohort", tmp_path / "data"))
    label = next((data / NAMES[4]).glob("*-seg.nii.gz"))
    image = nib.load(label)
    nib.save(nib.Nifti1Image(np.asarray(image.dataobj)[:, :, :-1], image.affine), label)
    with pytest.raises(GeometryError, match=rf"Case {NAMES[4]}: .*seg.*32x32x31"):
        train(configured(place, data=data), tmp_path / "run", Recorder())
    assert not (tmp_path / "run").exists()


def test_a_list_that_is_no_list_is_refused_without_its_content(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    for path in (tmp_path / "pipe", Path("/dev/zero")):
        with pytest.raises(CohortError, match="cannot be read: it is not a regular file"):
            read_list(path)
    secret = written(tmp_path / "passwd", *(f"user{i}:x:{i}:{i}:{'name' * 20}:/home/user{i}" for i in range(30)))
    with pytest.raises(CohortError, match=r"passwd, line 1: .* cannot be the name of a case") as caught:
        read_list(secret)
    assert len(str(caught.value)) < 200 + len(str(secret)) and "user1" not in str(caught.value)
    table = written(tmp_path / "a.csv", "x" * 500)
    with pytest.raises(CohortError, match="The columns of") as caught:
        read_list(table)
    assert len(str(caught.value)) < 200 + len(str(table))


def test_unknown_names_of_a_list_are_shortened(tmp_path):
    listed = written(tmp_path / "train.txt", *(f"{i}{'x' * 100}" for i in range(9)))
    with pytest.raises(CohortError, match=r"names 9 cases that the cohort does not have .*, \.\.\.\.") as caught:
        divide([Case("a", {"T1": Path("t1.nii")})], Split(train=listed))
    assert len(caught.value.what) < 300 + len(str(listed))


def test_a_share_of_few_patients_holds_out_none_with_a_note(place, tmp_path):
    data = tmp_path / "data"
    for name in NAMES[:3]:
        shutil.copytree(place / "cohort" / name, data / name)
    with pytest.warns(AnymriWarning, match="No patient is held out for validation, because only 3 of at least 5"):
        assert split_of(place, "validation_share=0.5", data=data) == (NAMES[:3], [])
    assert split_of(place, "validation_share=0", data=data) == (NAMES[:3], [])
