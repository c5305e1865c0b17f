"""XLSTM-HVED (ISBI 2025): card and specification."""

from __future__ import annotations

from typing import TYPE_CHECKING

from anymri.systems.card import FIXTURES, NO_LICENCE, Card, Evidence, Paper, evidence

if TYPE_CHECKING:
    from anymri.systems.spec import SystemSpec

CARD = Card(
    name="xlstm_hved",
    title="XLSTM-HVED: hetero-modal variational encoder-decoder with spatial attention and a Vision-LSTM",
    paper=Paper(
        authors=(
            "Shenghao Zhu",
            "Yifei Chen",
            "Shuo Jiang",
            "Weihong Chen",
            "Chang Liu",
            "Yuanhan Wang",
            "Xu Chen",
            "Yifan Ke",
            "Feiwei Qin",
        ),
        and_others=True,
        title="XLSTM-HVED: Cross-Modal Brain Tumor Segmentation and MRI Reconstruction Method Using Vision XLSTM and "
        "Heteromodal Variational Encoder-Decoder",
        venue="ISBI",
        year=2025,
        arxiv="2412.07804",
    ),
    data="BraTS 2024, divided 80/20 by hand; the regions of the authors' code are those of BraTS-PEDs values",
    data_year=2024,
    split=(1080, 0, 270),
    reference="Quanato607/XLSTM-HVED (77470a8), class XLSTM_HVED",
    idea="A smaller RA-HVED with attention maps, computed from all modalities, on the encoder of each one, an mLSTM "
    "block over the voxels of the bottleneck, and gates exchanged between the decoders of segmentation and images.",
    presets={"published": {"width": 4}, "nano": {"width": 4}},
    recipes=("corrected", "reference", "nano", "starter"),
    verified=evidence(
        "xlstm_hved",
        forward="probabilities and images of 3 subsets, of 7 variants (two of them RA-HVED's network), and of both "
        "passes of a step",
        losses="every term of generator and discriminator, in float32 and float64",
        gradients="norm of each module's gradients, in float32 and float64",
        trajectory="4 optimiser steps of generator and discriminator in float64, with running statistics",
        protocol=Evidence("HD95 of surfaces by Sobel filters", f"{FIXTURES}/metrics.json"),
    ),
    parameters=326_222,
    inference_parameters=326_146,
    reference_parameters=422_588,
    # With SAVE, all but the finest level of the encoders depends on the subset.
    gmacs={"encode four modalities": 7.5, "decode one subset": 22.1, "15 subsets": 321.4},
    switches={
        "width": "channels of the first encoder level, a multiple of 4; in the reference only 4 works",
        "shared_reconstruction": "true (default): one decoder for all images; false: one decoder per image, each "
        "coupled with one pass of the segmentation decoder",
        "save_source": "input (default): attention maps from the images; latent: from each level's fused skip, as in "
        "the paper's figure; none: without SAVE (the reference's ablation also has vil_gate none)",
        "vil_gate": "residual (default): h + v; softmax: h + h * softmax(v), as in the paper; none: no Vision-LSTM",
        "dusfe_levels": "3 (default): DuSFE after every decoder level; 2: not after the finest, as in the paper; 0: "
        "separate decoders",
        "reference_leak": "false (default); true: in training, attention maps also use the missing modalities, as in "
        "the reference",
        "init": "anymri (default): the Vision-LSTM keeps the initialisation of its layers, and the biases of the "
        "logits are 0; reference: all are overwritten, biases with N(0, 1), as in the reference",
    },
    deviations=(
        "An attention map is computed once instead of once per modality; its running statistics change as much.",
        "The mLSTM processes its sequence in chunks: the same function with a small share of the memory.",
        "The 7^3 depthwise and the 1^3 convolution of a gate run as one dense 7^3 convolution: the same function of "
        "the same weights.",
        "Parameters that the reference stores and never uses do not exist: 96,366 of 422,588.",
        "Labels come from the data set's scheme; the authors read BraTS-PEDs values whatever the data set.",
        "Evaluation reconstructs images only on request.",
        "Where scans are missing, the complete pass and the reconstruction cover those that exist.",
    ),
    published_results="the authors' 80/20 split of BraTS 2024 (paper, Table 1), mean Dice over 15 subsets WT 74.53, "
    "TC 58.19, ET 53.40 (printed: 53.83); the rows of T2 and FLAIR may be exchanged (sheet, section 10)",
    licence=NO_LICENCE,
)


def spec() -> SystemSpec:
    """Return network, recipes, objectives and converter; imports torch."""
    from anymri.systems.families.hved.objective import DISCRIMINATORS, OBJECTIVES, segmentation_losses
    from anymri.systems.spec import SystemSpec
    from anymri.systems.xlstm_hved.converter import convert
    from anymri.systems.xlstm_hved.network import XLSTMHVED
    from anymri.systems.xlstm_hved.recipe import PROTOCOL, RECIPES

    return SystemSpec(XLSTMHVED, RECIPES, OBJECTIVES, segmentation_losses, convert, DISCRIMINATORS, protocol=PROTOCOL)
