"""Where published recipes of several systems get numbers from, and depart from their sources, in the same way."""

from __future__ import annotations

# Sources.
OURS = "ours, found on phantoms"
LISTED_SHARE = "protocol sheet, section 5: 125 of the 1000 cases that are not for testing"

# Deviations.
OWN_SPLIT = (
    "The cases held out are drawn by patient; the authors have lists (split.train, split.validation and split.test "
    "take them)."
)
OWN_BOX = (
    "The box is the brain's own; the authors' loses its last slice on each axis (preprocessing.drop_last_slice) and is "
    "widened to 128 voxels."
)
