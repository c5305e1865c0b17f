"""Training steps of a stage: networks with their optimisers and schedules, and one step of all of them."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel

from anymri.errors import RunError
from anymri.systems.batch import Batch
from anymri.systems.contract import System
from anymri.systems.recipes.schema import Optimiser, Stage
from anymri.systems.spec import SystemSpec
from anymri.training.process_group import ProcessGroup

POLY_POWER = 0.9
BY_STEP = ("poly_by_step", "warm_cosine_by_step")
WARM_UP_STEPS = 20
RATE_DECIMALS = 8


@dataclass
class Learner:
    """Network in training with its optimiser and schedule.

    average  moving average of its weights, see `Stage.averaging`; None without one
    """

    network: nn.Module
    optimiser: torch.optim.Optimizer
    schedule: Any
    average: AveragedModel | None = None

    @classmethod
    def of(cls, stage: Stage, network: nn.Module, repeated: int = 0) -> Learner:
        """Return a learner at the beginning of the stage; parameters of frozen modules get no gradients.

        repeated  see `make_schedule`
        """
        for name, parameter in network.named_parameters():
            parameter.requires_grad_(not name.startswith(stage.frozen))
        optimiser = make_optimiser(stage.optimiser, network)
        average = None
        if stage.averaging is not None:
            average = AveragedModel(network, multi_avg_fn=partial(move_average, stage.averaging))
        return cls(network, optimiser, make_schedule(stage, optimiser, repeated), average)

    def state(self) -> dict[str, Any]:
        """Return the states of network, optimiser and schedule, with which `load` continues exactly."""
        names = ("network", "optimiser", "schedule", *(("average",) if self.average else ()))
        return {name: getattr(self, name).state_dict() for name in names}

    def load(self, state: dict[str, Any]) -> None:
        """Continue from a `state`."""
        for name, value in state.items():
            getattr(self, name).load_state_dict(value)

    def begin_with(self, state: dict[str, Any]) -> None:
        """Begin with the network of a `state` and what its optimiser has accumulated, at this stage's rates."""
        self.network.load_state_dict(state["network"])
        rates = self.optimiser.state_dict()["param_groups"]
        self.optimiser.load_state_dict({"state": state["optimiser"]["state"], "param_groups": rates})


class Learners:
    """Learners of one stage: the system, and the discriminator if the objective of the stage has one.

    They are at the beginning of the stage, or as in `saved`.

    group     processes that train together
    spec      the system's objectives and discriminators
    seed      seed of the stage: the discriminator's initialisation and the randomness of every step follow from it
    saved     what `state` returned, or empty
    repeated  see `make_schedule`
    """

    def __init__(
        self,
        group: ProcessGroup,
        spec: SystemSpec,
        system: System[Any],
        stage: Stage,
        seed: int,
        saved: dict[str, Any],
        repeated: int = 0,
    ) -> None:
        self.group = group
        self.stage = stage
        self.seed = seed
        self.objective = spec.objectives[stage.objective]
        # Backward passes of convolutions of few channels are up to 2.5 times faster in this layout; same values.
        layout: dict[str, Any] = {"memory_format": torch.channels_last_3d} if group.device.type == "cpu" else {}
        self.each = {"system": Learner.of(stage, system.to(group.device, **layout), repeated)}
        make_discriminator = spec.discriminators.get(stage.objective)
        if make_discriminator:
            torch.manual_seed(seed_of(seed, 0))  # steps count from 1
            discriminator = make_discriminator(system, stage.discriminator_width).to(group.device, **layout)
            self.each["discriminator"] = Learner.of(stage, discriminator, repeated)
        for learner, state in saved.items():
            if learner == "precision":
                group.fabric.strategy.precision.load_state_dict(state)
            else:
                self.each[learner].load(state)
        self.networks = nn.ModuleList(each.network for each in self.each.values())
        self.optimisers: list[Any] = [group.fabric.setup_optimizers(each.optimiser) for each in self.each.values()]

    @property
    def minimised(self) -> tuple[str, ...]:
        """Names of the losses that the optimisers minimise, see `StepLoss.named`."""
        return ("total", "discriminator")[: len(self.each)]

    @property
    def trained(self) -> System[Any]:
        """The system to validate and save: with averaged weights, where the stage averages them."""
        learner = self.each["system"]
        network = learner.network if learner.average is None else learner.average.module
        assert isinstance(network, System)
        return network

    @property
    def rate(self) -> float:
        """Main learning rate of the system."""
        rate: float = self.each["system"].optimiser.param_groups[0]["lr"]
        return rate

    def state(self) -> dict[str, Any]:
        """Return all states, with which new learners continue exactly as `saved`."""
        precision = self.group.fabric.strategy.precision.state_dict()
        return {name: each.state() for name, each in self.each.items()} | {"precision": precision}

    def step(self, batches: Sequence[Batch], number: int) -> dict[str, float]:
        """Take step `number` of the stage with every optimiser and return the means of the losses by name.

        batches  the micro-batches of this process; the gradient is the mean over the micro-batches of all processes,
                 each of which has its own seed
        number   number of the step in the stage, from 1
        """
        sums: dict[str, Tensor] = {}
        try:
            for optimiser in self.optimisers:
                optimiser.zero_grad()
            for micro_batch, batch in enumerate(batches, start=self.group.rank * len(batches)):
                torch.manual_seed(seed_of(self.seed, number, micro_batch))
                # Not as a module of Fabric's, which would round images and targets to half precision.
                with self.group.fabric.autocast():
                    loss = self.objective(self.networks[0], batch.to(self.group.device), *self.networks[1:])
                # The loss of one network has no gradient in the other.
                self.group.fabric.backward(loss.total / len(batches))
                if loss.discriminator is not None:
                    self.group.fabric.backward(loss.discriminator / len(batches))
                for name, value in loss.named().items():
                    # At least float32, because losses may be of half precision.
                    mean = value.detach().to(torch.promote_types(value.dtype, torch.float32)) / len(batches)
                    sums[name] = sums[name] + mean if name in sums else mean
        except RuntimeError as error:
            if isinstance(error, torch.OutOfMemoryError) or "can't allocate memory" in str(error):
                raise _out_of_memory(self.stage, self.group.device) from error
            raise
        self.group.average_gradients(self.networks.parameters())
        for name, parameter in self.networks[0].named_parameters():
            if (
                parameter.requires_grad
                and parameter.grad is None
                and name.startswith(self.stage.optimiser.zero_gradient_updates)
            ):
                parameter.grad = torch.zeros_like(parameter)
        self._update_weights()
        for each in self.each.values():
            if each.average is not None:
                each.average.update_parameters(each.network)
        if self.stage.schedule in BY_STEP:
            self._advance_schedules()
        values = torch.stack(list(sums.values())).tolist()  # all at once, because each transfer makes a GPU wait
        return dict(zip(sums, values, strict=True))

    def _update_weights(self) -> None:
        if norm := self.stage.optimiser.clip_norm:
            for optimiser in self.optimisers:
                self.group.fabric.clip_gradients(self.networks, optimiser, max_norm=norm)
        scaler = getattr(self.group.fabric.strategy.precision, "scaler", None)
        if scaler is None:
            for optimiser in self.optimisers:
                optimiser.step()
            return
        # Not by Fabric, which would change the scale after each optimiser: the gradients of the next have the old one.
        for optimiser in self.optimisers:
            scaler.step(optimiser.optimizer)
        scaler.update()

    def end_epoch(self, validation_loss: float | None) -> None:
        """Advance the schedules that count epochs or validations.

        validation_loss  mean segmentation loss of the validation after this epoch; None without one
        """
        if self.stage.schedule == "plateau":
            if validation_loss is not None:
                self._advance_schedules(validation_loss)
        elif self.stage.schedule not in BY_STEP:
            self._advance_schedules()

    def _advance_schedules(self, *validation_loss: float) -> None:
        for each in self.each.values():
            each.schedule.step(*validation_loss)


def move_average(decay: float, averages: Sequence[Tensor], weights: Sequence[Tensor], number: object) -> None:
    """Move averages towards weights, in place; called by torch with the number of averaged steps, which is not used."""
    for average, weight in zip(averages, weights, strict=True):
        average.lerp_(weight, 1 - decay)


def seed_of(*numbers: int) -> int:
    """Return a seed that differs between sequences of numbers (zeros at the end do not count)."""
    return int(np.random.SeedSequence(numbers).generate_state(1)[0])


def make_optimiser(settings: Optimiser, network: nn.Module) -> torch.optim.Optimizer:
    """Return the optimiser that a recipe names, for the parameters that are not frozen.

    The first parameter group has the main learning rate.
    """
    decay = settings.weight_decay
    by_rate: dict[float, list[nn.Parameter]] = {settings.learning_rate: []}
    for name, parameter in network.named_parameters():
        if parameter.requires_grad:
            rates = (rate for prefix, rate in settings.module_rates.items() if name.startswith(prefix))
            by_rate.setdefault(next(rates, settings.learning_rate), []).append(parameter)
    groups = [{"params": parameters, "lr": rate} for rate, parameters in by_rate.items()]
    betas = (0.9, settings.second_moment)
    if settings.name == "radam":
        return torch.optim.RAdam(groups, betas=betas, weight_decay=decay)
    if settings.name == "sgd":
        momentum = settings.momentum
        return torch.optim.SGD(groups, momentum=momentum, weight_decay=decay, nesterov=momentum > 0)
    kind = torch.optim.Adam if settings.name == "adam" else torch.optim.AdamW
    return kind(groups, betas=betas, weight_decay=decay, amsgrad=settings.amsgrad)


def make_schedule(stage: Stage, optimiser: torch.optim.Optimizer, repeated: int = 0) -> Any:
    """Return the learning-rate schedule that a stage names; see `Stage.schedule`.

    repeated  number of epochs by which the stage is longer: the schedule begins so much earlier
    """
    if stage.schedule == "plateau":
        return torch.optim.lr_scheduler.ReduceLROnPlateau(optimiser)
    rate = stage.optimiser.learning_rate
    factors: dict[str, Callable[[float], float]] = {
        "constant": lambda done: 1.0,
        "poly": lambda done: (1 - done) ** POLY_POWER,
        "poly_by_step": lambda done: (1 - done) ** POLY_POWER,
        "poly_rounded": lambda done: round(rate * (1 - done) ** POLY_POWER, RATE_DECIMALS) / rate,
        "cosine": lambda done: (1 + math.cos(math.pi * done)) / 2,
        "warm_cosine_by_step": lambda done: (
            min(1, (done * stage.steps + 1) / WARM_UP_STEPS) * (1 + math.cos(math.pi * done)) / 2
        ),
    }
    factor = factors[stage.schedule]
    unit = stage.steps_per_epoch if stage.schedule in BY_STEP else 1
    first, total = repeated * unit, stage.epochs * unit
    return torch.optim.lr_scheduler.LambdaLR(optimiser, lambda number: factor((number - first) / total))


def _out_of_memory(stage: Stage, device: torch.device) -> RunError:
    return RunError(
        f"A step of stage {stage.name} needs more memory than {device} has free.",
        f"Divide a batch into micro-batches (--set {stage.name}.accumulate={stage.batch_size}), or take smaller "
        f"patches (--set {stage.name}.crop=...). What was saved is kept.",
    )
