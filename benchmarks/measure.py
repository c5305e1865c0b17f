"""Measures of the benchmarks. Quote ratios: times vary with the load of the machine."""

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
from anymri.systems import registry

LONG_ENOUGH_MS = 5000


def images(*sides):
    """Return a crop of all modalities (1, 4, X, Y, Z), the same in every run."""
    return torch.randn(1, 4, *sides, generator=torch.Generator().manual_seed(0))


def published(name, window):
    """Return a system of published size with random weights, for windows with sides of `window` voxels."""
    system = registry.create(name).eval()
    return registry.create(name, crop=window).eval() if system.crop else system


def decode_all(system, scans):
    """Return the logits of all subsets from one encoding, as anymri computes them."""
    encoding = system.encode(scans, ALL.as_tensor())
    return [system.decode(encoding, subset.as_tensor()).logits for subset in SUBSETS]


def cpu_seconds(work):
    """Return the median CPU time of `work` after a first call, or that of the first call if it is long."""

    def once():
        began = time.process_time()
        work()
        return time.process_time() - began

    first = once()
    return first if 1000 * first > LONG_ENOUGH_MS else statistics.median(once() for _ in range(3))


def median_ms(work, repeats=7):
    """Return the median time of `work` in ms after a first call, or the time of that call if it is long enough."""
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
    """Return the multiply-adds of convolutions and matrix products in 10^9."""
    # torch does not count the multiply-adds of the fused attention on a CPU.
    with sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
        work()
    return counter.get_total_flops() / 2e9


def counted(work):
    """Return the multiply-adds (see `gmacs`) and the time in ms of one run, for work too long to repeat."""
    began = time.perf_counter()
    return gmacs(work), 1000 * (time.perf_counter() - began)


def this_peak_gb():
    """Return the peak memory of this process in GB as the operating system counts it, torch included."""
    if sys.platform == "darwin":
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**30
    # On Linux, ru_maxrss includes the peak of the process that started this one.
    return _status_gb("VmHWM")


def this_memory_gb():
    """Return the memory of this process in GB at present; Linux only."""
    return _status_gb("VmRSS")


def _status_gb(what):
    found = re.search(rf"{what}:\s+(\d+) kB", Path("/proc/self/status").read_text())
    return int(found[1]) / 2**20


def run_apart(script, *arguments):
    """Return the numbers that `script` prints when it is called with `arguments` in another process."""
    command = [sys.executable, script, *arguments]
    return [float(word) for word in subprocess.run(command, capture_output=True, text=True, check=True).stdout.split()]


def peak_gb(script, *arguments):
    """Return the last number that `script` prints in another process: its peak memory in GB."""
    return run_apart(script, *arguments)[-1]


def show(what, ours, plain=None, unit="ms"):
    """Print our value, that of the plain way and their ratio."""
    ratio = f"   plain {plain:10.1f} {unit}   {plain / ours:5.2f}x" if plain else ""
    print(f"{what:52} {ours:10.1f} {unit}{ratio}", flush=True)
