"""The tidy table of an evaluation: one row a case, subset, region and metric."""

COLUMNS = ("case", "subset", "region", "metric", "value", "status")
# The status of a row with a value; any other says why there is none.
SCORED = "scored"
