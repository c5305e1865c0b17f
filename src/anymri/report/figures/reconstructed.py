"""Reconstructed scans beside the real ones."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray

from anymri.evaluation.metrics.reconstruction import psnr, ssim
from anymri.report.figures.slices import draw_slice, intensity_window, proportions, slices_with_most_tumour
from anymri.report.figures.style import INK, TEXT_POINTS, new_figure

_PANEL_INCHES, _TITLE_INCHES = 1.9, 0.5


def reconstructed_scans(
    true: Mapping[str, NDArray[Any]],
    reconstructed: Mapping[str, NDArray[Any]],
    brain: NDArray[np.bool_],
    truth: NDArray[np.uint8],
    spacing_mm: tuple[float, float, float] = (1.0, 1.0, 1.0),
) -> Figure:
    """Return the real scan, the reconstructed scan and their difference, per modality, on one axial slice.

    true, reconstructed  modality -> (X, Y, Z) in LPS, intensities of the network's input
    brain                (X, Y, Z) bool, where PSNR and SSIM are computed and differences are shown
    truth                (X, Y, Z) uint8 classes; the slice with the most tumour is shown
    spacing_mm           size of a voxel along X, Y, Z

    Both scans of a modality share black and white. Differences, reconstructed minus real, are blue where the
    reconstructed scan is darker and red where it is brighter; full colour is half of the distance from black to white.
    """
    names = list(reconstructed)
    index = slices_with_most_tumour([truth])["axial"]
    height = _PANEL_INCHES * proportions(brain.shape, spacing_mm)["axial"]
    figure = new_figure(_PANEL_INCHES * len(names) + 0.3, 3 * height + _TITLE_INCHES)
    panels = figure.subplots(3, len(names), squeeze=False)
    for name, column in zip(names, panels.T, strict=True):
        inside = np.where(brain, true[name], np.nan)
        low, high = intensity_window(inside)
        half = (high - low) / 2
        difference = np.where(brain, reconstructed[name] - true[name], 0)
        draw_slice(column[0], "axial", index, true[name], (low, high), spacing_mm)
        draw_slice(column[1], "axial", index, reconstructed[name], (low, high), spacing_mm)
        draw_slice(column[2], "axial", index, difference, (-half, half), spacing_mm, "RdBu_r")
        numbers = psnr(reconstructed[name], true[name], brain), ssim(reconstructed[name], true[name], brain)
        column[0].set_title(f"{name}\nPSNR {numbers[0]:.1f} dB, SSIM {numbers[1]:.2f}", fontsize=TEXT_POINTS, color=INK)
    for axes in panels.flat:
        axes.set_xticks([])
        axes.set_yticks([])
        axes.spines[:].set_visible(False)
    for axes, what in zip(panels[:, 0], ("true", "reconstructed", "difference"), strict=True):
        axes.set_ylabel(what, fontsize=TEXT_POINTS, color=INK)
    return figure
