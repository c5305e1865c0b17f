"""A package from outside adds a system without a change to anymri."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from anymri.synthesis.phantoms import write_cohort
from installed import install

PACKAGE = Path(__file__).parents[1] / "external_system"
COMMANDS = """
from anymri.cli.app import app
for command in {commands}:
    app(command, standalone_mode=False)
"""


@pytest.fixture(scope="module")
def run_installed(tmp_path_factory):
    """Run Python in a process in which the package is installed, as its pyproject.toml says; return the output."""
    folder = tmp_path_factory.mktemp("installed")
    install(PACKAGE, folder)
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(map(str, (PACKAGE, folder))), "COLUMNS": "200"}

    def run(*arguments):
        command = [sys.executable, *map(str, arguments)]
        found = subprocess.run(command, env=environment, cwd=folder, capture_output=True, text=True, check=False)
        assert found.returncode == 0, found.stdout + found.stderr
        return found.stdout

    return run


def test_external_system_passes_the_laws(run_installed):
    output = run_installed("-m", "pytest", "-q", "-p", "no:cacheprovider", "-c", os.devnull, PACKAGE / "laws.py")
    assert " passed" in output and "averaging" not in output


def test_external_system_is_listed_trained_and_segments(run_installed, tmp_path):
    cohort = tmp_path / "cohort"
    write_cohort(cohort, 3, size=24)
    run, cache = tmp_path / "run", tmp_path / "cache"
    case = next(path for path in sorted(cohort.iterdir()) if path.is_dir())
    train = ["train", "averaging", "--recipe", "nano", "--data", cohort, "--label-scheme", "brats2023", "-o", run]
    commands = [
        ["systems"],
        ["systems", "averaging"],
        [*train, "--cache", cache, "--device", "cpu"],
        ["segment", case, "--weights", run, "-o", tmp_path / "segmented", "--device", "cpu"],
    ]
    texts = [[str(word) for word in command] for command in commands]
    output = run_installed("-c", COMMANDS.format(commands=texts))
    assert "Voxel-wise classifier" in output
    assert (run / "checkpoints" / "best.safetensors").is_file()
    assert list((tmp_path / "segmented").rglob("*.nii.gz"))
