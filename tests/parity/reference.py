"""Read parity fixtures: numbers that the authors' code computed from weights and inputs that `filler` reconstructs.

The folder comes from the environment variable ANYMRI_FIXTURES (default: the one beside this file); everything that
determines a test, with tolerances, batch size, masks and crop, is read from its JSON files.
"""

import json
import os
import re
from pathlib import Path

import numpy as np
import pytest
import torch

from parity import filler

# Tolerance of the moments of whole outputs by the sheets of the strided fixtures; more where the reference rounds more.
MOMENTS_ABS = 5e-6

FOLDER = Path(os.environ.get("ANYMRI_FIXTURES") or Path(__file__).parent / "fixtures")


def load(name):
    """Return the JSON of a fixture; skip the test if the folder does not contain it."""
    path = FOLDER / f"{name}.json"
    if not path.exists():
        pytest.skip(f"{path.name} is not in {FOLDER}", allow_module_level=True)
    return json.loads(path.read_text())


def arrays(name):
    """Return the stored outputs of a fixture by key `case/output`."""
    with np.load(FOLDER / f"{name}.npz") as stored:
        return dict(stored)


def reference_state(fixture, dtype=torch.float32):
    """Return the reference's state dict, reconstructed from names, shapes and seed."""
    values = filler.fill(fixture["seed"], dict(map(tuple, fixture["parameters"])), fixture["integer_buffers"])
    return {name: torch.from_numpy(value).to(dtype) for name, value in values.items()}


def noise(seed, name, shape):
    """Return a standard-normal float32 tensor, a function of seed and name."""
    return torch.from_numpy(filler.tensor(seed, name, shape))


def check_output(actual, expected, stored, tolerance):
    """Compare the moments and every `stride`-th element of an output with the stored ones.

    The JSON does not give a tolerance for the moments; means of values that agree within `tolerance` do as well.
    """
    values = actual.detach().double().numpy()
    assert list(values.shape) == expected["shape"]
    np.testing.assert_allclose(values.ravel()[:: expected["stride"]], stored, rtol=0, atol=tolerance)
    moments = [values.mean(), values.std(), np.abs(values).mean()]
    reference = [expected["mean"], expected["std"], expected["abs_sum"] / values.size]
    np.testing.assert_allclose(moments, reference, rtol=0, atol=tolerance)


def filled_state(seed, model, prefix="", dtype=torch.float32):
    """Return the state dict of a model that lists its `parameters` and `integers`.

    prefix  text before each name in the rule of the values, not in the result
    """
    shapes = {prefix + name: shape for name, shape in model["parameters"]}
    values = filler.fill(seed, shapes, [prefix + name for name in model["integers"]])
    return {name.removeprefix(prefix): torch.from_numpy(value).to(dtype) for name, value in values.items()}


def kind_tolerance(fixture, name):
    """Return the largest absolute difference of the output called `name` by the fixture's rule, without its noise."""
    kinds = {"seg": "seg_abs", "nested": "seg_abs", "recon": "recon_abs", "atten": "recon_abs", "disc": "disc_fake_abs"}
    kinds |= {"mu": "mu_logvar_abs", "logvar": "mu_logvar_abs", "after": "buffers_abs"}
    word = re.match("[a-z]+", name.split("/")[-1])[0]
    return fixture["tolerance"][kinds[word]]


def check_strided(fixture, actual, output, stored, may_flip=False):
    """Compare the moments and every n-th voxel of an output with one of the fixture's `outputs`, by its `tolerance`.

    may_flip  the output jumps where a probability crosses a threshold: the share in the rule's note may differ
    """
    values = actual.detach().double().numpy()
    assert list(values.shape) == output["full_shape"]
    step = slice(None, None, output["stride_last3"])
    difference = np.abs(values[..., step, step, step] - stored)
    limit = max(kind_tolerance(fixture, output["name"]), 10 * output["float64_max_abs_diff"])
    if may_flip:
        free = int(_number(r"up to ([\d.]+) % of voxels", fixture["tolerance"]["note"]) / 100 * difference.size)
        difference = np.sort(difference, axis=None)[: difference.size - free]
        assert difference.max() <= limit
    else:
        assert difference.max() <= limit
        moments = [values.mean(), values.std(), np.abs(values).mean()]
        expected = [output["mean"], output["std"], output["abs_sum"] / values.size]
        np.testing.assert_allclose(moments, expected, rtol=0, atol=max(MOMENTS_ABS, output["float64_max_abs_diff"]))
    assert difference.mean() <= _number(r"mean abs difference <= ([\de.-]+)", fixture["tolerance"]["rule"])


def _number(pattern, text):
    return float(re.search(pattern, text)[1])
