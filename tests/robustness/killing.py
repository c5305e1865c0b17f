"""Commands that are killed at one call of the operating system, as by a failure of the machine."""

from __future__ import annotations

import json
import multiprocessing
import os
from pathlib import Path

import pandas as pd
import torch

from cli.command import anymri

RENAMES = ("rename", "replace")
CHANGES = (*RENAMES, "mkdir", "unlink", "rmdir")
KILLED = 137
# Columns of log.csv that say how fast this machine is.
SPEED = ["seconds", "patches_per_second", "data_wait"]


def killed(arguments, root, number, calls=RENAMES, after=False):
    """Run a command that ends at once at its call `number` of `calls` on a path below `root`; return its exit code.

    after  end after the call instead of before it
    """
    # A forked process has imported everything already.
    process = multiprocessing.get_context("fork").Process(target=_run, args=(arguments, root, number, calls, after))
    process.start()
    process.join(120)
    assert process.exitcode is not None, "the command does not end"
    return process.exitcode


def _run(arguments, root, number, calls, after):
    torch.set_num_threads(1)
    left = [number]

    def deadly(call):
        def changed(path, *rest, **options):
            mine = isinstance(path, str | Path) and Path(path).is_relative_to(root)
            left[0] -= mine
            if mine and left[0] == 0:
                if after:
                    call(path, *rest, **options)
                os._exit(KILLED)
            return call(path, *rest, **options)

        return changed

    for name in calls:
        setattr(os, name, deadly(getattr(os, name)))
    os._exit(anymri(*arguments).returncode)


def content(folder):
    """Return relative path -> what a file of an output folder says, without times and the place of the cache."""
    found = {}
    for file in sorted(folder.rglob("*")):
        name = file.relative_to(folder)
        if file.is_dir() or "tensorboard" in name.parts or file.name == "state.pt":
            continue
        found[str(name)] = _without_times(file)
    return found


def _without_times(file):
    if file.name == "log.csv":
        return pd.read_csv(file).drop(columns=SPEED).to_csv()
    if file.name == "config.yaml":
        return [line for line in file.read_text().splitlines() if not line.startswith("cache:")]
    if file.name == "provenance.json":
        record = json.loads(file.read_text())
        del record["created"]
        record["configuration"].pop("cache", None)
        return record
    return file.read_bytes()
