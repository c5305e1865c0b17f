"""A real Orthanc with its DICOMweb plugin, on free ports of this machine, with a storage of its own."""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import time
import urllib.error
import urllib.request
from pathlib import Path

import pytest

PROGRAM = shutil.which("Orthanc") or "/usr/sbin/Orthanc"
PLUGINS = Path("/usr/share/orthanc/plugins")
TITLE = "ORTHANC"
INSTALL = "install orthanc, orthanc-dicomweb and dcmtk, as by: apt-get install orthanc orthanc-dicomweb dcmtk"


def need_tools(*programs):
    """Skip a test aloud if a program of Debian is missing; fail in continuous integration."""
    missing = [name for name in programs if shutil.which(name) is None and not Path(name).is_file()]
    if missing:
        text = f"{', '.join(missing)} is not installed: {INSTALL}"
        if os.environ.get("CI"):
            pytest.fail(text)
        pytest.skip(text)


_given = set()


def free_port():
    """Return a port that is free now, and another one in each call."""
    while True:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = probe.getsockname()[1]
        if port not in _given:
            _given.add(port)
            return port


class Orthanc:
    """A running Orthanc, which can be stopped and started again with its storage."""

    def __init__(self, folder, node_port):
        need_tools(PROGRAM, PLUGINS / "libOrthancDicomWeb.so")
        self.folder, self.port, self.web_port = folder, free_port(), free_port()
        self.url = f"http://127.0.0.1:{self.web_port}"
        self.dicomweb = f"{self.url}/dicom-web"
        folder.mkdir(parents=True, exist_ok=True)
        settings = {
            "StorageDirectory": str(folder / "storage"),
            "IndexDirectory": str(folder / "storage"),
            "HttpPort": self.web_port,
            "DicomPort": self.port,
            "DicomAet": TITLE,
            "DicomCheckCalledAet": False,
            "DicomAlwaysAllowStore": True,
            "UnknownSopClassAccepted": True,
            "RemoteAccessAllowed": False,
            "AuthenticationEnabled": False,
            "StorageCompression": False,
            "StableAge": 1,
            "Plugins": [str(PLUGINS / "libOrthancDicomWeb.so")],
            "DicomWeb": {"Enable": True, "Root": "/dicom-web/"},
            "DicomModalities": {"node": {"AET": "ANYMRI", "Host": "127.0.0.1", "Port": node_port}},
            "DicomScuTimeout": 60,
        }
        (folder / "orthanc.json").write_text(json.dumps(settings))
        self.process = None

    def start(self):
        """Start, and wait until it answers."""
        with (self.folder / "log").open("ab") as log:
            self.process = subprocess.Popen([PROGRAM, str(self.folder / "orthanc.json")], stdout=log, stderr=log)
        for _ in range(300):
            try:
                self.get("/system")
                return self
            except (urllib.error.URLError, ConnectionError):
                assert self.process.poll() is None, (self.folder / "log").read_text()[-2000:]
                time.sleep(0.1)
        raise AssertionError("Orthanc does not answer")

    def stop(self):
        """Stop; nothing happens if it is stopped."""
        if self.process is not None:
            self.process.terminate()
            self.process.wait(30)
            self.process = None

    def get(self, path):
        """Return the JSON of a path."""
        with urllib.request.urlopen(self.url + path, timeout=60) as answer:
            return json.load(answer)

    def post(self, path, content):
        """Send JSON or bytes to a path, and return the JSON of the answer."""
        data = content if isinstance(content, bytes) else json.dumps(content).encode()
        with urllib.request.urlopen(urllib.request.Request(self.url + path, data), timeout=300) as answer:
            return json.load(answer)

    def add(self, files):
        """Store DICOM files."""
        for file in files:
            self.post("/instances", Path(file).read_bytes())

    def forward(self, *resources):
        """Send studies, series or objects to the node by C-STORE; the names are those of `find`."""
        return self.post("/modalities/node/store", {"Resources": list(resources), "Synchronous": True, "Timeout": 120})

    def find(self, level, **query):
        """Return the names of the studies, series or instances that match."""
        return self.post("/tools/find", {"Level": level, "Query": query})

    def download(self, name):
        """Return the file of an object."""
        with urllib.request.urlopen(f"{self.url}/instances/{name}/file", timeout=60) as answer:
            return answer.read()

    def results(self, study):
        """Return kind of a result, SEG or SR -> the objects in a study, as pydicom reads them."""
        from io import BytesIO

        from pydicom import dcmread

        found = {}
        for kind in ("SEG", "SR"):
            names = self.find("Instance", StudyInstanceUID=study, Modality=kind)
            found[kind] = [dcmread(BytesIO(self.download(name))) for name in names]
        return found
