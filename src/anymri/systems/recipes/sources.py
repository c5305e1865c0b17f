"""Sources of numbers and deviations that the published recipes of several systems share."""

from __future__ import annotations

# Sources.
OURS = "ours, found on phantoms"
LISTED_SHARE = "protocol sheet, section 5: 125 of the 1000 cases outside the test set"

# Deviations.
OUR_SPLIT = (
    "Validation cases are drawn by patient; the authors have lists (give them as split.train, split.validation and "
    "split.test). Results differ as between two random splits."
)
OUR_DRAWS = (
    "Random draws (initial weights, order of cases, patches, subsets, augmentation) have the authors' distributions, "
    "not their values. Results differ as between two seeds."
)
