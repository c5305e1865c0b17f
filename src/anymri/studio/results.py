"""Segmentations of a prepared case: of one subset, of all of them ahead of time, and as files to keep."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from anymri.modalities import SUBSETS, Subset
from anymri.studio.entries import Entry
from anymri.studio.jobs import Batch, Job
from anymri.studio.studio import Studio, chosen_subset, existing, prepared


def segment(studio: Studio, entry: Entry, weights: Any, subset: Any, ahead: bool = False) -> Job:
    """Begin to segment a case from a subset.

    ahead  nobody waits for it
    """
    file, chosen = studio.weights_file(weights), chosen_subset(entry, subset)
    if (weights, chosen) in entry.segmentations:
        return studio.jobs.remember(Job(("", {}), entry.id), entry.segmentations[weights, chosen])

    def then(found: dict[str, Any]) -> Any:
        made = entry.segmentations[weights, chosen] = _addressed(studio, entry, weights, chosen, found)
        if not ahead:
            _segment_ahead(studio, entry, weights, chosen)
        return made

    arguments = {"weights": file, "subset": chosen, "inputs": prepared(entry)["inputs"]}
    return studio.submit(entry, "segment", arguments, then, (entry.id, weights, chosen), ahead)


def _segment_ahead(studio: Studio, entry: Entry, weights: str, subset: str) -> list[Job]:
    """Segment the other subsets of the case while nothing else is to be done, the most similar ones first."""
    for other in studio.entries:
        if other is not entry:
            studio.jobs.cancel_all(other.id, ahead_only=True)
    chosen, exist = set(Subset.parse(subset)), existing(entry)
    todo = [str(each) for each in SUBSETS if each <= exist and (weights, str(each)) not in entry.segmentations]
    todo.sort(key=lambda name: len(chosen ^ set(Subset.parse(name))))
    jobs = [segment(studio, entry, weights, name, ahead=True) for name in todo]
    if weights not in entry.agreement or todo:
        jobs.append(_relate(studio, entry, weights))
    return jobs


def _relate(studio: Studio, entry: Entry, weights: str) -> Job:
    """Compare the segmentations of neighbouring subsets, once they are there."""

    def then(found: dict[str, Any]) -> None:
        entry.agreement[weights] = found["agreement"]

    arguments = {"weights": studio.weights_file(weights), "inputs": prepared(entry)["inputs"]}
    return studio.submit(entry, "relate", arguments, then, (entry.id, weights, "relate"), ahead=True)


def begin_subsets(studio: Studio, entry: Entry, weights: Any) -> Batch:
    """Begin to segment all subsets of the modalities that exist."""
    studio.weights_file(weights)
    return studio.add_batch(_segment_ahead(studio, entry, weights, str(existing(entry))))


def subsets(studio: Studio, entry: Entry, weights: Any) -> dict[str, Any]:
    """Return what is known of all 15 subsets, and which modality matters most in each of them.

    Most matters the modality without which the segmentation agrees least with that of the subset.
    """
    studio.weights_file(weights)
    exist = existing(entry)
    rows, most = [], {}
    for each in SUBSETS:
        found = entry.segmentations.get((weights, str(each)))
        state = "done" if found else "todo" if each <= exist else "missing"
        row = {"subset": str(each), "available": each <= exist, "state": state}
        rows.append(row | {"wt_ml": found and found["volumes_ml"]["WT"], "dice": found and found["dice"]})
        # The only modality of a subset matters most.
        agreement = entry.agreement.get(weights, {}).get(str(each), {}) if len(each) > 1 else dict.fromkeys(each, 0.0)
        if len(agreement) == len(each):
            most[str(each)] = min(agreement, key=lambda modality: agreement[modality])
    return {"subsets": rows, "matters_most": most, "agreement": entry.agreement.get(weights, {})}


def _addressed(studio: Studio, entry: Entry, weights: str, subset: str, found: dict[str, Any]) -> dict[str, Any]:
    """Return a segmentation with addresses in place of paths."""
    entry.masks["weights", weights, subset] = found["mask"]
    # Names of weights are those of files, and addresses are not the place for these.
    stem = f"w{list(studio.weights).index(weights)}-{subset.replace('+', '-')}"

    def url(path: Path) -> str:
        return entry.url(path, f"{stem}-{path.name.removesuffix('.gz')}")

    kept = ("volumes_ml", "confidence", "compared_with_full", "dice", "gain")
    return {
        "weights": weights,
        "subset": subset,
        "mask_url": url(found["mask"]),
        "change_url": url(found["change"]),
        "uncertainty_url": url(found["uncertainty"]),
        "probability_urls": {region: url(path) for region, path in found["probabilities"].items()},
        "reconstructed": [
            {"name": each["name"], "kind": each["kind"], "window": each["window"], "url": url(each["path"])}
            for each in found["reconstructed"]
        ],
        **{key: found[key] for key in kept},
    }


def export(studio: Studio, entry: Entry, weights: Any, subset: Any) -> Job:
    """Begin to write a result; the job has the paths `zip` and `page`, which are not for the page."""
    arguments = {"weights": studio.weights_file(weights), "subset": chosen_subset(entry, subset)}
    return studio.submit(entry, "export", {**arguments, "inputs": prepared(entry)["inputs"]}, lambda made: made)
