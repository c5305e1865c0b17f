"""One loop for all systems: stages, epochs, steps; validation, checkpoints, exact resume."""

from __future__ import annotations

import math
import time
from collections import defaultdict
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
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
from anymri.systems.recipes import Optimiser, Recipe, Stage
from anymri.systems.weights import WeightsCard, save_weights
from anymri.training.cohort import Cohort, prepare
from anymri.training.configuration import TrainingConfiguration
from anymri.training.patches import batches
from anymri.training.run import Position, Run
from anymri.training.validation import Validation, validate

if TYPE_CHECKING:
    from torch.utils.tensorboard.writer import SummaryWriter

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
    """Networks with their losses as one module, so that data-parallel wrappers see the whole step as a forward pass.

    networks  the system, and in adversarial training the discriminator
    """

    def __init__(self, losses: Callable[..., dict[str, Tensor]], networks: Iterable[nn.Module]) -> None:
        super().__init__()
        self.losses = losses
        self.networks = nn.ModuleList(networks)

    def forward(self, batch: Batch) -> dict[str, Tensor]:
        system, *discriminator = self.networks
        return self.losses(system, batch, *discriminator)


@dataclass
class Learner:
    """A network in training with all that changes in it; loss: which of the objective's losses it minimises."""

    loss: str
    network: nn.Module
    optimiser: torch.optim.Optimizer
    schedule: Any

    @classmethod
    def of(cls, stage: Stage, loss: str, network: nn.Module) -> Learner:
        """A learner at the stage's beginning."""
        for name, parameter in network.named_parameters():
            parameter.requires_grad_(not name.startswith(stage.frozen))
        optimiser = make_optimiser(stage.optimiser, network)
        return cls(loss, network, optimiser, make_schedule(stage, optimiser))

    def state(self) -> dict[str, Any]:
        """What `load` needs to go on exactly."""
        return {name: getattr(self, name).state_dict() for name in ("network", "optimiser", "schedule")}

    def load(self, state: dict[str, Any]) -> None:
        """Goes on from a `state`."""
        for name, value in state.items():
            getattr(self, name).load_state_dict(value)


def train(configuration: TrainingConfiguration, folder: Path, watch: Watch, resume: bool = False) -> None:
    """Trains a system as configured into a run folder (see `anymri.training.run`).

    resume  go on where the run in `folder` stopped: the weights end up exactly as without the interruption. Epochs are
            short beside a crash's cost, so this begins at an epoch's start
    """
    run = Run(folder)
    if resume:
        run.check_same(configuration)
    else:
        run.check_new()
    device = pick_device(configuration.device)
    recipe = configuration.recipe
    cohort = prepare(configuration, watch.case)
    run.check_split(cohort.split())
    torch.manual_seed(recipe.seed)
    system = build(recipe.system, {**recipe.network, "num_classes": cohort.scheme.num_classes})
    position, saved = run.load_state() or (Position(), {})
    if not resume:
        _write_beginning(run, configuration, cohort, device)
    watch.begin(system, cohort, recipe.stages, position)
    trainer = _Trainer(recipe, cohort, system, run, device, watch)
    for number in range(position.stage, len(recipe.stages)):
        trainer.run_stage(replace(position), saved)
        saved = {}
        position = Position(number + 1, 0, log=position.log, validation=position.validation)


@dataclass
class _Trainer:
    """What the stages of one training share."""

    recipe: Recipe
    cohort: Cohort
    system: System[Any]
    run: Run
    device: torch.device
    watch: Watch

    def run_stage(self, position: Position, saved: dict[str, Any]) -> None:
        """Trains stage `position.stage` from `position.epoch` on; checkpoints after every epoch.

        saved  states of the learners to go on with; empty at the stage's beginning, where a discriminator begins anew
        """
        from lightning.fabric import Fabric

        stage = self.recipe.stages[position.stage]
        system_parts = parts(self.recipe.system)
        fabric = Fabric(
            accelerator=self.device.type,
            devices=[self.device.index or 0] if self.device.type == "cuda" else 1,
            precision=self.recipe.precision,
        )
        seed = _seed(self.recipe.seed, position.stage)
        learners = self._learners(stage, seed)
        for name, state in saved.items():
            learners[name].load(state)
        losses = system_parts.objectives[stage.objective]
        objective, *optimisers = fabric.setup(
            Objective(losses, (each.network for each in learners.values())),
            *(each.optimiser for each in learners.values()),
        )
        minimise = dict(zip((each.loss for each in learners.values()), optimisers, strict=True))
        first_step = sum(s.steps for s in self.recipe.stages[: position.stage])
        with _tensorboard(self.run, first_step + position.epoch * stage.steps_per_epoch) as board:
            for epoch in range(position.epoch + 1, stage.epochs + 1):
                row = {"stage": stage.name, "epoch": epoch, "step": first_step + epoch * stage.steps_per_epoch}
                began = time.perf_counter()
                means = self._run_epoch(fabric, objective, minimise, stage, epoch, seed)
                rate = learners["system"].optimiser.param_groups[0]["lr"]
                row |= {"seconds": round(time.perf_counter() - began, 2), "learning_rate": rate}
                row |= {f"loss/{name}": value for name, value in means.items()}
                position.log.append(row)
                judged = self._validate(stage, epoch, position, system_parts.segmentation_losses)
                for learner in learners.values():
                    if stage.schedule != "plateau":
                        learner.schedule.step()
                    elif judged:
                        learner.schedule.step(judged.loss)
                position.epoch = epoch
                self._keep(stage, position, judged, learners)
                scores = judged.dice if judged else None
                _write_board(board, row, scores)
                self.watch.epoch(row, scores)

    def _learners(self, stage: Stage, seed: int) -> dict[str, Learner]:
        """The system, and the discriminator if the stage's objective has one, as they begin the stage."""
        learners = {"system": Learner.of(stage, "total", self.system)}
        make_discriminator = parts(self.recipe.system).discriminators.get(stage.objective)
        if make_discriminator:
            torch.manual_seed(_seed(seed, 0))  # steps count from 1
            discriminator = make_discriminator(self.system, stage.discriminator_width)
            learners["discriminator"] = Learner.of(stage, "discriminator", discriminator)
        if self.device.type == "cpu":
            # Convolutions of few channels go backward up to 2.5 times faster in this layout; values stay the same.
            for learner in learners.values():
                learner.network.to(memory_format=torch.channels_last_3d)  # type: ignore[call-overload]
        return learners

    def _run_epoch(
        self,
        fabric: Any,
        objective: nn.Module,
        minimise: dict[str, torch.optim.Optimizer],
        stage: Stage,
        epoch: int,
        seed: int,
    ) -> dict[str, float]:
        """One epoch of steps, in each of which every optimiser minimises its loss; returns each loss's mean."""
        objective.train()
        sums: dict[str, float] = defaultdict(float)
        first = (epoch - 1) * stage.steps_per_epoch
        workers = 0 if self.device.type == "cpu" else 4
        data = batches(self.cohort.training, stage, seed, first, stage.steps_per_epoch, workers)
        for step, batch in enumerate(data, start=1):
            torch.manual_seed(_seed(seed, first + step))
            named = objective(batch.to(self.device))
            for loss, optimiser in minimise.items():
                optimiser.zero_grad()
                fabric.backward(named[loss])
                if stage.optimiser.clip_norm:
                    fabric.clip_gradients(objective, optimiser, max_norm=stage.optimiser.clip_norm)
                optimiser.step()
            for name, value in named.items():
                sums[name] += value.item()
            if not all(math.isfinite(sums[loss]) for loss in minimise):
                raise RunError(
                    f"The loss is no finite number in epoch {epoch}, step {step}.",
                    "Lower the learning rate, as in --set optimiser.learning_rate=1e-4; finished epochs are kept.",
                )
            self.watch.step(stage, epoch, step, sums["total"] / step)
        return {name: value / stage.steps_per_epoch for name, value in sums.items()}

    def _validate(
        self, stage: Stage, epoch: int, position: Position, losses: Callable[[Tensor, Tensor], dict[str, Tensor]]
    ) -> Validation | None:
        """Judges the held-out cases if it is time to, and adds the scores to the position's record."""
        if not (self.cohort.validation and stage.validates_after(epoch)):
            return None
        overlap = self.recipe.window_overlap
        judged = validate(self.system, self.cohort.validation, stage.crop, overlap, losses, stage.single_subset)
        place = {key: position.log[-1][key] for key in ("stage", "epoch", "step")}
        position.validation += [place | {"region": region, "dice": value} for region, value in judged.dice.items()]
        return judged

    def _keep(
        self,
        stage: Stage,
        position: Position,
        judged: Validation | None,
        learners: dict[str, Learner],
    ) -> None:
        """Writes weights, best ones too, and all that resuming needs."""
        card = WeightsCard(
            system=self.recipe.system,
            network={**self.recipe.network, "num_classes": self.cohort.scheme.num_classes},
            preprocessing=self.recipe.preprocessing,
            window=stage.crop,
            window_overlap=self.recipe.window_overlap,
            label_scheme=self.cohort.scheme.name,
            trained_on=[case.name for case in self.cohort.training],
            origin=f"anymri train, stage {stage.name}",
        )
        weights = self.system.state_dict()
        if not self.cohort.validation or stage.validation_epochs is None:
            save_weights(self.run.best, weights, card, stage.frozen)
        elif judged and judged.dice["mean"] > position.best:
            position.best = judged.dice["mean"]
            save_weights(self.run.best, weights, card, stage.frozen)
        save_weights(self.run.last, weights, card, stage.frozen)
        self.run.save_state(position, **{name: learner.state() for name, learner in learners.items()})


def _seed(*numbers: int) -> int:
    """A seed of its own for each sequence of numbers."""
    return int(np.random.SeedSequence(numbers).generate_state(1)[0])


def make_optimiser(settings: Optimiser, network: nn.Module) -> torch.optim.Optimizer:
    """The optimiser that a recipe names, of the parameters that are not frozen; the first group has the main rate."""
    decay = settings.weight_decay
    by_rate: dict[float, list[nn.Parameter]] = {settings.learning_rate: []}
    for name, parameter in network.named_parameters():
        if parameter.requires_grad:
            rates = (rate for part, rate in settings.part_rates.items() if name.startswith(part))
            by_rate.setdefault(next(rates, settings.learning_rate), []).append(parameter)
    groups = [{"params": parameters, "lr": rate} for rate, parameters in by_rate.items()]
    if settings.name == "radam":
        return torch.optim.RAdam(groups, weight_decay=decay)
    if settings.name == "sgd":
        momentum = settings.momentum
        return torch.optim.SGD(groups, momentum=momentum, weight_decay=decay, nesterov=momentum > 0)
    kind = torch.optim.Adam if settings.name == "adam" else torch.optim.AdamW
    return kind(groups, weight_decay=decay, amsgrad=settings.amsgrad)


def make_schedule(stage: Stage, optimiser: torch.optim.Optimizer) -> Any:
    """The learning-rate schedule that a stage names; see `Stage.schedule`."""
    if stage.schedule == "plateau":
        return torch.optim.lr_scheduler.ReduceLROnPlateau(optimiser)
    factors: dict[str, Callable[[float], float]] = {
        "constant": lambda done: 1.0,
        "poly": lambda done: (1 - done) ** POLY_POWER,
        "cosine": lambda done: (1 + math.cos(math.pi * done)) / 2,
    }
    factor = factors[stage.schedule]
    return torch.optim.lr_scheduler.LambdaLR(optimiser, lambda epoch: factor(epoch / stage.epochs))


def _write_beginning(run: Run, configuration: TrainingConfiguration, cohort: Cohort, device: torch.device) -> None:
    output_folder(run.folder)
    write_json(run.split, cohort.split())
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
