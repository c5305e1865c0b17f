"""Robust-Mseg (Chen et al., MICCAI 2019): card, and network, recipes and converter on request."""

from __future__ import annotations

from typing import TYPE_CHECKING

from anymri.systems.card import FIXTURES, NO_LICENCE, Card, Evidence, Paper, evidence

if TYPE_CHECKING:
    from anymri.systems.spec import SystemSpec

CARD = Card(
    name="robust_mseg",
    title="Robust-Mseg: robust multimodal segmentation by disentanglement and gated fusion",
    paper=Paper(
        authors=("Cheng Chen", "Qi Dou", "Yueming Jin", "Hao Chen", "Jing Qin", "Pheng-Ann Heng"),
        title="Robust Multimodal Brain Tumor Segmentation via Feature Disentanglement and Gated Fusion",
        venue="MICCAI",
        year=2019,
        pages="447-456",
        doi="10.1007/978-3-030-32248-9_50",
        arxiv="2002.09708",
    ),
    data="BraTS 2023 (the port): 875, 125 and 251 cases for training, validation and test; "
    "the original code: BraTS 2015",
    data_year=2023,
    split=(875, 125, 251),
    reference="PyTorch port in AImageLab-zip/IM-Fuse (fbbd48e), folder RobustSeg; original in TensorFlow: "
    "cchen-cc/Robust-Mseg",
    idea="A style encoder and a content encoder per modality. The content of the available modalities is weighted by "
    "learnt gates, fused at four scales and segmented. Training also reconstructs all images from fused content and "
    "styles.",
    presets={
        "published": {"width": 16, "crop": 80},
        "nano": {"width": 8, "reconstruction": False},
    },
    recipes=("corrected", "reference", "nano"),
    verified=evidence(
        "robust_mseg",
        forward="probabilities of 3 subsets, and all outputs of 2 training passes, without dropout",
        losses="every term of 2 training passes",
        gradients="norm of each parameter's gradient in one pass",
        trajectory="4 optimiser steps in float64, without dropout",
        protocol=Evidence("Dice with 1e-8 and the rule of 500 voxels", f"{FIXTURES}/metrics.json"),
    ),
    parameters=42_136_376,
    inference_parameters=6_643_348,
    reference_parameters=42_136_376,
    gmacs={"encode four modalities": 269.7, "decode one subset": 102.6, "15 subsets": 1808.4},
    switches={
        "width": "channels of the content at full resolution",
        "style_width": "channels of the first level of the style encoders",
        "reconstruction": "true (default), or false: without style encoders and image decoders, a fifth of the cost "
        "of a training step (nano)",
        "image_norm": "norm of the image decoders. voxel (default): with weights per voxel, as in the port, which "
        "fixes the training crop; channel: with weights per channel, as in the original, for any crop",
        "crop": "side of the cubes to train on, voxels, where image_norm is voxel; segmentation takes any crop",
        "dropout": "rate in the content encoders (default: 0.3)",
        "constant_dropout": "false (default); true: dropout in evaluation too, as in the port",
        "activated_gates": "true (default): leaky ReLU before a gate's sigmoid, as in the port; false: without, as in "
        "the original",
        "norm_gains": "false (default): instance norms as in the port; true: with gains and shifts, as in the original",
        "upsampling": "trilinear (default), as in the port; nearest, as in the original",
    },
    deviations=(
        "Dropout is off in evaluation; the port cannot switch it off (switch constant_dropout).",
        "Evaluation does not run the style encoders, whose results the port discards. Images are reconstructed only on "
        "request, with the style of missing modalities at zero.",
        "What a modality adds to gates and fusion is computed once for all subsets: the same sums.",
        "The content of modalities missing from a step's subset is not encoded. The published recipe still updates "
        "their encoders by momentum and weight decay, as the port's optimiser does; other recipes do not.",
        "Where scans do not exist, reconstruction and divergence cover those that do.",
    ),
    published_results="re-trained by XLSTM-HVED's authors on BraTS 2024 (their Table 1, column RMBTS): mean Dice over "
    "15 subsets WT 71.66, TC 27.60, ET 27.36",
    licence=NO_LICENCE,
)


def spec() -> SystemSpec:
    """Return network, recipes, objectives and converter; imports torch."""
    from anymri.systems.families.disentangling.objective import OBJECTIVES, segmentation_losses
    from anymri.systems.protocol import IM_FUSE_FAMILY
    from anymri.systems.robust_mseg.converter import convert
    from anymri.systems.robust_mseg.network import RobustMseg
    from anymri.systems.robust_mseg.recipe import RECIPES
    from anymri.systems.spec import SystemSpec

    return SystemSpec(RobustMseg, RECIPES, OBJECTIVES, segmentation_losses, convert, protocol=IM_FUSE_FAMILY)
