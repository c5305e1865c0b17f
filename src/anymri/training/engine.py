"""One loop for all systems: stages, epochs, steps; validation, checkpoints, exact resume."""

from __future__ import annotations

import math
import time
from collections import defaultdict
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
import torch
from torch import Tensor, nn

from anymri.errors import RunError
from anymri.files import output_folder, write_json, write_text
from anymri.inference.device import pick_device
from anymri.manifest import manifest
from anymri.systems import build, parts
from anymri.systems.base import Batch, System
from anymri.systems.recipes import Optimiser, Stage
from anymri.systems.weights import WeightsCard, save_weights
from anymri.training.cohort import Cohort, prepare
from anymri.training.configuration import TrainingConfiguration
from anymri.training.patches import batches
from anymri.training.run import Position, Run
from anymri.training.validation import validate

if TYPE_CHECKING:
    from torch.utils.tensorboard.writer import SummaryWriter

# Epochs are short beside a crash's cost, so resuming always begins at an epoch's start.
POLY_POWER = 0.9


class Watch(Protocol):
    """What a training tells while it runs."""

    def case(self, name: str, done: int, total: int) -> None:
        """A case is about to be preprocessed."""

    def begin(self, system: System[Any], cohort: Cohort, stages: list[Stage], position: Position) -> None:
        """Training is about to begin or to go on."""

    def step(self, stage: Stage, epoch: int, step: int, loss: float) -> None:
        """A step is done; epochs and steps count from 1."""

    def epoch(self, row: dict[str, Any], validation: dict[str, float] | None) -> None:
        """An epoch is done: its row of log.csv, and mean Dice by region if there was a validation."""


class Objective(nn.Module):
    """A system with its loss as one module, so that data-parallel wrappers see the whole step as a forward pass."""

    def __init__(self, system: System[Any], losses: Callable[[System[Any], Batch], dict[str, Tensor]]) -> None:
        super().__init__()
        self.system = system
        self.losses = losses

    def forward(self, batch: Batch) -> dict[str, Tensor]:
        return self.losses(self.system, batch)


def train(configuration: TrainingConfiguration, folder: Path, watch: Watch, resume: bool = False) -> None:
    """Trains a system as configured into a run folder (see `anymri.training.run`).

    resume  go on where the run in `folder` stopped: the weights end up exactly as without the interruption
    """
    run = Run(folder)
    if resume:
        run.check_same(configuration)
    else:
        run.check_new()
    device = pick_device(configuration.device)
    recipe = configuration.recipe
    cohort = prepare(configuration, watch.case)
    torch.manual_seed(recipe.seed)
    system = build(recipe.system, {**recipe.network, "num_classes": cohort.scheme.num_classes})
    if device.type == "cpu":
        # Convolutions of few channels go backward up to 2.5 times faster in this layout; values stay the same.
        system.to(memory_format=torch.channels_last_3d)  # type: ignore[call-overload]
    position, saved = run.load_state() or (Position(), {})
    if not resume:
        _write_beginning(run, configuration, cohort, device)
    if saved:
        system.load_state_dict(saved["system"])
    watch.begin(system, cohort, recipe.stages, position)
    for number in range(position.stage, len(recipe.stages)):
        _run_stage(number, configuration, cohort, system, run, replace(position), saved, device, watch)
        saved = {}
        position = Position(number + 1, 0, log=position.log, validation=position.validation)


def _run_stage(
    number: int,
    configuration: TrainingConfiguration,
    cohort: Cohort,
    system: System[Any],
    run: Run,
    position: Position,
    saved: dict[str, Any],
    device: torch.device,
    watch: Watch,
) -> None:
    """Trains one stage from `position.epoch` on; checkpoints after every epoch."""
    from lightning.fabric import Fabric

    recipe = configuration.recipe
    stage = recipe.stages[number]
    system_parts = parts(recipe.system)
    fabric = Fabric(
        accelerator=device.type, devices=[device.index or 0] if device.type == "cuda" else 1, precision=recipe.precision
    )
    optimiser = make_optimiser(stage.optimiser, system.parameters())
    schedule = make_schedule(stage, optimiser)
    if saved:
        optimiser.load_state_dict(saved["optimiser"])
        schedule.load_state_dict(saved["schedule"])
    objective, wrapped = fabric.setup(Objective(system, system_parts.objectives[stage.objective]), optimiser)
    card = WeightsCard(
        system=recipe.system,
        network={**recipe.network, "num_classes": cohort.scheme.num_classes},
        preprocessing=recipe.preprocessing,
        window=stage.crop,
        window_overlap=recipe.window_overlap,
        label_scheme=cohort.scheme.name,
        trained_on=[case.name for case in cohort.training],
        origin=f"anymri train, stage {stage.name}",
    )
    seed = int(np.random.SeedSequence([recipe.seed, number]).generate_state(1)[0])
    first_step = sum(s.epochs * s.steps_per_epoch for s in recipe.stages[:number])
    board = _tensorboard(run, first_step + position.epoch * stage.steps_per_epoch)
    for epoch in range(position.epoch + 1, stage.epochs + 1):
        row = {"stage": stage.name, "epoch": epoch, "step": first_step + epoch * stage.steps_per_epoch}
        began = time.perf_counter()
        means = _run_epoch(fabric, objective, wrapped, cohort, stage, epoch, seed, watch)
        row |= {"seconds": round(time.perf_counter() - began, 2), "learning_rate": optimiser.param_groups[0]["lr"]}
        row |= {f"loss/{name}": value for name, value in means.items()}
        position.log.append(row)
        scores = None
        if cohort.validation and stage.validates_after(epoch):
            result = validate(
                system, cohort.validation, stage.crop, recipe.window_overlap, system_parts.segmentation_losses
            )
            scores = result.dice
            position.validation += [
                {key: row[key] for key in ("stage", "epoch", "step")} | {"region": region, "dice": value}
                for region, value in scores.items()
            ]
        if stage.schedule != "plateau":
            schedule.step()
        elif scores is not None:
            schedule.step(result.loss)
        position.epoch = epoch
        if not cohort.validation or (scores is not None and scores["mean"] > position.best):
            position.best = scores["mean"] if scores else position.best
            save_weights(run.best, system.state_dict(), card)
        save_weights(run.last, system.state_dict(), card)
        run.save_state(
            position, system=system.state_dict(), optimiser=optimiser.state_dict(), schedule=schedule.state_dict()
        )
        _write_board(board, row, scores)
        watch.epoch(row, scores)
    board.close()


def _run_epoch(
    fabric: Any,
    objective: nn.Module,
    optimiser: torch.optim.Optimizer,
    cohort: Cohort,
    stage: Stage,
    epoch: int,
    seed: int,
    watch: Watch,
) -> dict[str, float]:
    """One epoch of optimiser steps; returns the mean of each named loss."""
    objective.train()
    sums: dict[str, float] = defaultdict(float)
    first = (epoch - 1) * stage.steps_per_epoch
    workers = 0 if fabric.device.type == "cpu" else 4
    for step, batch in enumerate(batches(cohort.training, stage, seed, first, stage.steps_per_epoch, workers), 1):
        torch.manual_seed(int(np.random.SeedSequence([seed, first + step]).generate_state(1)[0]))
        named = objective(batch.to(fabric.device))
        optimiser.zero_grad()
        fabric.backward(named["total"])
        optimiser.step()
        for name, value in named.items():
            sums[name] += value.item()
        if not math.isfinite(sums["total"]):
            raise RunError(
                f"The loss is no finite number in epoch {epoch}, step {step}.",
                "Lower the learning rate, as in --set optimiser.learning_rate=1e-4; finished epochs are kept.",
            )
        watch.step(stage, epoch, step, sums["total"] / step)
    return {name: value / stage.steps_per_epoch for name, value in sums.items()}


def make_optimiser(settings: Optimiser, parameters: Any) -> torch.optim.Optimizer:
    """The optimiser that a recipe names."""
    rate, decay = settings.learning_rate, settings.weight_decay
    if settings.name == "radam":
        return torch.optim.RAdam(parameters, lr=rate, weight_decay=decay)
    kind = torch.optim.Adam if settings.name == "adam" else torch.optim.AdamW
    return kind(parameters, lr=rate, weight_decay=decay, amsgrad=settings.amsgrad)


def make_schedule(stage: Stage, optimiser: torch.optim.Optimizer) -> Any:
    """The learning-rate schedule that a stage names; see `Stage.schedule`."""
    if stage.schedule == "plateau":
        return torch.optim.lr_scheduler.ReduceLROnPlateau(optimiser)

    def factor(epoch: int) -> float:
        return (1 - epoch / stage.epochs) ** POLY_POWER if stage.schedule == "poly" else 1.0

    return torch.optim.lr_scheduler.LambdaLR(optimiser, factor)


def _write_beginning(run: Run, configuration: TrainingConfiguration, cohort: Cohort, device: torch.device) -> None:
    output_folder(run.folder)
    split = {"train": cohort.training, "validation": cohort.validation}
    write_json(run.folder / "split.json", {name: [case.name for case in cases] for name, cases in split.items()})
    record = manifest("train", configuration.model_dump(mode="json"), cohort.files, str(device))
    write_json(run.folder / "manifest.json", record)
    write_text(run.config, configuration.to_yaml())


def _tensorboard(run: Run, step: int) -> SummaryWriter:
    """A writer that hides what an interrupted run wrote after `step`, where this one goes on."""
    from torch.utils.tensorboard.writer import SummaryWriter

    return SummaryWriter(str(run.folder / "tensorboard"), purge_step=step + 1)


def _write_board(board: SummaryWriter, row: dict[str, Any], scores: dict[str, float] | None) -> None:
    values = {name: value for name, value in row.items() if name.startswith("loss/") or name == "learning_rate"}
    values |= {f"validation/dice_{region}": value for region, value in (scores or {}).items()}
    for name, value in values.items():
        board.add_scalar(name, value, row["step"])
    board.flush()
