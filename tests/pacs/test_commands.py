"""`anymri pacs`: the commands beside a running node, and what is refused before any work."""

import json
import subprocess
import sys

import pytest
import yaml

from anymri.data.workers import Failure
from anymri.pacs import jobs
from anymri.pacs.configuration import Retry
from anymri.pacs.database import Database
from cli.command import anymri, check_refused
from pacs.hospital import configuration
from pacs.orthanc import free_port
from pacs.test_jobs import receive
from untrained import write_weights


@pytest.fixture
def file(tmp_path):
    """Configuration of a node whose archive does not exist."""
    return configuration(tmp_path, write_weights(tmp_path / "w.safetensors"), free_port(), free_port())


def changed(file, **values):
    content = yaml.safe_load(file.read_text())
    file.write_text(yaml.safe_dump(content | values))
    return file


def failed_study(file):
    folder = file.parent / "node"
    folder.mkdir(exist_ok=True)
    database = Database(folder)
    receive(database, "1.2.3")
    jobs.settle(database, 1, 1, "w")
    jobs.failed(database, jobs.claim(database), Failure("It failed.", "Do something."), Retry(), passes=False)
    database.close()


def result(*arguments):
    done = anymri("pacs", *arguments, "--json")
    return json.loads(done.stdout)["result"], done


def test_example_is_a_configuration(tmp_path):
    (tmp_path / "node.yaml").write_text(anymri("pacs", "example").stdout)
    check_refused(anymri("pacs", "status", tmp_path / "node.yaml"), "no node has run there")


def test_status_lists_failures_with_reason_and_remedy_and_retry_repeats_them(file):
    failed_study(file)
    found, _ = result("status", file)
    (listed,) = found["listed"]
    assert not found["running"] and found["studies"]["failed"] == 1
    assert (listed["study"], listed["what"], listed["fix"]) == ("1.2.3", "It failed.", "Do something.")
    assert "1.2.3" in anymri("pacs", "status", file).stdout
    assert result("status", file, "9.9")[0]["listed"] == []
    assert result("retry", file)[0] == {"jobs": 1, "deliveries": 0}
    assert result("status", file)[0]["studies"]["ready"] == 1


def test_check_calls_the_destinations(file):
    found, done = result("check", file)
    assert done.returncode == 3
    assert found["peers"][0]["name"] == "archive" and "cannot be reached" in found["peers"][0]["problem"]


def test_run_once_ends_when_nothing_waits(file):
    failed_study(file)
    command = [sys.executable, "-m", "anymri", "pacs", "run", str(file), "--once", "--json"]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=120)
    found = json.loads(done.stdout)["result"]
    assert found["studies"]["failed"] == 1 and found["studies"]["sent"] == 0


def test_second_node_on_one_folder_and_a_taken_port_are_refused(file):
    from anymri.pacs.configuration import read_configuration
    from anymri.pacs.node import Node

    settings = read_configuration(file)
    with Node(settings, settings.segmentation.weights, lambda *arguments, **values: None):
        check_refused(anymri("pacs", "run", file), "Another anymri command")
        changed(file, folder=str(file.parent / "other"))
        check_refused(anymri("pacs", "run", file), "cannot listen", "free port")


@pytest.mark.parametrize(
    ("change", "word"),
    [
        ({"segmentation": {"weights": "unheard"}}, "unheard"),
        ({"segmentation": {"lane": "openvin"}}, "openvino"),
        ({"segmentation": {"brain": "deepbrain"}}, "deepbet"),
        ({"segmentation": {"device": "gpu"}}, "gpu"),
        ({"quiet": 3}, "quiet_seconds"),
        ({"folder": "/proc/none"}, "cannot be written"),
    ],
)
def test_what_cannot_work_is_refused(file, change, word):
    check_refused(anymri("pacs", "run", changed(file, **change)), word)


def test_missing_file_and_missing_extra_are_named(tmp_path, file, monkeypatch):
    check_refused(anymri("pacs", "run", tmp_path / "none.yaml"), "none.yaml", "anymri pacs example")
    monkeypatch.setattr("anymri.extras.find_spec", lambda name: None if name == "pynetdicom" else object())
    check_refused(anymri("pacs", "run", file), "pynetdicom", "anymri[pacs]")
