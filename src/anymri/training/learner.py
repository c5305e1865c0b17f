"""What learns in a stage: networks with their optimisers and schedules, and one step of all of them."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from anymri.errors import RunError
from anymri.systems import registry
from anymri.systems.batch import Batch
from anymri.systems.contract import System
from anymri.systems.recipes.schema import Optimiser, Stage
from anymri.training.process_group import ProcessGroup

POLY_POWER = 0.9
BY_STEP = "poly_by_step"
RATE_DECIMALS = 8


@dataclass
class Learner:
    """A network in training with its optimiser and schedule."""

    network: nn.Module
    optimiser: torch.optim.Optimizer
    schedule: Any

    @classmethod
    def of(cls, stage: Stage, network: nn.Module) -> Learner:
        """A learner at the stage's beginning."""
        for name, parameter in network.named_parameters():
            parameter.requires_grad_(not name.startswith(stage.frozen))
        optimiser = make_optimiser(stage.optimiser, network)
        return cls(network, optimiser, make_schedule(stage, optimiser))

    def state(self) -> dict[str, Any]:
        """What `load` needs to go on exactly."""
        return {name: getattr(self, name).state_dict() for name in ("network", "optimiser", "schedule")}

    def load(self, state: dict[str, Any]) -> None:
        """Goes on from a `state`."""
        for name, value in state.items():
            getattr(self, name).load_state_dict(value)


class Learners:
    """The system, and the discriminator if the stage's objective has one, from the stage's beginning or `saved` on.

    seed  of the stage: a discriminator's first weights and every step's randomness follow from it
    """

    def __init__(
        self, team: ProcessGroup, name: str, system: System[Any], stage: Stage, seed: int, saved: dict[str, Any]
    ) -> None:
        self.team = team
        self.stage = stage
        self.seed = seed
        self.objective = registry.spec(name).objectives[stage.objective]
        # Convolutions of few channels go backward up to 2.5 times faster in this layout; values stay the same.
        layout: dict[str, Any] = {"memory_format": torch.channels_last_3d} if team.device.type == "cpu" else {}
        self.each = {"system": Learner.of(stage, system.to(team.device, **layout))}
        make_discriminator = registry.spec(name).discriminators.get(stage.objective)
        if make_discriminator:
            torch.manual_seed(seed_of(seed, 0))  # steps count from 1
            discriminator = make_discriminator(system, stage.discriminator_width).to(team.device, **layout)
            self.each["discriminator"] = Learner.of(stage, discriminator)
        for learner, state in saved.items():
            if learner == "precision":
                team.fabric.strategy.precision.load_state_dict(state)
            else:
                self.each[learner].load(state)
        self.networks = nn.ModuleList(each.network for each in self.each.values())
        self.optimisers: list[Any] = [team.fabric.setup_optimizers(each.optimiser) for each in self.each.values()]

    @property
    def minimised(self) -> tuple[str, ...]:
        """Names of the losses that optimisers minimise, see `StepLoss.named`."""
        return ("total", "discriminator")[: len(self.each)]

    @property
    def rate(self) -> float:
        """The system's main learning rate."""
        rate: float = self.each["system"].optimiser.param_groups[0]["lr"]
        return rate

    def state(self) -> dict[str, Any]:
        """What goes on from here as `saved`."""
        precision = self.team.fabric.strategy.precision.state_dict()
        return {name: each.state() for name, each in self.each.items()} | {"precision": precision}

    def step(self, batches: Sequence[Batch], number: int) -> dict[str, float]:
        """Step `number` of the stage, in which every optimiser minimises its loss; returns the losses' means.

        batches  the parts of this process's share. The gradient is the mean over all parts of all processes, each with
                 randomness of its own
        """
        sums: dict[str, Tensor] = defaultdict(lambda: torch.zeros((), device=self.team.device))
        try:
            for optimiser in self.optimisers:
                optimiser.zero_grad()
            for part, batch in enumerate(batches, start=self.team.number * len(batches)):
                torch.manual_seed(seed_of(self.seed, number, part))
                # Not as a module of Fabric's: that would round the images to half precision, targets among them.
                with self.team.fabric.autocast():
                    loss = self.objective(self.networks[0], batch.to(self.team.device), *self.networks[1:])
                # The loss of one network leaves no gradient in the other.
                self.team.fabric.backward(loss.total / len(batches))
                if loss.discriminator is not None:
                    self.team.fabric.backward(loss.discriminator / len(batches))
                for name, value in loss.named().items():
                    sums[name] += value.detach() / len(batches)
        except RuntimeError as error:
            if isinstance(error, torch.OutOfMemoryError) or "can't allocate memory" in str(error):
                raise _no_memory(self.stage, self.team.device) from error
            raise
        self.team.average_gradients(self.networks.parameters())
        for name, parameter in self.networks[0].named_parameters():
            if (
                parameter.requires_grad
                and parameter.grad is None
                and name.startswith(self.stage.optimiser.zero_gradient_updates)
            ):
                parameter.grad = torch.zeros_like(parameter)
        self._descend()
        if self.stage.schedule == BY_STEP:
            self._advance_schedules()
        values = torch.stack(list(sums.values())).tolist()  # all at once: each look makes a GPU wait
        return dict(zip(sums, values, strict=True))

    def _descend(self) -> None:
        if norm := self.stage.optimiser.clip_norm:
            for optimiser in self.optimisers:
                self.team.fabric.clip_gradients(self.networks, optimiser, max_norm=norm)
        scaler = getattr(self.team.fabric.strategy.precision, "scaler", None)
        if scaler is None:
            for optimiser in self.optimisers:
                optimiser.step()
            return
        # By hand: Fabric would change the scale after each optimiser, and the next one's gradients have the old.
        for optimiser in self.optimisers:
            scaler.step(optimiser.optimizer)
        scaler.update()

    def end_epoch(self, judged_loss: float | None) -> None:
        """Lets schedules go on; judged_loss: of the validation, if there was one."""
        if self.stage.schedule == "plateau":
            if judged_loss is not None:
                self._advance_schedules(judged_loss)
        elif self.stage.schedule != BY_STEP:
            self._advance_schedules()

    def _advance_schedules(self, *judged_loss: float) -> None:
        for each in self.each.values():
            each.schedule.step(*judged_loss)


def seed_of(*numbers: int) -> int:
    """A seed of its own for each sequence of numbers (zeros at its end do not count)."""
    return int(np.random.SeedSequence(numbers).generate_state(1)[0])


def make_optimiser(settings: Optimiser, network: nn.Module) -> torch.optim.Optimizer:
    """The optimiser that a recipe names, of the parameters that are not frozen; the first group has the main rate."""
    decay = settings.weight_decay
    by_rate: dict[float, list[nn.Parameter]] = {settings.learning_rate: []}
    for name, parameter in network.named_parameters():
        if parameter.requires_grad:
            rates = (rate for part, rate in settings.module_rates.items() if name.startswith(part))
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
    rate = stage.optimiser.learning_rate
    factors: dict[str, Callable[[float], float]] = {
        "constant": lambda done: 1.0,
        "poly": lambda done: (1 - done) ** POLY_POWER,
        BY_STEP: lambda done: (1 - done) ** POLY_POWER,
        "poly_rounded": lambda done: round(rate * (1 - done) ** POLY_POWER, RATE_DECIMALS) / rate,
        "cosine": lambda done: (1 + math.cos(math.pi * done)) / 2,
    }
    factor = factors[stage.schedule]
    total = stage.steps if stage.schedule == BY_STEP else stage.epochs
    return torch.optim.lr_scheduler.LambdaLR(optimiser, lambda number: factor(number / total))


def _no_memory(stage: Stage, device: torch.device) -> RunError:
    return RunError(
        f"A step of stage {stage.name} needs more memory than {device} has free.",
        f"Take a batch in parts (--set {stage.name}.accumulate={stage.batch_size}), or smaller patches "
        f"(--set {stage.name}.crop=...); what was saved is kept.",
    )
