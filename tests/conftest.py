"""Fixtures of all tests."""

from __future__ import annotations

import ctypes
import gc
import os
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from anymri.data.memory import keep_freed_memory
from anymri.layers import compiled

# As in the command: networks are up to twice as fast with it.
keep_freed_memory()


@pytest.fixture(scope="module", autouse=True)
def _released_memory(request: pytest.FixtureRequest) -> Iterator[None]:
    """Return the memory of a module to the system after its tests: networks that its `cache` functions keep, too."""
    yield
    for value in vars(request.module).values():
        if hasattr(value, "cache_clear") and value.__module__ == request.module.__name__:
            value.cache_clear()
    gc.collect()
    if sys.platform == "linux" and hasattr(ctypes.CDLL(None), "malloc_trim"):
        ctypes.CDLL(None).malloc_trim(0)  # which `keep_freed_memory` prevents until then


@pytest.fixture(scope="session")
def real_data() -> Path:
    """Return the folder of real scans: `ANYMRI_REAL_DATA`, by default `shared/data` beside the repository."""
    default = Path(__file__).parents[2] / "shared" / "data"
    folder = Path(os.environ.get("ANYMRI_REAL_DATA", default))
    if not folder.is_dir():
        pytest.skip(f"real scans are not at {folder}; set ANYMRI_REAL_DATA")
    return folder


@pytest.fixture
def not_compiled_yet() -> Iterator[None]:
    """Make this process forget its compiled functions, and that some failed, before and after a test."""

    def forget() -> None:
        compiled._compiled.cache_clear()
        compiled._failures.clear()

    forget()
    yield
    forget()
