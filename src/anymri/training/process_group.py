"""Several processes that train one network, each on its share of every batch; with one process, nothing is sent."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from datetime import timedelta
from typing import TYPE_CHECKING, Any, TypeVar

import torch
from torch import Tensor, distributed, nn

from anymri.errors import ConfigurationError, RunError
from anymri.inference.device import pick_device
from anymri.systems.recipes.schema import Stage
from anymri.text import count
from anymri.training.launch import Launch

if TYPE_CHECKING:
    from lightning.fabric import Fabric
    from lightning.fabric.plugins.environments.cluster_environment import ClusterEnvironment

T = TypeVar("T")

# The other processes wait this long while process 0 validates.
LONGEST_WAIT = timedelta(hours=12)


class ProcessGroup:
    """The processes of one training, with Fabric for device and precision.

    rank    number of this process; rank 0 alone writes
    size    number of processes
    device  device of this process
    """

    def __init__(self, fabric: Fabric) -> None:
        self.fabric = fabric
        self.rank = fabric.global_rank
        self.size = fabric.world_size
        self.device = fabric.device

    @contextmanager
    def one_per_node_first(self) -> Iterator[None]:
        """Run the block in one process per node first, which fills what they share, then in the others."""
        with self.fabric.rank_zero_first(local=True):
            yield

    def mean(self, values: Sequence[float]) -> list[float]:
        """Return the mean of each value over the processes."""
        if self.size == 1:
            return list(values)
        with _communication():
            numbers = torch.tensor(values, dtype=torch.float32, device=self.device)
            means: list[float] = (_sum_over_processes(numbers) / self.size).tolist()
            return means

    def mean_by_name(self, named: dict[str, float]) -> dict[str, float]:
        """Return the mean of each named value over the processes; a name missing in one counts as zero there."""
        if self.size == 1:
            return named
        gathered: list[Any] = [None] * self.size
        with _communication():
            distributed.all_gather_object(gathered, named)
        sums: dict[str, float] = defaultdict(float)
        for each in gathered:
            for name, value in each.items():
                sums[name] += value / self.size
        return dict(sums)

    def broadcast(self, value: T) -> T:
        """Return the value of process 0 in every process."""
        with _communication():
            received: T = self.fabric.broadcast(value)
            return received

    def average_gradients(self, parameters: Iterable[nn.Parameter]) -> None:
        """Replace the gradients by their mean over the processes; one that is None in all of them stays None.

        Without torch's DistributedDataParallel, which allows one backward pass per forward pass: training against a
        discriminator has two. The networks are small beside their activations, so little time would be saved.
        """
        if self.size == 1:
            return
        trained = [parameter for parameter in parameters if parameter.requires_grad]
        exists = torch.tensor([float(p.grad is not None) for p in trained], device=self.device)
        gradients = [torch.zeros_like(p) if p.grad is None else p.grad for p in trained]
        with _communication():
            # One message, because many small ones take longer.
            total = _sum_over_processes(torch.cat([exists, *(gradient.flatten() for gradient in gradients)]))
        found, *means = torch.split(total / self.size, [len(exists), *(p.numel() for p in trained)])
        for p, gradient, mean, somewhere in zip(trained, gradients, means, found.tolist(), strict=True):
            if somewhere:
                p.grad = gradient.copy_(mean.view_as(gradient))


def start_process_group(device: str, precision: Any) -> ProcessGroup:
    """Return the group that this process was started in, one device per process.

    device     name of a device, see `anymri.inference.device.pick_device`
    precision  `Recipe.precision`, or another precision of Fabric; "bf16-if-fast" is decided by the device

    Raises `ConfigurationError` if the processes cannot have one device each.
    """
    from lightning.fabric import Fabric
    from lightning.fabric.strategies.ddp import DDPStrategy

    launch = Launch.from_environment()
    chosen = _device_of_process(device, launch)
    if precision == "bf16-if-fast":
        precision = "bf16-mixed" if _has_fast_bfloat16(chosen) else "32-true"
    fabric = Fabric(
        accelerator=chosen.type,
        devices=[chosen.index or 0] if chosen.type == "cuda" and launch.processes == 1 else launch.per_node,
        num_nodes=launch.nodes,
        strategy=DDPStrategy(timeout=LONGEST_WAIT) if launch.processes > 1 else "auto",
        precision=precision,
        plugins=[_environment(launch)],
    )
    with _communication():
        fabric.launch()
    return ProcessGroup(fabric)


def _has_fast_bfloat16(device: torch.device) -> bool:
    """Return whether a device has instructions for bfloat16; other CPUs emulate it and are slower than in float32."""
    if device.type == "cpu":
        return torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported()
    return device.type == "cuda"


def check_shares(stages: Sequence[Stage], processes: int) -> None:
    """Raise `ConfigurationError` if the processes cannot have equal shares of a batch."""
    for stage in stages:
        shares = processes * stage.accumulate
        for key, patches in (("batch_size", stage.batch_size), ("last_batch", stage.last_batch or 0)):
            if patches % shares:
                raise ConfigurationError(
                    f"{stage.name}.{key}={patches} cannot be divided into {count(shares, 'equal share')}: "
                    f"{count(processes, 'process', 'processes')} with accumulate={stage.accumulate}.",
                    f"Choose --set {stage.name}.{key}={math.ceil(patches / shares) * shares}, fewer processes or "
                    "another accumulate.",
                )


def _environment(launch: Launch) -> ClusterEnvironment:
    from lightning.fabric.plugins.environments.lightning import LightningEnvironment
    from lightning.fabric.plugins.environments.slurm import SLURMEnvironment
    from lightning.fabric.plugins.environments.torchelastic import TorchElasticEnvironment

    environments: dict[str, type[ClusterEnvironment]] = {
        "itself": LightningEnvironment,
        "torchrun": TorchElasticEnvironment,
        "slurm": SLURMEnvironment,
    }
    return environments[launch.by]()


def _device_of_process(name: str, launch: Launch) -> torch.device:
    chosen = pick_device(name)
    if launch.processes == 1:
        return chosen
    if chosen.type == "mps" or ":" in name:
        raise ConfigurationError(
            f"{launch.processes} processes cannot share the device {name}.",
            "Use --device cuda, with one GPU per process, or --device cpu.",
        )
    if chosen.type == "cuda" and torch.cuda.device_count() < launch.per_node:
        raise ConfigurationError(
            f"{launch.per_node} processes run on one machine, which shows {count(torch.cuda.device_count(), 'GPU')}.",
            "Start one process per GPU; under SLURM use --gpus-per-node, not --gpus-per-task.",
        )
    return torch.device(chosen.type, launch.local_rank) if chosen.type == "cuda" else chosen


def _sum_over_processes(values: Tensor) -> Tensor:
    distributed.all_reduce(values)
    return values


@contextmanager
def _communication() -> Iterator[None]:
    """Turn torch's errors about unreachable processes into a `RunError` that says what to do."""
    try:
        yield
    except RuntimeError as error:
        raise RunError(
            "Another process of this training has ended or cannot be reached.",
            "Read the error of that process, then start all processes again with --resume; saved states are kept.",
        ) from error
