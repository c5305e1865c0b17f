"""One training loop for all systems: stages, epochs, steps; validation, checkpoints, exact resume."""

from __future__ import annotations

import math
import time
import warnings
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from typing import Any

import torch

from anymri.errors import AnymriWarning, RunError, WeightsError
from anymri.extras import need
from anymri.files import locked
from anymri.inference.segmenter import Segmenter
from anymri.provenance import Inputs, hashed, provenance
from anymri.systems.contract import System
from anymri.systems.recipes.schema import Recipe, Stage
from anymri.systems.registry import build, spec
from anymri.systems.spec import SystemSpec
from anymri.text import shown
from anymri.training.callbacks import Curves, MetricLogger, TrainingCallback, metric_loggers
from anymri.training.card import card_of, network_arguments
from anymri.training.cohort.find import Cohort, prepare
from anymri.training.configuration import TrainingConfiguration
from anymri.training.estimate import Estimate, estimate
from anymri.training.launch import Launch
from anymri.training.learner import Learners, seed_of
from anymri.training.own_loss import Loss, missing_loss, name_of, with_loss
from anymri.training.patches import batches
from anymri.training.position import Position
from anymri.training.process_group import ProcessGroup, check_shares, start_process_group
from anymri.training.run import Run
from anymri.training.stopping import Stop
from anymri.training.validation import Validation, validate
from anymri.weights.locate import find_weights
from anymri.weights.store import load_weights, save_weights

# A crash of the machine costs no more than this.
SECONDS_BETWEEN_SAVES = 600.0


def train(
    configuration: TrainingConfiguration,
    folder: Path,
    callback: TrainingCallback,
    resume: bool = False,
    expect: Callable[[Estimate], None] | None = None,
    loss: Loss | None = None,
) -> None:
    """Train a system as configured into a run folder (see `anymri.training.run`).

    resume  continue the run in `folder` from its last state: the weights are exactly those without the interruption
    expect  receives what the training will need, before it begins
    loss    in place of the objectives of the recipe; `configuration.loss` is its name

    Ctrl-C and SIGTERM let the step end, save and raise `Interrupted`. Started by torchrun or srun, every process calls
    this, and process 0 alone writes.
    """
    need("train", "lightning", "monai", "tensorboard")
    for name in configuration.loggers:
        need(name, name)
    if configuration.loss != (None if loss is None else name_of(loss)):
        raise missing_loss(configuration.loss)
    launch, run, recipe = Launch.from_environment(), Run(folder), configuration.recipe
    with locked(folder, "checkpoints") if launch.rank == 0 else nullcontext():
        if resume:
            run.check_same(configuration)
        else:
            run.check_new()
        group = start_process_group(configuration.device, recipe.precision)
        check_shares(recipe.stages, group.size)
        with group.one_per_node_first():
            cohort = prepare(configuration, callback.case, check=launch.local_rank == 0)
        split = cohort.split()
        position, saved = run.load_state() or (Position(), {})
        if resume:
            run.check_split(split, position.split)
        position.split = split["sha256"]
        remaining = recipe.stages[position.stage :]
        if not remaining:
            raise run.damaged_state()
        torch.manual_seed(recipe.seed)
        system = build(recipe.system, network_arguments(recipe, cohort))
        system_spec = spec(recipe.system) if loss is None else with_loss(spec(recipe.system), loss)
        inputs = hashed(cohort.files)
        if configuration.initial_weights is not None:
            inputs |= begin_with(system, recipe, find_weights(configuration.initial_weights))
        if expect:
            expect(estimate(group, system_spec, system, cohort.training, remaining, position))
        if group.rank == 0:
            settings = configuration.model_dump(mode="json")
            record = provenance("train", settings, inputs, str(group.device)) | {"processes": group.size}
            run.write_beginning(configuration, split, record, resume)
            run.write_logs(position)
            if len(remaining) == 1 and _is_finished(remaining[0], position):
                has_best = not (cohort.validation and remaining[0].validation_epochs) or position.best > -math.inf
                run.check_weights((recipe.system, network_arguments(recipe, cohort)), has_best)
        names = configuration.loggers if group.rank == 0 else ()
        with metric_loggers(names, folder) as loggers, Stop(folder, alone=group.size == 1) as stop:
            callback.begin(system, cohort, recipe.stages, position)
            trainer = _Trainer(recipe, cohort, system_spec, system, run, group, callback, stop, loggers)
            for number in range(position.stage, len(recipe.stages)):
                position = trainer.run_stage(replace(position), saved).next_stage(recipe.stages[number + 1 :])
                saved = {}


@dataclass
class _Trainer:
    """State shared by all stages of one training."""

    recipe: Recipe
    cohort: Cohort
    spec: SystemSpec
    system: System[Any]
    run: Run
    group: ProcessGroup
    callback: TrainingCallback
    stop: Stop
    loggers: list[MetricLogger]
    last_save: float = 0.0

    def run_stage(self, position: Position, saved: dict[str, Any]) -> Position:
        """Train stage `position.stage` from `position` to its end, and return that.

        saved  states of the learners to continue with; empty at the stage's beginning, where a discriminator is new
        """
        stage = self.recipe.stages[position.stage]
        seed = seed_of(self.recipe.seed, position.stage)
        try:
            learners = Learners(self.group, self.spec, self.system, stage, seed, saved, position.repeated)
        except (LookupError, TypeError, ValueError, AttributeError, RuntimeError) as error:
            if saved:
                raise self.run.damaged_state() from error
            raise
        if stage.begins == "best" and not saved:
            learners.each["system"].begin_with(self.run.load_best_state())
        first_step = sum(s.steps for s in self.recipe.stages[: position.stage])
        self.last_save = time.perf_counter()
        folder = self.run.folder if self.group.rank == 0 else None
        curves = Curves(folder, first_step + position.counted * stage.steps_per_epoch, self.loggers)
        while not _is_finished(stage, position):
            self._run_epoch(learners, stage, position)
            row = self._row(stage, position, first_step, learners.rate)
            validation = self._validate(learners, stage, position, row)
            learners.end_epoch(validation.loss if validation else None)
            position.log.append(row)
            position.epoch += 1
            position.step, position.sums, position.seconds, position.waited = 0, {}, 0.0, 0.0
            self._keep_best(learners, stage, position, validation)
            self._save(learners, stage, position)
            dice = validation.dice if validation else None
            curves.write(row, dice)
            self.callback.epoch(row, dice)
        self.system.load_state_dict(learners.trained.state_dict())
        return position

    def _run_epoch(self, learners: Learners, stage: Stage, position: Position) -> None:
        """Take the remaining steps of the epoch; after a step in which a signal came, save and raise `Interrupted`."""
        learners.networks.train()
        first = position.epoch * stage.steps_per_epoch
        done = position.step
        workers = 0 if self.group.device.type == "cpu" else 4
        place = (learners.seed, first + done, stage.steps_per_epoch - done, workers, self.group.rank, self.group.size)
        data = batches(self.cohort.training, stage, *place)
        clock = time.perf_counter()
        for step in range(done + 1, stage.steps_per_epoch + 1):
            micro_batches = list(islice(data, stage.accumulate))
            position.waited += time.perf_counter() - clock
            losses = learners.step(micro_batches, first + step)
            for name, value in losses.items():
                position.sums[name] = position.sums.get(name, 0.0) + value
            position.step = step
            position.seconds += time.perf_counter() - clock
            due = time.perf_counter() - self.last_save > SECONDS_BETWEEN_SAVES
            minimised = (losses[name] for name in learners.minimised)
            # Processes agree on what comes next, or they would wait for each other forever.
            halt, save, *agreed = self.group.mean([self.stop.received is not None, due, *minimised])
            if not all(map(math.isfinite, agreed)):
                raise RunError(
                    f"The loss is not finite in epoch {position.epoch + 1}, step {step}.",
                    f"{self._divergence_advice()}. What was saved is kept.",
                )
            self.callback.step(stage, position.counted + 1, step, position.sums["total"] / step)
            if halt or save:
                self._save(learners, stage, position)
            if halt:
                raise self.stop.interrupted()
            clock = time.perf_counter()

    def _divergence_advice(self) -> str:
        """Return what to change after a loss that is not finite, without a full stop."""
        rate = "the learning rate, as in --set optimiser.learning_rate=1e-4"
        advice = self.system.divergence_advice
        return f"{advice}, or lower {rate}" if advice else f"Lower {rate}"

    def _row(self, stage: Stage, position: Position, first_step: int, rate: float) -> dict[str, Any]:
        """Return the epoch's row of log.csv."""
        position.sums = self.group.mean_by_name(position.sums)
        epoch = position.counted + 1
        return {
            "stage": stage.name,
            "epoch": epoch,
            "step": first_step + epoch * stage.steps_per_epoch,
            "seconds": round(position.seconds, 2),
            "patches_per_second": round(stage.batch_size * stage.steps_per_epoch / position.seconds, 2),
            "data_wait": round(position.waited / position.seconds, 3),
            "learning_rate": rate,
        } | {f"loss/{name}": value / stage.steps_per_epoch for name, value in position.sums.items()}

    def _validate(self, learners: Learners, stage: Stage, position: Position, row: dict[str, Any]) -> Validation | None:
        """Validate if it is due after this epoch, and add the Dice to the position's rows."""
        if not (self.cohort.validation and stage.validates_after(position.counted + 1)):
            return None
        self._save(learners, stage, position)
        validation: Validation | None = None
        with self.stop.at_once():
            if self.group.rank == 0:
                losses = spec(self.recipe.system).segmentation_losses
                segmenter = Segmenter(learners.trained, card_of(self.recipe, self.cohort, stage))
                seed = seed_of(learners.seed, position.epoch)
                validation = validate(segmenter, self.cohort.validation, losses, self.recipe.validation, stage, seed)
            validation = self.group.broadcast(validation)
        assert validation is not None
        place = {key: row[key] for key in ("stage", "epoch", "step")}
        position.validation += [place | {"region": region, "dice": dice} for region, dice in validation.dice.items()]
        return validation

    def _keep_best(self, learners: Learners, stage: Stage, position: Position, validation: Validation | None) -> None:
        """Write the best weights if these are."""
        if not self.cohort.validation or stage.validation_epochs is None:
            self._save_best(learners, stage, position)
        elif validation and validation.dice["mean"] > position.best:
            position.best, position.worse = validation.dice["mean"], 0
            self._save_best(learners, stage, position)
        elif validation:
            position.worse += 1
            if (
                position.worse == stage.patience
                and position.epoch < stage.epochs + position.repeated
                and self.group.rank == 0
            ):
                warnings.warn(
                    f"Stage {stage.name} ends after epoch {position.epoch}: {position.worse} validations without a "
                    "better mean Dice.",
                    AnymriWarning,
                    stacklevel=2,
                )

    def _save_best(self, learners: Learners, stage: Stage, position: Position) -> None:
        """Write the best weights, and with what a next stage begins that continues from them."""
        position.best_epoch = position.epoch
        self._save_weights(learners, self.run.best, stage)
        following = self.recipe.stages[position.stage + 1 :]
        if following and following[0].begins == "best" and self.group.rank == 0:
            self.run.save_best_state(learners.each["system"].state())

    def _save(self, learners: Learners, stage: Stage, position: Position) -> None:
        """Write weights and everything that resuming needs."""
        position.sums = self.group.mean_by_name(position.sums)
        self._save_weights(learners, self.run.last, stage)
        if self.group.rank == 0:
            self.run.save_state(position, **learners.state())
        self.last_save = time.perf_counter()

    def _save_weights(self, learners: Learners, path: Path, stage: Stage) -> None:
        if self.group.rank == 0:
            save_weights(path, learners.trained.state_dict(), card_of(self.recipe, self.cohort, stage), stage.frozen)


def begin_with(system: System[Any], recipe: Recipe, file: Path) -> Inputs:
    """Load weights of the same network into a system, and return their file with its hash.

    Raises `WeightsError` for weights of another network.
    """
    initial, card = load_weights(file)
    expected, found = system.state_dict(), initial.state_dict()
    if {name: value.shape for name, value in found.items()} != {name: value.shape for name, value in expected.items()}:
        raise WeightsError(
            f"{file} has weights of {card.system} with {shown(card.network, 200)}, which do not fit this training.",
            f"Train with the same network: anymri train {card.system}, and --set network.NAME=VALUE where they differ.",
        )
    if card.preprocessing != recipe.preprocessing:
        warnings.warn(
            f"The initial weights {file} were trained with another preprocessing than this recipe has.",
            AnymriWarning,
            stacklevel=3,
        )
    system.load_state_dict(found)
    return hashed({"initial weights": file})


def _is_finished(stage: Stage, position: Position) -> bool:
    """Return whether the stage of the position has had its last epoch."""
    return position.counted >= stage.epochs or bool(stage.patience and position.worse >= stage.patience)
