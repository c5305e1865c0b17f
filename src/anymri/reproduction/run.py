"""Work of a reproduction, in one folder; the same command continues it after an interruption.

plan.json              what is reproduced, and what it was measured to take
lists/                 cases to train on, to validate on and to test, and the test cohort as a CSV manifest
run/                   run folder of the training
evaluation-reference/  test as the system's authors do
evaluation-anymri/     test by the protocol that is the same for all systems
reproduction.html      the page
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

from anymri.errors import Interrupted, RunError
from anymri.evaluation.runner import evaluate
from anymri.files import is_unused, locked, read_text, write_json
from anymri.progress import Progress, silent
from anymri.reproduction.lists import list_files, write_lists
from anymri.reproduction.needs import Needs, measure
from anymri.reproduction.plan import Plan
from anymri.systems.protocol import ANYMRI, REFERENCE
from anymri.training.callbacks import TrainingCallback
from anymri.training.configuration import TrainingConfiguration
from anymri.training.engine import train as run_training
from anymri.training.run import Run

PROTOCOLS = (REFERENCE, ANYMRI)


@contextmanager
def begun(plan: Plan) -> Iterator[Needs]:
    """Hold the folder of a reproduction, write plan and lists at its beginning, and yield what the training takes.

    Raises `RunError` if the folder holds something else, or a reproduction of something else.
    """
    record = plan.output / "plan.json"
    with locked(plan.output):
        kept = _read(record)
        if kept is None and not is_unused(plan.output):
            raise RunError(
                f"{plan.output} is not empty and is not a reproduction.", "Choose a new or empty folder with -o."
            )
        settings = plan.settings()
        if kept is not None:
            differing = sorted(key for key in settings if kept["settings"].get(key) != settings[key])
            if differing:
                raise RunError(
                    f"{plan.output} holds a reproduction with other {', '.join(differing).replace('_', ' ')}.",
                    "Run the command that began it, or choose another folder with -o.",
                )
            needs = Needs(**kept["needs"])
        else:
            needs = measure(plan)
            write_lists(plan.output / "lists", plan.lists)
            write_json(record, {"settings": settings, "needs": asdict(needs)})
        yield needs


def configuration(plan: Plan) -> TrainingConfiguration:
    """Return the configuration of the training: that of a run that has begun, with the device and cache of the plan."""
    run, planned = Run(plan.run), plan.configuration
    if not run.config.exists():
        return planned
    return run.configuration().model_copy(update={"device": planned.device, "cache": planned.cache})


def train(plan: Plan, callback: TrainingCallback) -> None:
    """Train from the beginning, or from the last saved state; do nothing more where the training is finished."""
    try:
        run_training(configuration(plan), plan.run, callback, resume=Run(plan.run).config.exists())
    except Interrupted as stop:
        what = str(stop).splitlines()[0]
        raise Interrupted(f"{what}\nRun the same command again to continue.", stop.signal) from stop


def evaluate_by(plan: Plan, protocol: str, progress: Progress = silent) -> None:
    """Evaluate the best weights on the test cases; finished cases are kept."""
    cohort = list_files(plan.output / "lists", plan.lists)["manifest"]
    device = plan.configuration.device
    evaluate(plan.run, cohort, evaluation_folder(plan, protocol), None, device, progress, protocol=protocol)


def evaluation_folder(plan: Plan, protocol: str) -> Path:
    """Return the evaluation folder of a protocol."""
    return plan.output / f"evaluation-{protocol}"


def _read(record: Path) -> Mapping[str, Any] | None:
    """Return the content of plan.json; None if it does not exist. Raises `RunError` if it is damaged."""
    if not record.exists():
        return None
    try:
        kept = json.loads(read_text(record))
        return {"settings": dict(kept["settings"]), "needs": asdict(Needs(**kept["needs"]))}
    except (ValueError, LookupError, TypeError) as error:
        raise RunError(f"{record} is damaged.", "Restore it from a copy, or begin again in another folder.") from error
