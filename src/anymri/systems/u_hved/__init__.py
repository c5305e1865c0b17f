"""U-HVED (Dorent et al., MICCAI 2019): card and specification."""

from __future__ import annotations

from typing import TYPE_CHECKING

from anymri.systems.card import FIXTURES, NO_LICENCE, Card, Evidence, Paper, evidence

if TYPE_CHECKING:
    from anymri.systems.spec import SystemSpec

CARD = Card(
    name="u_hved",
    title="U-HVED: hetero-modal variational encoder-decoder",
    paper=Paper(
        authors=("Reuben Dorent", "Samuel Joutard", "Marc Modat", "Sébastien Ourselin", "Tom Vercauteren"),
        title="Hetero-Modal Variational Encoder-Decoder for Joint Modality Completion and Segmentation",
        venue="MICCAI",
        year=2019,
        pages="74-82",
        arxiv="1907.11150",
    ),
    data="BraTS 2023 (the port): 875, 125 and 251 cases for training, validation and test; the paper: BraTS 2018",
    data_year=2023,
    split=(875, 125, 251),
    reference="PyTorch port in AImageLab-zip/IM-Fuse (fbbd48e), folder UHVED; original in TensorFlow: ReubenDo/U-HVED",
    idea="One U-Net encoder per modality computes Gaussians at four scales; the product of the available ones is "
    "decoded to the segmentation, and in training to all four images.",
    presets={"published": {"width": 8}, "nano": {"width": 8, "reconstruction": False}},
    recipes=("corrected", "reference", "nano", "one_case"),
    verified=evidence(
        "u_hved",
        forward="logits of 3 subsets, and all outputs of 3 training passes with given noise",
        losses="every term of 3 training passes",
        gradients="norm of each parameter's gradient in one pass",
        trajectory="4 optimiser steps in float64, two samples with different subsets in each",
        protocol=Evidence("Dice with 1e-8 and the rule of 500 voxels", f"{FIXTURES}/metrics.json"),
    ),
    parameters=1_250_552,
    inference_parameters=959_112,
    reference_parameters=1_250_552,
    gmacs={"encode four modalities": 48.1, "decode one subset": 12.8, "15 subsets": 240.2},
    switches={
        "width": "channels of the first encoder level",
        "reconstruction": "true (default), or false: without image decoders, half the cost of a training step (nano)",
        "init": "he_fan_in (default), or port: the reference's rule, which draws norm gains around zero",
    },
    deviations=(
        "Modalities are selected by name; the port reads the columns of its mask as t1, t1c, t2, flair while its "
        "data come as flair, t1c, t1, t2, so the row labels of its test output are permuted.",
        "Where scans are missing, reconstruction and divergences cover those that exist; with four scans the losses "
        "are the port's.",
    ),
    published_results="none per subset in the paper or the port's repository",
    licence=f"original: MIT; port: {NO_LICENCE}",
)


def spec() -> SystemSpec:
    """Return network, recipes, objectives and converter; imports torch."""
    from anymri.systems.spec import SystemSpec
    from anymri.systems.u_hved.converter import convert
    from anymri.systems.u_hved.network import UHVED
    from anymri.systems.u_hved.recipe import OBJECTIVES, PROTOCOL, RECIPES, validation_losses

    return SystemSpec(UHVED, RECIPES, OBJECTIVES, validation_losses, convert, protocol=PROTOCOL)
