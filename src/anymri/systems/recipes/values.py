"""Types of the values in recipes."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationInfo, field_validator

from anymri.errors import ModalityError
from anymri.modalities import Subset, parse_modality

FIXED = "fixed"
# Rules that draw the available modalities of a sample among those that exist; see `Stage.subsets`.
DRAWN = ("uniform", "bernoulli", "all", "by_size", "by_size_reference", "by_size_or_all", "one_and_several")


def known_subsets(name: str) -> str:
    """Return a value of `Stage.subsets` in the form that is stored."""
    if name in (*DRAWN, FIXED):
        return name
    if is_list(name):
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


def is_list(name: str) -> bool:
    """Return whether a value of `Stage.subsets` names a file."""
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
Margin = Annotated[int, Field(ge=0, le=256)]
SmallCount = Annotated[int, Field(ge=1, le=1024)]
Rate = Annotated[float, Field(ge=0, le=1000)]


class Settings(BaseModel):
    """Base of the settings of recipes: unknown ones are refused."""

    model_config = ConfigDict(extra="forbid", validate_assignment=True, allow_inf_nan=False)

    @field_validator("*", mode="before")
    @classmethod
    def _is_no_boolean(cls, value: Any, info: ValidationInfo) -> Any:
        """Refuse true and false for numbers, where pydantic would read 1 and 0."""
        if isinstance(value, bool) and cls.model_fields[str(info.field_name)].annotation is not bool:
            raise ValueError("true and false are not values of this field")
        return value
