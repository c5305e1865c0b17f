"""Where a training's curves are written for other programs to show."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from anymri.errors import ConfigurationError
from anymri.training.process_group import ProcessGroup
from anymri.training.run import Run

if TYPE_CHECKING:
    from torch.utils.tensorboard.writer import SummaryWriter


@contextmanager
def loggers(names: Sequence[str], folder: Path) -> Iterator[list[Any]]:
    """Loggers of Fabric's kind by name, for the run in `folder`; raises `ConfigurationError` if one is not installed.

    Nothing leaves the machine unless the logger's own variables ask for it: MLFLOW_TRACKING_URI, WANDB_MODE=online.
    """
    made = _make_loggers(names, folder) if names else []
    status = "failed"
    try:
        yield made
        status = "success"
    finally:
        for logger in made:
            logger.finalize(status)


def _make_loggers(names: Sequence[str], folder: Path) -> list[Any]:
    from lightning.pytorch.loggers.mlflow import MLFlowLogger
    from lightning.pytorch.loggers.wandb import WandbLogger

    name, place = folder.absolute().name, str(folder.absolute())
    offline = os.environ.get("WANDB_MODE") != "online"
    store = os.environ.get("MLFLOW_TRACKING_URI", f"sqlite:///{place}/mlflow.db")
    makers: dict[str, Callable[[], Any]] = {
        "mlflow": lambda: MLFlowLogger("anymri", name, store, artifact_location=f"{place}/mlruns"),
        "wandb": lambda: WandbLogger(name, place, project="anymri", offline=offline),
    }
    made = []
    for each in names:
        try:
            made.append(makers[each]())
        except ModuleNotFoundError as error:
            raise ConfigurationError(
                f"The logger {each} is not installed.", f"Install it: pip install 'anymri[{each}]'"
            ) from error
    return made


class Boards:
    """TensorBoard by process 0 alone, and other loggers.

    step  where an interrupted run goes on: what TensorBoard was told after it is hidden
    """

    def __init__(self, run: Run, team: ProcessGroup, step: int, others: Sequence[Any]) -> None:
        self.others = others
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
        for logger in self.others:
            logger.log_metrics(values, row["step"])
