"""SFusion (Liu et al., MICCAI 2023): card, and network, recipes and converter on request."""

from __future__ import annotations

from typing import TYPE_CHECKING

from anymri.systems.card import FIXTURES, NO_LICENCE, Card, Evidence, Paper, evidence

if TYPE_CHECKING:
    from anymri.systems.spec import SystemSpec

CARD = Card(
    name="sfusion",
    title="SFusion: self-attention based fusion of any number of modalities",
    paper=Paper(
        authors=("Zecheng Liu", "Jia Wei", "Rui Li", "Jianlong Zhou"),
        title="SFusion: Self-attention based N-to-One Multimodal Fusion Block",
        venue="MICCAI",
        year=2023,
        pages="159-169",
        doi="10.1007/978-3-031-43895-0_15",
        arxiv="2208.12776",
    ),
    data="BraTS 2023 (the port): 872, 125 and 251 cases for training, validation and test; "
    "the original code: BraTS 2020",
    data_year=2023,
    split=(872, 125, 251),
    reference="port in AImageLab-zip/IM-Fuse (fbbd48e), folder SFusion; original: scut-cszcl/SFusion (dae6d59)",
    idea="Robust-Mseg with another fusion: at each scale a transformer over the tokens of the available modalities "
    "computes logit maps, and a softmax over modalities turns them into the weights of their content.",
    presets={
        "published": {"width": 16, "crop": 128},
        "nano": {"width": 8, "crop": 64, "grid": 8, "layers": 2, "reconstruction": False},
    },
    recipes=("corrected", "reference", "nano"),
    verified=evidence(
        "sfusion",
        forward="probabilities of 3 subsets, and all outputs of 2 training passes, at half the width, without dropout",
        losses="every term of 2 training passes",
        gradients="norm of each parameter's gradient in one pass",
        protocol=Evidence("Dice with 1e-8 and the rule of 500 voxels", f"{FIXTURES}/metrics.json"),
    ),
    parameters=41_353_400,
    inference_parameters=10_532_372,
    reference_parameters=41_353_400,
    gmacs={"encode four modalities": 246.4, "decode all four": 127.0, "decode one alone": 102.5, "15 subsets": 1919.2},
    switches={
        "width": "channels of the content at full resolution, a multiple of heads",
        "crop": "side of the cube that the network takes, voxels, a multiple of 8 times grid: there are logits for "
        "each voxel of a token",
        "grid": "tokens along a side of the cube",
        "heads": "attention heads of the transformers",
        "layers": "layers of the transformers",
        "style_width": "channels of the first level of the style encoders",
        "reconstruction": "true (default), or false: without style encoders and image decoders, a fifth of the cost "
        "of a training step (nano)",
        "dropout": "rate in the content encoders (default: 0.3)",
        "token_dropout": "rate in the transformers (default: 0.1)",
        "styled_eps": "1e-5 (default), added to variances in the image decoders' adaptive norms; 0, as in the port, "
        "where a constant map is a division by zero",
    },
    deviations=(
        "Modalities are addressed by name. The port reads the columns of its mask as t1c, t1, t2, flair, while its "
        "data have them as flair, t1c, t1, t2, so that the row labels of its test output are permuted.",
        "Each sample of a batch has a subset; the port applies the first one's to all.",
        "Evaluation does not run the style encoders, whose results the port discards. Images are reconstructed only on "
        "request, with the style of missing modalities at zero.",
        "The content of a single modality passes unchanged, as in the port, but the transformers do not run. The "
        "published recipe still updates them by momentum and weight decay, as the port's optimiser does; other recipes "
        "do not.",
        "The content of modalities missing from a step's subset is not encoded; the port computes it without using it.",
        "Logits become weights one plane of tokens at a time: the same function with an eighth of the memory.",
        "Where scans do not exist, reconstruction and divergence cover those that do.",
    ),
    published_results="none by subset in the sources at hand",
    licence=NO_LICENCE,
)


def spec() -> SystemSpec:
    """Return network, recipes, objectives and converter; imports torch."""
    from anymri.systems.families.disentangling.objective import OBJECTIVES, segmentation_losses
    from anymri.systems.sfusion.converter import convert
    from anymri.systems.sfusion.network import SFusion
    from anymri.systems.sfusion.recipe import PROTOCOL, RECIPES
    from anymri.systems.spec import SystemSpec

    return SystemSpec(SFusion, RECIPES, OBJECTIVES, segmentation_losses, convert, protocol=PROTOCOL)
