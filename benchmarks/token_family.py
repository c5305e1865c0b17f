"""Benchmark of mmFormer, IM-Fuse and its selective scan: python benchmarks/token_family.py

The baseline of a system runs all encoders in every pass and, for IM-Fuse, a scan that keeps all states, as parallel
scans do. The baseline of the scan alone is token by token. Multiply-adds are those of convolutions and matrix products;
those of the scan show in the times only, and cannot be shared between subsets.
"""

import sys
import time
from unittest.mock import patch

import torch

from anymri.layers.selective_scan import selective_scan
from anymri.modalities import ALL, SUBSETS
from anymri.systems import registry
from measure import decode_all, gmacs, images, median_ms, run_apart, show, this_memory_gb, this_peak_gb

CUBE = 128
TIMED = 64
CLOSE = 1e-4
TOKENS, PLAIN_TOKENS = 10_000_000, 5_000
# Groups of tokens whose states the baseline keeps at a time.
SLAB = 2048
# The scan at full resolution of the published IM-Fuse.
CHANNELS, NUMBERS = 16, 8


def counted(name):
    """Print multiply-adds at the published crop; every subset takes the same number."""
    system, scans, count = registry.create(name), images(*[CUBE] * 3), len(SUBSETS)
    encoding = system.encode(scans, ALL.as_tensor())
    encode = gmacs(lambda: system.encode(scans, ALL.as_tensor()))
    decode = gmacs(lambda: system.decode(encoding, SUBSETS[0].as_tensor()))
    show(f"{name}: encoding of a window of 128^3", encode, unit="GMAC")
    show(f"{name}: decoding of one subset", decode, unit="GMAC")
    show(f"{name}: 15 subsets", encode + count * decode, count * (encode + decode), "GMAC")


def timed(name):
    """Print the time of 15 subsets; the baseline is one pass as published, times 15, whichever the subset."""
    system, scans, count = registry.create(name, crop=TIMED), images(*[TIMED] * 3), len(SUBSETS)

    def one_pass():
        return system.decode(system.encode(scans, ALL.as_tensor()), SUBSETS[0].as_tensor()).logits

    ours = decode_all(system, scans)[0]
    with without_numba(), patch("anymri.layers.mamba.selective_scan", all_states):
        assert (ours - one_pass()).abs().max() < CLOSE
        plain = count * median_ms(one_pass, 3)
    show(f"{name}: 15 subsets of 64^3, time", median_ms(lambda: decode_all(system, scans), 3), plain)
    show(f"{name}: the same, baseline with our scan", count * median_ms(one_pass, 3))


def without_numba():
    """Return a context in which torch's operators compute the scan."""
    return patch("anymri.layers.compiled._compiled", lambda *_: None)


def all_states(u, delta, A, B, C=None, state=None):
    """Return what `selective_scan` returns, computed as parallel scans do: all states of a slab, in doubling steps."""
    samples, group = u.shape[:2]
    u, delta, B = (each.permute(0, 3, 1, 2).flatten(1, 2) for each in (u, delta, B))
    state = u.new_zeros(samples, *A.shape) if state is None else state
    outputs = []
    for first in range(0, u.shape[1], SLAB * group):
        piece = slice(first, first + SLAB * group)
        factors = torch.exp(delta[:, piece, :, None] * A)
        states = (delta * u)[:, piece, :, None] * B[:, piece, None]
        states[:, 0] += factors[:, 0] * state
        reach = 1
        while reach < states.shape[1]:
            states[:, reach:] = states[:, reach:] + factors[:, reach:] * states[:, :-reach]
            factors[:, reach:] = factors[:, reach:] * factors[:, :-reach]
            reach *= 2
        state = states[:, -1]
        if C is not None:
            read = C[..., first // group : first // group + SLAB].mT
            outputs.append((states[:, group - 1 :: group] * read[:, :, None]).sum(-1).mT)
    return torch.cat(outputs, -1) if outputs else u.new_empty(samples, A.shape[0], 0), state


def tokens(count, channels=CHANNELS, numbers=NUMBERS):
    """Return u, delta, A, B and C; nothing else is allocated."""
    shapes = [(1, 1, channels, count), (1, 1, channels, count), (1, 1, numbers, count), (1, numbers, count)]
    u, delta, B, C = (torch.empty(shape).uniform_() for shape in shapes)
    return u, delta, -torch.arange(1.0, numbers + 1).repeat(channels, 1), B, C


def one_by_one(u, delta, A, B, C):
    """Return the outputs of the recurrence of a plain sequence, computed token by token, with all states kept."""
    states = [torch.zeros(CHANNELS, NUMBERS)]
    for v in range(u.shape[-1]):
        step = delta[0, 0, :, v, None]
        states.append(torch.exp(step * A) * states[-1] + step * u[0, 0, :, v, None] * B[0, 0, :, v])
    return torch.einsum("vdn,nv->dv", torch.stack(states[1:]), C[0])[None]


def scan():
    """Print the time of the scan and of its baseline."""
    few = tokens(PLAIN_TOKENS)
    assert (selective_scan(*few)[0] - one_by_one(*few)).abs().max() < CLOSE
    many = tokens(100 * PLAIN_TOKENS)
    ours, plain = median_ms(lambda: selective_scan(*many)) / 100, median_ms(lambda: one_by_one(*few), 3)
    show(f"scan, {CHANNELS} channels x {NUMBERS}: {PLAIN_TOKENS} tokens", ours, plain)


def compiled_scan():
    """Print the time of the compiled scan of three levels of the published IM-Fuse, and that of torch's operators."""
    for count, channels, numbers in ((10_485_760, 16, 8), (1_310_720, 32, 16), (163_840, 64, 32)):
        inputs = tokens(count, channels, numbers)
        ours = median_ms(lambda inputs=inputs: selective_scan(*inputs), 3)
        with without_numba():
            plain = median_ms(lambda inputs=inputs: selective_scan(*inputs), 3)
        show(f"compiled scan, {channels} channels x {numbers}: {count} tokens", ours, plain)


def memory_of_scan():
    """Print seconds and GB of the scan of all tokens, without its inputs and outputs."""
    inputs = tokens(TOKENS)
    before, began = this_memory_gb(), time.perf_counter()
    y, _ = selective_scan(*inputs)
    print(time.perf_counter() - began)
    print(this_peak_gb() - before - y.nbytes / 2**30)


def memory_of_window():
    """Print seconds and GB of one window of the published IM-Fuse, PyTorch included."""
    system, scans = registry.create("im_fuse"), images(*[CUBE] * 3)
    began = time.perf_counter()
    system(scans, ALL.as_tensor())
    print(time.perf_counter() - began)
    print(this_peak_gb())


APART = {
    "scan": (f"scan of {TOKENS / 1e6:.0f} million tokens", memory_of_scan),
    "window": ("im_fuse: one window of 128^3, all modalities", memory_of_window),
}
if __name__ == "__main__":
    with torch.inference_mode():
        if len(sys.argv) > 1:
            APART[sys.argv[1]][1]()
        else:
            for name, (what, _) in APART.items():
                seconds, gigabytes = run_apart(__file__, name)
                show(f"{what}: time", 1000 * seconds)
                show(f"{what}: memory", gigabytes, unit="GB")
            scan()
            compiled_scan()
            for name in ("mmformer", "im_fuse"):
                counted(name)
                timed(name)
