"""`anymri export`: weights or a cohort in the formats of other programs."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from anymri.cli.console import console
from anymri.cli.options import Output, complete_scheme, complete_weights
from anymri.cli.results.systems import Exported


def export(
    source: Annotated[
        Path,
        typer.Argument(
            help="Weights (run folder, file or installed name); for nnunet and bids a cohort, for bids also results.",
            autocompletion=complete_weights,
        ),
    ],
    *,
    output: Output,
    to: Annotated[
        str, typer.Option(help="Format: onnx, openvino, bundle, huggingface of weights; nnunet, bids of a cohort.")
    ] = "onnx",
    label_scheme: Annotated[
        str | None, typer.Option(help="Label scheme of a cohort, e.g. brats2023.", autocompletion=complete_scheme)
    ] = None,
    subset: Annotated[str | None, typer.Option(help="Channels for nnunet, e.g. T1c+FLAIR; default: all four.")] = None,
) -> Exported:
    """Export weights or a cohort to other programs.

    Weights become graphs (docs/performance.md), a bundle of MONAI or a repository of Hugging Face; a cohort becomes a
    data set of nnU-Net or derivatives of BIDS (docs/bridges.md).
    """
    from anymri.errors import ConfigurationError
    from anymri.export.formats import NNUNET, OF_COHORTS, check_folder, check_format
    from anymri.files import check_writable

    check_format(to)
    if subset is not None and to != NNUNET:
        raise ConfigurationError(f"--subset is for nnunet, not for {to}.", "Leave it out.")
    if label_scheme is not None and to not in OF_COHORTS:
        raise ConfigurationError("--label-scheme is for a cohort.", "Leave it out.")
    if to in OF_COHORTS:
        from anymri.cli.export import export_cohort

        check_folder(output, to)
        check_writable(output)
        return export_cohort(source, output, to, label_scheme, subset)
    from anymri.cli.checks import check_weights
    from anymri.cli.progress import working
    from anymri.graphs.formats import FORMATS, check_export

    if to in FORMATS:
        check_export(output, to)
    else:
        check_folder(output, to)
    check_weights([source])
    check_writable(output)
    from anymri.cli.export import export_weights

    with working(f"exporting to {to}"):
        folder, readme = export_weights(source, output, to)
    console.print(f"{readme}", soft_wrap=True)
    return Exported(folder, to, sorted(path for path in folder.rglob("*") if path.is_file()))
