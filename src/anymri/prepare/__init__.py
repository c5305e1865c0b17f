"""From raw scans to a study that a network can take: DICOM, sequences, brain, registration, resampling, and back."""
