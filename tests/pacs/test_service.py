"""What a node serves and removes: metrics, and the clean-up by age."""

import time
import urllib.error
import urllib.request

import pytest

from anymri.errors import ConfigurationError
from anymri.pacs import jobs, places
from anymri.pacs.cleaning import clean_up
from anymri.pacs.configuration import Limits, NodeConfiguration
from anymri.pacs.database import Database
from anymri.pacs.intake import Intake
from anymri.pacs.metrics import MetricsServer, metrics_text
from pacs.orthanc import free_port
from pacs.test_jobs import receive

DAY = 24 * 3600


@pytest.fixture
def node(tmp_path):
    database = Database(tmp_path)
    settings = {"poll": [{"url": "http://127.0.0.1:1"}], "send": [{"name": "a", "web": {"url": "http://127.0.0.1:1"}}]}
    configuration = NodeConfiguration(folder=tmp_path, keep_days=14, **settings)
    yield configuration, database, Intake(tmp_path, database, Limits(), lambda *arguments, **values: None)
    database.close()


def answered(configuration, database, study, days):
    """Record a study that came and was answered some days ago, with a file and a result."""
    receive(database, study, age=days * DAY)
    jobs.settle(database, 1, 1, "w")
    job = jobs.claim(database)
    jobs.segmented(database, job, ("T1",), 2.0, [])
    with database.transaction() as change:
        change.execute("UPDATE jobs SET state = 'sent', ended = ? WHERE id = ?", (time.time() - days * DAY, job.id))
    file = places.object_file(configuration.folder, study, "1")
    result = places.result_folder(configuration.folder, study, job.content, "w")
    for folder in (file.parent, result):
        folder.mkdir(parents=True)
    file.write_bytes(b"x")
    return file, result


def test_clean_up_removes_old_finished_studies_only_and_remembers_their_jobs(node):
    configuration, database, intake = node
    old, new = answered(configuration, database, "1.1", 20), answered(configuration, database, "1.2", 5)
    receive(database, "1.3", age=20 * DAY)  # it waits
    clean_up(configuration, database, intake)
    assert not any(path.exists() or path.parent.joinpath("1").exists() for path in old)
    assert all(path.exists() for path in new)
    assert {row["uid"] for row in database.rows("SELECT uid FROM studies")} == {"1.2", "1.3"}
    receive(database, "1.1", age=100)  # the archive sends it again
    with database.transaction() as change:
        change.execute("DELETE FROM studies WHERE uid = '1.3'")
    jobs.settle(database, 1, 1, "w")
    assert jobs.claim(database) is None


def test_study_whose_results_are_not_delivered_is_kept_at_any_age(node):
    configuration, database, intake = node
    old = answered(configuration, database, "1.1", 20)
    with database.transaction() as change:
        change.execute("UPDATE jobs SET state = 'segmented'")
    clean_up(configuration, database, intake)
    assert all(path.exists() for path in old)


def test_metrics_have_the_format_of_prometheus(node):
    configuration, database, intake = node
    answered(configuration, database, "1.1", 1)
    intake.counts["refused uid"] += 3
    server = MetricsServer(port := free_port(), lambda: metrics_text(database, intake, time.time()))
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=10) as answer:
            assert answer.headers["Content-Type"].startswith("text/plain; version=0.0.4")
            lines = answer.read().decode().splitlines()
        with pytest.raises(urllib.error.HTTPError, match="404"):
            urllib.request.urlopen(f"http://127.0.0.1:{port}/", timeout=10)
        with pytest.raises(ConfigurationError, match="metrics_port"):
            MetricsServer(port, str)
    finally:
        server.stop()
    values = dict(line.rsplit(" ", 1) for line in lines if not line.startswith("#"))
    assert values['anymri_pacs_studies{state="sent"}'] == "1"
    assert values['anymri_pacs_refused_total{reason="uid"}'] == "3"
    assert values["anymri_pacs_segmentation_seconds_sum"] == "2.0" and values["anymri_pacs_bytes_on_disk"] == "10"
    names = {line.split("{")[0].split(" ")[0] for line in lines if not line.startswith("#")}
    assert {line.split()[2] for line in lines if line.startswith("# TYPE")} == names
