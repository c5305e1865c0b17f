"""Receivers of a training's progress: the callback of the caller, TensorBoard and other loggers."""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from anymri.files import cannot_write

if TYPE_CHECKING:
    from anymri.systems.contract import System
    from anymri.systems.recipes.schema import Stage
    from anymri.training.cohort.find import Cohort
    from anymri.training.position import Position


class TrainingCallback:
    """Callback that receives the progress of a training and does nothing; override what you need.

    Each of several processes has its own.
    """

    def case(self, name: str, done: int, total: int) -> None:
        """Receive the name of a case before it is preprocessed, with the number of cases done and of all."""

    def begin(self, system: System[Any], cohort: Cohort, stages: list[Stage], position: Position) -> None:
        """Receive what is trained, before the first step; `position` is past the beginning in a resumed run."""

    def step(self, stage: Stage, epoch: int, step: int, loss: float) -> None:
        """Receive the mean loss of the epoch after each step; epochs and steps count from 1."""

    def epoch(self, row: dict[str, Any], validation: dict[str, float] | None) -> None:
        """Receive an epoch's row of log.csv, and mean Dice by region if there was a validation."""


class MetricLogger(Protocol):
    """Logger of Lightning's kind."""

    def log_metrics(self, metrics: Mapping[str, float], step: int) -> None:
        """Write the values of one step."""

    def finalize(self, status: str) -> None:
        """Close the logger; status: success or failed."""


@contextmanager
def metric_loggers(names: Sequence[str], folder: Path) -> Iterator[list[MetricLogger]]:
    """Yield the named loggers for the run in `folder`.

    Nothing leaves the machine unless MLFLOW_TRACKING_URI or WANDB_MODE=online is set in the environment.
    """
    loggers = _create_loggers(names, folder) if names else []
    status = "failed"
    try:
        yield loggers
        status = "success"
    finally:
        for logger in loggers:
            logger.finalize(status)


def _create_loggers(names: Sequence[str], folder: Path) -> list[MetricLogger]:
    from lightning.pytorch.loggers.mlflow import MLFlowLogger
    from lightning.pytorch.loggers.wandb import WandbLogger

    name, place = folder.absolute().name, str(folder.absolute())
    offline = os.environ.get("WANDB_MODE") != "online"
    store = os.environ.get("MLFLOW_TRACKING_URI", f"sqlite:///{place}/mlflow.db")
    factories: dict[str, Callable[[], MetricLogger]] = {
        "mlflow": lambda: MLFlowLogger("anymri", name, store, artifact_location=f"{place}/mlruns"),
        "wandb": lambda: WandbLogger(name, place, project="anymri", offline=offline),
    }
    return [factories[each]() for each in names]


class Curves:
    """Writer of a stage's curves to TensorBoard and other loggers.

    folder   run folder; None in all processes but the first, where nothing is written
    step     last step before the stage or, in a resumed run, before the interruption: later values are hidden
    loggers  see `metric_loggers`
    """

    def __init__(self, folder: Path | None, step: int, loggers: Sequence[MetricLogger]) -> None:
        self.loggers = loggers
        self.file: Path | None = None
        if folder is not None:
            self.file = folder / "tensorboard" / f"events.out.tfevents.{time.time_ns()}.{socket.gethostname()}"
            self._append([{"file_version": "brain.Event:2"}, {"step": step + 1, "session_log": {"status": "START"}}])

    def write(self, row: dict[str, Any], validation: dict[str, float] | None) -> None:
        """Write an epoch's row of log.csv, and mean Dice by region if there was a validation.

        Raises `OutputError` if the file of TensorBoard cannot be written.
        """
        curves = ("learning_rate", "patches_per_second", "data_wait")
        values = {name: value for name, value in row.items() if name.startswith("loss/") or name in curves}
        values |= {f"validation/dice_{region}": value for region, value in (validation or {}).items()}
        scalars = [{"tag": name, "simple_value": value} for name, value in values.items()]
        self._append([{"step": row["step"], "summary": {"value": scalars}}])
        for logger in self.loggers:
            logger.log_metrics(values, row["step"])

    def _append(self, events: Sequence[dict[str, Any]]) -> None:
        """Append events, as fields of TensorBoard's message, to the file.

        TensorBoard's own writer is not used, because its thread prints a traceback if the disk is full.
        """
        if self.file is None:
            return
        from tensorboard.compat.proto.event_pb2 import Event
        from tensorboard.summary.writer.record_writer import RecordWriter

        try:
            self.file.parent.mkdir(parents=True, exist_ok=True)
            with self.file.open("ab") as stream:
                for event in events:
                    RecordWriter(stream).write(Event(wall_time=time.time(), **event).SerializeToString())
        except OSError as error:
            raise cannot_write(self.file, error) from error
