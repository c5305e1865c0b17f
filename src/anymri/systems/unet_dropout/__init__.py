"""U-Net with modality dropout, the baseline of anymri: card, and network and recipes on request."""

from __future__ import annotations

from typing import TYPE_CHECKING

from anymri.systems.card import Card

if TYPE_CHECKING:
    from anymri.systems.spec import SystemSpec

CARD = Card(
    name="unet_dropout",
    title="U-Net with modality dropout: the baseline for published methods, and the network of the starter weights",
    reference="none: a baseline of anymri, without authors' outputs or weights to compare with",
    idea="One U-Net takes all modalities as channels, a missing one as zeros, and learns from which of them exist: "
    "their presence is an input of every block. Training drops each modality at its rate.",
    presets={
        "full": {"width": 32, "blocks": (2, 2, 3, 3)},
        "small": {"width": 32, "blocks": (1, 2, 3)},
        "nano": {"width": 16, "blocks": (1, 1, 2)},
    },
    recipes=("full", "nano", "starter", "demo"),
    parameters=8_635_073,
    inference_parameters=8_635_008,
    reference_parameters=8_635_073,
    # It fuses in its first convolution, so that subsets cannot share an encoding.
    gmacs={"encode four modalities": 0.0, "decode one subset": 46.5, "15 subsets": 698.1},
    switches={
        "width": "channels of the first level, which works on cubes of 2^3 voxels; doubled at each further level",
        "blocks": "convolutions of each level of the encoder, finest first",
    },
    deviations=(),
    published_results="none: it is not published",
    licence="Apache-2.0, that of anymri",
)


def spec() -> SystemSpec:
    """Return network, recipes and objectives; imports torch."""
    from anymri.systems.spec import SystemSpec
    from anymri.systems.unet_dropout.losses import segmentation_losses
    from anymri.systems.unet_dropout.network import UNetDropout
    from anymri.systems.unet_dropout.recipe import OBJECTIVES, RECIPES

    return SystemSpec(UNetDropout, RECIPES, OBJECTIVES, segmentation_losses, convert=None)
