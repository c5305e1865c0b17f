"""What each of two processes does that test_distributed.py starts by torchrun, in a folder with a cohort.

Trainings that go well, one that a signal interrupts, and last one in which process 1 is killed.
"""

import os
import signal
import sys
from pathlib import Path

import torch

from anymri.errors import Interrupted, RunError
from anymri.systems.u_hved import recipe as u_hved
from anymri.training.engine import train
from anymri.training.launch import Launch
from anymri.training.learner import Learners
from small_runs import AtStep, Silent, configured

ONE_STEP = ("steps_per_epoch=1", "epochs=1", "validation_share=0")
# Two patches a process at least: torch's convolution of a single one rounds in another way, and norms of few voxels
# amplify that.
MEANS = (*ONE_STEP, "network.reconstruction=true", "crop=32", "batch_size=4")
GAME = (*ONE_STEP, "crop=32", "optimiser.clip_norm=1")


def means_over_samples(system, batch):
    """An objective of U-HVED whose loss is a mean over samples, without noise: a Dice is summed over the batch."""
    system.draw_noise = torch.zeros_like
    prediction = system.decode(system.encode(batch.images, batch.present), batch.available, reconstruct=True)
    cross_entropy = u_hved.segmentation_losses(prediction.probabilities(), batch.labels)["ce"]
    return {"total": cross_entropy + (prediction.reconstruction - batch.images).square().mean()}


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

    descend, published = Learners._descend, u_hved.OBJECTIVES["train"]
    u_hved.OBJECTIVES["train"] = means_over_samples
    for name, system, assignments in (
        ("means", "u_hved", MEANS),
        ("u_hved", "u_hved", ONE_STEP),
        ("game", "ra_hved", GAME),
    ):
        keep_gradients(folder / f"{name}-gradients-{number}")
        train(settings(*assignments, system=system), folder / f"{name}-two", Silent())
        Learners._descend, u_hved.OBJECTIVES["train"] = descend, published

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
