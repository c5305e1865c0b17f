"""The studio as a process of its own: its address, its end, what it leaves, and its memory."""

import os
import re
import signal
import socket
import subprocess
import sys
import time
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest

from anymri.synthesis.phantoms import write_cohort
from cli.command import anymri, check_refused
from studio.opened import Page


@contextmanager
def started(tmp_path, *arguments):
    """Yield a client that is let in, and the process; it is killed at the end if it still runs."""
    temporary = tmp_path / "tmp"
    temporary.mkdir(exist_ok=True)
    command = [sys.executable, "-m", "anymri", "studio", "--no-browser", "--device", "cpu", *map(str, arguments)]
    environment = {**os.environ, "TMPDIR": str(temporary)}
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment, cwd=tmp_path
    ) as process:
        try:
            line = process.stdout.readline()
            address = re.search(r"http://\S+", line)
            assert address, process.stderr.read()
            with httpx.Client(base_url=address[0].partition("?")[0], timeout=120) as client:
                assert client.get(address[0]).status_code == 200
                yield Page(client), process
        finally:
            process.kill()


def children_of(process):
    """Return the identifiers of the children of a process, which are those of its threads."""
    files = Path(f"/proc/{process}/task").glob("*/children")
    return [int(child) for file in files for child in file.read_text().split()]


def ended(process, number):
    process.send_signal(number)
    _, errors = process.communicate(timeout=60)
    return process.returncode, errors


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_signals_end_the_studio_cleanly(tmp_path, cohort, weights, number):
    with started(tmp_path, cohort, "--weights", weights["plain"]) as (page, process):
        page.ready(page.entry("PHANTOM-00000-000"))
        code, errors = ended(process, number)
        assert code == 0 and "Traceback" not in errors, errors
    assert not list((tmp_path / "tmp").glob("anymri-studio-*"))


def test_no_log_has_the_token(tmp_path, cohort):
    with started(tmp_path, cohort / "PHANTOM-00000-000", "--log-file", "log.txt", "--verbose") as (page, process):
        first = page.get("/api/state")
        assert first.status_code == 200
        _, errors = ended(process, signal.SIGINT)
    log = (tmp_path / "log.txt").read_text()
    assert "GET" not in log and "GET" not in errors
    assert "token=" not in errors
    # The line that the terminal shows is the only one.
    assert log.count("token=") <= 1


def test_killed_studio_leaves_a_folder_that_the_next_one_removes_and_no_process(tmp_path, cohort):
    with started(tmp_path, cohort / "PHANTOM-00000-000") as (page, process):
        page.get("/api/state")
        children = children_of(process.pid)
        process.kill()
        process.wait()
    (left,) = (tmp_path / "tmp").glob("anymri-studio-*")
    end = time.monotonic() + 30
    while any(Path(f"/proc/{child}").exists() for child in children) and time.monotonic() < end:
        time.sleep(0.1)
    assert children and not any(Path(f"/proc/{child}").exists() for child in children)
    with started(tmp_path, cohort / "PHANTOM-00000-000") as (_, process):
        assert not left.exists() and len(list((tmp_path / "tmp").glob("anymri-studio-*"))) == 1


def test_folder_of_a_studio_that_runs_stays(tmp_path, cohort):
    with started(tmp_path, cohort / "PHANTOM-00000-000") as (page, _):
        with started(tmp_path, cohort / "PHANTOM-00001-000"):
            assert len(list((tmp_path / "tmp").glob("anymri-studio-*"))) == 2
        assert page.get("/api/state").status_code == 200


def test_browser_that_leaves_in_the_middle_of_an_upload_leaves_nothing(tmp_path, cohort):
    with started(tmp_path, cohort / "PHANTOM-00000-000") as (page, _):
        host, port = page.client.base_url.host, page.client.base_url.port
        cookie = "; ".join(f"{name}={value}" for name, value in page.client.cookies.items())
        head = (
            f"POST /api/uploads HTTP/1.1\r\nHost: {host}:{port}\r\nCookie: {cookie}\r\nX-Anymri: 1\r\n"
            "Content-Type: multipart/form-data; boundary=b\r\nContent-Length: 1000000\r\n\r\n"
            '--b\r\nContent-Disposition: form-data; name="files"; filename="a.nii"\r\n\r\nhalf'
        )
        (folder,) = (tmp_path / "tmp").glob("anymri-studio-*")
        with socket.create_connection((host, port)) as connection:
            connection.sendall(head.encode())
            end = time.monotonic() + 30
            while not list(folder.glob("upload-*")) and time.monotonic() < end:
                time.sleep(0.05)
            assert list(folder.glob("upload-*"))
        while list(folder.glob("upload-*")) and time.monotonic() < end:
            time.sleep(0.05)
        assert not list(folder.glob("upload-*"))
        assert page.get("/api/state").status_code == 200


def memory(process):
    """Return the memory of a process and of its children in MB."""

    def of(pid):
        return int(re.search(r"VmRSS:\s+(\d+)", Path(f"/proc/{pid}/status").read_text())[1]) / 1000

    return of(process), sum(map(of, children_of(process)))


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="memory is read from /proc, which is Linux's")
def test_memory_stays_bounded_while_thirty_cases_are_opened(tmp_path, weights):
    write_cohort(tmp_path / "many", 30, size=48)
    with started(tmp_path, tmp_path / "many", "--weights", weights["plain"], "--brain", "none") as (page, process):
        sizes = []
        for entry in page.get("/api/state").json()["entries"]:
            path = f"/api/cases/{entry['id']}"
            page.done(f"{path}/prepare")
            page.done(f"{path}/segment", {"weights": "plain", "subset": "T1+T1c+T2+FLAIR"})
            sizes.append(memory(process.pid))
    assert len(sizes) == 30
    (server_before, worker_before), (server, worker) = sizes[9], sizes[-1]
    # Each case has 3.5 MB as float32, prepared and as found: twenty of them would be 70 MB.
    assert server - server_before < 15 and worker_before > 100 and worker - worker_before < 40, sizes


@pytest.mark.parametrize(
    ("line", "word"),
    [
        (["nowhere"], "nowhere"),
        (["--weights", "unheard"], "unheard"),
        (["--label-scheme", "brats2032"], "brats2023"),
        (["--device", "gpu"], "gpu"),
        (["--brain", "deepbrain"], "deepbet"),
        (["--port", "1", "--host", "203.0.113.7"], "cannot use"),
    ],
)
def test_wrong_options_are_refused_before_anything_starts(line, word, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    check_refused(anymri("studio", *line, "--no-browser"), word)


def test_folder_without_a_scan_is_refused(tmp_path):
    (tmp_path / "empty").mkdir()
    check_refused(anymri("studio", tmp_path / "empty", "--corrections", tmp_path / "c", "--no-browser"), "No case")


def test_port_that_is_in_use_is_an_error_with_the_option(tmp_path):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        result = anymri("studio", "--port", taken.getsockname()[1], "--corrections", tmp_path / "c", "--no-browser")
        check_refused(result, "--port")


def test_other_addresses_give_a_warning(tmp_path, monkeypatch):
    from anymri.studio import server

    monkeypatch.setattr(server, "run", lambda *given: "http://0.0.0.0:1/")
    result = anymri("studio", "--host", "0.0.0.0", "--no-browser", "--corrections", tmp_path / "c")
    assert result.returncode == 0 and "other machines can reach it" in result.stderr
    assert "other machines" not in anymri("studio", "--no-browser", "--corrections", tmp_path / "c").stderr
