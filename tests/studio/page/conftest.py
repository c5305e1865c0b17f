"""A studio with two cases, two weights and an evaluation, and a browser: once for all tests of the page."""

import pytest

from anymri.synthesis.phantoms import write_cohort
from made_evaluations import point_to, write_evaluation
from studio.page.browser import Studio, running_browser, running_studio
from untrained import write_weights

SIZE = 48


@pytest.fixture(scope="session")
def browser():
    """Return a headless Chromium."""
    with running_browser() as found:
        yield found


@pytest.fixture(scope="session")
def place(browser, tmp_path_factory):
    """Return the folder of the studio: `cohort` with two phantoms, `first` and `second` weights, `evaluation`."""
    folder = tmp_path_factory.mktemp("studio")
    cases = write_cohort(folder / "cohort", 2, size=SIZE)
    write_weights(folder / "first.safetensors")
    write_weights(folder / "second.safetensors", seed=1, reconstruction=True)
    write_evaluation(folder / "evaluation", cases=2)
    point_to(folder / "evaluation", cases)
    return folder


@pytest.fixture(scope="session")
def address(place):
    """Return the address of the studio."""
    names = ("--weights", "first.safetensors", "--weights", "second.safetensors")
    with running_studio(place, "cohort", "evaluation", *names) as url:
        yield url


@pytest.fixture
def studio(browser, address):
    """Return the page of the studio in a new window, and fail if it did what it must not."""
    page = Studio(browser, address)
    yield page
    page.close()
    assert page.problems == []
