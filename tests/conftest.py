"""Fixtures of all tests."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from anymri.cli import keep_freed_memory

# As in the command: networks are up to twice as fast with it.
keep_freed_memory()


@pytest.fixture(scope="session")
def real_data() -> Path:
    """Return the folder of real scans: `ANYMRI_REAL_DATA`, by default `shared/data` beside the repository."""
    default = Path(__file__).parents[2] / "shared" / "data"
    folder = Path(os.environ.get("ANYMRI_REAL_DATA", default))
    if not folder.is_dir():
        pytest.skip(f"real scans are not at {folder}; set ANYMRI_REAL_DATA")
    return folder
