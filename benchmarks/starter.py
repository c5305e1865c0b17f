"""Measure trained weights on synthetic and on real cases, and write them as starter weights with these tables.

    python benchmarks/starter.py RUN NAME WORK ["further words on the training"]

RUN is the run folder of a training with `--data synthetic`. The folder of the real cases is ANYMRI_REAL_DATA; what does
not exist there is left out. Writes src/anymri/weights/starter/NAME.safetensors, docs/NAME.csv and, to be pasted
into docs/weights.md, a table of the real cases to standard output.
"""

import csv
import os
import sys
from collections import defaultdict
from pathlib import Path

import numpy as np

from anymri.evaluation.runner import evaluate
from anymri.modalities import MODALITIES, SUBSETS
from anymri.synthesis.phantoms import write_cohort
from anymri.weights.card import WeightsCard
from anymri.weights.folders import STARTERS
from anymri.weights.store import load_weights, save_weights

DOCS = Path(__file__).resolve().parents[1] / "docs"
# Synthetic cases on which no weights are trained or chosen.
SEED, COUNT = 1000, 12
SUMMARY = (
    "Trained on synthetic brains only, never on a patient: for trying, teaching and labelling that a person corrects. "
    "Not for patients."
)
DATA = (
    "Brains with gliomas from the generator of anymri (docs/synthesis.md), made in training. One real case was looked "
    "at to set the ranges of the generator: BraTS-GLI-00000 of the table."
)
GLI = "brats-gli-{n}-000/BraTS-GLI-{n}-000-{scan}.nii.gz"
TCGA = "tcga-du-7294/atlas-space/TCGA-DU-7294_{scan}_bet.nii.gz"
DEEPMEDIC = "deepmedic-brats2013/brats_2013_pat{n}_1/{scan}.nii.gz"
BRATS, LETTERS = ("t1n", "t1c", "t2w", "t2f"), ("t1", "t1c", "t2", "fla")


def real_cases():
    """Yield name, label scheme, kind of label, modality -> file, label and brain mask, relative to the real data."""
    expert, automatic = "expert", "automatic"
    scans = dict(zip(MODALITIES, (GLI.format(n="00000", scan=s) for s in BRATS), strict=True))
    yield "BraTS-GLI-00000", "brats2023", expert, scans, GLI.format(n="00000", scan="seg"), None
    scans = dict(zip(MODALITIES, (GLI.format(n="00001", scan=s) for s in BRATS), strict=True))
    yield "BraTS-GLI-00001", "brats2023", automatic, scans, "brats-gli-00001-000/automatic/seg-BraTS23_1.nii.gz", None
    scans = dict(zip(MODALITIES, (TCGA.format(scan=s) for s in LETTERS), strict=True))
    yield "TCGA-DU-7294", "brats2020", automatic, scans, "tcga-du-7294/automatic/mav.nii.gz", None
    for n in ("0001", "0005"):
        scans = {"T1c": "T1c_subtrMeanDivStd", "FLAIR": "Flair_subtrMeanDivStd"}
        scans = {modality: DEEPMEDIC.format(n=n, scan=scan) for modality, scan in scans.items()}
        label, mask = (DEEPMEDIC.format(n=n, scan=scan) for scan in ("OTMultiClass", "brainmask"))
        yield f"BRATS-2013-{n}", "brats2013", expert, scans, label, mask


def dice_of(weights, data, output, scheme):
    """Return subset -> region -> Dice of the cases that have the subset."""
    values = defaultdict(lambda: defaultdict(list))
    for row in evaluate(weights, data, output, label_scheme=scheme, metrics=("dice",), device="cpu").rows:
        if row["metric"] == "dice" and row["value"] is not None and not np.isnan(row["value"]):
            values[row["subset"]][row["region"]].append(row["value"])
    return {subset: {region: float(np.mean(v)) for region, v in regions.items()} for subset, regions in values.items()}


def main(run, name, work, further=""):
    work.mkdir(parents=True, exist_ok=True)
    write_cohort(work / "synthetic", COUNT, seed=SEED, style="realistic")
    tables = [
        {
            "data": f"{COUNT} synthetic cases at 1 mm, seed {SEED}",
            "cases": COUNT,
            "dice": dice_of(run, work / "synthetic", work / "on-synthetic", "brats2023"),
        }
    ]
    folder = Path(os.environ.get("ANYMRI_REAL_DATA", "real"))
    for case, scheme, kind, scans, label, mask in real_cases():
        if not (folder / label).is_file():
            continue
        row = {"case": case, **scans, "label": label} | ({"mask": mask} if mask else {})
        with (work / f"{case}.csv").open("w", newline="") as stream:
            writer = csv.DictWriter(stream, row)
            writer.writeheader()
            writer.writerow({k: v if k == "case" else folder.absolute() / v for k, v in row.items()})
        dice = dice_of(run, work / f"{case}.csv", work / f"on-{case}", scheme)
        tables.append({"data": f"{case}, {kind} label", "cases": 1, "dice": dice})
    system, card = load_weights(run)
    facts = {
        "summary": SUMMARY,
        "operative": "pre",
        "data": f"{DATA} {further}".strip(),
        "licence": "Apache-2.0",
        "tables": tables,
    }
    STARTERS.mkdir(exist_ok=True)
    save_weights(
        STARTERS / f"{name}.safetensors", system.state_dict(), WeightsCard.model_validate(card.model_dump() | facts)
    )
    with (DOCS / f"{name}.csv").open("w", newline="") as stream:
        writer = csv.writer(stream, lineterminator="\n")
        writer.writerow(["data", "subset", "region", "dice"])
        for table in tables:
            for subset, regions in table["dice"].items():
                writer.writerows([table["data"], subset, region, f"{value:.4f}"] for region, value in regions.items())
    print("| scans |", " | ".join(table["data"] for table in tables), "|")
    print("|---|", "--:|" * len(tables), sep="")
    for subset in map(str, SUBSETS):
        cells = []
        for table in tables:
            regions = table["dice"].get(subset)
            cells.append(" / ".join(f"{100 * value:.0f}" for value in regions.values()) if regions else "")
        print(f"| {subset} |", " | ".join(cells), "|")


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2], Path(sys.argv[3]), *sys.argv[4:])
