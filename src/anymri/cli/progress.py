"""Progress on the terminal: a bar where someone watches, a line an epoch or case in a log file too."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeRemainingColumn

if TYPE_CHECKING:
    from anymri.systems.base import System
    from anymri.systems.recipes import Stage
    from anymri.training.cohort import Cohort
    from anymri.training.run import Position


def _bar(console: Console) -> Progress:
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[note]}"),
        TimeRemainingColumn(),
        console=console,
        transient=True,
    )


@contextmanager
def case_progress(console: Console, what: str) -> Iterator[Callable[[str, int, int], None]]:
    """A callback of (case, done, total) that draws a bar with the time left."""
    with _bar(console) as bar:
        task = bar.add_task(what, total=None, note="")

        def show(name: str, done: int, total: int) -> None:
            bar.update(task, completed=done, total=total, note=name)

        yield show


class TrainingProgress:
    """Shows a training as `anymri.training.engine.Watch` tells it."""

    def __init__(self, console: Console) -> None:
        self.console = console
        self.bar = _bar(console)
        self.cases: TaskID | None = None
        self.steps: TaskID | None = None
        self.began = 0.0
        self.steps_before = 0
        self.total = 0

    def __enter__(self) -> TrainingProgress:
        self.bar.start()
        return self

    def __exit__(self, *exception: object) -> None:
        self.bar.stop()

    def case(self, name: str, done: int, total: int) -> None:
        if self.cases is None:
            self.cases = self.bar.add_task("preparing", total=total, note="")
        self.bar.update(self.cases, completed=done, note=name, visible=done < total)

    def begin(self, system: System[Any], cohort: Cohort, stages: list[Stage], position: Position) -> None:
        self.total = sum(stage.epochs * stage.steps_per_epoch for stage in stages)
        self.steps_before = sum(stage.epochs * stage.steps_per_epoch for stage in stages[: position.stage])
        self.steps_before += position.epoch * stages[position.stage].steps_per_epoch
        self.steps = self.bar.add_task("training", total=self.total, completed=self.steps_before, note="")
        parameters = sum(p.numel() for p in system.parameters())
        self.console.print(
            f"{type(system).__name__}, {parameters:,} parameters; {len(cohort.training)} cases to train on, "
            f"{len(cohort.validation)} to validate on; {self.total - self.steps_before} steps to go."
        )
        if not cohort.validation:
            self.console.print("No case is held out for validation, so best.safetensors equals last.safetensors.")
        self.began = time.monotonic()

    def step(self, stage: Stage, epoch: int, step: int, loss: float) -> None:
        assert self.steps is not None
        self.bar.update(self.steps, advance=1, note=f"epoch {epoch}/{stage.epochs} loss {loss:.3f}")

    def epoch(self, row: dict[str, Any], validation: dict[str, float] | None) -> None:
        elapsed = time.monotonic() - self.began
        left = elapsed / (row["step"] - self.steps_before) * (self.total - row["step"])
        dice = "".join(f"  {region} {value:.3f}" for region, value in (validation or {}).items())
        line = f"{row['stage']} epoch {row['epoch']}: loss {row['loss/total']:.4f}"
        self.console.print(f"{line}{'  Dice' + dice if dice else ''}  ({left:.0f} s left)")
