"""The configuration for OHIF: Orthanc starts with it and serves the scans and a SEG by DICOMweb where OHIF asks."""

import json
import os
import re
import shutil
import socket
import subprocess
import time
from pathlib import Path

import httpx
import numpy as np
import pytest

from anymri.export.dicom_seg import write_seg
from documents import ROOT
from export.dicom_phantoms import written_series

FOLDER = ROOT / "integrations" / "ohif"
PLUGIN = Path("/usr/share/orthanc/plugins/libOrthancDicomWeb.so")


def free_port():
    with socket.socket() as place:
        place.bind(("127.0.0.1", 0))
        return place.getsockname()[1]


@pytest.fixture
def orthanc(tmp_path):
    """Address of an Orthanc with the configuration of the page, on other ports."""
    program = shutil.which("Orthanc")
    if program is None or not PLUGIN.exists():
        reason = "Orthanc with its DICOMweb plugin is not installed: apt install orthanc orthanc-dicomweb"
        if os.environ.get("CI") == "true":
            pytest.fail(reason)
        pytest.skip(reason)
    settings = json.loads((FOLDER / "orthanc.json").read_text())
    assert settings["RemoteAccessAllowed"] is False and str(PLUGIN) in settings["Plugins"]
    settings |= {"HttpPort": free_port(), "DicomPort": free_port()}
    (tmp_path / "orthanc.json").write_text(json.dumps(settings))
    process = subprocess.Popen(
        [program, "orthanc.json"], cwd=tmp_path, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    address = f"http://127.0.0.1:{settings['HttpPort']}"
    try:
        for _ in range(300):
            try:
                httpx.get(f"{address}/system")
                break
            except httpx.TransportError:
                assert process.poll() is None, "Orthanc ended"
                time.sleep(0.1)
        yield address
    finally:
        process.terminate()
        process.wait(20)


def test_orthanc_serves_scans_and_segmentation_where_ohif_looks(orthanc, tmp_path):
    series, labels = written_series(tmp_path / "scan")
    seg = write_seg(tmp_path / "seg.dcm", labels.astype(np.uint8), series)
    for file in (*series.files, seg):
        httpx.post(f"{orthanc}/instances", content=file.read_bytes()).raise_for_status()
    (root,) = set(re.findall(r"(?:wado|qido|wadoUri)Root: '([^']+)'", (FOLDER / "app-config.js").read_text()))
    found = httpx.get(f"{orthanc}{root}/studies/{series.study_uid}/series").json()
    modalities = {each["00080060"]["Value"][0]: each["0020000E"]["Value"][0] for each in found}
    assert modalities.keys() == {"MR", "SEG"} and modalities["MR"] == series.series_uid
    about = httpx.get(f"{orthanc}{root}/studies/{series.study_uid}/series/{modalities['SEG']}/metadata").json()
    names = [segment["00620005"]["Value"][0] for segment in about[0]["00620002"]["Value"]]
    assert names == ["Necrotic or non-enhancing core", "Oedema", "Enhancing tumour"]


def test_nginx_serves_ohif_and_orthanc_on_loopback_at_the_ports_of_the_configuration():
    text = (FOLDER / "nginx.conf").read_text()
    settings = json.loads((FOLDER / "orthanc.json").read_text())
    assert re.findall(r"listen (\S+);", text) == ["127.0.0.1:3000"]
    assert re.findall(r"proxy_pass (\S+);", text) == [f"http://127.0.0.1:{settings['HttpPort']}"]
    assert f"location {settings['DicomWeb']['Root']}" in text
