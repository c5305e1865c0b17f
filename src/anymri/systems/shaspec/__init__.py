"""ShaSpec (Wang et al., CVPR 2023): card, and the parts behind it once they are asked for."""

from __future__ import annotations

from typing import TYPE_CHECKING

from anymri.systems.card import NO_LICENCE, Card

if TYPE_CHECKING:
    from anymri.systems.spec import SystemSpec

CARD = Card(
    name="shaspec",
    title="ShaSpec: shared and specific feature modelling",
    paper="Wang et al., CVPR 2023, arXiv 2307.14126",
    reference="billhhh/ShaSpec, and the port to BraTS 2023 in AImageLab-zip/IM-Fuse with the same network and losses",
    idea="A residual encoder that all modalities share and one of the same form for each alone. Shared features are "
    "corrected by specific ones; those of an available modality stand for absent ones. The decoder sees the shared "
    "encoder's skips of all modalities.",
    presets={"published": {"width": 64}, "nano": {"width": 8}},
    parameters=187_377_892,
    inference_parameters=187_376_864,
    reference_parameters=187_708_132,
    # An empty image stands for absent modalities: another 91.3, once for all windows of a volume.
    gmacs={"encode four modalities": 649.3, "decode one subset": 56.6, "15 subsets": 1590.3},
    switches={
        "width": "channels of the encoders' stem, an even number",
        "substitute": "first (default): absent modalities get the shared features of the first available one of FLAIR, "
        "T1, T1c and T2, in training of one drawn at random, as in the authors' code; mean: the mean of all available "
        "ones, which that code has but does not use",
        "init": "anymri (default): biases of norms start at random, so that training may begin with any subset; "
        "reference: at zero, where gradients of an empty image overflow and training must begin with all modalities",
    },
    deviations=(
        "The branch of image-level features is left out: the norm behind it takes it away exactly. Of the reference's "
        "187,708,132 parameters these are 330,240, which never receive a gradient.",
        "A norm of a single voxel gives its bias; for that, the authors have users change torch's own code.",
        "Modalities pass the shared encoder one by one, the empty image once for all absent ones; the reference stacks "
        "them, and runs all encoders in every pass.",
        "Subsets and training's substitutes are drawn for each sample instead of for the batch; scans that do not "
        "exist are treated like those left out.",
        "The objective train_available (nano) keeps absent modalities out of the auxiliary losses. The authors' "
        "(train) draws features of empty images to those of real ones, and has specific encoders recognise their "
        "modality in nothing.",
        "Norms' biases start at random (switch init).",
        "Windows are cubes.",
    ),
    published_results="IM-Fuse's comparison on BraTS 2023: mean Dice over subsets and regions about 80.3, read off a "
    "plot; no table by subset in the sources at hand",
    licence=NO_LICENCE,
)


def spec() -> SystemSpec:
    """Network, recipes, objectives and converter; imports torch."""
    from anymri.systems.shaspec.converter import convert
    from anymri.systems.shaspec.network import ShaSpec
    from anymri.systems.shaspec.recipe import OBJECTIVES, RECIPES, segmentation_losses
    from anymri.systems.spec import SystemSpec

    return SystemSpec(ShaSpec, RECIPES, OBJECTIVES, segmentation_losses, convert)
