"""Which of T1, T1c, T2 and FLAIR a scan is, with the evidence and a confidence.

Every piece of evidence adds its weights, see `anymri.prepare.sequence_rules`, and the sum gives the confidence, so that
evidence that contradicts itself lowers it. Callers ask the user instead of guessing where it is below `SURE`.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from anymri.data.image import Image
from anymri.data.layouts.roles import Unclear, modality_of_words, role_of_words
from anymri.data.layouts.words import CONTRAST, DERIVED, NO_CONTRAST, join_phrases, split_words
from anymri.modalities import MODALITIES, find_modality
from anymri.prepare import sequence_rules as rules
from anymri.prepare.contrast import Contrast, measure_contrast
from anymri.text import shortened

if TYPE_CHECKING:
    from pydicom.dataset import Dataset

    from anymri.prepare.dicom import Series

# Confidence from which a modality is used without asking.
SURE = 0.8
_LARGEST_CONFIDENCE = 0.99
# Confidence of headers from which intensities are not measured, which takes a second.
_CERTAIN = 0.97


@dataclass(frozen=True)
class Evidence:
    """One observation about a scan.

    source      where it was found: `EchoTime`, `SeriesDescription`, `intensities`
    value       what was found, for people: `95 ms`
    speaks_for  the modality with the largest weight, or `other`
    weights     class -> what it adds to the log-odds
    """

    source: str
    value: str
    speaks_for: str
    weights: Mapping[str, float]


@dataclass(frozen=True)
class Recognition:
    """The modality of a scan as far as it is known.

    modality    one of `MODALITIES`; None if it is another kind of image, or if nothing is known
    confidence  probability of that, 0 to 1; 0 if nothing is known
    evidence    the observations, the strongest first
    """

    modality: str | None
    confidence: float
    evidence: tuple[Evidence, ...]

    @property
    def is_sure(self) -> bool:
        """Whether the modality can be used without asking."""
        return self.confidence >= SURE

    @property
    def conflicts(self) -> tuple[Evidence, ...]:
        """The observations that speak for something else, with at least some weight."""
        wanted = self.modality or rules.OTHER
        return tuple(
            each
            for each in self.evidence
            if max(each.weights.values()) - each.weights.get(wanted, 0.0) >= 1 and each.speaks_for != wanted
        )


def recognise(series: Series) -> Recognition:
    """Return which modality a DICOM series is, by its headers and names and, unless these are certain, intensities."""
    return _concluded(_evidence(series))


def recognise_image(image: Image, name: str = "") -> Recognition:
    """Return which modality an image is, by its intensities and its name without suffix; it may be empty."""
    return _concluded([*_of_name("name", name), *_of_intensities(image)])


def recognise_study(series: Sequence[Series]) -> list[Recognition]:
    """Return which modality each series of one study is; the order of acquisition helps to distinguish T1 and T1c."""
    evidence = [_evidence(one) for one in series]
    found = [_concluded(each) for each in evidence]
    given = [
        one.acquired
        for one, each in zip(series, found, strict=True)
        if one.acquired is not None and (each.modality, each.is_sure) == ("T1c", True)
    ]
    if not given:
        return found
    for place, (one, each) in enumerate(zip(series, found, strict=True)):
        if each.modality in ("T1", "T1c") and one.acquired is not None and one.acquired != min(given):
            before = one.acquired < min(given)
            weights = rules.BEFORE_AGENT if before else rules.AFTER_AGENT
            text = f"{'before' if before else 'after'} the first T1 series with contrast agent"
            found[place] = _concluded([*evidence[place], _observed("order of acquisition", text, weights)])
    return found


def assign(recognitions: Sequence[Recognition]) -> tuple[dict[str, int], dict[str, tuple[int, ...]]]:
    """Return which scan is used for each modality, and the modalities with several candidates.

    returns  modality -> place of the only scan that is surely of it; modality -> places of several such scans, among
             which the user chooses, because neither finer voxels nor a later time makes one of them the right one
    """
    places: dict[str, list[int]] = {modality: [] for modality in MODALITIES}
    for place, each in enumerate(recognitions):
        if each.modality is not None and each.is_sure:
            places[each.modality].append(place)
    chosen = {modality: found[0] for modality, found in places.items() if len(found) == 1}
    return chosen, {modality: tuple(found) for modality, found in places.items() if len(found) > 1}


def _evidence(series: Series) -> list[Evidence]:
    from anymri.prepare.dicom.headers import text_of

    dataset = series.headers[0]
    evidence = [*_of_name("SeriesDescription", text_of(dataset, "SeriesDescription"))]
    protocol = text_of(dataset, "ProtocolName")
    if protocol.casefold() != text_of(dataset, "SeriesDescription").casefold():
        evidence += _of_name("ProtocolName", protocol, rules.SECOND_NAME if evidence else 1.0)
    evidence += [*_of_tags(dataset), *_of_timing(dataset), *_of_agent(dataset)]
    if _concluded(evidence).confidence >= _CERTAIN:
        return evidence
    return [*evidence, *_of_intensities(series.image)]


def _concluded(evidence: Sequence[Evidence]) -> Recognition:
    """Return the most probable class, with the sum of all weights as log-odds."""
    if not evidence:
        return Recognition(None, 0.0, ())
    total = {name: sum(each.weights.get(name, 0.0) for each in evidence) for name in rules.CLASSES}
    best = max(total, key=lambda name: total[name])
    odds = sum(math.exp(weight - total[best]) for weight in total.values())
    ordered = sorted(evidence, key=lambda each: -max(abs(weight) for weight in each.weights.values()))
    modality = None if best == rules.OTHER else best
    return Recognition(modality, min(1 / odds, _LARGEST_CONFIDENCE), tuple(ordered))


def _observed(source: str, value: str, weights: Mapping[str, float], share: float = 1.0) -> Evidence:
    scaled = {name: share * weight for name, weight in weights.items()}
    return Evidence(source, shortened(value, 60), max(scaled, key=lambda name: scaled[name]), scaled)


def _of_name(source: str, name: str, share: float = 1.0) -> Iterator[Evidence]:
    """Yield the evidence of the words of a description or file name."""
    words = join_phrases([word.text for word in split_words(name)])
    weights = _weights_of(words)
    if weights:
        yield _observed(source, name, weights, share)


def _weights_of(words: Sequence[str]) -> Mapping[str, float]:
    known = set(words)
    role = role_of_words(tuple(words))
    if known & rules.OTHER_WORDS or (role is None and known & DERIVED):
        return rules.NAMED_OTHER
    if role is None:
        role = modality_of_words(words)
    if role in MODALITIES:
        explicit = known & NO_CONTRAST or known & {"t1n", "t1pre", "t1native"}
        return rules.WITHOUT_CONTRAST if role == "T1" and explicit else rules.NAMED[str(role)]
    named = {modality for word in words if (modality := find_modality(word))}
    if isinstance(role, Unclear) and named:
        either = {"T1c": rules.T1C_AMONG_OTHERS} if "T1" in named else {}
        return either | dict.fromkeys(named, rules.NAMED_AMONG_OTHERS)
    if known & rules.FLUID_WORDS:
        return rules.DARK_FLUID
    if not known & rules.T1_WORDS:
        return {}
    return rules.T1C_BY_SEQUENCE if known & CONTRAST and not known & NO_CONTRAST else rules.T1_BY_SEQUENCE


def _of_tags(dataset: Dataset) -> Iterator[Evidence]:
    from anymri.prepare.dicom.headers import frame_text

    for rule in rules.TAGS:
        text = frame_text(dataset, 0, rule.keyword).upper()
        if rule.pattern.search(text):
            yield _observed(rule.keyword, text.replace("\\", " "), rule.weights)


def _of_timing(dataset: Dataset) -> Iterator[Evidence]:
    """Yield the evidence of the first rule on the times that fits."""
    from anymri.prepare.dicom.headers import frame_text, number

    te, tr, ti = (number(dataset, keyword) for keyword in ("EchoTime", "RepetitionTime", "InversionTime"))
    if te is None or tr is None:
        return
    kinds = {part.strip().upper() for part in frame_text(dataset, 0, "ScanningSequence").split("\\")} - {""}
    for rule in rules.TIMINGS:
        fits = rule.te[0] <= te <= rule.te[1] and rule.tr[0] <= tr <= rule.tr[1]
        inverted = not ti if rule.ti is None else rule.ti[0] <= (ti or 0.0) <= rule.ti[1]
        if fits and inverted and (not rule.sequence or not kinds or kinds & rule.sequence):
            times = f"TE {te:g}, TR {tr:g}" + (f", TI {ti:g}" if ti else "")
            yield _observed("EchoTime, RepetitionTime, InversionTime", f"{times} ms: {rule.why}", rule.weights)
            return


def _of_agent(dataset: Dataset) -> Iterator[Evidence]:
    from anymri.prepare.dicom.headers import number, text_of, value_of

    agent = text_of(dataset, "ContrastBolusAgent")
    if not agent and value_of(dataset, "ContrastBolusAgentSequence"):
        agent = "listed"
    if agent and not rules.NOT_AN_AGENT.match(agent.upper()):
        yield _observed("ContrastBolusAgent", agent, rules.AGENT)
    elif number(dataset, "EchoTime") is not None:  # headers that lack times lack the agent as well
        yield Evidence("ContrastBolusAgent", agent or "none", "T1", rules.NO_AGENT)


def _of_intensities(image: Image) -> Iterator[Evidence]:
    contrast = measure_contrast(image)
    if contrast is not None:
        yield _observed("intensities", _described(contrast), _weights_of_contrast(contrast))


def _weights_of_contrast(contrast: Contrast) -> Mapping[str, float]:
    logits = dict(contrast.logits)
    agent = rules.SEEN_AGENT * logits.pop("agent") / 4
    highest = max(logits.values())
    odds = {name: math.exp(value - highest) for name, value in logits.items()}
    share = {name: value / sum(odds.values()) for name, value in odds.items()}
    clearly = rules.SEEN_CLEARLY if contrast.is_clear else rules.SEEN
    weights = {name: clearly * share[name] for name in ("T2", "FLAIR")} | {rules.OTHER: rules.SEEN * share["other"]}
    return weights | {
        "T1": share["T1"] * (rules.SEEN_T1 - agent),
        "T1c": share["T1"] * (rules.SEEN_T1 + agent),
    }


def _described(contrast: Contrast) -> str:
    fluid = "bright" if contrast.bright > 1.6 and contrast.dark > 0.6 else "dark" if contrast.dark < 0.72 else "grey"
    text = f"fluid is {fluid}"
    if not math.isnan(contrast.grey_to_white):
        text += f", grey matter {contrast.grey_to_white:.2f} of white"
    return f"{text}, vessels {contrast.vessels:.1f} of tissue"
