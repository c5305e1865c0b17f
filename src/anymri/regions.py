"""Label schemes of the data sets, tumour classes, and the nested regions.

Inside anymri a label map holds the classes of `CLASSES`: 0 background, 1 NCR (necrotic, cystic or non-enhancing
core), 2 ED (oedema), 3 ET (enhancing tumour), 4 RC (resection cavity). Files hold the values of their data set, which a
`LabelScheme` translates. The user names the scheme; it is never guessed from the values (4 is ET in 2021 and the
resection cavity in 2024). Source: protocol sheet, section 1.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from anymri.errors import LabelError, did_you_mean

if TYPE_CHECKING:
    from torch import Tensor

BACKGROUND, NCR, ED, ET, RC = range(5)
CLASSES = ("background", "NCR", "ED", "ET", "RC")

# Regions as unions of classes. The resection cavity is not part of the whole tumour. Networks that predict regions
# predict the first three or four, in this order; NETC and SNFH are the other tissues that BraTS 2024 evaluates.
REGIONS: Mapping[str, frozenset[int]] = {
    "WT": frozenset({NCR, ED, ET}),
    "TC": frozenset({NCR, ET}),
    "ET": frozenset({ET}),
    "RC": frozenset({RC}),
    "NETC": frozenset({NCR}),
    "SNFH": frozenset({ED}),
}
OutputKind = Literal["classes", "regions"]

# Scale factors in a header move label values from whole numbers by less than this.
WHOLE_NUMBER_TOLERANCE = 1e-3


@dataclass(frozen=True)
class LabelScheme:
    """Meaning of the label values in the files of one kind of data set.

    name         as given to --label-scheme
    description  the values in words
    values       value in the file -> class; 0 is background in every scheme
    regions      regions that the scheme distinguishes, outermost first
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
        """Whether networks can be trained: the scheme distinguishes the enhancing tumour from the rest of the core."""
        return "ET" in self.regions

    def defines(self, region: str) -> bool:
        """Return whether label maps of this scheme contain a region of `REGIONS`."""
        return region in self.regions or (region in ("NETC", "SNFH") and "ET" in self.regions)

    def to_classes(self, labels: NDArray[Any], source: str) -> NDArray[np.uint8]:
        """Return the classes of label values: uint8 of the same shape.

        labels  values as in the file, of any type
        source  file, named in errors

        Raises `LabelError` for values that are not whole numbers or not in the scheme.
        """
        values = np.rint(labels).astype(np.int64)
        if np.abs(labels - values).max(initial=0) > WHOLE_NUMBER_TOLERANCE:
            raise LabelError(
                f"{source} has values that are not whole numbers: it is not a label map.",
                "Give the label map, not a scan or a probability map.",
            )
        known = {0, *self.values}
        outside = (values < 0) | (values > max(known))
        found = set(np.flatnonzero(np.bincount(values[~outside], minlength=1)).tolist())
        foreign = (found - known) | set(np.unique(values[outside]).tolist())
        if foreign:
            raise LabelError(
                f"{source} has the label values {_listed(foreign)}, which the scheme {self.name} does not have "
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
        # 2012 has oedema and core only, so it serves evaluation (WT, TC) but not training.
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
    """Return the scheme `name`; raise `LabelError` with the closest name if there is none."""
    if name in SCHEMES:
        return SCHEMES[name]
    hint = did_you_mean(name, SCHEMES)
    raise LabelError(f"The label scheme {name!r} does not exist.", f"{hint}Known: {', '.join(SCHEMES)}.")


def region_mask(classes: NDArray[np.uint8], region: str) -> NDArray[np.bool_]:
    """Return the mask of a region of `REGIONS` in a map of classes, of the same shape."""
    # Comparing bytes is ten times faster than a lookup table of 256 entries.
    first, *others = REGIONS[region]
    mask: NDArray[np.bool_] = classes == first
    for tissue in others:
        mask |= classes == tissue
    return mask


def to_label_map(probabilities: Tensor, kind: OutputKind) -> Tensor:
    """Return the label map of one volume: classes, uint8 (X, Y, Z).

    probabilities  (K, X, Y, Z). `classes`: one channel per class, logits or probabilities, of which the highest wins.
                   `regions`: probabilities of WT, TC, ET and perhaps RC, in [0, 1], present above 0.5. An inner region
                   counts only inside the outer one; the cavity never covers tumour.
    """
    if kind == "classes":
        return probabilities.argmax(0).byte()
    present = probabilities > 0.5
    whole = present[0]
    core = whole & present[1]
    enhancing = core & present[2]
    # Arithmetic on bytes: ED, then NCR, then ET.
    labels = whole.byte() * ED - core.byte() * (ED - NCR) + enhancing.byte() * (ET - NCR)
    if len(present) > 3:
        labels = labels + (present[3] & ~whole).byte() * RC
    return labels
