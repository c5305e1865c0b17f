"""Tables of several evaluations: every printed mean is computed again here from the rows on disk."""

import csv
import io
import json
import re
from html.parser import HTMLParser

import numpy as np
import pandas as pd
import pytest

from anymri.analysis.comparison import average_grid, read_comparison, subset_grid
from anymri.analysis.grid import FORMATS, to_csv, to_html, to_latex, to_markdown
from anymri.analysis.published import published, quote
from anymri.analysis.statistics import case_table
from anymri.cli.commands.table import make_table
from anymri.errors import ConfigurationError, InputWarning, RunError
from anymri.modalities import SUBSETS

NAMES = [str(subset) for subset in SUBSETS]
REGIONS = ("WT", "TC", "ET")


def rows_of(seed, cases=10, shift=0.0, metric="dice"):
    rng = np.random.default_rng(seed)
    keys = [(f"c{case}", subset, region) for case in range(cases) for subset in NAMES for region in REGIONS]
    return [(*key, metric, shift + 0.5 * rng.uniform(), "scored") for key in keys]


def write(folder, name, rows, convention="as usual"):
    folder.mkdir(parents=True)
    frame = pd.DataFrame(rows, columns=["case", "subset", "region", "metric", "value", "status"])
    frame.to_csv(folder / "metrics.csv", index=False)
    configuration = {"weights": {"system": name}, "conventions": dict.fromkeys(set(frame["metric"]), convention)}
    (folder / "provenance.json").write_text(json.dumps({"configuration": configuration}))
    return folder


@pytest.fixture(scope="module")
def two(tmp_path_factory):
    """Evaluations of a much better system, and of one without two cases and without T1 in another."""
    worse = [row for row in rows_of(1) if row[0] not in ("c8", "c9")]
    worse = [(*row[:4], None, "T1 missing") if row[0] == "c0" and "T1+" in row[1] + "+" else row for row in worse]
    folder = tmp_path_factory.mktemp("two")
    return [write(folder / "a", "u_hved", rows_of(0, shift=0.4)), write(folder / "b", "mmformer", worse)]


def test_the_tables_of_a_comparison_are_the_case_tables_of_its_common_rows(two):
    comparison = read_comparison(two)
    assert set(comparison.tables) == {(name, region) for name in ("u_hved", "mmformer") for region in REGIONS}
    for (name, region), table in comparison.tables.items():
        expected = case_table(comparison.common[name], "dice", region)
        pd.testing.assert_frame_equal(table, expected, check_names=False)
        assert table.isna().any(axis=None) and len(table) == 8  # c0 has no T1


def expected_means(folders):
    """Return the means over the rows that all folders have scored, and the mean of these means."""
    frames = [pd.read_csv(f / "metrics.csv").query("status == 'scored'") for f in folders]
    keys = ["case", "subset", "region"]
    shared = set.intersection(*(set(map(tuple, frame[keys].to_numpy())) for frame in frames))
    made = []
    for frame in frames:
        values = {tuple(row[:3]): row[3] for row in frame[[*keys, "value"]].to_numpy()}
        means = {
            (s, r): np.mean([values[k] for k in sorted(shared) if k[1:] == (s, r)]) for s in NAMES for r in REGIONS
        }
        made.append(means | {("mean", r): np.mean([means[s, r] for s in NAMES]) for r in REGIONS})
    return made


def cells(grid):
    return [[cell.text for cell in row] for row in grid.rows]


def test_every_number_is_the_mean_over_common_cases_and_the_last_row_that_of_the_rows(two):
    grid = subset_grid(read_comparison(two, "dice"))
    expected = expected_means(two)
    for name, row in zip([*NAMES, "mean"], cells(grid), strict=True):
        assert row[4:] == [f"{100 * means[name, region]:.1f}" for means in expected for region in REGIONS]
    assert [group.heading for group in grid.groups] == ["u_hved", "mmformer"]
    assert cells(grid)[0][:4] == ["○", "○", "○", "●"] and cells(grid)[14][:4] == ["●"] * 4


def test_the_order_of_cases_systems_and_rows_does_not_change_numbers(two, tmp_path):
    grid = subset_grid(read_comparison(two, "dice"))
    mixed = pd.read_csv(two[1] / "metrics.csv").sample(frac=1, random_state=1)
    other = write(tmp_path / "c" / "b", "mmformer", mixed.to_numpy())
    turned = subset_grid(read_comparison([other, two[0]], "dice"))
    for one, back in zip(grid.rows, turned.rows, strict=True):
        assert [*back[:4], *back[7:], *back[4:7]] == list(one)


def test_notes_name_cases_that_are_not_compared(two):
    notes = " ".join(subset_grid(read_comparison(two, "dice")).notes)
    assert "u_hved has 2 cases that another system does not have; only the 8 common to all count here." in notes
    assert "as usual" in notes and "Holm's correction over all 48 tests" in notes


def test_the_best_is_bold_and_a_significant_difference_is_marked(two, tmp_path):
    last = subset_grid(read_comparison(two, "dice")).rows[-1]
    assert [cell.best for cell in last] == [False] * 4 + [True] * 3 + [False] * 3
    # eight cases and 48 tests: no p-value of this test can be small enough
    assert {cell.marks for cell in last} == {""}
    many = [write(tmp_path / n, n, rows_of(s, 25, shift)) for s, (n, shift) in enumerate({"x": 0.4, "y": 0}.items())]
    last = subset_grid(read_comparison(many, "dice")).rows[-1]
    assert [cell.marks for cell in last] == [""] * 7 + ["†"] * 3
    same = [write(tmp_path / f"same{i}", f"s{i}", rows_of(3)) for i in range(2)]
    row = subset_grid(read_comparison(same, "dice")).rows[3]
    assert all(cell.best and not cell.marks for cell in row[4:])


def test_distances_are_in_mm_and_smaller_is_better(tmp_path):
    folders = [
        write(tmp_path / name, name, [(*row[:4], 10 * row[4], row[5]) for row in rows_of(0, 3, shift, "hd95")])
        for name, shift in (("near", 0.0), ("far", 1.0))
    ]
    grid = subset_grid(read_comparison(folders, "hd95"))
    assert [cell.best for cell in grid.rows[0][4:]] == [True] * 3 + [False] * 3
    assert "HD95 in mm (lower is better)." in grid.reading


def test_one_evaluation_has_no_best(two):
    assert not any(cell.best for row in subset_grid(read_comparison(two[:1], "dice")).rows for cell in row)


def test_averages_are_those_of_the_table_with_differences_from_the_first(two):
    grid = average_grid(read_comparison(two, "dice"))
    expected = expected_means(two)
    means = [[f"{100 * each['mean', region]:.1f}" for region in REGIONS] for each in expected]
    differences = [f"{100 * (expected[1]['mean', r] - expected[0]['mean', r]):.1f}" for r in REGIONS]
    assert cells(grid) == [["u_hved", *means[0], "-", "-", "-"], ["mmformer", *means[1], *differences]]


def test_published_results_are_marked_as_quoted_and_never_best(two):
    each = quote("m3ae-2020")
    grid = subset_grid(read_comparison(two, "dice"), [each])
    assert grid.groups[-1].heading == "m3ae-2020 (quoted)"
    assert [row[-3].text for row in grid.rows[:4]] == ["86.1", "78.9", "79.0", "88.0"]
    assert all(cell.quoted and not cell.best and not cell.marks for row in grid.rows for cell in row[-3:])
    assert "*86.1*" in to_markdown(grid) and r"\textit{86.1}" in to_latex(grid) and "<em>86.1</em>" in to_html(grid)
    assert any("is quoted, not measured: M3AE paper" in note for note in grid.notes)


def test_published_results_have_a_source_caveats_and_all_15_rows():
    systems = {each.system for each in published().values()}
    assert systems == {
        "u_hved", "ra_hved", "xlstm_hved", "mmformer", "im_fuse", "shaspec", "robust_mseg", "sfusion", "m3ae", "mam"
    }  # fmt: skip
    for each in published().values():
        assert each.source and each.caveats and each.cohort
        for rows in each.rows.values():
            assert list(rows) == NAMES and all(tuple(row) == REGIONS for row in rows.values())
        assert each.rows or each.printed_means or each.overall_dice


def test_notes_name_printed_means_that_differ_from_those_of_their_rows():
    xlstm = quote("xlstm_hved-2024")
    assert xlstm.mean("dice", "ET") == pytest.approx(53.40, abs=0.005)
    assert "prints 53.83 as mean of ET, its rows give 53.40." in " ".join(xlstm.notes("dice"))
    assert "prints 17.86 as mean of WT, its rows give 18.06." in " ".join(xlstm.notes("hd95"))
    assert "its rows give" not in " ".join(quote("m3ae-2020").notes("dice"))


def test_results_published_as_means_only_have_empty_rows(two):
    grid = subset_grid(read_comparison(two, "dice"), [quote("m3ae-2018"), quote("im_fuse-2023")])
    assert [cell.text for cell in grid.rows[0][-6:]] == ["-"] * 6
    assert [cell.text for cell in grid.rows[-1][-6:]] == ["85.8", "77.4", "59.9", "-", "-", "-"]
    assert any("only one mean over subsets and regions: 83.3." in note for note in grid.notes)


def test_every_format_holds_the_same_numbers(two):
    grid = subset_grid(read_comparison(two, "dice"), [quote("m3ae-2020")])
    numbers = [cell.text for row in grid.rows for cell in row[4:]]

    def found(text):
        return re.findall(r"(?<![\w.])\d+\.\d(?!\d)", text)

    markdown = "\n".join(line for line in to_markdown(grid).splitlines() if line.startswith("|"))
    latex = to_latex(grid)
    latex = latex[latex.index(r"\midrule") : latex.index(r"\bottomrule")]
    body = to_html(grid)
    assert found(markdown) == found(latex) == found(body[body.index("<tbody>") : body.index("</table>")]) == numbers
    read = list(csv.DictReader(io.StringIO(to_csv(grid))))
    assert [row["u_hved WT"] for row in read] == [row[4].text for row in grid.rows]
    assert [read[0][m] for m in ("FLAIR", "T1", "T1c", "T2")] == ["0", "0", "0", "1"]
    assert "m3ae-2020 (quoted) ET" in read[0]


def test_latex_is_balanced_and_escaped(two):
    text = to_latex(subset_grid(read_comparison(two, "dice")))
    assert text.count(r"\begin{tabular}") == text.count(r"\end{tabular}") == 1
    assert r"u\_hved" in text and not re.search(r"(?<!\\)_", text)
    assert text.count("{") == text.count("}") and re.search(r"[^\x00-\x7f]", text) is None
    body = text[text.index(r"\midrule") : text.index(r"\bottomrule")]
    rows = [line for line in body.splitlines() if line.endswith(r"\\")]
    assert len(rows) == 16 and all(line.count("&") == 4 + 6 - 1 for line in rows)
    assert text.count(r"\midrule") == 2 and r"\cmidrule(lr){5-7}\cmidrule(lr){8-10}" in text


def test_html_is_well_formed_and_escaped(tmp_path):
    folder = write(tmp_path / "a", "<script>", rows_of(0, 2))
    text = to_html(subset_grid(read_comparison([folder], "dice")))
    opened = []

    class Check(HTMLParser):
        def handle_starttag(self, tag, attrs):
            if tag != "wbr":
                opened.append(tag)

        def handle_endtag(self, tag):
            assert opened.pop() == tag

    Check().feed(text)
    assert not opened and "<script>" not in text and text.count("<tr>") == 2 + 16


@pytest.mark.parametrize("form", FORMATS)
def test_statistics_are_tables_of_every_format(two, form):
    text = make_table(two, "dice", form, [], average=False, statistics=True)
    assert "rank-biserial" in text
    assert len(re.findall(r"\d\.\d \[-?\d+\.\d, -?\d+\.\d\]", text)) == 2 * 4 * 3 + 2 * 3 * 4


def test_systems_of_one_name_are_named_by_their_folders(tmp_path):
    folders = [write(tmp_path / name, "u_hved", rows_of(0, 2)) for name in ("run1", "run2")]
    assert list(read_comparison(folders, "dice").metrics) == ["u_hved (run1)", "u_hved (run2)"]
    deep = [write(tmp_path / name / "eval", "u_hved", rows_of(0, 2)) for name in ("d1", "d2")]
    assert len(read_comparison(deep, "dice").metrics) == 2


def refused(error, word, *arguments):
    with pytest.raises(error, match=word):
        make_table(*arguments)


def test_evaluations_that_are_not_comparable_are_refused(two, tmp_path):
    other = write(tmp_path / "c", "mam", rows_of(0, 2), convention="otherwise")
    refused(RunError, "different conventions", [two[0], other], "dice", "csv", [], False, False)
    strangers = write(tmp_path / "d", "mam", [(f"other {row[0]}", *row[1:]) for row in rows_of(0, 2)])
    refused(RunError, "in common", [two[0], strangers], "dice", "csv", [], False, False)
    refused(RunError, "does not have the metric hd95; it has dice", two, "hd95", "csv", [], False, False)
    refused(ConfigurationError, "twice", [two[0], two[0]], "dice", "csv", [], False, False)
    refused(ConfigurationError, "markdown", two, "dice", "word", [], False, False)
    refused(ConfigurationError, "Did you mean m3ae-20", two, "dice", "csv", ["m3ae-2021"], False, False)
    refused(RunError, "does not exist", [tmp_path / "nowhere"], "dice", "csv", [], False, False)


def with_labels(folder, scheme, sha256):
    file = folder / "provenance.json"
    provenance = json.loads(file.read_text())
    provenance["configuration"]["label_scheme"] = scheme
    provenance["inputs"] = {"c1: label": {"file": "c1.nii.gz", "sha256": sha256}, "c1: T1": {"file": "t1.nii.gz"}}
    file.write_text(json.dumps(provenance))
    return folder


@pytest.mark.parametrize(
    ("scheme", "sha256", "doubt"),
    [
        ("brats2021", "0", "The evaluations have different label schemes: brats2021, brats2023."),
        ("brats2023", "1", "The evaluations have different label maps of 1 of the cases: c1."),
    ],
)
def test_evaluations_of_other_labels_are_compared_with_a_note(tmp_path, scheme, sha256, doubt):
    first = with_labels(write(tmp_path / "a", "a", rows_of(0, cases=3)), "brats2023", "0")
    second = with_labels(write(tmp_path / "b", "b", rows_of(1, cases=3)), scheme, sha256)
    with pytest.warns(InputWarning, match=re.escape(doubt)):
        notes = read_comparison([first, second], "dice").notes()
    assert doubt in notes


def test_subsets_that_fewer_cases_have_are_named_with_their_number(two):
    (note,) = [text for text in read_comparison(two, "dice").notes() if "fewer than" in text]
    assert note.startswith("Some subsets are scored for fewer than 8 cases: T1 (7), ") and "FLAIR (8)" not in note


def test_equal_means_have_the_difference_0(tmp_path):
    rows = rows_of(0, cases=3)
    noisy = [(*row[:4], row[4] * (1 - 1e-15), row[5]) for row in rows]
    comparison = read_comparison([write(tmp_path / "a", "a", rows), write(tmp_path / "b", "b", noisy)], "dice")
    assert [cell.text for cell in average_grid(comparison).rows[1]][4:] == ["0.0"] * 3
    assert {test.p_value for test in comparison.tests.values()} == {1}


@pytest.mark.parametrize("section", ["weights", "conventions"])
def test_provenance_with_a_section_that_is_no_mapping_is_refused(tmp_path, section):
    folder = write(tmp_path / "a", "a", rows_of(0, cases=1))
    provenance = {"configuration": {"weights": {"system": "a"}, section: ["x"]}}
    (folder / "provenance.json").write_text(json.dumps(provenance))
    with pytest.raises(RunError, match="one of its sections is not a mapping"):
        read_comparison([folder], "dice")


def test_names_of_systems_fit_into_tables(tmp_path):
    folder = write(tmp_path / "a", "x" * 500 + "\x1b[31m", rows_of(0, cases=1))
    (name,) = read_comparison([folder], "dice").metrics
    assert len(name) == 80 and name.isprintable()
