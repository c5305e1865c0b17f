"""Codes of structures and measurements, compared with the dictionary that pydicom derives from the standard."""

import pytest

from anymri.export import codes
from anymri.export.codes import SIDES, STRUCTURES, Code

pytest.importorskip("pydicom")

GENERAL = [value for value in vars(codes).values() if isinstance(value, Code)]


def in_dictionary(code):
    """Return the meanings that the standard gives a code."""
    from pydicom.sr._concepts_dict import concepts

    return {found[code.value][0] for found in concepts[code.scheme].values() if code.value in found}


@pytest.mark.parametrize("code", [*GENERAL, *SIDES.values(), *(each.type for each in STRUCTURES.values())])
def test_codes_have_the_meaning_that_the_standard_gives_them(code):
    if code.scheme == "UCUM":  # any unit of UCUM may be used; the dictionary has those of context groups only
        assert code.value in ("mL", "mm")
    else:
        assert code.meaning in in_dictionary(code)


def test_structures_have_labels_of_their_own_that_dicom_allows():
    labels = [each.label for each in STRUCTURES.values()]
    assert len(set(labels)) == len(labels)
    assert max(map(len, labels)) <= 64
