"""Phantom studies as DICOM, a node in a process of its own, and what its segmentations should be."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import threading
import time
from functools import lru_cache
from io import BytesIO
from pathlib import Path

import numpy as np
import yaml

from anymri.inference.segmenter import Segmenter
from anymri.modalities import MODALITIES
from anymri.synthesis.phantoms import phantom
from export.test_dicom_seg import assert_no_voxel_moved
from pacs.orthanc import TITLE, Orthanc, free_port
from prepare.dicom.series import in_plane, rotated, write_series
from untrained import write_weights

# What scanners write: description, and times in ms.
HEADERS = {
    "T1": ("t1 axial", {"EchoTime": 3, "RepetitionTime": 9, "FlipAngle": 9}),
    "T1c": ("t1 axial post gd", {"EchoTime": 3, "RepetitionTime": 9, "ContrastBolusAgent": "Gadovist"}),
    "T2": ("t2 tse", {"EchoTime": 95, "RepetitionTime": 5000}),
    "FLAIR": ("flair", {"EchoTime": 95, "RepetitionTime": 9000, "InversionTime": 2500}),
}
SIZE = 32


@lru_cache(maxsize=64)
def _images(number, size):
    return phantom([7, number], size).images


def scans(number, modalities=MODALITIES, degrees=(0, 0, 0), size=SIZE):
    """Return modality -> (array, affine) of the phantom of a study, in LPS."""
    affine = np.diag([-1.0, -1.0, 1.0, 1.0])
    affine[:3, 3] = size / 2, size / 2, -size / 2
    affine = rotated(affine, degrees)
    images = _images(number, size)
    return {m: (np.rint(images[m]).astype(np.int16), affine) for m in MODALITIES if m in modalities}


def write_study(folder, number, modalities=MODALITIES, plane="axial", degrees=(0, 0, 0), size=SIZE, patient="", **how):
    """Write a phantom as a DICOM study of one patient, and return its StudyInstanceUID and modality -> files."""
    study = f"1.2.826.0.1.3680043.8.498.77.{number}"
    files = {}
    arrays = scans(number, modalities, degrees, size)
    for place, modality in enumerate(MODALITIES):
        if modality not in modalities:
            continue
        array, moved = in_plane(*arrays[modality], plane)
        description, headers = HEADERS[modality]
        files[modality] = write_series(
            folder / f"{number:03d}" / modality,
            array,
            moved,
            description=how.pop("description", description),
            study_uid=study,
            series_number=place + 1,
            patient_id=patient or f"P{number}",
            headers=headers,
            **how,
        )
    return study, files


def configuration(folder, weights, port, orthanc_port, **changes):
    """Write the configuration of a node for tests and return its file."""
    values = {
        "folder": str(folder / "node"),
        "receive": {"port": port, "callers": [{"ae_title": TITLE}, {"ae_title": "STORESCU"}]},
        "send": [{"name": "archive", "ae_title": TITLE, "host": "127.0.0.1", "port": orthanc_port}],
        "segmentation": {"weights": str(weights), "device": "cpu", "brain": "none"},
        "quiet_seconds": 1.5,
        "complete_seconds": 0.5,
        "retry": {"first_seconds": 0.3, "most_seconds": 1},
        **changes,
    }
    file = folder / "node.yaml"
    file.write_text(yaml.safe_dump(values))
    return file


class NodeProcess:
    """A node in a process of its own; `events` are what it reported, in all its lives."""

    def __init__(self, file):
        self.file, self.process, self.events, self.text = file, None, [], []

    def start(self, expect="listening"):
        """Start, and wait for an event."""
        command = [sys.executable, "-m", "anymri", "pacs", "run", str(self.file), "--json"]
        self.process = subprocess.Popen(
            command, stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=dict(os.environ)
        )
        self._reader = threading.Thread(target=self._read, args=(self.process.stderr,), daemon=True)
        self._reader.start()
        before = len(self.events)
        self.wait_for(lambda: any(each["event"] == expect for each in self.events[before:]), 60)
        return self

    def _read(self, stream):
        with stream:
            for line in stream:
                self.text.append(line)
                if line.startswith("{"):
                    self.events.append(json.loads(line))

    def kill(self):
        """End the process at once, as by a failure of the machine; its worker ends by itself."""
        self.process.kill()
        self._end()

    def _end(self):
        self.process.wait(60)
        self._reader.join(60)
        with self.process.stdout as stream:
            return stream.read()

    def stop(self):
        """Stop the node as an administrator does, and return the object that it printed."""
        if self.process is None or self.process.poll() is not None:
            return None
        self.process.terminate()
        return json.loads(self._end())

    def of(self, kind, **values):
        """Return the events of a kind with some values."""
        return [
            each
            for each in list(self.events)
            if each["event"] == kind and all(each.get(name) == value for name, value in values.items())
        ]

    def wait_for(self, condition, seconds=60):
        """Wait until a condition holds; fail with the last events otherwise."""
        end = time.monotonic() + seconds
        while not condition():
            assert time.monotonic() < end, "".join(self.text[-20:])
            assert self.process.poll() is None, "".join(self.text[-20:]) + self._end()
            time.sleep(0.1)


def as_file(dataset):
    """Return a dataset as a file in memory."""
    content = BytesIO()
    dataset.save_as(content)
    return BytesIO(content.getvalue())


def peak_megabytes(pid):
    """Return the largest resident memory of a process so far, of Linux."""
    status = Path(f"/proc/{pid}/status").read_text()
    return int(re.search(r"VmHWM:\s+(\d+) kB", status)[1]) / 1000


def children(pid):
    """Return the processes that a process started, of Linux."""
    found = [file.read_text().split() for file in Path(f"/proc/{pid}/task").glob("*/children")]
    return sorted(int(each) for some in found for each in some)


def assert_lies_right(segmentation, segmenter, number, modalities=MODALITIES, degrees=(0, 0, 0), size=SIZE):
    """Check that a SEG has each voxel where a segmentation of the phantom's arrays, without DICOM, has it."""
    expected = segmenter.segment(scans(number, modalities, degrees, size), brain="none")
    assert_no_voxel_moved(as_file(segmentation), expected.classes, expected.reference.affine)


class Hospital:
    """Orthanc and a node that send to each other."""

    def __init__(self, folder, **changes):
        self.folder, self.port = folder, free_port()
        self.orthanc = Orthanc(folder / "orthanc", self.port).start()
        self.weights = write_weights(folder / "weights.safetensors")
        self.segmenter = Segmenter.load(self.weights, device="cpu")
        self.node = NodeProcess(configuration(folder, self.weights, self.port, self.orthanc.port, **changes))

    def __enter__(self):
        try:
            self.node.start()
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *exception):
        try:
            self.node.stop()
        finally:
            self.orthanc.stop()

    def write(self, number, **how):
        """Write a study, and return its StudyInstanceUID and modality -> files."""
        return write_study(self.folder / "scans", number, **how)

    def send(self, number, **how):
        """Store a study in Orthanc, which sends it to the node; return its StudyInstanceUID."""
        study, files = self.write(number, **how)
        self.orthanc.add([file for series in files.values() for file in series])
        self.forward(study)
        return study

    def forward(self, study):
        """Let Orthanc send all that it has of a study to the node."""
        sent = self.orthanc.forward(*self.orthanc.find("Study", StudyInstanceUID=study))
        assert sent["FailedInstancesCount"] == 0

    def sent(self, study, times=1):
        """Wait until the node has sent results of a study a number of times."""
        self.node.wait_for(lambda: len(self.node.of("sent", study=study)) >= times)
