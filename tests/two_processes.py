"""Trainings of each of the two processes that test_process_group.py starts by torchrun, in a folder with a cohort.

Undisturbed trainings first, then one that a signal interrupts, and last one in which process 1 is killed.
"""

import os
import signal
import sys
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import torch

from anymri.errors import Interrupted, RunError
from anymri.systems import registry
from anymri.systems.losses import StepLoss
from anymri.systems.u_hved import recipe as u_hved
from anymri.training.engine import train
from anymri.training.launch import Launch
from anymri.training.learner import Learners
from small_runs import AtStep, Recorder, configured

# SGD, because the first step of Adam has the length of the rate even where a gradient is zero up to rounding.
ONE_STEP = ("steps_per_epoch=1", "epochs=1", "validation_share=0", "optimiser.name=sgd")
MEANS = (*ONE_STEP, "network.reconstruction=true")
# Without dropout, which may drop all channels of a stem: norms of constant maps amplify the rounding of gradients.
ADVERSARIAL = (*ONE_STEP, "crop=32", "network.dropout=0", "optimiser.clip_norm=1", "discriminator_width=4")


def means_over_samples(system, batch):
    """Objective of U-HVED whose loss is a mean over samples, without noise: a Dice is summed over the batch."""
    system.draw_noise = torch.zeros_like
    prediction = system.decode(system.encode(batch.images, batch.present), batch.available, reconstruct=True)
    cross_entropy = u_hved.segmentation_losses(prediction.probabilities(), batch.labels)["ce"]
    return StepLoss(cross_entropy + (prediction.reconstruction - batch.images).square().mean(), {"ce": cross_entropy})


def in_float64(objective):
    """Objective that computes in float64: sums in different orders then agree to many digits."""

    def compute(system, batch, *discriminator):
        networks = [network.double() for network in (system, *discriminator)]
        return objective(networks[0], replace(batch, images=batch.images.double()), *networks[1:])

    return compute


@contextmanager
def gradients_in_float64(folder: Path, system: str, objective=None):
    """Write the gradients of every step to `folder`, computed in float64 and by another objective if one is given."""
    objectives = registry.spec(system).objectives
    before, update = dict(objectives), Learners._update_weights
    folder.mkdir()

    def keep(learners: Learners) -> None:
        gradients = {name: p.grad.clone() for name, p in learners.networks.named_parameters() if p.grad is not None}
        torch.save(gradients, folder / f"{len(list(folder.iterdir()))}.pt")
        update(learners)

    Learners._update_weights = keep
    objectives.update({name: in_float64(objective or each) for name, each in before.items()})
    try:
        yield
    finally:
        Learners._update_weights = update
        objectives.update(before)


def main(folder: Path) -> None:
    """Run all trainings of this process."""
    torch.set_num_threads(1)
    rank = Launch.from_environment().rank

    def settings(*assignments, **kind):
        return configured(folder / "data", folder / "cache", *assignments, **kind)

    for name, system, objective, assignments in (
        ("means", "u_hved", means_over_samples, MEANS),
        ("u_hved", "u_hved", None, ONE_STEP),
        ("adversarial", "ra_hved", None, ADVERSARIAL),
    ):
        with gradients_in_float64(folder / f"{name}-gradients-{rank}", system, objective):
            train(settings(*assignments, system=system), folder / f"{name}-two", Recorder())

    train(settings(), folder / "whole", Recorder())
    interrupts = AtStep(2, lambda: os.kill(os.getpid(), signal.SIGTERM))
    try:
        train(settings(), folder / "interrupted", interrupts if rank == 1 else Recorder())
    except Interrupted as stopped:
        (folder / f"stopped-{rank}").write_text(str(stopped))
    train(settings(), folder / "interrupted", Recorder(), resume=True)

    dies = AtStep(3, lambda: os.kill(os.getpid(), signal.SIGKILL))
    try:
        train(settings(), folder / "killed", dies if rank == 1 else Recorder())
    except RunError as error:
        (folder / "error").write_text(str(error))
        raise


if __name__ == "__main__":
    main(Path(sys.argv[1]))
