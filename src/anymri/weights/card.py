"""The card of weights: what network they fit, how its input is prepared and what it was trained on."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

from anymri._version import __version__
from anymri.data.preprocessing import Preprocessing
from anymri.regions import CLASSES, SCHEMES
from anymri.systems.crops import Crop
from anymri.systems.recipes.schema import WindowBlending, WindowOverlap, WindowSteps, WindowValues
from anymri.text import shown


def _with_known_classes(network: dict[str, Any]) -> dict[str, Any]:
    if network.get("num_classes") not in (len(CLASSES) - 1, len(CLASSES)):
        raise ValueError(f"num_classes is not {len(CLASSES) - 1} or {len(CLASSES)}")
    return network


def _known(scheme: str | None) -> str | None:
    if scheme is not None and scheme not in SCHEMES:
        raise ValueError(f"there is no label scheme {shown(scheme)}")
    return scheme


class WeightsCard(BaseModel):
    """Facts that travel with weights, inside their file.

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
    label_scheme     label scheme of the training data; None for converted weights
    trained_on       names of the training cases
    origin           where the weights come from, in words
    frozen_file      name of a file in the same folder with the tensors that training left unchanged, if there are any;
                     several weights share it
    checksum         CRC-32 of the names and numbers of the tensors in the file, without those of `frozen_file`
    anymri           version that wrote the weights
    """

    model_config = ConfigDict(extra="forbid", allow_inf_nan=False)

    system: str
    network: Annotated[dict[str, Any], AfterValidator(_with_known_classes)]
    preprocessing: Preprocessing
    window: Crop
    window_overlap: WindowOverlap
    window_blending: WindowBlending = "gaussian"
    window_values: WindowValues = "probabilities"
    window_steps: WindowSteps = "down"
    window_fitted: bool = False
    label_scheme: Annotated[str | None, AfterValidator(_known)]
    trained_on: list[str]
    origin: str
    frozen_file: str | None = Field(default=None, pattern=r"^frozen-[0-9a-f]{16}\.safetensors$")
    checksum: str | None = None
    anymri: str = __version__
