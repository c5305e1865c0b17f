"""Launch of this process: alone, or as one of several that torchrun or SLURM's srun started."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from anymri.errors import ConfigurationError


@dataclass(frozen=True)
class Launch:
    """Position of this process among those of one training.

    by          what started the processes
    rank        number of this process over all nodes; rank 0 alone writes and prints
    local_rank  number of this process on its node
    per_node    processes per node
    nodes       number of machines
    """

    by: Literal["itself", "torchrun", "slurm"] = "itself"
    rank: int = 0
    local_rank: int = 0
    per_node: int = 1
    nodes: int = 1

    @property
    def processes(self) -> int:
        """Number of processes on all nodes."""
        return self.per_node * self.nodes

    @classmethod
    def from_environment(cls, environment: Mapping[str, str] = os.environ) -> Launch:
        """Return the launch that the environment variables of torchrun and srun describe."""
        if "TORCHELASTIC_RUN_ID" in environment:
            names = ("RANK", "LOCAL_RANK", "LOCAL_WORLD_SIZE", "WORLD_SIZE")
            rank, local_rank, per_node, processes = (int(environment[name]) for name in names)
            return cls("torchrun", rank, local_rank, per_node, processes // per_node)
        # A batch script has the variables of its job's tasks too, but only srun starts one process per task.
        processes = int(environment.get("SLURM_STEP_NUM_TASKS", 1))
        if processes == 1:
            return cls()
        if "SLURM_NTASKS_PER_NODE" not in environment:
            raise ConfigurationError(
                f"srun started {processes} processes and does not say how many per node.",
                "Give --ntasks-per-node, as many as GPUs, instead of --ntasks.",
            )
        names = ("SLURM_PROCID", "SLURM_LOCALID", "SLURM_NTASKS_PER_NODE", "SLURM_NNODES")
        return cls("slurm", *(int(environment[name]) for name in names))
