"""Evaluation folders with invented metrics, in the format of `anymri evaluate`."""

import json

import numpy as np
import pandas as pd

from anymri.evaluation.metrics import METRICS
from anymri.evaluation.rows import COLUMNS, CURVE_COLUMNS
from anymri.files import sha256
from anymri.modalities import SUBSETS
from anymri.synthesis.phantoms import FILE_SUFFIXES

REGIONS = ("WT", "TC", "ET")
# Gain of a region from each modality, in Dice.
_GAINS = {
    "WT": {"T1": 0.05, "T1c": 0.08, "T2": 0.2, "FLAIR": 0.3},
    "TC": {"T1": 0.04, "T1c": 0.35, "T2": 0.12, "FLAIR": 0.1},
    "ET": {"T1": 0.02, "T1c": 0.5, "T2": 0.06, "FLAIR": 0.05},
}


def dice_of(seed, level, cases):
    """Return (case, subset, region) -> invented Dice; cases differ, each modality adds, the seed is the system."""
    rng = np.random.default_rng(seed)
    difficulty = {case: 0.12 * np.random.default_rng(i).standard_normal() for i, case in enumerate(sorted(cases))}
    values = {}
    for case in sorted(cases):
        for subset in SUBSETS:
            for region in REGIONS:
                gain = level + 0.25 + sum(_GAINS[region][m] for m in subset)
                value = gain / (1 + 0.35 * gain) - difficulty[case] + 0.03 * rng.standard_normal()
                values[case, str(subset), region] = float(np.clip(value, 0, 0.97))
    return values


def write_evaluation(
    folder, name="u_hved", seed=0, level=0.0, cases=12, metrics=("dice",), missing=(), reliability=False
):
    """Write an evaluation of the system `name` and return its folder.

    missing  (case number, modality) pairs: scans that do not exist
    """
    folder.mkdir(parents=True)
    names = [f"case-{number:02d}" for number in range(cases)]
    pairs = {(names[number], modality) for number, modality in missing}
    rows = []
    for (case, subset, region), dice in dice_of(seed, level, names).items():
        modalities = [m for m in subset.split("+") if (case, m) in pairs]
        for metric in metrics:
            value = 60 * (1 - dice) if metric == "hd95" else dice
            rows.append(
                [
                    case,
                    subset,
                    region,
                    metric,
                    *([None, f"{modalities[0]} missing"] if modalities else [value, "scored"]),
                ]
            )
    pd.DataFrame(rows, columns=COLUMNS).to_csv(folder / "metrics.csv", index=False)
    if reliability:
        curves(seed, names).to_csv(folder / "reliability.csv", index=False)
    card = {
        "system": name,
        "preprocessing": {"normalisation": "zscore", "crop_to_brain": True},
        "window": 64,
        "window_overlap": 0.5,
        "trained_on": ["other-01", "other-02"],
    }
    configuration = {
        "weights": card,
        "data": "COHORT",
        "label_scheme": "brats2023",
        "conventions": {metric: METRICS[metric].convention for metric in metrics},
    }
    inputs = {
        f"{case}: {what}": {"file": f"COHORT/{case}/{what}.nii.gz", "sha256": "0" * 64}
        for case in names
        for what in ("T1", "T1c", "T2", "FLAIR", "label")
        if (case, what) not in pairs
    }
    provenance = {
        "command": "evaluate",
        "created": "2025-01-01T10:00:00+00:00",
        "configuration": configuration,
        "inputs": inputs,
        "versions": {"anymri": "0.1.0"},
    }
    (folder / "provenance.json").write_text(json.dumps(provenance))
    return folder


def point_to(folder, cases):
    """Let the provenance of an evaluation name the files of phantoms, given by their folders, as those of its cases."""
    provenance = json.loads((folder / "provenance.json").read_text())
    for number, case in enumerate(cases):
        for role, suffix in {**FILE_SUFFIXES, "label": "seg"}.items():
            file = case / f"{case.name}-{suffix}.nii.gz"
            provenance["inputs"][f"case-{number:02d}: {role}"] = {"file": str(file), "sha256": sha256(file)}
    (folder / "provenance.json").write_text(json.dumps(provenance))


def remove_checksums(folder):
    """Remove the checksums of the tables from an evaluation, so that a test can change the tables."""
    provenance = json.loads((folder / "provenance.json").read_text())
    del provenance["outputs"]
    (folder / "provenance.json").write_text(json.dumps(provenance))


def curves(seed, names):
    """Return rows of `reliability.csv`: most voxels in the first bin, overconfident with few scans."""
    rng, rows = np.random.default_rng(seed), []
    middles = (np.arange(15) + 0.5) / 15
    for case in names:
        for subset in SUBSETS:
            for region, share in (("WT", 0.05), ("TC", 0.02), ("ET", 0.01)):
                weights = np.full(15, 0.02)
                weights[0], weights[-1] = 1 / share, 1.0
                voxels = (rng.uniform(0.8, 1.2, 15) * weights * 3000).astype(int)
                voxels[rng.integers(1, 14)] = 0
                bend = 1 + 0.25 * (4 - len(subset))
                observed = np.clip(middles**bend + 0.02 * rng.standard_normal(15), 0, 1)
                for i in range(15):
                    values = [middles[i], observed[i]] if voxels[i] else [0.0, 0.0]
                    rows.append([case, str(subset), region, i, int(voxels[i]), *values])
    return pd.DataFrame(rows, columns=CURVE_COLUMNS)
