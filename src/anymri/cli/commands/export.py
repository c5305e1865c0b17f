"""`anymri export`: the network of weights as graphs for other programs."""

from __future__ import annotations

from typing import Annotated

import typer

from anymri.cli.console import console
from anymri.cli.options import Output, WeightsArgument
from anymri.cli.results.systems import Exported


def export(
    weights: WeightsArgument,
    *,
    output: Output,
    to: Annotated[str, typer.Option(help="Format: onnx, openvino.")] = "onnx",
) -> Exported:
    """Export the network of weights to ONNX or OpenVINO.

    One graph per modality and a decoder, or one graph for a network that fuses the modalities first; see
    docs/performance.md.
    """
    from anymri.cli.checks import check_weights
    from anymri.cli.progress import working
    from anymri.files import check_writable
    from anymri.graphs.formats import check_export

    check_export(output, to)
    check_weights([weights])
    check_writable(output)
    from anymri.graphs.folder import export_weights

    with working(f"exporting to {to}"):
        folder = export_weights(weights, output, to)
    console.print(f"{folder / 'README.md'}", soft_wrap=True)
    return Exported(folder, to, sorted(path for path in folder.iterdir() if path.is_file()))
