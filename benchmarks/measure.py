"""What the benchmarks measure by. Quote ratios: times vary with whatever else the machine does."""

import re
import resource
import statistics
import subprocess
import sys
import time
from pathlib import Path

import torch
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from anymri.modalities import ALL, SUBSETS

LONG_ENOUGH_MS = 5000


def images(*sides):
    """A crop of all modalities, the same in every run."""
    return torch.randn(1, 4, *sides, generator=torch.Generator().manual_seed(0))


def decode_all(system, scans):
    """Scores of all subsets at one encoding, as anymri does it."""
    encoding = system.encode(scans, ALL.as_tensor())
    return [system.decode(encoding, subset.as_tensor()).scores for subset in SUBSETS]


def median_ms(work, repeats=7):
    """Median time of `work` in ms, after one call to warm up, which is all there is where it took long enough."""
    [warm_up] = _times(work, 1)
    return warm_up if warm_up > LONG_ENOUGH_MS else statistics.median(_times(work, repeats))


def _times(work, repeats):
    times = []
    for _ in range(repeats):
        began = time.perf_counter()
        work()
        times.append(1000 * (time.perf_counter() - began))
    return times


def gmacs(work):
    """Multiply-adds of convolutions and matrix products, in 10^9."""
    # On a CPU, torch does not count what its fused attention does.
    with sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
        work()
    return counter.get_total_flops() / 2e9


def counted(work):
    """Multiply-adds as `gmacs`, and the time in ms of the same one run: for work too long to be repeated."""
    began = time.perf_counter()
    return gmacs(work), 1000 * (time.perf_counter() - began)


def own_peak_gb():
    """The most memory this process ever held, as the operating system counts it, torch itself included."""
    if sys.platform == "darwin":
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**30
    # What Linux answers to the call above begins with the peak of the process that started this one.
    return _status_gb("VmHWM")


def own_memory_gb():
    """What this process holds now; Linux only."""
    return _status_gb("VmRSS")


def _status_gb(what):
    found = re.search(rf"{what}:\s+(\d+) kB", Path("/proc/self/status").read_text())
    return int(found[1]) / 2**20


def run_apart(script, *arguments):
    """The numbers that `script` prints, called with `arguments` in a process of its own."""
    command = [sys.executable, script, *arguments]
    return [float(word) for word in subprocess.run(command, capture_output=True, text=True, check=True).stdout.split()]


def peak_gb(script, *arguments):
    """`own_peak_gb` at the end of a process of its own: what `script` prints last, called with `arguments`."""
    return run_apart(script, *arguments)[-1]


def show(what, ours, plain=None, unit="ms"):
    """One line: ours, and how many times less it is than the plain way."""
    ratio = f"   plain {plain:10.1f} {unit}   {plain / ours:5.2f}x" if plain else ""
    print(f"{what:52} {ours:10.1f} {unit}{ratio}", flush=True)
