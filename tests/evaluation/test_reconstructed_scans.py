"""Metrics of reconstructed scans: which scans are compared with what, and their tables."""

import shutil

import numpy as np
import pandas as pd
import pytest
import torch

from anymri.analysis.reading import read_metrics
from anymri.analysis.tables import means_over_regions, subset_table, write_tables
from anymri.cli.commands.table import make_table
from anymri.data.case import read_study
from anymri.data.image import read_image, write_like
from anymri.data.layouts import find_cases
from anymri.data.preprocessing import brain_mask
from anymri.errors import ConfigurationError
from anymri.evaluation import runner
from anymri.evaluation.metrics import choose
from anymri.evaluation.metrics.reconstruction import RECONSTRUCTION
from anymri.evaluation.protocols import find_protocol
from anymri.evaluation.runner import evaluate
from anymri.inference import tiling
from anymri.inference.segmenter import Segmenter
from anymri.inference.tiling import Windows
from anymri.inference.windows import predict
from anymri.modalities import ALL, MODALITIES, SUBSETS, Subset
from anymri.regions import label_scheme
from anymri.synthesis.phantoms import write_cohort
from made_evaluations import remove_checksums
from untrained import prepared, write_weights

SOME = Subset.parse("T1c+FLAIR")
METRICS = ("dice", *(f"{name}_{place}" for name in RECONSTRUCTION for place in ("brain", "tumour")))


@pytest.fixture(scope="module")
def cohort(tmp_path_factory):
    folder = tmp_path_factory.mktemp("cohort")
    write_cohort(folder, 1, size=32)
    return folder


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    return write_weights(tmp_path_factory.mktemp("weights") / "w.safetensors", reconstruction=True)


@pytest.fixture(scope="module")
def complete(cohort, weights, tmp_path_factory):
    folder = tmp_path_factory.mktemp("evaluation") / "u_hved"
    return folder, evaluate(weights, cohort, folder, metrics=METRICS).metrics


def test_each_missing_modality_is_a_row_and_given_ones_are_not(complete):
    _, metrics = complete
    reconstructed = metrics[metrics["metric"] != "dice"]
    found = set(reconstructed[["case", "subset", "region", "metric"]].itertuples(index=False, name=None))
    missing = [(str(subset), modality) for subset in SUBSETS for modality in MODALITIES if modality not in subset]
    assert found == {("PHANTOM-00000-000", *each, name) for each in missing for name in METRICS[1:]}
    assert len(found) == len(reconstructed) and (metrics["status"] == "scored").all()
    assert np.isfinite(metrics["value"]).all()


def test_values_are_those_of_reconstructed_and_real_scan_in_brain_and_tumour(complete, cohort, weights):
    _, metrics = complete
    segmenter = Segmenter.load(weights)
    study = read_study(find_cases(cohort)[0], label_scheme("brats2023"))
    case = segmenter.prepare(study)
    [prediction] = segmenter.predict(case, [SOME], reconstruct=True)
    places = {"brain": brain_mask(study)[case.box], "tumour": case.classes.numpy() > 0}
    rows = metrics[metrics["subset"] == str(SOME)]
    values = rows.set_index(["metric", "region"])["value"]
    for place, mask in places.items():
        for modality in ("T1", "T2"):
            made, real = prediction.reconstructed[modality].numpy(), case.scans[modality]
            error = ((made[mask].astype(float) - real[mask]) ** 2).mean()
            assert values[f"psnr_{place}", modality] == pytest.approx(20 * np.log10(np.ptp(real[mask]) / error**0.5))
            assert values[f"nmse_{place}", modality] == pytest.approx(error / (real[mask].astype(float) ** 2).mean())
            assert values[f"ssim_{place}", modality] == RECONSTRUCTION["ssim"](made, real, mask)


def test_segmentations_have_the_same_metrics_without_reconstruction(complete, cohort, weights, tmp_path):
    plain = evaluate(weights, cohort, tmp_path, metrics=["dice"], subsets=SUBSETS[-3:]).metrics
    found = complete[1].merge(plain, on=["case", "subset", "region", "metric"])
    assert len(found) == 3 * 3 and found["value_x"].tolist() == found["value_y"].tolist()


def test_reconstructed_volumes_come_from_the_decoder_and_do_not_depend_on_the_scan_that_they_replace(weights):
    system = Segmenter.load(weights).system
    images = torch.randn(1, 4, 16, 16, 16, generator=torch.Generator().manual_seed(0))
    asked = (system, prepared(images[0]), [SOME, ALL], Windows((16, 16, 16), 0.0))
    found, nothing = predict(*asked, reconstruct=True)
    reconstructed = found.reconstructed
    with torch.inference_mode():
        decoded = system.decode(system.encode(images, ALL.as_tensor()), SOME.as_tensor(), reconstruct=True)
    assert list(reconstructed) == ["T1", "T2"] and not nothing.reconstructed
    for number, made in ((0, reconstructed["T1"]), (2, reconstructed["T2"])):
        torch.testing.assert_close(made, decoded.reconstruction[0, number])
    torch.testing.assert_close(found.probabilities, predict(*asked)[0].probabilities, rtol=0, atol=0)
    images[:, [0, 2]] = 7
    for modality, again in predict(*asked, reconstruct=True)[0].reconstructed.items():
        torch.testing.assert_close(again, reconstructed[modality], rtol=0, atol=0)


def test_windows_are_encoded_once_for_all_subsets_and_reconstructed_on_request_only(
    cohort, weights, tmp_path, monkeypatch
):
    """Each window is decoded once per subset, and encoded once for all."""
    monkeypatch.setattr(tiling, "VOXELS_PER_PASS", 1)
    calls = []
    segmenter = Segmenter.load(weights)
    segmenter.windows = segmenter.windows._replace(sides=(16, 16, 16))
    system, study = segmenter.system, read_study(find_cases(cohort)[0], label_scheme("brats2023"))
    encode, decode = system.encode, system.decode
    system.encode = lambda *arguments: calls.append("encode") or encode(*arguments)
    system.decode = lambda *arguments, reconstruct=False: (
        calls.append(f"decode {reconstruct}") or decode(*arguments, reconstruct=reconstruct)
    )
    shape = segmenter.prepare(study).images.shape[1:]
    number = int(np.prod([-(-max(side, 16) // 16) for side in shape]))
    assert number > 1
    for metric, expected in (
        ("dice", {"encode": number, "decode False": 3 * number}),
        ("psnr_brain", {"encode": number, "decode True": 2 * number, "decode False": number}),
    ):
        calls.clear()
        protocol = find_protocol("anymri", segmenter)
        runner.evaluate_case(segmenter, study, label_scheme("brats2023"), SUBSETS[-3:], choose([metric]), protocol)
        assert {call: calls.count(call) for call in set(calls)} == expected


def test_a_modality_that_the_case_does_not_have_is_not_compared(cohort, weights, tmp_path):
    copied = shutil.copytree(cohort, tmp_path / "data")
    next(sorted(copied.iterdir())[0].glob("*-t1n.nii.gz")).unlink()
    metrics = evaluate(
        weights, copied, tmp_path / "out", subsets=[Subset.parse("T1"), SOME], metrics=["psnr_brain"]
    ).metrics
    rows = metrics.set_index(["subset", "region"])
    assert rows["value"].dropna().index.tolist() == [("T1c+FLAIR", "T2")]
    assert rows.loc[("T1c+FLAIR", "T1"), "status"] == "no T1 to compare with"
    assert set(rows.loc["T1", "status"]) == {"T1 missing"} and set(rows.loc["T1"].index) == {"T1c", "T2", "FLAIR"}
    assert "PHANTOM-00000-000: no T1 to compare with, in no mean." in write_tables(tmp_path / "out", metrics)


@pytest.mark.filterwarnings("ignore:No label map")
def test_a_case_without_tumour_has_values_in_the_brain_only(cohort, weights, tmp_path):
    copied = shutil.copytree(cohort, tmp_path / "data")
    label = next(sorted(copied.iterdir())[0].glob("*-seg.nii.gz"))
    image = read_image(label)
    write_like(label, np.zeros_like(image.array, dtype=np.uint8), image)
    metrics = evaluate(weights, copied, tmp_path / "out", subsets=[SOME], metrics=["psnr_tumour", "ssim_brain"]).metrics
    rows = metrics.set_index("metric")
    assert set(rows.loc["psnr_tumour", "status"]) == {"PSNR tumour is not defined"}
    assert rows.loc["psnr_tumour", "value"].isna().all() and rows.loc["ssim_brain", "value"].notna().all()


def test_weights_without_image_decoders_are_refused_before_anything_is_written(cohort, tmp_path):
    without = write_weights(tmp_path / "w.safetensors")
    with pytest.raises(ConfigurationError, match="no image decoders"):
        evaluate(without, cohort, tmp_path / "out", metrics=["dice", "ssim_brain"])
    assert not (tmp_path / "out").exists()


def test_the_table_has_a_column_for_each_modality_and_a_dash_where_it_was_given(complete):
    folder, metrics = complete
    table = subset_table(read_metrics(folder), "psnr_brain")
    rows = metrics[(metrics["metric"] == "psnr_brain") & (metrics["subset"] == "T2")]
    assert table.loc["T2", "reconstructed T1"] == pytest.approx(rows.query("region == 'T1'")["value"].mean())
    assert pd.isna(table.loc["T2", "reconstructed T2"]) and table.loc[str(ALL), "n"] == 0
    assert table.loc["mean", "reconstructed T1"] == pytest.approx(table["reconstructed T1"].drop("mean").mean())
    over = means_over_regions(table)
    assert str(ALL) not in over and len(over) == 14
    assert over["T2"] == pytest.approx(rows["value"].mean())
    text = write_tables(folder, metrics)
    assert (
        "PSNR brain T1 |" in text and "reconstructed T1" not in text and "PSNR brain in dB (higher is better)" in text
    )


@pytest.mark.parametrize("options", [{}, {"average": True}, {"statistics": True}], ids=str)
def test_tables_compare_reconstructed_scans_of_two_systems(complete, tmp_path, options):
    folder, metrics = complete
    other = shutil.copytree(folder, tmp_path / "other")
    is_error = metrics["metric"] == "nmse_brain"
    better = metrics.assign(value=metrics["value"] + is_error)
    better.to_csv(other / "metrics.csv", index=False)
    remove_checksums(other)
    given = {"quoted": [], "average": False, "statistics": False} | options
    text = make_table([folder, other], "nmse_brain", "csv", **given)
    columns = text.splitlines()[0].split(",")
    assert [column.split()[-1] for column in columns if "T1c" in column]
    if "statistics" in options:
        # One modality given: each scan is missing from three such subsets.
        [row] = [line for line in text.splitlines() if line.startswith("u_hved (u_hved),1 modality,")]
        assert "" not in row.split(",")
    if not options:
        means = metrics.query("metric == 'nmse_brain'").groupby(["subset", "region"])["value"].mean()
        line = text.splitlines()[1 + SUBSETS.index(SOME)].split(",")
        numbers = [line[columns.index(f"u_hved (u_hved) {m}")] for m in MODALITIES]
        assert numbers == [f"{means[str(SOME), m]:.3f}" if m not in SOME else "" for m in MODALITIES]
