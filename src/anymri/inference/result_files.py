"""Names of the files of a result folder, for code that must not import the networks."""

from __future__ import annotations

from anymri.modalities import MODALITIES

SEGMENTATION, MEASUREMENTS, TABLE = "segmentation.nii.gz", "measurements.json", "measurements.csv"
PROVENANCE, STATISTICS = "provenance.json", "statistics.json"
UNCERTAINTY, DISAGREEMENT = "uncertainty.nii.gz", "disagreement.nii.gz"
PROBABILITIES = {region: f"probability-{region}.nii.gz" for region in ("WT", "TC", "ET")}
RECONSTRUCTED = {modality: f"reconstructed-{modality}.nii.gz" for modality in MODALITIES}
# Files that callers add to the folder: picture, page, files for viewers, DICOM objects.
ADDED = ("preview.png", "case.html", "labels.ctbl", "labels-itksnap.txt", "segmentation.dcm", "measurements.dcm")
# Every file that a result can have; those of an earlier result are removed.
FILES = (
    SEGMENTATION,
    MEASUREMENTS,
    TABLE,
    STATISTICS,
    *PROBABILITIES.values(),
    UNCERTAINTY,
    DISAGREEMENT,
    *RECONSTRUCTED.values(),
    *ADDED,
    PROVENANCE,
)
