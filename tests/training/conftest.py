"""Fixtures that the tests of cohorts share."""

import pytest

from anymri.synthesis.phantoms import write_cohort
from small_runs import SIZE


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """Folder with a cohort of six small phantoms, and the cache of it that all tests of a module share."""
    folder = tmp_path_factory.mktemp("place")
    write_cohort(folder / "cohort", 6, size=SIZE)
    return folder
