"""The studio in tests: its application with a child process, and a client that is let in."""

from __future__ import annotations

import math
import time
import warnings
from contextlib import contextmanager
from pathlib import Path

from anymri.studio.app import create_app
from anymri.studio.entries import Entries
from anymri.studio.jobs import Jobs
from anymri.studio.security import LOOPBACK, Guard
from anymri.studio.studio import Studio

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # about its successor httpx2, which few have
    from starlette.testclient import TestClient

PORT = 8765
BASE = f"http://127.0.0.1:{PORT}"
MARKED = {"X-Anymri": "1"}


class Page:
    """What the page of the studio does, without a browser."""

    def __init__(self, client, studio=None):
        self.client = client
        self.studio = studio

    def get(self, path, **options):
        return self.client.get(path, **options)

    def post(self, path, json=None, headers=None, **options):
        return self.client.post(path, json=json, headers={**MARKED, **(headers or {})}, **options)

    def delete(self, path):
        return self.client.delete(path, headers=MARKED)

    def finished(self, path, json=None):
        """Begin a job, and return it when it is over."""
        reply = self.post(path, json)
        assert reply.status_code == 200, reply.text
        return self.over(reply.json())

    def over(self, job, seconds=120):
        """Return a job when it is over."""
        end = time.monotonic() + seconds
        while job["state"] in ("waiting", "running"):
            assert time.monotonic() < end, job
            time.sleep(0.05)
            job = self.get(f"/api/jobs/{job['id']}").json()
        return job

    def done(self, path, json=None):
        """Return the result of a job that has to succeed."""
        job = self.finished(path, json)
        assert job["state"] == "done", job
        return job["result"]

    def upload(self, *files):
        """Send (name, content) pairs and return the response."""
        return self.post("/api/uploads", files=[("files", (name, content)) for name, content in files])

    def ready(self, entry):
        """Examine and prepare a case, and return its address and its description."""
        path = f"/api/cases/{entry['id']}"
        self.done(f"{path}/examine")
        return path, self.done(f"{path}/prepare")

    def entry(self, name):
        """Return the entry with a name."""
        return next(each for each in self.get("/api/state").json()["entries"] if each["name"] == name)


@contextmanager
def opened(folder: Path, *paths: Path, weights=None, scheme=None, corrections=None):
    """Yield the page of a studio with some paths open.

    folder   for temporary files
    weights  name -> file
    """
    entries = Entries(folder / "temporary")
    entries.folder.mkdir()
    for path in paths:
        entries.open(path, scheme)
    with Jobs({"device": "cpu", "brain": "none"}) as jobs:
        studio = Studio(entries, jobs, weights or {}, corrections or folder / "corrections", scheme)
        guard = Guard(create_app(studio), LOOPBACK, PORT)
        with TestClient(guard, base_url=BASE) as client:
            assert client.get(f"/?token={guard.token}").status_code == 200
            yield Page(client, studio)


def voxels(response, shape):
    """Return the label map or volume of a response as it is stored, x fastest."""
    content = response.content
    return content[len(content) - math.prod(shape) :]
