"""Weights of an untrained network, whose output is good enough for most tests."""

import torch

from anymri.data.prepared import Prepared
from anymri.data.preprocessing import Preprocessing
from anymri.modalities import ALL
from anymri.systems import registry
from anymri.weights.card import WeightsCard
from anymri.weights.store import save_weights


def card(**changes):
    """Return the card of the weights, with changed fields."""
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


def write_weights(path, seed=0, reconstruction=False, frozen=(), **changes):
    """Write a weights file that depends on the arguments alone.

    reconstruction  whether the network reconstructs images too
    frozen          prefixes of tensor names that go to a second file
    changes         changed fields of the card
    """
    torch.manual_seed(seed)
    network = card().network | {"reconstruction": reconstruction}
    save_weights(path, registry.create("u_hved", **network).state_dict(), card(network=network, **changes), frozen)
    return path


def prepared(images, present=ALL, background=0.0, origin=None):
    """Return a prepared case of images (4, X, Y, Z), by default from the middle of its scan."""
    sides = images.shape[1:]
    first = origin or [-(side // 2) for side in sides]
    # A grid that is even and large has its middle at 1000.
    x, y, z = (slice(1000 + start, 1000 + start + side) for start, side in zip(first, sides, strict=True))
    return Prepared(images, present.as_tensor()[0], torch.full((4,), background), None, (x, y, z), (2000,) * 3)
