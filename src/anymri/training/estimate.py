"""Estimate of the time and memory of a training, measured by taking steps with a copy of the network."""

from __future__ import annotations

import copy
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from typing import Any

import torch

from anymri.data.cache import CachedCase
from anymri.systems.contract import System
from anymri.systems.recipes.schema import Stage
from anymri.systems.spec import SystemSpec
from anymri.training.learner import Learners
from anymri.training.patches import batches
from anymri.training.position import Position
from anymri.training.process_group import ProcessGroup


@dataclass
class Estimate:
    """Estimate of the time and memory of a training.

    memory   peak of one process in bytes: of its GPU, or on a CPU of the whole process; None where it is not known
    seconds  duration of all remaining steps, without validation and waiting for data
    """

    memory: int | None
    seconds: float


def estimate(
    group: ProcessGroup,
    spec: SystemSpec,
    system: System[Any],
    cases: Sequence[CachedCase],
    stages: Sequence[Stage],
    position: Position,
) -> Estimate:
    """Take two steps of each remaining stage with all modalities, time the second, and return the estimate.

    Stages whose steps cost the same are measured once. The system stays as it is.

    spec      objectives of the system
    stages    remaining stages
    position  position in the first of them
    """
    precision = group.fabric.strategy.precision
    untouched = precision.state_dict()
    seconds = 0.0
    measured: dict[tuple[object, ...], float] = {}
    done = position.counted * stages[0].steps_per_epoch + position.step
    for stage in stages:
        left, done = stage.steps - done, 0
        if left == 0:
            continue
        costs = (stage.objective, stage.crop, stage.batch_size, stage.copies, stage.accumulate, stage.frozen)
        if costs not in measured:
            measured[costs] = _second_step(group, spec, copy.deepcopy(system), cases, stage)
        seconds += measured[costs] * left
    precision.load_state_dict(untouched)
    return Estimate(_peak(group.device), seconds)


def _second_step(
    group: ProcessGroup, spec: SystemSpec, system: System[Any], cases: Sequence[CachedCase], stage: Stage
) -> float:
    """Return the seconds of a second step; the first one also sets things up."""
    learners = Learners(group, spec, system, stage, 0, {})
    learners.networks.train()
    micro_batches = list(islice(batches(cases, stage, 0, 0, 1, 0, group.rank, group.size), stage.accumulate))
    micro_batches = [replace(batch, available=batch.present) for batch in micro_batches]
    seconds = 0.0
    for number in (1, 2):
        began = time.perf_counter()
        learners.step(micro_batches, number)
        seconds = time.perf_counter() - began
    return seconds


def _peak(device: torch.device) -> int | None:
    """Return the highest memory use of this process so far, in bytes."""
    if device.type == "cuda":
        return torch.cuda.max_memory_reserved(device)
    system: str = sys.platform  # a variable, because the type checker takes the platform as constant
    if system == "linux":
        # Not getrusage's value, which includes the process that this program was started in.
        line = next(each for each in Path("/proc/self/status").read_text().splitlines() if each.startswith("VmHWM"))
        return int(line.split()[1]) * 1024
    if system == "darwin" and device.type == "cpu":
        import resource

        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return None
