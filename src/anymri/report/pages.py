"""One self-contained page about evaluations: words, tables, plots, pictures of cases and provenance.

The page works offline and runs nothing: styles and images are inside it, its content policy forbids all else.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup
from matplotlib.figure import Figure

from anymri.analysis import reading, tables
from anymri.analysis.comparison import MetricComparison, average_grid, subset_grid
from anymri.analysis.grid import Grid, to_html
from anymri.analysis.published import Published
from anymri.analysis.statistics_tables import statistics_grids
from anymri.errors import ConfigurationError
from anymri.files import write_text
from anymri.report import figures, text
from anymri.report.plots import Plot, compare_all, metric_plots, reliability_plots

_TEMPLATES = Environment(
    loader=FileSystemLoader(Path(__file__).parent),
    autoescape=True,
    undefined=StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
)
# More systems than these have a table for each region, with a column a system: one for all would be too wide.
_SIDE_BY_SIDE = 3


@dataclass(frozen=True)
class Examples:
    """Pictures of cases under a heading.

    notes     sentences above them
    pictures  caption -> figure, or the bytes of a PNG or SVG
    """

    heading: str
    notes: Sequence[str] = ()
    pictures: Mapping[str, Figure | bytes] = field(default_factory=dict)


@dataclass(frozen=True)
class Picture:
    """An image inside the page.

    source       data URI
    description  what a reader who cannot see it should know
    width        in pixels of CSS, if it is not that of the image
    """

    source: str
    caption: str
    description: str
    width: int | None = None


def write_report(
    path: Path,
    title: str,
    evaluations: Mapping[str, reading.StoredEvaluation],
    *,
    run: Path | None = None,
    examples: Sequence[Examples] = (),
    facts: Mapping[str, str] | None = None,
    quoted: Sequence[Published] = (),
) -> Path:
    """Writes the page to `path`, whole or not at all, and returns `path`.

    evaluations  by system, as `reading.read_evaluations` gives them
    run          a training's folder, for its learning curve
    facts        name -> value, shown first: device, hours of training, ...
    quoted       published results to put beside, marked as such

    Raises `RunError` if evaluations cannot be compared or `run` is not the folder of a training.
    """
    by_metric = compare_all(evaluations)
    # First what was given: where it is wrong, nothing else need be drawn.
    shown, curve = [_embedded(each) for each in examples], None if run is None else _learning_curve(run)
    page = _TEMPLATES.get_template("template.html.j2").render(
        title=title,
        summary=[*text.summary(evaluations, by_metric), *text.seen_in_training(evaluations)],
        facts={**(facts or {}), **text.data_facts(evaluations)},
        systems=_html(text.systems_grid(evaluations)),
        protocol=text.protocol(evaluations, by_metric),
        tables=[_html(grid) for grid in _tables(evaluations, by_metric, quoted)],
        notes=[*text.unscored(evaluations), *text.not_compared(evaluations, by_metric)],
        statistics=[_html(grid) for each in by_metric.values() for grid in statistics_grids(each)],
        plots={
            **{
                tables.heading(m): [_plot(plot) for plot in metric_plots(each, quoted)] for m, each in by_metric.items()
            },
            "Calibration": [_plot(plot) for plot in reliability_plots(evaluations)],
        },
        learning_curve=curve,
        examples=shown,
        provenance={
            name: json.dumps(each.provenance, indent=2, ensure_ascii=False) for name, each in evaluations.items()
        },
        created=max(str(each.provenance.get("created", "")) for each in evaluations.values()),
    )
    write_text(path, page)
    return path


def _tables(
    found: Mapping[str, reading.StoredEvaluation],
    by_metric: Mapping[str, MetricComparison],
    quoted: Sequence[Published],
) -> list[Grid]:
    """The 15 rows: of one system with all metrics side by side, of several with a table a metric, or a region."""
    if len(found) == 1 and not quoted:
        (only,) = found.values()
        return [tables.evaluation_grid(tables.tables_of(only.metrics))]
    grids = []
    for metric, comparison in by_metric.items():
        known, name = [each for each in quoted if each.knows(metric)], tables.heading(metric)
        grids.append(replace(average_grid(comparison, known), title=f"{name}, mean of the subsets", notes=()))
        if len(found) + len(known) <= _SIDE_BY_SIDE:
            grids.append(replace(subset_grid(comparison, known), title=f"{name} by subset"))
        else:
            for region in comparison.regions:
                grid = replace(subset_grid(comparison, known, region), title=f"{name}, {region}, by subset")
                grids.append(grid if region == comparison.regions[-1] else replace(grid, notes=()))
    return grids


def _html(grid: Grid) -> Markup:
    """The table, escaped by `to_html`, in a frame of its own that scrolls where it is wider than the page."""
    label = Markup.escape(grid.title)
    return Markup(f'<div class="scroll" tabindex="0" role="region" aria-label="{label}">\n{to_html(grid)}</div>')


def _plot(plot: Plot) -> Picture:
    return Picture(_data_uri(figures.as_svg(plot.figure)), plot.caption, plot.description)


def _learning_curve(run: Path) -> Picture:
    log, validation = reading.read_run(run)
    panels = "Losses" if validation is None else "Losses and validation Dice"
    return Picture(
        _data_uri(figures.as_svg(figures.learning_curve(log, validation))),
        f"{panels} over {tables.count(len(log), 'epoch')} of training.",
        f"{panels} as lines over the epochs.",
    )


def _embedded(each: Examples) -> dict[str, object]:
    pictures = [
        Picture(_data_uri(picture), caption, caption, _width(picture)) for caption, picture in each.pictures.items()
    ]
    return {"heading": each.heading, "notes": each.notes, "pictures": pictures}


def _width(picture: Figure | bytes) -> int | None:
    """Of a figure in inches, 96 pixels each: its PNG has more, for fine screens."""
    return round(96 * picture.get_size_inches()[0]) if isinstance(picture, Figure) else None


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
