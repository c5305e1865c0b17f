"""U-HVED (Dorent et al., MICCAI 2019): card, and the parts behind it once they are asked for."""

from __future__ import annotations

from typing import TYPE_CHECKING

from anymri.systems.card import NO_LICENCE, Card

if TYPE_CHECKING:
    from anymri.systems.spec import SystemSpec

CARD = Card(
    name="u_hved",
    title="U-HVED: hetero-modal variational encoder-decoder",
    paper="Dorent et al., MICCAI 2019, arXiv 1907.11150",
    reference="PyTorch port in AImageLab-zip/IM-Fuse (fbbd48e), folder UHVED; original in TensorFlow: ReubenDo/U-HVED",
    idea="One U-Net encoder a modality gives Gaussians at four scales; the product of the available ones is decoded "
    "to the segmentation, and in training to all four images.",
    presets={"published": {"width": 8}, "nano": {"width": 8, "reconstruction": False}},
    parameters=1_250_552,
    inference_parameters=959_112,
    reference_parameters=1_250_552,
    gmacs={"encode four modalities": 48.1, "decode one subset": 12.7, "15 subsets": 238.6},
    switches={
        "width": "channels of the first encoder level",
        "reconstruction": "true (default), or false: no image decoders, half the cost of a training step (nano)",
        "init": "he_fan_in (default), or port: the reference's rule, which starts norm gains around zero",
    },
    deviations=(
        "Modalities go by name; the port reads the columns of its mask as t1, t1c, t2, flair while its data come as "
        "flair, t1c, t1, t2, so the row labels of its test output are permuted.",
        "Windows are blended as probabilities, where the port averages raw logits.",
        "Where scans do not exist, reconstruction and divergences reach over those that do; with four scans the "
        "losses are the port's.",
    ),
    published_results="none by subset in the paper or the port's repository at hand",
    licence=f"original: MIT; port: {NO_LICENCE}",
)


def spec() -> SystemSpec:
    """Network, recipes, objectives and converter; imports torch."""
    from anymri.systems.spec import SystemSpec
    from anymri.systems.u_hved.converter import convert
    from anymri.systems.u_hved.network import UHVED
    from anymri.systems.u_hved.recipe import OBJECTIVES, RECIPES, validation_losses

    return SystemSpec(UHVED, RECIPES, OBJECTIVES, validation_losses, convert)
