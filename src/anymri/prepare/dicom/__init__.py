"""Reading of DICOM: files are found by content, grouped into series, sorted by geometry and checked."""

from anymri.prepare.dicom.reading import read_dicom
from anymri.prepare.dicom.series import Series
from anymri.prepare.dicom.studies import check_one_patient

__all__ = ["Series", "check_one_patient", "read_dicom"]
