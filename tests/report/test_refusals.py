"""Refusal of folders that are not evaluations or not comparable, before anything is written."""

import pytest

from anymri.cli.commands.plot import write_plots
from anymri.errors import ConfigurationError, RunError
from anymri.modalities import MODALITIES
from made_evaluations import write_evaluation


@pytest.mark.parametrize(
    ("made", "words"),
    [
        ("nothing", "does not exist"),
        ("empty", "is empty"),
        ("file", "is a file"),
        ("run", "run folder of a training"),
        ("unfinished", "not finished (2 cases so far)"),
        ("other", "provenance.json"),
    ],
)
def test_a_folder_that_is_not_an_evaluation_is_refused_with_the_reason(tmp_path, made, words):
    folder = tmp_path / "folder"
    if made == "file":
        folder.write_text("")
    elif made != "nothing":
        folder.mkdir()
    names = {
        "run": ["config.yaml"],
        "unfinished": ["settings.json", "cases/a.json", "cases/b.json"],
        "other": ["a.txt"],
    }
    for name in names.get(made, []):
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_text("{}")
    with pytest.raises(RunError) as error:
        write_plots([folder], tmp_path / "plots", [])
    assert words in str(error.value) and not (tmp_path / "plots").exists()


def test_evaluations_that_are_not_comparable_are_refused(tmp_path):
    known = write_evaluation(tmp_path / "a", "u_hved", cases=2)
    strangers = write_evaluation(tmp_path / "c", "mam", metrics=("assd",))
    with pytest.raises(RunError, match="no metric in common"):
        write_plots([known, strangers], tmp_path / "plots", [])
    with pytest.raises(ConfigurationError, match="twice"):
        write_plots([known, known], tmp_path / "plots", [])
    unscored = write_evaluation(tmp_path / "d", "mam", cases=1, missing=[(0, m) for m in MODALITIES])
    with pytest.raises(RunError, match="not have any scored case"):
        write_plots([unscored], tmp_path / "plots", [])
