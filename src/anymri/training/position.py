"""Position of a training: what is finished."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from anymri.systems.recipes.stage import Stage


@dataclass
class Position:
    """Position of a training: what is finished, with the log so far.

    There is no random state in it: every step seeds itself from its number.

    stage, epoch, step  number of finished stages, of this stage's epochs and of this epoch's steps
    sums                this epoch's losses, summed over its steps
    seconds, waited     duration of these steps, and of that, waiting for data
    best, worse         highest mean Dice of this stage's validations, and the number of validations since
    best_epoch          number of finished epochs at the best weights
    repeated            number of epochs by which this stage is longer, because it began with the best weights of the
                        stage before, which are that much older than its last; see `Stage.begins`
    log, validation     rows of log.csv and validation.csv
    split               checksum of the split that is trained on
    """

    stage: int = 0
    epoch: int = 0
    step: int = 0
    sums: dict[str, float] = field(default_factory=dict)
    seconds: float = 0.0
    waited: float = 0.0
    best: float = float("-inf")
    worse: int = 0
    best_epoch: int = 0
    repeated: int = 0
    log: list[dict[str, Any]] = field(default_factory=list)
    validation: list[dict[str, Any]] = field(default_factory=list)
    split: str = ""

    @property
    def counted(self) -> int:
        """Number of finished epochs by the stage's count, negative while it repeats those after the best weights."""
        return self.epoch - self.repeated

    def next_stage(self, stages: Sequence[Stage]) -> Position:
        """Return the position at the beginning of the stage after this one, the first of `stages`, from its end."""
        repeated = self.epoch - self.best_epoch if stages and stages[0].begins == "best" else 0
        return Position(self.stage + 1, repeated=repeated, log=self.log, validation=self.validation, split=self.split)
