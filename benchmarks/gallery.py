"""Draw the pictures of the documents again: python benchmarks/gallery.py WORK

docs/images/synthesis.png  a realistic case of each kind of tumour
docs/images/starter.png    a synthetic case with segmentations of the starter weights from four subsets of its scans;
                           WORK is that of benchmarks/starter.py, and the case the one in the middle by its Dice of WT
"""

import io
import sys
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.colors import ListedColormap
from PIL import Image

from anymri.data.layouts import find_cases
from anymri.inference import Segmenter
from anymri.modalities import ALL, MODALITIES
from anymri.regions import label_scheme
from anymri.report.cases import case_montage
from anymri.report.figures import as_png
from anymri.synthesis.realistic.generator import generate
from anymri.synthesis.realistic.lesions import KINDS

IMAGES = Path(__file__).resolve().parents[1] / "docs" / "images"
LABELS = ListedColormap(["black", "tab:red", "tab:green", "gold"])
SUBSETS = (str(ALL), "T1c+FLAIR", "FLAIR", "T1")


def save(name, png, width):
    """Write a picture with 256 colours and so many pixels in a row, a fraction of the size."""
    picture = Image.open(io.BytesIO(png)).convert("RGB")
    picture = picture.resize((width, round(picture.height * width / picture.width)), Image.Resampling.LANCZOS)
    picture.quantize(256).save(IMAGES / name, optimize=True)


def synthesis():
    cases, index = {}, 0
    while len(cases) < len(KINDS) + 1:
        case = generate(0, index, 1.0)
        cases.setdefault(case.kind, case)
        index += 1
    figure, axes = plt.subplots(len(cases), len(MODALITIES) + 1, figsize=(8.2, 1.85 * len(cases)), squeeze=False)
    for row, kind in zip(axes, (*KINDS, "healthy"), strict=True):
        case = cases[kind]
        level = int((case.labels > 0).sum((0, 1)).argmax()) or case.labels.shape[2] // 2
        for cell, modality in zip(row, MODALITIES, strict=False):
            image = case.images[modality][:, :, level].T
            cell.imshow(image, cmap="gray", vmin=0, vmax=np.percentile(image[image > 0], 99.5))
        row[-1].imshow(case.labels[:, :, level].T, cmap=LABELS, vmin=0, vmax=3, interpolation="nearest")
        row[0].set_ylabel(kind.replace("_", " "), fontsize=8)
    for cell, title in zip(axes[0], (*MODALITIES, "label map"), strict=True):
        cell.set_title(title, fontsize=9)
    for cell in axes.ravel():
        cell.set(xticks=[], yticks=[])
    figure.subplots_adjust(0.04, 0.01, 0.99, 0.97, 0.03, 0.03)
    save("synthesis.png", as_png(figure), 800)


def starter(work):
    metrics = pd.read_csv(work / "on-synthetic" / "metrics.csv")
    chosen = metrics[(metrics.metric == "dice") & (metrics.region == "WT") & (metrics.subset == str(ALL))]
    ordered = chosen.sort_values("value")["case"].tolist()
    case = next(each for each in find_cases(work / "synthetic") if each.name == ordered[len(ordered) // 2])
    segmenter, outputs = Segmenter.load("starter", "cpu"), {}
    for subset in SUBSETS:
        outputs[subset] = work / "pictures" / subset
        segmenter.segment(case, subset, outputs[subset])
    save("starter.png", as_png(case_montage(case, label_scheme("brats2023"), outputs)), 1200)


if __name__ == "__main__":
    synthesis()
    starter(Path(sys.argv[1]))
