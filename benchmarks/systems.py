"""Compare the cost of systems on a CPU with plain passes in stock PyTorch.

    python benchmarks/systems.py [SYSTEM ...] [--earlier FILE]

Published sizes, one window of 64^3 of all four modalities, float32, one thread, CPU time, each system in a process of
its own. A plain pass runs all encoders for each subset, as the published code does, with torch's own choice of
convolutions. The share is that of the multiply-adds per second of the machine's best 3-D convolution, in the same
process. Writes a table in Markdown to standard output; the lines of docs/performance.md are made by it. --earlier names
an earlier output from the same machine: a system whose ratio is now below four fifths of that one is a regression, and
the exit code is 1.
"""

import argparse
import json
import platform
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path
from unittest.mock import patch

import torch

from anymri.layers import convolution
from anymri.modalities import ALL, SUBSETS
from anymri.systems import registry
from measure import cpu_seconds, decode_all, gmacs, images, published, this_peak_gb

WINDOW = 64
LEAST = 0.8  # of an earlier ratio; times differ with the load of a machine, ratios by a few per cent


def best_rate():
    """Return the multiply-adds per second, in 10^9, of a convolution that suits any CPU."""
    channels, side = 64, 48
    layer, features = torch.nn.Conv3d(channels, channels, 3, padding=1), torch.randn(2, channels, side, side, side)
    return 2 * channels**2 * 27 * side**3 / 1e9 / cpu_seconds(lambda: layer(features))


@torch.inference_mode()
def measured(name):
    """Return the costs of one system."""
    system = published(name, WINDOW)
    scans, every = images(*system.usable_crop((WINDOW,) * 3)), ALL.as_tensor()
    with system.folded_weights():
        encoding = system.encode(scans, every)
        encode = cpu_seconds(lambda: system.encode(scans, every))
        decode = cpu_seconds(lambda: system.decode(encoding, every))
        both = gmacs(lambda: system(scans, every))
        subsets = cpu_seconds(lambda: decode_all(system, scans))
        peak = this_peak_gb()

        def plain():
            for subset in SUBSETS:
                system.decode(system.encode(scans, every), subset.as_tensor())

        with patch.object(convolution, "ONEDNN", False):
            passes = cpu_seconds(plain)
    share = both / (encode + decode) / best_rate()
    return {
        "encode": encode, "decode": decode, "subsets": subsets, "passes": passes, "share": share, "peak": peak
    }  # fmt: skip


def ratios(table):
    """Return system -> ratio of the rows of a table that this program wrote."""
    rows = [line.strip("| ").split(" | ") for line in table.splitlines() if line.startswith("| ")]
    place = rows[0].index("ratio")
    return {row[0]: float(row[place]) for row in rows[1:]}


def main(names, earlier):
    kept = ratios(earlier.read_text(encoding="utf-8")) if earlier else {}
    slower = []
    print(f"{datetime.now(UTC):%Y-%m-%d}, {platform.machine()}, torch {torch.__version__}, one thread\n")
    print("| system | encode, s | decode, s | 15 subsets, s | 15 passes, s | ratio | share of best rate | peak, GB |")
    print("|---|--:|--:|--:|--:|--:|--:|--:|")
    for name in names or registry.names():
        command = [sys.executable, __file__, "--one", name]
        row = json.loads(subprocess.run(command, stdout=subprocess.PIPE, check=True).stdout)
        ratio = row["passes"] / row["subsets"]
        cells = [f"{row[each]:.2f}" for each in ("encode", "decode")]
        cells += [f"{row[each]:.1f}" for each in ("subsets", "passes")]
        cells += [f"{ratio:.1f}", f"{row['share']:.2f}", f"{row['peak']:.2f}"]
        print(f"| {name} |", " | ".join(cells), "|", flush=True)
        if ratio < LEAST * kept.get(name, 0):
            slower.append(f"{name}: ratio {ratio:.1f}, earlier {kept[name]:.1f}")
    if slower:
        sys.exit("Slower than before:\n" + "\n".join(slower))


if __name__ == "__main__":
    if sys.argv[1:2] == ["--one"]:
        torch.set_num_threads(1)
        print(json.dumps(measured(sys.argv[2])))
    else:
        parser = argparse.ArgumentParser()
        parser.add_argument("names", nargs="*", metavar="SYSTEM")
        parser.add_argument("--earlier", type=Path)
        given = parser.parse_args()
        main(given.names, given.earlier)
