"""Work on one case of a cohort: read it, segment it, save the result, record that it is whole."""

from __future__ import annotations

import json
import time
import warnings
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from errno import EDQUOT, EIO, ENOSPC, EROFS, ESTALE
from functools import partial
from pathlib import Path
from typing import Any, Literal

from anymri.data.case import Case
from anymri.data.sources import Loaded, Source, load
from anymri.data.workers import Failure, Reply, call
from anymri.errors import AnymriError, AnymriWarning, InputWarning, OutputError
from anymri.files import cannot_write, output_folder
from anymri.inference.cohort_folder import CohortFolder, clear, files_of
from anymri.inference.ensemble import Model
from anymri.prepare.reading import read_and_prepare
from anymri.provenance import without_paths

# Errors of a disk, which every other case would meet too.
_OF_THE_DISK = (ENOSPC, EDQUOT, EROFS, EIO, ESTALE)

# Options that the reading of a case needs.
_OF_READING = ("subset", "space", "brain", "registration", "n4")

Status = Literal["segmented", "kept", "failed", "elsewhere"]


@dataclass(frozen=True)
class Work:
    """What is done with each case, as processes on any host can receive it.

    options  arguments of `Segmenter.segment`
    saving   arguments of `Result.save`
    read     function of a module: a case, or the path of a raw study -> what `Segmenter.segment` takes; by default
             `read_and_prepare` with the options that it has
    export   function of a module that writes further files: called with the result, its folder, and the texts of the
             warnings about the case as `notes`
    further  other settings that change what is written, ready for JSON
    strict   whether notes about input are errors
    paths    whether provenance names files with their folders
    """

    options: Mapping[str, Any] = field(default_factory=dict)
    saving: Mapping[str, Any] = field(default_factory=dict)
    read: Callable[[Case | Path], Any] | None = None
    export: Callable[..., Any] | None = None
    further: Mapping[str, Any] = field(default_factory=dict)
    strict: bool = False
    paths: bool = True

    def reader(self) -> Callable[[Case | Path], Any]:
        """Return the function that reads and prepares a case."""
        return self.read or partial(
            read_and_prepare, **{name: self.options[name] for name in _OF_READING if name in self.options}
        )

    def settings(self, model: Model) -> dict[str, Any]:
        """Return all that a result depends on beside its inputs."""
        weights = [each["sha256"] for each in model.inputs.values()]
        ensemble = {name: getattr(model, name, None) for name in ("combine", "flips")}
        mine = {"options": self.options, "saving": self.saving, "further": self.further}
        calls = {"read": _described(self.read), "export": _described(self.export)}
        every = {"weights": sorted(weights), "lane": model.lane.name, **ensemble, **mine, **calls}
        if not self.paths:  # absent otherwise, so that results of earlier versions are kept
            every["paths"] = False
        plain: dict[str, Any] = json.loads(json.dumps(every, default=str))
        return plain


def _described(function: Callable[..., Any] | None) -> Any:
    """Return the name of a function and the arguments that a partial one has."""
    if isinstance(function, partial):
        return [_described(function.func), function.args, function.keywords]
    return None if function is None else f"{function.__module__}.{function.__qualname__}"


@dataclass(frozen=True)
class End:
    """How the work on a case ended.

    name     name of the case
    status   segmented; kept: its result was whole; failed; elsewhere: another command works on it
    failure  why it failed
    notes    warnings about it
    """

    name: str
    status: Status
    failure: Failure | None = None
    notes: tuple[str, ...] = ()


def segment_source(model: Model, source: Source, work: Work, folder: CohortFolder) -> End:
    """Do all the work on one case in this process; its errors become its failure.

    Raises `OutputError` for errors that all other cases would meet, as a full disk.
    """
    with ExitStack() as held:
        end = claim(source, folder, held)
        return end or finish(model, source, call(partial(load, work.reader()), source), work, folder)


def claim(source: Source, folder: CohortFolder, held: ExitStack) -> End | None:
    """Lock the folder of a case until `held` is closed; return the end of the work if there is nothing to do."""
    try:
        state = folder.claim(source, held)
    except OutputError as error:
        if concerns_all(error, folder.path):
            raise
        folder.block(source, Failure.of(error))
        return End(source.name, "failed", Failure.of(error))
    if state == "claimed":
        return None
    held.close()
    return End(source.name, state)


def finish(model: Model, source: Source, reply: Reply, work: Work, folder: CohortFolder) -> End:
    """Segment a case that was read, save and record its result; its errors become its failure.

    Raises `OutputError` for errors that all other cases would meet.
    """
    notes = tuple(str(note) for note in reply.notes)
    if reply.failure is not None:
        return _failed(source, folder, reply.failure, notes)
    loaded: Loaded = reply.value
    target, began = folder.folder_of(source), time.monotonic()
    try:
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("ignore")
            warnings.simplefilter("always", AnymriWarning)
            if work.strict:
                warnings.simplefilter("error", InputWarning)
            for note in reply.notes:
                warnings.warn(note, stacklevel=2)
            result = model.segment(loaded.value, **work.options)
            clear(target)
            before = files_of(target)
            with without_paths(not work.paths):
                result.save(target, **work.saving)
            if work.export is not None:
                work.export(result, target, notes=_texts(caught))
        notes = _texts(caught)
        seconds = {"read": round(loaded.seconds, 2), "segment": round(time.monotonic() - began, 2)}
        facts = {
            "modalities": list(result.subset),
            "volumes_ml": dict(result.volumes_ml),
            "notes": list(notes),
            "seconds": seconds,
        }
        folder.complete(source, loaded.prints, before, facts)
    except Exception as error:
        if concerns_all(error, folder.path):
            if isinstance(error, OSError):
                raise cannot_write(target, error) from error
            raise
        return _failed(source, folder, Failure.of(error), notes)
    return End(source.name, "segmented", notes=notes)


def _texts(caught: Sequence[warnings.WarningMessage]) -> tuple[str, ...]:
    return tuple(str(each.message) for each in caught if isinstance(each.message, AnymriWarning))


def _failed(source: Source, folder: CohortFolder, failure: Failure, notes: tuple[str, ...]) -> End:
    end = End(source.name, "failed", failure, notes)
    try:
        folder.fail(source, failure)
    except OutputError as error:
        if concerns_all(error, folder.path):
            raise
        folder.block(source, failure)
        return replace(end, failure=Failure.of(error))
    return end


def concerns_all(error: BaseException, output: Path) -> bool:
    """Return whether an error of the output would meet every other case too."""
    cause = error.__cause__ if isinstance(error, AnymriError) else error
    if not isinstance(cause, OSError):
        return False
    if cause.errno in _OF_THE_DISK:
        return True
    try:
        output_folder(output)
    except OutputError:
        return True
    return False
