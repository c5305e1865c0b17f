"""Robust-Mseg and SFusion against a plain implementation: python benchmarks/disentangling_family.py

The plain implementation works as the published code does: each pass runs all encoders, those of style too, whose
results are discarded; SFusion's block runs its transformer for a single modality too, and computes all logit maps at
once. The outputs of both are checked to be the same.
"""

import sys
from contextlib import ExitStack
from unittest.mock import patch

import torch

from anymri.layers.streams import encode_each
from anymri.modalities import ALL, SUBSETS
from anymri.systems import registry
from anymri.systems.sfusion.fusion import SFusionBlock
from measure import decode_all, gmacs, images, median_ms, peak_gb, show, this_peak_gb

CUBE = 128
# The cost of attention does not depend on the crop, so that SFusion's ratio is lower here than at its published crop.
TIMED = 64
CLOSE = 1e-4


def plain_fusion(self, features, tokens):
    mixed = torch.cat(list(tokens), dim=1)
    mixed = mixed + self.positions[: mixed.shape[1]]
    for layer in self.layers:
        mixed = layer(mixed)
    cubes = (len(mixed), len(features), *[self.grid] * 3, -1, *[self.factor] * 3)
    logits = self.upsample(mixed).view(cubes).permute(0, 1, 5, 2, 6, 3, 7, 4, 8)
    stack = torch.stack(list(features), dim=1)
    return (logits.reshape(stack.shape).softmax(1) * stack).sum(1)


def plainly():
    """Context in which the block works as in the published code."""
    return patch.object(SFusionBlock, "forward", plain_fusion)


def one_pass(system, scans, subset):
    encode_each(system.style_encoders, scans, ALL.as_tensor())
    return system.decode(system.encode(scans, ALL.as_tensor()), subset.as_tensor()).logits


def pass_by_pass(system, scans):
    with plainly():
        return [one_pass(system, scans, subset) for subset in SUBSETS]


def create(name, side):
    return registry.create(name, crop=side)


def subsets(name, side):
    system, scans, ways = create(name, side), images(*[side] * 3), (decode_all, pass_by_pass)
    outputs = []
    counts = [gmacs(lambda way=way: outputs.append(way(system, scans))) for way in ways]
    assert max((ours - plain).abs().max().item() for ours, plain in zip(*outputs, strict=True)) < CLOSE
    show(f"{name}: 15 subsets of {side}^3", *counts, "GMAC")
    show(f"{name}: the same, time", *(median_ms(lambda way=way: way(system, scans), 1) for way in ways))


def one_window(plain):
    """Print the memory of one evaluation of all modalities by SFusion at the published crop."""
    with plainly() if plain else ExitStack():
        create("sfusion", CUBE)(images(*[CUBE] * 3), ALL.as_tensor())
    print(this_peak_gb())


if __name__ == "__main__":
    with torch.inference_mode():
        if len(sys.argv) > 1:
            one_window(plain=sys.argv[1] == "plain")
        else:
            show("sfusion: peak memory of a pass, 128^3", *(peak_gb(__file__, way) for way in ("ours", "plain")), "GB")
            for name in ("robust_mseg", "sfusion"):
                subsets(name, TIMED)
