"""Compare RA-HVED and XLSTM-HVED with the plain form of their published code: python benchmarks/hved_family.py

The plain form has gates as two convolutions, attention maps computed once per modality, every encoder in every pass,
images reconstructed in every pass of RA-HVED, and the mLSTM with all its S x S matrices. Both give the same outputs,
which is checked first.
"""

import sys
from contextlib import ExitStack
from unittest.mock import patch

import torch
from torch.nn.functional import pad

from anymri.layers import mlstm
from anymri.modalities import ALL, SUBSETS
from anymri.systems import registry
from anymri.systems.families.hved.blocks import GATE_SIDE, AttentiveJoin
from anymri.systems.xlstm_hved.save import AttentionMap
from measure import counted, decode_all, gmacs, images, peak_gb, show, this_peak_gb
from parallel_mlstm import parallel_mlstm

CUBE = (128, 128, 128)
PUBLISHED_CROP = (128, 192, 128)
TIMED = (64, 64, 64)
CHECKED = (32, 32, 32)
RECONSTRUCTING = {"ra_hved"}
CLOSE = 1e-4


def two_convolutions(self, pooled):
    padded = pad(pooled, [GATE_SIDE // 2] * 6)
    gates = [
        gate.pointwise(gate.depthwise(maps))
        for gate, maps in ((self.skip_gate, padded), (self.upsampled_gate, padded[:, :2]))
    ]
    return torch.cat(gates, dim=1).sigmoid()


def once_per_modality(attend):
    def forward(self, guide):
        return [attend(self, guide) for _ in range(len(ALL))][-1]

    return forward


def plain_form():
    """Return a context in which the layers compute as the published code does."""
    stack = ExitStack()
    stack.enter_context(patch.object(AttentiveJoin, "gates", two_convolutions))
    stack.enter_context(patch.object(AttentionMap, "forward", once_per_modality(AttentionMap.forward)))
    stack.enter_context(patch.object(mlstm, "mlstm", parallel_mlstm))
    return stack


def pass_by_pass(system, scans, reconstruct):
    with plain_form():
        return [
            system.decode(system.encode(scans, ALL.as_tensor()), subset.as_tensor(), reconstruct=reconstruct).logits
            for subset in SUBSETS
        ]


def subsets(name):
    system, reconstruct = registry.create(name), name in RECONSTRUCTING
    small = images(*CHECKED)
    pairs = zip(decode_all(system, small), pass_by_pass(system, small, reconstruct), strict=True)
    assert max((ours - plain).abs().max().item() for ours, plain in pairs) < CLOSE
    scans = images(*TIMED)
    found = [counted(lambda: decode_all(system, scans)), counted(lambda: pass_by_pass(system, scans, reconstruct))]
    for (ours, plain), unit in zip(zip(*found, strict=True), ("GMAC", "ms"), strict=True):
        show(f"{name}: 15 subsets of 64^3", ours, plain, unit)


def gates():
    """Measure the gates of the decoder levels of XLSTM-HVED on the maps of a window of 128^3."""
    join = AttentiveJoin()
    maps = [torch.randn(1, 8, side, side, side) for side in (32, 64, 128)]

    def run():
        for features in maps:
            join(features, features)

    ours = gmacs(run)
    with plain_form():
        show("gates of one decoder, 128^3", ours, gmacs(run), "GMAC")


def attention():
    system, scans = registry.create("xlstm_hved"), images(*CUBE)
    guides = system.guide(scans)

    def run():
        for attend, guide in zip(system.attention, guides, strict=False):
            attend(guide)

    ours = gmacs(run)
    with plain_form():
        show("xlstm_hved: attention maps, 128^3", ours, gmacs(run), "GMAC")


def one_pass(plain):
    """Evaluate all modalities once at the published crop and print the peak memory."""
    system, scans = registry.create("xlstm_hved"), images(*PUBLISHED_CROP)
    with plain_form() if plain else ExitStack():
        system(scans, ALL.as_tensor())
    print(this_peak_gb())


def memory():
    ours, plain = (peak_gb(__file__, way) for way in ("ours", "plain"))
    show("xlstm_hved: peak memory of a pass, 128x192x128", ours, plain, "GB")


if __name__ == "__main__":
    with torch.inference_mode():
        if len(sys.argv) > 1:
            one_pass(plain=sys.argv[1] == "plain")
        else:
            memory()
            gates()
            attention()
            for name in ("ra_hved", "xlstm_hved"):
                subsets(name)
