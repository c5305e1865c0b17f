"""Where a training's curves are written for other programs to show."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from anymri.training.distributed import Team
from anymri.training.run import Run

if TYPE_CHECKING:
    from torch.utils.tensorboard.writer import SummaryWriter


class Boards:
    """TensorBoard, by process 0 alone. What an interrupted run wrote after `step`, where this goes on, is hidden."""

    def __init__(self, run: Run, team: Team, step: int) -> None:
        self.writers: list[SummaryWriter] = []
        if team.number == 0:
            from torch.utils.tensorboard.writer import SummaryWriter

            self.writers = [SummaryWriter(str(run.folder / "tensorboard"), purge_step=step + 1)]

    def __enter__(self) -> Boards:
        return self

    def __exit__(self, *exception: object) -> None:
        for writer in self.writers:
            writer.close()

    def write(self, row: dict[str, Any], scores: dict[str, float] | None) -> None:
        """An epoch's row of log.csv, and mean Dice by region if there was a validation."""
        curves = ("learning_rate", "patches_per_second", "data_wait")
        values = {name: value for name, value in row.items() if name.startswith("loss/") or name in curves}
        values |= {f"validation/dice_{region}": value for region, value in (scores or {}).items()}
        for writer in self.writers:
            for name, value in values.items():
                writer.add_scalar(name, value, row["step"])
            writer.flush()
