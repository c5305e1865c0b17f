"""A loss of the caller in place of the objectives of a system.

It comes from the caller of a training alone: a run records its name, and code is never imported because of what a run,
a card or a recipe says.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from importlib import import_module
from typing import Any, cast

from torch import Tensor

from anymri.errors import ConfigurationError, RunError
from anymri.systems.batch import Batch
from anymri.systems.contract import System
from anymri.systems.losses import StepLoss
from anymri.systems.spec import Objective, SystemSpec

# Takes the system and the batch of a step, and returns its losses, or the total alone.
Loss = Callable[[System[Any], Batch], StepLoss | Tensor]


def find_loss(loss: Loss | str) -> Loss:
    """Return the function that "package.module:function" names, or the function itself.

    Raises `ConfigurationError` if it cannot be imported.
    """
    if not isinstance(loss, str):
        return loss
    module, _, name = loss.partition(":")
    try:
        found = getattr(import_module(module), name)
    except (ImportError, AttributeError, ValueError) as error:
        raise ConfigurationError(
            f"The loss {loss!r} cannot be imported: {error}.",
            "Give package.module:function of an installed package, or of a folder in PYTHONPATH.",
        ) from error
    if not callable(found):
        raise ConfigurationError(f"The loss {loss!r} is not a function.", "Give a function of a system and a batch.")
    return cast("Loss", found)


def name_of(loss: Loss) -> str:
    """Return the name under which a run records a loss."""
    kind = loss if hasattr(loss, "__qualname__") else type(loss)
    return f"{kind.__module__}:{kind.__qualname__}"


def missing_loss(name: str | None) -> RunError:
    """Return the error of a run with a loss of the caller that is not given again, or with another one."""
    return RunError(
        f"The run was started with the loss {name}, which it never imports by itself.",
        "Give it again: --loss package.module:function, or loss=... in Python.",
    )


def with_loss(spec: SystemSpec, loss: Loss) -> SystemSpec:
    """Return a system whose objectives are all replaced by a loss, without discriminators."""

    def objective(system: System[Any], batch: Batch) -> StepLoss:
        found = loss(system, batch)
        if isinstance(found, Tensor):
            found = StepLoss(found, {})
        if not isinstance(found, StepLoss) or found.total.ndim or found.discriminator is not None:
            raise ConfigurationError(
                f"The loss {name_of(loss)} does not return a scalar tensor or a StepLoss without a discriminator.",
                "Return the mean over the batch, as in: return StepLoss(total, {'dice': dice})",
            )
        return found

    objectives: dict[str, Objective] = dict.fromkeys(spec.objectives, objective)
    return replace(spec, objectives=objectives, discriminators={})
