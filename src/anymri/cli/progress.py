"""Progress: a bar on a terminal, lines in a file or pipe, events for other programs."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from rich.progress import BarColumn, Progress, TaskID, TaskProgressColumn, TextColumn, TimeRemainingColumn

from anymri.cli.console import PlainConsole, console, stderr
from anymri.cli.logs import event
from anymri.cli.outcome import plain
from anymri.cli.settings import settings
from anymri.text import count, duration, visible
from anymri.training.callbacks import TrainingCallback

if TYPE_CHECKING:
    from anymri.systems.contract import System
    from anymri.systems.recipes.schema import Stage
    from anymri.training.cohort.find import Cohort
    from anymri.training.estimate import Estimate
    from anymri.training.position import Position


# Seconds between two events, or lines, of the steps of a training.
_SECONDS_PER_EVENT, _SECONDS_PER_LINE = 0.5, 60.0


def _bar(console: PlainConsole) -> Progress:
    return Progress(
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        TaskProgressColumn(),
        TextColumn("{task.fields[note]}", markup=False),
        TimeRemainingColumn(),
        console=console,
        transient=True,
        disable=not console.is_terminal or console.is_silent,
    )


@contextmanager
def progress_of(what: str, seconds_per_line: float = 0) -> Iterator[Callable[[str, int, int], None]]:
    """Yield a callback of (name of the next item, items done, all items).

    It draws a bar on a terminal, prints one line per item otherwise, and writes events with --json.

    what              the step, as "evaluating"
    seconds_per_line  least time between two lines
    """
    if settings.as_json:
        yield lambda name, done, total: event("progress", step=what, name=name, done=done, total=total)
    elif console.is_terminal and not console.is_silent:
        with _bar(console) as bar:
            task = bar.add_task(what, total=None, note="")
            yield lambda name, done, total: bar.update(
                task, completed=done, total=total, note=f"{done}/{total} {visible(name)}"
            )
    else:
        yield _lines(what, seconds_per_line)


def _lines(what: str, seconds_per_line: float) -> Callable[[str, int, int], None]:
    """Return a callback that prints a line per item, with the time left once one item is done."""
    began, printed = time.monotonic(), float("-inf")

    def line(name: str, done: int, total: int) -> None:
        nonlocal printed
        now = time.monotonic()
        if (name or done < total) and now - printed >= seconds_per_line:
            printed = now
            left = f" ({duration((now - began) / done * (total - done))} left)" if done else ""
            stderr.print(f"{what} {done}/{total} {name}".rstrip() + left, soft_wrap=True)

    return line


@contextmanager
def working(what: str) -> Iterator[None]:
    """Show that one step of unknown length is being worked on."""
    if settings.as_json:
        event("progress", step=what, name="", done=0, total=1)
        yield
        event("progress", step=what, name="", done=1, total=1)
    elif console.is_terminal and not console.is_silent:
        with console.status(what):
            yield
    else:
        stderr.print(what)
        yield


class TrainingProgress(TrainingCallback):
    """Training callback that shows progress on the terminal.

    Work is measured in voxels, not steps, because the steps of one stage may cost many times those of another.

    validation  the last validation: region -> mean Dice; None before the first
    """

    def __init__(self, console: PlainConsole) -> None:
        self.console = console
        self.bar = _bar(console)
        self.cases: TaskID | None = None
        self.lines = _lines("preparing", _SECONDS_PER_EVENT)
        self.training: TaskID | None = None
        self.began = 0.0
        self.total = self.done = self.done_before = 0
        self.before: dict[str, int] = {}
        self.reported = 0.0
        self.validation: dict[str, float] | None = None

    def __enter__(self) -> TrainingProgress:
        self.bar.start()
        return self

    def __exit__(self, *exception: object) -> None:
        self.bar.stop()

    def case(self, name: str, done: int, total: int) -> None:
        """Show that a case is being preprocessed."""
        if settings.as_json:
            event("progress", step="preparing", name=name, done=done, total=total)
        elif self.bar.disable:
            self.lines(name, done, total)
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
            f"{type(system).__name__}, {parameters:,} parameters; {count(len(cohort.training), 'case')} to train on, "
            f"{len(cohort.validation)} to validate on; {count(steps, 'step')} to go."
        )
        if not cohort.validation:
            self.console.print("Validation cases: none, so best.safetensors equals last.safetensors.")
        self.began = self.reported = time.monotonic()

    def step(self, stage: Stage, epoch: int, step: int, loss: float) -> None:
        """Move the bar after a step."""
        assert self.training is not None
        # From the beginning, because a stage may end early.
        self.done = self.before[stage.name]
        self.done += ((epoch - 1) * stage.steps_per_epoch + step) * stage.voxels_per_step
        where = f"{visible(stage.name)} epoch {epoch}/{stage.epochs} step {step}/{stage.steps_per_epoch}"
        self.bar.update(self.training, completed=self.done, note=f"{where} loss {loss:.3f}")
        elapsed = time.monotonic() - self.reported
        if settings.as_json and elapsed > _SECONDS_PER_EVENT:
            event("progress", step="training", name=where, done=self.done, total=self.total, loss=loss)
        elif self.bar.disable and elapsed > _SECONDS_PER_LINE:
            self.console.print(f"{where} loss {loss:.3f}", soft_wrap=True)
        else:
            return
        self.reported = time.monotonic()

    def epoch(self, row: dict[str, Any], validation: dict[str, float] | None) -> None:
        """Print the losses, the validation and the speed of an epoch."""
        self.validation = validation or self.validation
        if settings.as_json:
            event("epoch", **plain(row), validation=plain(validation))
        worked = max(self.done - self.done_before, 1)  # zero if only a validation remained
        left = (time.monotonic() - self.began) / worked * (self.total - self.done)
        dice = "".join(f"  {region} {value:.3f}" for region, value in (validation or {}).items())
        line = f"{row['stage']} epoch {row['epoch']}: loss {row['loss/total']:.4f}"
        speed = f"{row['patches_per_second']:.3g} patches/s, {row['data_wait']:.0%} waiting for data"
        self.console.print(f"{line}{'  Dice' + dice if dice else ''}  ({speed}; {duration(left)} left)")
