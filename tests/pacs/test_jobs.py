"""The queue: when a study is due, what becomes of its jobs, and that none is done twice."""

import time

import pytest

from anymri.data.workers import Failure
from anymri.pacs import jobs
from anymri.pacs.configuration import Retry
from anymri.pacs.database import Database
from anymri.pacs.status import node_status

FAILURE, RETRY = Failure("It failed.", "Do something."), Retry(tries=2, first_seconds=0.01, most_seconds=0.01)
SERIES = ("a", "b", "c", "d")


@pytest.fixture
def database(tmp_path):
    opened = Database(tmp_path)
    yield opened
    opened.close()


def receive(database, study="1.2", objects=("1",), series="a", age=100.0, priority=0):
    """Record objects that came `age` seconds ago."""
    with database.transaction() as change:
        for uid in objects:
            change.execute("INSERT INTO objects VALUES (?, ?, ?, 10)", (study, uid, series))
        change.execute(
            "INSERT INTO studies VALUES (?1, ?2, ?3, 1, NULL) ON CONFLICT DO UPDATE SET changed = ?2, due = 1",
            (study, time.time() - age, priority),
        )


def settle(database, quiet=60, complete=10, weights="w"):
    jobs.settle(database, quiet, complete, weights)


def finish(database, job):
    jobs.segmented(database, job, ("T1", "T2"), 1.0, ["archive"])


def test_study_is_due_when_it_is_quiet_and_only_once(database):
    receive(database, age=1)
    settle(database)
    assert jobs.claim(database) is None
    receive(database, objects=("2",), age=61)
    settle(database)
    settle(database)
    job = jobs.claim(database)
    assert job.objects == ("1", "2") and not job.early and jobs.claim(database) is None
    finish(database, job)
    settle(database)
    assert jobs.claim(database) is None and database.counts()["segmented"] == 1


def test_study_of_four_series_is_examined_early_and_once_for_its_objects(database):
    for place, series in enumerate(SERIES):
        receive(database, objects=(str(place),), series=series, age=20)
    settle(database)
    job = jobs.claim(database)
    assert job.early
    jobs.incomplete(database, job)
    settle(database)
    assert jobs.claim(database) is None
    settle(database, quiet=15)
    job = jobs.claim(database)
    assert not job.early
    finish(database, job)
    settle(database, quiet=15)
    assert jobs.claim(database) is None and database.counts()["receiving"] == 0


def test_study_that_is_quiet_while_it_is_examined_is_segmented_as_it_is(database):
    for place, series in enumerate(SERIES):
        receive(database, objects=(str(place),), series=series, age=20)
    settle(database)
    job = jobs.claim(database)
    settle(database, quiet=15)
    jobs.incomplete(database, job)
    again = jobs.claim(database)
    assert again.id == job.id and not again.early


def test_three_series_wait_until_the_study_is_quiet(database):
    for place, series in enumerate(SERIES[:3]):
        receive(database, objects=(str(place),), series=series, age=20)
    settle(database)
    assert jobs.claim(database) is None


def test_new_object_supersedes_a_job_that_waits_and_follows_one_that_is_done(database):
    receive(database)
    settle(database)
    receive(database, objects=("2",))
    assert jobs.claim(database) is None  # it was made for other objects
    settle(database)
    job = jobs.claim(database)
    assert job.objects == ("1", "2")
    finish(database, job)
    receive(database, objects=("3",))
    settle(database)
    assert jobs.claim(database).objects == ("1", "2", "3")
    assert database.counts() == {
        "receiving": 0,
        "ready": 0,
        "segmenting": 1,
        "segmented": 1,
        "sent": 0,
        "failed": 0,
        "superseded": 1,
    }


def test_a_job_exists_once_per_weights(database):
    receive(database)
    settle(database)
    finish(database, jobs.claim(database))
    for weights, expected in (("w", False), ("newer", True)):
        with database.transaction() as change:
            change.execute("UPDATE studies SET due = 1")  # as after the removal of its objects, which come again
        settle(database, weights=weights)
        assert (jobs.claim(database) is not None) == expected


def test_priority_goes_before_age(database):
    receive(database, "1.1")
    receive(database, "1.2", priority=5)
    receive(database, "1.3", priority=-1)
    settle(database)
    assert [jobs.claim(database).study for _ in range(3)] == ["1.2", "1.1", "1.3"]


def test_failure_is_tried_again_by_rule_and_by_hand(database):
    receive(database)
    settle(database)
    assert jobs.failed(database, jobs.claim(database), FAILURE, RETRY, passes=True)
    time.sleep(0.02)
    assert not jobs.failed(database, jobs.claim(database), FAILURE, RETRY, passes=True)
    assert jobs.claim(database) is None
    (listed,) = node_status(database).listed
    assert (listed.state, listed.tries, listed.what, listed.fix) == ("failed", 2, "It failed.", "Do something.")
    assert jobs.retry_now(database, "9.9") == (0, 0) and jobs.retry_now(database, None) == (1, 0)
    assert jobs.claim(database).tries == 0


def test_failure_of_the_input_is_not_tried_again_and_one_of_the_disk_always(database):
    receive(database, "1.1")
    settle(database)
    assert not jobs.failed(database, jobs.claim(database), FAILURE, RETRY, passes=False)
    receive(database, "1.2")
    settle(database)
    for _ in range(5):
        time.sleep(0.02)
        assert jobs.failed(database, jobs.claim(database), FAILURE, RETRY, passes=True, counts=False)


def test_job_of_a_node_that_ended_is_ready_again(database):
    receive(database)
    settle(database)
    job = jobs.claim(database)
    jobs.release(database)
    assert jobs.claim(database) == job


def test_silence_while_the_node_was_down_does_not_count(database):
    receive(database, age=1000)
    jobs.release(database)
    settle(database)
    assert jobs.claim(database) is None


def test_database_of_another_version_is_refused(tmp_path):
    from anymri.errors import OutputError
    from anymri.pacs.node import open_database

    opened = Database(tmp_path)
    with opened.transaction() as change:
        change.execute("PRAGMA user_version = 99")
    opened.close()
    with pytest.raises(OutputError, match="version 99"):
        open_database(tmp_path)
    (tmp_path / "node.sqlite").write_bytes(b"not a database" * 1000)
    with pytest.raises(OutputError, match="cannot be used"):
        open_database(tmp_path)
