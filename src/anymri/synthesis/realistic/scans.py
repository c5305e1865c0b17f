"""Signal of a scan before the scanner distorts it: shares of tissues times their brightness."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.random import Generator

from anymri.synthesis.realistic.contrasts import Contrast
from anymri.synthesis.realistic.cores import Texture
from anymri.synthesis.realistic.mimics import Mimics
from anymri.synthesis.realistic.space import Floats
from anymri.synthesis.realistic.tissues import Tissues
from anymri.synthesis.realistic.tumours import Tumour
from anymri.synthesis.realistic.vessels import Vessels

DEEP_WHITE = (-0.05, 0.12)  # brightness of deep white matter relative to that under the cortex, less 1


@dataclass(frozen=True)
class Head:
    """All that is in the head, at N voxels."""

    healthy: Tissues
    tumour: Tumour
    vessels: Vessels
    mimics: Mimics
    texture: Texture
    fat: Floats


def signal(rng: Generator, modality: str, contrast: Contrast, head: Head) -> Floats:
    """Return the signal (N,) of one modality, in the unit of its contrast."""
    healthy, tumour, texture = head.healthy, head.tumour, head.texture
    uneven = 1 + np.float32(rng.uniform(0, 0.04)) * texture.middle + np.float32(rng.uniform(0, 0.03)) * texture.fine
    inwards = np.clip(healthy.cortex * np.float32(1 / 30), 0, 1)
    white = np.float32(contrast.white) * (1 + np.float32(rng.uniform(*DEEP_WHITE)) * inwards)
    value: Floats = healthy.grey * np.float32(contrast.grey) + healthy.white * white
    value *= uneven
    value += healthy.csf * np.float32(contrast.csf)
    if contrast.iron < 1:
        value *= 1 - healthy.iron * np.float32(1 - contrast.iron)
    _add_mimics(value, modality, contrast, head.mimics)

    # Oedema lies over tissue, which stays visible in it, and over no fluid: sulci stay open.
    share = tumour.oedema * (1 - np.float32(0.6) * healthy.csf)
    uneven = np.float32(rng.uniform(0, 0.1)) * texture.coarse + np.float32(rng.uniform(0, 0.06)) * texture.fine
    oedema = np.float32(contrast.oedema) * (1 + uneven)
    _blend(value, oedema, share * np.float32(contrast.opacity))
    lumps = np.float32(rng.uniform(0.02, 0.2)) * texture.middle + np.float32(rng.uniform(0.02, 0.22)) * texture.fine
    inner = np.float32(contrast.enhancing) * (1 + lumps)
    inner += tumour.necrosis * (np.float32(contrast.necrosis) * (1 + np.float32(0.5) * lumps) - inner)
    _blend(inner, contrast.blood, tumour.blood * tumour.necrosis)
    _blend(value, inner, tumour.core)

    outside = 1 - tumour.core
    vessels = head.vessels
    _blend(value, contrast.dura, vessels.dura * outside)
    _blend(value, contrast.veins, vessels.veins * outside)
    _blend(value, contrast.arteries, vessels.arteries * outside)
    _blend(value, contrast.choroid, vessels.choroid * outside)
    _blend(value, contrast.fat, head.fat)
    np.maximum(value, 0, out=value)
    return value


def _add_mimics(value: Floats, modality: str, contrast: Contrast, mimics: Mimics) -> None:
    _blend(value, contrast.white_lesion, mimics.white_lesions)
    if modality == "FLAIR":
        _blend(value, 0.5 * (contrast.white_lesion + 1), mimics.rims)
        _blend(value, 0.9, mimics.flow)
    if modality == "T2":
        _blend(value, 0.3, mimics.flow * np.float32(0.5))


def _blend(value: Floats, other: Floats | float, share: Floats) -> None:
    """Replace a share of `value` by `other`, in place."""
    value += share * (other - value)
