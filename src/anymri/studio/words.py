"""Sentences of the preparation as the page shows them: for readers who do not use the command line."""

from __future__ import annotations

import re

_SCANS = "Choose the modality of each scan in the table, or leave a scan out there."
_PATIENT = "Open the scans of one patient: NIfTI, NRRD, MetaImage or DICOM."
# What is in a sentence for the command line -> the sentence for the page.
_ADVICE = (
    (re.compile(r"--(t1|t1c|t2|flair)\b"), _SCANS),
    (re.compile(r"CSV manifest|folder of one case|--dicom-study"), _PATIENT),
    (
        re.compile(r"--brain-mask"),
        "Open a scan of the whole head, or add a mask of the brain whose file name ends in brain_mask.",
    ),
    (re.compile(r"--debug"), "Start the studio with --log-file FILE, repeat it, and report the file."),
    (re.compile(r"--label-scheme"), "Start the studio with the scheme of the data set: anymri studio --label-scheme."),
)
_PARTS = (
    (re.compile(r"; --space gives another one"), ""),
    (re.compile(r"`?anymri segment`? registers such scans"), "such scans are registered"),
)


def plain_words(text: str, hidden: str = "") -> str:
    """Return a sentence without options of the command line, and without the folder of copies.

    hidden  beginning of the paths of copies, with its last slash; empty if there are none
    """
    if hidden:
        text = text.replace(hidden, "").replace(hidden.rstrip("/"), "What was opened")
    for pattern, replacement in _PARTS:
        text = pattern.sub(replacement, text)
    return next((advice for pattern, advice in _ADVICE if pattern.search(text)), text)
