"""Recipes: typed descriptions of how a system is trained. `anymri.training` runs them."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from anymri.data.preprocessing import Preprocessing
from anymri.modalities import MODALITIES
from anymri.systems.recipes.stage import Optimiser, Stage
from anymri.systems.recipes.validation import ValidationRules, WindowValues
from anymri.systems.recipes.values import ListFile, Rates, Settings, Share

__all__ = ["Optimiser", "Recipe", "Split", "Stage", "WindowBlending", "WindowOverlap", "WindowSteps", "WindowValues"]

WindowOverlap = Annotated[float, Field(ge=0, le=0.9)]
WindowBlending = Literal["gaussian", "gaussian_nnunet", "constant"]
WindowSteps = Literal["down", "up", "equal"]


class Split(Settings):
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


class Recipe(Settings):
    """Recipe of a whole training: network, data and stages."""

    system: str
    about: str = Field(description="purpose, cost and expected result")
    source: str = Field(default="", description="source of the numbers")
    sources: dict[str, str] = Field(default={}, description="sources of single numbers, by their keys in `--set`")
    deviations: tuple[str, ...] = Field(
        default=(), description="differences from the source that no setting removes, and how much they matter"
    )
    corrections: dict[str, str] = Field(
        default={}, description="settings that differ from the recipe `reference`, by their keys in `--set`, and why"
    )
    network: dict[str, Any] = Field(description="arguments of the network, except the number of classes")
    preprocessing: Preprocessing = Preprocessing()
    validation_share: float = Field(default=0.1, ge=0, lt=1, description="share of patients for validation")
    validation: ValidationRules = ValidationRules()
    split: Split = Split()
    missing: Share | Rates = Field(
        default=0.0,
        description="rate at which scans are removed from the cohort before training, as if their files did not exist: "
        "one for all modalities, or one each, as in {T1: 0.7, FLAIR: 0.2}",
    )
    window_overlap: WindowOverlap = Field(default=0.5, description="share of a window that the next one covers")
    window_blending: WindowBlending = Field(
        default="gaussian",
        description="weights of the voxels of overlapping windows. gaussian: highest in the middle, at least a "
        "thousandth of that (MONAI); gaussian_nnunet: highest in the middle and next to nothing in the corners "
        "(nnU-Net); constant: equal",
    )
    window_values: WindowValues = Field(
        default="probabilities", description="what is averaged where windows overlap: probabilities or logits"
    )
    window_steps: WindowSteps = Field(
        default="down",
        description="distance of windows where the overlap gives no whole number of voxels. down, up: rounded, and the "
        "last window of an axis is moved back into the volume; equal: all windows of an axis have the same distance, "
        "at most that of the overlap (nnU-Net)",
    )
    window_fitted: bool = Field(
        default=False,
        description="fit windows to the box of each volume: one window, where that has fewer voxels than all windows "
        "together and at most twice those of one; otherwise windows that are not longer than the box. Systems with a "
        "fixed crop keep it",
    )
    seed: int = Field(default=0, ge=0, lt=2**32)
    precision: Literal["32-true", "bf16-mixed", "16-mixed", "bf16-if-fast"] = Field(
        default="32-true",
        description="precision of the network. bf16-if-fast: bf16-mixed on GPUs and on CPUs with instructions for it, "
        "where it is 2 to 3 times faster, otherwise 32-true",
    )
    stages: list[Stage] = Field(min_length=1, max_length=100)

    @property
    def window_settings(self) -> dict[str, Any]:
        """Settings of the windows, which weights keep on their card under the same names."""
        names = ("window_overlap", "window_blending", "window_values", "window_steps", "window_fitted")
        return {name: getattr(self, name) for name in names}

    @property
    def missing_rates(self) -> dict[str, float]:
        """Rate of missing scans for each modality."""
        return dict(self.missing) if isinstance(self.missing, dict) else dict.fromkeys(MODALITIES, self.missing)

    @model_validator(mode="after")
    def _begins_after_a_stage(self) -> Recipe:
        if self.stages[0].begins == "best":
            raise ValueError("the first stage cannot begin with the best weights of another: set begins to last")
        return self

    @model_validator(mode="after")
    def _loss_has_its_input(self) -> Recipe:
        averaged = self.validation.window_values or self.window_values
        if self.validation.loss_of == "logits" and averaged != "logits":
            raise ValueError("validation.loss_of is logits: set window_values or validation.window_values to logits")
        return self

    @model_validator(mode="after")
    def _fixes_one_subset_per_case(self) -> Recipe:
        if len({stage.subsets for stage in self.stages if isinstance(stage.subsets, str) and stage.fixes_subsets}) > 1:
            raise ValueError("stages name different lists of subsets, but a case has one for the whole training")
        return self
