"""Segmentation of a cohort: one folder per case, continued where an earlier command stopped."""

from __future__ import annotations

import os
import warnings
from collections.abc import Generator, Iterator, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, wait
from contextlib import ExitStack, closing, suppress
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from anymri.data.source_search import find_sources
from anymri.data.sources import Shard, Source, load
from anymri.data.workers import Failure, Reply, Workers
from anymri.errors import AnymriError, AnymriWarning, ConfigurationError, InputWarning
from anymri.extras import need
from anymri.inference.choices import check_engine
from anymri.inference.cohort_folder import CohortFolder
from anymri.inference.cohort_summary import write_summary
from anymri.inference.cohort_work import End, Work, claim, finish, segment_source
from anymri.inference.ensemble import Model, load_model
from anymri.progress import Progress, silent
from anymri.provenance import records_paths
from anymri.weights.locate import find_weights

# More processes than these read and prepare no faster than one GPU computes.
_MOST_WORKERS = 8


@dataclass(frozen=True)
class CohortOutcome:
    """What one command did with its share of a cohort.

    output     the folder
    segmented  names of the cases that it segmented
    kept       names of the cases whose results were whole
    failed     name -> failure of the cases without a result
    elsewhere  names of the cases that another command works on
    """

    output: Path
    segmented: tuple[str, ...]
    kept: tuple[str, ...]
    failed: dict[str, Failure]
    elsewhere: tuple[str, ...]


def segment_cohort(
    cohort: Path | str | Sequence[Source],
    output: Path | str,
    weights: Model | Path | str | Sequence[Path | str],
    *,
    device: str = "auto",
    lane: str = "torch",
    combine: str = "mean",
    flips: str = "",
    work: Work | None = None,
    shard: Shard | None = None,
    engine: str = "local",
    address: str | None = None,
    workers: int | None = None,
    progress: Progress = silent,
) -> CohortOutcome:
    """Segment all cases of a cohort into one folder each; one that fails does not stop the others.

    cohort    folder or CSV manifest, see `find_sources`; or the sources
    output    folder with one folder per case, failures.json and summary.csv. A case is done again only if its inputs,
              the weights, the settings or its result have changed
    weights   a weights file, run folder or name of installed weights; several for an ensemble; or a loaded model
    device    auto, cpu, cuda, cuda:1, mps
    lane      how the network is computed, see `Segmenter.load`; the engine ray takes any but auto
    combine   how an ensemble combines its members: mean, staple
    flips     axes along which scans are mirrored too, as "x" or "xyz"
    work      what is done with each case; by default segmented from all modalities that exist, and saved
    shard     share of the cohort; several commands with different ones may fill one folder
    engine    local; or ray, with the extra `cluster`
    address   address of a Ray cluster; by default one is started on this machine
    workers   processes that read and prepare cases while the network computes, 0 for none; of ray: loaded segmenters.
              At most so many prepared cases wait in memory
    progress  called with the name of a case, and how many of how many cases are done before it

    Raises `CohortError` if there is no case, `WeightsError` for weights that cannot be used, `OutputError` if the
    folder cannot be written, also during the work. Failures of cases are in the outcome and cause a warning each.

    >>> import anymri
    >>> outcome = anymri.segment_cohort("COHORT", "SEGMENTED", "RUN", workers=0)
    >>> len(outcome.segmented), outcome.failed
    (2, {})
    """
    check_engine(engine, lane)
    if engine == "ray":
        need("cluster", "ray", purpose="The engine ray")
    target = Path(output).absolute()
    doing = replace(work or Work(), strict=_is_strict(), paths=records_paths())
    sources = find_sources(Path(cohort)) if isinstance(cohort, Path | str) else list(cohort)
    sources = [source for source in sources if not _contains(source, target)]
    paths = _paths(weights)
    if engine == "ray" and not paths:
        raise ConfigurationError("A loaded model cannot be sent to a Ray cluster.", "Give the weights by their path.")
    model = load_model(weights, "cpu" if engine == "ray" else device, lane, combine, flips)
    folder = CohortFolder(target, doing.settings(model))
    folder.check(sources)
    chosen = sources if shard is None else shard.of(sources)
    ends = {source.name: End(source.name, "kept") for source in chosen if folder.is_done(source)}
    todo = [source for source in chosen if source.name not in ends]
    todo.sort(key=folder.was_interrupted)  # a case that ended the last command does not end this one before the others
    if engine == "ray":
        from anymri.inference.ray_engine import ModelSource, run

        running = run(todo, ModelSource(paths, device, lane, combine, flips), doing, folder, address, workers)
    else:
        count = _default_workers(model) if workers is None else workers
        running = _run(todo, model, doing, folder, min(count, len(todo)))
    try:
        with closing(running):
            progress("", 0, len(todo))
            for done, end in enumerate(running, 1):
                ends[end.name] = end
                progress(end.name, done, len(todo))
                _warn(end)
    except BaseException:
        with suppress(AnymriError):  # the first error is the one to show
            write_summary(folder)
        raise
    write_summary(folder)
    return _outcome(target, chosen, ends)


def _run(
    todo: Sequence[Source], model: Model, work: Work, folder: CohortFolder, workers: int
) -> Generator[End, None, None]:
    """Yield how the work on each case ended; processes read the next cases while the network computes."""
    if workers < 1:
        for source in todo:
            yield segment_source(model, source, work, folder)
        return
    waiting = iter(todo)
    reading: dict[Future[Reply], tuple[Source, ExitStack]] = {}

    def begin(pool: Workers) -> Iterator[End]:
        """Let the pool read the next case; yield the ends of those with nothing to do before it."""
        for source in waiting:
            held = ExitStack()
            end = claim(source, folder, held)
            if end is None:
                reading[pool.submit(source, source.name)] = (source, held)
                return
            yield end

    with Workers(workers, partial(load, work.reader())) as pool:
        try:
            for _ in range(workers):
                yield from begin(pool)
            while reading:
                done, _ = wait(reading, return_when=FIRST_COMPLETED)
                future = next(each for each in reading if each in done)
                source, held = reading.pop(future)
                with held:
                    yield from begin(pool)
                    yield finish(model, source, future.result(), work, folder)
        finally:
            for _, held in reading.values():
                held.close()


def _default_workers(model: Model) -> int:
    """Return one worker beside a network on the CPU, which needs the cores itself, and several beside a GPU."""
    if str(getattr(model, "device", "cpu")) == "cpu":
        return 1
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, min(_MOST_WORKERS, cores - 1))


def _paths(weights: Model | Path | str | Sequence[Path | str]) -> tuple[Path, ...]:
    """Return the files of weights; none of a loaded model."""
    if isinstance(weights, Path | str):
        weights = [weights]
    return tuple(find_weights(Path(each)) for each in weights) if isinstance(weights, Sequence) else ()


def _is_strict() -> bool:
    """Return whether notes about input are errors, as with --strict; workers elsewhere do not have these filters."""
    return any(action == "error" and category is InputWarning for action, _, category, *_ in warnings.filters)


def _contains(source: Source, output: Path) -> bool:
    """Return whether the output of an earlier command looks like a raw study, because it is inside the cohort."""
    return isinstance(source.content, Path) and output.resolve().is_relative_to(source.content.resolve())


def _warn(end: End) -> None:
    for note in end.notes:
        warnings.warn(f"{end.name}: {note}", AnymriWarning, stacklevel=3)
    if end.failure is not None:
        warnings.warn(f"{end.name} failed: {end.failure.what} {end.failure.fix}", AnymriWarning, stacklevel=3)


def _outcome(output: Path, chosen: Sequence[Source], ends: Mapping[str, End]) -> CohortOutcome:
    def named(status: str) -> tuple[str, ...]:
        return tuple(source.name for source in chosen if ends[source.name].status == status)

    failed = {name: failure for name in named("failed") if (failure := ends[name].failure) is not None}
    return CohortOutcome(output, named("segmented"), named("kept"), failed, named("elsewhere"))
