"""Results on disk as tables, and the table of 15 subsets that the papers print.

An evaluation folder holds `scores.csv`, tidy: one row per case, subset, region and metric. A row counts only if its
status is `scored`; any other status says why there is no value (`T1 absent`) and keeps the row out of every mean,
where a zero would be wrong. Metrics whose name begins with `hd95` are distances in mm, all others fractions in 0..1,
shown as 0 to 100.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from anymri.errors import RunError
from anymri.evaluation.scores import COLUMNS, SCORED
from anymri.files import write_text
from anymri.modalities import MODALITIES, SUBSETS
from anymri.regions import REGIONS

PRESENT, ABSENT, NOTHING = "●", "○", "-"
MEAN = "mean"
# The papers' order of columns, which is not the order inside arrays (protocol sheet, section 6).
MODALITY_COLUMNS = ("FLAIR", "T1", "T1c", "T2")
TERMINAL_COLUMNS = 100
# Incomplete cases named below a table; scores.csv has them all.
NAMED_CASES = 10

_LOG_COLUMNS = ("stage", "epoch", "step", "seconds", "learning_rate")
_VALIDATION_COLUMNS = ("stage", "epoch", "step", "region", "dice")
# A case may be called 001, so words are never read as numbers.
_WORDS = dict.fromkeys(("case", "subset", "region", "metric", "status", "stage"), "str")
_NUMBERS = ("value", "dice", "epoch", "step")
_SUBSET_NAMES = [str(subset) for subset in SUBSETS]
_HEADINGS = {"dice": "Dice", "hd95": "HD95"}


def read_scores(evaluation: Path) -> pd.DataFrame:
    """The rows of `scores.csv` in an evaluation folder.

    Raises `RunError` if the folder is none, or if its rows would give wrong means: a foreign subset or region, a scored
    row without a value, or one case scored twice.
    """
    file = evaluation / "scores.csv"
    scores = _read_csv(file, COLUMNS, "Give the folder that `anymri evaluate` wrote, when it is finished.")
    if scores.empty:
        raise RunError(f"{file} holds no rows.", "Run `anymri evaluate` again, on at least one case.")
    keys = list(COLUMNS[:4])
    for problem, rows in (
        ("a subset that is none of the 15", ~scores["subset"].isin(_SUBSET_NAMES)),
        ("an unknown region", ~scores["region"].isin(list(REGIONS))),
        ("a scored row without a value", (scores["status"] == SCORED) & scores["value"].isna()),
        ("the same case, subset, region and metric twice", scores.duplicated(keys)),
    ):
        if rows.any():
            first = ", ".join(map(str, scores.loc[rows, keys].iloc[0]))
            raise RunError(f"{file} holds {problem} ({first}).", "Run `anymri evaluate` again into an empty folder.")
    return scores


def read_run(run: Path) -> tuple[pd.DataFrame, pd.DataFrame | None]:
    """`log.csv` of a run folder, one row per epoch, and `validation.csv`, or None while nothing is validated."""
    fix = "Give the folder that `anymri train` wrote, after its first epoch."
    log = _read_csv(run / "log.csv", _LOG_COLUMNS, fix)
    file = run / "validation.csv"
    if not file.is_file() or not file.read_text(encoding="utf-8").strip():
        return log, None
    validation = _read_csv(file, _VALIDATION_COLUMNS, fix)
    return log, None if validation.empty else validation


def read_manifest(folder: Path) -> dict[str, Any]:
    """The `manifest.json` of a run, an evaluation or a segmentation."""
    file = folder / "manifest.json"
    fix = "Give a folder that anymri wrote, with its manifest beside the results."
    if not file.is_file():
        raise RunError(f"{folder} holds no manifest.json.", fix)
    try:
        manifest = json.loads(file.read_text(encoding="utf-8"))
    except (ValueError, OSError) as error:
        raise RunError(f"{file} cannot be read as JSON: {error}.", fix) from error
    if not isinstance(manifest, dict) or not isinstance(manifest.get("configuration"), dict):
        raise RunError(f"{file} is no manifest of anymri: it has no configuration.", fix)
    return manifest


def system_name(manifest: Mapping[str, Any]) -> str:
    """The system whose weights an evaluation scored."""
    name: str = manifest["configuration"].get("weights", {}).get("system", "Unknown system")
    return name


def conventions(manifest: Mapping[str, Any], metrics: Sequence[str]) -> list[str]:
    """How each metric was computed: the sentences under `conventions` in an evaluation's configuration."""
    known = manifest["configuration"].get("conventions", {})
    return [f"{heading(metric)}: {known[metric]}." for metric in metrics if metric in known]


def metrics_in(scores: pd.DataFrame) -> list[str]:
    """Names of the metrics in `scores`: Dice first, then HD95, then others as they come."""
    return sorted(scores["metric"].unique(), key=lambda metric: (metric != "dice", metric != "hd95"))


def regions_in(table: pd.DataFrame) -> list[str]:
    """The columns of a `subset_table` that are regions, outermost first."""
    return [region for region in REGIONS if region in table.columns]


def subset_table(scores: pd.DataFrame, metric: str) -> pd.DataFrame:
    """The mean of `metric` over cases, for each of the 15 subsets and each region.

    scores   rows as `read_scores` gives them
    returns  one row per subset, in the order of `SUBSETS` and indexed by its name, then the row `mean`; columns:
             FLAIR, T1, T1c, T2  `PRESENT` or `ABSENT`
             WT, TC, ET (, RC)   mean over the scored cases: fractions or mm; NaN if there is none
             n                   scored cases; 0 if there is none, NA in the row `mean`

    The row `mean` is the plain mean of the rows above it that have a value, so each subset weighs the same.
    """
    of_metric = scores[scores["metric"] == metric]
    scored = of_metric[of_metric["status"] == SCORED]
    regions = [region for region in REGIONS if region in set(of_metric["region"])]
    means = scored.groupby(["subset", "region"])["value"].mean().unstack()
    means = means.reindex(index=_SUBSET_NAMES, columns=regions).astype(float)
    means.loc[MEAN] = means.mean()
    modalities = {
        modality: [*(PRESENT if modality in subset else ABSENT for subset in SUBSETS), ""]
        for modality in MODALITY_COLUMNS
    }
    table = pd.DataFrame(modalities, index=means.index).join(means)
    table["n"] = scored.groupby("subset")["case"].nunique().reindex(_SUBSET_NAMES).fillna(0).astype("Int64")
    return table


def tables_of(scores: pd.DataFrame) -> dict[str, pd.DataFrame]:
    """Metric -> its `subset_table`, for all metrics in `scores`."""
    return {metric: subset_table(scores, metric) for metric in metrics_in(scores)}


def left_out(scores: pd.DataFrame) -> list[str]:
    """Sentences on what could not be scored, one a case and reason, the first `NAMED_CASES` of them."""
    sentences = []
    unscored = scores[scores["status"] != SCORED]
    for case, rows in unscored.groupby("case", sort=False):
        absent = rows["status"].str.endswith(" absent")
        if absent.any():
            missing = " and no ".join(m for m in MODALITIES if rows["status"].str.contains(rf"\b{m}\b").any())
            subsets = rows.loc[absent, "subset"].nunique()
            total = scores.loc[scores["case"] == case, "subset"].nunique()
            sentences.append(f"{case} has no {missing}: {subsets} of {total} subsets not scored, and in no mean.")
        sentences += [f"{case}: {reason}, in no mean." for reason in rows.loc[~absent, "status"].unique()]
    more = len(sentences) - NAMED_CASES
    return sentences[:NAMED_CASES] + ([f"{more} more: see the column status in scores.csv."] if more > 0 else [])


def heading(metric: str) -> str:
    """The name of a metric as people print it."""
    return _HEADINGS.get(metric, metric)


def is_distance(metric: str) -> bool:
    """True for distances in mm, where less is better; false for fractions, where more is better."""
    return metric.startswith("hd95")


def explain(metric: str) -> str:
    """How to read the numbers of a metric."""
    unit = "in mm (lower is better)" if is_distance(metric) else "in percent (0 to 100, higher is better)"
    return f"{heading(metric)} {unit}"


def format_value(value: float, metric: str) -> str:
    """`value` as shown: percent or mm with one decimal, a dash for NaN."""
    if math.isnan(value):
        return NOTHING
    return f"{value if is_distance(metric) else 100 * value:.1f}"


@dataclass(frozen=True)
class Block:
    """Columns that stand together in a printed table.

    heading  the metric's name, or nothing above the number of cases that all metrics share
    columns  regions, or `n`
    rows     one list of texts per row of the `subset_table`
    """

    heading: str
    columns: list[str]
    rows: list[list[str]]


def blocks(tables: Mapping[str, pd.DataFrame]) -> list[Block]:
    """Tables of several metrics side by side; `n` stands once, at the end, unless the metrics differ in it."""
    made, counts = [], {metric: _counts_shown(table) for metric, table in tables.items()}
    for number, (metric, table) in enumerate(tables.items(), start=1):
        made.append(Block(heading(metric), regions_in(table), cells(table, metric)))
        if number == len(tables) or any(count != counts[metric] for count in counts.values()):
            made.append(Block("", ["n"], counts[metric]))
    return made


def cells(table: pd.DataFrame, metric: str) -> list[list[str]]:
    """The regions' values of a `subset_table` as shown, one list per row."""
    return [[format_value(float(value), metric) for value in row] for row in table[regions_in(table)].to_numpy()]


def _counts_shown(table: pd.DataFrame) -> list[list[str]]:
    return [["" if pd.isna(cases) else str(cases) if cases else NOTHING] for cases in table["n"]]


def to_markdown(tables: Mapping[str, pd.DataFrame], title: str, notes: Sequence[str] = ()) -> str:
    """The tables as Markdown that also reads well in a terminal.

    tables  metric -> its `subset_table`; side by side where that fits in 100 columns, else one below the other
    notes   footnotes: conventions of the metrics, `left_out`
    """
    grid = _grid(tables)
    grids = [grid] if len(grid[0]) <= TERMINAL_COLUMNS else [_grid({metric: tables[metric]}) for metric in tables]
    footnotes = [mean_note(tables), *notes]
    parts = [
        f"# {title}",
        "\n".join(reading(tables)),
        *("\n".join(grid) for grid in grids),
        "\n".join(f"- {note}" for note in footnotes),
    ]
    return "\n\n".join(parts) + "\n"


def reading(metrics: Iterable[str]) -> list[str]:
    """How to read tables of these metrics, as two sentences."""
    return [
        f"{'; '.join(map(explain, metrics))}.",
        f"Means over n cases; {PRESENT} modality given, {ABSENT} absent.",
    ]


def write_tables(evaluation: Path, scores: pd.DataFrame) -> str:
    """Writes the tables of all metrics to `table.md` in an evaluation folder, and returns its text.

    scores  the rows of the folder's `scores.csv`
    """
    manifest = read_manifest(evaluation)
    by_metric = tables_of(scores)
    title = f"{system_name(manifest)} on {count(scores['case'].nunique(), 'case')}"
    text = to_markdown(by_metric, title, [*conventions(manifest, list(by_metric)), *left_out(scores)])
    write_text(evaluation / "table.md", text)
    return text


def mean_note(tables: Mapping[str, pd.DataFrame]) -> str:
    """What the last row of the tables is a mean of."""
    scored = max((int((table["n"] > 0).sum()) for table in tables.values()), default=0)
    return f"The last row is the mean of the {count(scored, 'subset')} with a score."


def _grid(tables: Mapping[str, pd.DataFrame]) -> list[str]:
    """Lines of one Markdown table, its columns padded to equal width."""
    first = next(iter(tables.values()))
    rows = [list(MODALITY_COLUMNS), *(list(row) for row in first[list(MODALITY_COLUMNS)].to_numpy())]
    rows[-1][0] = MEAN
    for block in blocks(tables):
        names = [f"{block.heading} {name}".strip() for name in block.columns]
        rows = [left + right for left, right in zip(rows, [names, *block.rows], strict=True)]
    widths = [max(3, *map(len, column)) for column in zip(*rows, strict=True)]
    lines = [_line(row, widths) for row in rows]
    rule = [f":{'-' * (width - 2)}:" for width in widths[:4]] + [f"{'-' * (width - 1)}:" for width in widths[4:]]
    return [lines[0], _line(rule, widths), *lines[1:]]


def _line(row: Sequence[str], widths: Sequence[int]) -> str:
    """One line of a Markdown table: the four modalities centred, numbers to the right."""
    padded = [
        cell.center(width) if column < len(MODALITY_COLUMNS) else cell.rjust(width)
        for column, (cell, width) in enumerate(zip(row, widths, strict=True))
    ]
    return f"| {' | '.join(padded)} |"


def _read_csv(file: Path, columns: Sequence[str], fix: str) -> pd.DataFrame:
    """A CSV file with at least these columns."""
    if not file.is_file():
        raise RunError(f"{file.parent} holds no {file.name}.", fix)
    try:
        table = pd.read_csv(file, dtype=_WORDS, keep_default_na=False, na_values=["", "nan", "NaN"])
        numbers = [column for column in _NUMBERS if column in table.columns]
        table[numbers] = table[numbers].astype(float)
    except (ValueError, OSError) as error:
        raise RunError(f"{file} cannot be read as a table: {error}.", fix) from error
    missing = [column for column in columns if column not in table.columns]
    if missing:
        raise RunError(f"{file} lacks the columns {', '.join(missing)}.", fix)
    return table


def count(number: int, noun: str) -> str:
    return f"{number} {noun}{'' if number == 1 else 's'}"
