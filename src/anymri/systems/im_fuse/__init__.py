"""IM-Fuse (MICCAI 2025): its card, and `spec()` for the rest."""

from __future__ import annotations

from typing import TYPE_CHECKING

from anymri.systems.card import FIXTURES, NO_LICENCE, Card, Evidence, Paper, evidence

if TYPE_CHECKING:
    from anymri.systems.spec import SystemSpec

_PUBLISHED = {"width": 8, "token_width": 512, "mlp_width": 4096, "heads": 8, "crop": 128}
CARD = Card(
    name="im_fuse",
    title="IM-Fuse: mmFormer with Mamba blocks that fuse the modalities",
    paper=Paper(
        authors=(
            "Vittorio Pipoli",
            "Alessia Saporita",
            "Kevin Marchesini",
            "Costantino Grana",
            "Elisa Ficarra",
            "Federico Bolelli",
        ),
        title="IM-Fuse: A Mamba-based Fusion Block for Brain Tumor Segmentation with Incomplete Modalities",
        venue="MICCAI",
        year=2025,
        pages="225-235",
    ),
    data="BraTS 2023: 875, 125 and 251 cases for training, validation and test",
    data_year=2023,
    split=(875, 125, 251),
    reference="AImageLab-zip/IM-Fuse (fbbd48e), class IMFuse, and class Model without the first skip",
    idea="mmFormer with learnt tokens, one per voxel, that read the tokens of all modalities in one sequence by a "
    "Mamba block: on every skip and before the second transformer. Missing modalities are tokens of zero.",
    presets={
        "published": {**_PUBLISHED, "first_skip": True},
        "light": {**_PUBLISHED, "first_skip": False},
        "nano": {"width": 4, "token_width": 64, "mlp_width": 128, "heads": 4, "crop": 64, "first_skip": False},
    },
    recipes=("corrected", "reference", "nano"),
    verified=evidence(
        "im_fuse",
        forward="probabilities of 4 subsets, of all 8 variants, all outputs of training passes of 3 variants, and 3 "
        "Mamba blocks alone",
        losses="all 18 terms of 3 training passes",
        gradients="each parameter's gradient in one pass (the variant of the published command), and those of the "
        "Mamba blocks",
        trajectory="8 optimiser steps in float64, two samples with different subsets in each, without dropout, of the "
        "network with the skip at full resolution",
        protocol=Evidence("Dice with 1e-8 and the rule of 500 voxels", f"{FIXTURES}/metrics.json"),
    ),
    parameters=61_166_616,
    inference_parameters=60_572_284,
    reference_parameters=64_388_120,
    gmacs={"encode four modalities": 81.4, "decode one subset": 43.8, "15 subsets": 738.1},
    switches={
        "width": "channels of the first encoder level",
        "token_width": "channels of a token, a multiple of heads",
        "mlp_width": "channels of the transformers' hidden layers",
        "heads": "attention heads of the transformers",
        "crop": "side of the only cubic crop that fits, in voxels: each voxel has a fused token",
        "interleaved": "true (default): the tokens of all modalities at a voxel, then those at the next (I-MFB); a "
        "fused token then reads the voxels up to its position; false: one modality after the other, then all fused "
        "tokens (MFB)",
        "mamba_skip": "true (default): skips are fused by Mamba blocks; false: by a convolution, as in mmFormer",
        "first_skip": "true (default): with the skip at full resolution, as in the paper; false: without, as the "
        "published command trains (light)",
        "dropout": "of the transformers, 0.1",
    },
    deviations=(
        "The scan processes its sequence in chunks and computes outputs of fused tokens only: the same function.",
        "The tokens of a modality in a sequence are computed once for all subsets: the same sequence.",
        "Encoders and first transformers of missing modalities are not computed; heads for deep supervision only in "
        "training.",
        "Without what the reference stores and never uses: 3,221,504 parameters of 64,388,120.",
        "The loss of each modality alone covers only the scans that exist; scans that exist but are not in the subset "
        "of the step are included, as published.",
    ),
    published_results="on BraTS 2023 about 83.3 over subsets and regions, read from a figure of the authors; the "
    "table per subset is not in our sources",
    licence=NO_LICENCE,
)


def spec() -> SystemSpec:
    """Return network, recipes, objectives and converter; imports torch."""
    from anymri.systems.families.tokens.objective import OBJECTIVES, segmentation_losses
    from anymri.systems.im_fuse.converter import convert
    from anymri.systems.im_fuse.network import IMFuse
    from anymri.systems.im_fuse.recipe import RECIPES
    from anymri.systems.protocol import IM_FUSE_FAMILY
    from anymri.systems.spec import SystemSpec

    return SystemSpec(IMFuse, RECIPES, OBJECTIVES, segmentation_losses, convert, protocol=IM_FUSE_FAMILY)
