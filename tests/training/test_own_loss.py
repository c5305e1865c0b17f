"""A loss of the caller: used in every stage, recorded by name, and never imported by itself."""

import sys
from types import SimpleNamespace

import pytest
import torch

import anymri
from anymri.errors import ConfigurationError, RunError
from anymri.systems.losses import StepLoss, region_channels
from anymri.training.own_loss import find_loss
from small_runs import SMALL

SETTINGS = dict(each.split("=") for each in SMALL) | {"epochs": 1, "validation_epochs": 1}
SETTINGS = {name: float(value) if "." in str(value) else int(value) for name, value in SETTINGS.items()}
CALLS = []


def wrong_voxels(system, batch):
    """Return the mean square of probability - truth, and record the call."""
    CALLS.append(batch.available.tolist())
    probabilities = system(batch.images, batch.available).probabilities()[:, 1:]
    error = (probabilities - region_channels(batch.labels, 3)[:, : probabilities.shape[1]]).square().mean()
    return StepLoss(2 * error, {"error": error})


def train(place, output, loss, **settings):
    where = {"recipe": "nano", "device": "cpu", "cache": place / "cache"}
    return anymri.train("u_hved", place / "cohort", "brats2023", output, loss=loss, **where, **SETTINGS | settings)


@pytest.mark.parametrize("loss", [wrong_voxels, "my_package.losses:wrong_voxels"], ids=["function", "name"])
def test_a_training_minimises_the_loss_of_the_caller(place, tmp_path, loss, monkeypatch):
    monkeypatch.setitem(sys.modules, "my_package.losses", SimpleNamespace(wrong_voxels=wrong_voxels))
    CALLS.clear()
    train(place, tmp_path / "run", loss)
    assert len(CALLS) >= 2
    log = (tmp_path / "run" / "log.csv").read_text().splitlines()
    row = dict(zip(log[0].split(","), log[1].split(","), strict=True))
    assert float(row["loss/total"]) == pytest.approx(2 * float(row["loss/error"]), rel=1e-4) and "loss/dice" not in row
    assert f"loss: {__name__}:wrong_voxels" in (tmp_path / "run" / "config.yaml").read_text()
    with pytest.raises(RunError, match="never imports by itself"):
        train(place, tmp_path / "run", None, resume=True)


def test_a_scalar_tensor_is_a_loss_and_other_values_are_refused(place, tmp_path):
    train(place, tmp_path / "run", lambda system, batch: wrong_voxels(system, batch).total)
    with pytest.raises(ConfigurationError, match="does not return a scalar tensor"):
        train(place, tmp_path / "other", lambda system, batch: torch.zeros(3))


@pytest.mark.parametrize("name", ["nowhere.loss:function", "math:nothing", "math", "math:pi"])
def test_a_loss_that_cannot_be_imported_is_refused(name):
    with pytest.raises(ConfigurationError, match="loss"):
        find_loss(name)
