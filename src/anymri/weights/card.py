"""The card of weights: what network they fit, how its input is prepared and what it was trained on."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict

from anymri._version import __version__
from anymri.data.preprocessing import Preprocessing


class WeightsCard(BaseModel):
    """Facts that travel with weights, inside their file.

    system           name of the system
    network          arguments of its network
    preprocessing    how scans become the network's input
    window           side of the cubic windows for inference, voxels: the only crop that the network takes, or that of
                     the last training stage
    window_overlap   share of a window that its neighbour covers
    window_blending  weights of the voxels of a window where windows overlap
    label_scheme     label scheme of the training data; None for converted weights
    trained_on       names of the training cases
    origin           where the weights come from, in words
    frozen_file      name of a file in the same folder with the tensors that training left unchanged, if there are any;
                     several weights share it
    anymri           version that wrote the weights
    """

    model_config = ConfigDict(extra="forbid")

    system: str
    network: dict[str, Any]
    preprocessing: Preprocessing
    window: int
    window_overlap: float
    window_blending: Literal["gaussian", "constant"] = "gaussian"
    label_scheme: str | None
    trained_on: list[str]
    origin: str
    frozen_file: str | None = None
    anymri: str = __version__
