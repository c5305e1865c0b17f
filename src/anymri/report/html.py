"""One self-contained page about an evaluation: words, table, pictures, conventions and manifest.

The page works offline and runs nothing: styles and images are inside it, its content policy forbids all else.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from matplotlib.figure import Figure

from anymri.errors import ConfigurationError
from anymri.evaluation.scores import SCORED
from anymri.files import write_text
from anymri.modalities import SUBSETS
from anymri.report import figures, reading, tables
from anymri.report.grid import PRESENT

_TEMPLATES = Environment(
    loader=FileSystemLoader(Path(__file__).parent),
    autoescape=True,
    undefined=StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
)


@dataclass(frozen=True)
class Picture:
    """An image inside the page.

    source       data URI
    description  what a reader who cannot see it should know
    """

    source: str
    caption: str
    description: str


def write_report(
    path: Path,
    title: str,
    run: Path | None,
    evaluation: Path,
    *,
    pictures: Mapping[str, Figure | bytes],
    facts: Mapping[str, str],
) -> Path:
    """Writes the page to `path`, whole or not at all, and returns `path`.

    run         the training's folder, for its learning curve; None if there was none
    evaluation  the folder with `scores.csv` and `manifest.json`
    pictures    caption -> figure, or the bytes of a PNG or SVG
    facts       name -> value, shown first: cohort, device, hours of training, ...

    Raises `RunError` if a folder is not what it should be.
    """
    scores = reading.read_scores(evaluation)
    manifest = reading.read_manifest(evaluation)
    by_metric = tables.tables_of(scores)
    page = _TEMPLATES.get_template("template.html.j2").render(
        title=title,
        summary=_summary(scores, by_metric, manifest),
        facts=facts,
        table=_table(by_metric),
        reading=tables.reading(by_metric),
        heat_maps=[_heat_map(table, metric) for metric, table in by_metric.items()],
        learning_curve=None if run is None else _learning_curve(run),
        pictures=[Picture(_data_uri(picture), caption, caption) for caption, picture in pictures.items()],
        notes=[
            tables.mean_note(by_metric),
            *tables.conventions(manifest, list(by_metric)),
            *tables.left_out(scores),
        ],
        manifest=json.dumps(manifest, indent=2, ensure_ascii=False),
        created=str(manifest.get("created", "")),
    )
    write_text(path, page)
    return path


def _summary(scores: pd.DataFrame, by_metric: Mapping[str, pd.DataFrame], manifest: Mapping[str, Any]) -> list[str]:
    """What was evaluated, and for each metric its range over the subsets, in words."""
    scored = scores[scores["status"] == SCORED]
    cases, subsets = scored["case"].nunique(), scored["subset"].nunique()
    which = f"all {subsets}" if subsets == len(SUBSETS) else f"{subsets} of the {len(SUBSETS)}"
    first = (
        f"{reading.system_name(manifest)} was evaluated on {tables.count(cases, 'case')} "
        f"with {which} subsets of T1, T1c, T2 and FLAIR."
    )
    return [first, *(_range_in_words(table, metric) for metric, table in by_metric.items())]


def _range_in_words(table: pd.DataFrame, metric: str) -> str:
    """The best and the worst subset by the mean over the regions that have scores."""
    regions = [region for region in tables.regions_in(table) if table[region].notna().any()]
    means = tables.means_over_regions(table)
    if means.empty:
        return f"{tables.heading(metric)}: no subset has scores in all regions."
    ranked = means.sort_values(ascending=tables.lower_is_better(metric), kind="stable")
    best, worst = (f"{tables.format_value(ranked.iloc[i], metric)} with {ranked.index[i]}" for i in (0, -1))
    return (
        f"{tables.explain(metric)}, averaged over {', '.join(regions)}: best {best}, worst {worst}, "
        f"{tables.format_value(means.mean(), metric)} in the mean of {tables.count(len(means), 'subset')}."
    )


def _table(by_metric: Mapping[str, pd.DataFrame]) -> dict[str, Any]:
    """The tables as texts: `subsets` with their modalities, `blocks` of columns whose last row is the mean."""
    first = next(iter(by_metric.values())).drop(tables.MEAN)
    return {
        "modalities": tables.MODALITY_COLUMNS,
        "subsets": {subset: list(row) for subset, *row in first[list(tables.MODALITY_COLUMNS)].itertuples()},
        "blocks": tables.blocks(by_metric),
        "present": PRESENT,
    }


def _heat_map(table: pd.DataFrame, metric: str) -> Picture:
    name = tables.heading(metric)
    figure = figures.subset_heatmap(table, metric)
    return Picture(
        _data_uri(figures.as_svg(figure)),
        f"{name} by subset and region; darker is better.",
        f"Heat map of the mean {name} for each subset and region, with the numbers of the table.",
    )


def _learning_curve(run: Path) -> Picture:
    log, validation = reading.read_run(run)
    panels = "Losses" if validation is None else "Losses and validation Dice"
    return Picture(
        _data_uri(figures.as_svg(figures.learning_curve(log, validation))),
        f"{panels} over {tables.count(len(log), 'epoch')} of training.",
        f"{panels} as lines over the epochs.",
    )


def _data_uri(picture: Figure | bytes) -> str:
    """The image as a data URI: figures as PNG, because they may hold scans; bytes as what they are."""
    image = figures.as_png(picture) if isinstance(picture, Figure) else picture
    if image.startswith(b"\x89PNG"):
        kind = "png"
    elif b"<svg" in image[:1000]:
        kind = "svg+xml"
    else:
        raise ConfigurationError("A picture for the report is neither PNG nor SVG.", "Give a figure, PNG or SVG bytes.")
    return f"data:image/{kind};base64,{base64.b64encode(image).decode('ascii')}"
