"""Run folder: what one training writes, and how it is read back.

config.yaml                    the resolved configuration; written first, because with it a run can be resumed
split.json                     training and validation cases with their modalities, and a checksum of that
provenance.json                versions, seeds, hashes of the data
log.csv, validation.csv        losses and speed per epoch (patches/s, and the share of time that steps waited for data);
                               Dice per validation
tensorboard/                   the same for TensorBoard
checkpoints/last.safetensors   weights as of the last saved state
checkpoints/best.safetensors   weights with the highest mean Dice in the stage's validations (without any: the last)
checkpoints/best.pt            optimiser and weights at the best validation, where the next stage begins with them
checkpoints/state.pt           everything that resuming needs, in one file: position, log; and of the system, and the
                               discriminator where there is one, weights, optimiser and schedule. Saved after each
                               epoch, every ten minutes, and after the step in which a signal came
"""

from __future__ import annotations

import csv
import io
import json
import math
import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from pydantic import TypeAdapter

from anymri.errors import RunError, WeightsError
from anymri.files import digest, is_unused, read_text, replacing, write_json, write_text
from anymri.training.configuration import TrainingConfiguration
from anymri.training.fields import read_yaml, validated
from anymri.training.own_loss import missing_loss
from anymri.training.position import Position
from anymri.weights.store import load_weights


class Run:
    """A run folder, with the paths of its files."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.config = folder / "config.yaml"
        self.split = folder / "split.json"
        self.provenance = folder / "provenance.json"
        self.last = folder / "checkpoints" / "last.safetensors"
        self.best = folder / "checkpoints" / "best.safetensors"
        self.best_state = folder / "checkpoints" / "best.pt"
        self.state = folder / "checkpoints" / "state.pt"

    def check_new(self) -> None:
        """Raise `RunError` if the folder exists and is not empty: a run is never overwritten."""
        if self.config.exists():
            raise RunError(
                f"{self.folder} holds a run already.",
                f"Continue it with: anymri train --resume -o {self.folder} (or choose another folder with -o).",
            )
        # Earlier versions, killed at the beginning, left only these files.
        if not is_unused(self.folder, self.split.name, self.provenance.name):
            raise RunError(f"{self.folder} exists and is not an empty folder.", "Choose another folder with -o.")

    def configuration(self) -> TrainingConfiguration:
        """Return the configuration that this run was started with; raise `RunError` if there is no run."""
        if not self.config.exists():
            raise RunError(
                f"{self.folder} is not a run that can be resumed.",
                f"Start one: anymri train SYSTEM --data COHORT --label-scheme SCHEME -o {self.folder}",
            )
        return validated(TrainingConfiguration, read_yaml(self.config), str(self.config))

    def check_same(self, configuration: TrainingConfiguration) -> None:
        """Raise `RunError` naming what differs if the run was started with another configuration.

        A run may continue with another device, cache or logger: they do not change what is computed.
        """
        where = {"device", "cache", "loggers"}
        started, requested = (c.model_dump(mode="json", exclude=where) for c in (self.configuration(), configuration))
        changed = sorted(_differences(started, requested))
        if changed == ["loss"] and configuration.loss is None:
            raise missing_loss(started["loss"])
        if changed:
            raise RunError(
                f"{self.folder} was started with another configuration: {', '.join(changed)} differ.",
                f"Resume with: anymri train --resume -o {self.folder} (or start a new run in another folder).",
            )

    def write_beginning(
        self, configuration: TrainingConfiguration, split: dict[str, Any], record: dict[str, Any], resume: bool
    ) -> None:
        """Write configuration, split and provenance; of a resumed run, only those that are missing or damaged."""
        if not resume:
            write_text(self.config, configuration.to_yaml())
        if not resume or self.read_split() is None:
            write_json(self.split, split)
        if not resume or not self.provenance.is_file():
            write_json(self.provenance, record)

    def check_split(self, split: dict[str, Any], trained: str) -> None:
        """Raise `RunError` if the run was started with another split: validation cases must stay unseen.

        trained  checksum of the split in the saved state; empty if no step was saved
        """
        started = self.read_split()
        if started is not None and started["sha256"] != split["sha256"]:
            changed = sorted(_differences(_content(started), _content(split)))
            raise RunError(
                f"The cohort has changed since {self.folder} was started: {', '.join(changed[:5])} differ.",
                "Restore the cases and lists as they were, or start a new run in another folder.",
            )
        if started is None and trained != split["sha256"] and self.state.exists():
            raise RunError(
                f"{self.split} is missing or damaged, and the run was not started with the cohort as it is now.",
                "Restore the cases and lists as they were, or start a new run in another folder.",
            )

    def read_split(self) -> dict[str, Any] | None:
        """Return the split that the run was started with; None if its file is missing or damaged."""
        try:
            split: dict[str, Any] = json.loads(read_text(self.split))
            return split if split["sha256"] == digest(_content(split)) else None
        except (FileNotFoundError, ValueError, LookupError, TypeError, AttributeError, RecursionError):
            return None

    def save_state(self, position: Position, **states: Any) -> None:
        """Write the state and the two logs; the state file alone decides where a resumed run begins."""
        _save(self.state, {"position": vars(position), **states})
        self.write_logs(position)

    def save_best_state(self, state: dict[str, Any]) -> None:
        """Write the state with which a stage that begins with the best weights continues."""
        _save(self.best_state, state)

    def load_best_state(self) -> dict[str, Any]:
        """Return what `save_best_state` wrote; raise `RunError` if it is missing or damaged."""
        return self._load(self.best_state)

    def write_logs(self, position: Position) -> None:
        """Write log.csv and validation.csv."""
        for name, rows in (("log", position.log), ("validation", position.validation)):
            if rows:
                with replacing(self.folder / f"{name}.csv") as temporary:
                    _write_table(temporary, rows)

    def load_state(self) -> tuple[Position, dict[str, Any]] | None:
        """Return position and states as saved, or None if nothing was saved yet; raise `RunError` for any other file.

        The checksums of the archive are compared here, because torch does not.
        """
        if not self.state.exists():
            return None
        if not self.state.is_file():  # reading a pipe would never end
            raise self.damaged_state()
        states = self._load(self.state)
        try:
            return TypeAdapter(Position).validate_python(states.pop("position")), states
        except Exception as error:
            raise self.damaged_state() from error

    def _load(self, file: Path) -> dict[str, Any]:
        try:
            with zipfile.ZipFile(file) as archive:
                if archive.testzip() is not None:
                    raise zipfile.BadZipFile
            states: dict[str, Any] = torch.load(file, map_location="cpu", weights_only=True)
            return states
        except Exception as error:
            raise self.damaged_state(file) from error

    def damaged_state(self, file: Path | None = None) -> RunError:
        """Return the error for a saved state from which training cannot continue, by default that of the last step."""
        return RunError(
            f"{file or self.state} is damaged.",
            "Start a new run in another folder; the weights in this one may still be good.",
        )

    def check_weights(self, network: tuple[str, dict[str, Any]], has_best: bool) -> None:
        """Raise `RunError` if the weights of a finished run are missing, damaged or of another network.

        network   name of the system and arguments of its network
        has_best  whether the run must have best weights
        """
        for file in (self.last, self.best):
            if file == self.best and not (has_best or file.exists()):
                continue
            try:
                _, card = load_weights(file)
                what = "" if (card.system, card.network) == network else f"{file} belongs to another network."
            except WeightsError as error:
                what = error.what
            if what:
                raise RunError(
                    f"The training in {self.folder} is finished, but its weights cannot be used: {what}",
                    f"Restore {file} from a copy, or train again in another folder.",
                )


def _save(file: Path, states: dict[str, Any]) -> None:
    # Through memory, because the error of torch's writer on a full disk does not name the cause.
    buffer = io.BytesIO()
    torch.save(states, buffer)
    with replacing(file) as temporary:
        temporary.write_bytes(buffer.getbuffer())


def _write_table(path: Path, rows: Sequence[dict[str, Any]]) -> None:
    """Write rows as CSV; columns in order of their first appearance, empty where a row has none or NaN."""
    columns = list(dict.fromkeys(name for row in rows for name in row))
    with path.open("w", newline="", encoding="utf-8") as stream:
        writer = csv.DictWriter(stream, columns, lineterminator="\n")
        writer.writeheader()
        for row in rows:
            nan = {name for name, value in row.items() if isinstance(value, float) and math.isnan(value)}
            writer.writerow({name: "" if name in nan else value for name, value in row.items()})


def _content(split: dict[str, Any]) -> dict[str, Any]:
    """Return the part of a split that its checksum is of, see `anymri.training.cohort.find.Cohort.split`."""
    return {key: value for key, value in split.items() if key not in ("sha256", "skipped")}


def _differences(a: Any, b: Any, path: str = "") -> set[str]:
    if isinstance(a, dict) and isinstance(b, dict):
        keys = a.keys() | b.keys()
        return set().union(*(_differences(a.get(k), b.get(k), f"{path}.{k}" if path else k) for k in keys))
    return set() if a == b else {path}
