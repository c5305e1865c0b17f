"""Segmentation of a cohort on a Ray cluster: each actor has one loaded model and works on one case at a time.

An actor that dies is replaced, and its case is tried once more. All hosts see the scans, the weights and the output
under the same paths. Nothing is sent to anyone: Ray's usage statistics are off, and its dashboard is not started.
"""

from __future__ import annotations

import os
import socket
from collections import Counter, deque
from collections.abc import Generator, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from importlib import import_module
from pathlib import Path
from typing import Any

from anymri.data.sources import Source
from anymri.data.workers import Failure
from anymri.errors import ConfigurationError, OutputError
from anymri.inference.cohort_folder import CohortFolder
from anymri.inference.cohort_work import End, Work, claim, segment_source
from anymri.inference.ensemble import load_model
from anymri.text import shortened

# Times that a case may lose its actor before it counts as failed.
_DEATHS = 2
# Cores of an actor whose network computes on the CPU, unless the number of actors is given.
_CORES = 4
# Images stay in the actor that reads them, so that Ray's shared memory holds next to nothing.
_STORE_BYTES = 100_000_000
# Longest wait for the first reply of a cluster.
_SECONDS = 10


@dataclass(frozen=True)
class ModelSource:
    """What a model is loaded from, as actors on any host receive it; see `anymri.inference.ensemble.load_model`."""

    weights: tuple[Path, ...]
    device: str
    lane: str
    combine: str
    flips: str = ""


class _Actor:
    """A loaded model in a process of the cluster."""

    def __init__(self, source: ModelSource, work: Work, folder: CohortFolder) -> None:
        self.model = load_model(source.weights, source.device, source.lane, source.combine, source.flips)
        self.work = work
        self.folder = folder

    def run(self, source: Source) -> End | Failure:
        """Do all the work on one case; return the failure that every other case would meet."""
        try:
            return segment_source(self.model, source, self.work, self.folder)
        except OutputError as error:
            return Failure.of(error)


def run(
    todo: Sequence[Source],
    model: ModelSource,
    work: Work,
    folder: CohortFolder,
    address: str | None = None,
    workers: int | None = None,
) -> Generator[End, None, None]:
    """Yield how the work on each case ended, in the order in which that happened.

    model    loaded by every actor, on a GPU of its own where there is one and `device` allows it
    address  of the cluster, as "auto" or "ray://host:10001"; by default one is started on this machine
    workers  number of actors; by default one per GPU, or else one per four cores
    """
    if not todo:
        return
    model = replace(model, weights=tuple(path.absolute() for path in model.weights))
    with _cluster(address, workers) as ray:
        count, resources = _resources(ray, model.device, workers)
        count = min(count, len(todo))
        remote = ray.remote(_Actor).options(max_restarts=0, **resources)
        idle = [remote.remote(model, work, folder) for _ in range(count)]
        waiting, deaths = deque(todo), Counter[str]()
        busy: dict[Any, tuple[Any, Source]] = {}
        while waiting or busy:
            while waiting and idle:
                actor, source = idle.pop(), waiting.popleft()
                busy[actor.run.remote(source.absolute())] = actor, source
            (ready,), _ = ray.wait(list(busy), num_returns=1)
            actor, source = busy.pop(ready)
            try:
                end = ray.get(ready)
            except ray.exceptions.RayTaskError as error:
                end = _fail(source, folder, Failure.of(error.cause or error))
            except ray.exceptions.RayError as error:
                _check_started(error)
                ray.kill(actor)
                actor = remote.remote(model, work, folder)
                deaths[source.name] += 1
                if deaths[source.name] < _DEATHS:
                    waiting.append(source)
                    end = None
                else:
                    end = _fail(source, folder, _lost(source, error))
            idle.append(actor)
            if isinstance(end, Failure):
                raise OutputError(end.what, end.fix)
            if end is not None:
                yield end


@contextmanager
def _cluster(address: str | None, workers: int | None) -> Iterator[Any]:
    """Yield the module `ray`, connected to a cluster that is left or stopped at the end."""
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"  # read when ray is imported
    ray = import_module("ray")
    import_module("ray.exceptions")
    if ray.is_initialized():
        yield ray
        return
    quiet = {"log_to_driver": False, "logging_level": "error"}
    try:
        _check_reachable(address)
        if address is None:
            cores = max(workers or 1, os.cpu_count() or 1)
            started = {"num_cpus": cores, "include_dashboard": False, "object_store_memory": _STORE_BYTES}
            ray.init("local", **started, **quiet)  # not one that happens to run on this machine
        else:
            ray.init(address, **quiet)
    except (OSError, RuntimeError, ValueError) as error:
        reason = shortened(str(error).strip().partition("\n")[0], 300)
        raise ConfigurationError(
            f"The Ray cluster {address or 'on this machine'} cannot be used: {reason}",
            "Check --address and that the cluster runs (ray status), or use --engine local.",
        ) from error
    try:
        yield ray
    finally:
        ray.shutdown()


def _check_reachable(address: str | None) -> None:
    """Raise `OSError` if nobody listens at an address of host and port, for which Ray would wait several minutes."""
    host, _, port = (address or "").removeprefix("ray://").rpartition(":")
    if host and port.isdecimal():
        socket.create_connection((host.strip("[]"), int(port)), timeout=_SECONDS).close()


def _resources(ray: Any, device: str, workers: int | None) -> tuple[int, dict[str, float]]:
    """Return the number of actors, which all fit into the cluster at once, and the resources of each."""
    nodes = [node["Resources"] for node in ray.nodes() if node["Alive"]]
    gpus = int(sum(node.get("GPU", 0) for node in nodes))
    if gpus and device != "cpu":
        return min(workers or gpus, gpus), {"num_gpus": 1, "num_cpus": 0}
    cores = [int(node.get("CPU", 0)) for node in nodes if node.get("CPU", 0) >= 1]
    if not cores:
        raise ConfigurationError("The Ray cluster has no cores.", "Start its nodes with cores, or use --engine local.")
    each = sum(cores) // workers if workers else _CORES
    each = max(1, min(each, *cores))
    fitting = sum(node // each for node in cores)
    return min(workers or fitting, fitting), {"num_cpus": each}


def _check_started(error: Exception) -> None:
    """Raise `ConfigurationError` if an actor could not load the model, which no other one could either."""
    if getattr(error, "actor_init_failed", False):
        reason = shortened(" ".join(str(error).rpartition("Error: ")[2].split()), 300)  # after the traceback
        raise ConfigurationError(
            f"A worker of the Ray cluster could not start: {reason}",
            "All hosts need the same anymri, and weights, scans and output under the same paths.",
        ) from error


def _lost(source: Source, error: Exception) -> Failure:
    return Failure(
        f"The worker of {source.name} was ended {_DEATHS} times ({type(error).__name__}).",
        "If memory was short, use fewer workers or machines with more memory, and run the command again.",
    )


def _fail(source: Source, folder: CohortFolder, failure: Failure) -> End:
    """Record a failure that the actor could not record."""
    with ExitStack() as held:
        end = claim(source, folder, held)
        if end is None:
            folder.fail(source, failure)
    return End(source.name, "failed", failure)
