"""Weights of a network that was never trained: it answers something everywhere, which most tests are content with."""

import torch

from anymri import systems
from anymri.data.preprocessing import Preprocessing
from anymri.systems.weights import WeightsCard, save_weights


def card(**changes):
    values = {
        "system": "u_hved",
        "network": {"width": 4, "num_classes": 4, "reconstruction": False},
        "preprocessing": Preprocessing(),
        "window": 32,
        "window_overlap": 0.0,
        "label_scheme": "brats2023",
        "trained_on": ["PHANTOM-00001-000"],
        "origin": "a test",
    }
    return WeightsCard(**{**values, **changes})


def write_weights(path, seed=0, reconstruction=False):
    """A weights file that depends on the arguments alone; `reconstruction`: of a network that rebuilds images too."""
    torch.manual_seed(seed)
    network = card().network | {"reconstruction": reconstruction}
    save_weights(path, systems.create("u_hved", **network).state_dict(), card(network=network))
    return path
