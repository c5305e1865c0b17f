"""Commands without the extras of the package: the core works, the others name the install line before any work."""

import json
import shlex
import subprocess
import sys

import pytest

from documents import ROOT, blocks

# Hides packages from imports and from `importlib.util.find_spec`, and runs the command line.
WITHOUT = """
import sys
hidden = set(sys.argv.pop(1).split(","))

class Hiding:
    def __init__(self, finder):
        self.finder = finder

    def find_spec(self, name, path=None, target=None):
        return None if name.partition(".")[0] in hidden else self.finder.find_spec(name, path, target)

    def __getattr__(self, name):
        return getattr(self.finder, name)

sys.meta_path[:] = [Hiding(finder) for finder in sys.meta_path]
import json
from cli.command import anymri
results = []
for arguments in json.loads(sys.argv[1]):
    result = anymri(*arguments)
    results.append([result.returncode, result.stdout, result.stderr])
print(json.dumps(results))
"""
EXTRAS = {
    "train": ("lightning", "monai", "tensorboard"),
    "report": ("pandas", "matplotlib", "jinja2"),
    "prepare": ("SimpleITK",),
    "parquet": ("pyarrow",),
    "export": ("onnx", "onnxscript", "openvino"),
}


def without(packages, commands):
    """Return (exit code, stdout, stderr) of commands in one process in which packages cannot be found."""
    commands = json.dumps([[str(word) for word in command] for command in commands])
    run = [sys.executable, "-c", f"import sys\nsys.path[:0] = {sys.path!r}\n{WITHOUT}", ",".join(packages), commands]
    done = subprocess.run(run, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


@pytest.fixture(scope="module")
def outcomes(workshop, case, tmp_path_factory):
    """Name of a command -> its outcome without any extra; and the folder that they wrote to."""
    folder = tmp_path_factory.mktemp("without")
    run, data = workshop / "run", workshop / "data"
    scheme = ["--label-scheme", "brats2023"]
    (folder / "masks").mkdir()
    for label in data.glob("*/*-seg.nii.gz"):
        (folder / "masks" / label.name).write_bytes(label.read_bytes())
    commands = {
        "segment": ["segment", case, "--weights", run, "-o", folder / "segment"],
        "score": ["score", folder / "masks", "--labels", data, *scheme, "-o", folder / "score"],
        "recipe": ["recipe", "u_hved"],
        "train": ["train", "u_hved", "--data", data, *scheme, "-o", folder / "train"],
        "demo": ["demo", "-o", folder / "demo"],
        "table": ["table", folder / "score"],
        "plot": ["plot", folder / "score", "-o", folder / "plot"],
        "report": ["report", folder / "score"],
        "export": ["export", run, "-o", folder / "export"],
        "lane": ["segment", case, "--weights", run, "--lane", "openvino", "-o", folder / "lane"],
    }
    commands["train with a typing error"] = ["train", "u_hved", "--data", data, *scheme, "--recipe", "nanno", "-o", "x"]
    commands["reproduce with a typing error"] = ["reproduce", "u_hvet", "--data", data, "-o", "x"]
    extras = [package for packages in EXTRAS.values() for package in packages]
    return dict(zip(commands, without(extras, commands.values()), strict=True)), folder


def test_the_core_segments_scores_and_prints_recipes(outcomes):
    results, folder = outcomes
    for name in ("segment", "score", "recipe"):
        assert results[name][0] == 0, results[name]
    assert (folder / "segment" / "segmentation.nii.gz").exists()
    assert (folder / "score" / "metrics.csv").exists()


@pytest.mark.parametrize(
    ("command", "extra"),
    [
        ("train", "train"),
        ("demo", "train"),
        ("table", "report"),
        ("plot", "report"),
        ("report", "report"),
        ("export", "export"),
        ("lane", "export"),
    ],
)
def test_a_command_without_its_extra_names_the_install_line_before_any_work(outcomes, command, extra):
    results, folder = outcomes
    code, out, err = results[command]
    assert code == 2 and f"pip install 'anymri[{extra}]'" in err and "Traceback" not in err
    assert out == "" and not (folder / command).exists()


@pytest.mark.parametrize(("command", "hint"), [("train", "nano"), ("reproduce", "u_hved")])
def test_a_typing_error_is_reported_before_a_missing_extra(outcomes, command, hint):
    code, _, err = outcomes[0][f"{command} with a typing error"]
    assert code == 2 and f"Did you mean {hint}?" in err and "pip install" not in err


def test_the_first_commands_of_the_readme_need_no_extra(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    lines = [line for line in blocks(ROOT / "README.md")[0].text.splitlines() if line.startswith("anymri ")]
    packages = [package for each in EXTRAS.values() for package in each]
    outcomes = without(packages, [shlex.split(line, comments=True)[1:] for line in lines])
    assert len(lines) == 2
    assert [code for code, *_ in outcomes] == [0, 0], outcomes
