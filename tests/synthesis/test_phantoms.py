"""Phantoms: reproducible, well-formed, and difficult where patients are."""

import nibabel as nib
import numpy as np
import pytest
from numpy.random import PCG64, Generator, SeedSequence
from scipy.ndimage import binary_dilation, binary_erosion

from anymri.errors import ConfigurationError, OutputError
from anymri.modalities import MODALITIES
from anymri.regions import ED, ET, NCR
from anymri.synthesis import phantoms
from anymri.synthesis.anatomy import CSF, GREY, WHITE, draw_anatomy
from anymri.synthesis.phantoms import phantom, write_cohort

SMALL = 32
MEDIUM = 64


@pytest.fixture(scope="module")
def cases():
    return [phantom((7, index), MEDIUM) for index in range(10)]


@pytest.fixture(scope="module")
def tissue_maps():
    return [draw_anatomy(Generator(PCG64(SeedSequence((7, index)))), MEDIUM).tissue for index in range(5)]


def effect(image, inside, outside):
    """Return the difference of the means in units of the common standard deviation."""
    a, b = image[inside].astype(float), image[outside].astype(float)
    return (a.mean() - b.mean()) / np.sqrt((a.var() + b.var()) / 2)


def mean_effect(cases, modality, inside, outside, size=np.asarray):
    """Return the mean of `size` of the effect between two labels, over the cases with 50 voxels or more of both."""
    pairs = [(p.images[modality], p.labels == inside, p.labels == outside) for p in cases]
    effects = [size(effect(*pair)) for pair in pairs if min(pair[1].sum(), pair[2].sum()) >= 50]
    assert len(effects) >= 6
    return np.mean(effects)


def files(folder):
    return {path.relative_to(folder): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_same_seed_gives_the_same_voxels():
    first, second = phantom(3, SMALL), phantom(3, SMALL)
    np.testing.assert_array_equal(first.labels, second.labels)
    for modality in MODALITIES:
        np.testing.assert_array_equal(first.images[modality], second.images[modality])


def test_different_case_or_seed_gives_a_different_brain():
    reference = phantom((0, 0), SMALL)
    for seed in ((0, 1), (1, 0)):
        assert (phantom(seed, SMALL).images["T1"] != reference.images["T1"]).mean() > 0.1


def test_longer_cohort_begins_with_the_shorter_one(tmp_path):
    short, long = tmp_path / "short", tmp_path / "long"
    write_cohort(short, 2, seed=4, size=SMALL)
    cases = write_cohort(long, 3, seed=4, size=SMALL)
    assert [case.name for case in cases] == ["PHANTOM-04000-000", "PHANTOM-04001-000", "PHANTOM-04002-000"]
    written = files(long)
    assert files(short) == {name: content for name, content in written.items() if "04002" not in str(name)}


def test_case_has_the_layout_types_and_geometry_of_brats_2023(tmp_path):
    [case] = write_cohort(tmp_path, 1, size=SMALL)
    made = phantom((0, 0), SMALL)
    contents = dict(zip(("t1n", "t1c", "t2w", "t2f"), made.images.values(), strict=True)) | {"seg": made.labels}
    assert {path.name for path in case.glob("*.nii.gz")} == {
        f"PHANTOM-00000-000-{suffix}.nii.gz" for suffix in contents
    }
    for suffix, expected in contents.items():
        image = nib.load(case / f"{case.name}-{suffix}.nii.gz")
        assert image.get_data_dtype() == (np.uint8 if suffix == "seg" else np.int16)
        assert nib.aff2axcodes(image.affine) == ("L", "P", "S")
        np.testing.assert_allclose(image.header.get_zooms(), 1)
        np.testing.assert_array_equal(np.asanyarray(image.dataobj), expected)


def test_scans_are_zero_outside_the_brain_and_only_there(cases):
    for case in cases:
        brain = case.images["T1"] > 0
        assert 0.15 < brain.mean() < 0.4
        for image in case.images.values():
            np.testing.assert_array_equal(image > 0, brain)
        assert brain[case.labels > 0].all()


def test_core_does_not_touch_healthy_brain(cases):
    for case in cases:
        brain = case.images["T1"] > 0
        core = (case.labels == NCR) | (case.labels == ET)
        assert core.any()
        assert (case.labels[binary_dilation(core) & brain] > 0).all()


def test_tumours_are_as_large_as_those_of_patients_and_vary(cases):
    tumour_shares = [(c.labels > 0).sum() / (c.images["T1"] > 0).sum() for c in cases]
    assert min(tumour_shares) > 0.02
    assert max(tumour_shares) < 0.12
    assert max(tumour_shares) > 2 * min(tumour_shares)
    enhancing_shares = [(c.labels == ET).sum() / ((c.labels == ET) | (c.labels == NCR)).sum() for c in cases]
    assert 0.30 <= min(enhancing_shares) < 0.40
    assert 0.60 < max(enhancing_shares) <= 0.75


def test_enhancing_tumour_is_visible_on_t1c_alone(cases):
    for other in (ED, NCR):
        assert mean_effect(cases, "T1c", ET, other) > 4
    for modality in ("T1", "T2", "FLAIR"):
        assert mean_effect(cases, modality, ET, ED, np.abs) < 1
        assert mean_effect(cases, modality, ET, NCR, np.abs) < 1.5


def test_necrosis_is_darker_than_oedema_most_on_t1c_but_brighter_on_t2(cases):
    assert mean_effect(cases, "T1c", NCR, ED) < min(-1, mean_effect(cases, "T1", NCR, ED))
    assert mean_effect(cases, "T1", NCR, ED) < -0.5
    assert mean_effect(cases, "FLAIR", NCR, ED) < -0.1
    assert mean_effect(cases, "T2", NCR, ED) > 0.5


def test_whole_tumour_contrast_is_highest_on_flair_then_t2_then_t1_and_t1c(cases):
    contrast = {
        modality: np.mean(
            [abs(effect(c.images[modality], c.labels > 0, (c.labels == 0) & (c.images["T1"] > 0))) for c in cases]
        )
        for modality in MODALITIES
    }
    assert contrast["FLAIR"] > 2.5
    assert contrast["FLAIR"] > contrast["T2"] + 0.5
    assert contrast["T2"] > max(contrast["T1"], contrast["T1c"]) + 0.5


@pytest.mark.parametrize(
    ("modality", "darkest_first"),
    [
        ("T1", ["CSF", "grey", "white"]),
        ("T1c", ["CSF", "grey", "white"]),
        ("T2", ["white", "grey", "CSF"]),
        ("FLAIR", ["CSF", "white", "grey"]),
    ],
)
def test_healthy_tissues_have_the_order_of_brightness_of_the_modality(cases, tissue_maps, modality, darkest_first):
    tissues = {"CSF": CSF, "grey": GREY, "white": WHITE}
    brightness = {tissue: [] for tissue in tissues}
    for case, tissue_map in zip(cases[:5], tissue_maps, strict=True):
        far_from_tumour = ~binary_dilation(case.labels > 0, iterations=2)
        image = case.images[modality] / case.images[modality][case.labels > 0].mean()
        for tissue, value in tissues.items():  # away from their borders, where partial volume mixes them
            inside = binary_erosion(tissue_map == value) & far_from_tumour
            brightness[tissue].append(image[inside].mean())
    assert sorted(tissues, key=lambda tissue: np.mean(brightness[tissue])) == darkest_first


def test_scanners_differ_in_scale():
    means = [case.images["T2"][case.images["T2"] > 0].mean() for case in (phantom((9, i), SMALL) for i in range(6))]
    assert max(means) > 1.5 * min(means)


def test_second_run_keeps_existing_cases(tmp_path, monkeypatch):
    write_cohort(tmp_path, 2, size=SMALL)
    before = files(tmp_path)
    monkeypatch.setattr(phantoms, "phantom", lambda *_: pytest.fail("made a case again"))
    write_cohort(tmp_path, 2, size=SMALL)
    assert files(tmp_path) == before


def test_interruption_leaves_whole_cases_and_a_later_run_completes_the_cohort(tmp_path, monkeypatch):
    written = []

    def interrupted(path, array, affine):
        if len(written) == 7:
            raise KeyboardInterrupt
        written.append(path)
        write_image(path, array, affine)

    write_image = phantoms.write_image
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(phantoms, "write_image", interrupted)
        write_cohort(tmp_path, 2, size=SMALL)
    assert [path.name for path in tmp_path.iterdir()] == ["PHANTOM-00000-000"]
    write_cohort(tmp_path, 2, size=SMALL)
    write_cohort(tmp_path / "whole", 2, size=SMALL)
    assert files(tmp_path / "PHANTOM-00001-000") == files(tmp_path / "whole" / "PHANTOM-00001-000")


@pytest.mark.parametrize("spoil", ["another size", "a missing scan"])
def test_folder_that_is_not_a_phantom_of_the_request_is_refused_and_not_changed(tmp_path, spoil):
    [case] = write_cohort(tmp_path, 1, size=SMALL)
    if spoil == "a missing scan":
        (case / f"{case.name}-t2w.nii.gz").unlink()
    before = files(tmp_path)
    with pytest.raises(OutputError, match="PHANTOM-00000-000"):
        write_cohort(tmp_path, 1, size=SMALL + 8 * (spoil == "another size"))
    assert files(tmp_path) == before


@pytest.mark.parametrize("request_", [{"count": 0}, {"count": 1001}, {"count": 1, "seed": -1}, {"count": 1, "size": 8}])
def test_cohort_out_of_range_is_refused(tmp_path, request_):
    with pytest.raises(ConfigurationError):
        write_cohort(tmp_path, **request_)
