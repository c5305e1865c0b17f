"""Protocols of a test by name: `anymri`, the same for all systems, and `reference`, that of the authors of a system.

A protocol says which windows cover a case, which of its voxels are compared with the label map, and by which metrics.
What it does not change travels with the weights: network, preprocessing, and the sides of the windows.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any
from zlib import crc32

import numpy as np
from numpy.typing import NDArray

from anymri.data.case import Study
from anymri.data.prepared import Prepared
from anymri.errors import ConfigurationError, check_known
from anymri.evaluation.metrics import DEFAULT
from anymri.inference.segmenter import Segmenter
from anymri.inference.tiling import Windows
from anymri.systems.crops import plain
from anymri.systems.protocol import ANYMRI, PROTOCOLS, REFERENCE, Compared
from anymri.systems.registry import spec


@dataclass(frozen=True)
class Protocol:
    """Test of weights on labelled cases.

    name         anymri or reference
    system       system whose authors test in this way; empty for that of anymri
    windows      how windows cover a case
    compared     voxels that are segmented and compared with the label map
    metrics      names of the metrics that are computed by default
    source       where the authors' test is described
    differences  what the authors' script does otherwise, as sentences
    """

    name: str
    system: str
    windows: Windows
    compared: Compared = "scan"
    metrics: tuple[str, ...] = DEFAULT
    source: str = ""
    differences: tuple[str, ...] = ()

    def prepare(self, segmenter: Segmenter, study: Study) -> Prepared:
        """Return the voxels of a study that are segmented, as the network takes them."""
        case = segmenter.prepare(study)
        return case if self.compared != "random window" else _random_window(case, self.windows, study.case.name)

    def place(self, case: Prepared, values: NDArray[Any]) -> NDArray[Any]:
        """Return values of the prepared case, (X, Y, Z), on the voxels that are compared."""
        return case.paste(values) if self.compared == "scan" else values

    def truth(self, case: Prepared, classes: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """Return the true classes of the voxels that are compared, of those of the whole scan, (X, Y, Z)."""
        return classes if self.compared == "scan" else classes[case.box]

    def rules(self) -> str:
        """Return the protocol in words, as tables print it."""
        if self.name == ANYMRI:
            return "the same for all systems: windows as the card of the weights names them, whole scans are compared"
        parts = [f"as the authors of {self.system} test", f"{self._cover()} ({self.source})", *self.differences]
        return ". ".join(part.removesuffix(".") for part in parts)

    def _cover(self) -> str:
        """Return in words which windows are computed, and what is compared."""
        sides = plain(self.windows.sides)
        if self.compared == "random window":
            return f"One random window of {sides} voxels per case, which alone is segmented and compared"
        steps = {"down": "", "up": ", steps rounded up", "equal": ", at equal distances"}[self.windows.steps]
        blending = {"gaussian_nnunet": "Gaussian (nnU-Net)", "gaussian": "Gaussian"}.get(self.windows.blending, "equal")
        extent = "the whole scan" if self.compared == "scan" else "the box around the brain"
        windows = f"Windows of {sides} voxels, overlap {self.windows.overlap:.0%}{steps}"
        return f"{windows}; {self.windows.values} averaged with {blending} weights; {extent} is compared"

    def record(self) -> Mapping[str, Any]:
        """Return what settings and provenance of an evaluation record, for JSON."""
        return {"name": self.name, "rules": self.rules()}


def find_protocol(name: str, segmenter: Segmenter) -> Protocol:
    """Return the protocol `name` for the weights of a segmenter.

    Raises `ConfigurationError` for an unknown name, or if the system has no authors whose test could be repeated.
    """
    check_known("protocol", name, PROTOCOLS)
    if name == ANYMRI:
        return Protocol(ANYMRI, "", segmenter.windows)
    system = segmenter.card.system
    found, recipes = spec(system).protocol, spec(system).recipes
    if found is None or "reference" not in recipes:
        raise ConfigurationError(
            f"{system} has no protocol `reference`: nobody has published it.",
            "Evaluate it by the protocol that is the same for all systems: --protocol anymri",
        )
    recipe = recipes["reference"]
    windows = Windows.of(segmenter.card.model_copy(update=recipe.window_settings))
    windows = windows._replace(sides=segmenter.system.crop or segmenter.windows.sides)
    differences = list(found.differences)
    if windows.sides != recipe.stages[-1].crop:
        differences.insert(0, f"The authors' windows have {plain(recipe.stages[-1].crop)} voxels.")
    if segmenter.card.preprocessing != recipe.preprocessing:
        differences.insert(0, "The authors preprocess scans otherwise than these weights were trained for.")
    return Protocol(REFERENCE, system, windows, found.compared, found.metrics, found.source, tuple(differences))


def recorded_name(configuration: Mapping[str, Any]) -> str:
    """Return the name of the protocol of an evaluation, from its provenance."""
    return str(configuration.get("protocol", {}).get("name", ANYMRI))


def _random_window(case: Prepared, windows: Windows, name: str) -> Prepared:
    """Return one window of a case, which depends on its name alone; the last voxel of an axis is never in it.

    An axis that is shorter than the window is whole.
    """
    rng = np.random.default_rng(crc32(name.encode()))
    inside, box = [], []
    for length, side, axis in zip(case.images.shape[1:], windows.sides, case.box, strict=True):
        start = int(rng.integers(max(length - side, 1)))
        stop = min(start + side, length)
        inside.append(slice(start, stop))
        box.append(slice(axis.start + start * case.coarsening, axis.start + stop * case.coarsening))
    x, y, z = inside
    return replace(
        case,
        images=case.images[:, x, y, z],
        classes=None if case.classes is None else case.classes[x, y, z],
        box=(box[0], box[1], box[2]),
    )
