"""Draw the pictures of the documents again: python benchmarks/gallery.py WORK

docs/images/synthesis.png  a realistic case of each kind of tumour
docs/images/overview.png   scans of a synthetic case, and what the starter weights find from three subsets: of the
                           cases 0 to 59 of seed 7 with a ring, 30 mL of tumour and 3 mL of each tissue, the one in the
                           middle by its mean Dice over these subsets
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
from matplotlib.patches import Patch
from PIL import Image

from anymri.data.image import write_image
from anymri.data.layouts import find_cases
from anymri.inference import Segmenter
from anymri.modalities import ALL, MODALITIES
from anymri.regions import label_scheme, region_mask
from anymri.report.cases import case_montage
from anymri.report.figures import as_png
from anymri.synthesis.phantoms import realistic_phantom
from anymri.synthesis.realistic.generator import generate
from anymri.synthesis.realistic.lesions import KINDS

IMAGES = Path(__file__).resolve().parents[1] / "docs" / "images"
REGIONS = ("WT", "TC", "ET")
LABELS = ListedColormap(["black", "tab:red", "tab:green", "gold"])
# Orange, blue and yellow of Okabe and Ito: distinct for the colour-blind, and on grey.
TISSUES = {"NCR, necrotic core": "#D55E00", "ED, oedema": "#56B4E9", "ET, enhancing": "#F0E442"}
OVERVIEW_SEED, OVERVIEW_SUBSETS = 7, (str(ALL), "T1c+FLAIR", "FLAIR")
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


def overview(work):
    segmenter, found = Segmenter.load("starter", "cpu"), []
    for index in range(60):
        coarse = generate(OVERVIEW_SEED, index, 2.0)
        tissues_ml = [np.count_nonzero(coarse.labels == value) * 0.008 for value in (1, 2, 3)]
        if coarse.kind != "ring" or sum(tissues_ml) < 30 or min(tissues_ml) < 3:
            continue
        case = realistic_phantom(OVERVIEW_SEED, index)
        scans = {modality: work / "overview" / f"{index}-{modality}.nii.gz" for modality in MODALITIES}
        for modality, file in scans.items():
            file.parent.mkdir(parents=True, exist_ok=True)
            write_image(file, case.images[modality], np.diag([-1.0, -1.0, 1.0, 1.0]))
        outputs = {subset: segmenter.segment(scans, subset).classes for subset in OVERVIEW_SUBSETS}
        dice = {subset: [_dice(each, case.labels, region) for region in REGIONS] for subset, each in outputs.items()}
        print(index, dice, flush=True)
        found.append((np.mean(list(dice.values())), index, case, outputs, dice))
    _, index, case, outputs, dice = sorted(found, key=lambda each: each[:2])[len(found) // 2]
    print("overview:", index)
    level = int(np.prod([np.count_nonzero(case.labels == value, (0, 1)) for value in (1, 2, 3)], axis=0).argmax())
    box = np.nonzero((case.images["T1c"] > 0).any(2))
    box = tuple(slice(max(0, each.min() - 3), each.max() + 4) for each in box)
    figure, axes = plt.subplots(2, 4, figsize=(8.8, 5.8))
    for cell, modality in zip(axes[0], MODALITIES, strict=True):
        _draw(cell, case.images[modality][box][:, :, level], None, modality)
    shown = {"label map": case.labels, **outputs}
    for cell, (name, labels) in zip(axes[1], shown.items(), strict=True):
        title = name if name not in dice else f"from {name}\nDice {' / '.join(f'{100 * d:.0f}' for d in dice[name])}"
        scan = "FLAIR" if name == "FLAIR" else "T1c"
        _draw(cell, case.images[scan][box][:, :, level], labels[box][:, :, level], title)
    patches = [Patch(color=colour, label=name) for name, colour in TISSUES.items()]
    figure.legend(handles=patches, loc="lower center", ncols=3, frameon=False, fontsize=9)
    figure.subplots_adjust(0.005, 0.05, 0.995, 0.96, 0.02, 0.16)
    save("overview.png", as_png(figure), 1200)


def _dice(found, truth, region):
    found, truth = region_mask(found, region), region_mask(truth, region)
    return 2 * np.count_nonzero(found & truth) / max(1, np.count_nonzero(found) + np.count_nonzero(truth))


def _draw(cell, image, labels, title):
    cell.imshow(image.T, cmap="gray", vmin=0, vmax=np.percentile(image[image > 0], 99.7))
    if labels is not None:
        colours = ListedColormap([(0, 0, 0, 0), *TISSUES.values()])
        cell.imshow(labels.T, cmap=colours, vmin=0, vmax=3, interpolation="nearest", alpha=(labels.T > 0) * 0.7)
    cell.set_title(title, fontsize=9)
    cell.set(xticks=[], yticks=[])


def starter(work):
    metrics = pd.read_csv(work / "results-0" / "metrics.csv")
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
    overview(Path(sys.argv[1]))
    starter(Path(sys.argv[1]))
