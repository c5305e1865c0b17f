"""M3AE (Liu et al., AAAI 2023): card, and the parts behind it once they are asked for."""

from __future__ import annotations

from typing import TYPE_CHECKING

from anymri.systems.card import NO_LICENCE, Card

if TYPE_CHECKING:
    from anymri.systems.spec import SystemSpec

CARD = Card(
    name="m3ae",
    title="M3AE: multimodal masked autoencoder with a learnt substitute image",
    paper="M3AE, AAAI 2023",
    reference="ccarliu/m3ae; port to BraTS 2023 in AImageLab-zip/IM-Fuse, folder m3ae: the same network and losses",
    idea="One U-Net sees all modalities at once; what is missing is taken from one trainable image of a whole head. "
    "Pre-training reconstructs the images from an eighth of their patches, fine-tuning makes two subsets of one patch "
    "agree.",
    presets={
        "published": {"width": 16, "grid": (240, 240, 155)},
        "nano": {"width": 8, "grid": (96, 96, 96)},
    },
    # Of these, 35,712,000 are the substitute.
    parameters=40_416_573,
    inference_parameters=40_416_211,
    reference_parameters=40_416_505,
    # Fusion comes first: subsets share nothing but the cut of the substitute.
    gmacs={"encode four modalities": 0.0, "decode one subset": 148.0, "15 subsets": 2220.1},
    switches={
        "width": "channels at full resolution",
        "grid": "voxels of the substitute along x, y and z; it lies on the middle of scans of other sizes",
        "substitute": "learnt (default); zeros: an ablation that has no image",
        "placement": "scan (default): inference cuts the substitute at the window's place in the scan, as training "
        "does; box: at its place in the padded box around the brain, as the reference, off by the box's origin",
        "heads": "both (default): trained from start to end; segmentation, reconstruction: what the authors' "
        "checkpoints hold after fine-tuning and after pre-training",
    },
    deviations=(
        "Inference cuts the substitute where training does; the reference shifts it by the origin of the box around "
        "the brain (switch placement).",
        "Copies of a patch shall agree in the coarsest logits, as in the code; the paper says in the bottleneck (stage "
        "option objective: train_bottleneck).",
        "Pre-training takes any crop that the network does; the reference only 128^3.",
        "Crops that reach outside the substitute see its border; the reference needs them inside.",
        "Frozen in fine-tuning, the substitute is stored once beside the weights, not in each file.",
        "One network goes through both stages and keeps the head of pre-training: 68 parameters.",
        "A weighting of the distillation by uncertainty and a third copy, both off in the reference, are left out.",
        "Windows are blended as probabilities, where the reference blends logits.",
        "Where scans do not exist, pre-training reconstructs those that do.",
    ),
    published_results="BraTS 2018 (paper): mean of 15 subsets WT 85.8, TC 77.4, ET 59.9; BraTS 2020 by subset, mean WT "
    "86.9, TC 79.1, ET 61.7 (sheet, section 9)",
    licence=NO_LICENCE,
)


def spec() -> SystemSpec:
    """Network, recipes, objectives and converter; imports torch."""
    from anymri.systems.m3ae.converter import convert
    from anymri.systems.m3ae.network import M3AE
    from anymri.systems.m3ae.recipe import OBJECTIVES, RECIPES, segmentation_losses
    from anymri.systems.spec import SystemSpec

    return SystemSpec(M3AE, RECIPES, OBJECTIVES, segmentation_losses, convert)
