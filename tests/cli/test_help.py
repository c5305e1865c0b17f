"""Help, cards and errors of the command line, before any command works."""

import json
import os
import re
import subprocess
import sys

import pytest

from anymri.systems import registry
from cli.command import anymri, anymri_alone, check_refused

COMMANDS = ["systems", "cite", "phantom", "recipe", "train", "doctor", "segment", "follow-up", "studio", "evaluate"]
COMMANDS += ["score", "table", "plot", "report", "convert", "export", "reproduce", "demo", "info", "weights", "pacs"]


def test_help_and_systems_do_not_import_torch():
    code = (
        "import sys\nfrom typer.testing import CliRunner\nfrom anymri.cli.app import app\n"
        "for arguments in (['--help'], ['systems'], ['systems', '--json'], ['train', '--help'], ['plot', '--help']):\n"
        "    assert CliRunner().invoke(app, arguments).exit_code == 0, arguments\n"
        "heavy = {'torch', 'monai', 'numpy', 'nibabel', 'scipy', 'pandas', 'matplotlib', 'numba'} & set(sys.modules)\n"
        "assert not heavy, heavy\n"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False).stderr == ""


def test_help_shows_every_command_on_one_line_of_60_characters():
    command = [sys.executable, "-m", "anymri", "--help"]
    shown = subprocess.run(
        command, capture_output=True, text=True, check=True, env={**os.environ, "COLUMNS": "100"}
    ).stdout
    lines = dict(re.findall(r"│ ([\w-]+) +(.*?) *│", shown.partition("Commands")[2]))
    assert list(lines) == COMMANDS
    assert all(line.endswith(".") and len(line) <= 60 for line in lines.values()), lines


def test_an_unknown_command_is_answered_by_one_question():
    assert "Did you mean 'segment'?\n" in anymri("segmnt").stderr


def test_info_does_not_import_scipy_beside_torch():
    code = (
        "import sys\nfrom cli.command import anymri\nshown = anymri('info', '--threads', '1')\n"
        "assert shown.returncode == 0 and ', 1 thread\\n' in shown.stdout, shown\n"
        "assert 'torch' in sys.modules and 'scipy' not in sys.modules\n"
    )
    run = [sys.executable, "-c", f"import sys\nsys.path[:0] = {sys.path!r}\n{code}"]
    assert subprocess.run(run, capture_output=True, text=True, check=False).stderr == ""


def test_systems_as_json_has_every_card():
    cards = json.loads(anymri("systems", "--json").stdout)["result"]["systems"]
    parameters = {card["name"]: card["parameters"] for card in cards}
    assert parameters.keys() == set(registry.names()) and parameters["u_hved"] == 1_250_552


def test_systems_shows_a_whole_card(monkeypatch):
    monkeypatch.setenv("COLUMNS", "200")
    shown = anymri("systems", "u_hved").stdout
    assert "arXiv 1907.11150" in shown and "deviations" in shown


@pytest.mark.parametrize(
    ("arguments", "word"),
    [
        (["train", "v_hved", "--data", ".", "--label-scheme", "brats2023"], "u_hved"),
        (["train", "u_hved", "--data", ".", "--label-scheme", "brats"], "brats2"),
        (["train", "u_hved", "--data", "/nowhere", "--label-scheme", "brats2023"], "/nowhere"),
        (["train", "u_hved"], "--data"),
        (["train"], "u_hved"),
        (["train", "--resume"], "Start one: anymri train"),
        (["systems", "x_hved"], "u_hved"),
        (["table", "nowhere", "--format", "latx"], "Did you mean latex?"),
    ],
)
def test_wrong_values_are_refused_with_right_ones(tmp_path, arguments, word):
    output = [] if arguments[0] == "systems" else ["-o", tmp_path / "out"]
    result = anymri(*arguments, *output)
    check_refused(result, word)
    assert not (tmp_path / "out").exists()


def test_a_wrong_label_scheme_is_refused_before_anything_is_printed(tmp_path):
    result = anymri("train", "u_hved", "--data", ".", "--label-scheme", "brats2032", "-o", tmp_path / "out")
    check_refused(result, "brats2023")
    assert result.stdout == ""


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["trian"], "Did you mean 'train'?"),
        (["train", "--ouput", "x"], "--output"),
        (["score", "x", "--lables", "x"], "--labels"),
    ],
)
def test_misspelt_commands_and_options_name_the_closest(arguments, words):
    result = anymri(*arguments)
    assert result.returncode == 2 and words in result.stderr


def test_debug_shows_the_traceback():
    result = anymri_alone("systems", "x_hved", "--debug")
    assert result.returncode != 0 and "Traceback" in result.stderr and "UnknownSystemError" in result.stderr


def test_a_home_that_cannot_be_written_causes_no_messages_of_libraries(tmp_path):
    (tmp_path / "home").write_text("a file")
    code = (
        "import sys\nfrom anymri.cli import main\nsys.argv = ['anymri', '--help']\n"
        "try:\n    main()\nexcept SystemExit:\n    import matplotlib\n    matplotlib.get_cachedir()\n"
    )
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("XDG_", "MPL"))}
    environment["HOME"] = str(tmp_path / "home")
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
    assert "anymri" in done.stdout and done.stderr == ""
