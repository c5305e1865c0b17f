"""Trainings of seconds, for tests and for the processes that tests start."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from safetensors.torch import load_file

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


class Silent:
    """A callback that stops the training after so many epochs, or never."""

    def __init__(self, stop_after=None):
        self.stop_after = stop_after
        self.rows = []

    def case(self, name, done, total): ...
    def begin(self, system, cohort, stages, position): ...
    def step(self, stage, epoch, step, loss): ...

    def epoch(self, row, validation):
        self.rows.append(row)
        if len(self.rows) == self.stop_after:
            raise KeyboardInterrupt


class AtStep(Silent):
    """A callback that does something after so many steps of this call."""

    def __init__(self, count, act):
        super().__init__()
        self.left = count
        self.act = act

    def step(self, stage, epoch, step, loss):
        self.left -= 1
        if self.left == 0:
            self.act()


def configured(data, cache, *assignments, scheme="brats2023", system="u_hved"):
    options = {"data": Path(data), "label_scheme": scheme, "device": "cpu", "cache": Path(cache)}
    return resolve(system, "nano", options, assignments=[*SMALL, *assignments])


def weights(run, name="last"):
    return {key: value.numpy() for key, value in load_file(run / "checkpoints" / f"{name}.safetensors").items()}


def same(one, other):
    return one.keys() == other.keys() and all(np.array_equal(one[key], other[key]) for key in one)
