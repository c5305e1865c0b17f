"""How a system is trained, as data: typed, printable, overridable. Loops live in `anymri.training`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, PositiveInt, model_validator

from anymri.data.augmentation import Augmentation
from anymri.data.preprocessing import Preprocessing
from anymri.errors import ModalityError
from anymri.modalities import MODALITIES, Subset, parse_modality

FIXED = "fixed"
# How a step draws the modalities that it shows of those that exist; see `Stage.subsets`.
DRAWN = ("uniform", "bernoulli", "all", "by_size", "by_size_reference", "by_size_or_all")


def _known_subsets(name: str) -> str:
    """A word of `Stage.subsets` in the form that is stored."""
    if name in (*DRAWN, FIXED):
        return name
    if _is_list(name):
        return str(Path(name).expanduser().absolute())
    try:
        return str(Subset.parse(name))
    except ModalityError as error:
        raise ValueError(f"give {', '.join(DRAWN)}, {FIXED}, a list (.csv) or modalities as T1c+FLAIR") from error


def _is_list(name: str) -> bool:
    return name.lower().endswith(".csv")


def _by_modality(rates: dict[str, float]) -> dict[str, float]:
    try:
        return {parse_modality(name): rate for name, rate in rates.items()}
    except ModalityError as error:
        raise ValueError(f"{error.what} {error.fix}") from error


Share = Annotated[float, Field(ge=0, le=1)]
Rates = Annotated[dict[str, Share], AfterValidator(_by_modality)]
ListFile = Annotated[Path, AfterValidator(lambda path: path.expanduser().absolute())]


class _Settings(BaseModel):
    model_config = ConfigDict(extra="forbid", validate_assignment=True)


class Optimiser(_Settings):
    """Which optimiser, with its numbers."""

    name: Literal["adam", "adamw", "radam", "sgd"] = "adam"
    learning_rate: float = Field(default=1e-3, gt=0)
    module_rates: dict[str, float] = Field(
        default={}, description="learning rates of parts, by what the names of their parameters begin with"
    )
    weight_decay: float = Field(default=0.0, ge=0)
    amsgrad: bool = False
    momentum: float = Field(default=0.0, ge=0, lt=1, description="of sgd, as Nesterov's")
    zero_gradient_updates: tuple[str, ...] = Field(
        default=(),
        description="parts, by what the names of their parameters begin with, that momentum and weight decay move on "
        "in a step that does not reach them, as under a gradient of zero; others then stay where they are",
    )
    clip_norm: float | None = Field(default=None, gt=0, description="longest gradient, all parameters together")


class Stage(_Settings):
    """One stretch of training with one objective."""

    name: str = "train"
    objective: str = Field(default="train", description="which of the system's objectives is minimised")
    epochs: PositiveInt
    steps_per_epoch: PositiveInt
    batch_size: PositiveInt = Field(default=1, description="patches of a step, of all processes together")
    accumulate: PositiveInt = Field(
        default=1,
        description="parts in which a process sends its share of a batch through the network, for less memory; "
        "gradients are the mean over parts",
    )
    crop: PositiveInt = Field(description="side of the cubic patches, voxels")
    foreground_oversampling: float = Field(
        default=0.0, ge=0, le=1, description="share of patches drawn around a tumour voxel, its class first"
    )
    patch_sampling: Literal["uniform", "around_voxels"] = Field(
        default="uniform",
        description="other patches: every place in the brain's box equally likely, or around a voxel, moved inside the "
        "box, so that its edges are seen as often as windows see them at inference",
    )
    discriminator_width: PositiveInt = Field(
        default=64, description="channels of the discriminator's first level, where the objective has a discriminator"
    )
    subsets: Annotated[str, AfterValidator(_known_subsets)] | Rates = Field(
        default="uniform",
        description="modalities left to a patch, of those that exist (docs/training.md). uniform: each non-empty "
        "subset equally likely; bernoulli: each modality with probability 0.5, and where that leaves none, one of "
        "them; {FLAIR: 0.35, ...}: the same, each left out at its own rate, the others never; all: all that exist; "
        "by_size: never all; first how many, then which, each equally likely; by_size_reference: the same without "
        "T1+T2+FLAIR, which the code of RA-HVED and XLSTM-HVED never draws; by_size_or_all: the same as by_size, all "
        "of them among the possible; fixed: one subset a case for good, drawn as uniform; a file.csv: the same, as "
        "listed there; T1c+FLAIR or the like: these and no other, as if no other scan existed",
    )
    copies: PositiveInt = Field(
        default=1, description="samples made of each patch, each with a subset of its own: 2 for self-distillation"
    )
    frozen: tuple[str, ...] = Field(
        default=(), description="parts left as they are, by what the names of their parameters begin with"
    )
    augmentation: Augmentation = "flip_intensity"
    optimiser: Optimiser = Optimiser()
    schedule: Literal["constant", "poly", "poly_rounded", "poly_by_step", "cosine", "plateau"] = Field(
        default="constant",
        description="poly: (1 - epoch/epochs)^0.9; poly_rounded: the same, the rate rounded to 8 decimals, as in "
        "IM-Fuse's family; poly_by_step: (1 - step/steps)^0.9; cosine: (1 + cos(pi epoch/epochs))/2; plateau: a tenth "
        "after more than 10 validations without a lower loss",
    )
    validation_epochs: PositiveInt | tuple[PositiveInt, ...] | None = Field(
        default=1, description="validate every so many epochs, or after these, and after the last; or never (null)"
    )
    patience: PositiveInt | None = Field(
        default=None, description="the stage ends after so many validations without a better mean Dice"
    )

    @model_validator(mode="after")
    def _patience_can_end(self) -> Stage:
        if self.patience and self.validation_epochs is None:
            raise ValueError("patience counts validations, and validation_epochs is null")
        return self

    @property
    def single_subset(self) -> Subset | None:
        """The one subset that a dedicated network is trained on, where `subsets` names modalities."""
        if not isinstance(self.subsets, str) or self.subsets in (*DRAWN, FIXED) or self.subset_list:
            return None
        return Subset.parse(self.subsets)

    @property
    def subset_list(self) -> Path | None:
        """The file that lists each case's subset, where `subsets` names one."""
        return Path(self.subsets) if isinstance(self.subsets, str) and _is_list(self.subsets) else None

    @property
    def fixes_subsets(self) -> bool:
        """Whether a case shows the same subset in every step."""
        return self.subsets == FIXED or self.subset_list is not None

    @property
    def steps(self) -> int:
        """Optimiser steps of the whole stage."""
        return self.epochs * self.steps_per_epoch

    @property
    def voxels_per_step(self) -> int:
        """What a step costs, up to a factor that stages of one training share."""
        return self.batch_size * self.copies * self.crop**3

    def validates_after(self, epoch: int) -> bool:
        """Whether validation follows `epoch`, counted from 1."""
        if self.validation_epochs is None:
            return False
        if epoch == self.epochs:
            return True
        if isinstance(self.validation_epochs, int):
            return epoch % self.validation_epochs == 0
        return epoch in self.validation_epochs


class Split(_Settings):
    """Which cases are trained on, where a share of patients held out at random is not what is wanted."""

    folds: int | None = Field(default=None, ge=2, description="parts for cross-validation, in place of a share")
    fold: int = Field(default=0, ge=0, description="the part held out, counted from 0")
    train: ListFile | None = Field(default=None, description="list of the cases to train on; by default all others")
    validation: ListFile | None = Field(default=None, description="list of the cases held out, in place of a share")
    test: ListFile | None = Field(default=None, description="list of cases that are left alone")

    @model_validator(mode="after")
    def _is_one_split(self) -> Split:
        if self.fold >= (self.folds or 1):
            raise ValueError(f"fold {self.fold} of {self.folds}: give folds, and a fold from 0 to folds - 1")
        if self.folds is not None and self.validation is not None:
            raise ValueError("both folds and a list say what is held out: give one of them")
        return self


class Recipe(_Settings):
    """A whole training: network, data, stages."""

    system: str
    about: str = Field(description="what is trained, at what cost, and what to expect")
    source: str = Field(default="", description="where the numbers come from")
    sources: dict[str, str] = Field(
        default={}, description="the same for numbers from elsewhere, by the names that `--set` gives them"
    )
    deviations: tuple[str, ...] = Field(default=(), description="what is not as in the source")
    network: dict[str, Any] = Field(description="arguments of the network beside the number of classes")
    preprocessing: Preprocessing = Preprocessing()
    validation_share: float = Field(default=0.1, ge=0, lt=1, description="share of patients kept for validation")
    split: Split = Split()
    missing: Share | Rates = Field(
        default=0.0,
        description="rate at which scans are taken away before anything else, once for all: of all modalities, or of "
        "each, as {T1: 0.7, FLAIR: 0.2}. Training is the same as if the files did not exist",
    )
    window_overlap: float = Field(default=0.5, ge=0, lt=1, description="share of a window that its neighbour covers")
    window_blending: Literal["gaussian", "constant"] = Field(
        default="gaussian",
        description="what the voxels of a window weigh where windows overlap: its middle most, or all alike",
    )
    seed: int = 0
    precision: Literal["32-true", "bf16-mixed", "16-mixed"] = "32-true"
    stages: list[Stage] = Field(min_length=1)

    @property
    def missing_rates(self) -> dict[str, float]:
        """`missing` by modality."""
        return dict(self.missing) if isinstance(self.missing, dict) else dict.fromkeys(MODALITIES, self.missing)

    @model_validator(mode="after")
    def _fixes_one_subset_a_case(self) -> Recipe:
        if len({stage.subsets for stage in self.stages if isinstance(stage.subsets, str) and stage.fixes_subsets}) > 1:
            raise ValueError("stages name different lists of subsets: a case keeps one subset for good")
        return self
