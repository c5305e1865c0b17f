"""One loop for all systems: stages, epochs, steps; validation, checkpoints, exact resume."""

from __future__ import annotations

import math
import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from typing import Any, Protocol

import torch

from anymri.errors import AnymriWarning, ConfigurationError, RunError
from anymri.files import output_folder, write_json, write_text
from anymri.inference.segmenter import Segmenter
from anymri.provenance import provenance
from anymri.systems.contract import System
from anymri.systems.recipes.schema import Recipe, Stage
from anymri.systems.registry import build, spec
from anymri.training.cohort.find import Cohort, prepare
from anymri.training.configuration import TrainingConfiguration
from anymri.training.estimate import Estimate, estimate
from anymri.training.learner import Learners, seed_of
from anymri.training.logs import Boards, loggers
from anymri.training.patches import batches
from anymri.training.process_group import ProcessGroup, team
from anymri.training.run import Position, Run
from anymri.training.stopping import Stop
from anymri.training.validation import Validation, validate
from anymri.weights.card import WeightsCard
from anymri.weights.store import save_weights

# A crash of the machine costs no more than this.
SECONDS_BETWEEN_SAVES = 600.0


class TrainingCallback(Protocol):
    """What a training tells while it runs; each process of several has one."""

    def case(self, name: str, done: int, total: int) -> None:
        """A case is about to be preprocessed."""

    def begin(self, system: System[Any], cohort: Cohort, stages: list[Stage], position: Position) -> None:
        """Training is about to begin or to go on."""

    def step(self, stage: Stage, epoch: int, step: int, loss: float) -> None:
        """A step is done; epochs and steps count from 1."""

    def epoch(self, row: dict[str, Any], validation: dict[str, float] | None) -> None:
        """An epoch is done: its row of log.csv, and mean Dice by region if there was a validation."""


def train(
    configuration: TrainingConfiguration,
    folder: Path,
    callback: TrainingCallback,
    resume: bool = False,
    expect: Callable[[Estimate], None] | None = None,
) -> None:
    """Trains a system as configured into a run folder (see `anymri.training.run`).

    resume  go on where the run in `folder` was saved last: the weights end up exactly as without the interruption
    expect  hears what the training will need before it begins

    Ctrl-C and SIGTERM let the step end, save and raise `Interrupted`. Started by torchrun or srun, every process calls
    this, and process 0 alone writes.
    """
    run = Run(folder)
    if resume:
        run.check_same(configuration)
    else:
        run.check_new()
    recipe = configuration.recipe
    processes = team(configuration.device, recipe.precision)
    _check_shares(recipe.stages, processes.count)
    with processes.one_a_node_first():
        cohort = prepare(configuration, callback.case)
    run.check_split(cohort.split())
    torch.manual_seed(recipe.seed)
    system = build(recipe.system, {**recipe.network, "num_classes": cohort.scheme.num_classes})
    position, saved = run.load_state() or (Position(), {})
    left = recipe.stages[position.stage :]
    if expect:
        expect(estimate(processes, recipe.system, system, cohort.training, left, position))
    named = configuration.loggers if processes.number == 0 else ()
    with loggers(named, folder) as others, Stop(folder, alone=processes.count == 1) as stop:
        if processes.number == 0 and not resume:
            _write_beginning(run, configuration, cohort, processes)
        callback.begin(system, cohort, recipe.stages, position)
        trainer = _Trainer(recipe, cohort, system, run, processes, callback, stop, others)
        for number in range(position.stage, len(recipe.stages)):
            trainer.run_stage(replace(position), saved)
            saved = {}
            position = Position(number + 1, log=position.log, validation=position.validation)


@dataclass
class _Trainer:
    """What the stages of one training share."""

    recipe: Recipe
    cohort: Cohort
    system: System[Any]
    run: Run
    team: ProcessGroup
    callback: TrainingCallback
    stop: Stop
    others: list[Any]
    last_save: float = 0.0

    def run_stage(self, position: Position, saved: dict[str, Any]) -> None:
        """Trains stage `position.stage` from `position` on.

        saved  states of the learners to go on with; empty at the stage's beginning, where a discriminator begins anew
        """
        stage = self.recipe.stages[position.stage]
        seed = seed_of(self.recipe.seed, position.stage)
        learners = Learners(self.team, self.recipe.system, self.system, stage, seed, saved)
        first_step = sum(s.steps for s in self.recipe.stages[: position.stage])
        self.last_save = time.perf_counter()
        shown = first_step + position.epoch * stage.steps_per_epoch
        with Boards(self.run, self.team, shown, self.others) as boards:
            while position.epoch < stage.epochs and not (stage.patience and position.worse >= stage.patience):
                self._run_epoch(learners, stage, position)
                row = self._row(stage, position, first_step, learners.rate)
                judged = self._validate(learners, stage, position, row)
                learners.end_epoch(judged.loss if judged else None)
                position.log.append(row)
                position.epoch += 1
                position.step, position.sums, position.seconds, position.waited = 0, {}, 0.0, 0.0
                self._keep_best(stage, position, judged)
                self._save(learners, stage, position)
                scores = judged.dice if judged else None
                boards.write(row, scores)
                self.callback.epoch(row, scores)

    def _run_epoch(self, learners: Learners, stage: Stage, position: Position) -> None:
        """The steps of the epoch that are left; raises `Interrupted`, all saved, after the one in which a signal
        came."""
        learners.networks.train()
        first = position.epoch * stage.steps_per_epoch
        done = position.step
        workers = 0 if self.team.device.type == "cpu" else 4
        place = (learners.seed, first + done, stage.steps_per_epoch - done, workers, self.team.number, self.team.count)
        data = batches(self.cohort.training, stage, *place)
        clock = time.perf_counter()
        for step in range(done + 1, stage.steps_per_epoch + 1):
            share = list(islice(data, stage.accumulate))
            position.waited += time.perf_counter() - clock
            losses = learners.step(share, first + step)
            for name, value in losses.items():
                position.sums[name] = position.sums.get(name, 0.0) + value
            position.step = step
            position.seconds += time.perf_counter() - clock
            due = time.perf_counter() - self.last_save > SECONDS_BETWEEN_SAVES
            minimised = (losses[name] for name in learners.minimised)
            # Processes agree on what comes next, or they would wait for each other forever.
            halt, save, *agreed = self.team.mean([self.stop.heard is not None, due, *minimised])
            if not all(map(math.isfinite, agreed)):
                raise RunError(
                    f"The loss is no finite number in epoch {position.epoch + 1}, step {step}.",
                    f"{self._remedy()}; what was saved is kept.",
                )
            self.callback.step(stage, position.epoch + 1, step, position.sums["total"] / step)
            if halt or save:
                self._save(learners, stage, position)
            if halt:
                raise self.stop.interrupted()
            clock = time.perf_counter()

    def _remedy(self) -> str:
        """What to change after a loss that is no number."""
        rate = "the learning rate, as in --set optimiser.learning_rate=1e-4"
        advice = self.system.divergence_advice
        return f"{advice}, or lower {rate}" if advice else f"Lower {rate}"

    def _row(self, stage: Stage, position: Position, first_step: int, rate: float) -> dict[str, Any]:
        """The epoch's row of log.csv."""
        position.sums = self.team.merged(position.sums)
        epoch = position.epoch + 1
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
        """Judges the held-out cases if it is time to, and adds the scores to the position's record."""
        if not (self.cohort.validation and stage.validates_after(position.epoch + 1)):
            return None
        self._save(learners, stage, position)
        judged: Validation | None = None
        with self.stop.at_once():
            if self.team.number == 0:
                losses = spec(self.recipe.system).segmentation_losses
                segmenter = Segmenter(self.system, self._card(stage))
                judged = validate(segmenter, self.cohort.validation, losses, stage.single_subset)
            judged = self.team.told(judged)
        assert judged is not None
        place = {key: row[key] for key in ("stage", "epoch", "step")}
        position.validation += [place | {"region": region, "dice": value} for region, value in judged.dice.items()]
        return judged

    def _keep_best(self, stage: Stage, position: Position, judged: Validation | None) -> None:
        """Writes the best weights if these are."""
        if not self.cohort.validation or stage.validation_epochs is None:
            self._save_weights(self.run.best, stage)
        elif judged and judged.dice["mean"] > position.best:
            position.best, position.worse = judged.dice["mean"], 0
            self._save_weights(self.run.best, stage)
        elif judged:
            position.worse += 1
            if position.worse == stage.patience and position.epoch < stage.epochs and self.team.number == 0:
                warnings.warn(
                    f"Stage {stage.name} ends after epoch {position.epoch}: {position.worse} validations without a "
                    "better mean Dice.",
                    AnymriWarning,
                    stacklevel=2,
                )

    def _save(self, learners: Learners, stage: Stage, position: Position) -> None:
        """Writes weights and all that resuming needs."""
        position.sums = self.team.merged(position.sums)
        self._save_weights(self.run.last, stage)
        if self.team.number == 0:
            self.run.save_state(position, **learners.state())
        self.last_save = time.perf_counter()

    def _save_weights(self, path: Path, stage: Stage) -> None:
        if self.team.number == 0:
            save_weights(path, self.system.state_dict(), self._card(stage), stage.frozen)

    def _card(self, stage: Stage) -> WeightsCard:
        """Return the card of the weights as they are in a stage."""
        return WeightsCard(
            system=self.recipe.system,
            network={**self.recipe.network, "num_classes": self.cohort.scheme.num_classes},
            preprocessing=self.recipe.preprocessing,
            window=stage.crop,
            window_overlap=self.recipe.window_overlap,
            window_blending=self.recipe.window_blending,
            label_scheme=self.cohort.scheme.name,
            trained_on=[case.name for case in self.cohort.training],
            origin=f"anymri train, stage {stage.name}",
        )


def _check_shares(stages: list[Stage], processes: int) -> None:
    """Raises `ConfigurationError` if a batch cannot be shared out evenly."""
    for stage in stages:
        shares = processes * stage.accumulate
        if stage.batch_size % shares:
            many = math.ceil(stage.batch_size / shares) * shares
            raise ConfigurationError(
                f"The {stage.batch_size} patches of a batch in stage {stage.name} cannot be shared out evenly: "
                f"{processes} processes, each taking its share in {stage.accumulate} parts.",
                f"Choose --set {stage.name}.batch_size={many}, fewer processes or another accumulate.",
            )


def _write_beginning(run: Run, configuration: TrainingConfiguration, cohort: Cohort, team: ProcessGroup) -> None:
    output_folder(run.folder)
    write_json(run.split, cohort.split())
    record = provenance("train", configuration.model_dump(mode="json"), cohort.files, str(team.device))
    write_json(run.folder / "provenance.json", record | {"processes": team.count})
    write_text(run.config, configuration.to_yaml())
