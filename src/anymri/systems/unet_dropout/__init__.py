"""A baseline of our own, one U-Net over all modalities: card, and the parts behind it once they are asked for."""

from __future__ import annotations

from typing import TYPE_CHECKING

from anymri.systems.card import Card

if TYPE_CHECKING:
    from anymri.systems.spec import SystemSpec

CARD = Card(
    name="unet_dropout",
    title="Residual-encoder U-Net with modality dropout: what a published method should beat",
    paper="none: a baseline of anymri's own, built from MONAI's SegResNetDS (after Myronenko, arXiv 1810.11654)",
    reference="none: it is ours, so there are no authors' outputs or weights to hold it against",
    idea="All modalities enter as channels of one residual U-Net; one that is not available is replaced by a constant, "
    "and training leaves each out at a rate of its own (targeted modality dropout).",
    presets={
        "published": {"width": 32, "blocks": (1, 2, 2, 4, 4)},
        "nano": {"width": 8, "blocks": (1, 1, 1, 1, 1)},
    },
    parameters=87_166_736,
    inference_parameters=87_165_960,
    reference_parameters=87_166_736,
    # It fuses in its first convolution: there is nothing to share between subsets.
    gmacs={"encode four modalities": 0.0, "decode one subset": 656.2, "15 subsets": 9842.9},
    switches={
        "width": "channels at full resolution; twice as many at each of four halvings",
        "blocks": "residual blocks of each of the encoder's five levels, finest first",
        "substitute": "what stands for an absent modality: learnt (default), a constant each; or zeros, the mean of a "
        "normalised scan",
    },
    deviations=(),
    published_results="none: it is ours",
    licence="Apache-2.0, anymri's own; MONAI, whose network it is: Apache-2.0",
)


def spec() -> SystemSpec:
    """Network, recipes and objectives; imports torch. There is nothing to convert."""
    from anymri.systems.spec import SystemSpec
    from anymri.systems.unet_dropout.network import UNetDropout
    from anymri.systems.unet_dropout.recipe import OBJECTIVES, RECIPES, segmentation_losses

    return SystemSpec(UNetDropout, RECIPES, OBJECTIVES, segmentation_losses, convert=None)
