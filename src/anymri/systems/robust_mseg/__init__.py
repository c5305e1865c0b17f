"""Robust-Mseg (Chen et al., MICCAI 2019): card, and the parts behind it once they are asked for."""

from __future__ import annotations

from typing import TYPE_CHECKING

from anymri.systems.card import NO_LICENCE, Card

if TYPE_CHECKING:
    from anymri.systems.spec import SystemSpec

CARD = Card(
    name="robust_mseg",
    title="Robust-Mseg: robust multimodal segmentation by disentanglement and gated fusion",
    paper="Chen et al., MICCAI 2019, arXiv 2002.09708",
    reference="PyTorch port in AImageLab-zip/IM-Fuse (fbbd48e), folder RobustSeg; original in TensorFlow: "
    "cchen-cc/Robust-Mseg",
    idea="An encoder of style and one of content a modality; content of the available ones, weighed by learnt gates, "
    "is fused at four scales and segmented. In training all images are reconstructed from fused content and styles.",
    presets={
        "published": {"width": 16, "crop": 80},
        "nano": {"width": 8, "reconstruction": False},
    },
    parameters=42_136_376,
    inference_parameters=6_643_348,
    reference_parameters=42_136_376,
    gmacs={"encode four modalities": 269.7, "decode one subset": 102.6, "15 subsets": 1808.4},
    switches={
        "width": "channels of the content at full resolution",
        "style_width": "channels of the first level of the style encoders",
        "reconstruction": "true (default), or false: no style encoders and no image decoders, a fifth of the cost of "
        "a training step (nano)",
        "image_norm": "voxel (default): the port's, which learns something of each voxel and so trains on one crop; "
        "channel: the original's, for any crop",
        "crop": "side of the cubes to train on where image_norm is voxel; segmentation takes any crop",
        "dropout": "in the content encoders, 0.3",
        "constant_dropout": "false (default); true: dropout in evaluation too, as in the port",
        "activated_gates": "true (default): leaky ReLU in front of a gate's sigmoid, as in the port; false: the "
        "original's",
        "norm_gains": "false (default): instance norms as in the port; true: with gains and shifts, as in the original",
        "upsampling": "trilinear (default): the port's; nearest: the original's",
    },
    deviations=(
        "Dropout is off in evaluation, where nothing reaches it in the port (switch constant_dropout).",
        "Evaluation runs no style encoders, whose results the port throws away, and reconstructs no images unless asked "
        "to: then the style of a modality that is not available is taken as zero.",
        "What a modality adds to gates and fusion is computed once for all subsets: the same sums.",
        "Content of modalities that a step leaves out is not encoded; the published recipe moves their encoders on by "
        "momentum and weight decay, as the port's optimiser does, other recipes let them keep still.",
        "Where scans do not exist, reconstruction and divergence reach over those that do.",
    ),
    published_results="re-trained by XLSTM-HVED's authors on BraTS 2024 (their Table 1, column RMBTS): mean Dice over "
    "15 subsets WT 71.66, TC 27.60, ET 27.36",
    licence=NO_LICENCE,
)


def spec() -> SystemSpec:
    """Network, recipes, objectives and converter; imports torch."""
    from anymri.systems.families.disentangling.objective import OBJECTIVES, segmentation_losses
    from anymri.systems.robust_mseg.converter import convert
    from anymri.systems.robust_mseg.network import RobustMseg
    from anymri.systems.robust_mseg.recipe import RECIPES
    from anymri.systems.spec import SystemSpec

    return SystemSpec(RobustMseg, RECIPES, OBJECTIVES, segmentation_losses, convert)
