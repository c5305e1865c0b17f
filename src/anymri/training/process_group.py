"""Several processes that train one network, each on its share of every batch; with one, all of this does nothing."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from datetime import timedelta
from typing import Any

import torch
from lightning.fabric import Fabric
from lightning.fabric.plugins.environments.cluster_environment import ClusterEnvironment
from lightning.fabric.plugins.environments.lightning import LightningEnvironment
from lightning.fabric.plugins.environments.slurm import SLURMEnvironment
from lightning.fabric.plugins.environments.torchelastic import TorchElasticEnvironment
from lightning.fabric.strategies.ddp import DDPStrategy
from torch import Tensor, distributed, nn

from anymri.errors import ConfigurationError, RunError
from anymri.inference.device import pick_device
from anymri.training.launch import Launch

# The others wait this long while process 0 validates.
LONGEST_WAIT = timedelta(hours=12)


class ProcessGroup:
    """The processes of one training, with Fabric for device and precision.

    number  of this process; 0 alone writes
    """

    def __init__(self, fabric: Fabric) -> None:
        self.fabric = fabric
        self.number = fabric.global_rank
        self.count = fabric.world_size
        self.device = fabric.device

    @contextmanager
    def one_a_node_first(self) -> Iterator[None]:
        """Lets one process of each node fill what they share before the others look at it."""
        with self.fabric.rank_zero_first(local=True):
            yield

    def mean(self, values: Sequence[float]) -> list[float]:
        """The mean over processes of each value."""
        if self.count == 1:
            return list(values)
        with _talking():
            numbers = torch.tensor(values, dtype=torch.float32, device=self.device)
            means: list[float] = (_summed(numbers) / self.count).tolist()
            return means

    def merged(self, named: dict[str, float]) -> dict[str, float]:
        """The mean over processes of each value, zero where a process has none of that name."""
        if self.count == 1:
            return named
        everyone: list[Any] = [None] * self.count
        with _talking():
            distributed.all_gather_object(everyone, named)
        sums: dict[str, float] = defaultdict(float)
        for each in everyone:
            for name, value in each.items():
                sums[name] += value / self.count
        return dict(sums)

    def told(self, value: Any) -> Any:
        """What process 0 gives, which the others wait for."""
        with _talking():
            return self.fabric.broadcast(value)

    def average_gradients(self, parameters: Iterable[nn.Parameter]) -> None:
        """Gives all processes the mean of their gradients; one that no process has stays none.

        By hand, because torch's DistributedDataParallel allows one backward pass per forward pass, and training against
        a discriminator has two. The networks are small beside their activations, so little time would be saved.
        """
        if self.count == 1:
            return
        learning = [parameter for parameter in parameters if parameter.requires_grad]
        exists = torch.tensor([float(p.grad is not None) for p in learning], device=self.device)
        gradients = [torch.zeros_like(p) if p.grad is None else p.grad for p in learning]
        with _talking():
            # In one message: many small ones take longer.
            summed = _summed(torch.cat([exists, *(gradient.flatten() for gradient in gradients)]))
        found, *means = torch.split(summed / self.count, [len(exists), *(p.numel() for p in learning)])
        for p, gradient, mean, somewhere in zip(learning, gradients, means, found.tolist(), strict=True):
            if somewhere:
                p.grad = gradient.copy_(mean.view_as(gradient))


def team(device: str, precision: Any) -> ProcessGroup:
    """The processes that this one was started among, on the device of that name; raises `ConfigurationError` if they
    cannot have one each."""
    launch = Launch.found()
    chosen = _own_device(device, launch)
    environments: dict[str, Callable[[], ClusterEnvironment]] = {
        "itself": LightningEnvironment,
        "torchrun": TorchElasticEnvironment,
        "slurm": SLURMEnvironment,
    }
    fabric = Fabric(
        accelerator=chosen.type,
        devices=[chosen.index or 0] if chosen.type == "cuda" and launch.count == 1 else launch.per_node,
        num_nodes=launch.nodes,
        strategy=DDPStrategy(timeout=LONGEST_WAIT) if launch.count > 1 else "auto",
        precision=precision,
        plugins=[environments[launch.by]()],
    )
    with _talking():
        fabric.launch()
    return ProcessGroup(fabric)


def _own_device(name: str, launch: Launch) -> torch.device:
    """The device of this process."""
    chosen = pick_device(name)
    if launch.count == 1:
        return chosen
    if chosen.type == "mps" or ":" in name:
        raise ConfigurationError(
            f"{launch.count} processes cannot share the device {name}.", "Use --device cuda, a GPU each, or cpu."
        )
    if chosen.type == "cuda" and torch.cuda.device_count() < launch.per_node:
        raise ConfigurationError(
            f"{launch.per_node} processes on one machine see {torch.cuda.device_count()} GPUs.",
            "Start one process a GPU; under SLURM let each see all (--gpus-per-node, not --gpus-per-task).",
        )
    return torch.device(chosen.type, launch.local) if chosen.type == "cuda" else chosen


def _summed(values: Tensor) -> Tensor:
    distributed.all_reduce(values)
    return values


@contextmanager
def _talking() -> Iterator[None]:
    """Says what it means when other processes cannot be heard."""
    try:
        yield
    except RuntimeError as error:
        raise RunError(
            "Another process of this training has ended or cannot be reached.",
            "Its own message says why; what was saved is kept: start all of them again with --resume.",
        ) from error
