"""Train all systems by their nano recipes on the same phantoms, for 16 minutes of one core or eight of two.

    python benchmarks/leaderboard.py WORK            train and evaluate what is not in WORK yet, then write docs/
    python benchmarks/leaderboard.py WORK mmformer   only this system, and no docs/

Training has 40 phantoms of 96^3, two of them for validation; 12 others are evaluated with all 15 subsets. Phantoms are
far easier than patients: the table shows whether the code learns, not which method is best.
"""

import csv
import json
import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

import pandas as pd

from anymri.analysis.comparison import read_comparison
from anymri.analysis.tables import MEAN, format_value
from anymri.files import write_text
from anymri.modalities import ALL
from anymri.report.figures import as_png, by_number, system_heatmap
from anymri.synthesis.phantoms import write_cohort
from anymri.systems import registry

CORES = 2
# Eight minutes on two cores.
BUDGET = 16
DOCS = Path(__file__).resolve().parents[1] / "docs"

HEAD = f"""\
# What the systems learn from phantoms in a few minutes

`python benchmarks/leaderboard.py WORK` trains all systems by their nano recipes, in {BUDGET} minutes of one CPU
core at most, or eight of two, on the same 40 phantoms of 96^3, and evaluates them on 12 others with all 15 subsets.
Phantoms are far easier than patients, and the networks far smaller than the published ones: the table shows whether
the code learns, not which method is best.

Dice in percent, and HD95 (pooled) in mm, of WT / TC / ET. Best first, by the mean Dice over subsets and regions.
Values of each subset: [leaderboard.csv](leaderboard.csv).

| System | Dice, 15 subsets | Dice, all four | HD95, 15 subsets | Steps | Minutes of one core | Waiting for data |
|---|--:|--:|--:|--:|--:|--:|"""
TAIL = """
![Dice of each system with each subset](images/leaderboard.png)

![Dice of each system by the number of modalities present](images/leaderboard_by_number.png)
"""


def main(work, chosen):
    for folder, count, seed in (("train", 40, 0), ("test", 12, 1)):
        if not (work / folder).exists():
            write_cohort(work / folder, count, seed)
    names = chosen or registry.names()
    with ThreadPoolExecutor(CORES) as pool:
        list(pool.map(partial(train_and_evaluate, work), names))
    if not chosen:
        publish(work)


def train_and_evaluate(work, name):
    """Train and evaluate a system, unless it is done already, and record the time of training."""
    record, run, evaluation = work / "runs" / f"{name}.json", work / "runs" / name, work / "evals" / name
    if not record.exists():
        took = anymri(
            *("train", name, "--recipe", "nano", "--data", work / "train", "--label-scheme", "brats2023"),
            *("--cache", work / "cache", "-o", run),
        )
        record.write_text(json.dumps({"core_minutes": took}))
    if not (evaluation / "metrics.csv").exists():
        anymri("evaluate", run, "--data", work / "test", "-o", evaluation)


def anymri(*arguments):
    """Run the command on one core and return its CPU time in minutes."""
    command = [sys.executable, "-m", "anymri", *map(str, arguments)]
    with subprocess.Popen(command, env=os.environ | {"OMP_NUM_THREADS": "1"}) as process:
        _, status, used = os.wait4(process.pid, 0)
    if status:
        raise SystemExit(f"{' '.join(command)} failed.")
    return (used.ru_utime + used.ru_stime) / 60


def publish(work):
    """Write docs/leaderboard.csv and .md, and their figures."""
    evaluations = [work / "evals" / name for name in registry.names()]
    dice, hd95 = (read_comparison(evaluations, metric) for metric in ("dice", "hd95"))
    with (DOCS / "leaderboard.csv").open("w", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(["system", "subset", "region", "dice", "hd95_mm"])
        for name, means in dice.means.items():
            for (subset, region), value in means.items():
                writer.writerow([name, subset, region, f"{value:.4f}", f"{hd95.means[name][subset, region]:.2f}"])
    lines = [HEAD]
    for name in sorted(dice.means, key=lambda name: -sum(dice.means[name][MEAN, r] for r in dice.regions)):
        lines.append(f"| {' | '.join(row(work, name, dice, hd95))} |")
    write_text(DOCS / "leaderboard.md", "\n".join([*lines, TAIL]))
    (DOCS / "images" / "leaderboard.png").write_bytes(as_png(system_heatmap(dice)))
    (DOCS / "images" / "leaderboard_by_number.png").write_bytes(as_png(by_number(dice)))


def row(work, name, dice, hd95):
    """Return the cells of a system: name, means over the subsets, Dice with all modalities, and cost of training."""
    took = json.loads((work / "runs" / f"{name}.json").read_text())
    log = pd.read_csv(work / "runs" / name / "log.csv")
    waited = (log["data_wait"] * log["seconds"]).sum() / log["seconds"].sum()
    of_regions = [
        " / ".join(format_value(those.means[name][where, region], those.metric) for region in those.regions)
        for those, where in ((dice, MEAN), (dice, str(ALL)), (hd95, MEAN))
    ]
    return [name, *of_regions, str(log["step"].iloc[-1]), f"{took['core_minutes']:.1f}", f"{100 * waited:.1f} %"]


if __name__ == "__main__":
    main(Path(sys.argv[1]).resolve(), sys.argv[2:])
