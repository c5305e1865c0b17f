"""Stages of a recipe, each with one objective."""

from __future__ import annotations

from math import prod
from pathlib import Path
from typing import Annotated, Literal

from pydantic import AfterValidator, Field, model_validator

from anymri.data.augmentation import Augmentation
from anymri.modalities import Subset
from anymri.systems.crops import Crop
from anymri.systems.recipes.values import (
    DRAWN,
    FIXED,
    Count,
    Margin,
    Rate,
    Rates,
    Settings,
    SmallCount,
    is_list,
    known_subsets,
)


class Optimiser(Settings):
    """Optimiser and its hyperparameters."""

    name: Literal["adam", "adamw", "radam", "sgd"] = "adam"
    learning_rate: Rate = Field(default=1e-3, gt=0)
    module_rates: dict[str, Rate] = Field(
        default={}, description="learning rates of modules: prefix of parameter names -> rate"
    )
    weight_decay: Rate = 0.0
    amsgrad: bool = False
    momentum: float = Field(default=0.0, ge=0, lt=1, description="Nesterov momentum of sgd")
    second_moment: float = Field(
        default=0.999, gt=0, lt=1, description="decay of the mean squared gradient in adam, adamw and radam"
    )
    zero_gradient_updates: tuple[str, ...] = Field(
        default=(),
        description="modules (prefixes of parameter names) that momentum and weight decay still update in a step "
        "without a gradient for them, as if it were zero; other modules do not change in such a step",
    )
    clip_norm: float | None = Field(
        default=None, gt=0, description="largest norm of the gradient of all parameters together"
    )


class Stage(Settings):
    """Stage of a training with one objective."""

    name: str = "train"
    begins: Literal["last", "best"] = Field(
        default="last",
        description="what a stage after another begins with. last: its last weights and a new optimiser; best: weights "
        "and momentum of its best validation, and as many more epochs as it went on after that",
    )
    objective: str = Field(default="train", description="objective of the system that is minimised")
    epochs: Count
    steps_per_epoch: Count
    batch_size: SmallCount = Field(default=1, description="patches per step, over all processes")
    last_batch: SmallCount | None = Field(
        default=None, description="patches in the last step of an epoch, where these are fewer than in the others"
    )
    accumulate: SmallCount = Field(
        default=1,
        description="micro-batches into which a process divides its share of a batch, for less memory; gradients are "
        "the mean over micro-batches",
    )
    crop: Crop = Field(description="sides of the patches, voxels: 128 for a cube, or 128x192x128")
    foreground_oversampling: float = Field(
        default=0.0, ge=0, le=1, description="share of patches around a tumour voxel"
    )
    foreground_sampling: Literal["class", "region_nnunet", "region_shaspec"] = Field(
        default="class",
        description="how that voxel is drawn. class: of a random class, anywhere in the middle half of the patch, "
        "which is moved into the box of the brain; region_nnunet: of a random region among those of WT, TC and ET that "
        "the case has, in the middle of the patch, which may extend beyond the box (nnU-Net); region_shaspec: of a "
        "random region among the three, in the middle of the patch, which is moved into the box, and a patch by "
        "`patch_sampling` if the case lacks that region (ShaSpec)",
    )
    patch_sampling: Literal["uniform", "uniform_but_end", "uniform_around", "around_voxels"] = Field(
        default="uniform",
        description="position of the other patches. uniform: in the box of the brain, centred on it along axes where "
        "the patch is longer; uniform_but_end: the same, but no patch ends with the last voxel of an axis, as in "
        "XLSTM-HVED's code; uniform_around: as uniform, but a patch that is longer than the box is anywhere around it, "
        "within the scan (M3AE); around_voxels: around a random voxel and then moved into the box, so that edges are "
        "seen as often as by the windows of inference",
    )
    patch_margins: tuple[Margin, Margin, Margin] = Field(
        default=(0, 0, 0),
        description="voxels at both ends of x, y and z that patches by `patch_sampling` leave out, where the box is "
        "long enough",
    )
    patch_scaling: float = Field(
        default=0.0,
        ge=0,
        le=0.5,
        description="half of the patches are cut up to this share smaller or larger than `crop`, and resized to it",
    )
    augmented_from: Crop | None = Field(
        default=None,
        description="sides of the larger patch from which augmentation brings in voxels, and cuts `crop` from its "
        "middle; by default `crop`: voxels from outside are empty",
    )
    discriminator_width: SmallCount = Field(
        default=64, description="channels of the first level of the discriminator, where the objective has one"
    )
    subsets: Annotated[str, AfterValidator(known_subsets)] | Rates = Field(
        default="uniform",
        description="available modalities of a patch among those that exist (docs/training.md). uniform: each "
        "non-empty subset equally likely; bernoulli: each modality with probability 0.5, or one at random if that "
        "leaves none; {FLAIR: 0.35, ...}: the same with the rate at which each is missing, 0 for the others; all: all "
        "that exist; by_size: a number of modalities, fewer than all, then a subset of that size, each equally "
        "likely; by_size_reference: the same without T1+T2+FLAIR, which the code of RA-HVED and XLSTM-HVED never "
        "draws; by_size_or_all: as by_size, with all modalities possible; one_and_several: every first copy of a patch "
        "has one modality, every second all or several; fixed: one subset per case for the whole "
        "training, drawn as by uniform; FILE.csv: one subset per case, read from the file; T1c+FLAIR and the like: "
        "this subset only, as if other scans did not exist",
    )
    copies: SmallCount = Field(
        default=1, description="samples per patch, each with another subset; 2 for self-distillation"
    )
    frozen: tuple[str, ...] = Field(
        default=(), description="modules that are not trained (prefixes of parameter names)"
    )
    augmentation: Augmentation = "flip_intensity"
    optimiser: Optimiser = Optimiser()
    averaging: float | None = Field(
        default=None,
        gt=0,
        lt=1,
        description="decay of the moving average of the weights over steps, which is validated and saved in place of "
        "the weights; null: none",
    )
    schedule: Literal[
        "constant", "poly", "poly_rounded", "poly_by_step", "cosine", "warm_cosine_by_step", "plateau"
    ] = Field(
        default="constant",
        description="poly: (1 - epoch/epochs)^0.9; poly_rounded: the same, the rate rounded to 8 decimals, as in "
        "IM-Fuse's family; poly_by_step: (1 - step/steps)^0.9; cosine: (1 + cos(pi epoch/epochs))/2; "
        "warm_cosine_by_step: (1 + cos(pi step/steps))/2, times step/20 in the first 20 steps; plateau: a tenth "
        "after more than 10 validations without a lower loss",
    )
    validation_epochs: Count | tuple[Count, ...] | None = Field(
        default=1, description="epochs between validations, or a list of epochs; also after the last epoch. null: never"
    )
    patience: Count | None = Field(
        default=None, description="number of validations without a better mean Dice after which the stage ends"
    )

    @model_validator(mode="after")
    def _patches_fit(self) -> Stage:
        if self.augmented_from and any(a < b for a, b in zip(self.augmented_from, self.crop, strict=True)):
            raise ValueError("augmented_from is smaller than crop: give the sides of a larger patch")
        if self.augmented_from and self.patch_scaling:
            raise ValueError("augmented_from and patch_scaling both change the sides of patches: give one of them")
        if (self.last_batch or 0) > self.batch_size:
            raise ValueError("last_batch is larger than batch_size: give fewer patches, or null")
        return self

    @model_validator(mode="after")
    def _patience_can_end(self) -> Stage:
        if self.patience and self.validation_epochs is None:
            raise ValueError("patience counts validations, but validation_epochs is null: set one of them")
        return self

    @property
    def single_subset(self) -> Subset | None:
        """The only subset that is trained on, where `subsets` names modalities; otherwise None."""
        if not isinstance(self.subsets, str) or self.subsets in (*DRAWN, FIXED) or self.subset_list:
            return None
        return Subset.parse(self.subsets)

    @property
    def subset_list(self) -> Path | None:
        """The file that lists the subset of each case, where `subsets` names one; otherwise None."""
        return Path(self.subsets) if isinstance(self.subsets, str) and is_list(self.subsets) else None

    @property
    def fixes_subsets(self) -> bool:
        """Whether a case has the same subset in every step."""
        return self.subsets == FIXED or self.subset_list is not None

    @property
    def steps(self) -> int:
        """Number of optimiser steps of the whole stage."""
        return self.epochs * self.steps_per_epoch

    @property
    def patches_per_epoch(self) -> int:
        """Number of patches of an epoch, over all processes."""
        return (self.steps_per_epoch - 1) * self.batch_size + (self.last_batch or self.batch_size)

    @property
    def voxels_per_step(self) -> int:
        """Number of voxels of all samples of a step, to which its cost is proportional."""
        return self.batch_size * self.copies * prod(self.crop)

    def validates_after(self, epoch: int) -> bool:
        """Return whether validation follows `epoch`, counted from 1."""
        if self.validation_epochs is None:
            return False
        if epoch == self.epochs:
            return True
        if isinstance(self.validation_epochs, int):
            return epoch % self.validation_epochs == 0
        return epoch in self.validation_epochs
