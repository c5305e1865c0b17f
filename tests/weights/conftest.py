"""Fixtures of the tests of the catalogue."""

import os
from types import SimpleNamespace

import pytest


@pytest.fixture
def places(tmp_path, monkeypatch):
    """Empty folders in place of those of this machine: `user`, to which weights are added, `shared` and `starters`."""
    names = ("user", "shared", "starters")
    for name in names:
        (tmp_path / name).mkdir()
    monkeypatch.setenv("ANYMRI_WEIGHTS", os.pathsep.join(str(tmp_path / name) for name in names[:2]))
    for module in ("folders", "catalogue"):
        monkeypatch.setattr(f"anymri.weights.{module}.STARTERS", tmp_path / "starters")
    return SimpleNamespace(**{name: tmp_path / name for name in names})


@pytest.fixture
def source(tmp_path):
    """Folder of files that are not installed."""
    (tmp_path / "source").mkdir()
    return tmp_path / "source"
