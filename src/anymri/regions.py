"""What label values mean, the nested regions, and how scores become a label map.

Inside anymri a label map holds the classes of `CLASSES`: 0 background, 1 NCR (necrotic, cystic or non-enhancing
core), 2 ED (oedema), 3 ET (enhancing tumour), 4 RC (resection cavity). Files hold the values of their data set: a
`LabelScheme` translates, and comes from the kind of data set, never from the values (4 is ET in 2021 and the resection
cavity in 2024). Source: protocol sheet, section 1.
"""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from anymri.errors import LabelError

BACKGROUND, NCR, ED, ET, RC = range(5)
CLASSES = ("background", "NCR", "ED", "ET", "RC")

# Regions as unions of classes. The resection cavity is no part of the whole tumour. The first four are what networks
# answer, in this order; NETC and SNFH are the other tissues that BraTS 2024 scores.
REGIONS: Mapping[str, frozenset[int]] = {
    "WT": frozenset({NCR, ED, ET}),
    "TC": frozenset({NCR, ET}),
    "ET": frozenset({ET}),
    "RC": frozenset({RC}),
    "NETC": frozenset({NCR}),
    "SNFH": frozenset({ED}),
}
OutputKind = Literal["classes", "regions"]

# Scale factors in a header leave label values this far from whole numbers at most.
WHOLE_NUMBER_TOLERANCE = 1e-3


@dataclass(frozen=True)
class LabelScheme:
    """The label values of one kind of data set.

    values   file value -> class; 0 is background in every scheme
    regions  the regions that the scheme can tell apart, outermost first
    """

    name: str
    description: str
    values: Mapping[int, int]
    regions: tuple[str, ...] = ("WT", "TC", "ET")

    @property
    def num_classes(self) -> int:
        """Classes of a network trained on this scheme, background included: 5 with a resection cavity, else 4."""
        return 5 if "RC" in self.regions else 4

    @property
    def trainable(self) -> bool:
        """False if the scheme does not tell the enhancing tumour from the rest of the core."""
        return "ET" in self.regions

    def tells(self, region: str) -> bool:
        """Whether label maps of this scheme say where a region of `REGIONS` is."""
        return region in self.regions or (region in ("NETC", "SNFH") and "ET" in self.regions)

    def to_classes(self, labels: NDArray[Any], source: str) -> NDArray[np.uint8]:
        """Label values of a file as classes, uint8 of the same shape. `source` names the file in errors."""
        values = np.rint(labels).astype(np.int64)
        if np.abs(labels - values).max(initial=0) > WHOLE_NUMBER_TOLERANCE:
            raise LabelError(
                f"{source} holds values that are no whole numbers: it is not a label map.",
                "Give the label map, not a scan or a probability map.",
            )
        known = {0, *self.values}
        outside = (values < 0) | (values > max(known))
        found = set(np.flatnonzero(np.bincount(values[~outside], minlength=1)).tolist())
        foreign = (found - known) | set(np.unique(values[outside]).tolist())
        if foreign:
            raise LabelError(
                f"{source} holds the label values {_listed(foreign)}, which the scheme {self.name} does not have "
                f"({self.description}).",
                f"Choose the scheme of the data set with --label-scheme: {', '.join(SCHEMES)}.",
            )
        lookup = np.zeros(max(known) + 1, dtype=np.uint8)
        for value, tissue in self.values.items():
            lookup[value] = tissue
        classes: NDArray[np.uint8] = lookup[values]
        return classes


def _listed(values: set[int]) -> str:
    shown = sorted(values)[:6]
    return ", ".join(map(str, shown)) + (", ..." if len(values) > len(shown) else "")


_OLD_FIVE = {1: NCR, 2: ED, 3: NCR, 4: ET}
_UNTIL_2021 = {1: NCR, 2: ED, 4: ET}
_OLD_FIVE_TEXT = "1 necrosis, 2 oedema, 3 non-enhancing, 4 enhancing"
_UNTIL_2021_TEXT = "1 necrotic or non-enhancing core, 2 oedema, 4 enhancing"

SCHEMES: Mapping[str, LabelScheme] = {
    scheme.name: scheme
    for scheme in (
        # 2012 knows oedema and core only, so it can be scored (WT, TC) but not trained on.
        LabelScheme("brats2012", "1 oedema, 2 tumour core", {1: ED, 2: NCR}, regions=("WT", "TC")),
        LabelScheme("brats2013", _OLD_FIVE_TEXT, _OLD_FIVE),
        LabelScheme("brats2015", _OLD_FIVE_TEXT, _OLD_FIVE),
        LabelScheme("brats2018", _UNTIL_2021_TEXT, _UNTIL_2021),
        LabelScheme("brats2020", _UNTIL_2021_TEXT, _UNTIL_2021),
        LabelScheme("brats2021", _UNTIL_2021_TEXT, _UNTIL_2021),
        LabelScheme("brats2023", "1 necrotic core, 2 oedema, 3 enhancing", {1: NCR, 2: ED, 3: ET}),
        LabelScheme(
            "brats2024",
            "1 non-enhancing core, 2 FLAIR hyperintensity, 3 enhancing, 4 resection cavity",
            {1: NCR, 2: ED, 3: ET, 4: RC},
            regions=("WT", "TC", "ET", "RC"),
        ),
        LabelScheme(
            "brats_peds2024",
            "1 enhancing, 2 non-enhancing core, 3 cyst, 4 oedema",
            {1: ET, 2: NCR, 3: NCR, 4: ED},
        ),
    )
}


def label_scheme(name: str) -> LabelScheme:
    """The scheme called `name`; raises `LabelError` with the closest name if there is none."""
    if name in SCHEMES:
        return SCHEMES[name]
    close = difflib.get_close_matches(name, SCHEMES, n=1)
    hint = f"Did you mean {close[0]}? " if close else ""
    raise LabelError(f"There is no label scheme named {name!r}.", f"{hint}Known: {', '.join(SCHEMES)}.")


def region_mask(classes: NDArray[np.uint8], region: str) -> NDArray[np.bool_]:
    """Where a map of classes lies in `region`, one of `REGIONS`."""
    # Comparisons of bytes: ten times faster than a table of 256 answers.
    first, *others = REGIONS[region]
    mask: NDArray[np.bool_] = classes == first
    for tissue in others:
        mask |= classes == tissue
    return mask


def to_label_map(scores: Any, kind: OutputKind) -> Any:
    """Scores of one volume as a map of classes, uint8 (X, Y, Z).

    scores  numpy array or torch tensor; `classes`: (K, X, Y, Z), one score a class, highest wins;
            `regions`: (3 or 4, X, Y, Z) probabilities of WT, TC, ET and perhaps RC, present above 0.5. An inner region
            counts only inside the outer one; the cavity never covers tumour.
    """
    if kind == "classes":
        return _as_byte(scores.argmax(0))
    present = scores > 0.5
    whole = present[0]
    core = whole & present[1]
    enhancing = core & present[2]
    # Arithmetic on truth values reads the same for numpy and torch: ED, then NCR, then ET.
    labels = _as_byte(whole) * ED - _as_byte(core) * (ED - NCR) + _as_byte(enhancing) * (ET - NCR)
    if len(present) > 3:
        labels = labels + _as_byte(present[3] & ~whole) * RC
    return labels


def _as_byte(values: Any) -> Any:
    return values.astype(np.uint8) if isinstance(values, np.ndarray) else values.byte()
