"""Results on disk as tables, and the table of 15 subsets that the papers print.

An evaluation folder holds `scores.csv`, tidy: one row per case, subset, region and metric. A row counts only if its
status is `scored`; any other status says why there is no value (`T1 absent`) and keeps the row out of every mean,
where a zero would be wrong. Metrics whose name begins with `hd95` are distances in mm, all others fractions in 0..1,
shown as 0 to 100.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from anymri.errors import RunError
from anymri.modalities import SUBSETS
from anymri.regions import REGIONS

PRESENT, ABSENT, NOTHING = "●", "○", "-"
SCORED = "scored"
MEAN = "mean"
# The papers' order of columns, which is not the order inside arrays (protocol sheet, section 6).
MODALITY_COLUMNS = ("FLAIR", "T1", "T1c", "T2")
TERMINAL_COLUMNS = 100

_SCORE_COLUMNS = ("case", "subset", "region", "metric", "value", "status")
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
    scores = _read_csv(
        file, _SCORE_COLUMNS, "Give the folder that `anymri evaluate` wrote, or run `anymri evaluate` first."
    )
    keys = list(_SCORE_COLUMNS[:4])
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


def left_out(scores: pd.DataFrame) -> list[str]:
    """A sentence for each reason why rows have no value, with how many cases and subsets it touches."""
    sentences = []
    for reason, rows in scores[scores["status"] != SCORED].groupby("status", sort=False):
        regions = ", ".join(region for region in REGIONS if region in set(rows["region"]))
        cases, subsets = _count(rows["case"].nunique(), "case"), _count(rows["subset"].nunique(), "subset")
        sentences.append(f"Not scored and in no mean: {regions} of {cases} in {subsets} ({reason}).")
    return sentences


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
    """The columns of one metric in a printed table.

    columns  regions, then `n` where the block shows the number of cases
    rows     one list of texts per row of the `subset_table`
    """

    metric: str
    columns: list[str]
    rows: list[list[str]]


def blocks(tables: Mapping[str, pd.DataFrame]) -> list[Block]:
    """Tables of several metrics as blocks side by side; `n` stands once, at the end, if all metrics have the same."""
    counts = {metric: _counts_shown(table) for metric, table in tables.items()}
    last = list(tables)[-1]
    shared = all(count == counts[last] for count in counts.values())
    made = []
    for metric, table in tables.items():
        block = Block(metric, regions_in(table), cells(table, metric))
        if metric == last or not shared:
            rows = [[*row, count] for row, count in zip(block.rows, counts[metric], strict=True)]
            block = Block(metric, [*block.columns, "n"], rows)
        made.append(block)
    return made


def cells(table: pd.DataFrame, metric: str) -> list[list[str]]:
    """The regions' values of a `subset_table` as shown, one list per row."""
    return [[format_value(float(value), metric) for value in row] for row in table[regions_in(table)].to_numpy()]


def _counts_shown(table: pd.DataFrame) -> list[str]:
    return ["" if pd.isna(count) else str(count) if count else NOTHING for count in table["n"]]


def to_markdown(tables: Mapping[str, pd.DataFrame], title: str, notes: Sequence[str] = ()) -> str:
    """The tables as Markdown that also reads well in a terminal.

    tables  metric -> its `subset_table`; side by side where that fits in 100 columns, else one below the other
    notes   footnotes: conventions of the metrics, `left_out`
    """
    grid = _grid(tables)
    grids = [grid] if len(grid[0]) <= TERMINAL_COLUMNS else [_grid({metric: tables[metric]}) for metric in tables]
    reading = f"{'; '.join(map(explain, tables))}.\nMeans over n cases; {PRESENT} modality given, {ABSENT} absent."
    footnotes = [mean_note(tables), *notes]
    parts = [f"# {title}", reading, *("\n".join(grid) for grid in grids), "\n".join(f"- {note}" for note in footnotes)]
    return "\n\n".join(parts) + "\n"


def mean_note(tables: Mapping[str, pd.DataFrame]) -> str:
    """What the last row of the tables is a mean of."""
    scored = max((int((table["n"] > 0).sum()) for table in tables.values()), default=0)
    return f"The last row is the mean of the {_count(scored, 'subset')} with a score."


def _grid(tables: Mapping[str, pd.DataFrame]) -> list[str]:
    """Lines of one Markdown table, its columns padded to equal width."""
    first = next(iter(tables.values()))
    rows = [list(MODALITY_COLUMNS), *(list(row) for row in first[list(MODALITY_COLUMNS)].to_numpy())]
    rows[-1][0] = MEAN
    for block in blocks(tables):
        names = [name if name == "n" else f"{heading(block.metric)} {name}" for name in block.columns]
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


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}{'' if number == 1 else 's'}"
