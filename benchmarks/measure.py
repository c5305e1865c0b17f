"""What the benchmarks measure by. Quote ratios: times vary with whatever else the machine does."""

import resource
import statistics
import subprocess
import sys
import time

from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode


def median_ms(work, repeats=7):
    """Median time of `work` in ms, after one call to warm up."""
    work()
    times = []
    for _ in range(repeats):
        began = time.perf_counter()
        work()
        times.append(1000 * (time.perf_counter() - began))
    return statistics.median(times)


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
    kilobytes = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return kilobytes / (2**30 if sys.platform == "darwin" else 2**20)


def peak_gb(script, *arguments):
    """`own_peak_gb` at the end of a process of its own: what `script` prints last, called with `arguments`."""
    command = [sys.executable, script, *arguments]
    return float(subprocess.run(command, capture_output=True, text=True, check=True).stdout.split()[-1])


def show(what, ours, plain=None, unit="ms"):
    """One line: ours, and how many times less it is than the plain way."""
    ratio = f"   plain {plain:10.1f} {unit}   {plain / ours:5.2f}x" if plain else ""
    print(f"{what:52} {ours:10.1f} {unit}{ratio}", flush=True)
