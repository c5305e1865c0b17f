"""`anymri evaluate`: metrics of weights on a cohort."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from anymri.cli.console import print_lane
from anymri.cli.evaluated import print_evaluation
from anymri.cli.options import Device, Lane, Output, WeightsArgument, comma_separated
from anymri.cli.results.studies import Evaluated
from anymri.errors import ConfigurationError, check_known
from anymri.modalities import SUBSETS, Subset
from anymri.systems.protocol import PROTOCOLS


def evaluate(
    weights: WeightsArgument,
    *,
    data: Annotated[Path, typer.Option(help="Labelled cohort: a folder or a CSV manifest.")],
    output: Output,
    label_scheme: Annotated[
        str | None, typer.Option(help="Label scheme of the cohort; default: that of the weights.")
    ] = None,
    subsets: Annotated[
        str | None, typer.Option(help="Comma-separated subsets, e.g. T1c+FLAIR,FLAIR; default: all 15.")
    ] = None,
    metrics: Annotated[
        str | None, typer.Option(help="Comma-separated metric names; default: those of the protocol.")
    ] = None,
    protocol: Annotated[
        str, typer.Option(help="How it is tested: anymri, or reference, as the system's authors test.")
    ] = "anymri",
    device: Device = "auto",
    lane: Lane = "torch",
) -> Evaluated:
    """Evaluate weights on a cohort, for all 15 subsets.

    Writes metrics.csv and the table of 15 rows. The same command continues an interrupted evaluation.
    """
    from anymri.cli.checks import check_computation, check_metrics, check_weights
    from anymri.cli.progress import progress_of, working
    from anymri.data.layouts import check_exists
    from anymri.files import check_writable
    from anymri.regions import label_scheme as find_scheme

    chosen = SUBSETS if subsets is None else read_subsets(subsets)
    named = comma_separated(metrics) if metrics else None
    check_computation(device, lane)
    check_known("protocol", protocol, PROTOCOLS)
    check_weights([weights])
    check_exists(data)
    check_writable(output)
    if label_scheme is not None:
        find_scheme(label_scheme)
    check_metrics(named)
    from anymri.evaluation.runner import evaluate as run_evaluation
    from anymri.inference.segmenter import Segmenter

    with working("loading the weights"):
        segmenter = Segmenter.load(weights, device, lane)
    print_lane(lane, segmenter)
    with progress_of("evaluating") as progress:
        evaluation = run_evaluation(
            segmenter,
            data,
            output,
            label_scheme,
            progress=progress,
            subsets=chosen,
            metrics=named,
            protocol=protocol,
        )
    return print_evaluation(evaluation)


def read_subsets(text: str) -> list[Subset]:
    """Return comma-separated subsets, as in `T1c+FLAIR,FLAIR`, in the order of the tables."""
    wanted = {Subset.parse(word) for word in comma_separated(text)}
    if not wanted:
        raise ConfigurationError("--subsets is empty.", "Name some of the 15, as in --subsets T1c+FLAIR,FLAIR")
    return [subset for subset in SUBSETS if subset in wanted]
