"""Reads parity fixtures: numbers that the authors' code computed from weights and inputs that `filler` rebuilds.

The folder comes from the environment variable ANYMRI_FIXTURES (default: the one beside this file); everything that
decides a test, tolerances included, is read from its JSON files.
"""

import json
import os
from pathlib import Path

import numpy as np
import pytest
import torch

from parity import filler

FOLDER = Path(os.environ.get("ANYMRI_FIXTURES") or Path(__file__).parent / "fixtures")


def load(name):
    """The JSON of a fixture; the test is skipped if the folder does not hold it."""
    path = FOLDER / f"{name}.json"
    if not path.exists():
        pytest.skip(f"no {path.name} in {FOLDER}", allow_module_level=True)
    return json.loads(path.read_text())


def arrays(name):
    """Stored outputs of a fixture by key `case/output`."""
    return np.load(FOLDER / f"{name}.npz")


def reference_state(fixture, dtype=torch.float32):
    """The reference's state dict, rebuilt from names, shapes and seed."""
    values = filler.fill(fixture["seed"], dict(map(tuple, fixture["parameters"])), fixture["integer_buffers"])
    return {name: torch.from_numpy(value).to(dtype) for name, value in values.items()}


def noise(seed, name, shape):
    """Standard-normal float32 tensor, a function of seed and name."""
    return torch.from_numpy(filler.tensor(seed, name, shape))


def check_output(actual, expected, stored, tolerance):
    """Compares a whole output by its moments and every `stride`-th element with what the reference stored.

    The JSON gives no tolerance for the moments; means of values that agree within `tolerance` do as well.
    """
    values = actual.detach().double().numpy()
    assert list(values.shape) == expected["shape"]
    np.testing.assert_allclose(values.ravel()[:: expected["stride"]], stored, rtol=0, atol=tolerance)
    moments = [values.mean(), values.std(), np.abs(values).mean()]
    reference = [expected["mean"], expected["std"], expected["abs_sum"] / values.size]
    np.testing.assert_allclose(moments, reference, rtol=0, atol=tolerance)
