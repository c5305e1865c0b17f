"""The table of 15 subsets of one evaluation, and the reading of files that it is made from."""

import json

import pandas as pd
import pytest

from anymri.analysis import reading, tables
from anymri.errors import RunError
from anymri.modalities import SUBSETS

HEADER = "case,subset,region,metric,value,status"
ROWS = [
    "001,T2,WT,dice,0.8,scored",
    "002,T2,WT,dice,0.6,scored",
    "001,T1,WT,dice,0.5,scored",
    "002,T1,WT,dice,,T1 missing",
    "001,T2,ET,dice,0.4,scored",
    "002,T2,ET,dice,,no ET in the label scheme",
    "001,T2,WT,hd95,12.34,scored",
]


def evaluation(folder, rows=ROWS, header=HEADER):
    (folder / "metrics.csv").write_text("\n".join([header, *rows]) + "\n")
    return folder


def rows_of(folder, rows=ROWS):
    return reading.read_metrics(evaluation(folder, rows))


def test_rows_are_in_the_order_of_the_papers_for_any_order_of_the_file(tmp_path):
    table = tables.subset_table(rows_of(tmp_path, ROWS[::-1]), "dice")
    assert list(table.index) == [*map(str, SUBSETS), "mean"]
    assert list(table.columns) == ["FLAIR", "T1", "T1c", "T2", "WT", "ET", "n"]
    assert "".join(table.loc["T1c+T2", list(tables.MODALITY_COLUMNS)]) == "○○●●"


def test_a_row_without_value_is_neither_zero_nor_a_case(tmp_path):
    table = tables.subset_table(rows_of(tmp_path), "dice")
    assert table.loc["T1", "WT"] == 0.5
    assert table.loc["T2", "ET"] == 0.4
    assert (table.loc["T1", "n"], table.loc["T2", "n"], table.loc["FLAIR", "n"]) == (1, 2, 0)
    assert pd.isna(table.loc["FLAIR", "WT"])


def test_the_last_row_is_the_mean_of_the_subsets_that_have_a_value(tmp_path):
    table = tables.subset_table(rows_of(tmp_path), "dice")
    assert table.loc["mean", "WT"] == pytest.approx((0.7 + 0.5) / 2)
    assert table.loc["mean", "ET"] == pytest.approx(0.4)
    assert pd.isna(table.loc["mean", "n"])


def test_a_region_without_values_is_a_column_of_dashes(tmp_path):
    metrics = rows_of(tmp_path, [ROWS[0], "001,T2,TC,dice,,no TC in the label scheme"])
    table = tables.subset_table(metrics, "dice")
    assert tables.regions_in(table) == ["WT", "TC"]
    assert {row[1] for row in tables.cells(table, "dice")} == {"-"}


def test_notes_name_unscored_cases_with_reason_and_number(tmp_path):
    metrics = rows_of(tmp_path, [*ROWS, "002,T1,TC,dice,,T1 missing", '002,T1+T1c,WT,dice,,"T1, T1c missing"'])
    assert tables.unscored_notes(metrics) == [
        "002 has no T1 and no T1c: 2 of 3 subsets not scored, and in no mean.",
        "002: no ET in the label scheme, in no mean.",
    ]


def test_notes_name_at_most_ten_incomplete_cases(tmp_path):
    rows = [f"{case:03},T1,TC,dice,,T1 missing" for case in range(12)]
    sentences = tables.unscored_notes(rows_of(tmp_path, rows))
    assert len(sentences) == 11
    assert sentences[-1] == "2 more: see the column status in metrics.csv."


def all_rows(regions, metrics=("dice", "hd95"), value="0.5"):
    return [f"001,{s},{region},{metric},{value},scored" for s in SUBSETS for region in regions for metric in metrics]


def markdown(metrics, notes=()):
    return tables.to_markdown(tables.tables_of(metrics), "Title", notes)


def test_dice_is_printed_in_percent_and_hd95_in_mm(tmp_path):
    text = markdown(rows_of(tmp_path), notes=["HD95: pooled."])
    t2 = next(line for line in text.splitlines() if line.startswith("|   ○   |  ○  |  ○  |  ●  |"))
    assert [cell.strip() for cell in t2.split("|")[5:8]] == ["70.0", "40.0", "2"]
    assert " 12.3 |" in text
    assert "Dice in percent" in text
    assert "HD95 in mm" in text
    assert text.startswith("# Title\n")
    assert text.endswith("- HD95: pooled.\n")


@pytest.mark.parametrize(("regions", "number_of_tables"), [(("WT", "TC", "ET"), 1), (("WT", "TC", "ET", "RC"), 2)])
def test_markdown_fits_a_terminal_of_100_columns(tmp_path, regions, number_of_tables):
    rows = [*all_rows(regions, ["dice"], "1.0"), *all_rows(regions, ["hd95"], "373.13")]
    text = markdown(rows_of(tmp_path, rows))
    grid = [line for line in text.splitlines() if line.startswith("|")]
    assert len(grid) == number_of_tables * (2 + 15 + 1)
    assert max(map(len, grid)) <= 100
    assert all(line.count("|") == grid[0].count("|") for line in grid)


def test_metrics_with_different_cases_get_a_number_of_cases_each(tmp_path):
    def columns(rows):
        by_metric = tables.tables_of(rows_of(tmp_path, rows))
        return [column for block in tables.blocks(by_metric) for column in block.columns]

    assert columns(all_rows(["WT"])) == ["WT", "WT", "n"]
    assert columns([*all_rows(["WT"]), "002,T2,WT,dice,0.5,scored"]) == ["WT", "n", "WT", "n"]


def test_metrics_are_named_dice_first():
    metrics = pd.DataFrame({"metric": ["nsd_1mm", "hd95", "dice", "dice"]})
    assert tables.metrics_in(metrics) == ["dice", "hd95", "nsd_1mm"]


@pytest.mark.parametrize(
    ("rows", "problem"),
    [
        (["001,T9,WT,dice,0.5,scored"], "T9"),
        (["001,T1,LIVER,dice,0.5,scored"], "region"),
        (["001,T1,WT,dice,,scored"], "without a finite value"),
        (["001,T1,WT,dice,inf,scored"], "without a finite value"),
        (["001,T1,WT,dice,85,scored"], "its metric cannot have"),
        (["001,T1,WT,hd95,-1,scored"], "its metric cannot have"),
        ([",T1,WT,dice,0.5,scored"], "a case without a name"),
        (["a\x1b[31m,T1,WT,dice,0.5,scored"], "a case that cannot be printed"),
        (["a,T1,WT,di\tce,0.5,scored"], "a metric that cannot be printed"),
        (["001,T1,WT,dice,0.5,scored"] * 2, "twice"),
        (["001,T1,WT,dice,good,scored"], "cannot be read"),
        ([], "no rows"),
    ],
)
def test_rows_that_would_give_wrong_means_are_refused(tmp_path, rows, problem):
    with pytest.raises(RunError, match=problem) as caught:
        rows_of(tmp_path, rows)
    assert str(tmp_path / "metrics.csv") in caught.value.what
    assert caught.value.fix.endswith(".")


def test_a_folder_or_file_of_another_kind_is_refused(tmp_path):
    with pytest.raises(RunError, match=r"does not contain metrics\.csv"):
        reading.read_metrics(tmp_path / "nowhere")
    with pytest.raises(RunError, match="does not have the columns region, metric"):
        reading.read_metrics(evaluation(tmp_path, ["001,T1,0.5,scored"], "case,subset,value,status"))
    with pytest.raises(RunError, match="cannot be read"):
        (tmp_path / "metrics.csv").write_bytes(b"")
        reading.read_metrics(tmp_path)


def test_case_names_that_look_like_numbers_or_missing_values_stay_names(tmp_path):
    metrics = rows_of(tmp_path, ["001,T2,WT,dice,0.8,scored", "NA,T2,WT,dice,0.6,scored"])
    assert metrics["case"].tolist() == ["001", "NA"]


LOG = "stage,epoch,step,seconds,learning_rate,loss/total\nmain,0,10,1.5,0.001,0.9\n"


def test_a_run_before_its_first_validation_has_a_log_only(tmp_path):
    (tmp_path / "log.csv").write_text(LOG)
    for content in (None, "", "stage,epoch,step,region,dice\n"):
        if content is not None:
            (tmp_path / "validation.csv").write_text(content)
        log, validation = reading.read_run(tmp_path)
        assert log["loss/total"].tolist() == [0.9]
        assert validation is None


@pytest.mark.parametrize("text", ["not json", "[]", json.dumps({"command": "other"})])
def test_a_provenance_of_another_program_is_refused(tmp_path, text):
    (tmp_path / "provenance.json").write_text(text)
    with pytest.raises(RunError, match=r"provenance\.json"):
        reading.read_provenance(tmp_path)


def test_conventions_come_from_the_provenance():
    provenance = {"configuration": {"conventions": {"hd95": "pooled as medpy"}}}
    assert tables.conventions(provenance, ["dice", "hd95"]) == ["HD95: pooled as medpy."]


def test_the_written_table_names_system_cases_and_conventions(tmp_path):
    metrics = rows_of(tmp_path)
    configuration = {"weights": {"system": "u_hved"}, "conventions": {"hd95": "pooled as medpy"}}
    (tmp_path / "provenance.json").write_text(json.dumps({"configuration": configuration}))
    text = tables.write_tables(tmp_path, metrics)
    assert (tmp_path / "table.md").read_text(encoding="utf-8") == text
    assert text.startswith("# u_hved on 2 cases\n")
    assert "- HD95: pooled as medpy." in text
    assert "002 has no T1: 1 of 2 subsets not scored" in text
