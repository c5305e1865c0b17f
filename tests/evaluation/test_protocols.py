"""Protocols: windows, what is compared, how Dice is counted, and where it is said by which protocol a test was made."""

import json
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from scipy.ndimage import gaussian_filter

from anymri.analysis.comparison import average_grid, read_comparison, subset_grid
from anymri.analysis.published import quote
from anymri.analysis.reading import read_evaluation
from anymri.analysis.tables import write_tables
from anymri.data.case import read_study
from anymri.data.layouts import find_cases
from anymri.errors import ConfigurationError, InputWarning, RunError
from anymri.evaluation.metrics import METRICS, dice, score
from anymri.evaluation.metrics.comparison import Comparison
from anymri.evaluation.protocols import find_protocol
from anymri.evaluation.runner import evaluate
from anymri.evaluation.scoring import score as score_masks
from anymri.inference.segmenter import Segmenter
from anymri.inference.tiling import Windows, window_starts, window_weights
from anymri.modalities import Subset
from anymri.regions import ET, REGIONS, label_scheme, region_mask
from anymri.synthesis.phantoms import write_cohort
from anymri.systems import registry
from anymri.training.card import card_of
from anymri.training.cohort.find import Cohort
from anymri.weights.store import save_weights
from cli.command import anymri, check_refused
from made_evaluations import write_evaluation
from untrained import card

# Overlap, blending, averaged values, steps, what is compared and metrics, from the sheets (section Inference of each).
FAMILY = (0.5, "constant", "probabilities", "down", "box", ("dice", "dice_et500"))
SHEETS = {
    "im_fuse": FAMILY,
    "mmformer": FAMILY,
    "robust_mseg": FAMILY,
    "sfusion": FAMILY,
    "u_hved": (0.5, "constant", "logits", "down", "box", ("dice", "dice_et500")),
    "m3ae": (0.5, "constant", "logits", "down", "box", ("dice_regions",)),
    "mam": (0.5, "gaussian_nnunet", "logits", "equal", "scan", ("dice_overwritten",)),
    "shaspec": (1 / 3, "constant", "probabilities", "up", "scan", ("dice_plus_one",)),
    "ra_hved": (0.75, "constant", "probabilities", "down", "box", ("dice_regions",)),
    "xlstm_hved": (0.5, "constant", "probabilities", "down", "random window", ("dice_regions",)),
}
ALL, SOME = "T1+T1c+T2+FLAIR", "T1c+FLAIR"


@pytest.fixture(scope="module")
def cohort(tmp_path_factory):
    folder = tmp_path_factory.mktemp("cohort")
    write_cohort(folder, 2, size=48)
    return folder


def write(path, system, **changes):
    """Write untrained weights of a system."""
    torch.manual_seed(0)
    settings = card(system=system, **{"network": {"width": 4, "num_classes": 4}, **changes})
    save_weights(path, registry.build(system, settings.network).state_dict(), settings)
    return path


@pytest.fixture(scope="module")
def xlstm(tmp_path_factory):
    """Weights with the authors' preprocessing."""
    preprocessing = {"normalisation": "divide_255", "crop_to_brain": False}
    folder = tmp_path_factory.mktemp("xlstm")
    return write(folder / "w.safetensors", "xlstm_hved", preprocessing=preprocessing, window="32x48x32")


@pytest.fixture(scope="module")
def by_both(xlstm, cohort, tmp_path_factory):
    """Evaluations of xlstm_hved by both protocols, with two metrics."""
    folder = tmp_path_factory.mktemp("both")
    chosen = {"subsets": [SOME], "metrics": ["dice", "dice_regions"]}
    return {name: evaluate(xlstm, cohort, folder / name, protocol=name, **chosen) for name in ("anymri", "reference")}


def loaded(system, crop=None):
    """Return what a protocol reads of a segmenter."""
    return SimpleNamespace(
        card=card(system=system), system=SimpleNamespace(crop=crop), windows=SimpleNamespace(sides=(64, 64, 64))
    )


@pytest.mark.parametrize("system", registry.names())
def test_reference_protocols_are_those_of_the_sheets(system):
    if system not in SHEETS:
        with pytest.raises(ConfigurationError, match=f"{system} has no protocol `reference`"):
            find_protocol("reference", loaded(system))
        return
    found = find_protocol("reference", loaded(system))
    assert (*found.windows[1:5], found.compared, found.metrics) == SHEETS[system]
    assert not found.windows.fitted
    assert found.windows.sides == (64, 64, 64) and set(found.metrics) <= set(METRICS)
    assert f"as the authors of {system} test" in found.rules() and found.source in found.rules()
    assert set(registry.spec(system).protocol.differences) < set(found.differences)


def test_windows_and_preprocessing_that_are_not_the_authors_are_stated():
    segmenter, recipe = loaded("mmformer", crop=(128, 128, 128)), registry.spec("mmformer").recipes["reference"]
    assert "preprocess scans otherwise" in find_protocol("reference", segmenter).rules()
    segmenter.card = card(system="mmformer", preprocessing=recipe.preprocessing)
    assert find_protocol("reference", segmenter).differences == registry.spec("mmformer").protocol.differences
    segmenter.system.crop = (64, 64, 64)
    assert "The authors' windows have 128 voxels." in find_protocol("reference", segmenter).differences


def test_windows_at_equal_distances_are_those_of_the_sheet():
    """Sheet mam, Inference."""
    expected = {139: [0, 11], 170: [0, 42], 240: [0, 56, 112], 128: [0]}
    assert {length: window_starts(length, 128, 0.5, "equal") for length in expected} == expected


def test_steps_that_are_rounded_up_are_those_of_the_sheet():
    """Sheet shaspec, section 8: 3 x 2 x 2 windows, steps of 54 and 107 voxels."""
    assert window_starts(155, 80, 1 / 3, "up") == [0, 54, 75]
    assert window_starts(240, 160, 1 / 3, "up") == [0, 80] and window_starts(400, 160, 1 / 3, "up") == [
        0,
        107,
        214,
        240,
    ]
    assert window_starts(240, 120, 1 / 3, "up") == [0, 80, 120]


def test_gaussian_weights_of_nnunet_are_a_filtered_point_in_half_precision():
    point = np.zeros((32, 16, 24))
    point[16, 8, 12] = 1
    expected = gaussian_filter(point, [side / 8 for side in point.shape], mode="constant", truncate=8)
    expected = (10 * expected / expected.max()).astype(np.float16)
    expected[expected == 0] = expected[expected > 0].min()
    weights = window_weights(point.shape, "gaussian_nnunet").numpy()
    np.testing.assert_allclose(weights, expected.astype(np.float32), rtol=1e-3, atol=1e-7)


def test_dice_of_regions_is_counted_as_predicted():
    """TC leaves WT by two voxels: label maps lose them, an overwritten label map adds them to WT."""
    truth = np.zeros((10, 1, 1), np.uint8)
    truth[2:8] = ET
    wt, tc = (np.zeros(truth.shape, bool) for _ in range(2))
    wt[2:6], tc[4:8] = True, True
    predicted = np.where(tc & wt, ET, np.where(wt, 2, 0)).astype(np.uint8)
    thresholded = {"WT": wt, "TC": tc, "ET": np.zeros_like(wt)}
    compared = Comparison(predicted, truth, thresholded=thresholded)
    found = {n: [METRICS[n].of(compared, r) for r in ("WT", "TC", "ET")] for n in METRICS if n.startswith("dice")}
    assert found["dice"] == [8 / 10, 4 / 8, 4 / 8]
    assert found["dice_regions"] == [8 / 10, 8 / 10, 0]
    assert found["dice_plus_one"] == [8 / 11, 8 / 11, 0]
    assert found["dice_overwritten"] == [1, 8 / 10, 0]


def test_dice_of_empty_masks_follows_the_convention_of_its_name():
    empty, some = np.zeros((4, 4, 4), bool), np.ones((4, 4, 4), bool)
    names = ("dice_regions", "dice_plus_one", "dice_overwritten")
    assert [score(name, empty, empty) for name in names] == [1, 0, 1]
    assert [score(name, empty, some) for name in names] == [0, 0, 0]
    assert score("dice_plus_one", some, some) == 128 / 129


@pytest.mark.parametrize("added", [1e-8, 1e-6])
def test_small_numbers_that_the_authors_add_change_no_dice_by_more(added):
    rng = np.random.default_rng(0)
    for share in (0, 0.01, 0.5):
        a, b = (rng.random((9, 9, 9)) < share for _ in range(2))
        theirs = (2 * np.count_nonzero(a & b) + added) / (np.count_nonzero(a) + np.count_nonzero(b) + added)
        assert abs(dice(a, b) - theirs) <= added


def test_one_random_window_is_segmented_and_compared(by_both, xlstm, cohort):
    """The value is that of a forward pass of the window; two cases have different windows."""
    segmenter = Segmenter.load(xlstm)
    protocol, rows = find_protocol("reference", segmenter), by_both["reference"].metrics
    corners = []
    for case in find_cases(cohort):
        study = read_study(case, label_scheme("brats2023"))
        window = protocol.prepare(segmenter, study)
        corners.append([axis.start for axis in window.box])
        assert window.images.shape == (4, 32, 48, 32)
        torch.testing.assert_close(window.images, segmenter.prepare(study).images[(slice(None), *window.box)])
        with torch.inference_mode():
            present = Subset.parse(SOME).as_tensor()
            probabilities = segmenter.system(window.images[None], present).probabilities()[0].numpy()
        truth = study.classes[window.box]
        expected = [dice(mask, region_mask(truth, r)) for r, mask in zip(REGIONS, probabilities > 0.5, strict=False)]
        of_case = rows.query("case == @case.name and subset == @SOME and metric == 'dice_regions'")
        assert of_case["value"].tolist() == pytest.approx(expected)
    assert corners[0] != corners[1]


def test_voxels_outside_the_box_are_not_compared_where_the_authors_cut_the_label_map(cohort, tmp_path):
    """Without the last slice of the box, a tumour in it is missed by label maps of whole scans alone."""
    weights = write(
        tmp_path / "w.safetensors",
        "u_hved",
        network=card().network,
        preprocessing={"drop_last_slice": True},
        window=32,
    )
    segmenter, study = Segmenter.load(weights), read_study(find_cases(cohort)[0], label_scheme("brats2023"))
    case = segmenter.prepare(study)
    found = {name: find_protocol(name, segmenter) for name in ("anymri", "reference")}
    assert found["anymri"].truth(case, study.classes).shape == study.classes.shape
    assert found["reference"].truth(case, study.classes).shape == case.images.shape[1:]
    assert found["reference"].windows.values == "logits" and found["anymri"].windows == segmenter.windows
    metrics = evaluate(weights, cohort, tmp_path / "out", subsets=[ALL], protocol="reference").metrics
    assert list(metrics["metric"].unique()) == ["dice", "dice_et500"]


def test_settings_provenance_and_tables_name_the_protocol(by_both):
    for name, evaluation in by_both.items():
        settings = json.loads((evaluation.folder / "settings.json").read_text())
        assert settings["protocol"]["name"] == name
        assert read_evaluation(evaluation.folder).protocol == (name, settings["protocol"]["rules"])
        assert f"- Protocol {name}: " in write_tables(evaluation.folder, evaluation.metrics)
    grid = subset_grid(read_comparison([by_both["reference"].folder]))
    assert any("One random window of 32x48x32 voxels" in note for note in grid.notes)


def test_protocols_in_one_table_are_noted_and_named_by_system(by_both):
    folders = [evaluation.folder for evaluation in by_both.values()]
    with pytest.warns(InputWarning, match="xlstm_hved by anymri, xlstm_hved by reference"):
        comparison = read_comparison(folders)
    notes = average_grid(comparison).notes
    assert sum(note.startswith("Protocol ") for note in notes) == 2
    assert any("follow different protocols" in note for note in notes)


def test_another_protocol_needs_another_folder(by_both, xlstm, cohort):
    with pytest.raises(RunError, match="other settings: protocol"):
        chosen = {"subsets": [SOME], "metrics": ["dice", "dice_regions"]}
        evaluate(xlstm, cohort, by_both["anymri"].folder, protocol="reference", **chosen)


def test_published_dice_is_quoted_beside_that_of_the_authors_counting(tmp_path):
    folder = write_evaluation(tmp_path / "m3ae", "m3ae", metrics=("dice_regions",))
    published = quote("m3ae-2020")
    assert published.value("dice_regions", ALL, "WT") == published.value("dice", ALL, "WT") > 0.8
    grid = subset_grid(read_comparison([folder]), [published])
    assert "Dice, regions" in grid.title and any("quoted, not measured" in note for note in grid.notes)


def test_label_maps_are_scored_by_their_regions(cohort, tmp_path):
    (tmp_path / "masks").mkdir()
    for label in cohort.glob("*/*-seg.nii.gz"):
        (tmp_path / "masks" / label.name).write_bytes(label.read_bytes())
    names = ["dice", "dice_regions", "dice_plus_one"]
    metrics = score_masks(tmp_path / "masks", cohort, tmp_path / "out", "brats2023", metrics=names).metrics
    values = {name: rows["value"] for name, rows in metrics.groupby("metric")}
    assert (values["dice_regions"] == 1).all() and values["dice_plus_one"].between(0.9, 1, inclusive="left").all()


def test_the_command_refuses_a_protocol_that_does_not_exist(cohort, xlstm, tmp_path):
    command = ["evaluate", xlstm, "--data", cohort, "-o", tmp_path / "out", "--protocol"]
    check_refused(anymri(*command, "referense"), "Did you mean reference?")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("system", ["mam", "shaspec"])
def test_trained_weights_keep_the_windows_of_their_recipe(system):
    recipe = registry.spec(system).recipes["reference"]
    cohort = Cohort(label_scheme("brats2023"), [], [], {})
    assert Windows.of(card_of(recipe, cohort, recipe.stages[-1]))[1:5] == SHEETS[system][:4]
