"""What each of two processes does that test_distributed.py starts by torchrun, in a folder with a cohort.

Trainings that go well, one that a signal interrupts, and last one in which process 1 is killed.
"""

import os
import signal
import sys
from pathlib import Path

import torch

from anymri.errors import Interrupted, RunError
from anymri.training.engine import train
from anymri.training.launch import Launch
from anymri.training.learner import Learners
from small_runs import AtStep, Silent, configured

ONE_STEP = ("steps_per_epoch=1", "epochs=1", "validation_share=0")
SHASPEC = (*ONE_STEP, "crop=32", "network.width=2")
RA_HVED = (*ONE_STEP, "crop=32", "optimiser.clip_norm=1")


def keep_gradients(folder: Path) -> None:
    """Writes the gradients of every step that is taken from now on."""
    descend = Learners._descend
    steps = iter(range(1000))

    def keep(learners: Learners) -> None:
        gradients = {name: p.grad.clone() for name, p in learners.networks.named_parameters() if p.grad is not None}
        folder.mkdir(exist_ok=True)
        torch.save(gradients, folder / f"{next(steps)}.pt")
        descend(learners)

    Learners._descend = keep


def main(folder: Path) -> None:
    torch.set_num_threads(1)
    number = Launch.found().number

    def settings(*assignments, **kind):
        return configured(folder / "data", folder / "cache", *assignments, **kind)

    descend = Learners._descend
    for name, assignments in (("shaspec", SHASPEC), ("u_hved", ONE_STEP), ("ra_hved", RA_HVED)):
        keep_gradients(folder / f"{name}-gradients-{number}")
        train(settings(*assignments, system=name), folder / f"{name}-two", Silent())
        Learners._descend = descend

    train(settings(), folder / "whole", Silent())
    hears = AtStep(2, lambda: os.kill(os.getpid(), signal.SIGTERM))
    try:
        train(settings(), folder / "interrupted", hears if number == 1 else Silent())
    except Interrupted as stopped:
        (folder / f"stopped-{number}").write_text(str(stopped))
    train(settings(), folder / "interrupted", Silent(), resume=True)

    dies = AtStep(3, lambda: os.kill(os.getpid(), signal.SIGKILL))
    try:
        train(settings(), folder / "killed", dies if number == 1 else Silent())
    except RunError as error:
        (folder / "error").write_text(str(error))
        raise


if __name__ == "__main__":
    main(Path(sys.argv[1]))
