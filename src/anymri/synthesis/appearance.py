"""Appearance of phantoms: brightness of the tissues on each modality, and the scanner."""

from __future__ import annotations

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter

from anymri.regions import ET, NCR
from anymri.synthesis.anatomy import CSF, OUTSIDE, WHITE, Anatomy
from anymri.synthesis.fields import Floats, field

# Brightness relative to white matter on T1 and T1c, relative to grey matter on T2 and FLAIR.
# ED, NCR: the two extremes of all tumour tissue; enhancing: ET and vessels, on T1c alone.
CONTRASTS = {
    "T1": {"CSF": 0.30, "grey": 0.72, "white": 1.00, "ED": 0.74, "NCR": 0.46},
    "T1c": {"CSF": 0.30, "grey": 0.74, "white": 1.00, "ED": 0.74, "NCR": 0.46, "enhancing": 1.55},
    "T2": {"CSF": 1.95, "grey": 1.00, "white": 0.72, "ED": 1.50, "NCR": 1.80},
    "FLAIR": {"CSF": 0.28, "grey": 1.00, "white": 0.86, "ED": 1.75, "NCR": 1.00},
}

TISSUE_JITTER = 0.04  # standard deviation of a tissue's relative brightness between scanners
BIAS = 0.08  # standard deviation of the logarithm of the coil's sensitivity
NOISE = (0.02, 0.05)  # standard deviation of the noise, relative to white (T1) or grey (T2) matter
BLUR_VOXELS = 0.6  # partial volume
SCANNER_SCALE = (200.0, 2000.0)  # the brightness 1.0 in stored units


def draw_fluidity(rng: Generator, anatomy: Anatomy, labels: NDArray[np.uint8]) -> Floats:
    """Return the fluidity (X, Y, Z): oedema (0) to necrosis (1) in the tumour, else healthy tissue (0) to oedema (1).

    The fluidity of necrosis varies, and the other regions have lumps of the same fluidity. Healthy white matter has a
    few hyperintense spots, as in old age.
    """
    size = len(labels)
    lumps = field(rng, size, 12)
    necrotic, enhancing = rng.uniform(0.25, 0.7), rng.uniform(0.15, 0.45)
    tumour = np.array([0, necrotic, 0.25, enhancing], dtype=np.float32)[labels] + 0.25 * lumps
    spots = 0.4 * ((lumps > 2.1) & (anatomy.tissue == WHITE))
    return np.where(labels > 0, np.clip(tumour, -0.4, 1.2), spots).astype(np.float32)


def draw_scan(
    rng: Generator, modality: str, anatomy: Anatomy, labels: NDArray[np.uint8], fluid: Floats
) -> NDArray[np.int16]:
    """Return one scan: tissue brightness, partial volume, coil sensitivity, Rician noise, scale of the scanner."""
    size = len(labels)
    bright = {tissue: value * rng.normal(1, TISSUE_JITTER) for tissue, value in CONTRASTS[modality].items()}
    # The space outside counts as fluid until the end, so that partial volume darkens the rim as it does the sulci.
    healthy = np.array([bright["CSF"], bright["CSF"], bright["grey"], bright["white"]], dtype=np.float32)
    signal = healthy[anatomy.tissue]
    signal += fluid * (np.float32(bright["ED"]) - signal)
    tumour = labels > 0
    signal[tumour] = bright["ED"] + fluid[tumour] * (bright["NCR"] - bright["ED"])
    if modality == "T1c":
        uptake = bright["enhancing"] * (1 + 0.08 * field(rng, size, 12))
        signal[labels == ET] = uptake[labels == ET]
        # Oedema takes up some contrast agent and necrosis none, so that necrosis is dark here, fluid or not.
        signal[labels == NCR] = bright["NCR"]
        vessels = (anatomy.tissue == CSF) & ~tumour & (field(rng, size, 16) > 1.5)
        signal[vessels] = 0.85 * bright["enhancing"]

    signal = gaussian_filter(signal, BLUR_VOXELS, truncate=3) * np.exp(BIAS * field(rng, size, 1.5))
    real, imaginary = rng.uniform(*NOISE) * rng.standard_normal((2, size, size, size), dtype=np.float32)
    magnitude = np.hypot(signal + real, imaginary) * np.exp(rng.uniform(*np.log(SCANNER_SCALE)))
    stored: NDArray[np.int16] = np.clip(np.rint(magnitude), 1, np.iinfo(np.int16).max).astype(np.int16)
    stored[anatomy.tissue == OUTSIDE] = 0
    return stored
