"""Fixtures of the tests of the studio."""

import pytest

from anymri.synthesis.phantoms import write_cohort
from studio.opened import opened
from untrained import write_weights


@pytest.fixture(scope="session")
def cohort(tmp_path_factory):
    """Folder with three small phantoms."""
    folder = tmp_path_factory.mktemp("cohort")
    write_cohort(folder, 3, size=40)
    return folder


@pytest.fixture(scope="session")
def weights(tmp_path_factory):
    """Names and files of two weights, of which the second reconstruct missing scans."""
    folder = tmp_path_factory.mktemp("weights")
    plain = write_weights(folder / "plain.safetensors")
    return {"plain": plain, "making": write_weights(folder / "making.safetensors", 1, reconstruction=True)}


@pytest.fixture(scope="module")
def page(tmp_path_factory, cohort, weights):
    """Page of a studio in which the cohort is open."""
    with opened(tmp_path_factory.mktemp("studio"), cohort, weights=weights) as found:
        yield found
