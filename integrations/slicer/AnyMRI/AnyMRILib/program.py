"""The program anymri as a process: where it is, its command lines, its output line by line, and how it is stopped."""

from __future__ import annotations

import json
import os
import queue
import shutil
import subprocess
import threading
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

ROLES = ("T1", "T1c", "T2", "FLAIR")
# Variables by which Slicer finds its own Python and libraries, and which break another Python.
_OF_SLICER = ("PYTHONHOME", "PYTHONPATH", "PYTHONNOUSERSITE", "LD_LIBRARY_PATH", "DYLD_LIBRARY_PATH", "QT_PLUGIN_PATH")
# Seconds that a program gets to end by itself before it is killed.
_PATIENCE = 10.0


class ProgramError(Exception):
    """An error to show to the user.

    what  one sentence: what is wrong
    fix   one sentence: what to do
    """

    def __init__(self, what: str, fix: str) -> None:
        super().__init__(f"{what}\n{fix}")
        self.what, self.fix = what, fix


class Step(NamedTuple):
    """Progress of a run: what is done, and which share of it; None where that is not known."""

    text: str
    share: float | None


def find_program(named: str = "") -> str:
    """Return the path of the program: the one that the user names, or anymri on the PATH.

    Raises `ProgramError` if there is none.
    """
    found = shutil.which(named or "anymri")
    if found is None:
        what = f"The program {named} cannot be run." if named else "The program anymri is not installed, or not found."
        raise ProgramError(what, "Install it (pip install anymri) and give its path in the field Program.")
    return found


def clean_environment(environment: Mapping[str, str]) -> dict[str, str]:
    """Return the environment of a process without what belongs to Slicer."""
    return {name: value for name, value in environment.items() if name not in _OF_SLICER}


def segment_command(
    program: str, scans: Mapping[str, Path], output: Path, weights: str = "", subset: Sequence[str] = ()
) -> list[str]:
    """Return the command line that segments scans.

    scans   role of `ROLES` -> file
    subset  roles to use; by default all that have a scan

    Raises `ProgramError` without a scan, or if a role of the subset does not have one.
    """
    if not scans:
        raise ProgramError("No volume is chosen.", "Choose at least one volume for T1, T1c, T2 or FLAIR.")
    missing = [role for role in subset if role not in scans]
    if missing:
        raise ProgramError(f"No volume is chosen for {', '.join(missing)}.", "Choose it, or use other modalities.")
    line = [program, "segment", "--json", "-o", str(output)]
    for role in ROLES:
        if role in scans:
            line += [f"--{role.lower()}", str(scans[role])]
    if subset:
        line += ["--subset", "+".join(role for role in ROLES if role in subset)]
    return line + (["--weights", weights] if weights else [])


def doctor_command(program: str, folder: Path) -> list[str]:
    """Return the command line that recognises which scan in a folder is which; it does not register them."""
    return [program, "doctor", "--json", "--no-registration", "--brain", "fallback", str(folder)]


def proposed_roles(result: Mapping[str, Any]) -> dict[str, str]:
    """Return role -> name of the file without suffixes, of what `doctor_command` printed."""
    found: dict[str, str] = {}
    for scan in result.get("scans", ()):
        role = scan.get("modality")
        if role in ROLES and role not in found:
            found[role] = Path(scan["file"]).name.split(".")[0]
    return found


class Run:
    """A process of anymri, with its output read by threads so that it never blocks.

    poll    call it from time to time, as by a timer
    cancel  stop the process
    """

    def __init__(self, line: Sequence[str], environment: Mapping[str, str] | None = None) -> None:
        """Start the process; raise `ProgramError` if it cannot be started."""
        hidden = {"creationflags": subprocess.CREATE_NO_WINDOW} if os.name == "nt" else {}
        try:
            self._process = subprocess.Popen(
                list(line),
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
                encoding="utf-8",
                errors="replace",
                env=clean_environment(os.environ if environment is None else environment),
                **hidden,
            )
        except OSError as error:
            raise ProgramError(
                f"The program {line[0]} cannot be started: {error.strerror or error}.",
                "Give the path of anymri in the field Program.",
            ) from error
        self.cancelled = False
        self.warnings: list[str] = []
        self._lines: queue.Queue[str] = queue.Queue()
        self._output: list[str] = []
        self._rest: list[str] = []
        self._threads = [
            threading.Thread(target=self._read_events, daemon=True),
            threading.Thread(target=self._read_output, daemon=True),
        ]
        for thread in self._threads:
            thread.start()

    def _read_events(self) -> None:
        assert self._process.stderr is not None
        with self._process.stderr as stream:
            for line in stream:
                self._lines.put(line)

    def _read_output(self) -> None:
        assert self._process.stdout is not None
        with self._process.stdout as stream:
            self._output.append(stream.read())

    @property
    def is_running(self) -> bool:
        """Whether the process has not ended, or some of its output has not been read."""
        return self._process.poll() is None or any(thread.is_alive() for thread in self._threads)

    def poll(self) -> list[Step]:
        """Return the progress since the last call."""
        steps = []
        while not self._lines.empty():
            line = self._lines.get()
            event = _event(line)
            if event is None:
                self._rest.append(line)
            elif event.get("event") == "warning":
                self.warnings.append(str(event.get("text", "")))
            elif event.get("event") == "progress":
                steps.append(_step(event))
        return steps

    def cancel(self) -> None:
        """Terminate the process, and kill it if it does not end; anymri does not leave incomplete results."""
        self.cancelled = True
        if self._process.poll() is not None:
            return
        self._process.terminate()
        try:
            self._process.wait(_PATIENCE)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()

    def wait(self, seconds: float = 3600) -> dict[str, Any]:
        """Wait for the end and return the result, see `result`."""
        end = time.monotonic() + seconds
        while self.is_running and time.monotonic() < end:
            time.sleep(0.05)
        return self.result()

    def result(self) -> dict[str, Any]:
        """Return what the ended process printed as `result`; raise `ProgramError` if it failed or was cancelled."""
        self.poll()
        if self.cancelled:
            raise ProgramError("The segmentation was cancelled.", "Apply starts it again.")
        code = self._process.poll()
        try:
            printed = json.loads("".join(self._output))
            error = printed["error"]
            if error is None and code == 0:
                return dict(printed["result"])
            what, fix = error["what"], error["fix"]
        except (ValueError, KeyError, TypeError) as damaged:
            last = "".join(self._rest).strip().splitlines()[-1:] or ["it printed nothing"]
            raise ProgramError(
                f"The program ended with code {code}: {last[0]}", "Run the same command in a terminal with --debug."
            ) from damaged
        raise ProgramError(what, fix)


def _event(line: str) -> dict[str, Any] | None:
    """Return the object on a line; None for other text, as a traceback has."""
    try:
        event = json.loads(line)
    except ValueError:
        return None
    return event if isinstance(event, dict) else None


def _step(event: Mapping[str, Any]) -> Step:
    done, total = event.get("done") or 0, event.get("total") or 0
    name = f": {event['name']}" if event.get("name") else ""
    return Step(f"{event.get('step', '')}{name}", done / total if total > 1 else None)
