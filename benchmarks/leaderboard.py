"""All systems by their nano recipes on the same phantoms: what each learns in at most eight minutes on two cores.

    python benchmarks/leaderboard.py WORK            trains and scores what WORK does not hold yet, then writes docs/
    python benchmarks/leaderboard.py WORK mmformer   only this system, and no docs/

40 phantoms of 96^3 to learn from (two of them choose the weights), 12 others to be scored on, with all 15 subsets.
A phantom is far easier than a patient: the table tells whether code learns, not which method is best.
"""

import csv
import json
import os
import resource
import subprocess
import sys
import time
from pathlib import Path

from anymri import systems
from anymri.data.phantoms import write_cohort

BUDGET_MINUTES, CORES = 8, 2
DOCS = Path(__file__).resolve().parents[1] / "docs"


def main(work, chosen):
    for folder, count, seed in (("train", 40, 0), ("test", 12, 1)):
        if not (work / folder).exists():
            write_cohort(work / folder, count, seed)
    for name in chosen or systems.names():
        learn(work, name)
        if not (work / "evals" / name / "scores.csv").exists():
            anymri("evaluate", work / "runs" / name, "--data", work / "test", "-o", work / "evals" / name)
    if not chosen:
        publish(work)


def learn(work, name):
    """Trains a system unless it is trained already, and notes what that took."""
    record = work / "runs" / f"{name}.json"
    if record.exists():
        return
    cpu, began = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    anymri(
        *("train", name, "--recipe", "nano", "--data", work / "train", "--label-scheme", "brats2023"),
        *("--cache", work / "cache", "-o", work / "runs" / name),
    )
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    took = {
        "minutes": (time.perf_counter() - began) / 60,
        "cpu_minutes": (used.ru_utime + used.ru_stime - cpu.ru_utime - cpu.ru_stime) / 60,
    }
    record.write_text(json.dumps(took))


def anymri(*arguments):
    threads = {"OMP_NUM_THREADS": str(CORES)}
    subprocess.run([sys.executable, "-m", "anymri", *map(str, arguments)], check=True, env=os.environ | threads)


if __name__ == "__main__":
    main(Path(sys.argv[1]).resolve(), sys.argv[2:])
