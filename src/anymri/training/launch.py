"""How this process was started: alone, or as one of several by torchrun or SLURM's srun."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from anymri.errors import ConfigurationError


@dataclass(frozen=True)
class Launch:
    """by        what started the processes
    number    this process, counted over all nodes; number 0 alone writes and prints
    local     this process, counted on its node
    per_node  processes on each node
    nodes     how many machines
    """

    by: Literal["itself", "torchrun", "slurm"] = "itself"
    number: int = 0
    local: int = 0
    per_node: int = 1
    nodes: int = 1

    @property
    def count(self) -> int:
        """Processes of all nodes."""
        return self.per_node * self.nodes

    @classmethod
    def found(cls, environment: Mapping[str, str] = os.environ) -> Launch:
        """As the environment variables of torchrun and srun say."""
        if "TORCHELASTIC_RUN_ID" in environment:
            names = ("RANK", "LOCAL_RANK", "LOCAL_WORLD_SIZE", "WORLD_SIZE")
            number, local, per_node, count = (int(environment[name]) for name in names)
            return cls("torchrun", number, local, per_node, count // per_node)
        # A batch script knows of its job's tasks too, but only srun starts one process for each.
        count = int(environment.get("SLURM_STEP_NUM_TASKS", 1))
        if count == 1:
            return cls()
        if "SLURM_NTASKS_PER_NODE" not in environment:
            raise ConfigurationError(
                f"srun started {count} processes without saying how many on each node.",
                "Give --ntasks-per-node, as many as GPUs, instead of --ntasks.",
            )
        names = ("SLURM_PROCID", "SLURM_LOCALID", "SLURM_NTASKS_PER_NODE", "SLURM_NNODES")
        return cls("slurm", *(int(environment[name]) for name in names))
