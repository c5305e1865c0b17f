"""Scans that may be one of the four modalities, and the choice among them.

A file name or the headers of a DICOM series give the modality; the intensities of an image only where neither does. A
modality that is not sure is never guessed: the user names the scan by an option.
"""

from __future__ import annotations

import zipfile
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from anymri.data.image import image_stem, read_scan
from anymri.errors import ModalityError
from anymri.modalities import MODALITIES
from anymri.prepare.sequences import SURE, Recognition, recognise_image, recognise_study
from anymri.text import shortened

if TYPE_CHECKING:
    from anymri.data.image import Image
    from anymri.prepare.dicom import Series

# Pieces of evidence that a message shows for a scan.
_EVIDENCE = 3


@dataclass(frozen=True, eq=False)
class Candidate:
    """An image file or DICOM series that may be a scan of one modality.

    modality     the modality that it probably is; None for another kind of image
    confidence   of that, 0 to 1
    path         the image file; the first file of a series
    image        the volume, once it is read
    series       DICOM series; None for an image file
    recognition  evidence; None if a file name gave the modality
    """

    modality: str | None
    confidence: float
    path: Path
    image: Image | None = None
    series: Series | None = None
    recognition: Recognition | None = None

    @property
    def is_sure(self) -> bool:
        """Whether the modality needs no confirmation."""
        return self.confidence >= SURE

    @property
    def label(self) -> str:
        """Name of the file, or number and description of the series."""
        if self.series is None:
            return self.path.name
        return self.series.title

    @property
    def explained(self) -> str:
        """The label with the recognised modality and its evidence."""
        if self.recognition is None:
            return f"{self.label} ({self.modality} by its name)"
        kind = self.modality or "none of the four modalities"
        shown = [f"{each.source} {shortened(each.value, 40)}" for each in self.recognition.evidence[:_EVIDENCE]]
        because = f"; {', '.join(shown)}" if shown else ""
        return f"{self.label} ({kind} with confidence {self.confidence:.2f}{because})"


@dataclass(frozen=True, eq=False)
class Chosen:
    """One candidate per modality, and a sentence for each candidate that is not used."""

    scans: Mapping[str, Candidate]
    left_out: tuple[str, ...] = field(default=())


def named(modality: str, path: Path) -> Candidate:
    """Return the candidate of an image file whose name gives its modality."""
    return Candidate(modality, 1.0, path)


def of_series(series: Sequence[Series]) -> list[Candidate]:
    """Return the candidates of the DICOM series of a study, recognised by their headers and intensities."""
    return [
        Candidate(found.modality, found.confidence, each.files[0], each.image, each, found)
        for each, found in zip(series, recognise_study(series), strict=True)
    ]


def of_image(path: Path) -> Candidate:
    """Return the candidate of an image file without a telling name, recognised by its intensities."""
    image = read_scan(path)
    found = recognise_image(image, image_stem(path) or "")
    return Candidate(found.modality, found.confidence, path, image, recognition=found)


def choose(candidates: Sequence[Candidate], given: Mapping[str, Candidate]) -> Chosen:
    """Return one candidate per modality.

    candidates  what was found, without what the user named
    given       modality -> candidate that the user named, which overrules what was found

    Raises `ModalityError` if a modality is not sure, or if two candidates are of one modality.
    """
    left_out, sure, unsure = [], defaultdict(list), []
    for each in candidates:
        if each.modality in given:
            left_out.append(f"{each.label} is left out, because the {each.modality} scan was named by an option.")
        elif not each.is_sure:
            unsure.append(each)
        elif each.modality is None:
            left_out.append(f"{each.explained} is left out.")
        else:
            sure[each.modality].append(each)
    for modality, found in sure.items():
        if len(found) > 1:
            raise several_candidates(modality, found)
    scans = {**{modality: found[0] for modality, found in sure.items()}, **given}
    # Of what is not sure, only what could be a missing modality needs an answer.
    questions = [each for each in unsure if each.modality not in scans and (each.modality or not scans)]
    if questions:
        raise _not_sure(questions)
    left_out += [f"{each.explained} is left out: its modality is not sure." for each in unsure]
    return Chosen({modality: scans[modality] for modality in MODALITIES if modality in scans}, tuple(left_out))


def several_candidates(modality: str, found: Sequence[Candidate]) -> ModalityError:
    """Return the error for several scans that could be of one modality."""
    return ModalityError(
        f"{len(found)} scans could be the {modality} scan: {'; '.join(each.explained for each in found)}.",
        f"Name the one to use: {_option(modality, found[0])}",
    )


def _not_sure(questions: Sequence[Candidate]) -> ModalityError:
    first = questions[0]
    subject = "The modality of a scan is" if len(questions) == 1 else f"The modalities of {len(questions)} scans are"
    return ModalityError(
        f"{subject} not sure: {'; '.join(each.explained for each in questions)}.",
        f"Name it, as in {_option(first.modality or 'T1', first)}, or give only the scans to use, by --t1, --t1c, --t2 "
        "and --flair.",
    )


def _option(modality: str, candidate: Candidate) -> str:
    """Return the option that names a scan; of a series in an archive, which an option cannot name, what to do first."""
    option = f"--{modality.lower()}"
    if candidate.series is not None and zipfile.is_zipfile(candidate.path):
        return f"{option} FILE, one of its DICOM files after unpacking {candidate.path}"
    return f"{option} {candidate.path}"
