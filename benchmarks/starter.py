"""Calibrate trained weights, measure them on synthetic and real cases, and write them as starter weights.

    python benchmarks/starter.py RUN[,RUN...] NAME WORK ["further words on the training"]

RUN is the run folder, or weights file, of a training with `--data synthetic`; of several stretches of one training, the
mean of their weights is taken. The folder of the real cases is ANYMRI_REAL_DATA; what does
not exist there is left out. Writes src/anymri/weights/starter/NAME.safetensors with its tables and docs/NAME.csv.
Prints tables of Dice and calibration, for docs/weights.md.
"""

import csv
import os
import sys
from collections import defaultdict
from pathlib import Path

import numpy as np
import torch
from torch.nn.functional import binary_cross_entropy_with_logits, cross_entropy

from anymri.data.case import read_study
from anymri.data.layouts import find_cases
from anymri.evaluation.metrics.reconstruction import ssim
from anymri.evaluation.runner import evaluate
from anymri.inference.segmenter import Segmenter
from anymri.modalities import MODALITIES, SUBSETS, Subset
from anymri.synthesis.phantoms import write_cohort
from anymri.systems.losses import region_channels
from anymri.training.cohort.synthetic import VALIDATION_SEEDS, synthetic_case
from anymri.weights.card import WeightsCard
from anymri.weights.folders import STARTERS
from anymri.weights.store import load_weights, save_weights

DOCS = Path(__file__).resolve().parents[1] / "docs"
# Synthetic cases on which no weights are trained or chosen.
SEED, COUNT = 1000, 12
CALIBRATION_CASES = 16
METRICS = ("dice", "ece")
# Left and right look alike to a network, so that mirrored windows are worth their time.
MIRRORED = "x"
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


def measured(weights, data, output, scheme):
    """Return metric -> subset -> region -> mean of the cases that have the subset, for Dice and calibration error."""
    values = {metric: defaultdict(lambda: defaultdict(list)) for metric in METRICS}
    for row in evaluate(weights, data, output, label_scheme=scheme, metrics=METRICS, device="cpu").rows:
        if row["metric"] in METRICS and row["value"] is not None and not np.isnan(row["value"]):
            values[row["metric"]][row["subset"]][row["region"]].append(row["value"])
    return {
        metric: {subset: {r: float(np.mean(v)) for r, v in regions.items()} for subset, regions in subsets.items()}
        for metric, subsets in values.items()
    }


def mean_of(runs):
    """Return the system whose weights are the mean of those of the runs, and the card of the last."""
    loaded = [load_weights(Path(run)) for run in runs]
    system, card = loaded[-1]
    states = [each.state_dict() for each, _ in loaded]
    system.load_state_dict(
        {name: torch.stack([state[name] for state in states]).double().mean(0) for name in states[-1]}
    )
    return system, card


def temperatures(segmenter):
    """Return for each subset the temperature with the smallest cross-entropy in the brain of synthetic cases."""
    grid = torch.linspace(-0.7, 1.6, 47).exp()
    sums = {str(subset): torch.zeros(len(grid)) for subset in SUBSETS}
    for index in range(CALIBRATION_CASES):
        case = synthetic_case(VALIDATION_SEEDS + SEED, index, segmenter.card.preprocessing).read()
        brain = (case.images != case.background[:, None, None, None]).any(0)
        labels = case.classes.long()
        for subset, found in zip(SUBSETS, segmenter.predict(case, SUBSETS), strict=True):
            logits = found.logits[:, brain]
            if found.kind == "classes":
                losses = [cross_entropy((logits / t).T, labels[brain]) for t in grid]
            else:
                target = region_channels(labels[None], len(logits))[0][:, brain]
                losses = [binary_cross_entropy_with_logits(logits / t, target) for t in grid]
            sums[str(subset)] += torch.stack(losses)
    return {subset: round(float(grid[losses.argmin()]), 2) for subset, losses in sums.items()}


def flair_from_others(segmenter, study):
    """Return SSIM in the brain of FLAIR: reconstructed from the other three scans, and T2 in its place."""
    prepared, given = segmenter.prepare(study), Subset.parse("T1+T1c+T2")
    (found,) = segmenter.predict(prepared.only(given), [given], reconstruct=True)
    scans = prepared.scans
    brain = scans["FLAIR"] != float(prepared.background[MODALITIES.index("FLAIR")])
    return [ssim(each, scans["FLAIR"], brain) for each in (found.reconstructed["FLAIR"].numpy(), scans["T2"])]


def main(runs, name, work, further=""):
    work.mkdir(parents=True, exist_ok=True)
    system, card = mean_of(runs)
    card = card.model_copy(update={"mirrored": MIRRORED})
    chosen, calibrated = temperatures(Segmenter(system, card)), work / "calibrated.safetensors"
    save_weights(calibrated, system.state_dict(), card.model_copy(update={"temperatures": chosen}))
    write_cohort(work / "synthetic", COUNT, seed=SEED, style="realistic")
    results = {(f"{COUNT} synthetic cases at 1 mm, seed {SEED}", COUNT): (work / "synthetic", "brats2023")}
    folder = Path(os.environ.get("ANYMRI_REAL_DATA", "real"))
    for case, scheme, kind, scans, label, mask in real_cases():
        if not (folder / label).is_file():
            continue
        row = {"case": case, **scans, "label": label} | ({"mask": mask} if mask else {})
        with (work / f"{case}.csv").open("w", newline="") as stream:
            writer = csv.DictWriter(stream, row)
            writer.writeheader()
            writer.writerow({k: v if k == "case" else folder.absolute() / v for k, v in row.items()})
        results[f"{case}, {kind} label", 1] = (work / f"{case}.csv", scheme)
    tables, errors = [], []  # of Dice and of calibration
    for number, ((data, cases), (path, scheme)) in enumerate(results.items()):
        values = measured(calibrated, path, work / f"results-{number}", scheme)
        tables.append({"data": data, "cases": cases, "dice": values["dice"]})
        errors.append(values["ece"])
    facts = {
        "summary": SUMMARY,
        "operative": "pre",
        "data": f"{DATA} {further}".strip(),
        "licence": "Apache-2.0",
        "temperatures": chosen,
        "tables": tables,
    }
    STARTERS.mkdir(exist_ok=True)
    save_weights(
        STARTERS / f"{name}.safetensors", system.state_dict(), WeightsCard.model_validate(card.model_dump() | facts)
    )
    with (DOCS / f"{name}.csv").open("w", newline="") as stream:
        writer = csv.writer(stream, lineterminator="\n")
        writer.writerow(["data", "subset", "region", "dice", "ece"])
        for table, error in zip(tables, errors, strict=True):
            for subset, regions in table["dice"].items():
                for region, value in regions.items():
                    writer.writerow([table["data"], subset, region, f"{value:.4f}", f"{error[subset][region]:.4f}"])
    print("| scans |", " | ".join(table["data"] for table in tables), "|")
    print("|---|", "--:|" * len(tables), sep="")
    for subset in map(str, SUBSETS):
        cells = []
        for table in tables:
            regions = table["dice"].get(subset)
            cells.append(" / ".join(f"{100 * value:.0f}" for value in regions.values()) if regions else "")
        print(f"| {subset} |", " | ".join(cells), "|")
    for table, error in zip(tables, errors, strict=True):
        mean = 100 * np.mean([value for regions in error.values() for value in regions.values()])
        print(f"calibration error in the brain, percent, {table['data']}: {mean:.2f}")
    if system.reconstructs:
        segmenter = Segmenter(system, card)
        for (data, _), (path, _) in results.items():
            cases = [case for case in find_cases(path) if set(case.scans) == set(MODALITIES)]
            values = [flair_from_others(segmenter, read_study(case)) for case in cases]
            if values:
                print(f"SSIM of FLAIR, from the others and T2 in its place, {data}:", *np.mean(values, axis=0).round(3))


if __name__ == "__main__":
    main(sys.argv[1].split(","), sys.argv[2], Path(sys.argv[3]), *sys.argv[4:])
