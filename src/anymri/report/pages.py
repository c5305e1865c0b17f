"""One self-contained page about evaluations: texts, tables, plots, pictures of cases and provenance.

The page works offline and runs no scripts: styles and images are inside it, its content policy forbids all else.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any
from urllib.parse import quote

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup
from matplotlib.figure import Figure

from anymri.analysis import reading, tables
from anymri.analysis.comparison import MetricComparison, average_grid, subset_grid
from anymri.analysis.grid import Grid, to_html
from anymri.analysis.published import Published
from anymri.analysis.statistics_tables import statistics_grids
from anymri.errors import ConfigurationError
from anymri.evaluation.metrics.printing import heading
from anymri.files import write_text
from anymri.report import figures, text
from anymri.report.plots import Plot, compare_all, metric_plots, reliability_plots
from anymri.text import count

_TEMPLATES = Environment(
    loader=FileSystemLoader(Path(__file__).parent),
    autoescape=True,
    undefined=StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
)
# More systems than these get one table per region, with one column per system: a single table would be too wide.
_SIDE_BY_SIDE = 3
# Characters of an SVG that a data URI and an attribute of HTML hold as they are.
_UNQUOTED = " !$*+,-./;=?@[]^_`{|}~"


@dataclass(frozen=True)
class Examples:
    """Pictures of cases under a heading.

    notes     sentences above the pictures
    pictures  caption -> figure, or the bytes of a PNG or SVG
    """

    heading: str
    notes: Sequence[str] = ()
    pictures: Mapping[str, Figure | bytes] = field(default_factory=dict)


@dataclass(frozen=True)
class Picture:
    """Image inside the page.

    source       data URI
    description  alternative text for readers who cannot see it
    width        width in pixels of CSS; None for that of the image
    """

    source: str
    caption: str
    description: str
    width: int | None = None


def render(template: str, **values: object) -> str:
    """Return the page of a template of this package, filled with values that are escaped unless they are `Markup`."""
    return _TEMPLATES.get_template(template).render(**values)


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
    """Write the page to `path`, whole or not at all, and return `path`.

    evaluations  name of a system -> evaluation, as `reading.read_evaluations` returns them
    run          run folder of a training, for its learning curve
    examples     pictures of cases
    facts        name -> value, shown first: device, hours of training, ...
    quoted       published results to show beside the measured ones, marked as such

    Raises `RunError` if evaluations are not comparable or `run` is not a run folder.
    """
    by_metric = compare_all(evaluations)
    # Arguments are checked by using them before anything else is drawn.
    shown, curve = [_embedded(each) for each in examples], None if run is None else learning_curve(run)
    shared = _shared_inputs(evaluations)
    page = render(
        "template.html.j2",
        title=title,
        summary=[*text.summary(evaluations, by_metric), *text.seen_in_training(evaluations)],
        facts={**(facts or {}), **text.data_facts(evaluations)},
        systems=html_table(text.systems_grid(evaluations)),
        protocol=text.protocol(evaluations, by_metric),
        tables=[html_table(grid) for grid in _tables(evaluations, by_metric, quoted)],
        notes=[*text.unscored(evaluations), *text.not_compared(evaluations, by_metric)],
        statistics=[html_table(grid) for each in by_metric.values() for grid in statistics_grids(each)],
        plots={
            **{
                heading(metric): [_plot(plot) for plot in metric_plots(each, quoted)]
                for metric, each in by_metric.items()
            },
            "Calibration": [_plot(each) for each in reliability_plots(evaluations)],
        },
        learning_curve=curve,
        examples=shown,
        shared_inputs=_json(shared) if shared else "",
        provenance={name: _json(_without(shared, each.provenance)) for name, each in evaluations.items()},
        created=max(str(each.provenance.get("created", "")) for each in evaluations.values()),
    )
    write_text(path, page)
    return path


def _shared_inputs(evaluations: Mapping[str, reading.StoredEvaluation]) -> dict[str, Mapping[str, str]]:
    """Return the inputs that all of several evaluations have, as the scans of their cases; none of a single one."""
    first, *others = (each.inputs for each in evaluations.values())
    return {name: file for name, file in first.items() if others and all(each.get(name) == file for each in others)}


def _without(shared: Mapping[str, object], provenance: Mapping[str, Any]) -> dict[str, Any]:
    """Return the provenance of an evaluation without the inputs in `shared`."""
    if not shared:
        return dict(provenance)
    return {**provenance, "inputs": {name: file for name, file in provenance["inputs"].items() if name not in shared}}


def _json(content: Mapping[str, Any]) -> str:
    return json.dumps(content, indent=2, ensure_ascii=False)


def _tables(
    found: Mapping[str, reading.StoredEvaluation],
    by_metric: Mapping[str, MetricComparison],
    quoted: Sequence[Published],
) -> list[Grid]:
    """Return the tables of 15 rows: all metrics of one system side by side, or one table per metric (and region)."""
    if len(found) == 1 and not quoted:
        (only,) = found.values()
        return [tables.evaluation_grid(tables.tables_of(only.metrics))]
    grids = []
    for metric, comparison in by_metric.items():
        published, name = [each for each in quoted if each.has(metric)], heading(metric)
        grids.append(replace(average_grid(comparison, published), title=f"{name}, mean of the subsets", notes=()))
        if len(found) + len(published) <= _SIDE_BY_SIDE:
            grids.append(replace(subset_grid(comparison, published), title=f"{name} by subset"))
        else:
            for region in comparison.regions:
                grid = replace(subset_grid(comparison, published, region), title=f"{name}, {region}, by subset")
                grids.append(grid if region == comparison.regions[-1] else replace(grid, notes=()))
    return grids


def html_table(grid: Grid) -> Markup:
    """Return the table, escaped by `to_html`, in a frame that scrolls where the table is wider than the page."""
    label = Markup.escape(grid.title)
    return Markup(f'<div class="scroll" tabindex="0" role="region" aria-label="{label}">\n{to_html(grid)}</div>')


def _plot(plot: Plot) -> Picture:
    return Picture(_data_uri(figures.as_svg(plot.figure)), plot.caption, plot.description)


def learning_curve(run: Path) -> Picture:
    """Return the losses and validations of a run folder as a picture; raise `RunError` if it is not one."""
    log, validation = reading.read_run(run)
    panels = "Losses" if validation is None else "Losses and validation Dice"
    return Picture(
        _data_uri(figures.as_svg(figures.learning_curve(log, validation))),
        f"{panels} over {count(len(log), 'epoch')} of training.",
        f"{panels} as lines over the epochs.",
    )


def _embedded(each: Examples) -> dict[str, object]:
    pictures = [
        Picture(_data_uri(picture), caption, caption, _width(picture)) for caption, picture in each.pictures.items()
    ]
    return {"heading": each.heading, "notes": each.notes, "pictures": pictures}


def _width(picture: Figure | bytes) -> int | None:
    """Return the width of a figure, 96 pixels per inch: its PNG has more, for high resolution screens."""
    return round(96 * picture.get_size_inches()[0]) if isinstance(picture, Figure) else None


def _data_uri(picture: Figure | bytes) -> str:
    """Return the image as a data URI: figures as PNG, because they may contain scans; bytes in their format."""
    image = figures.as_png(picture) if isinstance(picture, Figure) else picture
    if image.startswith(b"\x89PNG"):
        return f"data:image/png;base64,{base64.b64encode(image).decode('ascii')}"
    if b"<svg" in image[:1000]:
        return f"data:image/svg+xml,{quote(image, safe=_UNQUOTED)}"  # an eighth shorter than base64
    raise ConfigurationError("A picture for the report is neither PNG nor SVG.", "Give a figure, PNG or SVG bytes.")
