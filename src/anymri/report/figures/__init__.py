"""All figures of evaluations in one style, as matplotlib figures with a canvas each (no pyplot, no global state).

Figures of several systems take a `MetricComparison` of `anymri.analysis.comparison`, so they show the cases that all
systems have scored.
"""

from __future__ import annotations

from anymri.report.figures.calibration import reliability_curves
from anymri.report.figures.comparisons import by_number, case_strips, contributions
from anymri.report.figures.heat_maps import subset_heatmap, system_heatmap
from anymri.report.figures.montage import montage
from anymri.report.figures.reconstructed import reconstructed_scans
from anymri.report.figures.style import REGION_COLOURS, as_png, as_svg, save
from anymri.report.figures.training import learning_curve

__all__ = [
    "REGION_COLOURS",
    "as_png",
    "as_svg",
    "by_number",
    "case_strips",
    "contributions",
    "learning_curve",
    "montage",
    "reconstructed_scans",
    "reliability_curves",
    "save",
    "subset_heatmap",
    "system_heatmap",
]
