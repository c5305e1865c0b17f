"""M3AE (Liu et al., AAAI 2023): card, and network, recipes and converter on request."""

from __future__ import annotations

from typing import TYPE_CHECKING

from anymri.systems.card import FIXTURES, NO_LICENCE, Card, Evidence, Paper, evidence

if TYPE_CHECKING:
    from anymri.systems.spec import SystemSpec

CARD = Card(
    name="m3ae",
    title="M3AE: multimodal masked autoencoder with a learnt substitute image",
    paper=Paper(
        authors=("Hong Liu", "Dong Wei", "Donghuan Lu", "Jinghan Sun", "Liansheng Wang", "Yefeng Zheng"),
        title="M3AE: Multimodal Representation Learning for Brain Tumor Segmentation with Missing Modalities",
        venue="AAAI",
        year=2023,
        pages="1657-1665",
        doi="10.1609/aaai.v37i2.25253",
        arxiv="2303.05302",
    ),
    data="BraTS 2023 (the port): 875, 125 and 251 cases for training, validation and test; "
    "the paper: BraTS 2018 and 2020",
    data_year=2023,
    split=(875, 125, 251),
    reference="ccarliu/m3ae; port to BraTS 2023 in AImageLab-zip/IM-Fuse, folder m3ae: the same network and losses",
    idea="One U-Net takes all modalities as channels; missing ones are replaced by a trainable image of a whole head. "
    "Pre-training reconstructs the images from an eighth of their patches; fine-tuning makes the predictions of two "
    "subsets of one patch agree.",
    presets={
        "published": {"width": 16, "grid": (240, 240, 155)},
        "nano": {"width": 8, "grid": (96, 96, 96)},
    },
    recipes=("corrected", "reference", "nano"),
    verified=evidence(
        "m3ae",
        forward="logits of 3 subsets, and the outputs of both training stages, in float32 and float64",
        losses="every term of both stages, in float32 and float64",
        gradients="sum of each parameter's absolute gradient in a step of each stage",
        trajectory="4 optimiser steps of fine-tuning in float64",
        protocol=Evidence("one volume in windows, blended as logits; Dice of a step", f"{FIXTURES}/m3ae.json"),
    ),
    # 35,712,000 of these are the substitute.
    parameters=40_416_573,
    inference_parameters=40_416_211,
    reference_parameters=40_416_505,
    # Fusion comes first, so that subsets share only the crop of the substitute.
    gmacs={"encode four modalities": 0.0, "decode one subset": 148.0, "15 subsets": 2220.1},
    switches={
        "width": "channels at full resolution",
        "grid": "voxels of the substitute along x, y and z; it is centred on scans of other sizes",
        "substitute": "learnt (default); zeros: an ablation without the image",
        "placement": "where inference crops the substitute. scan (default): at the window's position in the scan, as "
        "in training; box: at its position in the padded box around the brain, as in the reference, off by the origin "
        "of the box",
        "heads": "both (default): both stages are trained; segmentation, reconstruction: the head in the authors' "
        "checkpoints after fine-tuning and after pre-training",
    },
    deviations=(
        "Copies of a patch are trained to agree in the coarsest logits, as in the code; in the paper, in the "
        "bottleneck (stage option objective: train_bottleneck).",
        "Pre-training takes any crop that the network takes; the reference only 128^3.",
        "Outside the substitute its border is repeated; the reference requires crops inside.",
        "The substitute is frozen in fine-tuning, and stored once beside the weights, not in each file.",
        "One network passes both stages and keeps the head of pre-training: 68 parameters.",
        "A weighting of the distillation by uncertainty and a third copy, both off in the reference, are omitted.",
        "Where scans do not exist, pre-training reconstructs those that do.",
    ),
    published_results="BraTS 2018 (paper): mean of 15 subsets WT 85.8, TC 77.4, ET 59.9; BraTS 2020 by subset, mean WT "
    "86.9, TC 79.1, ET 61.7 (sheet, section 9)",
    licence=NO_LICENCE,
)


def spec() -> SystemSpec:
    """Return network, recipes, objectives and converter; imports torch."""
    from anymri.systems.m3ae.converter import convert
    from anymri.systems.m3ae.network import M3AE
    from anymri.systems.m3ae.recipe import OBJECTIVES, PROTOCOL, RECIPES, segmentation_losses
    from anymri.systems.spec import SystemSpec

    return SystemSpec(M3AE, RECIPES, OBJECTIVES, segmentation_losses, convert, protocol=PROTOCOL)
