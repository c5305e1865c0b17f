"""Segmentation of one study, in a process of its own that keeps the loaded model: its death costs one try."""

from __future__ import annotations

import re
import shutil
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from errno import EDQUOT, EIO, ENOSPC, EROFS, ESTALE
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from anymri._version import __version__
from anymri.data.memory import keep_freed_memory
from anymri.data.workers import Failure
from anymri.errors import AnymriError, CohortError, MissingExtraError, ModalityError, OutputError, WeightsError
from anymri.files import temporary_path
from anymri.modalities import ALL, MODALITIES
from anymri.pacs import places
from anymri.pacs.configuration import ResultKind, Segmentation

if TYPE_CHECKING:
    from anymri.export.dicom_seg import Kind
    from anymri.inference.segmenter import Segmenter

Cause = Literal["input", "disk", "other"]

_OF_THE_DISK = (ENOSPC, EDQUOT, EROFS, EIO, ESTALE)
_KINDS: Mapping[ResultKind, Kind] = {"segmentation": "binary", "labelmap": "labelmap"}
_DIGITS_OF_WEIGHTS = 12
# Remedies for a study that nobody can name scans of on a command line.
_REMEDIES: Mapping[type[Exception], str] = {
    ModalityError: "Say which series is meant with segmentation.series in the configuration, or segment it by hand.",
    CohortError: "If it is to be segmented, correct its headers and send it again, or see segmentation.series.",
}


@dataclass(frozen=True)
class Request:
    """One study to segment.

    folder     folder of the node
    study      StudyInstanceUID
    objects    SOPInstanceUIDs
    content    hash of the objects
    weights    SHA-256 of the weights
    only_all   do nothing unless the study has all four modalities
    settings   how it is segmented
    results    what is written
    """

    folder: Path
    study: str
    objects: tuple[str, ...]
    content: str
    weights: str
    only_all: bool
    settings: Segmentation
    results: tuple[ResultKind, ...]


@dataclass(frozen=True)
class Answer:
    """Outcome of the work on a study.

    status      segmented; incomplete: not all modalities, though all were wanted; failed
    modalities  modalities that the study has
    seconds     time that it took
    failure     why it failed
    cause       of a failure: the input, which stays as it is; the disk; or anything else
    """

    status: Literal["segmented", "incomplete", "failed"]
    modalities: tuple[str, ...] = ()
    seconds: float = 0.0
    failure: Failure | None = None
    cause: Cause | None = None


def segment_study(request: Request) -> Answer:
    """Segment a study and write its results into their folder, whole or not at all; errors become the answer."""
    try:
        return _segment(request)
    except Exception as error:  # noqa: BLE001 (the worker continues with the next study)
        failure = Failure.of(error)
        failure = Failure(failure.what, _REMEDIES.get(type(error), failure.fix))
        return Answer("failed", failure=_cleaned(failure, request), cause=_cause(error))


def _cause(error: Exception) -> Cause:
    if isinstance(error, OutputError) or (isinstance(error, OSError) and error.errno in _OF_THE_DISK):
        return "disk"
    is_input = isinstance(error, AnymriError) and not isinstance(error, WeightsError | MissingExtraError)
    return "input" if is_input else "other"


def result_files(folder: Path) -> list[Path]:
    """Return the DICOM objects in a folder of results, in the order in which they are sent."""
    return sorted(folder.glob("*.dcm"), key=lambda file: (file.name.startswith("measurements"), file.name))


def _segment(request: Request) -> Answer:
    began = time.monotonic()
    target = places.result_folder(request.folder, request.study, request.content, request.weights)
    from anymri.export.dicom_result import series_of, write_dicom
    from anymri.prepare.raw import read_raw
    from anymri.provenance import without_paths

    with _gathered(request) as study, without_paths():
        raw = read_raw(study, _named(study, request.settings.series))
        modalities = tuple(raw.scans)
        if request.only_all and raw.subset != ALL:
            return Answer("incomplete", modalities)
        segmenter = _loaded(request.settings.weights, request.settings.device, request.settings.lane)
        if segmenter.inputs["weights"]["sha256"] != request.weights:
            raise WeightsError("The weights were replaced while the node runs.", "Start the node again.")
        # The results are not made twice: a process that outlived its node may have finished them.
        if not target.exists():
            result = segmenter.segment(raw, brain=request.settings.brain, smallest_ml=request.settings.smallest_ml)
            assert result.space in series_of(result)
            made = study.parent / "results"
            result.save(made)
            write_dicom(
                result,
                made,
                kinds=[_KINDS[each] for each in request.results if each in _KINDS],
                report="report" in request.results,
                version=f"{__version__}, weights {request.weights[:_DIGITS_OF_WEIGHTS]}",
                identity=f"{request.study}\n{request.content}\n{request.weights}",
            )
            try:
                made.rename(target)
            except OSError:
                if not target.exists():
                    raise
    return Answer("segmented", modalities, time.monotonic() - began)


@contextmanager
def _gathered(request: Request) -> Iterator[Path]:
    """Yield a folder with links to exactly the objects of the job, since others may arrive while it is read."""
    work = temporary_path(request.folder / places.WORK)
    study = work / "study"
    try:
        study.mkdir(parents=True)
        for uid in request.objects:
            file = places.object_file(request.folder, request.study, uid)
            (study / file.name).symlink_to(file.absolute())
        yield study
    finally:
        shutil.rmtree(work, ignore_errors=True)


def _named(study: Path, patterns: Mapping[str, str]) -> dict[str, Path]:
    """Return modality -> a file of the only series whose description matches its pattern; none where several match."""
    if not patterns:
        return {}
    from anymri.prepare.dicom import read_dicom

    every, _ = read_dicom(study)
    named = {}
    for modality in MODALITIES:
        if modality in patterns:
            found = [each for each in every if re.search(patterns[modality], each.description, re.IGNORECASE)]
            if len(found) == 1:
                named[modality] = found[0].files[0]
    return named


@cache
def _loaded(weights: Path | None, device: str, lane: str) -> Segmenter:
    """Return the model, which is loaded once per process."""
    from anymri.inference.segmenter import Segmenter

    keep_freed_memory()
    return Segmenter.load(weights, device, lane)


def _cleaned(failure: Failure, request: Request) -> Failure:
    """Return a failure without the temporary folder in its sentences."""
    work = re.compile(re.escape(str(request.folder / places.WORK)) + r"/[^/\s]+/study(?:/[^\s:,]*)?")

    def clean(text: str) -> str:
        text = work.sub("the study", text)
        return f"The {text.removeprefix('the ')}" if text.startswith(("the study", "study")) else text

    return Failure(clean(failure.what), clean(failure.fix))
