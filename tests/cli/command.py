"""The command line in tests: in this process, or in a process of its own."""

import io
import os
import subprocess
import sys
import warnings
from contextlib import redirect_stderr, redirect_stdout
from unittest.mock import patch

from anymri.cli import main

# The smallest training of u_hved: one step of one epoch.
TRAINING = ["--recipe", "nano", "--label-scheme", "brats2023", "--set", "epochs=1", "--set", "steps_per_epoch=1"]
TRAINING += ["--set", "crop=16", "--set", "network.width=4", "--set", "batch_size=2", "--set", "window_overlap=0"]


def anymri(*arguments):
    """Run a command in this process: a new one would take seconds to import torch."""
    out, err = io.StringIO(), io.StringIO()
    with (
        patch.object(sys, "argv", ["anymri", *map(str, arguments)]),
        redirect_stdout(out),
        redirect_stderr(err),
        warnings.catch_warnings(),
    ):
        try:
            main()
        except SystemExit as stop:
            code = stop.code or 0
    return subprocess.CompletedProcess(arguments, code, out.getvalue(), err.getvalue())


def anymri_alone(*arguments):
    """Run a command in a process of its own."""
    command = [sys.executable, "-m", "anymri", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, check=False, env={**os.environ, "COLUMNS": "200"})


def check_refused(result, *words):
    """Check for exit code 2 and two sentences with these words, without a traceback."""
    assert result.returncode == 2, result.stdout + result.stderr
    assert "Traceback" not in result.stderr
    what, fix = result.stderr.strip().removeprefix("Error: ").splitlines()[-2:]
    assert what.strip() and fix.strip()
    for word in words:
        assert word in result.stderr
