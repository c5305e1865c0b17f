"""Coded names of the structures that anymri segments, for DICOM objects.

Types are from the context groups that DICOM gives for segments: CID 7159 "Lesion Segmentation Type" and, for the whole
tumour, CID 7151 "Segmentation Property Type". They contain SNOMED CT codes (SCT) and, for the two kinds of lesion that
SNOMED CT does not distinguish there, codes of the NCI Thesaurus (NCIt). No context group has a resection cavity: it has
the general code of a morphologically abnormal structure, and its label says what it is.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

from anymri.export.viewers import LABELS
from anymri.regions import ED, ET, NCR, RC

if TYPE_CHECKING:
    from pydicom.sr.coding import Code as PydicomCode


class Code(NamedTuple):
    """A coded concept: code value, designator of the coding scheme, and meaning."""

    value: str
    scheme: str
    meaning: str

    def concept(self) -> PydicomCode:
        """Return the concept as pydicom and highdicom take it."""
        from pydicom.sr.coding import Code as PydicomCode

        return PydicomCode(*self)


@dataclass(frozen=True)
class Structure:
    """A class of `anymri.regions.CLASSES` or a region of `anymri.regions.REGIONS`, as DICOM objects name it.

    label        name for people, at most 64 characters
    description  definition in words
    type         what the voxels are
    colour       red, green and blue, 0 to 255
    """

    label: str
    description: str
    type: Code
    colour: tuple[int, int, int]


ABNORMAL = Code("49755003", "SCT", "Morphologically Abnormal Structure")
BRAIN = Code("12738006", "SCT", "Brain")
ARTIFICIAL_INTELLIGENCE = Code("123110", "DCM", "Artificial Intelligence")
MRI = Code("25056-3", "LN", "MRI unspecified body region")
VOLUME = Code("118565006", "SCT", "Volume")
LONG_AXIS = Code("103339001", "SCT", "Long axis")
PERPENDICULAR_AXIS = Code("131189007", "SCT", "Perpendicular Axis")
SUM_OF_VOXELS = Code("126030", "DCM", "Sum of segmented voxel method for volume")
MILLILITRE = Code("mL", "UCUM", "milliliter")
MILLIMETRE = Code("mm", "UCUM", "mm")
SIDES: Mapping[str, Code] = {
    "left": Code("7771000", "SCT", "Left"),
    "right": Code("24028007", "SCT", "Right"),
    "both": Code("51440002", "SCT", "Bilateral"),
}

_NON_ENHANCING = Code("C81175", "NCIt", "Non-Enhancing Lesion")
_ENHANCING = Code("C113842", "NCIt", "Enhancing Lesion")
_EDEMA = Code("79654002", "SCT", "Edema")
_LESION = Code("301766008", "SCT", "Lesion of Brain")
_NEOPLASM = Code("108369006", "SCT", "Neoplasm")


def _of_class(value: int, description: str, code: Code) -> Structure:
    return Structure(LABELS[value].name, description, code, LABELS[value].colour)


STRUCTURES: Mapping[str, Structure] = {
    "NCR": _of_class(NCR, "Necrotic, cystic or non-enhancing part of the tumour core", _NON_ENHANCING),
    "ED": _of_class(ED, "Oedema around the tumour core, with infiltration that looks like it", _EDEMA),
    "ET": _of_class(ET, "Part of the tumour core that enhances with contrast agent", _ENHANCING),
    "RC": _of_class(RC, "Cavity of an earlier resection", ABNORMAL),
    "WT": Structure("Whole tumour with oedema", "Tumour core and oedema", _LESION, LABELS[ED].colour),
    "TC": Structure("Tumour core", "Enhancing tumour and core that does not enhance", _NEOPLASM, LABELS[NCR].colour),
}
