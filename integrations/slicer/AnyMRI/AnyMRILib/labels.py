"""Names, colours and terminology of the segments, by their value in the label map that anymri writes."""

from __future__ import annotations

from typing import NamedTuple

_CATEGORY = ("SCT", "49755003", "Morphologically Abnormal Structure")
_REGION = ("SCT", "12738006", "Brain")
_CONTEXT, _ANATOMY = "Segmentation category and type - DICOM master list", "Anatomic codes - DICOM master list"


class Segment(NamedTuple):
    """What Slicer shows of one label value.

    colour  red, green and blue, 0 to 255
    type    coding scheme, code and meaning of the type of the segment in DICOM
    """

    name: str
    colour: tuple[int, int, int]
    type: tuple[str, str, str]

    @property
    def terminology(self) -> str:
        """Terminology as the tag `TerminologyEntry` of a segment has it: codes joined by ^, parts by ~."""
        empty = ("", "", "")
        parts = [_joined(_CATEGORY), _joined(self.type), _joined(empty)]
        return "~".join([_CONTEXT, *parts, _ANATOMY, _joined(_REGION), _joined(empty)])


def _joined(code: tuple[str, str, str]) -> str:
    return "^".join(code)


SEGMENTS = {
    1: Segment("Necrotic or non-enhancing core", (240, 228, 66), ("NCIt", "C81175", "Non-Enhancing Lesion")),
    2: Segment("Oedema", (86, 180, 233), ("SCT", "79654002", "Edema")),
    3: Segment("Enhancing tumour", (213, 94, 0), ("NCIt", "C113842", "Enhancing Lesion")),
    4: Segment("Resection cavity", (0, 158, 115), _CATEGORY),
}
