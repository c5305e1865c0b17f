"""mmFormer (Zhang et al., MICCAI 2022): its card, and `spec()` for the rest. `fusion.py` fuses the modalities."""

from __future__ import annotations

from typing import TYPE_CHECKING

from anymri.systems.card import FIXTURES, NO_LICENCE, Card, Evidence, Paper, evidence

if TYPE_CHECKING:
    from anymri.systems.spec import SystemSpec

CARD = Card(
    name="mmformer",
    title="mmFormer: multimodal medical transformer for incomplete data",
    paper=Paper(
        authors=(
            "Yao Zhang",
            "Nanjun He",
            "Jiawei Yang",
            "Yuexiang Li",
            "Dong Wei",
            "Yawen Huang",
            "Yang Zhang",
            "Zhiqiang He",
            "Yefeng Zheng",
        ),
        title="mmFormer: Multimodal Medical Transformer for Incomplete Multimodal Learning of Brain Tumor Segmentation",
        venue="MICCAI",
        year=2022,
        doi="10.1007/978-3-031-16443-9_11",
        arxiv="2206.02425",
    ),
    data="BraTS 2023 (the copy): 875, 125 and 251 cases for training, validation and test; the paper: BraTS 2018",
    data_year=2023,
    split=(875, 125, 251),
    reference="YaoZhang93/mmFormer (December 2023), and the copy in AImageLab-zip/IM-Fuse with the same network",
    idea="One convolutional encoder and one transformer per modality, a second transformer over the tokens of all "
    "modalities (missing ones are zero but keep their positions), and one decoder with a fusion of the modalities on "
    "every skip. In training, a shared decoder also segments from each modality alone.",
    presets={
        "published": {"width": 8, "token_width": 512, "mlp_width": 4096, "heads": 8, "crop": 128},
        "nano": {"width": 4, "token_width": 64, "mlp_width": 128, "heads": 4, "crop": 64},
    },
    recipes=("corrected", "reference", "nano"),
    verified=evidence(
        "mmformer",
        forward="probabilities of 4 subsets, all outputs of a training pass, inputs of the decoder and of the second "
        "transformer",
        losses="all 18 terms of one training pass",
        gradients="each parameter's gradient in one pass: its norm, and its product with a fixed tensor",
        trajectory="4 optimiser steps in float64, two samples with different subsets in each, without dropout",
        protocol=Evidence("Dice with 1e-8 and the rule of 500 voxels", f"{FIXTURES}/metrics.json"),
    ),
    parameters=36_391_760,
    inference_parameters=35_797_428,
    reference_parameters=36_391_760,
    gmacs={"encode four modalities": 77.7, "decode one subset": 50.5, "15 subsets": 834.8},
    switches={
        "width": "channels of the first encoder level",
        "token_width": "channels of a token, a multiple of heads",
        "mlp_width": "channels of the transformers' hidden layers",
        "heads": "attention heads of the transformers",
        "crop": "side of the only cubic crop that fits, in voxels: each of its tokens has a learnt position",
        "aligned_tokens": "false (default): as published, a voxel after the second transformer reads four neighbouring "
        "tokens of one modality; true: the tokens of all modalities at the voxel, as intended",
        "dropout": "of the transformers, 0.1",
    },
    deviations=(
        "The authors size the fusion by the number of classes, which works because both are four; here it is the "
        "number of modalities.",
        "What a modality adds to the first convolution of a fusion is computed once for all subsets: the same sum.",
        "Two dropouts in a row are one at the combined rate.",
        "Encoders and first transformers of missing modalities are not computed; heads for deep supervision only in "
        "training.",
        "The loss of each modality alone covers only the scans that exist; scans that exist but are not in the subset "
        "of the step are included, as published.",
    ),
    published_results="re-trained by XLSTM-HVED's authors on BraTS 2024 (their Table 1): mean Dice over 15 subsets WT "
    "74.16, TC 55.05, ET 52.99; on BraTS 2023 about 82.8 over subsets and regions, read from a figure of IM-Fuse",
    licence=NO_LICENCE,
)


def spec() -> SystemSpec:
    """Return network, recipes, objectives and converter; imports torch."""
    from anymri.systems.families.tokens.objective import OBJECTIVES, segmentation_losses
    from anymri.systems.mmformer.converter import convert
    from anymri.systems.mmformer.network import MMFormer
    from anymri.systems.mmformer.recipe import RECIPES
    from anymri.systems.protocol import IM_FUSE_FAMILY
    from anymri.systems.spec import SystemSpec

    return SystemSpec(MMFormer, RECIPES, OBJECTIVES, segmentation_losses, convert, protocol=IM_FUSE_FAMILY)
