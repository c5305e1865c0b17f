"""Measure the budgets of the design page against the plain way: python benchmarks/spine.py [SYSTEM ...]"""

import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import torch

from anymri.data.cache import cache_case
from anymri.data.image import write_image
from anymri.data.layouts import find_cases
from anymri.data.preprocessing import Preprocessing
from anymri.layers.streams import encode_each
from anymri.modalities import ALL, SUBSETS
from anymri.regions import label_scheme
from anymri.systems import registry
from measure import gmacs, median_ms, show

WINDOW = 64
# Systems whose published evaluation reconstructs the images in every pass, though it does not use them.
RECONSTRUCTING = {"ra_hved"}
# Systems whose published evaluation runs style encoders without using their output.
STYLED = {"robust_mseg", "sfusion"}


@torch.inference_mode()
def fifteen_subsets(name):
    system = registry.create(name)
    if system.crop:
        system = registry.create(name, crop=WINDOW)
    with system.folded_weights():
        compare(name, system)


def compare(name, system):
    images = torch.randn(1, 4, WINDOW, WINDOW, WINDOW)

    def shared():
        encoding = system.encode(images, ALL.as_tensor())
        for subset in SUBSETS:
            system.decode(encoding, subset.as_tensor())

    def one_pass(available):
        if name in STYLED:
            encode_each(system.style_encoders, images, ALL.as_tensor())
        system.decode(system.encode(images, ALL.as_tensor()), available, reconstruct=name in RECONSTRUCTING)

    def plain():
        """Run all encoders for each subset, and in some systems the image decoders, as the published code does."""
        for subset in SUBSETS:
            one_pass(subset.as_tensor())

    show(f"{name}: 15 subsets of one {WINDOW}^3 window", gmacs(shared), gmacs(plain), "GMAC")
    show(f"{name}: the same, time", median_ms(shared, 3), median_ms(plain, 3))
    one = torch.tensor([[False, True, False, False]])
    show(
        f"{name}: T1c alone, encoders of missing modalities skipped",
        gmacs(lambda: system(images, one)),
        gmacs(lambda: one_pass(one)),
        "GMAC",
    )


def sphere(shape, centre, radius):
    index = np.indices(shape)
    return sum((i - c) ** 2 for i, c in zip(index, centre, strict=True)) <= radius**2


def patches():
    shape = (240, 240, 155)
    rng = np.random.default_rng(0)
    brain = sphere(shape, (120, 120, 78), 75)
    with tempfile.TemporaryDirectory() as folder:
        case = Path(folder) / "case"
        for suffix in ("t1n", "t1c", "t2w", "t2f"):
            scan = np.where(brain, rng.integers(100, 1000, shape), 0).astype(np.int16)
            write_image(case / f"case-{suffix}.nii.gz", scan, np.diag([-1.0, -1, 1, 1]))
        labels = (sphere(shape, (100, 110, 80), 30) * 2).astype(np.uint8)
        write_image(case / "case-seg.nii.gz", labels, np.diag([-1.0, -1, 1, 1]))
        scheme = label_scheme("brats2023")
        cached = cache_case(find_cases(case)[0], scheme, Preprocessing(), Path(folder) / "cache")
        show("patch of 4x128^3 from the cache, warm", median_ms(lambda: cached.read_patch((5, 5, 5), (128,) * 3), 21))


def start_up():
    for arguments in (["--help"], ["systems"]):
        command = [sys.executable, "-m", "anymri", *arguments]
        show(f"anymri {arguments[0]}", median_ms(lambda c=command: subprocess.run(c, capture_output=True, check=True)))


if __name__ == "__main__":
    for name in sys.argv[1:] or registry.names():
        fifteen_subsets(name)
    if not sys.argv[1:]:
        patches()
        start_up()
