"""The folder that one training writes, and how it is read back.

config.yaml                    the resolved configuration
split.json                     which cases train and validate, with which scans, and a checksum of that
provenance.json                  versions, seeds, hashes of the data
log.csv, validation.csv        losses and speed an epoch (patches/s, and the share of time that steps waited for data);
                               Dice a validation
tensorboard/                   the same for TensorBoard
checkpoints/last.safetensors   weights as of the last saved state
checkpoints/best.safetensors   weights with the highest mean Dice in the stage's validations (without any: the last)
checkpoints/state.pt           all that resuming needs, in one file: position, log; and of the system, and the
                               discriminator where there is one, weights, optimiser and schedule. Saved after each
                               epoch, every ten minutes, and after the step in which a signal came
"""

from __future__ import annotations

import io
import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pandas as pd
import torch

from anymri.errors import RunError
from anymri.files import replacing
from anymri.training.configuration import TrainingConfiguration, read_yaml, validated


@dataclass
class Position:
    """Where a training stands. Randomness needs no state of its own: every step seeds itself from its number.

    stage, epoch, step  how many of each are finished: stages, this stage's epochs, this epoch's steps
    sums                of this epoch's losses over its steps, and `seconds` that these took, `waited` for data
    best, worse         highest mean Dice of this stage's validations, and how many came after it
    """

    stage: int = 0
    epoch: int = 0
    step: int = 0
    sums: dict[str, float] = field(default_factory=dict)
    seconds: float = 0.0
    waited: float = 0.0
    best: float = float("-inf")
    worse: int = 0
    log: list[dict[str, Any]] = field(default_factory=list)
    validation: list[dict[str, Any]] = field(default_factory=list)


class Run:
    """Paths and files of a run folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.config = folder / "config.yaml"
        self.split = folder / "split.json"
        self.last = folder / "checkpoints" / "last.safetensors"
        self.best = folder / "checkpoints" / "best.safetensors"
        self.state = folder / "checkpoints" / "state.pt"

    def check_new(self) -> None:
        """Raises `RunError` if something is here already: a run is never overwritten."""
        if self.config.exists():
            raise RunError(
                f"{self.folder} holds a run already.", "Go on with it by --resume, or choose another folder with -o."
            )
        if self.folder.exists() and (not self.folder.is_dir() or any(self.folder.iterdir())):
            raise RunError(f"{self.folder} exists and is not an empty folder.", "Choose another folder with -o.")

    def configuration(self) -> TrainingConfiguration:
        """The configuration this run was started with; raises `RunError` if there is no run."""
        if not self.config.exists():
            raise RunError(f"{self.folder} holds no run to resume.", "Start one without --resume.")
        return validated(TrainingConfiguration, read_yaml(self.config), str(self.config))

    def check_same(self, configuration: TrainingConfiguration) -> None:
        """Raises `RunError` naming what differs if the run was started with another configuration.

        A run may go on with another device, cache or logger: they say where things are computed and shown, not what.
        """
        where = {"device", "cache", "loggers"}
        started, asked = (c.model_dump(mode="json", exclude=where) for c in (self.configuration(), configuration))
        changed = sorted(_differences(started, asked))
        if changed:
            raise RunError(
                f"{self.folder} was started with another configuration: {', '.join(changed)} differ.",
                "Resume with `anymri train --resume -o FOLDER` alone, or start a new run elsewhere.",
            )

    def check_split(self, split: dict[str, Any]) -> None:
        """Raises `RunError` if the run was started with cases on other sides: what is held out must stay unseen."""
        if not self.split.exists():
            return
        started = json.loads(self.split.read_text(encoding="utf-8"))
        if started.get("sha256") != split["sha256"]:
            changed = sorted(_differences(started, split) - {"sha256"})
            raise RunError(
                f"The cohort has changed since {self.folder} was started: {', '.join(changed[:5])} differ.",
                "Bring back the cases and lists as they were, or start a new run elsewhere.",
            )

    def save_state(self, position: Position, **parts: Any) -> None:
        """Writes the state and the two logs; the state file alone decides where a resumed run begins."""
        # Through memory, because on a full disk torch's writer raises what no one would take for that.
        buffer = io.BytesIO()
        torch.save({"position": vars(position), **parts}, buffer)
        with replacing(self.state) as temporary:
            temporary.write_bytes(buffer.getbuffer())
        for name, rows in (("log", position.log), ("validation", position.validation)):
            if rows:
                with replacing(self.folder / f"{name}.csv") as temporary:
                    pd.DataFrame(rows).to_csv(temporary, index=False)

    def load_state(self) -> tuple[Position, dict[str, Any]] | None:
        """Position and parts as saved, or None if no epoch was finished yet."""
        if not self.state.exists():
            return None
        try:
            parts = torch.load(self.state, map_location="cpu", weights_only=True)
            return Position(**parts.pop("position")), parts
        except Exception as error:
            raise RunError(
                f"{self.state} is damaged ({error}).", "Start a new run; the weights beside it may still be good."
            ) from error


def _differences(a: Any, b: Any, path: str = "") -> set[str]:
    if isinstance(a, dict) and isinstance(b, dict):
        keys = a.keys() | b.keys()
        return set().union(*(_differences(a.get(k), b.get(k), f"{path}.{k}" if path else k) for k in keys))
    return set() if a == b else {path}
