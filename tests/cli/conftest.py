"""Fixtures of the tests of the command line."""

import pytest

from cli.command import TRAINING, anymri


@pytest.fixture(scope="session")
def workshop(tmp_path_factory):
    """Folder with a cohort of two small phantoms in `data` and a run trained on it in `run`, by the command line."""
    folder = tmp_path_factory.mktemp("workshop")
    assert anymri("phantom", "-n", 2, "--size", 48, "-o", folder / "data").returncode == 0
    trained = anymri(
        "train", "u_hved", "--data", folder / "data", "-o", folder / "run", *TRAINING, "--cache", folder / "cache"
    )
    assert trained.returncode == 0, trained.stderr
    assert "learning_rate" in trained.stdout  # the resolved configuration is shown
    assert "Expected: " in trained.stdout and "GB of memory" in trained.stdout and "patches/s" in trained.stdout
    return folder


@pytest.fixture(scope="session")
def case(workshop):
    """Folder of the first case of the cohort."""
    return next(path for path in sorted((workshop / "data").iterdir()) if path.is_dir())
