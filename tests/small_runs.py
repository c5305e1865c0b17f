"""Trainings of about a second, for tests and for the processes that tests start."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from safetensors.torch import load_file

from anymri.training.callbacks import TrainingCallback
from anymri.training.configuration import resolve

SMALL = (
    "network.width=4",
    "crop=16",
    "window_overlap=0",
    "steps_per_epoch=2",
    "batch_size=2",
    "epochs=3",
    "validation_epochs=2",
)
# Voxels along each axis of phantoms for such trainings.
SIZE = 32


class Recorder(TrainingCallback):
    """Callback that keeps the rows of the epochs, and interrupts the training after `stop_after` epochs."""

    def __init__(self, stop_after=None):
        self.stop_after = stop_after
        self.rows = []

    def epoch(self, row, validation):
        """Keep the row of an epoch."""
        self.rows.append(row)
        if len(self.rows) == self.stop_after:
            raise KeyboardInterrupt


class AtStep(Recorder):
    """Callback that calls `act` after `count` steps."""

    def __init__(self, count, act):
        super().__init__()
        self.left = count
        self.act = act

    def step(self, stage, epoch, step, loss):
        """Count a step."""
        self.left -= 1
        if self.left == 0:
            self.act()


def configured(data, cache, *assignments, scheme="brats2023", system="u_hved", base=SMALL):
    """Return the configuration of a small training; `assignments` come after those of `base`."""
    options = {"data": Path(data), "label_scheme": scheme, "device": "cpu", "cache": Path(cache)}
    return resolve(system, "nano", options, assignments=[*base, *assignments])


def weights(run, name="last"):
    """Return the weights of a run as name -> array."""
    return {key: value.numpy() for key, value in load_file(run / "checkpoints" / f"{name}.safetensors").items()}


def same(one, other):
    """Return whether two sets of named arrays are equal, bit for bit."""
    return one.keys() == other.keys() and all(np.array_equal(one[key], other[key]) for key in one)
