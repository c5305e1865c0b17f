"""The queue and its process: death, cancelling, work ahead of time, several pages at once."""

import os
import signal
import threading
import time

import pytest

from anymri.studio.jobs import Batch, Job, Jobs
from studio.opened import opened

FULL = "T1+T1c+T2+FLAIR"


def pid(page):
    return page.studio.jobs._worker.pid


def begun(page, path, json=None):
    """Begin a job and return it once it runs."""
    job = page.post(path, json).json()
    end = time.monotonic() + 60
    while job["state"] == "waiting":
        assert time.monotonic() < end
        job = page.get(f"/api/jobs/{job['id']}").json()
    return job


def slow(page, path):
    """Begin a job that takes long: the process is halted, as by a machine that is short of memory."""
    os.kill(pid(page), signal.SIGSTOP)
    return begun(page, path)


@pytest.fixture(scope="module")
def ready(page):
    return page.ready(page.entry("PHANTOM-00000-000"))[0]


def test_death_of_the_process_fails_the_job_in_words_and_the_next_job_works(page, ready):
    job = slow(page, f"{ready}/examine")
    os.kill(pid(page), signal.SIGKILL)
    failed = page.over(job)
    assert failed["state"] == "failed" and "SIGKILL" in failed["error"]["what"] and "memory" in failed["error"]["fix"]
    assert page.get("/api/state").status_code == 200
    made = page.done(f"{ready}/segment", {"weights": "plain", "subset": FULL})
    assert made["volumes_ml"].keys() == {"WT", "TC", "ET"}


def test_death_between_jobs_is_not_noticed(page, ready):
    os.kill(pid(page), signal.SIGKILL)
    assert page.done(f"{ready}/examine")["scans"]


def test_cancelled_job_ends_also_if_the_process_does_not_react(page, ready):
    job = slow(page, f"{ready}/examine")
    began = time.monotonic()
    page.post(f"/api/jobs/{job['id']}/cancel")
    cancelled = page.over(job)
    assert cancelled["state"] == "cancelled" and cancelled["error"] is None
    assert time.monotonic() - began < 20
    assert page.done(f"{ready}/examine")["scans"]


def test_waiting_job_is_cancelled_at_once_and_the_running_one_goes_on(page, ready):
    running = slow(page, f"{ready}/examine")
    waiting = page.post(f"/api/cases/{page.entry('PHANTOM-00001-000')['id']}/examine").json()
    assert page.post(f"/api/jobs/{waiting['id']}/cancel").json()["state"] == "cancelled"
    os.kill(pid(page), signal.SIGCONT)
    assert page.over(running)["state"] == "done"


def test_same_work_of_two_pages_is_done_once(page, ready):
    first = slow(page, f"{ready}/examine")
    second = page.post(f"{ready}/examine").json()
    os.kill(pid(page), signal.SIGCONT)
    assert first["id"] == second["id"] and page.over(second)["state"] == "done"


def test_two_pages_work_on_two_cases_at_the_same_time(page):
    paths = [f"/api/cases/{page.entry(f'PHANTOM-0000{i}-000')['id']}" for i in (1, 2)]
    made = {}

    def work(path):
        page.done(f"{path}/examine")
        page.done(f"{path}/prepare")
        made[path] = page.done(f"{path}/segment", {"weights": "plain", "subset": "T1c+FLAIR"})

    threads = [threading.Thread(target=work, args=(path,)) for path in paths]
    for each in threads:
        each.start()
    for each in threads:
        each.join(120)
    assert made.keys() == set(paths)
    assert all(path in made[path]["mask_url"] for path in paths)


def test_unknown_jobs_are_not_found(page):
    refused = page.get("/api/jobs/no")
    assert refused.status_code == 404 and refused.json()["error"]["fix"]
    assert page.post("/api/jobs/no/cancel").status_code == 404


def test_other_subsets_are_segmented_ahead_of_time(page, ready):
    page.done(f"{ready}/segment", {"weights": "making", "subset": FULL})
    end = time.monotonic() + 120
    while any(row["state"] != "done" for row in page.get(f"{ready}/subsets?weights=making").json()["subsets"]):
        assert time.monotonic() < end
        time.sleep(0.1)
    again = page.post(f"{ready}/segment", {"weights": "making", "subset": "T1+T2"}).json()
    assert again["state"] == "done" and again["result"]["subset"] == "T1+T2"


def test_work_ahead_gives_way_and_is_done_afterwards(tmp_path, cohort, weights):
    with opened(tmp_path, cohort, weights=weights) as page:
        path, _ = page.ready(page.entry("PHANTOM-00000-000"))
        batch = page.post(f"{path}/subsets", {"weights": "making"}).json()
        other = f"/api/cases/{page.entry('PHANTOM-00001-000')['id']}"
        assert page.done(f"{other}/examine")["scans"]
        assert page.get(f"/api/jobs/{batch['id']}").json()["state"] == "running"
        assert page.over(batch)["state"] == "done"


def test_cancelling_all_subsets_keeps_those_that_are_done(tmp_path, cohort, weights):
    with opened(tmp_path, cohort, weights=weights) as page:
        path, _ = page.ready(page.entry("PHANTOM-00000-000"))
        batch = page.post(f"{path}/subsets", {"weights": "making"}).json()
        page.post(f"/api/jobs/{batch['id']}/cancel")
        assert page.over(batch)["state"] == "cancelled"
        rows = page.get(f"{path}/subsets?weights=making").json()["subsets"]
        assert any(row["state"] == "todo" for row in rows)


def test_jobs_that_cannot_be_sent_fail_alone():
    with Jobs({"device": "cpu"}) as jobs:
        broken = jobs.submit(Job(("examine", {"source": lambda: None}), ""))  # functions cannot be sent
        assert broken.over.wait(60) and broken.state == "failed"
        unknown = jobs.submit(Job(("nothing", {}), ""))
        assert unknown.over.wait(60) and unknown.state == "failed"


def test_closing_the_queue_ends_the_process_and_cancels_what_waits():
    with Jobs({"device": "cpu"}) as jobs:
        started = jobs.submit(Job(("describe", {"weights": {}, "named": True}), ""))
        assert started.over.wait(60)
        process = jobs._worker.pid
        os.kill(process, signal.SIGSTOP)
        many = [jobs.submit(Job(("describe", {"weights": {}, "named": True}), "")) for _ in range(3)]
    assert all(job.over.wait(10) and job.state == "cancelled" for job in many)
    with pytest.raises(ProcessLookupError):
        os.kill(process, 0)


def test_batch_shows_the_first_error():
    jobs = [Job(("", {}), ""), Job(("", {}), "")]
    batch = Batch(jobs)
    assert (batch.as_json()["state"], batch.as_json()["of"]) == ("running", 2)
    jobs[0].end("done")
    assert batch.as_json()["done"] == 1
    jobs[1].end("cancelled")
    assert batch.as_json()["state"] == "cancelled"
