"""`anymri export`: the network of weights as graphs for other programs."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from anymri.cli.console import console
from anymri.cli.options import Output


def export(
    weights: Annotated[Path, typer.Argument(help="Run folder, .safetensors file, or name of installed weights.")],
    *,
    output: Output,
    to: Annotated[str, typer.Option(help="Format: onnx, openvino.")] = "onnx",
) -> None:
    """Export the network of weights to ONNX or OpenVINO.

    One graph per modality and a decoder, or one graph for a network that fuses the modalities first; see
    docs/performance.md.
    """
    from anymri.graphs.folder import export_weights

    console.print(f"{export_weights(weights, output, to) / 'README.md'}", soft_wrap=True)
