"""Recipes: typed descriptions of how a system is trained. `anymri.training` runs them."""

from __future__ import annotations

from math import prod
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationInfo, field_validator, model_validator

from anymri.data.augmentation import Augmentation
from anymri.data.preprocessing import Preprocessing
from anymri.errors import ModalityError
from anymri.modalities import MODALITIES, Subset, parse_modality
from anymri.systems.crops import Crop

FIXED = "fixed"
# Rules that draw the available modalities of a sample among those that exist; see `Stage.subsets`.
DRAWN = ("uniform", "bernoulli", "all", "by_size", "by_size_reference", "by_size_or_all")


def _known_subsets(name: str) -> str:
    """Return a value of `Stage.subsets` in the form that is stored."""
    if name in (*DRAWN, FIXED):
        return name
    if _is_list(name):
        return str(_absolute(Path(name)))
    try:
        return str(Subset.parse(name))
    except ModalityError as error:
        raise ValueError(f"give {', '.join(DRAWN)}, {FIXED}, a list (.csv) or modalities as T1c+FLAIR") from error


def _absolute(path: Path) -> Path:
    try:
        return path.expanduser().absolute()
    except RuntimeError as error:  # a home folder that is not known
        raise ValueError("the home folder of ~ is not known; give the whole path") from error


def _is_list(name: str) -> bool:
    return name.lower().endswith(".csv")


def _by_modality(rates: dict[str, float]) -> dict[str, float]:
    try:
        return {parse_modality(name): rate for name, rate in rates.items()}
    except ModalityError as error:
        raise ValueError(f"{error.what} {error.fix}") from error


Share = Annotated[float, Field(ge=0, le=1)]
Rates = Annotated[dict[str, Share], AfterValidator(_by_modality)]
ListFile = Annotated[Path, AfterValidator(_absolute)]
# Upper bounds are far above useful values. They refuse typing errors that would exhaust memory or train for years.
Count = Annotated[int, Field(ge=1, le=1_000_000)]
SmallCount = Annotated[int, Field(ge=1, le=1024)]
Rate = Annotated[float, Field(ge=0, le=1000)]
WindowOverlap = Annotated[float, Field(ge=0, le=0.9)]


class _Settings(BaseModel):
    model_config = ConfigDict(extra="forbid", validate_assignment=True, allow_inf_nan=False)

    @field_validator("*", mode="before")
    @classmethod
    def _is_no_boolean(cls, value: Any, info: ValidationInfo) -> Any:
        """Refuse true and false for numbers, where pydantic would read 1 and 0."""
        if isinstance(value, bool) and cls.model_fields[str(info.field_name)].annotation is not bool:
            raise ValueError("true and false are not values of this field")
        return value


class Optimiser(_Settings):
    """Optimiser and its hyperparameters."""

    name: Literal["adam", "adamw", "radam", "sgd"] = "adam"
    learning_rate: Rate = Field(default=1e-3, gt=0)
    module_rates: dict[str, Rate] = Field(
        default={}, description="learning rates of modules: prefix of parameter names -> rate"
    )
    weight_decay: Rate = 0.0
    amsgrad: bool = False
    momentum: float = Field(default=0.0, ge=0, lt=1, description="Nesterov momentum of sgd")
    zero_gradient_updates: tuple[str, ...] = Field(
        default=(),
        description="modules (prefixes of parameter names) that momentum and weight decay still update in a step "
        "without a gradient for them, as if it were zero; other modules do not change in such a step",
    )
    clip_norm: float | None = Field(
        default=None, gt=0, description="largest norm of the gradient of all parameters together"
    )


class Stage(_Settings):
    """Stage of a training with one objective."""

    name: str = "train"
    objective: str = Field(default="train", description="objective of the system that is minimised")
    epochs: Count
    steps_per_epoch: Count
    batch_size: SmallCount = Field(default=1, description="patches per step, over all processes")
    accumulate: SmallCount = Field(
        default=1,
        description="micro-batches into which a process divides its share of a batch, for less memory; gradients are "
        "the mean over micro-batches",
    )
    crop: Crop = Field(description="sides of the patches, voxels: 128 for a cube, or 128x192x128")
    foreground_oversampling: float = Field(
        default=0.0, ge=0, le=1, description="share of patches around a tumour voxel, whose class is drawn first"
    )
    patch_sampling: Literal["uniform", "around_voxels"] = Field(
        default="uniform",
        description="position of the other patches: uniform in the box of the brain, or around a random voxel and then "
        "moved into the box, so that edges are seen as often as by the windows of inference",
    )
    discriminator_width: SmallCount = Field(
        default=64, description="channels of the first level of the discriminator, where the objective has one"
    )
    subsets: Annotated[str, AfterValidator(_known_subsets)] | Rates = Field(
        default="uniform",
        description="available modalities of a patch among those that exist (docs/training.md). uniform: each "
        "non-empty subset equally likely; bernoulli: each modality with probability 0.5, or one at random if that "
        "leaves none; {FLAIR: 0.35, ...}: the same with the rate at which each is missing, 0 for the others; all: all "
        "that exist; by_size: a number of modalities, fewer than all, then a subset of that size, each equally "
        "likely; by_size_reference: the same without T1+T2+FLAIR, which the code of RA-HVED and XLSTM-HVED never "
        "draws; by_size_or_all: as by_size, with all modalities possible; fixed: one subset per case for the whole "
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
    schedule: Literal["constant", "poly", "poly_rounded", "poly_by_step", "cosine", "plateau"] = Field(
        default="constant",
        description="poly: (1 - epoch/epochs)^0.9; poly_rounded: the same, the rate rounded to 8 decimals, as in "
        "IM-Fuse's family; poly_by_step: (1 - step/steps)^0.9; cosine: (1 + cos(pi epoch/epochs))/2; plateau: a tenth "
        "after more than 10 validations without a lower loss",
    )
    validation_epochs: Count | tuple[Count, ...] | None = Field(
        default=1, description="epochs between validations, or a list of epochs; also after the last epoch. null: never"
    )
    patience: Count | None = Field(
        default=None, description="number of validations without a better mean Dice after which the stage ends"
    )

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
        return Path(self.subsets) if isinstance(self.subsets, str) and _is_list(self.subsets) else None

    @property
    def fixes_subsets(self) -> bool:
        """Whether a case has the same subset in every step."""
        return self.subsets == FIXED or self.subset_list is not None

    @property
    def steps(self) -> int:
        """Number of optimiser steps of the whole stage."""
        return self.epochs * self.steps_per_epoch

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


class Split(_Settings):
    """Split into training and validation cases, in place of a random share of patients."""

    folds: int | None = Field(default=None, ge=2, le=1000, description="number of folds of a cross-validation")
    fold: int = Field(default=0, ge=0, description="fold that is validated on, counted from 0")
    train: ListFile | None = Field(
        default=None, description="file that lists the training cases; by default all others"
    )
    validation: ListFile | None = Field(default=None, description="file that lists the validation cases")
    test: ListFile | None = Field(default=None, description="file that lists test cases, which are not used")

    @model_validator(mode="after")
    def _is_one_split(self) -> Split:
        if self.fold >= (self.folds or 1):
            raise ValueError(f"fold {self.fold} of {self.folds}: give folds, and a fold from 0 to folds - 1")
        if self.folds is not None and self.validation is not None:
            raise ValueError("both folds and validation choose the validation cases: give one of them")
        return self


class Recipe(_Settings):
    """Recipe of a whole training: network, data and stages."""

    system: str
    about: str = Field(description="purpose, cost and expected result")
    source: str = Field(default="", description="source of the numbers")
    sources: dict[str, str] = Field(default={}, description="sources of single numbers, by their keys in `--set`")
    deviations: tuple[str, ...] = Field(default=(), description="differences from the source")
    network: dict[str, Any] = Field(description="arguments of the network, except the number of classes")
    preprocessing: Preprocessing = Preprocessing()
    validation_share: float = Field(default=0.1, ge=0, lt=1, description="share of patients for validation")
    split: Split = Split()
    missing: Share | Rates = Field(
        default=0.0,
        description="rate at which scans are removed from the cohort before training, as if their files did not exist: "
        "one for all modalities, or one each, as in {T1: 0.7, FLAIR: 0.2}",
    )
    window_overlap: WindowOverlap = Field(default=0.5, description="share of a window that the next one covers")
    window_blending: Literal["gaussian", "constant"] = Field(
        default="gaussian",
        description="weights of the voxels of overlapping windows: highest in the middle, or equal",
    )
    seed: int = Field(default=0, ge=0, lt=2**32)
    precision: Literal["32-true", "bf16-mixed", "16-mixed"] = "32-true"
    stages: list[Stage] = Field(min_length=1, max_length=100)

    @property
    def missing_rates(self) -> dict[str, float]:
        """Rate of missing scans for each modality."""
        return dict(self.missing) if isinstance(self.missing, dict) else dict.fromkeys(MODALITIES, self.missing)

    @model_validator(mode="after")
    def _fixes_one_subset_per_case(self) -> Recipe:
        if len({stage.subsets for stage in self.stages if isinstance(stage.subsets, str) and stage.fixes_subsets}) > 1:
            raise ValueError("stages name different lists of subsets, but a case has one for the whole training")
        return self
