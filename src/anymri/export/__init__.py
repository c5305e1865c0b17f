"""Results as files of other programs: colour tables of viewers, DICOM objects."""
