"""RA-HVED (Jeong et al., ACCV 2022): card and specification."""

from __future__ import annotations

from typing import TYPE_CHECKING

from anymri.systems.card import NO_LICENCE, Card, Paper, evidence

if TYPE_CHECKING:
    from anymri.systems.spec import SystemSpec

CARD = Card(
    name="ra_hved",
    title="RA-HVED: region-of-interest attentive hetero-modal variational encoder-decoder",
    paper=Paper(
        authors=("Seung-wan Jeong", "Hwan-ho Cho", "Junmo Kwon", "Hyunjin Park"),
        title="Region-of-Interest Attentive Heteromodal Variational Encoder-Decoder for Segmentation with Missing "
        "Modalities",
        venue="ACCV",
        year=2022,
        doi="10.1007/978-3-031-26351-4_9",
    ),
    data="BraTS 2018: 199, 29 and 57 cases for training, validation and test",
    data_year=2018,
    split=(199, 29, 57),
    reference="ssjx10/RA-HVED (23a1543), class U_HVEDConvNet3D",
    idea="U-HVED with Gaussians at half resolution, gates around the region of interest on the segmentation's skips, "
    "and a discriminator that compares the predictions from some modalities with those from all.",
    presets={"published": {"width": 16}, "nano": {"width": 8, "shared_reconstruction": True}},
    recipes=("corrected", "reference", "nano"),
    verified=evidence(
        "ra_hved",
        forward="probabilities, images and Gaussians of 3 subsets, of two variants, and of both passes of a step",
        losses="every term of generator and discriminator, in float32 and float64",
        gradients="norm of each module's gradients, in float32 and float64",
        trajectory="4 optimiser steps of generator and discriminator in float64, without dropout",
    ),
    parameters=5_915_285,
    inference_parameters=3_591_889,
    reference_parameters=5_915_285,
    gmacs={"encode four modalities": 160.9, "decode one subset": 107.7, "15 subsets": 1777.0},
    switches={
        "width": "channels of the first encoder level, a multiple of 4",
        "shared_reconstruction": "false (default): one decoder per image; true: one for all (nano)",
        "reduction": "true (default): Gaussians at half resolution; false: plain MVAE, the latents are the skips",
        "attention": "true (default): gates on the segmentation's skips; false: plain concatenation",
        "dropout": "share of the stem's channels that training sets to zero, 0.2",
    },
    deviations=(
        "In training, the complete and the incomplete pass share one encoding and thus one dropout mask; the authors "
        "encode twice and draw two masks.",
        "The 7^3 depthwise and the 1^3 convolution of a gate run as one dense 7^3 convolution: the same function of "
        "the same weights.",
        "Evaluation reconstructs images only on request.",
        "Where scans are missing, the complete pass and the reconstruction cover those that exist.",
    ),
    published_results="re-trained by XLSTM-HVED's authors on BraTS 2024 (their Table 1, most likely at width 4): mean "
    "Dice over 15 subsets WT 68.82, TC 47.82, ET 40.14 (printed: 39.77)",
    licence=NO_LICENCE,
)


def spec() -> SystemSpec:
    """Return network, recipes, objectives and converter; imports torch."""
    from anymri.systems.families.hved.objective import DISCRIMINATORS, OBJECTIVES, segmentation_losses
    from anymri.systems.ra_hved.converter import convert
    from anymri.systems.ra_hved.network import RAHVED
    from anymri.systems.ra_hved.recipe import PROTOCOL, RECIPES
    from anymri.systems.spec import SystemSpec

    return SystemSpec(RAHVED, RECIPES, OBJECTIVES, segmentation_losses, convert, DISCRIMINATORS, protocol=PROTOCOL)
