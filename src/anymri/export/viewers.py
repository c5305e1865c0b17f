"""Names and colours of label values as files for viewers: 3D Slicer and ITK-SNAP.

3D Slicer reads a colour table (.ctbl, also .txt): lines that begin with # are comments, of which the first says that
the file is a colour table; the others hold label value, name without spaces, red, green, blue and opacity, 0 to 255
each (Slicer's developer guide, "Colors"). Add the file to the scene, then load the label map with this table.

ITK-SNAP reads a label description file (.txt): comments begin with #; the other lines hold label value, red, green,
blue (0 to 255), opacity (0 to 1), visibility in slices and in the 3D view (0 or 1) and the name in quotation marks.
Use "Import Label Descriptions" in the menu Segmentation, or `itksnap -l`.
"""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

from anymri.files import write_text

SLICER_FILE, ITKSNAP_FILE = "labels.ctbl", "labels-itksnap.txt"


class Label(NamedTuple):
    """A label value of the written label maps.

    name    what a person reads in a viewer
    colour  red, green and blue, 0 to 255
    """

    name: str
    colour: tuple[int, int, int]


# By value of `anymri.regions.CLASSES`. The colours of the figures: a class has that of the outermost region that ends
# with it, oedema that of WT, the necrotic core that of TC. Okabe and Ito (2008), distinct for the colour-blind.
LABELS = {
    1: Label("Necrotic or non-enhancing core", (240, 228, 66)),
    2: Label("Oedema", (86, 180, 233)),
    3: Label("Enhancing tumour", (213, 94, 0)),
    4: Label("Resection cavity", (0, 158, 115)),
}


def slicer_colour_table(num_classes: int = 4) -> str:
    """Return the colour table for 3D Slicer.

    num_classes  classes of the network, background included: 4, or 5 with the resection cavity
    """
    lines = [f"# Color table file {SLICER_FILE}", f"# {num_classes} values", "0 Background 0 0 0 0"]
    for value, label in _labels(num_classes).items():
        lines.append(" ".join(map(str, (value, label.name.replace(" ", "_"), *label.colour, 255))))
    return "\n".join(lines) + "\n"


def itksnap_labels(num_classes: int = 4) -> str:
    """Return the label description file for ITK-SNAP.

    num_classes  classes of the network, background included: 4, or 5 with the resection cavity
    """
    lines = [
        "# ITK-SnAP Label Description File",
        "# IDX   -R-  -G-  -B-  -A--  VIS MSH  LABEL",
        '    0     0    0    0     0    0   0  "Clear Label"',
    ]
    for value, label in _labels(num_classes).items():
        red, green, blue = label.colour
        lines.append(f'{value:5d} {red:5d} {green:4d} {blue:4d}     1    1   1  "{label.name}"')
    return "\n".join(lines) + "\n"


def write_viewer_files(folder: Path | str, num_classes: int = 4) -> list[Path]:
    """Write both files into the folder of a result and return their paths."""
    texts = {SLICER_FILE: slicer_colour_table(num_classes), ITKSNAP_FILE: itksnap_labels(num_classes)}
    paths = [Path(folder) / name for name in texts]
    for path, text in zip(paths, texts.values(), strict=True):
        write_text(path, text)
    return paths


def _labels(num_classes: int) -> dict[int, Label]:
    return {value: label for value, label in LABELS.items() if value < num_classes}
