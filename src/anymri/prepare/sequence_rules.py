"""Weights of the evidence for the sequence of a scan, from headers, names and intensities, as tables.

A weight is added to the log-odds of a class: 0 is neutral, 1 weak, 3 strong, 5 nearly certain. Classes are the
four modalities and OTHER, which stands for all other kinds of images: diffusion, perfusion, susceptibility,
angiography, proton density, STIR, localisers, maps.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from math import inf

OTHER = "other"
CLASSES = ("T1", "T1c", "T2", "FLAIR", OTHER)
Weights = Mapping[str, float]


def _set(text: str) -> frozenset[str]:
    return frozenset(text.split())


def _t1(weight: float) -> Weights:
    """Return the weights of T1 weighting, which does not say whether contrast agent was given."""
    return {"T1": weight, "T1c": weight}


# A scan named T1 without more is more often T1 than T1c, because most protocols name the agent.
NAMED: Mapping[str, Weights] = {
    "T1": {"T1": 4.0, "T1c": 2.5},
    "T1c": {"T1c": 5.0, "T1": 1.5},
    "T2": {"T2": 4.0},
    "FLAIR": {"FLAIR": 5.0},
}
WITHOUT_CONTRAST: Weights = {"T1": 5.0, "T1c": 0.5}
# Words of several modalities, as in `T1 FLAIR` of GE: each may be meant.
NAMED_AMONG_OTHERS, T1C_AMONG_OTHERS = 2.5, 1.0
NAMED_OTHER: Weights = {OTHER: 5.0}
# Words of kinds of images that the names of files do not have, beside those of `anymri.data.layouts.words`.
OTHER_WORDS = _set(
    "survey scouts aahead aahscout calibration asset shim pd pdw proton stir ciss fiesta trufi angio angiography "
    "tricks twist spectroscopy csi svs fmri rest resting dyn dynamic diff diffusion trace tracew venous pc swan "
    "cisternography fast3plane 3plane 3pl plane loc trueisp calib b2000 spectro cest apt spine cspine tspine lspine "
    "cervical thoracic lumbar knee"
)
# Sequences that are nearly always T1-weighted, if the name has no modality.
T1_WORDS = _set("mprage mpr memp bravo fspgr spgr vibe irspgr tfe mp2rage fl3d")
T1_BY_SEQUENCE: Weights = {"T1": 2.5, "T1c": 1.0}
T1C_BY_SEQUENCE: Weights = {"T1c": 4.0, "T1": 1.0}
FLUID_WORDS = frozenset({"darkfluid", "tirm"})
DARK_FLUID: Weights = {"FLAIR": 3.0}
# The name of the protocol and that of the file repeat the description in other words, and count half.
SECOND_NAME = 0.5


@dataclass(frozen=True)
class Timing:
    """Rule on echo, repetition and inversion time in ms; bounds are inclusive.

    why       the physical reason
    te, tr    shortest and longest
    ti        the same; None if the sequence must not have an inversion; (0, inf) if it does not matter
    sequence  values of ScanningSequence of which one must be there, if there are any; empty for all
    """

    why: str
    te: tuple[float, float]
    tr: tuple[float, float]
    ti: tuple[float, float] | None
    weights: Weights
    sequence: frozenset[str] = frozenset()


_ANY = (0.0, inf)
_ECHO = frozenset({"SE", "IR", "RM"})
_GRADIENT = frozenset({"GR", "RM"})
TIMINGS = (
    Timing("long echo, inversion that nulls fluid", (60, inf), (3000, inf), (1100, 3300), {"FLAIR": 4.0}),
    Timing("long echo and repetition, no inversion", (60, inf), (1500, inf), None, {"T2": 3.0, "FLAIR": 0.5}, _ECHO),
    Timing("short echo and repetition", (0, 35), (150, 1300), None, _t1(3.0), _ECHO),
    Timing("short echo, inversion that nulls grey matter", (0, 40), _ANY, (200, 1300), _t1(3.0)),
    Timing("gradient echo with short echo and repetition", (0, 11), (2, 60), None, {**_t1(1.5), OTHER: 0.5}, _GRADIENT),
    Timing("gradient echo with inversion pulses", (0, 11), (1100, 3500), None, _t1(2.0), _GRADIENT),
    Timing("short echo, long repetition, no inversion", (0, 50), (1500, inf), None, {OTHER: 3.0}, frozenset({"SE"})),
    Timing("short inversion that nulls fat", (0, inf), (1500, inf), (80, 199), {OTHER: 3.5}),
    Timing("gradient echo with long echo", (12, 80), (12, inf), None, {OTHER: 3.5}, frozenset({"GR"})),
)


@dataclass(frozen=True)
class Tag:
    """Rule on the text of an element: `pattern` is searched in its upper case, values joined by backslashes."""

    keyword: str
    pattern: re.Pattern[str]
    weights: Weights


def _tag(keyword: str, pattern: str, weights: Weights) -> Tag:
    return Tag(keyword, re.compile(pattern), weights)


TAGS = (
    _tag("ScanningSequence", r"(^|\\)EP($|\\)", {OTHER: 3.0}),
    _tag("SequenceVariant", r"(^|\\)TOF($|\\)", {OTHER: 4.0}),
    _tag("AngioFlag", r"^Y", {OTHER: 4.0}),
    _tag("ImageType", r"DIFFUSION|PERFUSION|FMRI|SWI|MNIP|TOF|FLOW", {OTHER: 4.0}),
    _tag("ImageType", r"(^|\\)T1($|\\)", _t1(2.0)),
    _tag("ImageType", r"(^|\\)T2($|\\)", {"T2": 1.5, "FLAIR": 1.0}),
    _tag("ImageType", r"FLUID_ATTENUATED", {"FLAIR": 4.0}),
    _tag("ImageType", r"PROTON_DENSITY|T2_STAR|STIR", {OTHER: 3.5}),
    _tag("AcquisitionContrast", r"^FLUID_ATTENUATED", {"FLAIR": 4.0}),
    _tag("AcquisitionContrast", r"^T1$", _t1(2.0)),
    _tag("AcquisitionContrast", r"^T2$", {"T2": 2.0, "FLAIR": 0.5}),
    _tag("AcquisitionContrast", r"^(DIFFUSION|PERFUSION|TOF|FLOW|PROTON|STIR|T2_STAR|TAGGING)", {OTHER: 4.0}),
    _tag("SequenceName", r"^\*?EP|SWI|FMRI", {OTHER: 4.0}),
    _tag("SequenceName", r"^\*?(TIR|SPCIR)", {"FLAIR": 1.5, "T1": 0.5, "T1c": 0.5, OTHER: 0.5}),
    _tag("SequenceName", r"^\*?TFL3D", _t1(2.5)),
    _tag("DiffusionBValue", r"[1-9]", {OTHER: 5.0}),
    _tag(
        "BodyPartExamined",
        r"^(?!.*(HEAD|BRAIN)).*(SPINE|NECK|KNEE|CHEST|ABDOMEN|PELVIS|HIP|SHOULDER|HEART|BREAST|PROSTATE)",
        {OTHER: 9.0},
    ),
)

# Contrast agent in the header is brighter vessels on T1; T2 and FLAIR may be acquired after it as well.
AGENT: Weights = {"T1": -3.5, "T1c": 1.0}
NO_AGENT: Weights = {"T1c": -0.7}
NOT_AN_AGENT = re.compile(r"^\W*(NO|NONE|N|NIL|0|OFF|WITHOUT.*|NO CONTRAST.*|UNENHANCED|NATIVE|PRE)\W*$")
# T1 series before and after the first series with contrast agent.
BEFORE_AGENT: Weights = {"T1": 1.5}
AFTER_AGENT: Weights = {"T1c": 2.5, "T1": -1.0}
# Intensities: most that they add, if the contrast is clear and if it is not, and how much they add for agent.
SEEN_CLEARLY, SEEN, SEEN_AGENT = 3.2, 1.5, 0.75
SEEN_T1 = 2.5
