"""The table of 15 subsets that the papers print, of one evaluation.

The rows of `metrics.csv` are tidy: one per case, subset, region and metric. A row counts only if its status is
`scored`; any other status is the reason why there is no value (`T1 missing`) and keeps the row out of every mean, where
a zero would be wrong. Fractions are printed as 0 to 100. Metrics of reconstructed scans have a modality as region.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from anymri.analysis.grid import MISSING, PRESENT, Cell, Grid, Group, markdown_lines, markdown_text
from anymri.analysis.reading import StoredEvaluation, protocol_notes, read_provenance, system_name
from anymri.evaluation.metrics.printing import NOTHING, explain, format_value, heading
from anymri.evaluation.rows import MISSING_STATUS, PLACES, SCORED
from anymri.files import write_text
from anymri.modalities import MODALITIES, SUBSETS, Subset
from anymri.text import count

MEAN = "mean"
# Prefix of a reconstructed modality, in a table that has columns for the given modalities.
RECONSTRUCTED = "reconstructed "
# The papers' order of columns, which is not the order inside arrays (protocol sheet, section 6).
MODALITY_COLUMNS = ("FLAIR", "T1", "T1c", "T2")
TERMINAL_COLUMNS = 100
# Incomplete cases named below a table; metrics.csv has them all.
NAMED_CASES = 10
SUBSET_NAMES = [str(subset) for subset in SUBSETS]


def conventions(provenance: Mapping[str, Any], metrics: Sequence[str]) -> list[str]:
    """Return how each metric was computed: the sentences under `conventions` in the configuration of an evaluation."""
    recorded = provenance["configuration"].get("conventions", {})
    return [f"{heading(metric)}: {recorded[metric]}." for metric in metrics if metric in recorded]


def metrics_in(metrics: pd.DataFrame) -> list[str]:
    """Return the names of the metrics in rows of `metrics.csv`: Dice, HD95, then the others in their order."""
    return sorted(metrics["metric"].unique(), key=lambda metric: (metric != "dice", metric != "hd95"))


def regions_in(table: pd.DataFrame) -> list[str]:
    """Return the columns of a `subset_table` that are regions, outermost first, or reconstructed modalities."""
    return [column for column in map(_column, PLACES) if column in table.columns]


def _column(place: str) -> str:
    return RECONSTRUCTED + place if place in MODALITIES else place


def signs(subset: str) -> list[str]:
    """Return the sign `PRESENT` or `MISSING` for each of `MODALITY_COLUMNS`."""
    modalities = Subset.parse(subset)
    return [PRESENT if modality in modalities else MISSING for modality in MODALITY_COLUMNS]


def subset_table(metrics: pd.DataFrame, metric: str) -> pd.DataFrame:
    """Return the mean of one metric over cases, for each of the 15 subsets and each region.

    metrics  rows as `read_metrics` returns them
    returns  one row per subset, in the order of `SUBSETS` and indexed by its name, then the row `mean`; columns:
             FLAIR, T1, T1c, T2  sign `PRESENT` or `MISSING`
             WT, TC, ET (, RC)   mean over the scored cases in the unit of the metric, NaN without cases; or
                                 `reconstructed T1` and so on where modalities were reconstructed
             n                   number of scored cases; NA in the row `mean`

    The row `mean` is the mean of the rows above it that have a value, with equal weights.
    """
    of_metric = metrics[metrics["metric"] == metric]
    scored = of_metric[of_metric["status"] == SCORED]
    regions = [place for place in PLACES if place in set(of_metric["region"])]
    means = scored.groupby(["subset", "region"])["value"].mean().unstack()
    means = means.reindex(index=SUBSET_NAMES, columns=regions).astype(float)
    means = means.rename(columns=_column)
    means.loc[MEAN] = means.mean()
    modalities = [*map(signs, SUBSET_NAMES), [""] * len(MODALITY_COLUMNS)]
    table = pd.DataFrame(modalities, index=means.index, columns=list(MODALITY_COLUMNS)).join(means)
    table["n"] = scored.groupby("subset")["case"].nunique().reindex(SUBSET_NAMES).fillna(0).astype("Int64")
    return table


def tables_of(metrics: pd.DataFrame) -> dict[str, pd.DataFrame]:
    """Return metric -> its `subset_table`, for all metrics in rows of `metrics.csv`."""
    return {metric: subset_table(metrics, metric) for metric in metrics_in(metrics)}


def means_over_regions(table: pd.DataFrame) -> pd.Series:
    """Return subset -> mean over the regions of a `subset_table`, for subsets with a value in all of them.

    Given modalities are not reconstructed, so their columns do not count.
    """
    rows = table.drop(MEAN)
    columns = [column for column in regions_in(table) if table[column].notna().any()]
    complete = pd.Series(True, index=rows.index)
    for column in columns:
        given = rows[column.removeprefix(RECONSTRUCTED)] == PRESENT  # false for a region, whose column holds numbers
        complete &= rows[column].notna() | given
    return rows[columns].mean(axis="columns")[complete].dropna()


def unscored_notes(metrics: pd.DataFrame) -> list[str]:
    """Return sentences on what could not be scored, one per case and reason, at most `NAMED_CASES`."""
    sentences = []
    unscored = metrics[metrics["status"] != SCORED]
    for case, rows in unscored.groupby("case", sort=False):
        missing = rows["status"].str.endswith(MISSING_STATUS)
        if missing.any():
            modalities = " and no ".join(m for m in MODALITIES if rows["status"].str.contains(rf"\b{m}\b").any())
            subsets = rows.loc[missing, "subset"].nunique()
            total = metrics.loc[metrics["case"] == case, "subset"].nunique()
            sentences.append(f"{case} has no {modalities}: {subsets} of {total} subsets not scored, and in no mean.")
        sentences += [f"{case}: {reason}, in no mean." for reason in rows.loc[~missing, "status"].unique()]
    more = len(sentences) - NAMED_CASES
    return sentences[:NAMED_CASES] + ([f"{more} more: see the column status in metrics.csv."] if more > 0 else [])


@dataclass(frozen=True)
class Block:
    """Group of neighbouring columns in a printed table.

    heading  name of the metric; empty above the number of cases
    columns  regions or reconstructed modalities, or `n`
    rows     one list of texts per row of the `subset_table`
    """

    heading: str
    columns: list[str]
    rows: list[list[str]]


def blocks(tables: Mapping[str, pd.DataFrame]) -> list[Block]:
    """Return the columns of several metrics side by side; `n` is printed once, unless metrics differ in it."""
    made, counts = [], {metric: _counts_shown(table) for metric, table in tables.items()}
    for number, (metric, table) in enumerate(tables.items(), start=1):
        columns = [column.removeprefix(RECONSTRUCTED) for column in regions_in(table)]
        made.append(Block(heading(metric), columns, cells(table, metric)))
        if number == len(tables) or any(count != counts[metric] for count in counts.values()):
            made.append(Block("", ["n"], counts[metric]))
    return made


def cells(table: pd.DataFrame, metric: str) -> list[list[str]]:
    """Return the values of the regions of a `subset_table` as printed, one list per row."""
    return [[format_value(float(value), metric) for value in row] for row in table[regions_in(table)].to_numpy()]


def _counts_shown(table: pd.DataFrame) -> list[list[str]]:
    return [["" if pd.isna(cases) else str(cases) if cases else NOTHING] for cases in table["n"]]


def to_markdown(tables: Mapping[str, pd.DataFrame], title: str, notes: Sequence[str] = ()) -> str:
    """Return the tables as Markdown that is also readable in a terminal.

    tables  metric -> its `subset_table`; side by side where that fits in 100 columns, else one below the other
    notes   footnotes: conventions of the metrics, `unscored_notes`
    """
    lines = [markdown_lines(evaluation_grid(tables))]
    if len(lines[0][0]) > TERMINAL_COLUMNS:
        lines = [markdown_lines(evaluation_grid({metric: table})) for metric, table in tables.items()]
    footnotes = [mean_note(tables), *notes]
    parts = [
        f"# {markdown_text(title)}",
        "\n".join(reading(tables)),
        *("\n".join(each) for each in lines),
        "\n".join(f"- {markdown_text(note)}" for note in footnotes),
    ]
    return "\n\n".join(parts) + "\n"


def reading(metrics: Iterable[str]) -> list[str]:
    """Return how to read tables of these metrics, as two sentences."""
    return [
        f"{'; '.join(map(explain, metrics))}.",
        f"Means over n cases; {PRESENT} modality given, {MISSING} missing.",
    ]


def write_tables(evaluation: Path, metrics: pd.DataFrame) -> str:
    """Write the tables of all metrics to `table.md` in an evaluation folder, and return its text.

    metrics  rows of the `metrics.csv` of the folder
    """
    provenance = read_provenance(evaluation)
    by_metric = tables_of(metrics)
    title = f"{system_name(provenance)} on {count(metrics['case'].nunique(), 'case')}"
    protocol = protocol_notes({"": StoredEvaluation(evaluation, provenance, metrics, None)})
    notes = [*conventions(provenance, list(by_metric)), *protocol, *unscored_notes(metrics)]
    text = to_markdown(by_metric, title, notes)
    write_text(evaluation / "table.md", text)
    return text


def mean_note(tables: Mapping[str, pd.DataFrame]) -> str:
    """Return what the last row of the tables is a mean of."""
    scored = max((int((table["n"] > 0).sum()) for table in tables.values()), default=0)
    return f"The last row is the mean of the {count(scored, 'subset')} with a value."


def evaluation_grid(tables: Mapping[str, pd.DataFrame]) -> Grid:
    """Return the tables of one evaluation (metric -> its `subset_table`) side by side."""
    first = [*map(signs, SUBSET_NAMES), [MEAN, *[""] * (len(MODALITY_COLUMNS) - 1)]]
    made = blocks(tables)
    rows = [[*left, *(text for block in made for text in block.rows[i])] for i, left in enumerate(first)]
    return Grid(
        title="Metrics by subset",
        first=MODALITY_COLUMNS,
        groups=[Group(block.heading, block.columns) for block in made],
        rows=[[Cell(text) for text in row] for row in rows],
        reading=reading(tables),
        notes=[mean_note(tables)],
        total=True,
    )
