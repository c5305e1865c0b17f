"""SFusion (Liu et al., MICCAI 2023): card, and the parts behind it once they are asked for."""

from __future__ import annotations

from typing import TYPE_CHECKING

from anymri.systems.card import NO_LICENCE, Card

if TYPE_CHECKING:
    from anymri.systems.spec import SystemSpec

CARD = Card(
    name="sfusion",
    title="SFusion: self-attention based fusion of any number of modalities",
    paper="Liu et al., MICCAI 2023, arXiv 2208.12776",
    reference="port in AImageLab-zip/IM-Fuse (fbbd48e), folder SFusion; original: scut-cszcl/SFusion (dae6d59)",
    idea="Robust-Mseg with another fusion: at each scale one transformer over the tokens of whichever modalities are "
    "available gives score maps, and a softmax over modalities makes them the weights of their content.",
    presets={
        "published": {"width": 16, "crop": 128},
        "nano": {"width": 8, "crop": 64, "grid": 8, "layers": 2, "reconstruction": False},
    },
    parameters=41_353_400,
    inference_parameters=10_532_372,
    reference_parameters=41_353_400,
    gmacs={"encode four modalities": 246.4, "decode all four": 127.0, "decode one alone": 102.5, "15 subsets": 1919.2},
    switches={
        "width": "channels of the content at full resolution, a multiple of heads",
        "crop": "side of the cube that the network takes, a multiple of 8 times grid: a token learns logits for each "
        "of its voxels",
        "grid": "tokens along a side of the cube",
        "heads": "of the transformers' attention",
        "layers": "of the transformers",
        "style_width": "channels of the first level of the style encoders",
        "reconstruction": "true (default), or false: no style encoders and no image decoders, a fifth of the cost of "
        "a training step (nano)",
        "dropout": "in the content encoders, 0.3",
        "token_dropout": "in the transformers, 0.1",
        "styled_eps": "1e-5 (default), added to variances in the image decoders' adaptive norms; 0: the port's, for "
        "which a constant map is a division by zero",
    },
    deviations=(
        "Modalities go by name; the port reads the columns of its mask as t1c, t1, t2, flair while its data hand them "
        "over as flair, t1c, t1, t2, so the row labels of its test output are permuted.",
        "Each sample of a batch has its own subset; the port applies the first one's to all.",
        "Evaluation runs no style encoders, whose results the port throws away, and reconstructs no images unless asked "
        "to: then the style of a modality that is not available is taken as zero.",
        "One modality alone is its own fusion, as in the port, but its transformers do not run; the published recipe "
        "moves them on by momentum and weight decay, as the port's optimiser does, other recipes let them keep still.",
        "Content of modalities that a step leaves out is not encoded; the port makes it and fuses it nowhere.",
        "Scores become weights one plane of tokens at a time: the same function at an eighth of the memory.",
        "Where scans do not exist, reconstruction and divergence reach over those that do.",
    ),
    published_results="none by subset in the sources at hand",
    licence=NO_LICENCE,
)


def spec() -> SystemSpec:
    """Network, recipes, objectives and converter; imports torch."""
    from anymri.systems.families.disentangling.objective import OBJECTIVES, segmentation_losses
    from anymri.systems.sfusion.converter import convert
    from anymri.systems.sfusion.network import SFusion
    from anymri.systems.sfusion.recipe import RECIPES
    from anymri.systems.spec import SystemSpec

    return SystemSpec(SFusion, RECIPES, OBJECTIVES, segmentation_losses, convert)
