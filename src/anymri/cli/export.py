"""Export of weights and cohorts on the command line, one function per kind of source."""

from __future__ import annotations

from pathlib import Path

from anymri.cli.console import console
from anymri.cli.progress import progress_of
from anymri.cli.results.systems import Exported
from anymri.errors import ConfigurationError
from anymri.export.formats import BUNDLE, HUGGINGFACE, NNUNET
from anymri.text import count


def export_weights(weights: Path, output: Path, to: str) -> tuple[Path, Path]:
    """Export weights to a format; return the folder, and the file in it that describes it."""
    if to == BUNDLE:
        from anymri.export.bundle import export_bundle

        folder = export_bundle(weights, output)
        return folder, folder / "docs" / "README.md"
    if to == HUGGINGFACE:
        from anymri.export.huggingface import export_huggingface

        folder = export_huggingface(weights, output)
    else:
        from anymri.graphs.folder import export_weights as export_graphs

        folder = export_graphs(weights, output, to)
    return folder, folder / "README.md"


def export_cohort(source: Path, output: Path, to: str, label_scheme: str | None, subset: str | None) -> Exported:
    """Export a cohort to a format, and print what was written."""
    from anymri.data.layouts import check_exists
    from anymri.modalities import ALL, Subset
    from anymri.regions import label_scheme as find_scheme

    check_exists(source)
    scheme = None if label_scheme is None else find_scheme(label_scheme)
    channels = ALL if subset is None else Subset.parse(subset)
    with progress_of("exporting", seconds_per_line=5) as progress:
        if to == NNUNET:
            from anymri.export.nnunet import export_nnunet

            if scheme is None:
                raise ConfigurationError(
                    "nnU-Net needs to know what the label values mean.",
                    "Name the scheme of the cohort with --label-scheme, for example brats2023.",
                )
            made = export_nnunet(source, output, scheme, channels, progress)
            console.print(
                f"{count(len(made.training), 'case')} with labels, {len(made.test)} without, "
                f"{len(made.left_out)} left out.",
                soft_wrap=True,
            )
            cases, left_out = [*made.training, *made.test], list(made.left_out)
        else:
            from anymri.export.bids import export_bids

            _, names = export_bids(source, output, scheme, progress)
            console.print(f"{count(len(names), 'label map')}.")
            cases, left_out = list(names), []
    console.print(f"{output}", soft_wrap=True)
    return Exported(output, to, sorted(path for path in output.iterdir() if path.is_file()), cases, left_out)
