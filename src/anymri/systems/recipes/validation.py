"""How validation chooses the best weights."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from anymri.systems.recipes.values import Count, Settings

WindowValues = Literal["probabilities", "logits"]


class ValidationRules(Settings):
    """Rules of validation; the defaults are those of evaluation, the others those of published systems."""

    dice: Literal["label_maps", "regions", "probabilities", "pooled"] = Field(
        default="label_maps",
        description="which Dice of WT, TC and ET chooses the best weights. label_maps: that of the result, where inner "
        "regions are within outer ones; regions: of each region above 0.5, whatever the others; probabilities: "
        "2 sum(p t) / (sum(p) + sum(t) + 1) of the probabilities p of a region and its truth t (ShaSpec); pooled: as "
        "regions, of the voxels of all cases together (MaM)",
    )
    subsets: Literal[
        "in_turn",
        "uniform",
        "bernoulli",
        "bernoulli_and_all",
        "all",
        "by_size",
        "by_size_reference",
        "by_size_or_all",
    ] = Field(
        default="in_turn",
        description="subsets of the cases without a listed one. in_turn: the 15 subsets, each for as many cases; "
        "bernoulli_and_all: all modalities, and a random subset as with bernoulli; the others: drawn anew for each "
        "case and validation, see `subsets` of a stage",
    )
    patches: Count | None = Field(
        default=None,
        description="number of patches, drawn as for training from the cases in turn, in place of whole volumes",
    )
    window_values: WindowValues | None = Field(
        default=None, description="what is averaged where windows overlap; by default as in `window_values`"
    )
    loss_of: Literal["probabilities", "logits"] = Field(
        default="probabilities",
        description="input of the loss that is logged and that controls the schedule `plateau`. logits: averaged "
        "logits as if they were probabilities, as in U-HVED's code",
    )
    half_precision: bool = Field(default=False, description="compute in half precision (bfloat16 on a CPU)")
