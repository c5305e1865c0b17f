"""The card of weights: what network they fit, how its input is prepared, what it was trained on and how good it is."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

from anymri._version import __version__
from anymri.data.preprocessing import Preprocessing
from anymri.errors import ModalityError
from anymri.modalities import SUBSETS, Subset
from anymri.regions import CLASSES, SCHEMES
from anymri.systems.crops import Crop
from anymri.systems.recipes.schema import WindowBlending, WindowOverlap, WindowSteps, WindowValues
from anymri.text import shown

# Format of the card, which grows when older versions of anymri would misread a new card.
FORMAT = 1


def _with_known_classes(network: dict[str, Any]) -> dict[str, Any]:
    if network.get("num_classes") not in (len(CLASSES) - 1, len(CLASSES)):
        raise ValueError(f"num_classes is not {len(CLASSES) - 1} or {len(CLASSES)}")
    return network


def _known(scheme: str | None) -> str | None:
    if scheme is not None and scheme not in SCHEMES:
        raise ValueError(f"there is no label scheme {shown(scheme)}")
    return scheme


def _subset_name(name: str) -> str:
    try:
        return str(Subset.parse(name))
    except ModalityError as error:
        raise ValueError(error.what) from error


SubsetName = Annotated[str, Field(max_length=40), AfterValidator(_subset_name)]
RegionName = Annotated[str, Field(pattern=r"^(WT|TC|ET|RC)$")]


class DiceTable(BaseModel):
    """Mean Dice of weights on one data set, by subset and region.

    data   the data set in words
    cases  number of its cases
    dice   subset, such as "T1c+FLAIR" -> region -> mean Dice in 0..1
    """

    model_config = ConfigDict(extra="forbid", allow_inf_nan=False)

    data: str = Field(min_length=1, max_length=300)
    cases: int = Field(ge=1)
    dice: dict[SubsetName, dict[RegionName, Annotated[float, Field(ge=0, le=1)]]]

    def mean(self, subset: Subset | None) -> float | None:
        """Return the mean of WT, TC and ET of a subset, or of all 15 subsets for None; None if a value is missing."""
        rows = [self.dice.get(str(each), {}) for each in (SUBSETS if subset is None else [subset])]
        values = [row.get(region) for row in rows for region in ("WT", "TC", "ET")]
        known = [value for value in values if value is not None]
        return sum(known) / len(known) if len(known) == len(values) else None


class WeightsCard(BaseModel):
    """Facts that travel with weights, inside their file.

    format           format of the card; a newer one than `FORMAT` cannot be read
    summary          one line that says what the weights are and what they are for
    system           name of the system
    network          arguments of its network, with num_classes: 4, or 5 with the resection cavity
    preprocessing    how scans become the network's input
    window           sides of the windows for inference, voxels: the only crop that the network takes, or that of the
                     last training stage
    window_overlap   share of a window that its neighbour covers
    window_blending  weights of the voxels of a window where windows overlap
    window_values    what is averaged where windows overlap
    window_steps     how windows are distributed along an axis
    window_fitted    whether windows are fitted to the box of each volume
    temperatures     subset -> number by which the logits of the subset are divided, so that probabilities are as high
                     as the observed frequencies; 1 for other subsets
    mirrored         axes along which windows are mirrored too, as "x" or "xyz", and the predictions averaged; each
                     axis doubles the time
    label_scheme     label scheme of the training data; None for converted weights
    space            space of the scans that the network takes: that of the scan, or of an atlas
    operative        scans of the training data: before surgery, after it, or both; None where it is not known
    subsets          the only subsets that the network saw in training; None for all, or where it is not known
    synthetic_only   whether all training images were synthetic
    data             training data in words
    trained_on       names of the training cases
    licence          licence of the weights
    tables           mean Dice by subset and region, the most relevant data set first
    origin           where the weights come from, in words
    frozen_file      name of a file in the same folder with the tensors that training left unchanged, if there are any;
                     several weights share it
    checksum         CRC-32 of the names and numbers of the tensors in the file, without those of `frozen_file`
    anymri           version that wrote the weights
    """

    model_config = ConfigDict(extra="forbid", allow_inf_nan=False)

    format: int = Field(default=FORMAT, ge=1, le=FORMAT)
    summary: str = Field(default="", max_length=300, pattern=r"^[^\n]*$")
    system: str
    network: Annotated[dict[str, Any], AfterValidator(_with_known_classes)]
    preprocessing: Preprocessing
    window: Crop
    window_overlap: WindowOverlap
    window_blending: WindowBlending = "gaussian"
    window_values: WindowValues = "probabilities"
    window_steps: WindowSteps = "down"
    window_fitted: bool = False
    temperatures: dict[SubsetName, Annotated[float, Field(gt=0, le=100)]] = {}
    mirrored: str = Field(default="", pattern=r"^x?y?z?$")
    label_scheme: Annotated[str | None, AfterValidator(_known)]
    space: Literal["scan", "atlas"] = "scan"
    operative: Literal["pre", "post", "any"] | None = None
    subsets: list[SubsetName] | None = Field(default=None, min_length=1, max_length=len(SUBSETS))
    synthetic_only: bool = False
    data: str = Field(default="", max_length=4000)
    trained_on: list[str]
    licence: str = Field(default="", max_length=300)
    tables: list[DiceTable] = Field(default=[], max_length=20)
    origin: str
    frozen_file: str | None = Field(default=None, pattern=r"^frozen-[0-9a-f]{16}\.safetensors$")
    checksum: str | None = None
    anymri: str = __version__

    def mean_dice(self, subset: Subset | None) -> float | None:
        """Return the mean Dice of the first table that has the subset, or all 15 for None; None without one."""
        means = (table.mean(subset) for table in self.tables)
        return next((mean for mean in means if mean is not None), None)

    def measured_on(self, subset: Subset | None) -> str:
        """Return the data set of `mean_dice` in words; empty without one."""
        return next((table.data for table in self.tables if table.mean(subset) is not None), "")

    def saw(self, subset: Subset | None) -> bool:
        """Return whether nothing shows that the network did not see the subset, or some of all 15, in training."""
        return self.subsets is None or {*map(str, SUBSETS if subset is None else [subset])} <= {*self.subsets}
