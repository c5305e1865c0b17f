"""MaM, or M3FeCon (MICCAI 2024): card, and the parts behind it once they are asked for."""

from __future__ import annotations

from typing import TYPE_CHECKING

from anymri.systems.card import NO_LICENCE, Card

if TYPE_CHECKING:
    from anymri.systems.spec import SystemSpec

CARD = Card(
    name="mam",
    title="MaM: Missing as Masking, cross-modal feature reconstruction",
    paper="Missing as Masking (M3FeCon), MICCAI 2024",
    reference="BraTS 2023 port in AImageLab-zip/IM-Fuse, folder MaM (a fork of nnU-Net 2.2.1), class MultimodalRecon, "
    "trainer nnUNetTrainerMissingReconBaseline",
    idea="One small encoder a modality. At the coarsest level a transformer reconstructs what is missing, from learnt "
    "tokens and the features of the others; a U-Net decoder segments.",
    presets={
        "published": {"width": 8, "max_width": 128, "crop": 128},
        "nano": {"width": 2, "max_width": 32, "crop": 64, "mlp_width": 64},
    },
    parameters=39_060_844,
    inference_parameters=39_059_491,
    reference_parameters=67_358_767,
    # As published 382.4 each, 5735 for 15 subsets; 4430 if skips that are zeros were left out and no more. Here,
    # the encoding holds what each skip adds to the decoder.
    gmacs={"encode four modalities": 149.3, "decode one subset": 233.1, "15 subsets": 3645.3},
    switches={
        "width": "channels of a modality at full resolution; the decoder has as many for each modality",
        "max_width": "channels of a modality at most, reached at the coarse levels: those of a token",
        "crop": "side of the crops that it takes, voxels; a multiple of 32",
        "mlp_width": "channels inside the transformer",
        "heads": "of the transformer",
        "reconstruction": "true (default); false: missing features are zeros, the reference's ablation",
    },
    deviations=(
        "What each modality's skip adds to a convolution of the decoder is computed once for all subsets, and nothing "
        "for a missing one, whose zeros the reference convolves: the same sum in another order.",
        "The encoder that the reference builds and never runs is left out, and the head of the coarsest level, whose "
        "loss has no weight: 28,297,923 of 67,358,767 parameters.",
        "In training, encoders of modalities left out of the step keep no graph: they would learn nothing.",
        "Any crop that is a multiple of 32; the reference has 128^3 alone.",
        "A coarsest level of one voxel is allowed: its norms answer with their biases.",
        "Where scans do not exist, they are missing in every step and nothing is reconstructed to them.",
        "Windows are blended as probabilities, where the reference blends logits.",
    ),
    published_results="none at hand: the paper's tables and those of the port were not in the sources read",
    licence=f"nnU-Net: Apache-2.0; the port: {NO_LICENCE}",
)


def spec() -> SystemSpec:
    """Network, recipes, objectives and converter; imports torch."""
    from anymri.systems.mam.converter import convert
    from anymri.systems.mam.network import MAM
    from anymri.systems.mam.recipe import OBJECTIVES, RECIPES, segmentation_losses
    from anymri.systems.spec import SystemSpec

    return SystemSpec(MAM, RECIPES, OBJECTIVES, segmentation_losses, convert)
