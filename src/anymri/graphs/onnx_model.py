"""Conversion of the parts of a system to ONNX."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager

import torch

from anymri.errors import ConfigurationError
from anymri.extras import need
from anymri.graphs.parts import Part


def to_onnx(part: Part) -> bytes:
    """Return a part of a system as an ONNX model, serialised, for one window; missing packages raise an error.

    Raises `ConfigurationError` for a part that cannot be a graph.
    """
    need("export", "onnx", "onnxscript", purpose="The export of graphs")
    with _quietly():
        try:
            traced = torch.export.export(part.module, part.arguments, strict=False)
            program = torch.onnx.export(
                traced, dynamo=True, input_names=part.inputs, output_names=part.outputs, verbose=False
            )
        except Exception as error:
            # The compiler raises errors of many kinds for what it does not know.
            raise ConfigurationError(
                f"The {part.name} of this network cannot be a graph: {str(error).strip().splitlines()[0]}",
                "Run these weights with the lane torch or torch-bf16.",
            ) from error
    assert program is not None
    content: bytes = program.model_proto.SerializeToString()
    return content


@contextmanager
def _quietly() -> Iterator[None]:
    """Context in which torch's exporter does not warn, for example that torchvision is not installed."""
    level = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(level)
