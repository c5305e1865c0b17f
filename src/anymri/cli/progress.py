"""Progress on the terminal: a bar on a screen, one line per epoch in a log file too."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TaskProgressColumn, TextColumn, TimeRemainingColumn

from anymri.text import duration, visible
from anymri.training.callbacks import TrainingCallback

if TYPE_CHECKING:
    from anymri.systems.contract import System
    from anymri.systems.recipes.schema import Stage
    from anymri.training.cohort.find import Cohort
    from anymri.training.estimate import Estimate
    from anymri.training.position import Position


def _bar(console: Console) -> Progress:
    return Progress(
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        TaskProgressColumn(),
        TextColumn("{task.fields[note]}", markup=False),
        TimeRemainingColumn(),
        console=console,
        transient=True,
    )


@contextmanager
def case_progress(console: Console, what: str) -> Iterator[Callable[[str, int, int], None]]:
    """Yield a callback of (case, done, total) that draws a bar with the remaining time."""
    with _bar(console) as bar:
        task = bar.add_task(what, total=None, note="")

        def show(name: str, done: int, total: int) -> None:
            bar.update(task, completed=done, total=total, note=f"{done}/{total} {visible(name)}")

        yield show


class TrainingProgress(TrainingCallback):
    """Training callback that shows progress on the terminal.

    Work is measured in voxels, not steps, because the steps of one stage may cost many times those of another.
    """

    def __init__(self, console: Console) -> None:
        self.console = console
        self.bar = _bar(console)
        self.cases: TaskID | None = None
        self.training: TaskID | None = None
        self.began = 0.0
        self.total = self.done = self.done_before = 0
        self.before: dict[str, int] = {}

    def __enter__(self) -> TrainingProgress:
        self.bar.start()
        return self

    def __exit__(self, *exception: object) -> None:
        self.bar.stop()

    def case(self, name: str, done: int, total: int) -> None:
        """Show that a case is being preprocessed."""
        if self.cases is None:
            self.cases = self.bar.add_task("preparing", total=total, note="")
        self.bar.update(self.cases, completed=done, note=f"{done}/{total} {visible(name)}", visible=done < total)

    def expect(self, estimate: Estimate) -> None:
        """Print what the training will need, as measured on this machine."""
        if estimate.seconds:
            memory = f", {estimate.memory / 1e9:.1f} GB of memory" if estimate.memory else ""
            self.console.print(f"Expected: {duration(estimate.seconds)} of steps, without validation{memory}.")

    def begin(self, system: System[Any], cohort: Cohort, stages: list[Stage], position: Position) -> None:
        """Print the size of the training and start the bar."""
        for stage in stages:
            self.before[stage.name] = self.total
            self.total += stage.steps * stage.voxels_per_step
        current = stages[position.stage]
        taken = position.counted * current.steps_per_epoch + position.step
        self.done = self.done_before = self.before[current.name] + taken * current.voxels_per_step
        steps = sum(s.steps for s in stages[position.stage :]) - taken
        self.training = self.bar.add_task("training", total=self.total, completed=self.done, note="")
        parameters = sum(p.numel() for p in system.parameters())
        self.console.print(
            f"{type(system).__name__}, {parameters:,} parameters; {len(cohort.training)} cases to train on, "
            f"{len(cohort.validation)} to validate on; {steps} steps to go."
        )
        if not cohort.validation:
            self.console.print("Validation cases: none, so best.safetensors equals last.safetensors.")
        self.began = time.monotonic()

    def step(self, stage: Stage, epoch: int, step: int, loss: float) -> None:
        """Move the bar after a step."""
        assert self.training is not None
        # From the beginning, because a stage may end early.
        self.done = self.before[stage.name]
        self.done += ((epoch - 1) * stage.steps_per_epoch + step) * stage.voxels_per_step
        where = f"{visible(stage.name)} epoch {epoch}/{stage.epochs} step {step}/{stage.steps_per_epoch}"
        self.bar.update(self.training, completed=self.done, note=f"{where} loss {loss:.3f}")

    def epoch(self, row: dict[str, Any], validation: dict[str, float] | None) -> None:
        """Print the losses, the validation and the speed of an epoch."""
        worked = max(self.done - self.done_before, 1)  # zero if only a validation remained
        left = (time.monotonic() - self.began) / worked * (self.total - self.done)
        dice = "".join(f"  {region} {value:.3f}" for region, value in (validation or {}).items())
        line = f"{row['stage']} epoch {row['epoch']}: loss {row['loss/total']:.4f}"
        speed = f"{row['patches_per_second']:.3g} patches/s, {row['data_wait']:.0%} waiting for data"
        self.console.print(f"{line}{'  Dice' + dice if dice else ''}  ({speed}; {duration(left)} left)")
