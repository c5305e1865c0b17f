"""Output folders and files: locks, leftovers of killed commands, modes, inputs that are not overwritten."""

import errno
import multiprocessing
import os
import signal
import socket
import time
from pathlib import Path

import pytest

from anymri import files
from anymri.errors import AnymriWarning, OutputError

FORK = multiprocessing.get_context("fork")


def hold(folder, ready):
    """Hold a folder until the process is killed."""
    with files.locked(folder):
        ready.set()
        time.sleep(60)


@pytest.fixture
def holder(tmp_path):
    """Process that holds the folder `out`."""
    ready = FORK.Event()
    process = FORK.Process(target=hold, args=(tmp_path / "out", ready))
    process.start()
    assert ready.wait(20)
    yield process
    process.kill()
    process.join()


def test_a_folder_is_refused_while_another_command_holds_it(holder, tmp_path):
    expected = rf"writing to .*out: process {holder.pid} on {socket.gethostname()}"
    with pytest.raises(OutputError, match=expected), files.locked(tmp_path / "out"):
        pass
    assert (tmp_path / "out").exists()


def test_the_lock_of_a_killed_command_is_stale(holder, tmp_path):
    os.kill(holder.pid, signal.SIGKILL)
    holder.join()
    assert (tmp_path / "out" / ".anymri-lock").exists() and files.is_unused(tmp_path / "out")
    with files.locked(tmp_path / "out"):
        (tmp_path / "out" / "file").touch()
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["file"]


def test_a_new_folder_is_removed_if_nothing_was_written(tmp_path):
    with pytest.raises(ZeroDivisionError), files.locked(tmp_path / "new" / "out"):
        raise ZeroDivisionError
    assert not (tmp_path / "new").exists()
    (tmp_path / "old").mkdir()
    with files.locked(tmp_path / "old"):
        pass
    assert (tmp_path / "old").exists()


def test_a_file_system_without_locks_gives_a_note(tmp_path, monkeypatch):
    def refuse(*_):
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr("fcntl.flock", refuse)
    with pytest.warns(AnymriWarning, match="has no locks"), files.locked(tmp_path):
        pass


def test_leftovers_of_processes_that_ended_are_removed(tmp_path):
    process = FORK.Process(target=os.getpid)
    process.start()
    process.join()
    here, dead = files.temporary_path(tmp_path).name, f"-{process.pid}-"
    left = tmp_path / here.replace(f"-{os.getpid()}-", dead)
    alive = tmp_path / here.replace(f"-{os.getpid()}-", f"-{os.getppid()}-")
    foreign, old = tmp_path / ".anymri-elsewhere-1-a", tmp_path / ".anymri-elsewhere-1-b"
    left.mkdir()
    for path in (left / "file", alive, foreign, old):
        path.touch()
    os.utime(old, (0, 0))
    files.write_text(tmp_path / "out.txt", "x")
    assert set(tmp_path.iterdir()) == {alive, foreign, tmp_path / "out.txt"}
    with files.locked(tmp_path):
        assert not foreign.exists() and alive.exists()


def test_files_have_the_mode_of_the_umask_and_long_names_are_written(tmp_path):
    name = f"{'a' * 240}.json"
    before = os.umask(0o027)
    try:
        files.write_json(tmp_path / name, 1)
    finally:
        os.umask(before)
    assert (tmp_path / name).stat().st_mode & 0o777 == 0o640
    assert [path.name for path in tmp_path.iterdir()] == [name]


@pytest.mark.parametrize("link", [None, Path.symlink_to, Path.hardlink_to])
def test_an_input_is_not_overwritten_through_any_name(tmp_path, link):
    scan = tmp_path / "scan"
    scan.touch()
    output = scan if link is None else tmp_path / "other"
    if link is not None:
        link(output, scan)
    with pytest.raises(OutputError, match=r"would be overwritten.*\n.*-o"):
        files.refuse_overwriting([tmp_path / "absent", output], [tmp_path / "missing", scan])


def test_a_pipe_is_not_hashed(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(OSError, match="not a regular file"):
        files.sha256(tmp_path / "pipe")


def test_text_is_read_without_byte_order_mark_and_with_its_line_ends(tmp_path):
    (tmp_path / "a.txt").write_bytes(b"\xef\xbb\xbfa\r\nb\n")
    assert files.read_text(tmp_path / "a.txt") == "a\r\nb\n"


def test_text_is_read_only_from_regular_files_of_limited_size_in_utf8(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "zeros").symlink_to("/dev/zero")
    for path in (tmp_path / "pipe", tmp_path / "zeros", tmp_path):
        with pytest.raises(files.TextError, match="is not a regular file"):
            files.read_text(path)
    (tmp_path / "large").write_bytes(bytes(2_000_001))
    with pytest.raises(files.TextError, match="has more than 2 MB"):
        files.read_text(tmp_path / "large", limit=2_000_000)
    (tmp_path / "latin").write_bytes(b"M\xfcller")
    with pytest.raises(files.TextError, match="is not text in UTF-8"):
        files.read_text(tmp_path / "latin")
    with pytest.raises(FileNotFoundError):
        files.read_text(tmp_path / "absent")
