"""MaM, or M3FeCon (MICCAI 2024): card, and network, recipes and converter on request."""

from __future__ import annotations

from typing import TYPE_CHECKING

from anymri.systems.card import FIXTURES, NO_LICENCE, Card, Evidence, Paper, evidence

if TYPE_CHECKING:
    from anymri.systems.spec import SystemSpec

CARD = Card(
    name="mam",
    title="MaM: Missing as Masking, cross-modal feature reconstruction",
    paper=Paper(
        authors=("Zhilin Zeng", "Zelin Peng", "Xiaokang Yang", "Wei Shen"),
        title="Missing as Masking: Arbitrary Cross-modal Feature Reconstruction for Incomplete Multimodal Brain Tumor "
        "Segmentation",
        venue="MICCAI",
        year=2024,
    ),
    data="BraTS 2023 (the port): 875, 125 and 251 cases for training, validation and test; the paper: BraTS 2018",
    data_year=2023,
    split=(875, 125, 251),
    reference="BraTS 2023 port in AImageLab-zip/IM-Fuse, folder MaM (a fork of nnU-Net 2.2.1), class MultimodalRecon, "
    "trainer nnUNetTrainerMissingReconBaseline",
    idea="A small encoder per modality. At the coarsest level a transformer reconstructs the features of missing "
    "modalities from learnt tokens and the features of the others; a U-Net decoder segments.",
    presets={
        "published": {"width": 8, "max_width": 128, "crop": 128},
        "nano": {"width": 2, "max_width": 32, "crop": 64, "mlp_width": 64},
    },
    recipes=("corrected", "reference", "nano"),
    verified=evidence(
        "mam",
        forward="logits of 3 subsets of a small network and of 1 at full size, and the outputs of 2 training steps",
        losses="every term of 2 training steps",
        gradients="sums of each parameter's gradient in 2 steps",
        trajectory="6 optimiser steps in float64, with clipped gradients",
        protocol=Evidence("Dice with 1e-8", f"{FIXTURES}/metrics.json"),
    ),
    parameters=39_060_844,
    inference_parameters=39_059_491,
    reference_parameters=67_358_767,
    # As published, 382.4 for each subset and 5735 for 15; 4430 if skips of zeros were omitted. Here, the encoding
    # contains what each skip adds to the decoder.
    gmacs={"encode four modalities": 149.3, "decode one subset": 233.1, "15 subsets": 3646.0},
    switches={
        "width": "channels of a modality at full resolution; the decoder has as many per modality",
        "max_width": "limit of the channels of a modality, reached at the coarse levels, and so those of a token",
        "crop": "side of the crops that the network takes, voxels; a multiple of 32",
        "mlp_width": "channels inside the transformer's MLP",
        "heads": "attention heads of the transformer",
        "reconstruction": "true (default); false: missing features are zeros, the reference's ablation",
    },
    deviations=(
        "What each modality's skip adds to a convolution of the decoder is computed once for all subsets, and not at "
        "all for a missing one, whose zeros the reference convolves: the same sum in another order.",
        "The encoder that the reference builds and never runs is omitted, and so is the head of the coarsest level, "
        "whose loss has weight 0: 28,297,923 of 67,358,767 parameters.",
        "In training, encoders of modalities missing from the step's subset run without gradient, which would be zero.",
        "Any crop that is a multiple of 32 fits; the reference takes 128^3 alone.",
        "A coarsest level of one voxel is allowed: its norms return their biases.",
        "Scans that do not exist are missing in every step and are not reconstructed.",
    ),
    published_results="not available: the sources at hand do not have the tables of the paper and of the port",
    licence=f"nnU-Net: Apache-2.0; the port: {NO_LICENCE}",
)


def spec() -> SystemSpec:
    """Return network, recipes, objectives and converter; imports torch."""
    from anymri.systems.mam.converter import convert
    from anymri.systems.mam.network import MAM
    from anymri.systems.mam.recipe import OBJECTIVES, PROTOCOL, RECIPES, segmentation_losses
    from anymri.systems.spec import SystemSpec

    return SystemSpec(MAM, RECIPES, OBJECTIVES, segmentation_losses, convert, protocol=PROTOCOL)
