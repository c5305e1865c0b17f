"""`anymri plot`: every plot of evaluations as files."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from anymri.cli.console import console
from anymri.cli.options import Evaluations, Output, Quote
from anymri.cli.results.studies import Plots
from anymri.text import count


def plot(
    evaluations: Evaluations,
    *,
    output: Output,
    quote: Quote = None,
) -> Plots:
    """Draw every plot of evaluations, as PNG and SVG.

    Heat maps, Dice by number of modalities, contribution of each modality, every case, reliability.
    """
    from anymri.cli.progress import working
    from anymri.extras import need

    need("report", "pandas", "matplotlib", purpose="Drawing plots")
    with working("drawing"):
        files = write_plots(evaluations, output, quote or [])
    names = ", ".join(sorted({file.stem for file in files}))
    console.print(f"{count(len(files) // 2, 'plot')} in {output}: {names}", soft_wrap=True)
    return Plots(output, files)


def write_plots(evaluations: Sequence[Path], output: Path, quoted: Sequence[str]) -> list[Path]:
    """Write every plot that the evaluations allow as PNG and SVG, and return the files."""
    from anymri.analysis.published import quote
    from anymri.analysis.reading import read_evaluations
    from anymri.files import output_folder
    from anymri.report.figures import save
    from anymri.report.plots import all_plots

    published = [quote(name) for name in quoted]
    found = read_evaluations(evaluations)
    output_folder(output)
    return [file for each in all_plots(found, published) for file in save(each.figure, output / each.name)]
