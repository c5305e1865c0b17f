"""README of a folder of graphs: what a program has to do around them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any


def readme(facts: Mapping[str, Any]) -> str:
    """Return the text for the facts in graphs.json."""
    sides = "x".join(map(str, facts["window"]))
    lines = [
        f"# Graphs of {facts['system']}",
        "",
        f"The network of one weights file as {facts['format']}, for one window of {sides} voxels at a time.",
        f"SHA-256 of the weights: `{facts['weights_sha256']}`. `graphs.json` has the same facts for programs.",
        "",
        "| graph | inputs | outputs |",
        "|---|---|---|",
    ]
    for graph in facts["graphs"].values():
        inputs = ", ".join(f"`{name}` {tuple(each['shape'])} {each['type']}" for name, each in graph["inputs"].items())
        outputs = ", ".join(f"`{name}`" for name in graph["outputs"])
        lines.append(f"| `{graph['file']}` | {inputs} | {outputs} |")
    return "\n".join([*lines, "", *(f"- {rule}" for rule in _rules(facts))]) + "\n"


def _rules(facts: Mapping[str, Any]) -> Iterator[str]:
    """Yield what a program has to know, one rule per line."""
    output, modalities = facts["output"], ", ".join(facts["modalities"])
    yield f"Axes of images: window, modality, {facts['axes']}."
    yield f"`available` says which modalities are used, in the order {modalities}."
    yield "Images and features of missing modalities are zeros."
    yield f"Intensities as in `preprocessing` ({facts['preprocessing']['normalisation']}); windows as in `windows`."
    if facts["uses_crop_position"]:
        yield "`corners`: first and last voxel of the window, from the middle of the scan's grid (voxel n // 2 of n)."
    yield f"Channels of `logits`: {', '.join(output['channels'])}."
    yield f"Probabilities are the {output['activation']}."
    if len(facts["graphs"]) > 1:
        yield "Run the encoder of each modality that exists once, and the decoder once per subset."
