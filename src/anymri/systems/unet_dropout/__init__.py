"""Baseline of anymri, a U-Net with modality dropout: card, and network and recipes on request."""

from __future__ import annotations

from typing import TYPE_CHECKING

from anymri.systems.card import Card

if TYPE_CHECKING:
    from anymri.systems.spec import SystemSpec

CARD = Card(
    name="unet_dropout",
    title="Residual-encoder U-Net with modality dropout: the baseline for published methods",
    reference="none: a baseline of anymri, built from MONAI's SegResNetDS (after Myronenko, arXiv 1810.11654), without "
    "authors' outputs or weights to compare with",
    idea="One residual U-Net takes all modalities as channels. A constant replaces a missing modality, and training "
    "drops each modality at its rate (targeted modality dropout).",
    presets={
        "published": {"width": 32, "blocks": (1, 2, 2, 4, 4)},
        "nano": {"width": 8, "blocks": (1, 1, 1, 1, 1)},
    },
    parameters=87_166_736,
    inference_parameters=87_165_960,
    reference_parameters=87_166_736,
    # It fuses in its first convolution, so that subsets cannot share an encoding.
    gmacs={"encode four modalities": 0.0, "decode one subset": 656.2, "15 subsets": 9842.9},
    switches={
        "width": "channels at full resolution, doubled at each of four halvings",
        "blocks": "residual blocks of each of the encoder's five levels, finest first",
        "substitute": "replacement of a missing modality. learnt (default): a constant per modality; zeros: the mean "
        "of a normalised scan",
    },
    deviations=(),
    published_results="none: it is not published",
    licence="Apache-2.0, that of anymri; MONAI, whose network it is: Apache-2.0",
)


def spec() -> SystemSpec:
    """Return network, recipes and objectives; imports torch."""
    from anymri.systems.spec import SystemSpec
    from anymri.systems.unet_dropout.network import UNetDropout
    from anymri.systems.unet_dropout.recipe import OBJECTIVES, RECIPES, segmentation_losses

    return SystemSpec(UNetDropout, RECIPES, OBJECTIVES, segmentation_losses, convert=None)
