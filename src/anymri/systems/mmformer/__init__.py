"""mmFormer (Zhang et al., MICCAI 2022): card, and the parts behind it once they are asked for."""

from __future__ import annotations

from typing import TYPE_CHECKING

from anymri.systems.card import NO_LICENCE, Card

if TYPE_CHECKING:
    from anymri.systems.spec import SystemSpec

CARD = Card(
    name="mmformer",
    title="mmFormer: multimodal medical transformer for incomplete data",
    paper="Zhang et al., MICCAI 2022, arXiv 2206.02425",
    reference="YaoZhang93/mmFormer (December 2023), and the copy in AImageLab-zip/IM-Fuse with the same network",
    idea="One convolutional encoder and one transformer a modality, a second transformer over the tokens of all of "
    "them, absent ones zero but for their positions, and one decoder that fuses the modalities on every skip. In "
    "training each modality also segments alone, through a decoder that all share.",
    presets={
        "published": {"width": 8, "token_width": 512, "mlp_width": 4096, "heads": 8, "crop": 128},
        "nano": {"width": 4, "token_width": 64, "mlp_width": 128, "heads": 4, "crop": 64},
    },
    parameters=36_391_760,
    inference_parameters=35_797_428,
    reference_parameters=36_391_760,
    gmacs={"encode four modalities": 77.7, "decode one subset": 50.5, "15 subsets": 834.8},
    switches={
        "width": "channels of the first encoder level",
        "token_width": "channels of a token, a multiple of heads",
        "mlp_width": "channels of the transformers' hidden layers",
        "heads": "of the transformers' attention",
        "crop": "side of the cube that the network takes: it learns a position for each of its tokens",
        "aligned_tokens": "false (default): tokens behind the second transformer are read as published, four "
        "neighbours of one modality to a voxel; true: all modalities' tokens of the voxel, as was meant",
        "dropout": "in the transformers, 0.1",
    },
    deviations=(
        "The authors size the fusion by the number of classes, which works because both are four; here by the number "
        "of modalities.",
        "What a modality adds to the fusion's first convolution is computed once for all subsets: the same sum.",
        "Two dropouts in a row run as one at the rate of both.",
        "Encoders and first transformers of absent modalities never run; heads of deep_supervision levels only in training.",
        "Where scans do not exist, the losses of each modality alone reach over those that do; those that a step only "
        "leaves out keep theirs, as published.",
    ),
    published_results="re-trained by XLSTM-HVED's authors on BraTS 2024 (their Table 1): mean Dice over 15 subsets WT "
    "74.16, TC 55.05, ET 52.99; on BraTS 2023 about 82.8 over subsets and regions, read off a figure of IM-Fuse's",
    licence=NO_LICENCE,
)


def spec() -> SystemSpec:
    """Network, recipes, objectives and converter; imports torch."""
    from anymri.systems.families.tokens.objective import OBJECTIVES, segmentation_losses
    from anymri.systems.mmformer.converter import convert
    from anymri.systems.mmformer.network import MMFormer
    from anymri.systems.mmformer.recipe import RECIPES
    from anymri.systems.spec import SystemSpec

    return SystemSpec(MMFormer, RECIPES, OBJECTIVES, segmentation_losses, convert)
