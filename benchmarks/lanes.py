"""Compare the lanes of docs/performance.md on this CPU: python benchmarks/lanes.py [SYSTEM ...]

Published sizes with random weights, one window of 64^3 of all four modalities, encoded and decoded once, one thread,
CPU time, each system in a process of its own. Writes a table in Markdown to standard output: seconds in float32, and
how many times as fast each lane is. The conversion to OpenVINO's format is not counted.
"""

import os
import subprocess
import sys
import tempfile

import torch

from anymri.data.preprocessing import Preprocessing
from anymri.errors import ConfigurationError
from anymri.inference.choices import BFLOAT16, OPENVINO
from anymri.inference.lanes import bfloat16, openvino
from anymri.modalities import ALL
from anymri.systems import registry
from anymri.systems.computation import Computation, computed_by
from anymri.weights.card import WeightsCard
from measure import cpu_seconds, images, published

WINDOW = 64
NAMES = (BFLOAT16, OPENVINO)


def lanes(name):
    """Return lane -> its computation; None where this machine does not have it."""
    card = WeightsCard(
        system=name, network={"num_classes": 4}, preprocessing=Preprocessing(), window=WINDOW, window_overlap=0.5,
        label_scheme="brats2023", trained_on=["none"], origin="a benchmark",
    )  # fmt: skip
    cpu = torch.device("cpu")
    computations = (
        None if bfloat16.obstacle(cpu) else bfloat16.Bfloat16(),
        None if openvino.obstacle(cpu, card) else openvino.OpenVINO(card, checksum=name),
    )
    return dict(zip(NAMES, computations, strict=True))


@torch.no_grad()
def measured(name):
    """Return the cells of one system: seconds in float32, and how many times as fast each lane is."""
    system = published(name, WINDOW)
    scans, every = images(*system.usable_crop((WINDOW,) * 3)), ALL.as_tensor()

    def once():
        return system.decode(system.encode(scans, every), every)

    def seconds(computation):
        with computed_by(computation, system), system.folded_weights():
            once()  # converts, where the lane does
            return cpu_seconds(once)

    reference = seconds(Computation())
    cells = [f"{reference:.2f}"]
    for computation in lanes(name).values():
        try:
            cells.append(f"{reference / seconds(computation):.1f}" if computation else "-")
        except ConfigurationError as error:  # the system has no graphs
            print(error, file=sys.stderr)
            cells.append("-")
    return cells


if __name__ == "__main__":
    if sys.argv[1:2] == ["--one"]:
        torch.set_num_threads(1)
        print(" | ".join(measured(sys.argv[2])))
    else:
        print("| system | torch, s |", " | ".join(NAMES), "|\n|---|--:|--:|--:|")
        with tempfile.TemporaryDirectory() as cache:
            for name in sys.argv[1:] or registry.names():
                command = [sys.executable, __file__, "--one", name]
                cells = subprocess.run(
                    command, stdout=subprocess.PIPE, text=True, check=True, env=os.environ | {"ANYMRI_CACHE": cache}
                ).stdout.strip()
                print(f"| {name} | {cells} |", flush=True)
