"""`anymri train`: a run folder with weights."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer

from anymri.cli.console import console
from anymri.cli.options import Assignments, Output, complete_scheme, complete_system, complete_weights
from anymri.cli.results.studies import Training
from anymri.cli.settings import settings
from anymri.errors import ConfigurationError


def train(
    system: Annotated[
        str | None,
        typer.Argument(
            help="Name of a system; list: anymri systems. Not needed with --resume.", autocompletion=complete_system
        ),
    ] = None,
    *,
    output: Output,
    data: Annotated[
        Path | None, typer.Option(help="Cohort: a folder or a CSV manifest; or synthetic: brains made in training.")
    ] = None,
    label_scheme: Annotated[
        str | None, typer.Option(help="Meaning of the label values, e.g. brats2023.", autocompletion=complete_scheme)
    ] = None,
    recipe: Annotated[
        str | None, typer.Option(help="Recipe of the system, e.g. reference, nano; default: corrected.")
    ] = None,
    config: Annotated[Path | None, typer.Option(help="YAML file with changes of the recipe.")] = None,
    assignments: Assignments = None,
    initial_weights: Annotated[
        Path | None,
        typer.Option(
            help="Weights to begin with: a file, a run folder or an installed name.", autocompletion=complete_weights
        ),
    ] = None,
    device: Annotated[str | None, typer.Option(help="Device: auto, cpu, cuda, cuda:1, mps; default: auto.")] = None,
    cache: Annotated[
        Path | None,
        typer.Option(help="Folder of preprocessed cases; default: patches in $ANYMRI_CACHE or the user's cache."),
    ] = None,
    loggers: Annotated[
        list[str] | None, typer.Option("--logger", help="Logger beside TensorBoard: mlflow or wandb; repeatable.")
    ] = None,
    loss: Annotated[
        str | None, typer.Option(metavar="MODULE:FUNCTION", help="Loss of your own in place of that of the recipe.")
    ] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Continue the run in the output folder.")] = False,
) -> Training:
    """Train a system on a cohort.

    Weights are written to OUTPUT/checkpoints/best.safetensors and last.safetensors. Ctrl-C keeps what is done.
    """
    from anymri.extras import need
    from anymri.files import check_writable

    if system is None and not resume:
        raise ConfigurationError("A system was not named.", "Name one, as in: anymri train u_hved; see: anymri systems")
    _check(system, recipe, data, label_scheme, config, initial_weights, device, loggers or [])
    check_writable(output)
    need("train", "lightning", "monai", "tensorboard", purpose="Training")
    from anymri.training.configuration import path_options, resolve
    from anymri.training.launch import Launch
    from anymri.training.own_loss import find_loss, name_of
    from anymri.training.run import Run

    settings.follows = Launch.from_environment().rank > 0
    run = Run(output)
    if resume:
        config = config or (None if recipe else run.config)
    else:
        run.check_new()
    system = system or run.configuration().recipe.system
    paths = path_options(data, cache, initial_weights)
    options = {**paths, "label_scheme": label_scheme, "device": device, "loggers": loggers or None}
    own = None if loss is None else find_loss(loss)
    options["loss"] = None if own is None else name_of(own)
    configuration = resolve(system, recipe, options, config, assignments or [])
    console.print(configuration.to_yaml(), soft_wrap=True)

    from anymri.cli.progress import TrainingProgress
    from anymri.training.engine import train as run_training

    with TrainingProgress(console) as callback:
        run_training(configuration, output, callback, resume, callback.expect, own)
    weights = run.best if run.best.exists() else run.last
    console.print(f"Weights: {weights}", soft_wrap=True)
    return Training(output, weights, callback.validation)


def _check(
    system: str | None,
    recipe: str | None,
    data: Path | None,
    label_scheme: str | None,
    config: Path | None,
    initial_weights: Path | None,
    device: str | None,
    loggers: Sequence[str],
) -> None:
    """Raise the error of an option that names something unknown or absent."""
    from anymri.cli.checks import check_computation, check_loggers, check_system, check_weights
    from anymri.data.layouts import check_exists
    from anymri.regions import label_scheme as find_scheme

    if system is not None:
        check_system(system, recipe)
    if data is not None and str(data) != "synthetic":
        check_exists(data)
    if label_scheme is not None:
        find_scheme(label_scheme)
    if config is not None and not config.is_file():
        raise ConfigurationError(
            f"{config} does not exist or is not a file.",
            "Check the path; to write such a file: anymri recipe SYSTEM > FILE",
        )
    check_weights([] if initial_weights is None else [initial_weights])
    check_computation(device or "auto")
    check_loggers(loggers)
