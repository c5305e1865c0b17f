"""Logic of the 3D Slicer module, with the program itself; and its interface with stand-ins of Slicer's classes."""

import os
import sys
import time
from pathlib import Path
from unittest.mock import MagicMock, patch

import pytest

from anymri.export.codes import ABNORMAL, BRAIN, STRUCTURES
from anymri.export.viewers import LABELS
from anymri.modalities import MODALITIES
from anymri.regions import CLASSES
from anymri.synthesis.phantoms import write_cohort
from documents import ROOT
from untrained import write_weights

MODULE = ROOT / "integrations" / "slicer" / "AnyMRI"
sys.path.insert(0, str(MODULE))
from AnyMRILib import labels, program, runs  # noqa: E402

# A program that prints what anymri prints, at a speed of its own.
SLOW = """
import json, sys, time
for done in range(100):
    print(json.dumps({"event": "progress", "step": "segmenting", "name": "window", "done": done, "total": 100}),
          file=sys.stderr, flush=True)
    time.sleep(0.1)
"""


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """Folder with a phantom, weights, and a program that starts anymri in this Python."""
    folder = tmp_path_factory.mktemp("slicer")
    write_cohort(folder / "cohort", 1, size=32)
    next(path for path in (folder / "cohort").iterdir() if path.is_dir()).rename(folder / "case")
    write_weights(folder / "w.safetensors")
    starter = folder / "anymri"
    path = os.pathsep.join(each for each in sys.path if each)
    starter.write_text(f'#!/bin/sh\nPYTHONPATH="{path}" exec "{sys.executable}" -m anymri "$@"\n')
    starter.chmod(0o755)
    return folder


@pytest.fixture
def scans(place):
    """Role -> file of the phantom."""
    names = {"T1": "t1n", "T1c": "t1c", "T2": "t2w", "FLAIR": "t2f"}
    return {role: next((place / "case").glob(f"*-{name}.nii.gz")) for role, name in names.items()}


def segmented(place, scans, output, **options):
    line = program.segment_command(str(place / "anymri"), scans, output, str(place / "w.safetensors"), **options)
    return program.Run(line)


def test_a_case_is_segmented_with_progress_and_the_chosen_subset(place, scans, tmp_path):
    run = segmented(place, scans, tmp_path / "out", subset=["FLAIR", "T1c"])
    steps = []
    while run.is_running:
        steps += run.poll()
        time.sleep(0.05)
    steps += run.poll()
    result = run.result()
    assert result["modalities"] == ["T1c", "FLAIR"] and Path(result["segmentation"]).is_file()
    assert runs.summary(result).startswith("From T1c+FLAIR: WT ")
    texts = [step.text for step in steps]
    assert "reading the scans" in texts and texts[-1] == "segmenting: window"


def test_an_error_of_the_program_is_two_sentences(place, scans, tmp_path):
    scans["T2"] = tmp_path / "nowhere.nii.gz"
    with pytest.raises(program.ProgramError, match=r"nowhere\.nii\.gz") as refused:
        segmented(place, scans, tmp_path / "out").wait()
    assert refused.value.what and refused.value.fix and "Traceback" not in str(refused.value)


def test_cancelling_ends_the_process():
    run = program.Run([sys.executable, "-c", SLOW])
    while not (steps := run.poll()):
        time.sleep(0.02)
    assert steps[0] == ("segmenting: window", 0.0)
    began = time.monotonic()
    run.cancel()
    with pytest.raises(program.ProgramError, match="cancelled"):
        run.wait(5)
    assert not run.is_running and time.monotonic() - began < 5


def test_a_process_that_does_not_end_is_killed(monkeypatch):
    monkeypatch.setattr(program, "_PATIENCE", 0.5)
    ignoring = f"import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN)\n{SLOW}"
    run = program.Run([sys.executable, "-c", ignoring])
    while not run.poll():
        time.sleep(0.02)
    began = time.monotonic()
    run.cancel()
    assert time.monotonic() - began < 5
    with pytest.raises(program.ProgramError, match="cancelled"):
        run.wait(5)


def test_a_program_that_is_missing_or_breaks_is_one_clear_error(tmp_path):
    with patch.dict(os.environ, {"PATH": str(tmp_path)}), pytest.raises(program.ProgramError, match="not installed"):
        program.find_program()
    with pytest.raises(program.ProgramError, match="/nowhere/anymri cannot be run"):
        program.find_program("/nowhere/anymri")
    with pytest.raises(program.ProgramError, match="cannot be started"):
        program.Run(["/nowhere/anymri"])
    with pytest.raises(program.ProgramError, match="ended with code 1: KeyError: 'x'"):
        program.Run([sys.executable, "-c", "{}['x']"]).wait(30)
    with pytest.raises(program.ProgramError, match="ended with code 0: it printed nothing"):
        program.Run([sys.executable, "-c", ""]).wait(30)


def test_scans_that_are_not_chosen_are_refused_before_the_program_starts(tmp_path):
    with pytest.raises(program.ProgramError, match="No volume is chosen"):
        program.segment_command("anymri", {}, tmp_path)
    with pytest.raises(program.ProgramError, match="for T2"):
        program.segment_command("anymri", {"T1c": tmp_path}, tmp_path, subset=["T1c", "T2"])


def test_the_environment_of_slicer_does_not_reach_the_program():
    inside = {"PYTHONHOME": "/slicer", "PYTHONPATH": "/slicer", "LD_LIBRARY_PATH": "/slicer", "HOME": "/me"}
    assert program.clean_environment(inside) == {"HOME": "/me"}


def test_the_doctor_proposes_roles(place, scans):
    run = program.Run(program.doctor_command(str(place / "anymri"), place / "case"))
    found = program.proposed_roles(run.wait())
    assert found == {role: file.name.removesuffix(".nii.gz") for role, file in scans.items()}


def test_names_colours_and_terminology_are_those_of_anymri():
    assert program.ROLES == MODALITIES
    assert {value: (each.name, each.colour) for value, each in labels.SEGMENTS.items()} == LABELS
    for value, segment in labels.SEGMENTS.items():
        code = STRUCTURES[CLASSES[value]].type
        assert segment.type == (code.scheme, code.value, code.meaning)
        parts = segment.terminology.split("~")
        assert len(parts) == 7
        assert parts[1] == f"{ABNORMAL.scheme}^{ABNORMAL.value}^{ABNORMAL.meaning}"
        assert parts[5] == f"{BRAIN.scheme}^{BRAIN.value}^{BRAIN.meaning}" and parts[3] == parts[6] == "^^"


def test_segmentations_are_kept_by_volumes_subset_and_weights():
    volumes = {"T1c": "node1", "T2": "node2"}
    key = runs.Made.key(volumes, ["T2", "T1c"], "starter")
    assert key == runs.Made.key(dict(reversed(volumes.items())), ["T1c", "T2"], "starter")
    assert key != runs.Made.key(volumes, ["T1c"], "starter")
    assert key != runs.Made.key(volumes, ["T1c", "T2"], "other")
    assert runs.folder_of(Path("x"), 7, ["FLAIR", "T1"]) == Path("x/007-T1+FLAIR")


class Base:
    """Stand-in of the classes that a module of Slicer inherits from."""

    def __init__(self, parent=None):
        self.layout = MagicMock()

    def setup(self):
        self.layout = MagicMock()


class Node:
    """Stand-in of a volume in the scene."""

    def __init__(self, file):
        self.file = file

    def GetID(self):  # noqa: N802
        return str(self.file)

    def GetName(self):  # noqa: N802
        return self.file.name.partition(".")[0]


# A program that prints what anymri prints at the end, beside its command line.
QUICK = """
import json, sys
print(json.dumps({"event": "warning", "text": " ".join(sys.argv[1:])}), file=sys.stderr)
result = {"segmentation": "made.nii.gz", "modalities": ["T1c", "FLAIR"], "volumes_ml": {"WT": 61.2}}
print(json.dumps({"error": None, "result": result}))
"""


@pytest.fixture
def widget(tmp_path):
    """The interface of the module, with stand-ins of Slicer and of the program."""
    (tmp_path / "quick.py").write_text(QUICK)
    quick = tmp_path / "quick"
    quick.write_text(f'#!/bin/sh\nexec "{sys.executable}" "{tmp_path / "quick.py"}" "$@"\n')
    quick.chmod(0o755)
    slicer, qt = MagicMock(), MagicMock()
    slicer.util.saveNode = lambda node, path: Path(path).write_bytes(node.file.read_bytes())
    qt.QPushButton.side_effect = lambda text: MagicMock(text=text)
    slicer.qMRMLNodeComboBox.side_effect = lambda: MagicMock(currentNode=lambda: None)
    qt.QCheckBox.side_effect = lambda text: MagicMock(checked=True)
    qt.QLineEdit.side_effect = lambda text: MagicMock(text="")
    qt.QLabel.side_effect = lambda text: MagicMock(text=text)
    base = MagicMock(ScriptedLoadableModule=Base, ScriptedLoadableModuleWidget=Base)
    stand_ins = {"slicer": slicer, "qt": qt, "ctk": MagicMock(), "slicer.ScriptedLoadableModule": base}
    with patch.dict(sys.modules, stand_ins):
        sys.modules.pop("AnyMRI", None)
        import AnyMRI

        made = AnyMRI.AnyMRIWidget()
        made.setup()
        made.program.text, made.weights.text = str(quick), "starter"
        yield made, slicer
        made.cleanup()


def test_the_interface_runs_the_program_and_names_the_segments(widget, scans):
    made, slicer = widget
    for role in ("T1c", "FLAIR"):
        made.selectors[role].currentNode = lambda role=role: Node(scans[role])
    segments = [MagicMock(GetLabelValue=lambda value=value: value) for value in (1, 2, 3)]
    segmentation = slicer.util.loadSegmentation.return_value.GetSegmentation.return_value
    segmentation.GetNumberOfSegments.return_value = 3
    segmentation.GetNthSegment.side_effect = segments.__getitem__
    made.onApply()
    assert made.cancel.enabled and not made.apply.enabled
    while made.run.is_running:
        made.onTimer()
        time.sleep(0.05)
    made.onTimer()
    slicer.util.errorDisplay.assert_not_called()
    assert made.status.text.startswith("From T1c+FLAIR: WT 61.2 mL\n") and made.apply.enabled
    assert "--subset T1c+FLAIR --weights starter" in made.status.text
    file, options = slicer.util.loadSegmentation.call_args.args
    assert file == "made.nii.gz" and options == {"name": "Tumour (T1c+FLAIR)"}
    segments[1].SetName.assert_called_once_with("Oedema")
    made.onApply()  # the same again
    assert made.status.text == "T1c+FLAIR was segmented before." and slicer.util.loadSegmentation.call_count == 1


def test_the_interface_without_the_program_shows_one_sentence(widget, scans):
    made, slicer = widget
    made.program.text = "/nowhere/anymri"
    made.selectors["T2"].currentNode = lambda: Node(scans["T2"])
    made.onApply()
    (text,) = slicer.util.errorDisplay.call_args.args
    assert "/nowhere/anymri cannot be run" in text and made.run is None
