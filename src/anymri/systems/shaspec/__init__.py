"""ShaSpec (Wang et al., CVPR 2023): card, and network, recipes and converter on request."""

from __future__ import annotations

from typing import TYPE_CHECKING

from anymri.systems.card import FIXTURES, NO_LICENCE, Card, Evidence, Paper, evidence

if TYPE_CHECKING:
    from anymri.systems.spec import SystemSpec

CARD = Card(
    name="shaspec",
    title="ShaSpec: shared and specific feature modelling",
    paper=Paper(
        authors=("Hu Wang", "Yuanhong Chen", "Congbo Ma", "Jodie Avery", "Louise Hull", "Gustavo Carneiro"),
        title="Multi-Modal Learning with Missing Modality via Shared-Specific Feature Modelling",
        venue="CVPR",
        year=2023,
        pages="15878-15887",
        doi="10.1109/CVPR52729.2023.01524",
        arxiv="2307.14126",
    ),
    data="BraTS 2023 (the port): 875, 125 and 251 cases for training, validation and test; the paper: BraTS 2018",
    data_year=2023,
    split=(875, 125, 251),
    reference="billhhh/ShaSpec, and the port to BraTS 2023 in AImageLab-zip/IM-Fuse with the same network and losses",
    idea="A residual encoder that all modalities share, and one of the same form per modality. Specific features "
    "correct the shared ones; the shared features of an available modality replace those of missing ones. The decoder "
    "receives the shared encoder's skips of all modalities.",
    presets={"published": {"width": 64}, "nano": {"width": 8}},
    recipes=("corrected", "reference", "nano"),
    verified=evidence(
        "shaspec",
        forward="logits of 3 subsets, and the features of both training stages, in float64 at an eighth of the width",
        losses="every term of a step of each stage, in float64",
        gradients="sum of each parameter's absolute gradient in a step of each stage, in float64",
        trajectory="6 optimiser steps in float64, three of each stage, at a thousandth of the learning rate",
        protocol=Evidence(
            "one volume in windows, blended as probabilities and as logits, at the fixture's positions",
            f"{FIXTURES}/shaspec.json",
        ),
    ),
    parameters=187_377_892,
    inference_parameters=187_376_864,
    reference_parameters=187_708_132,
    # An empty image replaces missing modalities: another 91.3, once for all windows of a volume.
    gmacs={"encode four modalities": 649.3, "decode one subset": 56.6, "15 subsets": 1591.5},
    switches={
        "width": "channels of the encoders' stem, an even number",
        "substitute": "first (default): missing modalities get the shared features of the first available one of "
        "FLAIR, T1, T1c and T2, in training of one drawn at random, as in the authors' code; mean: the mean of all "
        "available ones, which that code has but does not use",
        "init": "initialisation of the norms' biases. anymri (default): random, so that training may begin with any "
        "subset; reference: zero, where gradients of an empty image overflow and training must begin with all "
        "modalities",
    },
    deviations=(
        "The branch of image-level features is omitted: the norm after it removes it exactly. Of the reference's "
        "187,708,132 parameters these are 330,240, which never receive a gradient.",
        "The norm of a single voxel returns its bias; for that, the authors ask users to change torch's code.",
        "Modalities pass the shared encoder one by one, the empty image once for all missing ones; the reference "
        "stacks them, and runs all encoders in every pass.",
        "Subsets and training's substitutes are drawn per sample, not per batch; scans that do not exist are treated "
        "like modalities missing from the subset.",
        "The objective train_available (nano) excludes missing modalities from the auxiliary losses. The authors' "
        "(train) pulls features of empty images towards those of real ones, and trains specific encoders to recognise "
        "their modality in an empty image.",
    ),
    published_results="IM-Fuse's comparison on BraTS 2023: mean Dice over subsets and regions about 80.3, read off a "
    "plot; the sources at hand do not have a table by subset",
    licence=NO_LICENCE,
)


def spec() -> SystemSpec:
    """Return network, recipes, objectives and converter; imports torch."""
    from anymri.systems.shaspec.converter import convert
    from anymri.systems.shaspec.network import ShaSpec
    from anymri.systems.shaspec.recipe import OBJECTIVES, PROTOCOL, RECIPES, segmentation_losses
    from anymri.systems.spec import SystemSpec

    return SystemSpec(ShaSpec, RECIPES, OBJECTIVES, segmentation_losses, convert, protocol=PROTOCOL)
