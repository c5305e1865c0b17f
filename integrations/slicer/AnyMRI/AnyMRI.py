"""3D Slicer module AnyMRI: brain tumours from whichever of T1, T1c, T2 and FLAIR are loaded.

The module runs the installed program anymri as a process. This file is the interface; what it does is in AnyMRILib.
"""
# ruff: noqa: N802 (names that Slicer calls)

from __future__ import annotations

import tempfile
from pathlib import Path

import ctk
import qt
import slicer
from AnyMRILib.labels import SEGMENTS
from AnyMRILib.program import ROLES, ProgramError, Run, doctor_command, find_program, proposed_roles, segment_command
from AnyMRILib.runs import Made, folder_of, subset_name, summary
from slicer.ScriptedLoadableModule import ScriptedLoadableModule, ScriptedLoadableModuleWidget

_MILLISECONDS = 200
_PROGRAM, _WEIGHTS = "AnyMRI/Program", "AnyMRI/Weights"


class AnyMRI(ScriptedLoadableModule):
    """What Slicer shows in its list of modules."""

    def __init__(self, parent):
        ScriptedLoadableModule.__init__(self, parent)
        parent.title = "AnyMRI"
        parent.categories = ["Segmentation"]
        parent.contributors = ["The anymri developers"]
        parent.helpText = (
            "Segments brain tumours from whichever of T1, T1c, T2 and FLAIR are loaded, by the program anymri, which "
            "is installed outside Slicer. For research, not for diagnosis."
        )
        parent.acknowledgementText = ""


class AnyMRIWidget(ScriptedLoadableModuleWidget):
    """Interface: volumes and their use, weights, progress, result."""

    def setup(self):
        """Create the interface."""
        ScriptedLoadableModuleWidget.setup(self)
        self.run, self.finish = None, None
        self.made, self.number = Made(), 0
        self.folder = Path(tempfile.mkdtemp(prefix="anymri-"))
        form = self._section("Volumes")
        self.selectors, self.used = {}, {}
        for role in ROLES:
            self.selectors[role], self.used[role] = self._selector(), qt.QCheckBox("use")
            self.used[role].checked = True
            row = qt.QHBoxLayout()
            row.addWidget(self.selectors[role], 1)
            row.addWidget(self.used[role])
            form.addRow(f"{role}:", row)
        self.propose = self._button("Propose from the volumes in the scene", self.onPropose)
        form.addRow(self.propose)
        settings = qt.QSettings()
        form = self._section("Program")
        self.program, self.weights = (
            qt.QLineEdit(settings.value(_PROGRAM, "")),
            qt.QLineEdit(settings.value(_WEIGHTS, "")),
        )
        self.program.placeholderText = "anymri on the PATH"
        self.weights.placeholderText = "best installed; or a name, file or run folder"
        form.addRow("Program:", self.program)
        form.addRow("Weights:", self.weights)
        form = self._section("Segmentation")
        self.apply, self.cancel = self._button("Apply", self.onApply), self._button("Cancel", self.onCancel)
        self.bar, self.status = qt.QProgressBar(), qt.QLabel("For research, not for diagnosis.")
        self.status.wordWrap = True
        for each in (self.apply, self.cancel, self.bar, self.status):
            form.addRow(each)
        self.layout.addStretch(1)
        self.timer = qt.QTimer()
        self.timer.setInterval(_MILLISECONDS)
        self.timer.connect("timeout()", self.onTimer)
        self._show_running(False)

    def cleanup(self):
        """Stop what runs when the module is closed."""
        self.onCancel()
        self.timer.stop()

    def onPropose(self):
        """Let anymri recognise the volumes of the scene."""
        volumes = slicer.util.getNodesByClass("vtkMRMLScalarVolumeNode")
        by_file = {}
        folder = Path(tempfile.mkdtemp(dir=self.folder))
        for number, volume in enumerate(volumes):
            # The name of a volume often says what it is; the number keeps two of one name apart.
            name = "".join(c if c.isalnum() else "_" for c in volume.GetName())
            by_file[f"{name}_{number}"] = volume
            slicer.util.saveNode(volume, str(folder / f"{name}_{number}.nii.gz"))
        self._start(lambda program: doctor_command(program, folder), lambda result: self._propose(result, by_file))

    def _propose(self, result, by_file):
        found = proposed_roles(result)
        for role, file in found.items():
            self.selectors[role].setCurrentNode(by_file.get(file))
        self.status.text = f"Recognised: {', '.join(found) or 'none'}. Please check."

    def onApply(self):
        """Segment the subset that is chosen, or show it if it was made before."""
        volumes = {role: selector.currentNode() for role, selector in self.selectors.items() if selector.currentNode()}
        subset = [role for role in volumes if self.used[role].checked]
        key = Made.key({role: volume.GetID() for role, volume in volumes.items()}, subset, self.weights.text)
        if key in self.made.nodes and slicer.mrmlScene.GetNodeByID(self.made.nodes[key]):
            self._show_only(self.made.nodes[key])
            self.status.text = f"{subset_name(subset)} was segmented before."
            return
        self.number += 1
        output = folder_of(self.folder, self.number, subset)
        scans = {}
        for role, volume in volumes.items():
            scans[role] = self.folder / f"{self.number:03d}-{role}.nii.gz"
            slicer.util.saveNode(volume, str(scans[role]))
        self._start(
            lambda program: segment_command(program, scans, output, self.weights.text, subset),
            lambda result: self._load(result, key, subset),
        )

    def _load(self, result, key, subset):
        node = slicer.util.loadSegmentation(result["segmentation"], {"name": f"Tumour ({subset_name(subset)})"})
        segmentation = node.GetSegmentation()
        for index in range(segmentation.GetNumberOfSegments()):
            segment = segmentation.GetNthSegment(index)
            known = SEGMENTS[segment.GetLabelValue()]
            segment.SetName(known.name)
            segment.SetColor(*(each / 255 for each in known.colour))
            segment.SetTag(slicer.vtkSegment.GetTerminologyEntryTagName(), known.terminology)
        node.CreateClosedSurfaceRepresentation()
        self.made.nodes[key] = node.GetID()
        self._show_only(node.GetID())
        self.status.text = "\n".join([summary(result), *self.run.warnings, "For research, not for diagnosis."])

    def _show_only(self, wanted):
        for identifier in self.made.nodes.values():
            node = slicer.mrmlScene.GetNodeByID(identifier)
            if node:
                node.GetDisplayNode().SetVisibility(identifier == wanted)

    def _start(self, line, finish):
        """Start the program; `finish` gets its result."""
        settings = qt.QSettings()
        settings.setValue(_PROGRAM, self.program.text)
        settings.setValue(_WEIGHTS, self.weights.text)
        try:
            self.run = Run(line(find_program(self.program.text)))
        except ProgramError as error:
            slicer.util.errorDisplay(str(error))
            return
        self.finish = finish
        self._show_running(True)
        self.timer.start()

    def onCancel(self):
        """Stop the program."""
        if self.run is not None and self.run.is_running:
            self.run.cancel()

    def onTimer(self):
        """Show the progress, and the result at the end."""
        for step in self.run.poll():
            self.status.text = step.text
            self.bar.setRange(0, 0 if step.share is None else 100)
            self.bar.value = 0 if step.share is None else round(100 * step.share)
        if self.run.is_running:
            return
        self.timer.stop()
        self._show_running(False)
        try:
            self.finish(self.run.result())
        except ProgramError as error:
            self.status.text = str(error)
            if not self.run.cancelled:
                slicer.util.errorDisplay(str(error))

    def _show_running(self, running):
        self.apply.enabled = self.propose.enabled = not running
        self.cancel.enabled = self.bar.visible = running

    def _section(self, title):
        section = ctk.ctkCollapsibleButton()
        section.text = title
        self.layout.addWidget(section)
        return qt.QFormLayout(section)

    def _selector(self):
        selector = slicer.qMRMLNodeComboBox()
        selector.nodeTypes = ["vtkMRMLScalarVolumeNode"]
        selector.noneEnabled, selector.addEnabled, selector.removeEnabled = True, False, False
        selector.setMRMLScene(slicer.mrmlScene)
        selector.setCurrentNode(None)
        return selector

    def _button(self, text, clicked):
        button = qt.QPushButton(text)
        button.connect("clicked(bool)", lambda _checked: clicked())
        return button
