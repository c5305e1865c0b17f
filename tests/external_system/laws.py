"""The laws on Averaging; run by `test_external_system.py` in a process that has the package."""

from anymri.testing.laws import *  # noqa: F403

SYSTEMS = ["averaging"]
