"""Style of all figures: colours, font sizes, axes, and output to files."""

from __future__ import annotations

import io
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from anymri.analysis.tables import RECONSTRUCTED
from anymri.evaluation.metrics.printing import heading, lower_is_better, unit
from anymri.files import replacing
from anymri.modalities import MODALITIES

# Sky blue, yellow, vermilion and green of Okabe and Ito (2008): distinct for the colour-blind, and visible on grey.
REGION_COLOURS = {"WT": "#56B4E9", "TC": "#F0E442", "ET": "#D55E00", "RC": "#009E73"}
# Lines on white, where the yellow would not be visible.
LINE_COLOURS = REGION_COLOURS | {"TC": "#B59F00", "NETC": "#8C6D31", "SNFH": "#CC79A7", "mean": "#222222"}
INK, SOFT, FAINT = "#222222", "#666666", "#D9D9D9"
TITLE_POINTS, TEXT_POINTS, SMALL_POINTS = 10, 8, 7

# Colours of Okabe and Ito, and of Tol's muted scheme, each with a different marker as a second cue.
_SYSTEM_STYLES = (
    ("#332288", "o"),
    ("#D55E00", "s"),
    ("#117733", "^"),
    ("#56B4E9", "D"),
    ("#AA4499", "v"),
    ("#999933", "P"),
    ("#882255", "X"),
    ("#44AA99", "<"),
    ("#E69F00", ">"),
    ("#555555", "p"),
    ("#CC6677", "h"),
    ("#0072B2", "*"),
)
# Lines of one panel: colours that differ, then the same colours with other dashes.
_PANEL_COLOURS = tuple(colour for colour, _ in _SYSTEM_STYLES)
_DASHES = ("-", "--", ":", "-.")
# Unit -> span of a colour scale at least, in printed numbers.
_SMALLEST_SPAN = {"fraction": 10.0, "mm": 20.0, "mL": 10.0, "dB": 10.0, "ratio": 1.0}
_PNG_DPI = 180
_SVG_DPI = 96  # of the parts of an SVG that are pixels


@dataclass(frozen=True)
class Style:
    """Colour and marker of one system in all figures of a page."""

    colour: str
    marker: str


def styles(names: Iterable[str]) -> dict[str, Style]:
    """Return name -> style, by position; twelve that differ, then the colours repeat with other markers."""
    n = len(_SYSTEM_STYLES)
    return {name: Style(_SYSTEM_STYLES[i % n][0], _SYSTEM_STYLES[(i + i // n) % n][1]) for i, name in enumerate(names)}


def line_looks(count: int) -> list[tuple[str, str]]:
    """Return a colour and a dash per line of a panel; no two are equal up to 48."""
    n = len(_PANEL_COLOURS)
    return [(_PANEL_COLOURS[i % n], _DASHES[i // n % len(_DASHES)]) for i in range(count)]


def new_figure(width: float, height: float) -> Figure:
    """Return a white figure with a canvas, sizes in inches."""
    figure = Figure(figsize=(width, height), layout="constrained", facecolor="white")
    FigureCanvasAgg(figure)
    return figure


def as_svg(figure: Figure) -> bytes:
    """Return the figure as SVG, without date or random names: the same figure gives the same bytes.

    Text stays text, a quarter of the size of outlines. Viewers without DejaVu Sans take narrower fonts.
    """
    stream = io.BytesIO()
    _lay_out(figure)
    # One font instead of a long list in every text.
    with mpl.rc_context({"svg.hashsalt": "anymri", "svg.fonttype": "none", "font.sans-serif": "DejaVu Sans"}):
        figure.savefig(stream, format="svg", metadata={"Date": None}, dpi=_SVG_DPI)
    return stream.getvalue()


def as_png(figure: Figure) -> bytes:
    """Return the figure as PNG at 180 dots per inch."""
    stream = io.BytesIO()
    _lay_out(figure)
    figure.savefig(stream, format="png", dpi=_PNG_DPI)
    return stream.getvalue()


def _lay_out(figure: Figure) -> None:
    """Place the axes of a figure once and for all; otherwise each saving would draw it twice, once to place them."""
    if (engine := figure.get_layout_engine()) is not None:
        engine.execute(figure)
        figure.set_layout_engine(None)  # after "none", savefig would still draw once for the layout alone


def save(figure: Figure, place: Path) -> list[Path]:
    """Write the figure as PNG and as SVG, at `place` with these suffixes, and return the files."""
    files = [place.with_name(f"{place.name}.{suffix}") for suffix in ("png", "svg")]
    for file, content in zip(files, (as_png(figure), as_svg(figure)), strict=True):
        with replacing(file) as temporary:
            temporary.write_bytes(content)
    return files


def plain(name: str) -> str:
    """Return a name escaped for matplotlib, where `$` begins a formula and `_` a hidden label."""
    return (" " if name.startswith("_") else "") + name.replace("$", r"\$")


def tidy(axes: Axes, label: str = "", *, grid: Literal["x", "y", "both"] = "y") -> None:
    """Draw a faint frame and grid with small letters, and `label` on the y axis."""
    axes.set_ylabel(label, fontsize=TEXT_POINTS, color=INK)
    axes.tick_params(which="both", labelsize=TEXT_POINTS, labelcolor=INK, color=FAINT)
    axes.grid(axis=grid, color=FAINT, linewidth=0.5)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)
    axes.spines[["left", "bottom"]].set_color(FAINT)


def title(axes: Axes, text: str) -> None:
    """Draw the title of a panel."""
    axes.set_title(text, fontsize=TITLE_POINTS, color=INK)


def text_on(colour: Sequence[float]) -> str:
    """Return black or white, whichever has more contrast to a colour (RGB in 0..1): at least 4.5 (WCAG 2)."""
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in colour[:3]]
    luminance = 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]
    return "black" if (luminance + 0.05) ** 2 > 0.05 * 1.05 else "white"


def axis_label(metric: str) -> str:
    """Return the metric with its unit, and with the direction if lower is better."""
    shown = "percent" if unit(metric) == "fraction" else unit(metric)
    return f"{heading(metric)} ({shown}{', lower is better' if lower_is_better(metric) else ''})"


def scaled(metric: str) -> float:
    """Return the factor from values to printed numbers: fractions are printed in percent."""
    return 100.0 if unit(metric) == "fraction" else 1.0


def limits(metric: str, values: Iterable[float]) -> tuple[float, float]:
    """Return the limits of an axis for printed numbers, from 0: a difference looks as large as it is.

    Percent end at whole tens. Decibels have no natural zero, so their axis spans the values.
    """
    numbers = [value for value in values if not math.isnan(value)]
    if not numbers:
        return 0.0, 100.0
    low, high = min(numbers), max(numbers)
    if lower_is_better(metric):
        return min(0.0, 1.05 * low), 1.05 * max(high, 1e-9)
    if unit(metric) == "fraction":
        return min(0.0, 10 * math.floor(low / 10)), min(100.0, 10 * math.ceil(high / 10))
    room = 0.1 * max(high - low, 1e-9)
    return low - room, high + room


def colour_limits(metric: str, values: Iterable[float]) -> tuple[float, float]:
    """Return the printed numbers at the ends of a colour scale.

    Dice and SSIM have their whole range; what is better lower begins at 0 and has at least the span of
    `_SMALLEST_SPAN`, so that values that hardly differ have colours that hardly differ.
    """
    numbers = [value for value in values if math.isfinite(value)]
    span = _SMALLEST_SPAN[unit(metric)]
    if lower_is_better(metric):
        return 0.0, max([span, *numbers])
    if unit(metric) != "dB":
        return min([0.0, *numbers]), scaled(metric)
    middle = (min(numbers) + max(numbers)) / 2 if numbers else span / 2
    half = max(span, max(numbers) - min(numbers) if numbers else 0) / 2
    return middle - half, middle + half


def region_title(region: str) -> str:
    """Return the title of a region or of a reconstructed modality."""
    return RECONSTRUCTED + region if region in MODALITIES else region
