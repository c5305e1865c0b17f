"""Errors of a command line come before torch is imported, which takes seconds; completion never imports it."""

import json
import os
import subprocess
import sys

import pytest

from untrained import write_weights

# Runs command lines in this process, and prints exit codes, errors, and whether torch was imported.
RUN = """
import json, sys
from cli.command import anymri
results = [anymri(*line) for line in json.loads(sys.argv[1])]
print(json.dumps([[r.returncode, r.stderr] for r in results] + ["torch" in sys.modules]))
"""


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    folder = tmp_path_factory.mktemp("place")
    write_weights(folder / "w.safetensors")
    (folder / "data").mkdir()
    (folder / "file").write_text("x")
    send = "send: [{name: archive, ae_title: ORTHANC, host: 127.0.0.1, port: 4242}]"
    receive = "receive: {callers: [{ae_title: ORTHANC}]}"
    (folder / "node.yaml").write_text(f"folder: out\n{receive}\n{send}\nsegmentation: {{weights: unheard}}\n")
    return folder


# Command line after the words that every line of the command has -> what the error names.
SEGMENT = {
    "nowhere -o out": "nowhere",
    "--t1c nowhere.nii.gz -o out": "nowhere.nii.gz",
    "data -o out --weights unheard": "unheard",
    "data -o out --subset T1+T3": "T3",
    "data -o out --device gpu": "gpu",
    "data -o out --lane openvin": "openvino",
    "data -o out --combine man": "mean",
    "data -o out --weights w.safetensors --tta w": "'w'",
    "data -o out --engine rya": "ray",
    "data -o out.nii.gz": "has the name of an image",
    "data -o out --brain deepbrain": "deepbet",
    "data -o out --space t3": "t3",
    "data -o file/out": "cannot be written",
}
TRAIN = {
    "--data data -o out": "A system was not named",
    "u_hved --data data --label-scheme brats2023 --recipe nanno -o out": "Did you mean nano?",
    "u_hvet --data data --label-scheme brats2023 -o out": "u_hved",
    "u_hved --data nowhere --label-scheme brats2023 -o out": "nowhere",
    "u_hved --data data --label-scheme brats2032 -o out": "brats2023",
    "u_hved --data data --label-scheme brats2023 --config nowhere.yaml -o out": "nowhere.yaml",
    "u_hved --data data --label-scheme brats2023 --initial-weights unheard -o out": "unheard",
    "u_hved --data data --label-scheme brats2023 --device gpu -o out": "gpu",
    "u_hved --data data --label-scheme brats2023 --logger wand -o out": "wandb",
    "u_hved --data data --label-scheme brats2023 -o file/out": "cannot be written",
}
EVALUATE = {
    "unheard --data data -o out": "unheard",
    "w.safetensors --data nowhere -o out": "nowhere",
    "w.safetensors --data data --subsets T1+T3 -o out": "T3",
    "w.safetensors --data data --metrics hd59 -o out": "hd95",
    "w.safetensors --data data --protocol mine -o out": "reference",
    "w.safetensors --data data --label-scheme brats2032 -o out": "brats2023",
    "w.safetensors --data data --lane torhc -o out": "torch",
    "w.safetensors --data data -o file/out": "cannot be written",
}
SCORE = {
    "nowhere --labels data --label-scheme brats2023 -o out": "nowhere",
    "data --labels nowhere --label-scheme brats2023 -o out": "nowhere",
    "data --labels data --label-scheme brats2032 -o out": "brats2023",
    "data --labels data --label-scheme brats2023 --subset T3 -o out": "T3",
    "data --labels data --label-scheme brats2023 --metrics hd59 -o out": "hd95",
}
STUDIO = {
    "nowhere": "nowhere",
    "data --weights unheard": "unheard",
    "data --label-scheme brats2032": "brats2023",
    "data --device gpu": "gpu",
    "data --brain deepbrain": "deepbet",
    "data --corrections file/out": "cannot be written",
}
CONVERT = {
    "nowhere.pth -o out.safetensors": "nowhere.pth",
    "file -o out.safetensors --system u_hvet": "u_hved",
    "file -o file/out.safetensors": "cannot be written",
}
FOLLOW_UP = {
    "data nowhere -o out": "nowhere",
    "data data -o out --weights unheard": "unheard",
    "data data -o out --subset T1+T3": "T3",
    "data data -o out --device gpu": "gpu",
    "data data -o out --brain deepbrain": "deepbet",
    "data data -o file/out": "cannot be written",
}
EXPORT = {
    "unheard -o out": "unheard",
    "unheard --to bundle -o out": "unheard",
    "nowhere --to bids -o out": "nowhere",
    "data --to nnunet -o out": "Dataset501",
    "data --to nnunet -o Dataset001_A": "--label-scheme",
    "data --to nnunet --label-scheme brats2032 -o Dataset001_A": "brats2023",
    "data --to nnunet --label-scheme brats2023 --subset T3 -o Dataset001_A": "T3",
    "data --to bids --subset T1 -o out": "--subset is for nnunet",
    "w.safetensors --to bundle --label-scheme brats2023 -o out": "--label-scheme is for a cohort",
    "w.safetensors -o out --to onxx": "onnx",
    "w.safetensors -o data/../file": "file",
}
REPRODUCE = {
    "u_hvet --data data -o out": "u_hved",
    "u_hved --data nowhere -o out": "nowhere",
    "u_hved --data data -o out --device gpu": "gpu",
    "u_hved --data data -o file/out": "cannot be written",
}
PACS = {
    "run nowhere.yaml": "nowhere.yaml",
    "run node.yaml": "unheard",
    "check file": "mapping",
    "status node.yaml": "no node has run there",
}
COMMANDS = {
    "recipe": {"u_hvet": "u_hved", "u_hved --recipe nanno": "Did you mean nano?"},
    "reproduce": REPRODUCE,
    "doctor": {"data --brain deepbrain": "deepbet"},
    "segment": SEGMENT,
    "train": TRAIN,
    "evaluate": EVALUATE,
    "score": SCORE,
    "studio": STUDIO,
    "convert": CONVERT,
    "follow-up": FOLLOW_UP,
    "export": EXPORT,
    "pacs": PACS,
}


@pytest.mark.parametrize("command", COMMANDS)
def test_bad_input_is_refused_before_torch_is_imported(place, command):
    lines = [[command, *line.split()] for line in COMMANDS[command]]
    run = [sys.executable, "-c", f"import sys\nsys.path[:0] = {sys.path!r}\n{RUN}", json.dumps(lines)]
    done = subprocess.run(run, capture_output=True, text=True, check=True, cwd=place)
    *results, has_torch = json.loads(done.stdout)
    for line, (code, error), word in zip(lines, results, COMMANDS[command].values(), strict=True):
        assert code == 2 and word in error and "Traceback" not in error, (line, error)
    assert not has_torch and not (place / "out").exists()


# Shell -> what its completion function sets, given the words so far.
ASKING = {
    "bash": lambda words: {"COMP_WORDS": " ".join(words), "COMP_CWORD": str(len(words) - 1)},
    "zsh": lambda words: {"_TYPER_COMPLETE_ARGS": " ".join(words)},
}


# Words so far -> what completes them, and what does not.
WORDS = {
    "anymri se": ("segment", "train"),
    "anymri weights ver": ("verify", "remove"),
    "anymri train mm": ("mmformer", "u_hved"),
    "anymri evaluate sta": ("starter", "u_hved"),
    "anymri segment --log": ("--log-file", "--lane"),
    "anymri segment --lane openv": ("openvino", "auto"),
    "anymri score --label-scheme brats2023": ("brats2023", "brats2021"),
}
COMPLETE = """
import json, os, sys
from cli.command import anymri
printed = []
for asked in json.loads(sys.argv[1]):
    os.environ.update(asked)
    printed.append(anymri().stdout)
print(json.dumps([*printed, "torch" in sys.modules]))
"""


@pytest.mark.parametrize("shell", ASKING)
def test_shells_complete_commands_options_and_values_without_torch(shell):
    asked = [{"_ANYMRI_COMPLETE": f"complete_{shell}", **ASKING[shell](words.split())} for words in WORDS]
    run = [sys.executable, "-c", f"import sys\nsys.path[:0] = {sys.path!r}\n{COMPLETE}", json.dumps(asked)]
    *printed, has_torch = json.loads(subprocess.run(run, capture_output=True, text=True, check=True).stdout)
    for words, text, (expected, unexpected) in zip(WORDS, printed, WORDS.values(), strict=True):
        assert expected in text and unexpected not in text, words
    assert not has_torch


def test_bash_completes_by_the_script_that_anymri_prints(tmp_path):
    command = tmp_path / "anymri"
    command.write_text(f"#!{sys.executable}\nfrom anymri.cli import main\nmain()\n")
    command.chmod(0o755)
    script = (
        'eval "$(_ANYMRI_COMPLETE=source_bash anymri)"\n'
        "COMP_WORDS=(anymri rep); COMP_CWORD=1; _anymri_completion anymri\n"
        'echo "${COMPREPLY[@]}"'
    )
    environment = os.environ | {"PATH": f"{tmp_path}{os.pathsep}{os.environ['PATH']}"}
    environment["PYTHONPATH"] = os.pathsep.join(sys.path)
    done = subprocess.run(["bash", "-c", script], env=environment, capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["report", "reproduce"], done.stderr
