"""Plots: what they show is compared with the rows on disk."""

import numpy as np
import pandas as pd
import pytest

from anymri.analysis.comparison import read_comparison
from anymri.analysis.published import quote
from anymri.analysis.reading import read_evaluations
from anymri.analysis.statistics import shapley_weights
from anymri.cli.commands.plot import write_plots
from anymri.modalities import MODALITIES, SUBSETS
from anymri.report import figures
from anymri.report.figures.calibration import pool_bins
from anymri.report.figures.comparisons import spread
from anymri.report.figures.heat_maps import system_means
from anymri.report.figures.style import colour_limits, limits, styles
from anymri.report.plots import all_plots, reliability_plots
from made_evaluations import REGIONS, write_evaluation

NAMES = [str(subset) for subset in SUBSETS]
SIZES = {size: [name for name in NAMES if name.count("+") == size - 1] for size in (1, 2, 3, 4)}


@pytest.fixture(scope="module")
def two(tmp_path_factory):
    """Two evaluations, the second without two cases, and without T1c in another."""
    folder = tmp_path_factory.mktemp("two")
    return [
        write_evaluation(folder / "a", "u_hved", seed=1, metrics=("dice", "hd95"), reliability=True),
        write_evaluation(folder / "b", "mmformer", 2, 0.05, 10, ("dice", "hd95"), [(0, "T1c")], reliability=True),
    ]


@pytest.fixture(scope="module")
def shared(two):
    """Name -> (case, subset, region) -> Dice, for what both have scored."""
    frames = [pd.read_csv(folder / "metrics.csv").query("status == 'scored' and metric == 'dice'") for folder in two]
    keys = ["case", "subset", "region"]
    values = [frame.set_index(keys)["value"] for frame in frames]
    common = values[0].index.intersection(values[1].index)
    return {name: each.loc[common] for name, each in zip(("u_hved", "mmformer"), values, strict=True)}


@pytest.fixture(scope="module")
def plots(two):
    return all_plots(read_evaluations(two))


def mixed(folder, target):
    """Write the same evaluation with its rows in another order."""
    target.mkdir(parents=True)
    for name in ("metrics.csv", "reliability.csv"):
        pd.read_csv(folder / name).sample(frac=1, random_state=5).to_csv(target / name, index=False)
    (target / "provenance.json").write_text((folder / "provenance.json").read_text())
    return target


def shown(figure):
    """Return the numbers that a figure shows: lines, dots, bars and texts of each of its axes."""
    return [
        (
            axes.get_title(),
            sorted(text.get_text() for text in axes.texts),
            sorted(np.round(line.get_ydata(), 9).tolist() for line in axes.get_lines()),
            sorted(np.round(line.get_xdata(), 9).tolist() for line in axes.get_lines() if line.get_rasterized()),
            sorted(round(bar.get_width(), 9) for bar in axes.patches),
        )
        for axes in figure.axes
    ]


def test_the_order_of_evaluations_and_rows_does_not_change_plots(two, plots, tmp_path):
    turned = [mixed(two[1], tmp_path / "b"), mixed(two[0], tmp_path / "a")]
    again = all_plots(read_evaluations(turned))
    assert [plot.name for plot in plots] == [plot.name for plot in again]
    for one, other in zip(plots, again, strict=True):
        assert one.caption == other.caption
        assert shown(one.figure) == shown(other.figure), one.name


def test_both_metrics_have_all_plots_with_unique_names(plots):
    names = [plot.name for plot in plots]
    heat_maps = [f"heat_map_{metric}_{region}" for metric in ("dice", "hd95") for region in ("mean", *REGIONS)]
    others = ["by_number_dice", "by_number_hd95", "cases_dice", "cases_hd95", "contributions_dice", "reliability"]
    assert sorted(names) == sorted(heat_maps + others)  # distances have no contributions


def test_the_heat_map_shows_means_over_common_cases(two, shared):
    comparison = read_comparison(two, "dice")
    for region in REGIONS:
        means = system_means(comparison, region)
        for name, values in shared.items():
            expected = values.xs(region, level="region").groupby("subset").mean()
            np.testing.assert_allclose(means.loc[name, NAMES].astype(float), expected[NAMES])
            assert means.loc[name, "mean"] == pytest.approx(expected[NAMES].mean())
    overall = system_means(comparison, "mean")
    for name, values in shared.items():
        assert overall.loc[name, "mean"] == pytest.approx(values.groupby(["subset", "region"]).mean().mean())
    texts = [text.get_text() for text in figures.system_heatmap(comparison).axes[0].texts]
    numbers = sorted(f"{100 * value:.1f}" for value in overall.to_numpy(dtype=float).ravel())
    assert sorted(text for text in texts if "." in text) == numbers


def test_the_dots_of_a_heat_map_are_the_modalities_of_its_columns(two):
    cells, dots, _ = figures.system_heatmap(read_comparison(two, "dice"), "ET").axes
    centres = {round(text.get_position()[0], 6) for text in cells.texts if "." in text.get_text()}
    filled = {}
    for line in dots.get_lines():
        if line.get_markerfacecolor() != "white":
            for x, y in line.get_xydata().round(6):
                filled.setdefault(float(x), set()).add(("FLAIR", "T1", "T1c", "T2")[int(y)])
    assert [filled[x] for x in sorted(filled)] == [set(subset) for subset in SUBSETS]
    assert set(filled) < centres and len(centres) == 16


def test_heat_maps_have_a_colour_bar_with_the_unit(two):
    for metric, unit, ends in (("dice", "percent", (0, 100)), ("hd95", "mm", None)):
        bar = figures.system_heatmap(read_comparison(two, metric)).axes[-1]
        assert bar.get_ylabel() == f"{unit}, darker is better"
        assert bar.get_ylim()[0] == 0 and (ends is None or bar.get_ylim() == ends)


def test_colours_of_values_that_hardly_differ_hardly_differ():
    assert colour_limits("hd95", [2.7, 7.8]) == (0, 20)
    assert colour_limits("hd95", [2.7, 40.0]) == (0, 40)
    assert colour_limits("dice", [88.0, 90.0]) == (0, 100)
    assert colour_limits("psnr_brain", [20.0, 22.0]) == (16, 26)
    assert colour_limits("hd95", [float("nan")]) == (0, 20)


def test_cells_have_the_colours_of_the_bar(two):
    figure = figures.system_heatmap(read_comparison(two, "hd95"))
    bar = figure.axes[-1]
    for mesh in figure.axes[0].collections:
        assert (mesh.norm.vmin, mesh.norm.vmax) == bar.get_ylim()


def test_axes_of_dice_and_distances_begin_at_zero():
    assert limits("dice", [88.0, 91.0]) == (0, 100)
    assert limits("dice", [28.0, 61.0]) == (0, 70)
    assert limits("hd95", [5.0, 10.0])[0] == 0
    low, high = limits("psnr_brain", [20.0, 30.0])  # decibels have no zero
    assert 15 < low < 20 and 30 < high < 35


def test_the_name_of_a_single_system_is_not_written_at_its_rows(two):
    alone, both = read_comparison(two[:1], "dice"), read_comparison(two, "dice")
    for draw in (figures.case_strips, figures.contributions):
        names = [[label.get_text() for label in draw(each).axes[0].get_yticklabels()] for each in (alone, both)]
        assert names == [[""], ["u_hved", "mmformer"]]


def test_captions_of_few_cases_have_a_caution(tmp_path):
    few, enough = (write_evaluation(tmp_path / str(cases), cases=cases) for cases in (5, 6))
    for folder, warned in ((few, True), (enough, False)):
        captions = {plot.name: plot.caption for plot in all_plots(read_evaluations([folder]))}
        for name in ("by_number_dice", "contributions_dice"):
            assert ("Caution: statistics of 5 cases" in captions[name]) is warned


def test_the_best_of_each_column_is_bold_unless_there_is_one_system(two):
    comparison = read_comparison(two, "dice")
    means = system_means(comparison, "WT")
    bold = [t for t in figures.system_heatmap(comparison, "WT").axes[0].texts if t.get_weight() == "bold"]
    winners = {f"{100 * value:.1f}" for value in means.max()}
    assert {text.get_text() for text in bold} <= winners and len(bold) >= 16
    lone = figures.system_heatmap(read_comparison(two[:1], "dice"), "WT")
    assert not any(text.get_weight() == "bold" for text in lone.axes[0].texts)


def test_lines_by_number_are_means_of_the_cases_with_all_subsets_of_that_size(two, shared):
    figure = figures.by_number(read_comparison(two, "dice"))
    for region, axes in zip(REGIONS, figure.axes, strict=True):
        drawn = {line.get_label(): line.get_ydata() for line in axes.get_lines() if line.get_label() in shared}
        for name, values in shared.items():
            table = values.xs(region, level="region").unstack("subset")
            expected = [100 * table[SIZES[size]].dropna().mean(axis=1).mean() for size in SIZES]
            np.testing.assert_allclose(drawn[name], expected)
    low, high = figure.axes[0].get_ylim()
    assert 0 <= low < high <= 100


def test_intervals_contain_their_means_and_have_the_same_position(two):
    for axes in figures.by_number(read_comparison(two, "dice")).axes:
        means = {x: y for line in axes.get_lines() for x, y in zip(*line.get_data(), strict=True)}
        for lines in axes.collections:
            for (x, low), (_, high) in lines.get_segments():
                assert low <= means[x] <= high and low < high


def test_bars_are_the_shapley_values_and_add_up_to_the_mean_with_all(two, shared):
    figure = figures.contributions(read_comparison(two, "dice"))
    assert [axes.get_title() for axes in figure.axes] == list(MODALITIES)
    weights = shapley_weights()
    for modality, axes in zip(MODALITIES, figure.axes, strict=True):
        widths = iter(bar.get_width() for bar in axes.patches)
        for values in shared.values():
            for region in REGIONS:
                table = values.xs(region, level="region").unstack("subset")[NAMES].dropna()
                assert next(widths) == pytest.approx(100 * (table.to_numpy() @ weights[modality]).mean())
        assert axes.get_xlim()[0] <= 0


def test_every_case_is_a_dot_and_the_line_is_the_median(two, shared):
    figure = figures.case_strips(read_comparison(two, "dice"))
    panels = iter(figure.axes)
    for region in REGIONS:
        for size in SIZES:
            axes = next(panels)
            dots = np.concatenate([each.get_xydata() for each in axes.get_lines()])
            (lines,) = (each.get_segments() for each in axes.collections)
            for row, values in enumerate(shared.values()):
                table = values.xs(region, level="region").unstack("subset")
                expected = 100 * table[SIZES[size]].dropna().mean(axis=1)
                np.testing.assert_allclose(dots[np.round(dots[:, 1]) == row, 0], sorted(expected))
                assert lines[row][0][0] == pytest.approx(expected.median()) and lines[row].mean(0)[1] == row


def test_dots_spread_within_their_row_and_differ_from_their_neighbours():
    places = spread(100)
    assert np.abs(places).max() <= 0.3 and len(set(places)) == 100
    assert np.abs(np.diff(places)).min() > 0.1
    assert len(spread(0)) == 0


def test_reliability_pools_voxels_of_common_cases_only(two):
    tables = [pd.read_csv(folder / "reliability.csv") for folder in two]
    cases = set(tables[0]["case"]) & set(tables[1]["case"])
    (plot,) = reliability_plots(read_evaluations(two))
    for region, axes in zip(REGIONS, plot.figure.axes, strict=False):
        drawn = {line.get_label(): line for line in axes.get_lines()}
        for name, each in zip(("u_hved", "mmformer"), tables, strict=True):
            rows = each[each["case"].isin(cases) & (each["region"] == region) & (each["voxels"] > 0)]
            expected = [100 * np.average(bins["frequency"], weights=bins["voxels"]) for _, bins in rows.groupby("bin")]
            np.testing.assert_allclose(drawn[name].get_ydata(), expected)


def test_empty_bins_and_bins_of_few_voxels_are_not_drawn():
    rows = pd.DataFrame(
        [["a", "T1", "WT", 0, 5000, 0.01, 0.0], ["a", "T1", "WT", 7, 99, 0.5, 1.0], ["a", "T1", "WT", 9, 0, 0.0, 0.0]],
        columns=["case", "subset", "region", "bin", "voxels", "confidence", "frequency"],
    )
    assert pool_bins(rows).index.tolist() == [("WT", 0), ("WT", 7)]
    curve = figures.reliability_curves({"x": rows}).axes[0].get_lines()[1]
    assert curve.get_xdata().tolist() == [1.0]


def test_one_system_has_one_reliability_curve_per_number_of_modalities(two):
    (plot,) = reliability_plots(read_evaluations(two[:1]))
    labels = [line.get_label() for line in plot.figure.axes[0].get_lines()[1:]]
    assert labels == ["1 modality", "2 modalities", "3 modalities", "4 modalities"]


def test_published_results_are_named_quoted_and_neither_coloured_nor_bold(two):
    quoted = [quote("m3ae-2020")]
    heat_map = figures.system_heatmap(read_comparison(two, "dice"), "WT", quoted)
    cells = heat_map.axes[0]
    assert [label.get_text() for label in cells.get_yticklabels()][-1] == "m3ae-2020 (quoted)"
    italic = [text for text in cells.texts if text.get_style() == "italic"]
    assert [text.get_text() for text in italic][:4] == ["86.1", "78.9", "79.0", "88.0"] and len(italic) == 16
    assert all(text.get_weight() == "normal" for text in italic)
    assert all(mesh.get_array().shape[0] == 2 for mesh in cells.collections)
    lines = figures.by_number(read_comparison(two, "dice"), quoted).axes[0].get_lines()
    (line,) = (line for line in lines if line.get_label() == "m3ae-2020 (quoted)")
    rows = quoted[0].rows["dice"]
    np.testing.assert_allclose(line.get_ydata(), [np.mean([rows[n]["WT"] for n in SIZES[s]]) for s in SIZES])
    assert line.get_markerfacecolor() == "white"


def test_a_metric_without_values_has_no_plots_and_the_others_have(tmp_path):
    folder = write_evaluation(tmp_path / "a", cases=2, metrics=("dice", "psnr_brain"))
    metrics = pd.read_csv(folder / "metrics.csv")
    metrics.loc[metrics["metric"] == "psnr_brain", ["value", "status"]] = [None, "nothing to reconstruct"]
    metrics.to_csv(folder / "metrics.csv", index=False)
    assert {plot.name.split("_")[-1] for plot in all_plots(read_evaluations([folder]))} == {"dice"}


def test_twelve_systems_differ_in_colour_and_marker():
    looks = styles(map(str, range(24))).values()
    assert len({look.colour for look in list(looks)[:12]}) == len({look.marker for look in list(looks)[:12]}) == 12
    assert len({(look.colour, look.marker) for look in looks}) == 24


@pytest.fixture
def one_subset(tmp_path):
    """Evaluation of label maps from all modalities."""
    folder = write_evaluation(tmp_path / "a", "nnunet", cases=3)
    rows = pd.read_csv(folder / "metrics.csv").query("subset == 'T1+T1c+T2+FLAIR'")
    rows.to_csv(folder / "metrics.csv", index=False)
    return folder


def test_one_subset_has_the_plots_that_it_allows_with_the_same_bytes_every_time(one_subset, tmp_path):
    files, again = (write_plots([one_subset], tmp_path / name, []) for name in ("one", "two"))
    names = ["heat_map_dice.png", "heat_map_dice.svg", "cases_dice.png", "cases_dice.svg"]
    assert [file.name for file in files] == names
    for one, other in zip(files, again, strict=True):
        assert one.name == other.name and one.read_bytes() == other.read_bytes()
        assert one.read_bytes().startswith(b"\x89PNG" if one.suffix == ".png" else b"<?xml")
