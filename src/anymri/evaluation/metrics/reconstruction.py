"""Metrics of reconstructed scans against the real ones, inside a mask (the brain or the tumour).

Intensities are those of the network's input. The range for PSNR and SSIM is that of the real scan inside the mask.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from anymri.evaluation.metrics.overlap import Mask
from anymri.evaluation.metrics.pair import box_around

Scan = NDArray[Any]

# Wang et al. 2004: Gaussian window of 11 voxels with this standard deviation, and their constants.
_SIGMA, _RADIUS, _K1, _K2 = 1.5, 5, 0.01, 0.03


def psnr(reconstructed: Scan, real: Scan, mask: Mask) -> float:
    """Return 20 log10(range / RMSE) in dB over the mask; infinite if equal, NaN if the real scan is constant there.

    reconstructed, real  (X, Y, Z) intensities on one grid
    mask                 (X, Y, Z) bool
    """
    span = _range(real, mask)
    if not span:
        return float("nan")
    error = float(np.mean((reconstructed[mask].astype(float) - real[mask]) ** 2))
    return float(10 * np.log10(span**2 / error)) if error else float("inf")


def nmse(reconstructed: Scan, real: Scan, mask: Mask) -> float:
    """Return the squared error over the squared real scan, both summed over the mask; NaN if the latter is zero.

    reconstructed, real  (X, Y, Z) intensities on one grid
    mask                 (X, Y, Z) bool
    """
    power = float(np.sum(real[mask].astype(float) ** 2))
    return float(np.sum((reconstructed[mask].astype(float) - real[mask]) ** 2)) / power if power else float("nan")


def ssim(reconstructed: Scan, real: Scan, mask: Mask) -> float:
    """Return the mean structural similarity (Wang et al. 2004) over the mask; NaN if the real scan is constant there.

    reconstructed, real  (X, Y, Z) intensities on one grid
    mask                 (X, Y, Z) bool; windows reach beyond it, so voxels near its border count a little
    """
    span = _range(real, mask)
    if not span:
        return float("nan")
    box = box_around(mask, _RADIUS)
    x, y, mask = reconstructed[box].astype(float), real[box].astype(float), mask[box]
    mean_x, mean_y = _blurred(x), _blurred(y)
    variance_x, variance_y = _blurred(x * x) - mean_x**2, _blurred(y * y) - mean_y**2
    covariance = _blurred(x * y) - mean_x * mean_y
    c1, c2 = (_K1 * span) ** 2, (_K2 * span) ** 2
    above = (2 * mean_x * mean_y + c1) * (2 * covariance + c2)
    below = (mean_x**2 + mean_y**2 + c1) * (variance_x + variance_y + c2)
    with np.errstate(invalid="ignore"):
        return float(np.mean((above / below)[mask]))


RECONSTRUCTION: Mapping[str, Callable[[Scan, Scan, Mask], float]] = MappingProxyType(
    {"psnr": psnr, "ssim": ssim, "nmse": nmse}
)


@dataclass(frozen=True)
class ReconstructedScans:
    """Reconstructed scans of missing modalities and the real scans, on one grid.

    reconstructed, real  modality -> (X, Y, Z) intensities of the network's input
    places               `brain` and `tumour` -> (X, Y, Z) bool
    """

    reconstructed: Mapping[str, Scan]
    real: Mapping[str, Scan]
    places: Mapping[str, Mask]

    def value(self, name: str, modality: str, place: str) -> float:
        """Return a metric of `RECONSTRUCTION` over one of the places; NaN where it is not defined."""
        return RECONSTRUCTION[name](self.reconstructed[modality], self.real[modality], self.places[place])


def _blurred(image: Scan) -> NDArray[np.float64]:
    from scipy.ndimage import gaussian_filter

    blurred: NDArray[np.float64] = gaussian_filter(image, _SIGMA, radius=_RADIUS)
    return blurred


def _range(real: Scan, mask: Mask) -> float:
    """Return largest minus smallest intensity inside the mask; 0 if it is empty."""
    return float(np.ptp(real[mask])) if mask.any() else 0.0
