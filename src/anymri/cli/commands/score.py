"""`anymri score`: metrics of the label maps of any tool."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from anymri.cli.evaluated import print_evaluation
from anymri.cli.options import Metrics, Output, comma_separated, complete_scheme
from anymri.cli.results.studies import Evaluated
from anymri.modalities import Subset


def score(
    predictions: Annotated[
        Path, typer.Argument(help="Folder of label maps; or of such folders, named by subset (T1c+FLAIR).")
    ],
    *,
    labels: Annotated[Path, typer.Option(help="Labelled cohort, or a folder of label maps.")],
    label_scheme: Annotated[
        str, typer.Option(help="Label scheme of the labels, e.g. brats2023.", autocompletion=complete_scheme)
    ],
    output: Output,
    prediction_scheme: Annotated[
        str | None, typer.Option(help="Label scheme of the predictions; default: that of the labels.")
    ] = None,
    name: Annotated[
        str | None, typer.Option(help="Name of the tool, for tables; default: the name of the folder.")
    ] = None,
    subset: Annotated[
        str, typer.Option(help="Subset that the predictions were made from, if folder names do not say it.")
    ] = "T1+T1c+T2+FLAIR",
    metrics: Metrics = None,
) -> Evaluated:
    """Score the label maps of any tool against labels.

    Writes the same folder as `anymri evaluate`, for the tables, plots and reports of both.
    """
    from anymri.cli.progress import progress_of
    from anymri.data.layouts import check_exists
    from anymri.files import check_writable
    from anymri.regions import label_scheme as find_scheme

    find_scheme(label_scheme)
    Subset.parse(subset)
    for place in (predictions, labels):
        check_exists(place)
    check_writable(output)
    from anymri.evaluation.metrics import DEFAULT
    from anymri.evaluation.scoring import score as score_predictions

    with progress_of("scoring") as progress:
        evaluation = score_predictions(
            predictions,
            labels,
            output,
            label_scheme,
            prediction_scheme,
            progress,
            name=name,
            subset=subset,
            metrics=comma_separated(metrics) if metrics else DEFAULT,
        )
    return print_evaluation(evaluation)
